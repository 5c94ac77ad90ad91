use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use penstock_admission::{Allowance, Level};
use penstock_domain::{Code, RequestId, Secret};
use penstock_idempotency::{Idempotency, MemoryAnswers};
use penstock_identity::{KeyRecord, KeyRequest, KeyStore, Listing, MemoryAudit, Minted, Needs, Pepper};
use penstock_identity::{SessionStore, TeamStore};
use penstock_observe::store::MemoryRecords;
use penstock_observe::{Metrics, Sink, Tally};
use serde_json::json;
use tower::ServiceExt;

use super::*;
use people::{Nobody, Shelf, session};

mod deliveries;
mod once;
mod people;
mod records;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

struct Shown;

impl View for Shown {
    fn kinds(&self) -> Value {
        json!({"providers": {"mock": {"schema": {"type": "object"}}}})
    }

    fn providers(&self, _: Option<&str>) -> Vec<ProviderRow> {
        let row = |name: &str, status, reason: Option<&str>| ProviderRow {
            name: name.into(),
            kind: "mock".into(),
            status,
            targets: Vec::new(),
            reason: reason.map(str::to_owned),
        };
        vec![row("a", "ready", None), row("b", "unavailable", Some("no model file"))]
    }

    fn config(&self) -> Value {
        json!({"server": {"listen": "127.0.0.1:8080"}})
    }

    fn standings(&self) -> Vec<Standing> {
        let mut organisation = Standing::new(Level::Organisation, "".into());
        let budget = serde_json::from_value(json!({"usd": 5, "per": "day"})).expect("a budget");
        organisation.spent.day = 1_500_000;
        organisation.allow(Allowance { budget: Some(budget), ..Allowance::default() });
        vec![organisation]
    }

    fn spending(&self) -> Arc<dyn Spending> {
        Arc::new(MemoryRecords::default())
    }
}

struct House {
    router: axum::Router,
    records: Arc<MemoryRecords>,
    audit: Arc<MemoryAudit>,
    denials: Arc<Denials>,
    /// Where requests end.
    sink: Arc<Sink>,
    tally: Mutex<Option<Tally>>,
    tail: Tail,
    keys: Arc<Keys>,
    teams: Arc<Teams>,
    people: Arc<Nobody>,
    shelf: Arc<Shelf>,
}

impl House {
    fn new() -> Self {
        let state = Mutex::new(Listing { revision: 1, keys: Vec::new() });
        let shelf = Arc::new(Shelf { state, broken: AtomicBool::new(false) });
        let keys = Arc::new(Keys::new(Arc::clone(&shelf) as Arc<dyn KeyStore>, Pepper::new([5; 32])));
        let ring = keys.ring();
        let authorize: Authorize = Arc::new(move |credential, scope, object| {
            let caller = ring.authenticate(credential, now())?;
            let allowed = caller.scopes.allows(scope, object);
            let missing = || Error::new(Code::InsufficientScope, format!("this key lacks the scope {scope}"));
            if allowed { Ok(caller) } else { Err(missing()) }
        });
        let records = Arc::new(MemoryRecords::default());
        let (sink, tally) = Sink::new(Arc::new(Metrics::new("1.2.3")));
        let tally = tally.keeping(Arc::clone(&records) as Arc<dyn RecordStore>);
        let tail = tally.tail();
        let (audit, denials) = (Arc::<MemoryAudit>::default(), Arc::<Denials>::default());
        let people = Arc::<Nobody>::default();
        let teams = Arc::new(Teams::new(Arc::clone(&people) as Arc<dyn TeamStore>));
        let parts = Parts {
            keys: Arc::clone(&keys),
            teams: Arc::clone(&teams),
            sessions: Arc::new(Sessions::new(Arc::clone(&people) as Arc<dyn SessionStore>, keys.ring())),
            records: Arc::clone(&records) as Arc<dyn RecordStore>,
            tail: tail.clone(),
            audit: Arc::clone(&audit) as Arc<dyn AuditLog>,
            alerts: Arc::new(deliveries::alerts()),
            denials: Arc::clone(&denials),
            idempotency: Arc::new(Idempotency::new(
                Arc::new(MemoryAnswers::default()),
                &[7; 32],
                penstock_idempotency::Policy::default(),
            )),
            authorize,
            view: Arc::new(Shown),
            now,
        };
        Self {
            router: router(parts),
            keys,
            teams,
            people,
            shelf,
            records,
            audit,
            denials,
            sink,
            tally: Mutex::new(Some(tally)),
            tail,
        }
    }

    async fn mint(&self, name: &str, scopes: &[&str]) -> Minted {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let wish = KeyRequest { name: name.into(), scopes, ..KeyRequest::default() };
        self.keys.create(wish.check(now()).unwrap(), now()).await.unwrap()
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, http::HeaderMap, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn ask(&self, key: &Secret, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-api-key", key.expose())
            .header("content-type", "application/json")
            .body(body)
            .unwrap();
        let (status, _, body) = self.send(request).await;
        (status, body)
    }
}

fn members(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|error| error["param"].as_str().unwrap()).collect()
}

/// Puts every kind of object of the id where the routes look for it; says the path of the one that the route asks for.
async fn furnish(house: &House, operation: &str, (path, id): (&str, &str)) -> String {
    let delivery = deliveries::known();
    let object = match operation {
        "reinstateProvider" => "b",
        "redeliverWebhook" => &*delivery,
        _ => id,
    };
    let team = penstock_identity::read_team(object, "{}").unwrap();
    house.teams.create(object, team, now()).await.unwrap();
    house.people.sessions.lock().unwrap().push(session(object));
    house.records.append(&[records::record(id)]).await.unwrap();
    path.replace("{id}", object).replace("{name}", object)
}

#[tokio::test]
async fn every_route_refuses_no_key_a_wrong_key_and_a_wrong_scope_and_takes_the_right_one() {
    let house = House::new();
    let data = house.mint("data", &["chat:*", "embeddings:*", "models:*"]).await;
    for (index, route) in ROUTES.iter().enumerate() {
        let Needs::Scope(scope) = route.needs else {
            // People have nothing to show before they have signed in.
            assert!(["/admin/login", "/admin/callback", "/admin/backchannel-logout"].contains(&route.path));
            continue;
        };
        let others = ["admin:keys", "admin:read", "admin:operate", "admin:content", "admin:audit"]
            .into_iter()
            .filter(|other| *other != scope.to_string());
        let other = house.mint(&format!("other{index}"), &others.collect::<Vec<_>>()).await;
        let narrow = house.mint(&format!("narrow{index}"), &[&format!("{scope}:one-object")]).await;
        let right = house.mint(&format!("right{index}"), &[&scope.to_string()]).await;
        let target = house.mint(&format!("target{index}"), &["chat:*"]).await;
        let path = furnish(&house, route.operation.id, (route.path, target.record.id.as_str())).await;
        if route.operation.id == "tailRequests" {
            // Otherwise the answer would never end.
            house.tail.close();
        }
        let call = async |headers: &[(&str, &str)]| {
            let mut request = Request::builder().method(route.method.name()).uri(&path);
            request.extensions_mut().unwrap().insert(RequestId::new("req_test"));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let body = match route.operation.request {
                "KeyRequest" => json!({"name": format!("made{index}"), "scopes": ["chat:*"]}),
                "TeamRequest" => json!({"name": format!("made{index}")}),
                "RevokeRequest" => json!({"owner": "nobody"}),
                _ => Value::Null,
            };
            let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
            house.send(request.header("content-type", "application/json").body(body).unwrap()).await
        };
        let (right, target) = (right.key.expose(), target.key.expose());
        let refused = [
            (&[][..], 401, "missing_api_key"),
            (&[("x-api-key", "no-such-key-anywhere")], 401, "invalid_api_key"),
            (&[("authorization", "Basic YTpi")], 401, "invalid_api_key"),
            (&[("x-api-key", right), ("api-key", target)], 401, "conflicting_credentials"),
            (&[("x-api-key", data.key.expose())], 403, "insufficient_scope"),
            (&[("x-api-key", other.key.expose())], 403, "insufficient_scope"),
            (&[("x-api-key", narrow.key.expose())], 403, "insufficient_scope"),
        ];
        for (headers, status, code) in refused {
            let (found, heads, problem) = call(headers).await;
            let what = format!("{} {}: {code}", route.method.name(), route.path);
            assert_eq!((found.as_u16(), problem["code"].as_str()), (status, Some(code)), "{what}");
            assert_eq!(heads["content-type"], "application/problem+json", "{what}");
            assert_eq!(problem["status"], status, "{what}");
            assert_eq!(problem["instance"], "req_test", "{what}");
            assert_eq!(problem["type"], format!("/docs/errors/{code}"), "{what}");
            assert!(problem["title"].is_string() && problem["detail"].is_string(), "{what}");
            assert_eq!(heads.contains_key("www-authenticate"), status == 401, "{what}");
        }
        let (found, heads, body) = call(&[("x-api-key", right)]).await;
        if route.operation.id == "tailRequests" {
            assert_eq!(body["code"], "server_shutdown");
            continue;
        }
        if route.operation.id == "signOut" {
            assert_eq!(
                (found.as_u16(), body["code"].as_str()),
                (400, Some("invalid_request")),
                "a key has no session"
            );
            continue;
        }
        assert!(found.is_success(), "{} {}: {found} {body}", route.method.name(), route.path);
        let promised: Vec<u16> = route.operation.replies.iter().map(|reply| reply.status).collect();
        assert!(promised.contains(&found.as_u16()), "{}: {found} is not in the table", route.path);
        assert_eq!(heads["cache-control"], "no-store");
    }
}

#[test]
fn the_table_names_each_route_once_and_only_schemas_that_exist() {
    let schemas = components();
    let mut seen = std::collections::HashSet::new();
    for route in ROUTES {
        assert!(
            seen.insert((route.method, route.path)) && seen.len() <= ROUTES.len(),
            "{} twice",
            route.path
        );
        let named = route.operation.replies.iter().map(|reply| reply.schema).chain([route.operation.request]);
        for name in named.filter(|name| !name.is_empty()) {
            assert!(schemas.contains_key(name), "{name} is not a component");
        }
        let browser = ["/admin/login", "/admin/callback", "/admin/logout", "/admin/backchannel-logout"];
        assert!(route.path.starts_with("/admin/v1/") || browser.contains(&route.path));
    }
    let text = Value::Object(schemas.clone()).to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is referred to and is not there");
    }
}

#[tokio::test]
async fn odd_spellings_of_a_path_reach_nothing() {
    let house = House::new();
    let admin = house.mint("admin", &["*"]).await;
    for path in [
        "/admin/v1/keys/",
        "//admin/v1/keys",
        "/admin/v1//keys",
        "/admin/v1/Keys",
        "/admin/v1/keys/a/b",
        "/admin",
    ] {
        let (status, problem) = house.ask(&admin.key, "GET", path, Value::Null).await;
        assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("route_not_found")), "{path}");
    }
    let (status, problem) = house.ask(&admin.key, "PUT", "/admin/v1/keys", Value::Null).await;
    assert_eq!((status.as_u16(), &problem["code"]), (405, &json!("method_not_allowed")));
    for id in ["nobody", "..%2f..%2fconfig", "%00", "key_' OR 1=1 --".replace(' ', "%20").as_str()] {
        let (status, problem) =
            house.ask(&admin.key, "GET", &format!("/admin/v1/keys/{id}"), Value::Null).await;
        assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("not_found")), "{id}");
    }
}

#[tokio::test]
async fn a_key_lives_from_creation_to_revocation_and_its_text_is_shown_once_each() {
    let house = House::new();
    let admin = house.mint("admin", &["admin:keys"]).await;
    let wish = json!({
        "name": "ci", "team": "support", "scopes": ["chat:*"], "models": ["small", "gpt-*"],
        "limits": {"requests_per_minute": 60}, "expires": "2030-01-31T12:00:00Z",
    });
    let (status, made) = house.ask(&admin.key, "POST", "/admin/v1/keys", wish).await;
    assert_eq!(status, 201, "{made}");
    let key = made["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("pk_live_") && key.ends_with(made["last_four"].as_str().unwrap()));
    assert_eq!(made["created_by"], admin.record.id.as_str());
    assert_eq!(made["expires"], "2030-01-31T12:00:00Z");
    assert_eq!(made["limits"], json!({"requests_per_minute": 60, "concurrent_requests": null}));
    let path = format!("/admin/v1/keys/{}", made["id"].as_str().unwrap());
    let (_, shown) = house.ask(&admin.key, "GET", &path, Value::Null).await;
    let mut without = made.clone();
    without.as_object_mut().unwrap().remove("key");
    assert_eq!(shown, without, "the same key, without its text");
    let (status, rotated) =
        house.ask(&admin.key, "POST", &format!("{path}/rotate"), json!({"overlap": "1h"})).await;
    assert_eq!(status, 200, "{rotated}");
    assert_ne!(rotated["key"], made["key"]);
    assert_eq!((&rotated["id"], &rotated["previous"]["last_four"]), (&made["id"], &made["last_four"]));
    let (_, list) = house.ask(&admin.key, "GET", "/admin/v1/keys", Value::Null).await;
    let text = list.to_string();
    assert!(
        !text.contains(&key) && !text.contains(rotated["key"].as_str().unwrap()) && !text.contains("digest")
    );
    let (status, ended) = house.ask(&admin.key, "DELETE", &path, Value::Null).await;
    assert_eq!((status.as_u16(), &ended["state"]), (200, &json!("revoked")));
    let (status, problem) = house.ask(&admin.key, "POST", &format!("{path}/rotate"), Value::Null).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("conflict")));
    let ring = house.keys.ring();
    assert!(ring.authenticate(&Credential::Key(Secret::new(key)), now()).is_err());
}

#[tokio::test]
async fn every_mistake_of_a_body_is_told_at_once() {
    let house = House::new();
    let admin = house.mint("admin", &["*"]).await;
    let wish = json!({
        "nmae": "x", "name": "../etc", "team": 5, "scopes": ["chta:*", "chat:*"], "models": [],
        "limits": {"requests_per_minute": 0, "tokens": 5, "concurrent_requests": -1}, "expires": "2001-01-01",
    });
    let (status, problem) = house.ask(&admin.key, "POST", "/admin/v1/keys", wish).await;
    assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("invalid_value")));
    let mut found = members(&problem);
    found.sort_unstable();
    let expected = [
        "expires",
        "limits.concurrent_requests",
        "limits.requests_per_minute",
        "limits.tokens",
        "models",
        "name",
        "nmae",
        "scopes",
        "team",
    ];
    assert_eq!(found, expected, "{problem}");
    assert!(problem.to_string().contains("did you mean `name`?"), "{problem}");
    let (_, problem) = house.ask(&admin.key, "POST", "/admin/v1/keys", json!({})).await;
    assert_eq!(members(&problem), ["name", "scopes"], "each missing member once: {problem}");
    assert_eq!(house.keys.list().len(), 1, "nothing was made");
}

#[tokio::test]
async fn hostile_bodies_are_refused_by_kind() {
    let house = House::new();
    let admin = house.mint("admin", &["*"]).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(MAX_BODY));
    for (media, body, status, code) in [
        ("application/json", "{\"name\": ", 400, "invalid_json"),
        ("application/json", "[]", 400, "invalid_request"),
        ("application/json", deep.as_str(), 400, "invalid_json"),
        ("application/json", large.as_str(), 413, "request_too_large"),
        ("text/plain", "{}", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", "name=x", 415, "unsupported_media_type"),
        ("application/json; charset=utf-8", "{}", 400, "invalid_value"),
    ] {
        let request = Request::post("/admin/v1/keys")
            .header("authorization", format!("Bearer {}", admin.key.expose()))
            .header("content-type", media)
            .body(Body::from(body.to_owned()))
            .unwrap();
        let (found, _, problem) = house.send(request).await;
        assert_eq!((found.as_u16(), problem["code"].as_str()), (status, Some(code)), "{problem}");
    }
}

#[tokio::test]
async fn a_key_maker_cannot_become_an_administrator() {
    let house = House::new();
    let maker = house.mint("maker", &["admin:keys"]).await;
    let root = house.mint("root", &["*"]).await;
    for scope in ["*", "admin:*", "admin:read", "*:read"] {
        let wish = json!({"name": "more", "scopes": [scope]});
        let (status, problem) = house.ask(&maker.key, "POST", "/admin/v1/keys", wish).await;
        assert_eq!((status.as_u16(), &problem["code"]), (403, &json!("insufficient_scope")), "{scope}");
    }
    let path = format!("/admin/v1/keys/{}/rotate", root.record.id);
    let (status, problem) = house.ask(&maker.key, "POST", &path, Value::Null).await;
    assert_eq!((status.as_u16(), &problem["key"]), (403, &Value::Null), "rotating is not a way to its text");
    let (status, _) = house.ask(&root.key, "POST", &path, Value::Null).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let house = House::new();
    let admin = house.mint("admin", &["*"]).await;
    for i in 0..24 {
        house.mint(&format!("k{i}"), &["chat:*"]).await;
    }
    let (mut ids, mut path) = (Vec::new(), "/admin/v1/keys?limit=7".to_owned());
    loop {
        let (status, page) = house.ask(&admin.key, "GET", &path, Value::Null).await;
        assert_eq!(status, 200);
        ids.extend(page["data"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()));
        assert_eq!(page["has_more"].as_bool().unwrap(), page["next"].is_string());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/admin/v1/keys?limit=7&after={next}");
    }
    let mut sorted = ids.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((ids.len(), &ids), (25, &sorted));
    for query in ["limit=0", "limit=201", "limit=x", "limit=-1", "page=2", "limit=5&api-key=x"] {
        let (status, problem) =
            house.ask(&admin.key, "GET", &format!("/admin/v1/keys?{query}"), Value::Null).await;
        assert_eq!((status.as_u16(), members(&problem).len()), (400, 1), "{query}: {problem}");
    }
}

#[tokio::test]
async fn a_mended_provider_is_let_back_by_who_may_operate_and_the_audit_log_says_who() {
    let house = House::new();
    let operator = house.mint("operator", &["admin:operate"]).await;
    let reader = house.mint("reader", &["admin:read"]).await;
    let path = "/admin/v1/providers/b/reinstate";
    let (status, _) = house.ask(&reader.key, "POST", path, Value::Null).await;
    assert_eq!(status, 403);
    let (status, row) = house.ask(&operator.key, "POST", path, Value::Null).await;
    assert_eq!((status.as_u16(), &row["name"]), (200, &json!("b")));
    let (status, _) =
        house.ask(&operator.key, "POST", "/admin/v1/providers/nobody/reinstate", Value::Null).await;
    assert_eq!(status, 404);
    let noted = house.audit.page(None, 10).await.unwrap().entries;
    let noted = noted.iter().filter(|entry| &*entry.event.action == "provider.reinstate");
    assert_eq!(noted.count(), 1, "what was refused changed nothing");
}

#[tokio::test]
async fn kinds_providers_and_config_are_shown_as_handed_in() {
    let house = House::new();
    let reader = house.mint("reader", &["admin:read"]).await;
    let (_, kinds) = house.ask(&reader.key, "GET", "/admin/v1/kinds", Value::Null).await;
    assert_eq!(kinds, Shown.kinds());
    let (_, providers) = house.ask(&reader.key, "GET", "/admin/v1/providers", Value::Null).await;
    let unavailable = json!({"name": "b", "kind": "mock", "status": "unavailable", "reason": "no model file", "targets": []});
    assert_eq!(providers["data"][1], unavailable);
    let (_, config) = house.ask(&reader.key, "GET", "/admin/v1/config", Value::Null).await;
    assert_eq!(config, Shown.config());
}

#[tokio::test]
async fn a_store_that_is_down_is_unavailable_with_the_mend() {
    let house = House::new();
    let admin = house.mint("admin", &["*"]).await;
    house.shelf.broken.store(true, Ordering::Relaxed);
    let wish = json!({"name": "ci", "scopes": ["chat:*"]});
    let (status, problem) = house.ask(&admin.key, "POST", "/admin/v1/keys", wish).await;
    assert_eq!((status.as_u16(), &problem["code"]), (503, &json!("store_unavailable")));
    assert!(problem["detail"].as_str().unwrap().contains("free some space"));
    let (status, _) = house.ask(&admin.key, "GET", "/admin/v1/keys", Value::Null).await;
    assert_eq!(status, 200, "reading goes on");
}

#[tokio::test]
async fn a_key_says_how_urgent_its_requests_are_in_a_word_that_is_known() {
    let house = House::new();
    let admin = house.mint("admin", &["admin:keys"]).await;
    let wish = |priority: Value| json!({"name": "ci", "scopes": ["chat:*"], "priority": priority});
    for wrong in [json!("urgent"), json!(1)] {
        let (status, problem) = house.ask(&admin.key, "POST", "/admin/v1/keys", wish(wrong)).await;
        assert_eq!((status.as_u16(), &problem["errors"][0]["param"]), (400, &json!("priority")), "{problem}");
    }
    let (_, made) = house.ask(&admin.key, "POST", "/admin/v1/keys", wish(json!("batch"))).await;
    assert_eq!(made["priority"], "batch", "{made}");
    let (_, list) = house.ask(&admin.key, "GET", "/admin/v1/keys", Value::Null).await;
    let shown = |name: &str| {
        let data = list["data"].as_array().unwrap();
        data.iter().find(|key| key["name"] == name).map(|key| key["priority"].clone())
    };
    assert_eq!((shown("ci"), shown("admin")), (Some(json!("batch")), Some(Value::Null)), "{list}");
}

#[tokio::test]
async fn changes_and_denials_are_audited_without_any_key() {
    let house = House::new();
    let admin = house.mint("admin", &["admin:keys"]).await;
    let auditor = house.mint("auditor", &["role:auditor"]).await;
    let data = house.mint("data", &["chat:*"]).await;
    let wish = json!({"name": "ci", "scopes": ["chat:*"], "allow_ips": ["10.0.0.0/8"]});
    let (_, made) = house.ask(&admin.key, "POST", "/admin/v1/keys", wish.clone()).await;
    assert_eq!(made["allow_ips"], json!(["10.0.0.0/8"]), "{made}");
    let id = made["id"].as_str().unwrap();
    let (_, rotated) =
        house.ask(&admin.key, "POST", &format!("/admin/v1/keys/{id}/rotate"), Value::Null).await;
    house.ask(&admin.key, "DELETE", &format!("/admin/v1/keys/{id}"), Value::Null).await;
    house.ask(&data.key, "POST", "/admin/v1/keys", wish).await;
    house.ask(&data.key, "POST", "/admin/v1/keys", Value::Null).await;
    house.ask(&admin.key, "POST", "/admin/v1/keys", json!({"name": "x", "scopes": ["*"]})).await;
    let due = house.denials.due(std::time::Instant::now(), now());
    assert_eq!(due.len(), 2, "two kinds: {due:?}");
    for event in due {
        house.audit.append(event).await.unwrap();
    }
    let (status, page) = house.ask(&auditor.key, "GET", "/admin/v1/audit?limit=2", Value::Null).await;
    assert_eq!((status.as_u16(), page["has_more"].as_bool()), (200, Some(true)));
    let denied = page["data"].as_array().unwrap();
    assert!(denied.iter().all(|row| row["action"] == "denied"), "{page}");
    let by_data = |row: &&Value| row["object"] == "createKey" && row["actor"] == data.record.id.as_str();
    assert_eq!(denied.iter().find(by_data).map(|row| &row["after"]["count"]), Some(&json!(2)), "{page}");
    assert!(denied.iter().any(|row| row["actor"] == admin.record.id.as_str()), "{page}");
    let next = format!("/admin/v1/audit?after={}", page["next"].as_str().unwrap());
    let (_, rest) = house.ask(&auditor.key, "GET", &next, Value::Null).await;
    let rows = rest["data"].as_array().unwrap();
    let seen: Vec<_> =
        rows.iter().map(|row| (row["action"].as_str().unwrap(), row["object"].as_str().unwrap())).collect();
    assert_eq!(seen, [("key.revoke", id), ("key.rotate", id), ("key.create", id)]);
    assert_eq!(
        (&rows[0]["before"]["state"], &rows[0]["after"]["state"]),
        (&json!("active"), &json!("revoked"))
    );
    assert_eq!((&rows[2]["before"], &rows[2]["actor"]), (&Value::Null, &json!(admin.record.id.as_str())));
    assert_eq!(house.audit.verify().await.unwrap().broken, None);
    let log = format!("{page}{rest}");
    let texts = [
        admin.key.expose(),
        data.key.expose(),
        made["key"].as_str().unwrap(),
        rotated["key"].as_str().unwrap(),
    ];
    for text in texts {
        assert!(!log.contains(&text[8..30]), "a key is in the log");
    }
}

#[tokio::test]
async fn roles_are_scopes_with_a_name_and_cannot_be_handed_out_by_whoever_lacks_them() {
    let house = House::new();
    let operator = house.mint("operator", &["role:operator"]).await;
    let viewer = house.mint("viewer", &["role:viewer"]).await;
    for (key, method, path, status) in [
        (&viewer.key, "GET", "/admin/v1/config", 200),
        (&viewer.key, "GET", "/admin/v1/keys", 403),
        (&viewer.key, "GET", "/admin/v1/audit", 403),
        (&operator.key, "GET", "/admin/v1/config", 200),
        (&operator.key, "GET", "/admin/v1/keys", 200),
        (&operator.key, "GET", "/admin/v1/audit", 403),
    ] {
        assert_eq!(house.ask(key, method, path, Value::Null).await.0.as_u16(), status, "{method} {path}");
    }
    for (role, status) in
        [("role:viewer", 201), ("role:operator", 201), ("role:auditor", 403), ("role:admin", 403)]
    {
        let wish = json!({"name": role.replace(':', "-"), "scopes": [role]});
        let (found, made) = house.ask(&operator.key, "POST", "/admin/v1/keys", wish).await;
        assert_eq!(found.as_u16(), status, "{role}: {made}");
        if status == 201 {
            assert_eq!(made["scopes"], json!([role]), "shown as it was given");
        }
    }
    let (status, problem) = house
        .ask(&operator.key, "POST", "/admin/v1/keys", json!({"name": "r", "scopes": ["role:root"]}))
        .await;
    assert_eq!(status, 400, "{problem}");
}
