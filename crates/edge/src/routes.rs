//! The route table: every path of the edge, once, with what its caller must hold.
//!
//! The same rows route requests, authorise them and make the OpenAPI document. A path is matched byte for byte as it
//! was sent: a trailing slash, a double slash or an encoded letter is another path, and unknown.

use std::borrow::Cow;

use penstock_domain::{Code, Dialect, Error, Task};
use penstock_identity::{Method, Needs, Operation, Parameter, Place, Reply, Route, Scope};

use crate::Surface;

/// Everything under it goes to the admin router, which has a table of its own.
pub(crate) const ADMIN: &str = "/admin/";

/// Anthropic's surface, where errors are told in its shape.
pub(crate) const MESSAGES: &str = "/v1/messages";

/// What answers a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// A run through the flow.
    Infer(Task, Dialect),
    /// The list of models.
    Models,
    /// One model.
    Model,
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
}

const CHAT: Needs = Needs::Scope(Scope::new("chat", "invoke"));
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
];

impl Handler {
    fn on(self, surface: Surface) -> bool {
        match surface {
            Surface::All => true,
            Surface::Data => self != Handler::Metrics,
            Surface::Admin => !matches!(self, Handler::Infer(..) | Handler::Models | Handler::Model),
        }
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
        if !route.handler.on(surface) {
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
    match pattern.find('{') {
        None => (pattern == path).then_some(""),
        Some(start) => path.strip_prefix(&pattern[..start]).filter(|rest| !rest.is_empty()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn code(method: http::Method, path: &str) -> &'static str {
        match find(&method, path, Surface::All) {
            Ok(Found::Row(route, _)) => route.path,
            Ok(Found::Admin) => "admin",
            Err(lost) => lost.error.code().name(),
        }
    }

    #[test]
    fn only_the_exact_path_is_a_route() {
        assert_eq!(code(http::Method::POST, "/v1/chat/completions"), "/v1/chat/completions");
        for odd in [
            "/v1/chat/completions/",
            "//v1/chat/completions",
            "/v1//chat/completions",
            "/v1/chat/%63ompletions",
            "/V1/chat/completions",
            "/v1/chat/completions;x",
            "/v1/chat/../chat/completions",
            "",
            "*",
        ] {
            assert_eq!(code(http::Method::POST, odd), "route_not_found", "{odd}");
        }
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        let lost = find(&http::Method::DELETE, "/v1/models", Surface::All).unwrap_err();
        assert_eq!(lost.error.code(), Code::MethodNotAllowed);
        assert_eq!(lost.allow.as_deref(), Some("GET, HEAD"));
    }

    #[test]
    fn a_model_id_may_hold_slashes_and_is_decoded_once() {
        let Ok(Found::Row(route, rest)) = find(&http::Method::GET, "/v1/models/a/b%2Fc%2520", Surface::All)
        else {
            panic!("no row");
        };
        assert_eq!(route.handler, Handler::Model);
        assert_eq!(parameter(rest).unwrap(), "a/b/c%20");
        for bad in ["%", "%4", "%zz", "%00", "%ff", "%+1"] {
            assert_eq!(parameter(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_split_listener_hides_the_other_half() {
        assert!(matches!(find(&http::Method::GET, "/admin/v1/keys", Surface::All), Ok(Found::Admin)));
        assert!(find(&http::Method::GET, "/admin/v1/keys", Surface::Data).is_err());
        assert!(find(&http::Method::GET, "/metrics", Surface::Data).is_err());
        assert!(find(&http::Method::POST, "/v1/embeddings", Surface::Admin).is_err());
        assert!(find(&http::Method::GET, "/readyz", Surface::Admin).is_ok());
    }

    #[test]
    fn operation_ids_are_unique() {
        let mut ids: Vec<_> = ROUTES.iter().map(|route| route.operation.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ROUTES.len());
    }
}
