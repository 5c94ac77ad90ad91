//! Issuers behind a socket: what is fetched, how often, and what is not.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers HTTP/1.1 with what it is told, and counts.
struct Server {
    address: String,
    hits: Arc<AtomicUsize>,
    /// Path → whole response.
    answers: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (hits, answers) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<(String, String)>>>::default());
        let (count, told) = (Arc::clone(&hits), Arc::clone(&answers));
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let answer = told
                    .lock()
                    .expect("sound")
                    .iter()
                    .find(|(p, _)| *p == path)
                    .map(|(_, text)| text.clone());
                if path.ends_with("/keys") {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                let answer =
                    answer.unwrap_or_else(|| "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, hits, answers }
    }

    fn answer(&self, path: &str, response: String) {
        let mut answers = self.answers.lock().expect("sound");
        answers.retain(|(known, _)| known != path);
        answers.push((path.to_owned(), response));
    }

    fn json(&self, path: &str, body: &Value) {
        let body = body.to_string();
        self.answer(path, format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    }

    /// A sound issuer with these keys.
    fn publish(&self, signers: &[&Signer]) {
        let discovery = json!({"issuer": self.address, "jwks_uri": format!("{}/keys", self.address)});
        self.json("/.well-known/openid-configuration", &discovery);
        self.json("/keys", &json!({"keys": signers.iter().map(|s| s.jwk()).collect::<Vec<_>>()}));
    }

    fn claims(&self) -> Value {
        super::with("iss", json!(self.address))
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "{what} did not come");
}

#[tokio::test]
async fn keys_come_by_discovery_and_prove_tokens() {
    let (server, signer) = (Server::start().await, Signer::p256());
    server.publish(&[&signer]);
    let issuers = Issuers::start(&[settings(&server.address)], None);
    until("the keys", || issuers.are_ready()).await;
    assert!(issuers.prove(&signer.sign(&server.claims())).is_ok());
}

#[tokio::test]
async fn a_new_key_is_looked_for_at_once_and_ten_thousand_made_up_ones_are_not() {
    let (server, old, new) = (Server::start().await, Signer::p256(), Signer::p256());
    server.publish(&[&old]);
    let issuers = Issuers::start(&[settings(&server.address)], None);
    until("the keys", || issuers.are_ready()).await;
    server.publish(&[&old, &new]);
    let token = new.sign(&server.claims());
    assert_eq!(refused(&issuers, &token), Code::IssuerUnavailable, "it is being looked for");
    until("the new key", || issuers.prove(&token).is_ok()).await;
    let fetched = server.hits.load(Ordering::Relaxed);
    assert_eq!(fetched, 2);
    for kid in 0..10_000 {
        let header = json!({"alg": "ES256", "kid": format!("made-up-{kid}"), "typ": "at+jwt"});
        assert_eq!(refused(&issuers, &join(&header, &server.claims(), &[1; 64])), Code::InvalidToken);
    }
    assert_eq!(server.hits.load(Ordering::Relaxed), fetched);
    assert!(issuers.prove(&old.sign(&server.claims())).is_ok());
}

#[tokio::test]
async fn a_fetch_that_fails_leaves_the_keys_as_they_were() {
    let (server, signer) = (Server::start().await, Signer::p256());
    server.publish(&[&signer]);
    let issuers = Issuers::start(&[settings(&server.address)], None);
    until("the keys", || issuers.are_ready()).await;
    server.answer("/keys", "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".into());
    let unknown = Signer::p256().sign(&server.claims());
    assert_eq!(refused(&issuers, &unknown), Code::IssuerUnavailable);
    until("the failed fetch", || {
        issuers.prove(&unknown).is_err_and(|error| error.code() == Code::InvalidToken)
    })
    .await;
    assert_eq!(server.hits.load(Ordering::Relaxed), 2);
    assert!(issuers.prove(&signer.sign(&server.claims())).is_ok());
}

#[tokio::test]
async fn documents_that_lead_astray_bring_no_keys() {
    let signer = Signer::p256();
    let set = json!({"keys": [signer.jwk()]}).to_string();
    let huge = format!("{{\"keys\": [{}], \"x\": \"{}\"}}", signer.jwk(), "x".repeat(600 * 1024));
    let server = Server::start().await;
    let there = format!("{}/keys", server.address);
    let ok = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: {there}2\r\ncontent-length: 0\r\n\r\n");
    for (name, issuer, keys_at, answer) in [
        ("another issuer", "https://evil.example", there.as_str(), ok(&set)),
        ("a redirect", server.address.as_str(), &there, redirect),
        ("too much", &server.address, &there, ok(&huge)),
        ("no key set", &server.address, &there, ok("<html>")),
        ("a user name", &server.address, "http://user@127.0.0.1/keys", ok(&set)),
        ("plain text elsewhere", &server.address, "http://192.0.2.1/keys", ok(&set)),
        ("metadata of a cloud", &server.address, "https://169.254.169.254/keys", ok(&set)),
        ("a machine inside", &server.address, "https://127.0.0.1:1/keys", ok(&set)),
    ] {
        server.json("/.well-known/openid-configuration", &json!({"issuer": issuer, "jwks_uri": keys_at}));
        server.answer("/keys", answer);
        server.answer("/keys2", ok(&set));
        let fetched = fetch::keys(&settings(&server.address)).await;
        assert!(fetched.is_err(), "{name}");
    }
    server.publish(&[&signer]);
    assert!(fetch::keys(&settings(&server.address)).await.is_ok());
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_issuers_that_did_not_change() {
    let (server, signer) = (Server::start().await, Signer::p256());
    server.publish(&[&signer]);
    let first = Issuers::start(&[settings(&server.address)], None);
    until("the keys", || first.are_ready()).await;
    let second = Issuers::start(&[settings(&server.address)], Some(&first));
    assert!(second.prove(&signer.sign(&server.claims())).is_ok(), "without another fetch");
    assert_ne!(first.revision(), 0);
    drop(first);
    assert!(second.are_ready());
    let changed = OidcIssuer { audience: "other".into(), ..settings(&server.address) };
    let third = Issuers::start(&[changed], Some(&second));
    assert!(!third.are_ready(), "changed settings begin anew");
}
