//! The route table of the admin API: what is not here does not exist.

use penstock_identity::{Method, Needs, Operation, Parameter, Place, Reply, Route, Scope};

/// What answers a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// Keys, page by page.
    ListKeys,
    /// A new key.
    CreateKey,
    /// One key.
    GetKey,
    /// A new text for a key.
    RotateKey,
    /// The end of a key.
    RevokeKey,
    /// Kinds of plug-ins and their schemas.
    Kinds,
    /// Providers and their health.
    Providers,
    /// The effective config.
    Config,
}

const KEYS: Needs = Needs::Scope(Scope::new("admin", "keys"));
const READ: Needs = Needs::Scope(Scope::new("admin", "read"));
const JSON: &str = "application/json";

const ID: Parameter = Parameter { name: "id", place: Place::Path, about: "the key's id", kind: "string" };
const LIMIT: Parameter = Parameter {
    name: "limit",
    place: Place::Query,
    about: "keys per page, 1 to 200, 50 when left out",
    kind: "integer",
};
const AFTER: Parameter =
    Parameter { name: "after", place: Place::Query, about: "the `next` of the page before", kind: "string" };

const fn ok(about: &'static str, schema: &'static str) -> Reply {
    Reply { status: 200, about, media: JSON, schema }
}

/// Every route of the admin API.
pub const ROUTES: &[Route<Handler>] = &[
    Route {
        method: Method::Get,
        path: "/admin/v1/keys",
        needs: KEYS,
        operation: Operation {
            id: "listKeys",
            tag: "keys",
            summary: "Lists keys in the order of their ids, revoked ones included",
            parameters: &[LIMIT, AFTER],
            request: "",
            replies: &[ok("one page", "KeyList")],
        },
        handler: Handler::ListKeys,
    },
    Route {
        method: Method::Post,
        path: "/admin/v1/keys",
        needs: KEYS,
        operation: Operation {
            id: "createKey",
            tag: "keys",
            summary: "Makes a key and shows it once",
            parameters: &[],
            request: "KeyRequest",
            replies: &[Reply { status: 201, about: "the new key", media: JSON, schema: "NewKey" }],
        },
        handler: Handler::CreateKey,
    },
    Route {
        method: Method::Get,
        path: "/admin/v1/keys/{id}",
        needs: KEYS,
        operation: Operation {
            id: "getKey",
            tag: "keys",
            summary: "Shows a key without its text",
            parameters: &[ID],
            request: "",
            replies: &[ok("the key", "Key")],
        },
        handler: Handler::GetKey,
    },
    Route {
        method: Method::Post,
        path: "/admin/v1/keys/{id}/rotate",
        needs: KEYS,
        operation: Operation {
            id: "rotateKey",
            tag: "keys",
            summary: "Gives a key a new text and shows it once; the one before works on for the overlap",
            parameters: &[ID],
            request: "RotateRequest",
            replies: &[ok("the key with its new text", "NewKey")],
        },
        handler: Handler::RotateKey,
    },
    Route {
        method: Method::Post,
        path: "/admin/v1/keys/{id}/revoke",
        needs: KEYS,
        operation: Operation {
            id: "revokeKey",
            tag: "keys",
            summary: "Ends a key at once",
            parameters: &[ID],
            request: "",
            replies: &[ok("the revoked key", "Key")],
        },
        handler: Handler::RevokeKey,
    },
    Route {
        method: Method::Delete,
        path: "/admin/v1/keys/{id}",
        needs: KEYS,
        operation: Operation {
            id: "deleteKey",
            tag: "keys",
            summary: "Ends a key at once; its record stays listed as revoked",
            parameters: &[ID],
            request: "",
            replies: &[ok("the revoked key", "Key")],
        },
        handler: Handler::RevokeKey,
    },
    Route {
        method: Method::Get,
        path: "/admin/v1/kinds",
        needs: READ,
        operation: Operation {
            id: "listKinds",
            tag: "operation",
            summary: "Lists the kinds of plug-ins in this build with the JSON Schema of their settings",
            parameters: &[],
            request: "",
            replies: &[ok("the kinds by family", "Kinds")],
        },
        handler: Handler::Kinds,
    },
    Route {
        method: Method::Get,
        path: "/admin/v1/providers",
        needs: READ,
        operation: Operation {
            id: "listProviders",
            tag: "operation",
            summary: "Lists the configured providers and whether they can serve",
            parameters: &[],
            request: "",
            replies: &[ok("the providers", "ProviderList")],
        },
        handler: Handler::Providers,
    },
    Route {
        method: Method::Get,
        path: "/admin/v1/config",
        needs: READ,
        operation: Operation {
            id: "getConfig",
            tag: "operation",
            summary: "Shows the config in force, secrets hidden",
            parameters: &[],
            request: "",
            replies: &[ok("the config", "EffectiveConfig")],
        },
        handler: Handler::Config,
    },
];
