//! Every route, with no key, with a key that lacks the scope, and with the right one; and everything that might slip
//! past the table.

use penstock_domain::{Dialect, Task};
use penstock_edge::{Handler, ROUTES, Stored};
use penstock_identity::{Needs, Route};

use crate::bench::{ASKS, Bench, DELETES, FOREIGN, KEY, OLD, POOR, READS};
use crate::wire::{Wire, bearer, chat, exchange, message, plain, post, response};

/// A request that the route would answer with 200.
fn request(route: &Route<Handler>, key: Option<&str>) -> String {
    request_for(route, key, "org/slashed")
}

fn request_for(route: &Route<Handler>, key: Option<&str>, id: &str) -> String {
    let path = route.path.replace("{id}", id).replace("{code}", "invalid_json");
    let body = match route.handler {
        Handler::Infer(Task::Chat, Dialect::OpenAi) => chat("whole", false),
        Handler::Infer(Task::Chat | Task::CountTokens, Dialect::Anthropic) => message("plain", false),
        Handler::Infer(Task::Chat | Task::CountTokens, Dialect::Responses) => {
            response("plain", serde_json::json!({}))
        }
        Handler::Infer(Task::Completion, _) => {
            serde_json::json!({"model": "whole", "prompt": "Paris is"}).to_string()
        }
        Handler::Infer(Task::Embedding, _) => {
            serde_json::json!({"model": "whole", "input": "Paris"}).to_string()
        }
        _ => String::new(),
    };
    let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    format!(
        "{} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{key}content-length: {}\r\n\r\n{body}",
        route.method.name(),
        body.len()
    )
}

#[tokio::test]
async fn every_route_asks_for_what_its_row_says() {
    let bench = Bench::start().await;
    for route in ROUTES {
        let closed = matches!(route.needs, Needs::Scope(_));
        for (key, closed_status) in
            [(None, 401), (Some("wrong"), 401), (Some(OLD), 401), (Some(POOR), 403), (Some(KEY), 200)]
        {
            let stored = matches!(route.handler, Handler::Stored(_));
            let id = if stored { stored_response(&bench, KEY).await } else { "org/slashed".to_owned() };
            let answer = exchange(bench.address, request_for(route, key, &id)).await;
            let expected = match closed_status {
                // It takes no tokens.
                _ if route.handler == Handler::Resource => 404,
                _ if !closed => 200,
                // It knows its caller and the response, and there is nothing to cancel.
                200 if route.handler == Handler::Stored(Stored::Cancel) => 400,
                status => status,
            };
            assert_eq!(
                answer.status,
                expected,
                "{} {} with {key:?}: {}",
                route.method.name(),
                route.path,
                answer.body
            );
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert!(answer.header("server").is_none());
        }
    }
}

/// Has a response stored, and gives its id.
async fn stored_response(bench: &Bench, key: &str) -> String {
    let body = response("plain", serde_json::json!({}));
    let headers = format!("authorization: Bearer {key}\r\n");
    let answer = exchange(bench.address, post("/v1/responses", &headers, &body)).await;
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    body["id"].as_str().unwrap_or_else(|| panic!("no id: {body}")).to_owned()
}

#[tokio::test]
async fn asking_reading_and_deleting_are_rights_of_their_own() {
    let bench = Bench::start().await;
    let all = [ASKS, READS, DELETES, FOREIGN];
    // Create, read, list, cancel, delete, for each of the keys; ids of the team `t`.
    for (method, path, statuses) in [
        ("GET", "", [403, 200, 403, 404]),
        ("GET", "/input_items", [403, 200, 403, 404]),
        ("POST", "/cancel", [400, 403, 403, 404]),
        ("DELETE", "", [403, 403, 200, 404]),
    ] {
        for (key, status) in all.into_iter().zip(statuses) {
            let id = stored_response(&bench, ASKS).await;
            let answer =
                exchange(bench.address, plain(method, &format!("/v1/responses/{id}{path}"), key)).await;
            assert_eq!(answer.status, status, "{method} {path} with {key}: {}", answer.body);
        }
    }
    for (key, status) in all.into_iter().zip([200, 403, 403, 200]) {
        let headers = format!("authorization: Bearer {key}\r\n");
        let body = response("plain", serde_json::json!({}));
        let answer = exchange(bench.address, post("/v1/responses", &headers, &body)).await;
        assert_eq!(answer.status, status, "POST with {key}: {}", answer.body);
    }
}

#[tokio::test]
async fn the_path_of_a_response_holds_one_id_and_nothing_else() {
    let bench = Bench::start().await;
    for path in
        ["/v1/responses/", "/v1/responses/a/b", "/v1/responses/a/input_items/", "/v1/responses//input_items"]
    {
        let answer = exchange(bench.address, plain("GET", path, KEY)).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "route_not_found"), "{path}");
    }
    for path in ["/v1/responses/nothing", "/v1/responses/%2e%2e", "/v1/responses/a%2Fb", "/v1/responses/%ff"]
    {
        let answer = exchange(bench.address, plain("GET", path, KEY)).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
    }
    let anonymous =
        exchange(bench.address, post("/v1/responses", "", &response("plain", serde_json::json!({}))));
    assert_eq!(anonymous.await.status, 401);
    let good =
        exchange(bench.address, post("/v1/responses", &bearer(), &response("plain", serde_json::json!({}))));
    assert_eq!(good.await.status, 200);
}

#[tokio::test]
async fn wrong_methods_are_405_with_allow_and_head_is_get_without_body() {
    let bench = Bench::start().await;
    for route in ROUTES {
        let wrong = request_for(route, Some(KEY), "some-id").replacen(route.method.name(), "PATCH", 1);
        let answer = exchange(bench.address, wrong).await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"), "{}", route.path);
        assert!(answer.header("allow").unwrap().contains(route.method.name()));
    }
    let mut wire = Wire::open(bench.address).await;
    wire.send("HEAD /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    let all = wire.rest().await;
    assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("\r\n\r\n"), "{all}");
}

#[tokio::test]
async fn odd_addresses_and_hosts_never_get_past_the_key() {
    let bench = Bench::start().await;
    let body = chat("whole", false);
    for target in [
        "/v1/chat/completions",
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/./v1/chat/completions",
        "/docs/../v1/chat/completions",
        "/livez/../v1/chat/completions",
        "/v1/chat/%63ompletions",
        "/v1/chat/completions?key=the-right-key-0123456789",
        "/v1/chat/completions?/livez",
        "http://localhost/v1/chat/completions",
        "http://localhost/livez#@/v1/chat/completions",
        "/V1/CHAT/COMPLETIONS",
        "*",
    ] {
        for host in ["localhost", "evil.example", "localhost/livez#@", "[::1]", ""] {
            let request = format!(
                "POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                 x-forwarded-user: admin\r\npenstock-key: {KEY}\r\nx-original-url: /livez\r\n\r\n{body}",
                body.len()
            );
            let status = exchange(bench.address, request).await.status;
            assert!(matches!(status, 400 | 401 | 404 | 405), "{target} under {host:?} gave {status}");
        }
    }
    assert_eq!(bench.watch.calls.load(std::sync::atomic::Ordering::SeqCst), 0, "no provider heard of it");
}

#[tokio::test]
async fn web_pages_of_other_origins_may_not_act() {
    let bench = Bench::start().await;
    let row = &ROUTES[0];
    for (origin, status) in [("https://evil.example", 403), ("null", 403), ("http://localhost", 200)] {
        let request = request(row, Some(KEY))
            .replace("host: localhost\r\n", &format!("host: localhost\r\norigin: {origin}\r\n"));
        let answer = exchange(bench.address, request).await;
        assert_eq!(answer.status, status, "{origin}");
        if status == 403 {
            assert_eq!(answer.code(), "forbidden_origin");
        }
    }
}

#[tokio::test]
async fn a_clients_own_gateway_headers_change_nothing() {
    let bench = Bench::start().await;
    let plain = exchange(bench.address, request(&ROUTES[0], Some(KEY))).await;
    let spiked = request(&ROUTES[0], Some(KEY)).replace(
        "host: localhost\r\n",
        "host: localhost\r\npenstock-provider: evil\r\npenstock-model: evil\r\nx-request-id: mine\r\nx-client-request-id: mine\r\n",
    );
    let spiked = exchange(bench.address, spiked).await;
    assert_eq!((spiked.status, &spiked.body), (plain.status, &plain.body));
    assert_eq!(spiked.header("penstock-provider"), plain.header("penstock-provider"));
    assert!(spiked.header("x-request-id").unwrap().starts_with("req_"));
}

#[tokio::test]
async fn an_unknown_path_is_404_in_the_shape_of_its_family() {
    let bench = Bench::start().await;
    let answer = crate::wire::get(bench.address, "/v1/nothing").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "route_not_found"));
    assert!(answer.body.starts_with("{\"error\""));
    let answer = crate::wire::get(bench.address, "/admin/v1/keys").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "route_not_found"));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}
