//! Settings that the format has room for and this version does not act on yet. They are refused rather than ignored: who
//! writes `guardrails` must not believe that something guards.

/// Paths with `*` for a name or an index.
const LATER: &[&str] = &[
    "agents",
    "cache",
    "guardrails",
    "mcp_servers",
    "models.*.canary",
    "models.*.router",
    "models.*.traffic",
    "models.*.versions",
    "prompts",
    "stores.broker",
    "stores.vectors",
    "teams.*.guardrails",
    "telemetry",
    "tools",
    "vector_stores",
];

/// Whether the setting `key` inside `trail` is planned.
pub(super) fn is_later(trail: &[String], key: &str) -> bool {
    LATER.iter().any(|path| {
        let mut words = path.split('.');
        let around = trail.iter().all(|step| words.next().is_some_and(|word| word == "*" || word == step));
        around && words.next() == Some(key) && words.next().is_none()
    })
}
