//! The row of a route table.
//!
//! Every HTTP route of the program is a [`Route`] in a constant table of its rim crate. A row cannot be written without
//! `needs`, so a route that nobody thought about does not compile. Authorisation takes the [`Needs`] of the *matched*
//! row, never of an address. The rest of the row is what `/openapi.json` is made of.

use crate::Scope;

/// The method of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes or does.
    Post,
    /// Replaces.
    Put,
    /// Changes a part.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// The method as HTTP writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

/// What a route needs of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A key that holds this scope (for some object: the handler asks again once it knows which).
    Scope(Scope),
    /// Nothing, for the reason given.
    Nothing(&'static str),
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path, in braces.
    Path,
    /// In the query string.
    Query,
    /// In a header.
    Header,
}

/// One parameter of a route, for the OpenAPI document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// What it means, one sentence.
    pub about: &'static str,
    /// The JSON Schema type: `string`, `integer` or `boolean`.
    pub kind: &'static str,
}

/// One possible answer of a route, for the OpenAPI document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// What it means, one sentence.
    pub about: &'static str,
    /// The media type, `""` for no body.
    pub media: &'static str,
    /// The name of the schema component, `""` for none.
    pub schema: &'static str,
}

/// What the OpenAPI document says about a route beyond its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The operation's id, unique over all tables: names the functions of generated clients.
    pub id: &'static str,
    /// The group under which the documentation shows it.
    pub tag: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Its parameters; those of the path included.
    pub parameters: &'static [Parameter],
    /// The schema component of the JSON request body, `""` for no body.
    pub request: &'static str,
    /// Its answers that are particular to it; the common errors are added for all routes.
    pub replies: &'static [Reply],
}

/// One route: `H` is whatever the rim crate hangs behind it, usually a function that makes its router entry.
#[derive(Debug, Clone, Copy)]
pub struct Route<H> {
    /// The method.
    pub method: Method,
    /// The path with `{name}` for parameters, as the router writes it.
    pub path: &'static str,
    /// What the caller must hold. There is no default.
    pub needs: Needs,
    /// What the documentation says.
    pub operation: Operation,
    /// What answers.
    pub handler: H,
}
