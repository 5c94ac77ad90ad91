//! What was spent, by the ledger; and what may still be spent.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{StatusCode, Uri};
use penstock_admission::{Allowance, Gauge, Level, Need, Standing};
use penstock_domain::Money;
use penstock_identity::KeyRecord;
use penstock_observe::store::{Group, Hours, Report};
use serde_json::{Map, Value, json};

use crate::keys::Answer;
use crate::problem::Refusal;
use crate::query::Parameters;
use crate::{Parts, record, usage};

/// The columns of the export.
const COLUMNS: &str = "group,requests,input_tokens,output_tokens,cached_input_tokens,cache_write_tokens,reasoning_tokens,\
     estimated_requests,cost_usd,requests_of_unknown_cost\r\n";

/// Sums over whole hours, as JSON or as a table for spreadsheets.
pub(crate) async fn spend(parts: &Parts, uri: &Uri) -> Result<Response, Refusal> {
    let mut parameters = Parameters::new(uri, (parts.now)())?;
    let format = parameters.read("format", "json or csv", |text| match text {
        "json" => Some(false),
        "csv" => Some(true),
        _ => None,
    });
    let (by, hours) = usage::asked(parameters, parts, ("from", "to"))?;
    let report = parts.view.spending().spend(&by, hours).await?;
    if format != Some(true) {
        let body = usage::body(parts, &by, hours, &report).to_string();
        return Ok(answer("application/json", body).into_response());
    }
    let mut response = answer("text/csv; charset=utf-8", csv(&report)).into_response();
    let name = http::HeaderValue::from_static("attachment; filename=\"spend.csv\"");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    Ok(response)
}

fn answer(media: &'static str, body: String) -> impl IntoResponse {
    (StatusCode::OK, [(CONTENT_TYPE, media), (CACHE_CONTROL, "no-store")], Body::from(body))
}

/// A report as RFC 4180 has it, with a line of headings and a last line for the total.
pub fn csv(report: &Report) -> String {
    let mut out = COLUMNS.to_owned();
    let group = |group: &Group| match group {
        Group::None => String::new(),
        Group::Named(name) => field(name),
        Group::Hour(hour) => record::time(Hours::begins(*hour)).unwrap_or_default(),
    };
    let rows = report.rows.iter().map(|(name, sums)| (group(name), *sums));
    for (name, sums) in rows.chain([("total".to_owned(), report.total)]) {
        let cost = Money::from_micros(sums.cost);
        let numbers = [
            sums.requests,
            sums.input,
            sums.output,
            sums.cached_input,
            sums.cache_write,
            sums.reasoning,
            sums.estimated,
        ];
        let numbers = numbers.map(|number| number.to_string()).join(",");
        out.push_str(&format!("{name},{numbers},{cost},{}\r\n", sums.unpriced));
    }
    out
}

/// A text in quotes. Askers choose labels: one that a spreadsheet would take for a formula is told from it by an apostrophe.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    format!("\"{}{}\"", if formula { "'" } else { "" }, text.replace('"', "\"\""))
}

/// Every account that has limits, a budget, or has spent something.
pub(crate) fn budgets(parts: &Parts) -> Answer {
    let mut standings = parts.view.standings();
    // A key that has not asked for anything yet has no account.
    for key in parts.keys.list() {
        let own = Allowance { limits: key.limits, budget: key.budget };
        let known = standings.iter_mut().find(|one| one.level == Level::Key && &*one.name == key.id.as_str());
        match known {
            Some(one) if one.allowance == Allowance::default() => one.allow(own),
            Some(_) => {}
            None if own != Allowance::default() && key.revoked.is_none() => standings.push(fresh(&key, own)),
            None => {}
        }
    }
    let data: Vec<Value> = standings.iter().map(|one| row(parts, one)).collect();
    Ok((StatusCode::OK, json!({"data": data})))
}

fn fresh(key: &KeyRecord, own: Allowance) -> Standing {
    let mut standing = Standing::new(Level::Key, key.id.shared());
    standing.allow(own);
    standing
}

pub(crate) fn row(parts: &Parts, one: &Standing) -> Value {
    let micros = |micros: u64| json!({"micro_usd": micros, "usd": Money::from_micros(micros).to_string()});
    let Need { input, output, micros: held } = one.held;
    let name = match one.level {
        Level::Key => usage::key_name(parts, &one.name),
        Level::Organisation => None,
        Level::Team | Level::Model | Level::Provider => Some(one.name.to_string()),
    };
    json!({
        "level": one.level.name(),
        "id": (one.level == Level::Key).then_some(&*one.name),
        "name": name,
        "budget": one.allowance.budget,
        "spent": {
            "day": micros(one.spent.day),
            "month": micros(one.spent.month),
            "lifetime": micros(one.spent.lifetime),
        },
        "held": {"input_tokens": input, "output_tokens": output, "cost": micros(held)},
        "left": one.left.map(micros),
        "renewed": one.renewed.and_then(record::time),
        "limits": one.allowance.limits,
        "rates": rates(one),
        "in_flight": one.in_flight,
    })
}

fn rates(one: &Standing) -> Value {
    let rows = [
        ("requests", one.rate.requests),
        ("tokens", one.rate.tokens),
        ("input_tokens", one.rate.input),
        ("output_tokens", one.rate.output),
    ];
    let gauge = |gauge: Gauge| {
        let reset = gauge.reset.as_micros() as f64 / 1_000.0;
        json!({"limit": gauge.limit, "remaining": gauge.remaining, "reset_ms": reset})
    };
    let known = rows.into_iter().filter_map(|(name, one)| one.map(|one| (name.to_owned(), gauge(one))));
    Value::Object(known.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use penstock_observe::store::Sums;

    use super::*;

    #[test]
    fn a_label_cannot_become_a_formula_or_another_column() {
        let sums =
            Sums { requests: 2, input: 30, output: 5, cost: 1_234_567, unpriced: 1, ..Sums::default() };
        let named = |name: &str| Group::Named(name.into());
        let rows = vec![
            (named("=cmd()"), sums),
            (named("a\",\"b"), sums),
            (Group::None, sums),
            (Group::Hour(0), sums),
        ];
        let text = csv(&Report { rows, total: sums });
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines[1], "\"'=cmd()\",2,30,5,0,0,0,0,1.234567,1");
        assert!(lines[2].starts_with("\"a\"\",\"\"b\",2,"), "{}", lines[2]);
        assert!(lines[3].starts_with(",2,") && lines[4].starts_with("1970-01-01T00:00:00Z,2,"));
        assert_eq!(lines[5], "total,2,30,5,0,0,0,0,1.234567,1");
        assert_eq!(lines[0].split(',').count(), lines[5].split(',').count());
    }
}
