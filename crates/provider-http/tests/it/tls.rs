//! TLS and HTTP/2, against certificates made on the spot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use penstock_domain::Code;
use penstock_provider::Provider;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::support::{CHAT_ASK, CHAT_EVENTS, CHAT_WHOLE, KEY, STREAM_ASK, chat_through, vendor};

struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    file: tempfile::NamedTempFile,
}

fn authority() -> Authority {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().expect("key"))
        .expect("authority");
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), issuer.pem()).expect("written");
    Authority { issuer, file }
}

/// A vendor over TLS that offers these protocols; counts connections, and requests by their version.
async fn secure(
    authority: &Authority,
    name: &str,
    protocols: &[&[u8]],
) -> (String, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let key = rcgen::KeyPair::generate().expect("key");
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("name");
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
    let (connections, second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&connections), Arc::clone(&second));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, counters) = (acceptor.clone(), counters.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(socket).await else { return };
                counters.0.fetch_add(1, Ordering::SeqCst);
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    if request.version() == http::Version::HTTP_2 {
                        counters.1.fetch_add(1, Ordering::SeqCst);
                    }
                    assert_eq!(request.headers()["authorization"], format!("Bearer {KEY}"));
                    let stream = request.headers()["accept"] == "text/event-stream";
                    let (kind, body) = match stream {
                        true => ("text/event-stream", CHAT_EVENTS.concat()),
                        false => ("application/json", CHAT_WHOLE.to_owned()),
                    };
                    let answer = http::Response::builder()
                        .header("content-type", kind)
                        .body(Full::new(Bytes::from(body)));
                    std::future::ready(answer)
                });
                let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(tls), service)
                    .await;
            });
        }
    });
    (base, connections, second)
}

fn trusting(base: &str, authority: &Authority) -> Arc<dyn Provider> {
    vendor("openai_compatible", json!({"base_url": base, "api_key": KEY, "ca_file": authority.file.path()}))
}

#[tokio::test]
async fn http_2_is_spoken_where_the_vendor_offers_it_and_shares_one_connection() {
    let authority = authority();
    let (base, connections, second) = secure(&authority, "localhost", &[b"h2", b"http/1.1"]).await;
    let provider = trusting(&base, &authority);
    for ask in [CHAT_ASK, STREAM_ASK] {
        let answer = chat_through(&*provider, ask).await;
        assert!(answer.failed.is_none(), "{:?}", answer.failed);
    }
    let calls = (0..20).map(|_| chat_through(&*provider, STREAM_ASK));
    for answer in futures_util::future::join_all(calls).await {
        assert!(answer.failed.is_none(), "{:?}", answer.failed);
    }
    assert_eq!(second.load(Ordering::SeqCst), 22);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn http_1_is_spoken_where_the_vendor_offers_nothing_else() {
    let authority = authority();
    let (base, _, second) = secure(&authority, "localhost", &[b"http/1.1"]).await;
    let answer = chat_through(&*trusting(&base, &authority), STREAM_ASK).await;
    assert!(answer.failed.is_none(), "{:?}", answer.failed);
    assert_eq!(second.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_certificate_of_another_name_or_another_authority_is_refused() {
    let ours = authority();
    let (base, connections, _) = secure(&ours, "other.example", &[b"h2"]).await;
    let answer = chat_through(&*trusting(&base, &ours), CHAT_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamUnreachable));
    assert!(answer.failed.expect("an error").say().contains("certificate"));

    let (base, others, _) = secure(&ours, "localhost", &[b"h2"]).await;
    let answer = chat_through(&*trusting(&base, &authority()), CHAT_ASK).await;
    assert_eq!(answer.code(), Some(Code::UpstreamUnreachable));
    // And the system's authorities do not know ours either.
    let system = vendor("openai_compatible", json!({"base_url": base, "api_key": KEY}));
    assert_eq!(chat_through(&*system, CHAT_ASK).await.code(), Some(Code::UpstreamUnreachable));
    assert_eq!((connections.load(Ordering::SeqCst), others.load(Ordering::SeqCst)), (0, 0));
}
