//! Stored responses: kept before the last byte leaves, found by their owner alone, and gone on from.

use std::sync::Arc;
use std::time::Duration;

use penstock_conversation::{Conversations, MemoryResponses, Policy, ResponseStore};
use penstock_domain::{Code, Error};
use penstock_edge::{EdgeSettings, Extra};
use penstock_provider::Health;
use serde_json::{Value, json};

use crate::bench::{ASKS, Bench, FOREIGN, KEY, RAW_RESPONSE, READS, WHOLE_RESPONSE};
use crate::wire::{Answer, Wire, exchange, plain, post, response};

/// A gateway whose responses are in the test's hands.
async fn bench(policy: Policy) -> (Bench, Arc<MemoryResponses>) {
    let store = Arc::new(MemoryResponses::default());
    let port = Arc::clone(&store) as Arc<dyn ResponseStore>;
    let conversations = Arc::new(Conversations::new(port, policy, Box::new(|_| {})));
    let extra = Extra { conversations, ..Extra::default() };
    (Bench::with(EdgeSettings::default(), extra, Health::Ready).await, store)
}

async fn start() -> (Bench, Arc<MemoryResponses>) {
    bench(Policy::default()).await
}

fn asked(key: &str, model: &str, members: Value) -> String {
    post("/v1/responses", &format!("authorization: Bearer {key}\r\n"), &response(model, members))
}

async fn ask(bench: &Bench, key: &str, model: &str, members: Value) -> Answer {
    exchange(bench.address, asked(key, model, members)).await
}

async fn get(bench: &Bench, key: &str, path: &str) -> Answer {
    exchange(bench.address, plain("GET", &format!("/v1/responses/{path}"), key)).await
}

fn body(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("no JSON: {answer:?}"))
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap_or_else(|| panic!("no id: {answer}")).to_owned()
}

/// The data of every event.
fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn a_response_can_be_read_as_soon_as_its_last_byte_is_there() {
    let (bench, _store) = start().await;
    let whole = body(&ask(&bench, KEY, "plain", json!({})).await);
    assert_eq!((&whole["store"], &whole["status"]), (&json!(true), &json!("completed")));
    assert_eq!(body(&get(&bench, KEY, &id(&whole)).await), whole);

    let streamed = ask(&bench, KEY, "plain", json!({"stream": true})).await;
    let all = events(&streamed.body);
    let last = all.last().unwrap();
    assert_eq!((&last["type"], &last["response"]["store"]), (&json!("response.completed"), &json!(true)));
    assert_eq!(body(&get(&bench, KEY, &id(&last["response"])).await), last["response"]);
    assert!(all.iter().all(|event| event.get("response").is_none_or(|it| it["store"] == true)));
    assert_eq!(bench.codes(2).await, ["ok", "ok"], "reading makes no record");
}

#[tokio::test]
async fn what_is_not_to_be_stored_is_not() {
    let (bench, store) = start().await;
    for stream in [false, true] {
        for model in ["plain", "raw-responses", "whole-response"] {
            let answer = ask(&bench, KEY, model, json!({"store": false, "stream": stream})).await;
            assert_eq!(answer.status, 200);
            assert!(!answer.body.contains("\"store\":true"), "{}", answer.body);
        }
    }
    assert!(store.is_empty());
    let whole = ask(&bench, KEY, "whole-response", json!({"store": false})).await;
    assert_eq!(whole.body, WHOLE_RESPONSE, "and a vendor's bytes are passed on");
    let raw = ask(&bench, KEY, "raw-responses", json!({"store": false, "stream": true})).await;
    assert_eq!(raw.body, RAW_RESPONSE.concat());
}

#[tokio::test]
async fn an_operator_can_turn_storing_off() {
    let (bench, store) = bench(Policy { store: false, ..Policy::default() }).await;
    let whole = body(&ask(&bench, KEY, "plain", json!({"store": true})).await);
    assert_eq!(whole["store"], false);
    assert_eq!(get(&bench, KEY, &id(&whole)).await.status, 404);
    let streamed = ask(&bench, KEY, "plain", json!({"stream": true})).await;
    let told: Vec<_> =
        events(&streamed.body).iter().filter_map(|it| it["response"].get("store").cloned()).collect();
    assert!(told.len() >= 3 && told.iter().all(|store| *store == false), "{told:?}");
    assert!(store.is_empty());
}

#[tokio::test]
async fn a_request_goes_on_with_everything_that_was_said() {
    let (bench, _store) = start().await;
    let first = body(&ask(&bench, KEY, "plain", json!({"instructions": "be brief"})).await);
    let second = json!({"previous_response_id": id(&first), "input": "And of Italy?"});
    let second = body(&ask(&bench, KEY, "plain", second).await);
    assert_eq!(second["previous_response_id"], first["id"]);
    let third = json!({"previous_response_id": id(&second), "input": [{"role": "user", "content": "And?"}], "stream": true});
    let third = ask(&bench, KEY, "plain", third).await;
    let seen = bench.watch.seen();
    let said: Vec<String> = seen["input"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            assert!(item.get("id").is_none(), "no vendor knows our ids: {item}");
            let text = &item["content"];
            let text = text.as_str().or_else(|| text[0]["text"].as_str()).unwrap();
            format!("{}: {text}", item["role"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        said,
        [
            "user: Capital of France?",
            "assistant: Paris",
            "user: And of Italy?",
            "assistant: Paris",
            "user: And?"
        ]
    );
    assert!(seen.get("previous_response_id").is_none() && seen.get("instructions").is_none());
    let events = events(&third.body);
    let told: Vec<_> = events.iter().filter_map(|event| event.get("response")).collect();
    assert!(told.len() >= 3 && told.iter().all(|it| it["previous_response_id"] == second["id"]));
}

#[tokio::test]
async fn a_foreign_response_reads_like_one_that_does_not_exist() {
    let (bench, _store) = start().await;
    let mine = id(&body(&ask(&bench, ASKS, "plain", json!({})).await));
    assert_eq!(get(&bench, READS, &mine).await.status, 200, "a team shares what its keys said");
    let without = |answer: &Answer, id: &str| {
        let body = body(answer);
        let error = &body["error"];
        (
            answer.status,
            error["message"].as_str().unwrap().replace(id, "ID"),
            error["code"].clone(),
            error["type"].clone(),
            error["param"].clone(),
        )
    };
    for key in [FOREIGN, KEY] {
        for (method, path) in [("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")] {
            let at = |id: &str| plain(method, &format!("/v1/responses/{id}{path}"), key);
            let foreign = exchange(bench.address, at(&mine)).await;
            let unknown = exchange(bench.address, at("resp_unknown")).await;
            assert_eq!(without(&foreign, &mine), without(&unknown, "resp_unknown"), "{method} {path}");
            assert_eq!(foreign.status, 404);
        }
        let calls = bench.watch.calls.load(std::sync::atomic::Ordering::SeqCst);
        let foreign = ask(&bench, key, "plain", json!({"previous_response_id": mine})).await;
        let unknown = ask(&bench, key, "plain", json!({"previous_response_id": "resp_unknown"})).await;
        assert_eq!(without(&foreign, &mine), without(&unknown, "resp_unknown"));
        let error = body(&foreign)["error"].clone();
        assert_eq!(
            (foreign.status, &error["code"], &error["type"], &error["param"]),
            (
                400,
                &json!("previous_response_not_found"),
                &json!("invalid_request_error"),
                &json!("previous_response_id")
            )
        );
        assert_eq!(
            bench.watch.calls.load(std::sync::atomic::Ordering::SeqCst),
            calls,
            "no provider heard of it"
        );
    }
    assert_eq!(get(&bench, READS, &mine).await.status, 200, "it is still there");
    let wrong =
        ask(&bench, "not-a-key-at-all-0123456789", "plain", json!({"previous_response_id": mine})).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (401, "invalid_api_key"), "strangers learn nothing");
}

#[tokio::test]
async fn a_vendor_that_keeps_nothing_answers_for_a_gateway_that_does() {
    let (bench, store) = start().await;
    let first = body(&ask(&bench, KEY, "plain", json!({})).await);
    let ask_with = json!({"stream": true, "previous_response_id": id(&first)});
    let raw = ask(&bench, KEY, "raw-responses", ask_with).await;
    let (pieces, told) = (events(&raw.body), [0, 2]);
    for at in told {
        let response = &pieces[at]["response"];
        assert_eq!((&response["store"], &response["previous_response_id"]), (&json!(true), &first["id"]));
    }
    assert!(raw.body.contains(RAW_RESPONSE[1]), "what says nothing of state leaves as it came");
    assert_eq!(body(&get(&bench, KEY, "resp_v1").await), pieces[2]["response"]);

    let whole = ask(&bench, KEY, "whole-response", json!({})).await;
    let edited = WHOLE_RESPONSE.replace("\"store\" : false", "\"store\" : true");
    assert_eq!(whole.body.replace("\"previous_response_id\":null,", ""), edited);
    assert_eq!(get(&bench, KEY, "resp_v2").await.body, whole.body);
    assert_eq!(store.len(), 3);
}

#[tokio::test]
async fn reasoning_is_asked_back_sealed_where_it_is_kept() {
    let (bench, _store) = start().await;
    let wish = |seen: Value| seen.get("include").cloned();
    ask(&bench, KEY, "plain", json!({"reasoning": {"effort": "low"}})).await;
    assert_eq!(wish(bench.watch.seen()), Some(json!(["reasoning.encrypted_content"])));
    ask(&bench, KEY, "plain", json!({"reasoning": {"effort": "low"}, "store": false})).await;
    assert_eq!(wish(bench.watch.seen()), None, "nobody needs it");
    ask(&bench, KEY, "plain", json!({})).await;
    assert_eq!(wish(bench.watch.seen()), None, "models that do not reason refuse it");
}

#[tokio::test]
async fn a_store_that_fails_costs_the_copy_and_not_the_answer() {
    let (bench, store) = start().await;
    let first = id(&body(&ask(&bench, KEY, "plain", json!({})).await));
    store.fail(Some(Error::new(Code::StoreUnavailable, "the disk is full")));
    for model in ["plain", "whole-response"] {
        let whole = ask(&bench, KEY, model, json!({})).await;
        assert_eq!((whole.status, &body(&whole)["store"]), (200, &json!(false)));
    }
    for model in ["plain", "raw-responses"] {
        let streamed = ask(&bench, KEY, model, json!({"stream": true})).await;
        let all = events(&streamed.body);
        let last = all.last().unwrap();
        assert_eq!(
            (&last["type"], &last["response"]["store"]),
            (&json!("response.completed"), &json!(false))
        );
    }
    let on = ask(&bench, KEY, "plain", json!({"previous_response_id": first})).await;
    assert_eq!((on.status, on.code().as_str()), (503, "store_unavailable"), "nothing is left out in silence");
    store.fail(None);
    assert_eq!(store.len(), 1);
}

#[tokio::test]
async fn a_broken_answer_is_kept_as_failed_and_one_that_nobody_waited_for_is_not() {
    let (bench, store) = start().await;
    let broken = ask(&bench, KEY, "cut", json!({"stream": true})).await;
    let all = events(&broken.body);
    let last = all.last().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("failed")));
    let kept = body(&get(&bench, KEY, &id(&last["response"])).await);
    assert_eq!(kept, last["response"]);
    // Its question goes on, its half answer does not.
    ask(&bench, KEY, "plain", json!({"previous_response_id": id(&kept), "input": "again"})).await;
    assert_eq!(bench.watch.seen()["input"].as_array().unwrap().len(), 2);
    let count = store.len();

    let mut wire = Wire::open(bench.address).await;
    wire.send(asked(KEY, "endless", json!({"stream": true}))).await;
    wire.until("Paris").await;
    drop(wire);
    tokio::time::timeout(Duration::from_secs(5), bench.watch.gone.notified())
        .await
        .expect("the call is dropped");
    assert_eq!(store.len(), count);
    let refused = ask(&bench, KEY, "limited", json!({})).await;
    assert_eq!((refused.status, store.len()), (429, count), "what was never made is not kept");
}

#[tokio::test]
async fn input_items_come_in_pages() {
    let (bench, _store) = start().await;
    let first = body(&ask(&bench, KEY, "plain", json!({"input": "one"})).await);
    let more = json!({"previous_response_id": id(&first), "input": [{"role": "user", "content": "two"}, {"role": "user", "content": "three"}]});
    let second = id(&body(&ask(&bench, KEY, "plain", more).await));
    let list = async |query: &str| body(&get(&bench, KEY, &format!("{second}/input_items{query}")).await);
    let said = |page: &Value| -> Vec<String> {
        let items = page["data"].as_array().unwrap().iter();
        items.map(|item| item["content"][0]["text"].as_str().unwrap().to_owned()).collect()
    };
    let all = list("").await;
    assert_eq!(said(&all), ["three", "two", "Paris", "one"]);
    assert_eq!((&all["object"], &all["has_more"]), (&json!("list"), &json!(false)));
    assert_eq!((&all["first_id"], &all["last_id"]), (&all["data"][0]["id"], &all["data"][3]["id"]));
    let page = list("?limit=3&order=asc").await;
    assert_eq!(
        (said(&page), &page["has_more"]),
        (vec!["one".to_owned(), "Paris".into(), "two".into()], &json!(true))
    );
    let rest = list(&format!(
        "?order=asc&after={}&include%5B%5D=reasoning.encrypted_content",
        id(&json!({"id": page["last_id"]}))
    ))
    .await;
    assert_eq!((said(&rest), &rest["has_more"]), (vec!["three".to_owned()], &json!(false)));
    for (query, param) in
        [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("after=x", "after")]
    {
        let refused = get(&bench, KEY, &format!("{second}/input_items?{query}")).await;
        assert_eq!((refused.status, &body(&refused)["error"]["param"]), (400, &json!(param)));
    }
}

#[tokio::test]
async fn items_that_are_only_named_are_found_in_what_was_stored() {
    let (bench, _store) = start().await;
    let first = body(&ask(&bench, ASKS, "plain", json!({})).await);
    let named = json!({"type": "item_reference", "id": first["output"][0]["id"]});
    let input = json!({"input": [{"role": "user", "content": "Capital?"}, named, {"role": "user", "content": "Sure?"}]});
    let answer = ask(&bench, ASKS, "plain", input.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let seen = bench.watch.seen();
    assert_eq!(seen["input"][1]["content"][0]["text"], "Paris");
    let foreign = ask(&bench, FOREIGN, "plain", input).await;
    assert_eq!((foreign.status, foreign.code().as_str()), (404, "not_found"));
}

#[tokio::test]
async fn a_stored_response_is_replayed_as_events() {
    let (bench, _store) = start().await;
    let live = ask(&bench, KEY, "plain", json!({"stream": true})).await;
    let live = events(&live.body);
    let kept = id(&live.last().unwrap()["response"]);
    let replay = get(&bench, KEY, &format!("{kept}?stream=true")).await;
    assert_eq!(replay.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let replayed = events(&replay.body);
    let kinds = |events: &[Value]| events.iter().map(|event| event["type"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&replayed), kinds(&live), "one piece of text, as it was live");
    assert_eq!(replayed.last(), live.last());
    let rest = get(&bench, KEY, &format!("{kept}?stream=true&starting_after=4")).await;
    assert_eq!(events(&rest.body), replayed[5..]);
    assert_eq!(get(&bench, KEY, &format!("{kept}?stream=maybe")).await.status, 400);
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_cannot_be_gone_on_from() {
    let (bench, store) = start().await;
    let first = id(&body(&ask(&bench, KEY, "plain", json!({})).await));
    let gone = exchange(bench.address, plain("DELETE", &format!("/v1/responses/{first}"), KEY)).await;
    assert_eq!(body(&gone), json!({"id": first, "object": "response", "deleted": true}));
    assert!(store.is_empty());
    assert_eq!(get(&bench, KEY, &first).await.status, 404);
    let again = exchange(bench.address, plain("DELETE", &format!("/v1/responses/{first}"), KEY)).await;
    assert_eq!(again.status, 404);
    let on = ask(&bench, KEY, "plain", json!({"previous_response_id": first})).await;
    assert_eq!(on.code(), "previous_response_not_found");
}

#[tokio::test]
async fn what_is_not_done_yet_is_refused_with_its_name() {
    let (bench, _store) = start().await;
    for (members, param) in [
        (json!({"background": true}), "background"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"conversation": {"id": "conv_1"}}), "conversation"),
    ] {
        let refused = ask(&bench, KEY, "plain", members).await;
        let error = body(&refused)["error"].clone();
        assert_eq!(
            (refused.status, &error["code"], &error["param"]),
            (400, &json!("unsupported"), &json!(param))
        );
    }
    let kept = id(&body(&ask(&bench, KEY, "plain", json!({})).await));
    let cancel = exchange(bench.address, plain("POST", &format!("/v1/responses/{kept}/cancel"), KEY)).await;
    assert_eq!((cancel.status, cancel.code().as_str()), (400, "unsupported"));
    assert_eq!(bench.codes(5).await, ["unsupported", "unsupported", "unsupported", "ok", "unsupported"]);
}

#[tokio::test]
async fn a_conversation_is_bounded() {
    let (bench, _store) = bench(Policy { max_bytes: 4_000, ..Policy::default() }).await;
    let mut previous = Value::Null;
    let mut turns = 0;
    let refused = loop {
        let answer = ask(&bench, KEY, "plain", json!({"previous_response_id": previous})).await;
        if answer.status != 200 {
            break answer;
        }
        turns += 1;
        assert!(turns < 20, "nothing bounds it");
        previous = body(&answer)["id"].clone();
    };
    assert!(turns > 1);
    let error = body(&refused)["error"].clone();
    assert_eq!(
        (refused.status, &error["code"], &error["param"]),
        (400, &json!("invalid_value"), &json!("previous_response_id"))
    );
    let large = body(&ask(&bench, KEY, "plain", json!({"input": "x".repeat(5_000)})).await);
    assert_eq!(large["store"], false, "what is too large is answered and not kept");
}
