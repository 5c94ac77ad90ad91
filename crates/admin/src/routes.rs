//! The route table of the admin API: what is not here does not exist.

mod browser;
mod people;

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
    /// The end of all keys of an owner or a team.
    RevokeKeys,
    /// Teams, page by page.
    ListTeams,
    /// A new team.
    CreateTeam,
    /// One team.
    GetTeam,
    /// Other settings for a team.
    UpdateTeam,
    /// The end of a team.
    DeleteTeam,
    /// Leads a browser to the issuer of sign-ins.
    SignIn,
    /// Takes the issuer's answer.
    SignedIn,
    /// The end of a session by its own browser.
    SignOut,
    /// The end of sessions by their issuer.
    Dismiss,
    /// Who asks.
    Me,
    /// Everybody who is signed in.
    Sessions,
    /// The end of a session.
    EndSession,
    /// Records, page by page.
    ListRequests,
    /// Records as they come.
    TailRequests,
    /// One record.
    GetRequest,
    /// Who changed what, and who was turned away.
    Audit,
    /// Sums over records.
    Usage,
    /// Sums over the ledger.
    Spend,
    /// What may still be asked for and spent.
    Budgets,
    /// Deliveries of events to webhooks.
    ListDeliveries,
    /// One of them once more.
    Redeliver,
    /// Kinds of plug-ins and their schemas.
    Kinds,
    /// Providers and their health.
    Providers,
    /// Forgets what was learnt against a provider.
    Reinstate,
    /// The effective config.
    Config,
}

impl Handler {
    /// Whether the answer is no JSON, or sets a cookie.
    pub(crate) const fn is_special(self) -> bool {
        matches!(
            self,
            Handler::TailRequests
                | Handler::Spend
                | Handler::SignIn
                | Handler::SignedIn
                | Handler::SignOut
                | Handler::Dismiss
        )
    }
}

const KEYS: Needs = Needs::Scope(Scope::new("admin", "keys"));
const READ: Needs = Needs::Scope(Scope::new("admin", "read"));
const OPERATE: Needs = Needs::Scope(Scope::new("admin", "operate"));
const AUDIT: Needs = Needs::Scope(Scope::new("admin", "audit"));
const JSON: &str = "application/json";

const ID: Parameter = Parameter { name: "id", place: Place::Path, about: "the key's id", kind: "string" };
const NAME: Parameter =
    Parameter { name: "id", place: Place::Path, about: "the provider's name", kind: "string" };
const DELIVERY: Parameter =
    Parameter { name: "id", place: Place::Path, about: "the delivery's id", kind: "string" };
const LIMIT: Parameter = Parameter {
    name: "limit",
    place: Place::Query,
    about: "keys per page, 1 to 200, 50 when left out",
    kind: "integer",
};
const AFTER: Parameter =
    Parameter { name: "after", place: Place::Query, about: "the `next` of the page before", kind: "string" };

const fn asked(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, place: Place::Query, about, kind: "string" }
}

const KEY: Parameter = asked("key", "the id of the caller's key");
const TEAM: Parameter = asked("team", "the caller's team");
const MODEL: Parameter = asked("model", "the model's name in the catalogue");
const PROVIDER: Parameter = asked("provider", "the provider that answered, or was tried last");
const CODE: Parameter = asked("code", "`ok`, `cancelled` or an error code");
const STATUS: Parameter = asked("status", "`ok`, `cancelled`, `refused` or `failed`");
const TAG: Parameter = asked("tag", "a label and its value, `name:value`");
const SINCE: Parameter =
    asked("since", "ended then or later: an RFC 3339 time, or how long ago, such as `24h`");
const UNTIL: Parameter = asked("until", "ended before: an RFC 3339 time, or how long ago");
const RECORDS: Parameter = Parameter {
    name: "limit",
    place: Place::Query,
    about: "records per page, 1 to 1000, 50 when left out",
    kind: "integer",
};
const RECORD: Parameter =
    Parameter { name: "id", place: Place::Path, about: "the request's id", kind: "string" };

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
            parameters: &[LIMIT, AFTER, people::OWNER, people::KIND, people::OF_TEAM],
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
    people::REVOKE_KEYS,
    people::LIST_TEAMS,
    people::CREATE_TEAM,
    people::GET_TEAM,
    people::UPDATE_TEAM,
    people::DELETE_TEAM,
    browser::LOGIN,
    browser::CALLBACK,
    browser::LOGOUT,
    browser::BACK_CHANNEL,
    browser::ME,
    browser::SESSIONS,
    browser::END_SESSION,
    Route {
        method: Method::Get,
        path: "/admin/v1/requests",
        needs: READ,
        operation: Operation {
            id: "listRequests",
            tag: "requests",
            summary: "Searches the records of requests, the newest first; a page may be short and have a next one",
            parameters: &[AFTER, RECORDS, KEY, TEAM, MODEL, PROVIDER, CODE, STATUS, TAG, SINCE, UNTIL],
            request: "",
            replies: &[ok("one page", "RequestRecordList")],
        },
        handler: Handler::ListRequests,
    },
    Route {
        method: Method::Get,
        path: "/admin/v1/requests/tail",
        needs: READ,
        operation: Operation {
            id: "tailRequests",
            tag: "requests",
            summary: "Streams records as requests end: events `request`, and one `end` that says why it is the last",
            parameters: &[KEY, TEAM, MODEL, PROVIDER, CODE, STATUS, TAG],
            request: "",
            replies: &[Reply {
                status: 200,
                about: "records as they come",
                media: "text/event-stream",
                schema: "RequestRecord",
            }],
        },
        handler: Handler::TailRequests,
    },
    Route {
        method: Method::Get,
        path: "/admin/v1/requests/{id}",
        needs: READ,
        operation: Operation {
            id: "getRequest",
            tag: "requests",
            summary: "Shows one record; what was captured of it only to keys with the scope admin:content",
            parameters: &[RECORD],
            request: "",
            replies: &[ok("the record", "CapturedRecord")],
        },
        handler: Handler::GetRequest,
    },
    Route {
        method: Method::Get,
        path: "/admin/v1/usage",
        needs: READ,
        operation: Operation {
            id: "getUsage",
            tag: "requests",
            summary: "Adds up requests, tokens and cost over whole hours; what is estimated or unknown stands apart",
            parameters: &[
                asked("by", "`hour`, `key`, `model`, `team` or `tag`; `hour` when left out"),
                asked("tag", "with `by=tag`: the label's name"),
                asked("since", "an RFC 3339 time, or how long ago; a day before `until` when left out"),
                asked("until", "an RFC 3339 time, or how long ago; now when left out"),
            ],
            request: "",
            replies: &[ok("the sums", "Usage")],
        },
        handler: Handler::Usage,
    },
    Route {
        method: Method::Get,
        path: "/admin/v1/audit",
        needs: AUDIT,
        operation: Operation {
            id: "listAudit",
            tag: "operation",
            summary: "Lists who changed what and who was turned away, the newest first",
            parameters: &[
                AFTER,
                Parameter {
                    name: "limit",
                    place: Place::Query,
                    about: "rows per page, 1 to 500, 50 when left out",
                    kind: "integer",
                },
            ],
            request: "",
            replies: &[ok("one page", "AuditList")],
        },
        handler: Handler::Audit,
    },
    Route {
        method: Method::Get,
        path: "/admin/v1/spend",
        needs: READ,
        operation: Operation {
            id: "getSpend",
            tag: "spend",
            summary: "Adds up what was spent over whole hours, by the ledger; as JSON or as CSV",
            parameters: &[
                asked("by", "`hour`, `key`, `model`, `team` or `tag`; `hour` when left out"),
                asked("tag", "with `by=tag`: the label's name"),
                asked("from", "an RFC 3339 time, or how long ago; a day before `to` when left out"),
                asked("to", "an RFC 3339 time, or how long ago; now when left out"),
                asked("format", "`json` or `csv`; `json` when left out"),
            ],
            request: "",
            replies: &[ok("the sums", "Usage")],
        },
        handler: Handler::Spend,
    },
    Route {
        method: Method::Get,
        path: "/admin/v1/budgets",
        needs: READ,
        operation: Operation {
            id: "listBudgets",
            tag: "spend",
            summary: "Lists budgets and limits of keys, teams, models and the organisation, with what is left of them",
            parameters: &[],
            request: "",
            replies: &[ok("the accounts", "BudgetList")],
        },
        handler: Handler::Budgets,
    },
    Route {
        method: Method::Get,
        path: "/admin/v1/webhook-deliveries",
        needs: READ,
        operation: Operation {
            id: "listWebhookDeliveries",
            tag: "webhooks",
            summary: "Lists what became of the events that webhooks were to be told, the newest first",
            parameters: &[
                AFTER,
                Parameter {
                    name: "limit",
                    place: Place::Query,
                    about: "rows per page, 1 to 500, 50 when left out",
                    kind: "integer",
                },
                asked("state", "`waiting`, `delivered` or `dead`"),
            ],
            request: "",
            replies: &[ok("one page", "WebhookDeliveryList")],
        },
        handler: Handler::ListDeliveries,
    },
    Route {
        method: Method::Post,
        path: "/admin/v1/webhook-deliveries/{id}/redeliver",
        needs: OPERATE,
        operation: Operation {
            id: "redeliverWebhook",
            tag: "webhooks",
            summary: "Has an event delivered once more, whatever became of it before",
            parameters: &[DELIVERY],
            request: "",
            replies: &[ok("the delivery", "WebhookDelivery")],
        },
        handler: Handler::Redeliver,
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
        method: Method::Post,
        path: "/admin/v1/providers/{id}/reinstate",
        needs: OPERATE,
        operation: Operation {
            id: "reinstateProvider",
            tag: "operation",
            summary: "Lets a provider be asked again at once, whatever its errors were: its fault is mended",
            parameters: &[NAME],
            request: "",
            replies: &[ok("the provider", "Provider")],
        },
        handler: Handler::Reinstate,
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
