//! The table. The first row that fits counts, so a row about one case stands before a row about its status.
//!
//! Sources: the error pages of the vendors' public API references (OpenAI, Azure OpenAI, Groq, Mistral, OpenRouter,
//! Together, DeepSeek, xAI, Anthropic, Google, Amazon Bedrock), the servers' own source (vLLM, llama.cpp, Ollama, TGI), and
//! bodies quoted in public issue trackers. `tests/fixtures/errors` of `provider-http` has one of each.

use penstock_domain::{Code, Remedy};

use super::read::Said;

/// What has to be there, and what it then means. Of a list, one entry is enough; an empty list asks for nothing.
pub(super) struct Row {
    /// Who speaks like this.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers, and for the page that shows the table"))]
    pub(super) vendor: &'static str,
    /// HTTP statuses; a single digit stands for its hundred.
    pub(super) status: &'static [u16],
    /// Codes, types and reasons, in any case; one that begins with `*` may stand anywhere inside.
    pub(super) word: &'static [&'static str],
    /// Parts of the message, in lower case.
    pub(super) says: &'static [&'static str],
    /// Our code.
    pub(super) code: Code,
    /// What routing may do.
    pub(super) remedy: Remedy,
}

impl Row {
    /// Whether the row is about this error; `message` is in lower case.
    pub(super) fn fits(&self, status: u16, said: &Said, message: &str) -> bool {
        let of_status = |wanted: &u16| *wanted == status || *wanted == status / 100;
        let word = |wanted: &&str| {
            said.words.iter().any(|word| match wanted.strip_prefix('*') {
                Some(part) => word.contains(part),
                None => word.eq_ignore_ascii_case(wanted),
            })
        };
        let fits = (self.status.is_empty() || self.status.iter().any(of_status))
            && (self.word.is_empty() || self.word.iter().any(word))
            && (self.says.is_empty() || self.says.iter().any(|part| message.contains(part)));
        // Only JSON is the vendor's own judgement: a page of HTML comes from whatever stands before it.
        fits && (self.code != Code::UpstreamRejected || said.json)
    }
}

const ANY: &[u16] = &[];
const NO: &[&str] = &[];
/// Statuses that judge a request.
const REQUEST: &[u16] = &[400, 404, 413, 422];

const fn row(
    vendor: &'static str,
    status: &'static [u16],
    (word, says): (&'static [&'static str], &'static [&'static str]),
    code: Code,
    remedy: Remedy,
) -> Row {
    Row { vendor, status, word, says, code, remedy }
}

/// Statuses of errors inside a 200, by the words that they name.
pub(super) const STATUSES: &[(&str, u16)] = &[
    ("rate_limit_exceeded", 429),
    ("rate_limit_error", 429),
    ("insufficient_quota", 429),
    ("throttlingException", 429),
    ("invalid_request_error", 400),
    ("BadRequestError", 400),
    ("context_length_exceeded", 400),
    ("invalid_prompt", 400),
    ("content_filter", 400),
    ("content_policy_violation", 400),
    ("validationException", 400),
    ("authentication_error", 401),
    ("invalid_api_key", 401),
    ("billing_error", 402),
    ("permission_error", 403),
    ("not_found_error", 404),
    ("model_not_found", 404),
    ("modelTimeoutException", 408),
    ("request_too_large", 413),
    ("modelStreamErrorException", 424),
    ("serviceUnavailableException", 503),
    ("timeout_error", 504),
    ("timeout", 504),
    ("overloaded_error", 529),
    ("server_is_overloaded", 529),
];

/// Every row.
pub(super) const ROWS: &[Row] = &[
    // A daily allowance is one of a model: this credential may still serve others.
    row("Google", &[429], (&["*PerDay"], NO), Code::UpstreamQuotaExceeded, Remedy::Cool),
    row("Google", &[429], (NO, &["limit: 0,"]), Code::UpstreamQuotaExceeded, Remedy::Cool),
    row("Google", &[429], (NO, &["credits are depleted"]), Code::UpstreamQuotaExceeded, Remedy::Retire),
    row("Google", &[429], (&["RESOURCE_EXHAUSTED"], NO), Code::UpstreamRateLimited, Remedy::Cool),
    row(
        "Google",
        ANY,
        (
            &[
                "API_KEY_INVALID",
                "API_KEY_SERVICE_BLOCKED",
                "API_KEY_IP_ADDRESS_BLOCKED",
                "SERVICE_DISABLED",
                "BILLING_DISABLED",
                "CONSUMER_INVALID",
                "CONSUMER_SUSPENDED",
                "ACCESS_TOKEN_EXPIRED",
            ],
            NO,
        ),
        Code::UpstreamAuth,
        Remedy::Retire,
    ),
    // The account may not use the API at all: its country, its billing.
    row("Google", &[400], (&["FAILED_PRECONDITION"], NO), Code::UpstreamAuth, Remedy::Retire),
    row(
        "Google",
        &[400, 403],
        (NO, &["api key expired", "project has been denied access"]),
        Code::UpstreamAuth,
        Remedy::Retire,
    ),
    row(
        "OpenAI",
        ANY,
        (&["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"], NO),
        Code::UpstreamQuotaExceeded,
        Remedy::Retire,
    ),
    row(
        "OpenAI",
        &[429],
        (NO, &["exceeded your current quota"]),
        Code::UpstreamQuotaExceeded,
        Remedy::Retire,
    ),
    row(
        "OpenAI",
        ANY,
        (
            &[
                "invalid_api_key",
                "account_deactivated",
                "invalid_organization",
                "unsupported_country_region_territory",
            ],
            NO,
        ),
        Code::UpstreamAuth,
        Remedy::Retire,
    ),
    // More than this account may ever ask in a minute: no wait helps, another account may.
    row(
        "OpenAI, Groq, Anthropic",
        &[413, 429],
        (NO, &["request too large for", "extra usage is required"]),
        Code::UpstreamRateLimited,
        Remedy::Other,
    ),
    row(
        "OpenAI",
        ANY,
        (&["context_length_exceeded", "string_above_max_length"], NO),
        Code::ContextLengthExceeded,
        Remedy::Larger,
    ),
    row(
        "OpenAI",
        &[400],
        (&["content_policy_violation", "moderation_blocked"], NO),
        Code::ContentFiltered,
        Remedy::Filtered,
    ),
    row(
        "OpenAI",
        &[400],
        (&["invalid_prompt"], &["usage policy", "flagged", "safety"]),
        Code::ContentFiltered,
        Remedy::Filtered,
    ),
    row(
        "Azure",
        &[400],
        (&["content_filter", "ResponsibleAIPolicyViolation"], NO),
        Code::ContentFiltered,
        Remedy::Filtered,
    ),
    row("Azure", &[403], (NO, &["out of call volume quota"]), Code::UpstreamQuotaExceeded, Remedy::Retire),
    row("Azure", &[403], (NO, &["virtual network/firewall"]), Code::UpstreamAuth, Remedy::Retire),
    row("Azure", &[429, 5], (&["NoCapacity"], NO), Code::Overloaded, Remedy::Other),
    row("Azure", &[429, 5], (NO, &["experiencing high demand"]), Code::Overloaded, Remedy::Other),
    row(
        "Groq",
        &[400, 403],
        (&["organization_restricted", "blocked_api_access"], NO),
        Code::UpstreamAuth,
        Remedy::Retire,
    ),
    row("Groq", &[498], (NO, NO), Code::Overloaded, Remedy::Other),
    row(
        "OpenAI, Together, Mistral",
        REQUEST,
        (&["model_not_found", "model_not_available", "invalid_model"], NO),
        Code::UpstreamRejected,
        Remedy::Other,
    ),
    // A smaller request could still be paid for.
    row("OpenRouter", &[402], (NO, &["fewer max_tokens"]), Code::UpstreamQuotaExceeded, Remedy::Cool),
    row(
        "OpenRouter",
        &[403],
        (NO, &["requires moderation", "was flagged"]),
        Code::ContentFiltered,
        Remedy::Filtered,
    ),
    row("OpenRouter", &[400], (NO, &["is not a valid model id"]), Code::UpstreamRejected, Remedy::Other),
    row(
        "xAI",
        &[403, 429],
        (NO, &["used all available credits", "doesn't have any credits", "spending limit"]),
        Code::UpstreamQuotaExceeded,
        Remedy::Retire,
    ),
    row(
        "Anthropic",
        &[400, 403, 429],
        (NO, &["specified api usage limits", "credit balance is too low"]),
        Code::UpstreamQuotaExceeded,
        Remedy::Retire,
    ),
    row("Anthropic", ANY, (&["billing_error"], NO), Code::UpstreamQuotaExceeded, Remedy::Retire),
    row(
        "Anthropic",
        &[400, 403],
        (NO, &["organization has been disabled"]),
        Code::UpstreamAuth,
        Remedy::Retire,
    ),
    row("Anthropic", ANY, (&["overloaded_error"], NO), Code::Overloaded, Remedy::Other),
    row("Anthropic", &[400], (NO, &["content filtering policy"]), Code::ContentFiltered, Remedy::Filtered),
    row(
        "Bedrock",
        &[400, 401, 403],
        (
            &[
                "UnrecognizedClientException",
                "InvalidSignatureException",
                "ExpiredTokenException",
                "IncompleteSignatureException",
                "MissingAuthenticationTokenException",
            ],
            NO,
        ),
        Code::UpstreamAuth,
        Remedy::Retire,
    ),
    row(
        "Bedrock",
        &[400, 403],
        (NO, &["security token included in the request is", "request signature we calculated"]),
        Code::UpstreamAuth,
        Remedy::Retire,
    ),
    row("Bedrock", &[429], (NO, &["too many tokens per day"]), Code::UpstreamQuotaExceeded, Remedy::Cool),
    row(
        "Bedrock",
        &[400, 429],
        (&["ThrottlingException", "ServiceQuotaExceededException"], NO),
        Code::UpstreamRateLimited,
        Remedy::Cool,
    ),
    row("Bedrock", ANY, (&["ModelNotReadyException"], NO), Code::Overloaded, Remedy::Other),
    row(
        "Bedrock",
        &[400],
        (
            NO,
            &[
                "model identifier is invalid",
                "throughput isn't supported",
                "throughput isn\u{2019}t supported",
            ],
        ),
        Code::UpstreamRejected,
        Remedy::Other,
    ),
    row("llama.cpp", ANY, (&["exceed_context_size_error"], NO), Code::ContextLengthExceeded, Remedy::Larger),
    row(
        "TGI, OpenAI",
        &[429, 5],
        (&["overloaded", "slow_down", "server_is_overloaded"], NO),
        Code::Overloaded,
        Remedy::Other,
    ),
    row("Ollama", &[503], (NO, &["server busy"]), Code::Overloaded, Remedy::Other),
    row(
        "all",
        REQUEST,
        (
            NO,
            &[
                "maximum context length",
                "context window",
                "context limit",
                "exceeds the context length",
                "available context size",
                "prompt is too long",
                "maximum prompt length",
                "input is too long",
                "too many input tokens",
                "exceeds the maximum number of tokens",
                "to fit into the model",
                "longer than the maximum model length",
                "`inputs` must have less than",
                "`inputs` tokens + `max_new_tokens` must be",
            ],
        ),
        Code::ContextLengthExceeded,
        Remedy::Larger,
    ),
    row(
        "all",
        &[400, 401, 403, 404, 422],
        (NO, &["incorrect api key", "invalid api key", "api key not valid"]),
        Code::UpstreamAuth,
        Remedy::Retire,
    ),
    row("all", &[400, 403, 404, 422], (&["authentication_error"], NO), Code::UpstreamAuth, Remedy::Retire),
    row("all", &[429, 5], (NO, &["overloaded"]), Code::Overloaded, Remedy::Other),
    row("all", &[401, 407], (NO, NO), Code::UpstreamAuth, Remedy::Retire),
    row("all", &[402], (NO, NO), Code::UpstreamQuotaExceeded, Remedy::Retire),
    // Mostly one model that this credential may not use; what is about the credential itself stands above.
    row("all", &[403], (NO, NO), Code::UpstreamAuth, Remedy::Cool),
    // A model or a path that this target does not have, a body that it finds too large.
    row("all", &[404, 413], (NO, NO), Code::UpstreamRejected, Remedy::Other),
    row("all", &[400, 422], (NO, NO), Code::UpstreamRejected, Remedy::None),
    row("all", &[408, 504], (NO, NO), Code::UpstreamTimeout, Remedy::Other),
    row("all", &[429], (NO, NO), Code::UpstreamRateLimited, Remedy::Cool),
    row("all", &[529], (NO, NO), Code::Overloaded, Remedy::Other),
    row("all", &[409, 424, 425, 5], (NO, NO), Code::UpstreamError, Remedy::Other),
    row("all", ANY, (NO, NO), Code::UpstreamBadResponse, Remedy::Other),
];
