//! Health, metrics, models and documentation.

use std::sync::Arc;

use penstock_edge::{EdgeSettings, Extra, ROUTES};
use penstock_provider::Health;
use serde_json::{Value, json};

use crate::bench::{Bench, KEY, MODELS};
use crate::wire::{Answer, exchange, get};

fn body(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn a_missing_local_model_is_listed_and_does_not_make_the_gateway_unready() {
    let bench = Bench::start().await;
    let answer = get(bench.address, "/readyz").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        body(&answer),
        json!({
            "status": "ready",
            "store": {"status": "ready"},
            "providers": {
                "local": {"status": "unavailable", "reason": "the model is not installed"},
                "vendor": {"status": "ready"},
            },
        })
    );
}

#[tokio::test]
async fn a_gateway_that_nothing_can_serve_or_whose_store_is_down_is_not_ready() {
    let down = Health::Unavailable("no route".into());
    for (health, status) in [(down, "unavailable"), (Health::Starting, "starting")] {
        let bench = Bench::with(EdgeSettings::default(), Extra::default(), health).await;
        let answer = get(bench.address, "/readyz").await;
        assert_eq!((answer.status, &body(&answer)["status"]), (503, &json!(status)));
    }
    let extra = Extra { store: Arc::new(|| Err("disk full".into())), ..Extra::default() };
    let bench = Bench::with(EdgeSettings::default(), extra, Health::Ready).await;
    let answer = get(bench.address, "/readyz").await;
    assert_eq!((answer.status, &body(&answer)["store"]["reason"]), (503, &json!("disk full")));
    assert_eq!(get(bench.address, "/livez").await.status, 200);
}

#[tokio::test]
async fn metrics_are_what_the_closure_gives() {
    let extra = Extra { metrics: Arc::new(|| "# EOF\n".into()), ..Extra::default() };
    let bench = Bench::with(EdgeSettings::default(), extra, Health::Ready).await;
    let answer = get(bench.address, "/metrics").await;
    assert_eq!(answer.body, "# EOF\n");
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
}

#[tokio::test]
async fn models_are_listed_and_found_by_names_with_slashes() {
    let bench = Bench::start().await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\n\r\n");
    let list = body(&exchange(bench.address, ask("/v1/models")).await);
    assert_eq!(list["data"].as_array().unwrap().len(), MODELS.len());
    for path in ["/v1/models/org/slashed", "/v1/models/org%2Fslashed"] {
        let one = body(&exchange(bench.address, ask(path)).await);
        assert_eq!((&one["id"], &one["owned_by"]), (&json!("org/slashed"), &json!("vendor")));
    }
    let answer = exchange(bench.address, ask("/v1/models/nope")).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "model_not_found"));
}

#[tokio::test]
async fn the_documentation_names_every_route_and_explains_every_error() {
    let bench = Bench::start().await;
    let document = body(&get(bench.address, "/openapi.json").await);
    for route in ROUTES {
        assert!(document["paths"][route.path].is_object(), "{}", route.path);
    }
    let page = get(bench.address, "/docs").await;
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let page = get(bench.address, "/docs/errors/request_too_large").await;
    assert!(page.body.starts_with("# request_too_large"));
    assert_eq!(get(bench.address, "/docs/errors/nope").await.code(), "not_found");
    assert_eq!(get(bench.address, "/docs/errors/..%2f..%2fCargo").await.status, 404);
}

#[tokio::test]
async fn the_admin_router_answers_under_its_prefix_within_the_same_bounds() {
    let router =
        axum::Router::new().route("/admin/v1/echo", axum::routing::post(|body: String| async move { body }));
    let extra = Extra { admin: Some(router), ..Extra::default() };
    let settings = EdgeSettings { max_body: 16, ..EdgeSettings::default() };
    let bench = Bench::with(settings, extra, Health::Ready).await;
    let answer = exchange(bench.address, crate::wire::post("/admin/v1/echo", "", "hello")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    assert!(answer.header("x-request-id").is_some());
    let answer = exchange(bench.address, crate::wire::post("/admin/v1/echo", "", &"x".repeat(17))).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "request_too_large"));
    let foreign = crate::wire::post("/admin/v1/echo", "origin: https://evil.example\r\n", "hello");
    assert_eq!(exchange(bench.address, foreign).await.code(), "forbidden_origin");
}
