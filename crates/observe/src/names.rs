//! Every metric name, once.
//!
//! Names with the prefix `gen_ai_` follow the OpenTelemetry semantic conventions for generative AI (status: development),
//! spelled for Prometheus: dots become underscores, the unit is appended. The others are ours. Raw names anywhere else
//! are a defect.

/// Seconds from the request's arrival to the last byte of its answer.
pub const REQUEST_DURATION: &str = "gen_ai_server_request_duration_seconds";
/// Seconds from the request's arrival to the first content of its answer.
pub const TIME_TO_FIRST_TOKEN: &str = "gen_ai_server_time_to_first_token_seconds";
/// Seconds per output token after the first.
pub const TIME_PER_OUTPUT_TOKEN: &str = "gen_ai_server_time_per_output_token_seconds";
/// Tokens per request, by `gen_ai_token_type`.
pub const TOKEN_USAGE: &str = "gen_ai_client_token_usage";
/// Requests ended, by operation, model, provider and code (`ok`, `cancelled` or an error code).
pub const REQUESTS: &str = "penstock_requests";
/// Requests between arrival and settlement.
pub const IN_FLIGHT: &str = "penstock_requests_in_flight";
/// Seconds spent in each stage, by stage.
pub const STAGE_DURATION: &str = "penstock_stage_duration_seconds";
/// Calls made to providers, by provider.
pub const UPSTREAM_CALLS: &str = "penstock_upstream_calls";
/// Calls made to providers, by provider, reason (`first`, `retry`, `failover`, `hedge`, `probe`, `panic`, `resume`) and code
/// (`ok`, `cancelled` or an error code).
pub const ATTEMPTS: &str = "penstock_attempts";
/// Requests that another candidate took over before anything was shown, by the provider that failed.
pub const FAILOVERS: &str = "penstock_failovers";
/// Second calls beside a slow one, by outcome: `won`, `lost` or `failed`.
pub const HEDGES: &str = "penstock_hedges";
/// Broken answers that another candidate was to continue, by outcome: `continued` or `failed`.
pub const RESUMES: &str = "penstock_resumes";
/// 1 for the state that a target is in (`healthy`, `ejected`, `returning`, `cooling` or `retired`), by provider, credential,
/// model and state.
pub const TARGET_STATE: &str = "penstock_target_state";
/// How often targets were ejected, by provider.
pub const EJECTIONS: &str = "penstock_ejections";
/// What answers cost in USD, by model and provider; requests without a known price are not in it.
pub const COST: &str = "penstock_cost_usd";
/// Requests that reached a provider and have no known price, by model and provider.
pub const UNPRICED: &str = "penstock_unpriced_requests";
/// Requests whose tokens were estimated, because the provider did not count them or contradicts itself, by model and
/// provider.
pub const ESTIMATED: &str = "penstock_estimated_usage";
/// 1 when a provider can be called, else 0, by provider.
pub const PROVIDER_UP: &str = "penstock_provider_up";
/// Configuration reloads, by outcome.
pub const RELOADS: &str = "penstock_config_reloads";
/// Responses that were to be stored, by outcome.
pub const RESPONSES: &str = "penstock_responses";
/// Requests that wait for a provider that has its hands full, by provider and class (`interactive`, `standard`, `batch`).
pub const QUEUE_WAITING: &str = "penstock_queue_waiting";
/// Seconds that requests waited for a provider, by class and outcome (`served` or `refused`).
pub const QUEUE_WAIT: &str = "penstock_queue_wait_seconds";
/// 1 while what gateways share can be reached.
pub const SHARED_UP: &str = "penstock_shared_up";
/// Gateways that lived when this one last looked, itself included.
pub const SHARED_GATEWAYS: &str = "penstock_shared_gateways";
/// Requests for which the other gateways were to be asked, by outcome (`held`, `refused`, `failed` or `alone`: admitted without
/// asking).
pub const SHARED_REQUESTS: &str = "penstock_shared_requests";
/// What is spent of a budget in USD, by level (`team`, `organisation`, `model`, `provider`) and name.
pub const BUDGET_SPENT: &str = "penstock_budget_spent_usd";
/// A budget in USD, by the same.
pub const BUDGET_LIMIT: &str = "penstock_budget_limit_usd";
/// Ends of requests that wait in memory to be written to the ledger.
pub const LEDGER_WAITING: &str = "penstock_ledger_waiting";
/// Reservations that were given back whole.
pub const LEDGER_REFUNDS: &str = "penstock_ledger_refunds";
/// Reservations that a process had left open and that were settled as estimated at the start.
pub const LEDGER_ORPHANS: &str = "penstock_ledger_orphans";
/// Deliveries of events to webhooks, by outcome: `delivered`, `failed` (an attempt), `dead` (given up) or `dropped`.
pub const WEBHOOKS: &str = "penstock_webhook_deliveries";
/// Records that were dropped because the queue was full.
pub const RECORDS_DROPPED: &str = "penstock_records_dropped";
/// Records that wait in memory because the store does not take them.
pub const RECORDS_WAITING: &str = "penstock_records_waiting";
/// Records that were counted but never stored, because the store failed for too long.
pub const RECORDS_LOST: &str = "penstock_records_lost";
/// Records that were stored without their captured content, because too much of it was waiting.
pub const CONTENT_DROPPED: &str = "penstock_record_content_dropped";
/// Constant 1, with the version as label.
pub const BUILD_INFO: &str = "penstock_build";
