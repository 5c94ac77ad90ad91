//! What the schema cannot say: names that must exist, names that must be unique, things nobody uses.
//!
//! Works on the checked value and not on types, so that one wrong duration does not hide a missing provider.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};

use super::check::Checker;
use super::nearest;
use crate::Problem;
use crate::stores::{CHOICES, has_password};
use crate::text::{parse_duration, parse_size, parse_time};

/// Every problem between settings.
pub(super) fn check(value: &Value, path: &Path, checker: &Checker<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    models(value, &mut found);
    fallbacks(value, &mut found);
    aliases(value, &mut found);
    prices(value, &mut found);
    retentions(value, &mut found);
    keys(value, &mut found);
    server(value, &mut found);
    stores(value, &mut found);
    quotas(value, &mut found);
    if checker.env.world_readable(path) {
        for setting in checker.literal_secrets.iter().filter(|setting| !is_open(value, setting)) {
            found.push(
                Problem::warning(
                    setting,
                    "this secret stands in a file that everybody on this machine can read",
                )
                .with_hint(format!("take it from ${{NAME}} or file:PATH, or chmod 600 {}", path.display())),
            );
        }
    }
    found
}

fn map<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = (&'v String, &'v Value)> + Clone {
    value.get(key).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn word<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

fn models(value: &Value, found: &mut Vec<Problem>) {
    let providers: BTreeSet<&str> = map(value, "providers").map(|(name, _)| name.as_str()).collect();
    let mut used = BTreeSet::new();
    for (name, model) in map(value, "models") {
        let path = format!("models.{name}");
        if let Some(provider) = word(model, "provider") {
            used.insert(provider);
            found.extend(no_provider(format!("{path}.provider"), provider, &providers));
        }
        for (index, deployment) in list(model, "deployments").iter().enumerate() {
            let Some(provider) = word(deployment, "provider") else { continue };
            used.insert(provider);
            found.extend(no_provider(format!("{path}.deployments[{index}].provider"), provider, &providers));
        }
        found.extend(deployed(&path, model));
    }
    if let Some(provider) = value.get("relay").and_then(|relay| word(relay, "provider")) {
        used.insert(provider);
        found.extend(no_provider("relay.provider".to_owned(), provider, &providers));
    }
    for unused in providers.difference(&used) {
        found.push(
            Problem::warning(format!("providers.{unused}"), format!("no model uses the provider `{unused}`"))
                .with_hint(format!(
                    "add a model: NAME: {{provider: {unused}, model: …}}, or remove the provider"
                )),
        );
    }
    if map(value, "models").next().is_none() {
        found.push(
            Problem::warning(
                "models",
                "there is no model, so every request is answered with model_not_found",
            )
            .with_hint("add one: NAME: {provider: …, model: …}"),
        );
    }
}

/// A model is served by `provider` and `model`, or by `deployments`, never by both or neither.
fn deployed(path: &str, model: &Value) -> Option<Problem> {
    if !model.is_object() {
        return None;
    }
    let short = (word(model, "provider").is_some(), word(model, "model").is_some());
    let several = !list(model, "deployments").is_empty();
    let hint = "write `provider: NAME` and `model: NAME`, or several of them under `deployments`";
    match (short, several) {
        ((true, true), false) | ((false, false), true) => None,
        ((true, false), false) => {
            Some(Problem::error(format!("{path}.model"), "`model` is missing").with_hint(hint))
        }
        ((false, true), false) => {
            Some(Problem::error(format!("{path}.provider"), "`provider` is missing").with_hint(hint))
        }
        ((false, false), false) => Some(Problem::error(path, "nothing serves this model").with_hint(hint)),
        _ => Some(
            Problem::error(path, "`deployments` stands beside `provider` or `model`")
                .with_hint("move them into the list"),
        ),
    }
}

/// Fall-backs exist, are no patterns, and do not lead back.
fn fallbacks(value: &Value, found: &mut Vec<Problem>) {
    let names: BTreeSet<&str> = map(value, "models").map(|(name, _)| name.as_str()).collect();
    for (name, model) in map(value, "models") {
        for (index, fallback) in list(model, "fallbacks").iter().filter_map(Value::as_str).enumerate() {
            let path = format!("models.{name}.fallbacks[{index}]");
            if fallback == name {
                found.push(Problem::error(path, "a model cannot take over from itself"));
            } else if fallback.contains('*') {
                found.push(Problem::error(
                    path,
                    "a pattern cannot take over: nobody asked for a name that it fits",
                ));
            } else if !names.contains(fallback) {
                let problem = Problem::error(path, format!("there is no model `{fallback}`"));
                found.push(match nearest(fallback, names.iter().copied()) {
                    Some(near) => problem.with_hint(format!("did you mean `{near}`?")),
                    None => problem.with_hint("name one of `models`, not one of its aliases"),
                });
            }
        }
    }
}

/// The problem of a name that no provider has.
fn no_provider(path: String, provider: &str, providers: &BTreeSet<&str>) -> Option<Problem> {
    if providers.contains(provider) {
        return None;
    }
    let problem = Problem::error(path, format!("there is no provider `{provider}`"));
    let all = providers.iter().copied().collect::<Vec<_>>().join(", ");
    Some(match nearest(provider, providers.iter().copied()) {
        Some(near) => problem.with_hint(format!("did you mean `{near}`?")),
        None if all.is_empty() => problem.with_hint(format!("add `{provider}:` under `providers`")),
        None => problem.with_hint(format!("add it under `providers`, or use one of: {all}")),
    })
}

fn aliases(value: &Value, found: &mut Vec<Problem>) {
    let mut owners: BTreeMap<&str, &str> =
        map(value, "models").map(|(name, _)| (name.as_str(), name.as_str())).collect();
    for (name, model) in map(value, "models") {
        for (index, alias) in list(model, "aliases").iter().filter_map(Value::as_str).enumerate() {
            if let Some(owner) = owners.insert(alias, name) {
                found.push(Problem::error(
                    format!("models.{name}.aliases[{index}]"),
                    format!("the name `{alias}` already belongs to the model `{owner}`"),
                ));
            }
        }
    }
}

/// Each date once, and only one row without a date: it is the one from the beginning.
fn prices(value: &Value, found: &mut Vec<Problem>) {
    for (name, model) in map(value, "models") {
        let mut dates = BTreeMap::new();
        for (index, row) in list(model, "price").iter().enumerate() {
            let from = match word(row, "from") {
                None => None,
                Some(text) => match parse_time(text) {
                    Some(time) => Some(time),
                    None => continue,
                },
            };
            if let Some(first) = dates.insert(from, index) {
                found.push(
                    Problem::error(
                        format!("models.{name}.price[{index}]"),
                        format!("price[{first}] already holds from the same time on"),
                    )
                    .with_hint("give each price of a list another `from`, such as 2027-01-31"),
                );
            }
        }
    }
}

/// What is deleted at once was not kept.
fn retentions(value: &Value, found: &mut Vec<Problem>) {
    let none =
        |section: &Value| word(section, "retention").and_then(parse_duration).is_some_and(|d| d.is_zero());
    let zero = |path: String| Problem::error(path, "must be more than zero");
    if value.get("records").is_some_and(none) {
        found.push(zero("records.retention".to_owned()));
    }
    if value.get("ledger").is_some_and(none) {
        found.push(zero("ledger.retention".to_owned()));
    }
    if value.get("responses").is_some_and(none) {
        let hint = "to keep nothing, set `store: false`";
        found.push(zero("responses.retention".to_owned()).with_hint(hint));
    }
    let idempotency = |member| word(value.get("idempotency")?, member).and_then(parse_duration);
    crate::idempotency::check(idempotency("retention"), idempotency("lease"), found);
    for (name, team) in map(value, "teams") {
        if team.get("capture").is_some_and(none) {
            found.push(
                zero(format!("teams.{name}.capture.retention"))
                    .with_hint("to keep nothing, leave `content` off"),
            );
        }
    }
}

/// A provider's quota is counted, and no answer is cut for it.
fn quotas(value: &Value, found: &mut Vec<Problem>) {
    for (name, provider) in map(value, "providers") {
        if provider.pointer("/limits/max_output_tokens").is_some_and(|most| !most.is_null()) {
            let path = format!("providers.{name}.limits.max_output_tokens");
            let hint = "write `max_output_tokens` at the models that it serves, or in the limits of keys";
            found.push(Problem::error(path, "a provider bounds no single answer").with_hint(hint));
        }
    }
}

fn keys(value: &Value, found: &mut Vec<Problem>) {
    let aliases = map(value, "models").flat_map(|(_, m)| list(m, "aliases")).filter_map(Value::as_str);
    let models: BTreeSet<&str> = map(value, "models").map(|(name, _)| name.as_str()).chain(aliases).collect();
    let (mut names, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    for (index, key) in list(value, "keys").iter().enumerate() {
        if let Some(name) = word(key, "name")
            && let Some(first) = names.insert(name, index)
        {
            found.push(
                Problem::error(
                    format!("keys[{index}].name"),
                    format!("`{name}` is already the name of keys[{first}]"),
                )
                .with_cause("logs, metrics and revocation go by the name"),
            );
        }
        if let Some(secret) = word(key, "key") {
            let path = format!("keys[{index}].key");
            if let Some(first) = secrets.insert(secret, index) {
                found.push(Problem::error(path, format!("keys[{first}] has the same key")));
            } else if secret.chars().count() < 16 {
                found.push(
                    Problem::warning(path, "the key is shorter than 16 characters, so it can be guessed")
                        .with_hint("make a random one: openssl rand -base64 32"),
                );
            }
        }
        for (at, scope) in list(key, "scopes").iter().filter_map(Value::as_str).enumerate() {
            found.extend(
                scope_problem(scope).map(|p| Problem { path: format!("keys[{index}].scopes[{at}]"), ..p }),
            );
        }
        for (at, model) in list(key, "models").iter().filter_map(Value::as_str).enumerate() {
            if model.contains('*') || models.contains(model) {
                continue;
            }
            let problem =
                Problem::error(format!("keys[{index}].models[{at}]"), format!("there is no model `{model}`"));
            found.push(match nearest(model, models.iter().copied()) {
                Some(near) => problem.with_hint(format!("did you mean `{near}`?")),
                None => problem,
            });
        }
        if list(key, "scopes").is_empty() && key.is_object() {
            let name = word(key, "name").unwrap_or_default();
            found.push(
                Problem::warning(
                    format!("keys[{index}]"),
                    format!("the key `{name}` has no scope, so it may do nothing"),
                )
                .with_hint("add scopes: [\"chat:*\", \"embeddings:*\", \"models:*\"]"),
            );
        }
    }
}

/// `family:action[:name]`; the family is a word, action and name may be `*` or end with it.
fn scope_problem(scope: &str) -> Option<Problem> {
    let parts: Vec<&str> = scope.split(':').collect();
    let plain = |part: &str| {
        let body = part.strip_suffix('*').unwrap_or(part);
        !part.is_empty() && body.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
    };
    let shape = match parts.as_slice() {
        ["*"] => true,
        [family, action] => plain(family) && plain(action),
        // Names are model names and the like, which may hold points, slashes and, with some vendors, colons.
        [family, action, name @ ..] => plain(family) && plain(action) && name.iter().all(|n| plain(n)),
        _ => false,
    };
    (!shape).then(|| {
        Problem::error("", format!("`{}` is not a scope", scope.chars().take(60).collect::<String>()))
            .with_hint("write family:action or family:action:name, for example chat:*, chat:invoke:large, admin:keys")
    })
}

fn server(value: &Value, found: &mut Vec<Problem>) {
    let Some(server) = value.get("server") else { return };
    for name in ["header_timeout", "body_timeout", "write_timeout", "keep_alive"] {
        if word(server, name).and_then(parse_duration).is_some_and(|d| d.is_zero()) {
            found.push(Problem::error(format!("server.{name}"), "must be more than zero"));
        }
    }
    if word(server, "max_body").and_then(parse_size) == Some(0) {
        found.push(Problem::error("server.max_body", "must be more than zero"));
    }
    let listen = word(server, "listen").unwrap_or("127.0.0.1:8080");
    if word(server, "admin_listen").is_some_and(|admin| admin == listen && !admin.ends_with(":0")) {
        found.push(
            Problem::error("server.admin_listen", "this is the address of `server.listen`")
                .with_hint("give it another port, or remove it"),
        );
    }
}

fn stores(value: &Value, found: &mut Vec<Problem>) {
    for choice in CHOICES {
        let problem = at(value, choice.path).and_then(|text| choice.problem(text));
        found.extend(problem.map(|say| Problem::error(choice.path, say).with_hint(choice.hint())));
    }
}

/// Whether a setting that may hold a password has none.
fn is_open(value: &Value, setting: &str) -> bool {
    CHOICES.iter().any(|choice| choice.path == setting)
        && at(value, setting).is_some_and(|text| !has_password(text))
}

fn at<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    path.split('.').try_fold(value, |value, step| value.get(step)).and_then(Value::as_str)
}
