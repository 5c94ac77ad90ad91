use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Stage;

/// Who has to change something for the request to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The asker.
    Client,
    /// This gateway or its operator.
    Gateway,
    /// The vendor behind it.
    Vendor,
}

/// Whether sending the same request again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It cannot.
    Never,
    /// It may, at once or whenever the caller likes.
    Maybe,
    /// It will not before this much time has passed.
    After(Duration),
}

/// What the gateway may do about a failed attempt, before anything of an answer was shown. [`Retry`] is for the caller; this
/// is for routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// Nothing: every other target would say the same, because the request is at fault or its time is over.
    None,
    /// The same target may do it at once: the fault is one of a connection, not of whoever is behind it.
    Same,
    /// Another target may do it.
    Other,
    /// Another target or credential may do it. This credential is to be left alone for this model: for as long as
    /// [`Retry::After`] says, else for as long as routing thinks fit.
    Cool,
    /// Another target or credential may do it. This credential is of no use until the operator has acted.
    Retire,
    /// A model with a larger context window may do it.
    Larger,
    /// The vendor withheld an answer for what was said; whether to ask another is the model's policy.
    Filtered,
}

impl Remedy {
    /// What usually helps against an error of this code.
    pub const fn of(code: Code) -> Self {
        match code {
            Code::UpstreamRateLimited => Remedy::Cool,
            Code::UpstreamAuth | Code::UpstreamQuotaExceeded => Remedy::Retire,
            Code::ContextLengthExceeded => Remedy::Larger,
            Code::ContentFiltered => Remedy::Filtered,
            Code::UpstreamUnreachable
            | Code::UpstreamError
            | Code::UpstreamBadResponse
            | Code::UpstreamStreamCut
            | Code::UpstreamTimeout
            | Code::UpstreamIdleTimeout
            | Code::Overloaded
            | Code::LocalModelUnavailable
            | Code::Unsupported => Remedy::Other,
            _ => Remedy::None,
        }
    }
}

/// The closed set of kinds. `edge/src/error.rs` maps each to a status; add one only with a decision record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is not well formed or not possible.
    Invalid,
    /// Nobody proved who they are.
    Unauthenticated,
    /// Known, but not allowed.
    Forbidden,
    /// No such model, route or object, or not for this caller.
    NotFound,
    /// The route exists, the method does not.
    Method,
    /// The content type is not understood.
    MediaType,
    /// The body is larger than allowed.
    TooLarge,
    /// The body did not arrive in time.
    SlowBody,
    /// Something already exists or is in another state.
    Conflict,
    /// Well formed, and at odds with what was said before.
    Mismatch,
    /// Too much at once.
    RateLimited,
    /// The vendor answered wrongly or not at all.
    BadUpstream,
    /// Nothing can serve this now.
    Unavailable,
    /// Time ran out.
    Timeout,
    /// A fault of ours.
    Internal,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $kind:ident, $blame:ident;)+) => {
        /// The stable code of an error: what scripts match on and what the docs have a page for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Code] = &[$(Code::$name,)+];

            /// The code as clients see it.
            pub const fn name(self) -> &'static str { match self { $(Code::$name => $text,)+ } }

            /// The kind that the code belongs to.
            pub const fn kind(self) -> Kind { match self { $(Code::$name => Kind::$kind,)+ } }

            /// Who is usually to blame.
            pub const fn blame(self) -> Blame { match self { $(Code::$name => Blame::$blame,)+ } }

            /// What it means, one sentence; the first line of the code's page.
            pub fn meaning(self) -> &'static str { match self { $(Code::$name => concat!($($doc),+).trim(),)+ } }
        }
    };
}

codes! {
    /// The body is not valid JSON.
    InvalidJson = "invalid_json", Invalid, Client;
    /// A member is missing, has the wrong type, or does not fit the others.
    InvalidRequest = "invalid_request", Invalid, Client;
    /// A member has a value outside its range.
    InvalidValue = "invalid_value", Invalid, Client;
    /// The JSON is nested more deeply than allowed.
    JsonTooDeep = "json_too_deep", Invalid, Client;
    /// The body ended before its announced length.
    IncompleteBody = "incomplete_body", Invalid, Client;
    /// The response that a request continues does not exist, or belongs to somebody else.
    PreviousResponseNotFound = "previous_response_not_found", Invalid, Client;
    /// The model or its provider cannot do what is asked.
    Unsupported = "unsupported", Invalid, Client;
    /// Prompt and answer do not fit the model's context window.
    ContextLengthExceeded = "context_length_exceeded", Invalid, Client;
    /// The vendor withheld its answer because of what was said.
    ContentFiltered = "content_filtered", Invalid, Client;
    /// The vendor refused the request as malformed.
    UpstreamRejected = "upstream_rejected", Invalid, Client;
    /// The content type is not application/json.
    UnsupportedMediaType = "unsupported_media_type", MediaType, Client;
    /// The body is larger than the gateway accepts.
    RequestTooLarge = "request_too_large", TooLarge, Client;
    /// The body did not arrive in time.
    RequestTimeout = "request_timeout", SlowBody, Client;
    /// No credential was sent.
    MissingApiKey = "missing_api_key", Unauthenticated, Client;
    /// The API key is not known, revoked or malformed.
    InvalidApiKey = "invalid_api_key", Unauthenticated, Client;
    /// The API key has passed its expiry.
    ExpiredApiKey = "expired_api_key", Unauthenticated, Client;
    /// The access token is malformed, forged, not for this gateway, or of an issuer that it does not trust.
    InvalidToken = "invalid_token", Unauthenticated, Client;
    /// The access token has passed its expiry.
    ExpiredToken = "expired_token", Unauthenticated, Client;
    /// Two different credentials were sent at once.
    ConflictingCredentials = "conflicting_credentials", Unauthenticated, Client;
    /// The key lacks the scope that the route needs.
    InsufficientScope = "insufficient_scope", Forbidden, Client;
    /// The key is good, but not from the address that it was sent from.
    IpNotAllowed = "ip_not_allowed", Forbidden, Client;
    /// The request names an origin or a host that is not allowed.
    ForbiddenOrigin = "forbidden_origin", Forbidden, Client;
    /// No provider of this model is inside the regions that the caller or the request allows.
    DataResidencyMismatch = "data_residency_mismatch", Forbidden, Client;
    /// A budget holds for the caller, and the price of what is asked is not known, so that it cannot be kept.
    PriceUnknown = "price_unknown", Forbidden, Gateway;
    /// The model does not exist, or this key may not use it.
    ModelNotFound = "model_not_found", NotFound, Client;
    /// There is no such path.
    RouteNotFound = "route_not_found", NotFound, Client;
    /// There is no such object, or it belongs to somebody else.
    NotFound = "not_found", NotFound, Client;
    /// The path exists, but not with this method.
    MethodNotAllowed = "method_not_allowed", Method, Client;
    /// An object of this name exists already, or its state does not allow the change.
    Conflict = "conflict", Conflict, Client;
    /// The first request with this idempotency key is still running.
    IdempotencyInProgress = "idempotency_in_progress", Conflict, Client;
    /// The idempotency key stands for another request.
    IdempotencyKeyReused = "idempotency_key_reused", Mismatch, Client;
    /// A rate of requests or tokens of the key, its team, the organisation, the model or the provider is used up.
    RateLimitExceeded = "rate_limit_exceeded", RateLimited, Client;
    /// The key, its team, the organisation or the model has too many requests in flight.
    ConcurrencyLimitExceeded = "concurrency_limit_exceeded", RateLimited, Client;
    /// A budget of the key, its team, the organisation, the model or the provider is spent.
    BudgetExceeded = "budget_exceeded", RateLimited, Client;
    /// The vendor limits the rate of our credential.
    UpstreamRateLimited = "upstream_rate_limited", RateLimited, Vendor;
    /// The vendor refuses our credential: the operator has to act, not the caller.
    UpstreamAuth = "upstream_auth", BadUpstream, Gateway;
    /// The account behind our credential has used up what it may spend at the vendor: the operator has to act.
    UpstreamQuotaExceeded = "upstream_quota_exceeded", BadUpstream, Gateway;
    /// No connection to the vendor could be made.
    UpstreamUnreachable = "upstream_unreachable", BadUpstream, Vendor;
    /// The vendor answered with an error of its own.
    UpstreamError = "upstream_error", BadUpstream, Vendor;
    /// The vendor answered with something that is not an answer.
    UpstreamBadResponse = "upstream_bad_response", BadUpstream, Vendor;
    /// The vendor's stream ended before the answer was complete.
    UpstreamStreamCut = "upstream_stream_cut", BadUpstream, Vendor;
    /// The vendor did not begin its answer in time.
    UpstreamTimeout = "upstream_timeout", Timeout, Vendor;
    /// The vendor's stream fell silent.
    UpstreamIdleTimeout = "upstream_idle_timeout", Timeout, Vendor;
    /// The caller's deadline passed.
    DeadlineExceeded = "deadline_exceeded", Timeout, Client;
    /// The model has more work than it can take, here or at its vendor.
    Overloaded = "overloaded", Unavailable, Gateway;
    /// The embedded model is not installed or could not be loaded.
    LocalModelUnavailable = "local_model_unavailable", Unavailable, Gateway;
    /// No provider can serve this model now.
    NoProviderAvailable = "no_provider_available", Unavailable, Gateway;
    /// The gateway is shutting down.
    ServerShutdown = "server_shutdown", Unavailable, Gateway;
    /// The keys of the access token's issuer are not here yet.
    IssuerUnavailable = "issuer_unavailable", Unavailable, Gateway;
    /// The database or another store did not answer.
    StoreUnavailable = "store_unavailable", Unavailable, Gateway;
    /// A fault of the gateway.
    InternalError = "internal_error", Internal, Gateway;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What went wrong: for the caller (`say`, `code`, `param`), for retries (`retry`, `blame`), for the operator (`source`).
///
/// `say` is written by us and safe to show: lower case, no final stop, what was expected and what was found, how to
/// mend it. It never holds a secret, and vendor text only where the vendor rejected the *caller's* input.
/// `source` is for the log alone.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    code: Code,
    blame: Blame,
    retry: Retry,
    remedy: Remedy,
    say: String,
    param: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    stage: Option<Stage>,
}

impl Error {
    /// An error with the code's usual blame and retry advice.
    pub fn new(code: Code, say: impl Into<String>) -> Self {
        let retry = match code.kind() {
            Kind::RateLimited | Kind::BadUpstream | Kind::Unavailable | Kind::Timeout | Kind::SlowBody => {
                Retry::Maybe
            }
            _ => Retry::Never,
        };
        // These stay as they are until somebody acts.
        let permanent = matches!(
            code,
            Code::UpstreamAuth | Code::UpstreamQuotaExceeded | Code::BudgetExceeded | Code::DeadlineExceeded
        );
        let retry = if permanent { Retry::Never } else { retry };
        Self(Box::new(Inner {
            code,
            blame: code.blame(),
            retry,
            remedy: Remedy::of(code),
            say: say.into(),
            param: None,
            source: None,
            stage: None,
        }))
    }

    /// Names the request member at fault, as a path such as `messages[2].content`.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.0.param = Some(param.into());
        self
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Overrides the retry advice.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Overrides what routing may do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: Remedy) -> Self {
        self.0.remedy = remedy;
        self
    }

    /// Notes the stage; the first note wins, because it is the closest to the cause.
    #[must_use]
    pub fn at(mut self, stage: Stage) -> Self {
        self.0.stage.get_or_insert(stage);
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The kind of the code.
    pub fn kind(&self) -> Kind {
        self.0.code.kind()
    }

    /// Who has to change something.
    pub fn blame(&self) -> Blame {
        self.0.blame
    }

    /// Whether to send it again.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// What routing may do about it.
    pub fn remedy(&self) -> Remedy {
        self.0.remedy
    }

    /// The sentence for the caller.
    pub fn say(&self) -> &str {
        &self.0.say
    }

    /// The request member at fault.
    pub fn param(&self) -> Option<&str> {
        self.0.param.as_deref()
    }

    /// The stage that failed, where known.
    pub fn stage(&self) -> Option<Stage> {
        self.0.stage
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.say)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}
