//! What the key routes do.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::Uri;
use http::StatusCode;
use penstock_config::{DurationText, TimeText};
use penstock_domain::{Code, Error};
use penstock_identity::{
    Caller, Denial, KeyRecord, KeyRequest, KeySource, Limits, Minted, OwnerKind, ScopeSet,
};
use serde_json::{Map, Value, json};

use crate::fields::Fields;
use crate::problem::Refusal;
use crate::query::Parameters;
use crate::{Parts, audit};

/// A status and its JSON body.
pub(crate) type Answer = Result<(StatusCode, Value), Refusal>;

const PAGE: usize = 50;
const MAX_PAGE: usize = 200;

/// Keys in the order of their ids, revoked ones included; all of them, or those of an owner or a team.
pub(crate) fn list(parts: &Parts, uri: &Uri) -> Answer {
    let mut parameters = Parameters::new(uri, (parts.now)())?;
    let limit = parameters.read("limit", "a number from 1 to 200", |text| {
        text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit))
    });
    let after = parameters.text("after");
    let wanted = Wanted {
        owner: parameters.text("owner"),
        kind: parameters.read("kind", "user or service", OwnerKind::parse),
        team: parameters.text("team"),
    };
    parameters.finish()?;
    let mut records = parts.keys.list();
    records.retain(|record| wanted.is(record));
    records.sort_by(|a, b| a.id.cmp(&b.id));
    let begin = records.partition_point(|record| after.as_deref().is_some_and(|id| record.id.as_str() <= id));
    let rest = &records[begin..];
    let shown = &rest[..rest.len().min(limit.unwrap_or(PAGE))];
    let has_more = shown.len() < rest.len();
    let next = shown.last().filter(|_| has_more).map(|record| record.id.as_str());
    let now = (parts.now)();
    let data: Vec<Value> = shown.iter().map(|record| show(record, now)).collect();
    Ok((StatusCode::OK, json!({"data": data, "has_more": has_more, "next": next})))
}

/// Which keys are meant; what is missing is any.
#[derive(Default)]
struct Wanted {
    owner: Option<Box<str>>,
    kind: Option<OwnerKind>,
    team: Option<Box<str>>,
}

impl Wanted {
    fn is(&self, record: &KeyRecord) -> bool {
        let owner = record.owner.as_ref();
        self.owner.as_deref().is_none_or(|name| owner.is_some_and(|owner| &*owner.name == name))
            && self.kind.is_none_or(|kind| owner.is_some_and(|owner| owner.kind == kind))
            && self.team.as_deref().is_none_or(|team| record.team.as_deref() == Some(team))
    }
}

pub(crate) fn get(parts: &Parts, id: &str) -> Answer {
    let record = parts.keys.get(id)?;
    Ok((StatusCode::OK, show(&record, (parts.now)())))
}

pub(crate) async fn create(parts: &Parts, caller: &Caller, body: Map<String, Value>) -> Answer {
    let now = (parts.now)();
    let (mut wish, fields) = read_wish(body);
    wish.created_by = Some(caller.key_id.clone());
    let (new, mut flaws) = match wish.check(now) {
        Ok(new) => (Some(new), Vec::new()),
        Err(flaws) => (None, flaws),
    };
    // What could not be read is noted already: the check would only repeat it.
    flaws.retain(|flaw| fields.sound(&flaw.member));
    flaws.extend(fields.finish());
    let new = match new {
        Some(new) if flaws.is_empty() => new,
        _ => return Err(flaws.into()),
    };
    hold_back(parts, caller, new.scopes())?;
    let minted = parts.keys.create(new, now).await?;
    audit::note(parts, ("key.create", caller), None, &minted.record).await?;
    Ok((StatusCode::CREATED, show_minted(&minted, now)))
}

fn read_wish(body: Map<String, Value>) -> (KeyRequest, Fields) {
    let mut fields = Fields::new(body, "");
    let wish = KeyRequest {
        name: fields.need("name", "a text").unwrap_or_default(),
        team: fields.take("team", "a text"),
        owner: fields.take("owner", "a text"),
        kind: fields.take("kind", "user or service"),
        scopes: fields.need("scopes", "a list of texts such as [\"chat:*\"]").unwrap_or_default(),
        models: fields.take("models", "a list of texts, or null for every model"),
        limits: Limits::default(),
        budget: fields.take("budget", "an object such as {\"usd\": 5, \"per\": \"day\"}"),
        expires: fields
            .take::<TimeText>("expires", "a time such as \"2027-01-31T12:00:00Z\"")
            .map(|time| time.0),
        allow_ips: fields
            .take("allow_ips", "a list of addresses or ranges such as [\"10.0.0.0/8\"]")
            .unwrap_or_default(),
        priority: fields.take("priority", "interactive, standard or batch"),
        created_by: None,
    };
    let limits = fields.take("limits", "an object").map(|object| read_limits(object, &mut fields));
    (KeyRequest { limits: limits.unwrap_or_default(), ..wish }, fields)
}

fn read_limits(object: Map<String, Value>, outer: &mut Fields) -> Limits {
    let mut fields = Fields::new(object, "limits");
    let small = "a whole number from 1 to 4294967295";
    let large = "a whole number from 1 to 18446744073709551615";
    let limits = Limits {
        requests_per_minute: fields.take("requests_per_minute", small),
        requests_per_hour: fields.take("requests_per_hour", small),
        requests_per_day: fields.take("requests_per_day", small),
        tokens_per_minute: fields.take("tokens_per_minute", large),
        tokens_per_hour: fields.take("tokens_per_hour", large),
        tokens_per_day: fields.take("tokens_per_day", large),
        input_tokens_per_minute: fields.take("input_tokens_per_minute", large),
        input_tokens_per_hour: fields.take("input_tokens_per_hour", large),
        input_tokens_per_day: fields.take("input_tokens_per_day", large),
        output_tokens_per_minute: fields.take("output_tokens_per_minute", large),
        output_tokens_per_hour: fields.take("output_tokens_per_hour", large),
        output_tokens_per_day: fields.take("output_tokens_per_day", large),
        concurrent_requests: fields.take("concurrent_requests", small),
        max_output_tokens: fields.take("max_output_tokens", small),
    };
    for flaw in fields.finish() {
        outer.flaw(&flaw.member, flaw.say);
    }
    limits
}

pub(crate) async fn rotate(parts: &Parts, caller: &Caller, id: &str, body: Map<String, Value>) -> Answer {
    let mut fields = Fields::new(body, "");
    let overlap = fields.take::<DurationText>("overlap", "a duration such as \"24h\"");
    let flaws = fields.finish();
    if !flaws.is_empty() {
        return Err(flaws.into());
    }
    // Whoever rotates a key learns its new text: that must not be a way to more rights.
    let before = parts.keys.get(id)?;
    hold_back(parts, caller, &before.scopes)?;
    let now = (parts.now)();
    let minted = parts.keys.rotate(id, overlap.map_or_else(Default::default, |text| text.0), now).await?;
    audit::note(parts, ("key.rotate", caller), Some(&before), &minted.record).await?;
    Ok((StatusCode::OK, show_minted(&minted, now)))
}

pub(crate) async fn revoke(parts: &Parts, caller: &Caller, id: &str) -> Answer {
    let now = (parts.now)();
    let before = parts.keys.get(id).ok();
    let record = parts.keys.revoke(id, now).await?;
    audit::note(parts, ("key.revoke", caller), before.as_deref(), &record).await?;
    Ok((StatusCode::OK, show(&record, now)))
}

/// Ends every key of an owner or of a team, one after the other, each with its row in the audit log. Whoever is interrupted
/// asks again: what is revoked stays so.
pub(crate) async fn revoke_all(parts: &Parts, caller: &Caller, body: Map<String, Value>) -> Answer {
    let mut fields = Fields::new(body, "");
    let kind: Option<String> = fields.take("kind", "user or service");
    let wanted = Wanted {
        owner: fields.take("owner", "a text"),
        kind: kind.as_deref().and_then(OwnerKind::parse),
        team: fields.take("team", "a text"),
    };
    if kind.is_some() && wanted.kind.is_none() {
        fields.flaw("kind", "expected user or service".to_owned());
    }
    if wanted.owner.is_none() && wanted.team.is_none() {
        fields.flaw("owner", "say whose keys: owner, team, or both".to_owned());
    }
    let flaws = fields.finish();
    if !flaws.is_empty() {
        return Err(flaws.into());
    }
    let now = (parts.now)();
    parts.keys.refresh().await?;
    let mut data = Vec::new();
    for before in parts.keys.in_force(|record| wanted.is(record)) {
        let record = parts.keys.revoke(before.id.as_str(), now).await?;
        audit::note(parts, ("key.revoke", caller), Some(&before), &record).await?;
        data.push(show(&record, now));
    }
    Ok((StatusCode::OK, json!({"data": data, "has_more": false, "next": null})))
}

/// Refuses to hand out admin rights that the caller does not hold.
fn hold_back(parts: &Parts, caller: &Caller, scopes: &ScopeSet) -> Result<(), Error> {
    match caller.scopes.admin_beyond(scopes) {
        None => Ok(()),
        Some(scope) => {
            let code = Code::InsufficientScope;
            parts.denials.note(Denial {
                code,
                caller: Some(caller.key_id.shared()),
                what: "more rights than held",
            });
            let say = format!("this key does not hold {scope} and so cannot hand it out");
            Err(Error::new(code, say).with_param("scopes"))
        }
    }
}

fn show_minted(minted: &Minted, now: SystemTime) -> Value {
    let mut shown = show(&minted.record, now);
    shown["key"] = minted.key.expose().into();
    shown
}

/// A time as it is shown.
pub(crate) fn stamp(time: SystemTime) -> Option<String> {
    jiff::Timestamp::try_from(time).map(|stamp| stamp.to_string()).ok()
}

pub(crate) fn show(record: &KeyRecord, now: SystemTime) -> Value {
    let time = stamp;
    let previous = record.previous.as_ref().filter(|previous| previous.until > now);
    json!({
        "id": record.id.as_str(),
        "name": record.name,
        "team": record.team,
        "owner": record.owner.as_ref().map(|owner| &*owner.name),
        "kind": record.owner.as_ref().map(|owner| owner.kind.name()),
        "state": record.state(now),
        "source": record.source.name(),
        "prefix": record.prefix,
        "last_four": record.last_four,
        "scopes": record.scopes.to_vec(),
        "models": record.models.patterns(),
        "limits": record.limits,
        "allow_ips": record.allow_ips,
        "priority": record.priority.map(penstock_domain::Priority::name),
        "budget": record.budget,
        "created": (record.source == KeySource::Database && record.created > UNIX_EPOCH).then(|| time(record.created)).flatten(),
        "created_by": record.created_by.as_ref().map(|id| id.as_str()),
        "expires": record.expires.and_then(time),
        "revoked": record.revoked.and_then(time),
        "rotated": record.rotated.and_then(time),
        "previous": previous.map(|previous| json!({"last_four": previous.last_four, "until": time(previous.until)})),
    })
}
