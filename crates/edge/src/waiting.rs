//! The door before there is a gateway: whoever knocks is told that it lives and is not ready.
//!
//! What it promises: `/livez` answers 200 and `/readyz` 503 with what is missing; everything else gets 503 in its own dialect and
//! may come again. One request per connection, few connections, each for a short time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use penstock_domain::{Code, Error, Retry};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::error::{self, Shape};
use crate::reply::Reply;
use crate::{StoreHealth, edge, request_id};

/// Most connections at once; others wait in the kernel's queue.
const MOST: usize = 64;
/// How long a connection may last.
const LONGEST: Duration = Duration::from_secs(5);
/// Most bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// What a client is told to wait.
const SOON: Duration = Duration::from_secs(1);

/// Answers at a listener until it is dropped; what it has begun to say it says to the end. `store` tells what is missing.
///
/// Must run inside a tokio runtime with time and IO enabled.
pub async fn wait(listener: &TcpListener, store: &StoreHealth) {
    let slots = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let store = Arc::clone(store);
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(LONGEST, visit(stream, store)).await;
                    drop(slot);
                });
            }
            Err(error) => crate::server::refused_accept(&error).await,
        }
    }
}

async fn visit(stream: TcpStream, store: StoreHealth) -> hyper::Result<()> {
    let answer = service_fn(move |request: Request<Incoming>| {
        let store = Arc::clone(&store);
        async move { Ok::<_, Infallible>(answer(&request, &store)) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(LONGEST).keep_alive(false).max_buf_size(MAX_HEAD);
    builder.serve_connection(TokioIo::new(stream), answer).await
}

fn answer(request: &Request<Incoming>, store: &StoreHealth) -> Response<Reply> {
    let (id, header) = request_id::draw();
    let reason = store().err();
    let mut response = match request.uri().path() {
        "/livez" => edge::json(&b"{\"status\":\"live\"}"[..]),
        "/readyz" => {
            let store = match &reason {
                Some(reason) => json!({"status": "unavailable", "reason": reason}),
                None => json!({"status": "ready"}),
            };
            let body = json!({"status": "starting", "store": store, "providers": {}});
            let mut response = edge::json(body.to_string());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
        path => {
            let say = reason.unwrap_or_else(|| "the gateway is starting".to_owned());
            let error = Error::new(Code::StoreUnavailable, say).with_retry(Retry::After(SOON));
            error::response(&Box::from(error), Shape::of(path, request.headers()), &id)
        }
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert("x-request-id", header);
    response
}
