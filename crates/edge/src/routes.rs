//! The route table: every path of the edge, once, with what its caller must hold.
//!
//! The same rows route requests, authorise them and make the OpenAPI document. A path is matched byte for byte as it
//! was sent: a trailing slash, a double slash or an encoded letter is another path, and unknown.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use penstock_domain::{Code, Dialect, Error, Task};
use penstock_identity::{Method, Needs, Operation, Parameter, Place, Reply, Route, Scope};

use crate::Surface;
use crate::responses::Stored;

/// Everything under it goes to the admin router, which has a table of its own.
pub(crate) const ADMIN: &str = "/admin/";

/// Anthropic's surface, where errors are told in its shape.
pub(crate) const MESSAGES: &str = "/v1/messages";

/// OpenAI's newer surface, whose answers are stored.
pub(crate) const RESPONSES: &str = "/v1/responses";

/// What answers a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// A run through the flow.
    Infer(Task, Dialect),
    /// A stored response.
    Stored(Stored),
    /// The list of models.
    Models,
    /// One model.
    Model,
    /// What no other route answers, passed on.
    Relay,
    /// The process lives.
    Live,
    /// The gateway can serve.
    Ready,
    /// Metrics.
    Metrics,
    /// The OpenAPI document.
    OpenApi,
    /// The page that renders it.
    Docs,
    /// That page's script.
    DocsScript,
    /// One error code explained.
    ErrorPage,
    /// What this is.
    Home,
    /// How to get in with an access token.
    Resource,
}

const CHAT: Needs = Needs::Scope(Scope::new("chat", "invoke"));
const READ: Needs = Needs::Scope(Scope::new("chat", "read"));
const DELETE: Needs = Needs::Scope(Scope::new("chat", "delete"));
const EMBED: Needs = Needs::Scope(Scope::new("embeddings", "invoke"));
const MODELS: Needs = Needs::Scope(Scope::new("models", "read"));
const PROBE: Needs = Needs::Nothing("orchestrators probe without a key; it tells health, never content");
const PAGE: Needs = Needs::Nothing("documentation is the same for everybody");

const JSON: &str = "application/json";

const fn page(id: &'static str, summary: &'static str, replies: &'static [Reply]) -> Operation {
    Operation { id, tag: "documentation", summary, parameters: &[], request: "", replies }
}

const fn health(id: &'static str, summary: &'static str, replies: &'static [Reply]) -> Operation {
    Operation { id, tag: "health", summary, parameters: &[], request: "", replies }
}

const TIMEOUT: Parameter = Parameter {
    name: "x-request-timeout",
    place: Place::Header,
    about: "how long you wait, in seconds or with a unit (`30`, `30s`, `1500ms`, `2m`)",
    kind: "string",
};

const RESPONSE: Parameter =
    Parameter { name: "id", place: Place::Path, about: "the response's id", kind: "string" };

/// Every route of the edge.
pub const ROUTES: &[Route<Handler>] = &[
    Route {
        method: Method::Post,
        path: "/v1/chat/completions",
        needs: CHAT,
        operation: Operation {
            id: "createChatCompletion",
            tag: "inference",
            summary: "Answers a conversation, whole or as a stream of events",
            parameters: &[TIMEOUT],
            request: "ChatCompletionRequest",
            replies: &[
                Reply { status: 200, about: "the answer", media: JSON, schema: "ChatCompletion" },
                Reply {
                    status: 200,
                    about: "the answer as events, when `stream` is true",
                    media: "text/event-stream",
                    schema: "",
                },
            ],
        },
        handler: Handler::Infer(Task::Chat, Dialect::OpenAi),
    },
    Route {
        method: Method::Post,
        path: "/v1/completions",
        needs: CHAT,
        operation: Operation {
            id: "createCompletion",
            tag: "inference",
            summary: "Continues a prompt, whole or as a stream of events",
            parameters: &[TIMEOUT],
            request: "CompletionRequest",
            replies: &[Reply { status: 200, about: "the continuation", media: JSON, schema: "Completion" }],
        },
        handler: Handler::Infer(Task::Completion, Dialect::OpenAi),
    },
    Route {
        method: Method::Post,
        path: "/v1/embeddings",
        needs: EMBED,
        operation: Operation {
            id: "createEmbedding",
            tag: "inference",
            summary: "Turns texts into vectors",
            parameters: &[TIMEOUT],
            request: "EmbeddingRequest",
            replies: &[Reply { status: 200, about: "the vectors", media: JSON, schema: "EmbeddingList" }],
        },
        handler: Handler::Infer(Task::Embedding, Dialect::OpenAi),
    },
    Route {
        method: Method::Post,
        path: MESSAGES,
        needs: CHAT,
        operation: Operation {
            id: "createMessage",
            tag: "inference",
            summary: "Answers a conversation in Anthropic's dialect, whole or as a stream of events",
            parameters: &[TIMEOUT],
            request: "MessageRequest",
            replies: &[
                Reply { status: 200, about: "the answer", media: JSON, schema: "Message" },
                Reply {
                    status: 200,
                    about: "the answer as events, when `stream` is true",
                    media: "text/event-stream",
                    schema: "",
                },
            ],
        },
        handler: Handler::Infer(Task::Chat, Dialect::Anthropic),
    },
    Route {
        method: Method::Post,
        path: "/v1/messages/count_tokens",
        needs: CHAT,
        operation: Operation {
            id: "countMessageTokens",
            tag: "inference",
            summary: "Counts the tokens that a message request would have, without answering it",
            parameters: &[TIMEOUT],
            request: "MessageCountRequest",
            replies: &[Reply { status: 200, about: "the count", media: JSON, schema: "MessageTokens" }],
        },
        handler: Handler::Infer(Task::CountTokens, Dialect::Anthropic),
    },
    Route {
        method: Method::Post,
        path: RESPONSES,
        needs: CHAT,
        operation: Operation {
            id: "createResponse",
            tag: "responses",
            summary: "Answers in OpenAI's responses dialect, whole or as a stream of events, and goes on from earlier answers",
            parameters: &[TIMEOUT],
            request: "ResponseRequest",
            replies: &[
                Reply { status: 200, about: "the answer", media: JSON, schema: "Response" },
                Reply {
                    status: 200,
                    about: "the answer as events, when `stream` is true",
                    media: "text/event-stream",
                    schema: "",
                },
            ],
        },
        handler: Handler::Infer(Task::Chat, Dialect::Responses),
    },
    Route {
        method: Method::Post,
        path: "/v1/responses/input_tokens",
        needs: CHAT,
        operation: Operation {
            id: "countResponseInputTokens",
            tag: "responses",
            summary: "Counts the tokens that a responses request would have, without answering it",
            parameters: &[TIMEOUT],
            request: "ResponseRequest",
            replies: &[Reply { status: 200, about: "the count", media: JSON, schema: "ResponseTokens" }],
        },
        handler: Handler::Infer(Task::CountTokens, Dialect::Responses),
    },
    Route {
        method: Method::Get,
        path: "/v1/responses/{id}",
        needs: READ,
        operation: Operation {
            id: "retrieveResponse",
            tag: "responses",
            summary: "Gives a stored response, or replays it as events",
            parameters: &[
                RESPONSE,
                Parameter {
                    name: "stream",
                    place: Place::Query,
                    about: "whether it comes as events",
                    kind: "boolean",
                },
                Parameter {
                    name: "starting_after",
                    place: Place::Query,
                    about: "events up to this number are left out",
                    kind: "integer",
                },
            ],
            request: "",
            replies: &[
                Reply { status: 200, about: "the response", media: JSON, schema: "Response" },
                Reply {
                    status: 200,
                    about: "its events, when `stream` is true",
                    media: "text/event-stream",
                    schema: "",
                },
            ],
        },
        handler: Handler::Stored(Stored::Read),
    },
    Route {
        method: Method::Delete,
        path: "/v1/responses/{id}",
        needs: DELETE,
        operation: Operation {
            id: "deleteResponse",
            tag: "responses",
            summary: "Removes a stored response for good",
            parameters: &[RESPONSE],
            request: "",
            replies: &[Reply { status: 200, about: "it is gone", media: JSON, schema: "DeletedResponse" }],
        },
        handler: Handler::Stored(Stored::Delete),
    },
    Route {
        method: Method::Get,
        path: "/v1/responses/{id}/input_items",
        needs: READ,
        operation: Operation {
            id: "listResponseInputItems",
            tag: "responses",
            summary: "Lists everything that a stored response was asked with, the turns before it included",
            parameters: &[
                RESPONSE,
                Parameter {
                    name: "limit",
                    place: Place::Query,
                    about: "how many items a page has, 1 to 100; 20 unless given",
                    kind: "integer",
                },
                Parameter {
                    name: "order",
                    place: Place::Query,
                    about: "`desc`, newest first, or `asc`",
                    kind: "string",
                },
                Parameter {
                    name: "after",
                    place: Place::Query,
                    about: "the id of the item that the page follows",
                    kind: "string",
                },
            ],
            request: "",
            replies: &[Reply { status: 200, about: "a page of items", media: JSON, schema: "ItemList" }],
        },
        handler: Handler::Stored(Stored::InputItems),
    },
    Route {
        method: Method::Post,
        path: "/v1/responses/{id}/cancel",
        needs: CHAT,
        operation: Operation {
            id: "cancelResponse",
            tag: "responses",
            summary: "Refuses: only background responses can be cancelled, and there are none yet",
            parameters: &[RESPONSE],
            request: "",
            replies: &[],
        },
        handler: Handler::Stored(Stored::Cancel),
    },
    Route {
        method: Method::Get,
        path: "/v1/models",
        needs: MODELS,
        operation: Operation {
            id: "listModels",
            tag: "models",
            summary: "Lists the models that this key may use",
            parameters: &[],
            request: "",
            replies: &[Reply { status: 200, about: "the models", media: JSON, schema: "ModelList" }],
        },
        handler: Handler::Models,
    },
    Route {
        method: Method::Get,
        path: "/v1/models/{id}",
        needs: MODELS,
        operation: Operation {
            id: "retrieveModel",
            tag: "models",
            summary: "Tells about one model",
            parameters: &[Parameter {
                name: "id",
                place: Place::Path,
                about: "the model's name; it may contain slashes",
                kind: "string",
            }],
            request: "",
            replies: &[Reply { status: 200, about: "the model", media: JSON, schema: "Model" }],
        },
        handler: Handler::Model,
    },
    Route {
        method: Method::Get,
        path: "/livez",
        needs: PROBE,
        operation: health(
            "live",
            "Answers while the process lives",
            &[Reply { status: 200, about: "it lives", media: JSON, schema: "" }],
        ),
        handler: Handler::Live,
    },
    Route {
        method: Method::Get,
        path: "/readyz",
        needs: PROBE,
        operation: health(
            "ready",
            "Tells whether requests can be served, and every provider's health",
            &[
                Reply { status: 200, about: "requests can be served", media: JSON, schema: "Readiness" },
                Reply {
                    status: 503,
                    about: "draining, or the store or every provider is down",
                    media: JSON,
                    schema: "Readiness",
                },
            ],
        ),
        handler: Handler::Ready,
    },
    Route {
        method: Method::Get,
        path: "/metrics",
        needs: Needs::Nothing(
            "scrapers have no key; labels are names from the configuration, never keys or prompts",
        ),
        operation: health(
            "metrics",
            "Metrics in the OpenMetrics text format",
            &[Reply { status: 200, about: "all series", media: "application/openmetrics-text", schema: "" }],
        ),
        handler: Handler::Metrics,
    },
    Route {
        method: Method::Get,
        path: "/openapi.json",
        needs: PAGE,
        operation: page(
            "openapi",
            "This document",
            &[Reply { status: 200, about: "OpenAPI 3.1", media: JSON, schema: "" }],
        ),
        handler: Handler::OpenApi,
    },
    Route {
        method: Method::Get,
        path: "/docs",
        needs: PAGE,
        operation: page(
            "docs",
            "The documentation of the API as a page",
            &[Reply { status: 200, about: "the page", media: "text/html", schema: "" }],
        ),
        handler: Handler::Docs,
    },
    Route {
        method: Method::Get,
        path: "/docs/docs.js",
        needs: PAGE,
        operation: page(
            "docsScript",
            "The script of the documentation page",
            &[Reply { status: 200, about: "the script", media: "text/javascript", schema: "" }],
        ),
        handler: Handler::DocsScript,
    },
    Route {
        method: Method::Get,
        path: "/docs/errors/{code}",
        needs: PAGE,
        operation: Operation {
            id: "errorPage",
            tag: "documentation",
            summary: "Explains one error code",
            parameters: &[Parameter {
                name: "code",
                place: Place::Path,
                about: "the code, as in the `code` member of an error",
                kind: "string",
            }],
            request: "",
            replies: &[Reply { status: 200, about: "the page", media: "text/markdown", schema: "" }],
        },
        handler: Handler::ErrorPage,
    },
    Route {
        method: Method::Get,
        path: "/",
        needs: PAGE,
        operation: page(
            "home",
            "Says what this is",
            &[Reply { status: 200, about: "the page", media: "text/html", schema: "" }],
        ),
        handler: Handler::Home,
    },
    Route {
        method: Method::Get,
        path: "/.well-known/oauth-protected-resource",
        needs: Needs::Nothing("who has no token yet reads here where to get one (RFC 9728)"),
        operation: page(
            "getProtectedResource",
            "Says which issuers' access tokens are taken",
            &[
                Reply { status: 200, about: "the metadata", media: JSON, schema: "" },
                Reply { status: 404, about: "no access tokens are taken", media: JSON, schema: "" },
            ],
        ),
        handler: Handler::Resource,
    },
];

impl Handler {
    fn on(self, surface: Surface) -> bool {
        match surface {
            Surface::All => true,
            Surface::Data => self != Handler::Metrics,
            Surface::Admin => !matches!(
                self,
                Handler::Infer(..) | Handler::Stored(_) | Handler::Models | Handler::Model | Handler::Relay
            ),
        }
    }

    /// What a record calls a request of this route.
    pub(crate) fn task(self) -> Option<Task> {
        match self {
            Handler::Infer(task, _) => Some(task),
            _ => None,
        }
    }

    /// Whether this error says that what the request is about is not ours: an object that we do not hold, or a response
    /// that leans on what its vendor keeps (a stored prompt instead of a model, background, a conversation).
    pub(crate) fn misses(self, error: &Error) -> bool {
        match self {
            Handler::Model | Handler::Stored(_) => {
                matches!(error.code(), Code::ModelNotFound | Code::NotFound)
            }
            Handler::Infer(_, Dialect::Responses) => matches!(
                (error.code(), error.param()),
                (Code::Unsupported, _) | (Code::InvalidRequest, Some("model"))
            ),
            _ => false,
        }
    }

    /// Whether the path's parameter may hold slashes.
    fn takes_slashes(self) -> bool {
        !matches!(self, Handler::Stored(_))
    }
}

/// What a request line leads to.
#[derive(Debug)]
pub(crate) enum Found<'p> {
    /// A row, and the rest of the path where the row has a parameter.
    Row(&'static Route<Handler>, &'p str),
    /// The admin router.
    Admin,
}

/// A request line that leads nowhere: 404, or 405 with the methods that would.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) error: Error,
    pub(crate) allow: Option<String>,
}

/// Finds the row of a request. HEAD is answered by GET's row, as RFC 9110 asks; the body is cut off by the server.
pub(crate) fn find<'p>(method: &http::Method, path: &'p str, surface: Surface) -> Result<Found<'p>, Lost> {
    if surface != Surface::Data && path.starts_with(ADMIN) {
        return Ok(Found::Admin);
    }
    let asked = if method == http::Method::HEAD { "GET" } else { method.as_str() };
    let mut allow = String::new();
    for route in ROUTES {
        let Some(rest) = rest_of(route.path, path) else { continue };
        if !route.handler.on(surface) || (rest.contains('/') && !route.handler.takes_slashes()) {
            continue;
        }
        if route.method.name() == asked {
            return Ok(Found::Row(route, rest));
        }
        if !allow.is_empty() {
            allow.push_str(", ");
        }
        allow.push_str(route.method.name());
        if route.method == Method::Get {
            allow.push_str(", HEAD");
        }
    }
    if allow.is_empty() {
        let say = "there is no such path; /docs lists those that exist";
        return Err(Lost { error: Error::new(Code::RouteNotFound, say), allow: None });
    }
    let say = format!("this path takes {allow}");
    Err(Lost { error: Error::new(Code::MethodNotAllowed, say), allow: Some(allow) })
}

/// The part of `path` that stands for the pattern's parameter; `""` when the pattern has none and is the path.
fn rest_of<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, rest)) = pattern.split_once('{') else { return (pattern == path).then_some("") };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    path.strip_prefix(before)?.strip_suffix(after).filter(|rest| !rest.is_empty())
}

/// Decodes a path parameter; `None` when it is not text or holds control characters.
pub(crate) fn parameter(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('%') {
        return Some(Cow::Borrowed(raw));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then_some(Cow::Owned(text))
}
