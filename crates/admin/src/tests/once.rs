//! Changes that are sent twice and made once.

use http::HeaderMap;

use super::*;

async fn send(
    house: &House,
    key: &Secret,
    path: &str,
    name: &str,
    body: &Value,
) -> (StatusCode, HeaderMap, Value) {
    let request = Request::post(path)
        .header("x-api-key", key.expose())
        .header("content-type", "application/json")
        .header("idempotency-key", name)
        .extension(RequestId::new("req_first"))
        .body(Body::from(body.to_string()))
        .unwrap();
    house.send(request).await
}

#[tokio::test]
async fn a_key_is_made_once_and_shown_to_its_maker_as_often_as_the_same_is_asked() {
    let house = House::new();
    let (admin, other) = (house.mint("admin", &["admin:keys"]).await, house.mint("o", &["admin:keys"]).await);
    let wish = json!({"name": "ci", "scopes": ["chat:*"]});
    let (status, heads, made) = send(&house, &admin.key, "/admin/v1/keys", "k", &wish).await;
    assert_eq!((status.as_u16(), &heads["penstock-idempotency"]), (201, &"stored".parse().unwrap()));
    let (status, heads, again) = send(&house, &admin.key, "/admin/v1/keys", "k", &wish).await;
    assert_eq!((status.as_u16(), &again), (201, &made));
    assert_eq!(
        (&heads["idempotent-replayed"], &heads["cache-control"]),
        (&"true".parse().unwrap(), &"no-store".parse().unwrap())
    );
    assert_eq!(heads["penstock-original-request-id"], "req_first");
    assert!(made["key"].is_string() && house.keys.list().len() == 3);
    // What another calls by the same name is another request.
    let (status, heads, theirs) = send(&house, &other.key, "/admin/v1/keys", "k", &wish).await;
    assert!(status == 201 && theirs["key"] != made["key"] && !heads.contains_key("idempotent-replayed"));
    let (status, _, problem) =
        send(&house, &admin.key, "/admin/v1/keys", "k", &json!({"name": "b", "scopes": ["chat:*"]})).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("idempotency_key_reused")));
}

#[tokio::test]
async fn what_was_refused_is_tried_again() {
    let house = House::new();
    let admin = house.mint("admin", &["admin:keys"]).await;
    let wish = json!({"name": "ci", "scopes": ["chat:*"]});
    house.shelf.broken.store(true, Ordering::Relaxed);
    let (status, _, _) = send(&house, &admin.key, "/admin/v1/keys", "k", &wish).await;
    assert_eq!(status, 503);
    house.shelf.broken.store(false, Ordering::Relaxed);
    let mut status = StatusCode::CONFLICT;
    while status == StatusCode::CONFLICT {
        tokio::task::yield_now().await;
        status = send(&house, &admin.key, "/admin/v1/keys", "k", &wish).await.0;
    }
    assert_eq!(status, 201);
}

#[tokio::test]
async fn who_may_no_longer_ask_gets_no_answer_of_before() {
    let house = House::new();
    let admin = house.mint("admin", &["admin:keys"]).await;
    let wish = json!({"name": "ci", "scopes": ["chat:*"]});
    send(&house, &admin.key, "/admin/v1/keys", "k", &wish).await;
    let path = format!("/admin/v1/keys/{}/revoke", admin.record.id);
    assert_eq!(send(&house, &admin.key, &path, "r", &Value::Null).await.0, 200);
    let (status, _, problem) = send(&house, &admin.key, "/admin/v1/keys", "k", &wish).await;
    assert_eq!((status.as_u16(), &problem["code"]), (401, &json!("invalid_api_key")));
}
