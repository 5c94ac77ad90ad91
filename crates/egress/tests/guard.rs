//! What the guard lets out, against listeners on this machine: every refusal is a listener that saw nobody.

#![expect(clippy::expect_used, reason = "helpers of tests, which the lint takes for the program")]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use penstock_egress::{Answer, Bounds, Egress, Fault, Looking, Reach, Resolve, Target};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const BOUNDS: Bounds = Bounds { time: Duration::from_secs(20), body: 64 };
const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8));
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Answers each look-up with the next of its answers.
struct Script {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Script {
    fn new(answers: Vec<Vec<IpAddr>>) -> Arc<Self> {
        Arc::new(Self { answers, asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Script {
    fn look<'a>(&'a self, _: &'a str) -> Looking<'a> {
        let turn = self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.answers.get(turn).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        Box::pin(std::future::ready(answer))
    }
}

/// A listener that counts whoever comes and says the same to each.
struct Listener {
    port: u16,
    came: Arc<AtomicUsize>,
}

impl Listener {
    async fn saying(words: &'static str) -> Self {
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = socket.local_addr().expect("an address").port();
        let came = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&came);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = socket.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut seen = Vec::new();
                    while !seen.ends_with(b"\r\n\r\nhello") {
                        if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let _ = stream.write_all(words.as_bytes()).await;
                });
            }
        });
        Self { port, came }
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }
}

fn local() -> Reach {
    Reach::with(&["127.0.0.0/8".parse().expect("a range")])
}

async fn send(egress: &Egress, url: &str, reach: &Reach) -> Result<Answer, Fault> {
    let request = Request::post("/").body(Bytes::from_static(b"hello")).expect("a request");
    egress.send(&Target::parse(url).expect(url), reach, request, BOUNDS).await
}

#[tokio::test]
async fn an_allowed_address_is_asked_and_its_redirect_is_not_followed() {
    let elsewhere = Listener::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let listener = Listener::saying(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let url = format!("http://127.0.0.1:{}/hooks", listener.port);
    let answer = send(&Egress::new(), &url, &local()).await.expect("an answer");
    assert_eq!((answer.status, &*answer.body), (StatusCode::FOUND, &b"ok"[..]));
    assert_eq!((listener.came(), elsewhere.came()), (1, 0));
}

#[tokio::test]
async fn nobody_is_connected_to_whose_address_is_not_public() {
    let listener = Listener::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "localhost.", "LOCALHOST", "0.0.0.0"] {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:{}/", listener.port);
            let fault = send(&Egress::new(), &url, &Reach::default()).await.expect_err(&url);
            assert!(matches!(fault, Fault::Forbidden(..)), "{url}: {fault}");
        }
    }
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::254]/",
    ] {
        let fault = send(&Egress::new(), url, &local()).await.expect_err(url);
        assert!(matches!(fault, Fault::Forbidden(..)), "{url}: {fault}");
    }
    assert_eq!(listener.came(), 0);
}

#[tokio::test]
async fn one_bad_address_among_good_ones_is_refused_whatever_their_order() {
    for answers in [vec![PUBLIC, HERE], vec![HERE, PUBLIC]] {
        let egress = Egress::resolving(Script::new(vec![answers]));
        let fault = send(&egress, "https://mixed.example/", &Reach::default()).await.expect_err("refused");
        assert_eq!(fault, Fault::Forbidden(HERE, "this machine"));
    }
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_asked_once_and_its_second_answer_never_used() {
    let listener = Listener::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    // First an address that is allowed and that nobody listens on, then the one that the attacker wants.
    let first: IpAddr = "127.0.0.2".parse().expect("an address");
    let script = Script::new(vec![vec![first], vec![HERE]]);
    let egress = Egress::resolving(Arc::clone(&script) as Arc<dyn Resolve>);
    let only = Reach::with(&["127.0.0.2".parse().expect("an address")]);
    let url = format!("http://rebind.example:{}/", listener.port);
    let fault = send(&egress, &url, &only).await.expect_err("nobody listens there");
    assert!(matches!(fault, Fault::Connect(_)), "{fault}");
    assert_eq!((script.asked.load(Ordering::Relaxed), listener.came()), (1, 0));
    // Asked for the next request, it is refused.
    assert_eq!(
        send(&egress, &url, &only).await.expect_err("refused"),
        Fault::Forbidden(HERE, "this machine")
    );
    assert_eq!(listener.came(), 0);
}

#[tokio::test]
async fn public_addresses_are_not_spoken_to_in_the_clear() {
    let egress = Egress::resolving(Script::new(vec![vec![PUBLIC]]));
    let fault = send(&egress, "http://plain.example/", &local()).await.expect_err("refused");
    assert_eq!(fault, Fault::Clear(PUBLIC));
}

#[tokio::test]
async fn answers_are_bounded_in_size_and_time() {
    let large = Listener::saying("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n").await;
    let long = Listener::saying(
        "HTTP/1.1 200 OK\r\ncontent-length: 65\r\n\r\n12345678901234567890123456789012345678901234567890123456789012345",
    )
    .await;
    let url = format!("http://127.0.0.1:{}/", long.port);
    assert_eq!(send(&Egress::new(), &url, &local()).await.expect_err("too large"), Fault::Large(64));
    // Promises more than it sends, and hangs up.
    let url = format!("http://127.0.0.1:{}/", large.port);
    assert!(send(&Egress::new(), &url, &local()).await.is_err());

    let silent = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let url = format!("http://127.0.0.1:{}/", silent.local_addr().expect("an address").port());
    let short = Bounds { time: Duration::from_millis(50), ..BOUNDS };
    let request = Request::post("/").body(Bytes::new()).expect("a request");
    let target = Target::parse(&url).expect("an address");
    let fault = Egress::new().send(&target, &local(), request, short).await.expect_err("too late");
    assert_eq!(fault, Fault::Late(short.time));
}

#[tokio::test]
async fn the_certificate_must_be_for_the_name_and_not_for_the_address() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["hooks.example".to_owned()]).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a server");
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = socket.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        while let Ok((stream, _)) = socket.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut seen = [0; 2_048];
            let _ = stream.read(&mut seen).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("an authority");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Arc::new(client);
    let asking = |name: &'static str| {
        let egress = Egress::resolving(Script::new(vec![vec![HERE]])).trusting(Arc::clone(&client));
        async move { send(&egress, &format!("https://{name}:{port}/"), &local()).await }
    };
    assert_eq!(asking("hooks.example").await.expect("an answer").status, StatusCode::NO_CONTENT);
    assert!(matches!(asking("other.example").await.expect_err("another name"), Fault::Tls(_)));
}
