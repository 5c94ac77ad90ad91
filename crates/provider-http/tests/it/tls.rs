//! TLS and HTTP/2, against certificates made on the spot.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use penstock_domain::{Code, Remedy};
use penstock_provider::Provider;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::support::{CHAT_ASK, CHAT_EVENTS, CHAT_WHOLE, KEY, STREAM_ASK, chat, chat_through, vendor};

pub(crate) struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    pub(crate) file: tempfile::NamedTempFile,
}

pub(crate) fn authority() -> Authority {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().expect("key"))
        .expect("authority");
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), issuer.pem()).expect("written");
    Authority { issuer, file }
}

/// What the vendors of this file saw.
#[derive(Clone, Default)]
struct Seen {
    connections: Arc<AtomicUsize>,
    /// Requests by HTTP/2.
    second: Arc<AtomicUsize>,
}

type Answer = http::Response<BoxBody<Bytes, Infallible>>;

/// A usual answer to what is asked.
fn usual(request: &http::Request<Incoming>) -> Answer {
    let (kind, body) = match request.headers()["accept"] == "text/event-stream" {
        true => ("text/event-stream", CHAT_EVENTS.concat()),
        false => ("application/json", CHAT_WHOLE.to_owned()),
    };
    let mut answer = http::Response::new(Full::new(Bytes::from(body)).boxed());
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static(kind));
    answer
}

/// A vendor over TLS for this name, with these protocols.
async fn secure(
    authority: &Authority,
    name: &str,
    protocols: &[&[u8]],
    answer: impl Fn(&http::Request<Incoming>) -> Answer + Clone + Send + Sync + 'static,
) -> (String, Seen) {
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("name");
    certified(authority, &params, protocols, answer).await
}

/// A vendor over TLS with this certificate.
async fn certified(
    authority: &Authority,
    params: &rcgen::CertificateParams,
    protocols: &[&[u8]],
    answer: impl Fn(&http::Request<Incoming>) -> Answer + Clone + Send + Sync + 'static,
) -> (String, Seen) {
    let key = rcgen::KeyPair::generate().expect("key");
    let certificate = params.signed_by(&key, &authority.issuer).expect("certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("certificate");
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("https://localhost:{}/v1", listener.local_addr().expect("address").port());
    let seen = Seen::default();
    let log = seen.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, log, answer) = (acceptor.clone(), log.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(socket).await else { return };
                log.connections.fetch_add(1, Ordering::SeqCst);
                let service = service_fn(move |request: http::Request<Incoming>| {
                    assert_eq!(request.headers()["authorization"], format!("Bearer {KEY}"));
                    if request.version() == http::Version::HTTP_2 {
                        log.second.fetch_add(1, Ordering::SeqCst);
                    }
                    std::future::ready(Ok::<_, Infallible>(answer(&request)))
                });
                let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(tls), service)
                    .await;
            });
        }
    });
    (base, seen)
}

fn trusting(base: &str, authority: &Authority) -> Arc<dyn Provider> {
    vendor("openai_compatible", json!({"base_url": base, "api_key": KEY, "ca_file": authority.file.path()}))
}

#[tokio::test]
async fn http_2_is_spoken_where_the_vendor_offers_it_and_shares_one_connection() {
    let authority = authority();
    let (base, seen) = secure(&authority, "localhost", &[b"h2", b"http/1.1"], usual).await;
    let provider = trusting(&base, &authority);
    for ask in [CHAT_ASK, STREAM_ASK] {
        let answer = chat_through(&*provider, ask).await;
        assert!(answer.failed.is_none(), "{:?}", answer.failed);
    }
    let calls = (0..20).map(|_| chat_through(&*provider, STREAM_ASK));
    for answer in futures_util::future::join_all(calls).await {
        assert!(answer.failed.is_none(), "{:?}", answer.failed);
    }
    assert_eq!(seen.second.load(Ordering::SeqCst), 22);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn http_1_is_spoken_where_the_vendor_offers_nothing_else() {
    let authority = authority();
    let (base, seen) = secure(&authority, "localhost", &[b"http/1.1"], usual).await;
    let answer = chat_through(&*trusting(&base, &authority), STREAM_ASK).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    assert_eq!(seen.second.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_certificate_of_another_name_or_another_authority_is_refused() {
    let ours = authority();
    let (base, other_name) = secure(&ours, "other.example", &[b"h2"], usual).await;
    let answer = chat_through(&*trusting(&base, &ours), CHAT_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamUnreachable));
    assert!(answer.failed.expect("an error").say().contains("certificate"));

    let (base, other_authority) = secure(&ours, "localhost", &[b"h2"], usual).await;
    let answer = chat_through(&*trusting(&base, &authority()), CHAT_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamUnreachable));
    // And the system's authorities do not know ours either.
    let system = vendor("openai_compatible", json!({"base_url": base, "api_key": KEY}));
    assert_eq!(chat_through(&*system, CHAT_ASK).await.code(), Some(Code::UpstreamUnreachable));
    for seen in [other_name, other_authority] {
        assert_eq!(seen.connections.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused_and_nothing_is_sent() {
    let authority = authority();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("name");
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let (base, seen) = certified(&authority, &params, &[b"h2", b"http/1.1"], usual).await;
    for ask in [CHAT_ASK, STREAM_ASK] {
        let failed = chat_through(&*trusting(&base, &authority), ask).await.failed.expect("a fault");
        assert_eq!((failed.code(), failed.remedy()), (Code::UpstreamUnreachable, Remedy::Other));
        assert!(failed.say().contains("certificate"), "{failed}");
    }
    assert_eq!(seen.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn dropping_an_http_2_answer_resets_its_stream_within_100_ms_and_no_other() {
    let authority = authority();
    let (sender, mut dropped) = tokio::sync::mpsc::channel(1);
    let (base, seen) = secure(&authority, "localhost", &[b"h2"], move |_| {
        // One event, then silence; the channel closes when the server gives the body up.
        let sender = sender.clone();
        let event = Frame::data(Bytes::from_static(CHAT_EVENTS[1].as_bytes()));
        let silence = futures_util::stream::once(async move {
            let _held = Notify(sender);
            std::future::pending::<Result<Frame<Bytes>, Infallible>>().await
        });
        let body = futures_util::stream::iter([Ok(event)]).chain(silence);
        let mut answer = http::Response::new(BodyExt::boxed(StreamBody::new(Box::pin(body))));
        answer.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
        answer
    })
    .await;
    let provider = trusting(&base, &authority);
    let mut kept = chat(&*provider, STREAM_ASK).await.expect("an answer");
    let mut left = chat(&*provider, STREAM_ASK).await.expect("an answer");
    kept.next().await.expect("an event");
    left.next().await.expect("an event");
    let begun = Instant::now();
    drop(left);
    let at: Instant = dropped.recv().await.expect("a reset");
    assert!(at.saturating_duration_since(begun) < Duration::from_millis(100));
    assert!(
        tokio::time::timeout(Duration::from_millis(20), dropped.recv()).await.is_err(),
        "the other stream lives"
    );
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
    drop(kept);
}

struct Notify(tokio::sync::mpsc::Sender<Instant>);

impl Drop for Notify {
    fn drop(&mut self) {
        let _ = self.0.try_send(Instant::now());
    }
}
