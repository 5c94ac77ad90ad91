//! A plain HTTP/1.1 client for what the verbs ask on this machine: the gateway itself, and model servers to be found.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What may go wrong on the way, as one sentence.
pub(crate) type Trouble = String;

/// Largest answer that is read whole.
const MAX_BODY: usize = 1 << 20;

/// One request to send.
pub(crate) struct Ask<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'a str,
    pub(crate) key: Option<&'a str>,
    /// JSON to post; without it the request is a GET.
    pub(crate) body: Option<String>,
}

/// Sends a request and gives the response with its body still open.
pub(crate) async fn send(ask: Ask<'_>, patience: Duration) -> Result<Response<Incoming>, Trouble> {
    let address = ask.address;
    let request = build(ask)?;
    let work = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| format!("cannot connect to {address}: {error}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("{address} does not speak HTTP: {error}"))?;
        // Ends by itself with the connection, whose other half the response's body holds.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| format!("{address} did not answer: {error}"))
    };
    tokio::time::timeout(patience, work)
        .await
        .map_err(|_| format!("{address} did not answer in {patience:?}"))?
}

/// Sends a request and reads the whole answer: status and text.
pub(crate) async fn fetch(ask: Ask<'_>, patience: Duration) -> Result<(u16, String), Trouble> {
    let response = send(ask, patience).await?;
    let status = response.status().as_u16();
    let body = tokio::time::timeout(patience, Limited::new(response.into_body(), MAX_BODY).collect())
        .await
        .map_err(|_| format!("the answer did not end in {patience:?}"))?
        .map_err(|error| format!("the answer broke off: {error}"))?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

fn build(ask: Ask<'_>) -> Result<Request<Full<Bytes>>, Trouble> {
    let method = if ask.body.is_some() { "POST" } else { "GET" };
    let mut request = Request::builder().method(method).uri(ask.path).header("host", ask.address.to_string());
    if let Some(key) = ask.key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    if ask.body.is_some() {
        request = request.header("content-type", "application/json");
    }
    request
        .body(Full::from(ask.body.unwrap_or_default()))
        .map_err(|error| format!("the request cannot be built: {error}"))
}
