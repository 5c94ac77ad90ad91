//! A record as JSON: what the admin API answers, and what `penstock explain --json` prints.

use std::time::{Duration, SystemTime};

use penstock_domain::{Cost, Money, Usage};
use penstock_observe::store::{Status, Sums};
use penstock_observe::{Captured, Entry, Form};
use serde_json::{Map, Value, json};

/// One record, without what was captured of it. Times are RFC 3339 and milliseconds with three digits after the point.
pub fn record(entry: &Entry) -> Value {
    let record = &entry.record;
    let error = record.outcome.error();
    json!({
        "id": record.id.as_str(),
        "at": time(record.at),
        "ended": time(record.at + record.duration),
        "status": Status::of(&record.outcome).name(),
        "code": record.outcome.code(),
        "operation": record.task.map(penstock_domain::Task::name),
        "stream": record.stream,
        "dialect": record.dialect.map(penstock_domain::Dialect::name),
        "key": record.key,
        "team": record.team,
        "tags": record.tags.iter().map(|(name, value)| (name.to_owned(), value.into())).collect::<Map<_, _>>(),
        "asked": record.asked,
        "model": record.model,
        "provider": record.provider,
        "upstream_model": record.upstream_model,
        "version": record.version,
        "attempts": record.attempts,
        "tries": record.tries.iter().map(|one| json!({
            "provider": one.provider,
            "credential": one.credential,
            "model": one.model,
            "why": one.why,
            "code": one.code,
            "ms": millis(one.took),
            "tokens": one.usage.map(tokens),
            "estimated": one.estimated,
            "cost": cost(one.cost),
        })).collect::<Value>(),
        "considered": record.considered.iter().map(|one| json!({
            "provider": one.provider,
            "credential": one.credential,
            "model": one.model,
            "verdict": one.verdict,
        })).collect::<Value>(),
        "tokens": record.usage.map(tokens),
        "estimated": record.estimated,
        "cost": cost(record.cost),
        "finish": record.finish.map(penstock_domain::FinishReason::name),
        "ms": millis(record.duration),
        "first_token_ms": record.first_token.map(millis),
        "gaps": entry.pauses.map(|pauses| json!({
            "count": pauses.count,
            "sum_ms": millis(pauses.sum),
            "max_ms": millis(pauses.max),
            "p50_ms": millis(pauses.p50),
            "p99_ms": millis(pauses.p99),
        })),
        "stages": record.timings.iter().map(|(stage, took)| json!({
            "stage": stage.name(),
            "ms": millis(took),
        })).collect::<Value>(),
        "error": error.map(|error| json!({
            "code": error.code().name(),
            "message": error.say(),
            "stage": error.stage().map(penstock_domain::Stage::name),
            "param": error.param(),
            "docs": format!("/docs/errors/{}", error.code()),
        })),
    })
}

/// What was captured; bytes that are not UTF-8 are replaced.
pub(crate) fn content(content: &Captured) -> Value {
    let dialect = match content.form {
        Form::Text => None,
        Form::Body(dialect) | Form::Events(dialect) => Some(dialect.name()),
    };
    json!({
        "request": String::from_utf8_lossy(&content.request),
        "request_cut": content.request_cut,
        "answer": String::from_utf8_lossy(&content.answer),
        "answer_cut": content.answer_cut,
        "form": content.form.name(),
        "dialect": dialect,
    })
}

fn tokens(usage: Usage) -> Value {
    json!({
        "input": usage.input,
        "output": usage.output,
        "cached_input": usage.cached_input,
        "cache_write": usage.cache_write,
        "cache_write_hour": usage.cache_write_hour,
        "reasoning": usage.reasoning,
    })
}

fn cost(cost: Cost) -> Value {
    let state = match cost {
        Cost::None => "none",
        Cost::Known(_) => "known",
        Cost::Unknown => "unknown",
    };
    let known = cost.known();
    json!({
        "state": state,
        "micro_usd": known.map(Money::micros),
        "usd": known.map(|money| money.to_string()),
    })
}

/// Sums, with what is estimated and what nobody knows apart.
pub(crate) fn sums(sums: Sums) -> Map<String, Value> {
    let value = json!({
        "requests": sums.requests,
        "tokens": {
            "input": sums.input,
            "output": sums.output,
            "cached_input": sums.cached_input,
            "cache_write": sums.cache_write,
            "reasoning": sums.reasoning,
        },
        "estimated": {
            "requests": sums.estimated,
            "input": sums.estimated_input,
            "output": sums.estimated_output,
        },
        "cost": {"micro_usd": sums.cost, "usd": Money::from_micros(sums.cost).to_string()},
        "unknown_cost": {"requests": sums.unpriced},
    });
    if let Value::Object(object) = value { object } else { Map::new() }
}

/// RFC 3339 in UTC.
pub(crate) fn time(time: SystemTime) -> Option<String> {
    let stamp = jiff::Timestamp::try_from(time).ok()?;
    let exact = jiff::Unit::Microsecond;
    Some(stamp.round(exact).unwrap_or(stamp).to_string())
}

fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}
