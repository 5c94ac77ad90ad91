use std::sync::atomic::AtomicUsize;

use penstock_config::{DurationText, Introspection, SecretText};
use penstock_domain::Code;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::issuer::Issuer;
use crate::tests::settings;

/// Answers every question with what stands there, and counts questions.
struct Clerk {
    url: String,
    asked: Arc<AtomicUsize>,
    says: Arc<std::sync::Mutex<(u16, Value)>>,
    heard: Arc<std::sync::Mutex<String>>,
}

impl Clerk {
    async fn hired(says: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/introspect", listener.local_addr().expect("an address"));
        let clerk = Self {
            url,
            asked: Arc::default(),
            says: Arc::new(std::sync::Mutex::new((200, says))),
            heard: Arc::default(),
        };
        let (asked, says, heard) = (clerk.asked.clone(), clerk.says.clone(), clerk.heard.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = Vec::new();
                let mut piece = [0; 4096];
                // The body of such a question comes with its head or right after it.
                while !text.windows(6).any(|w| w == b"token=") {
                    match stream.read(&mut piece).await {
                        Ok(0) | Err(_) => break,
                        Ok(read) => text.extend_from_slice(&piece[..read]),
                    }
                }
                *heard.lock().expect("whole") = String::from_utf8_lossy(&text).into_owned();
                asked.fetch_add(1, Ordering::Relaxed);
                let (status, body) = says.lock().expect("whole").clone();
                let body = body.to_string();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        clerk
    }

    fn settings(&self) -> OidcIssuer {
        how(&self.url, Duration::from_secs(60))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// An issuer that is asked there, and whose word holds so long.
fn how(url: &str, cache: Duration) -> OidcIssuer {
    let introspection = Introspection {
        client_id: "gate way".into(),
        client_secret: SecretText::new("s:cret/"),
        url: Some(url.to_owned()),
        opaque: true,
        always: false,
        cache: DurationText(cache),
    };
    OidcIssuer { introspection: Some(introspection), ..settings("https://id.example.com") }
}

fn good() -> Value {
    json!({"active": true, "aud": "penstock", "sub": "alice", "scope": "chat:invoke", "token_type": "Bearer",
           "exp": 4_000_000_000_u64, "iss": "https://id.example.com"})
}

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

#[tokio::test]
async fn a_good_token_is_asked_about_once_a_minute_with_our_own_credentials() {
    let clerk = Clerk::hired(good()).await;
    let (inquirer, settings) = (Inquirer::new().expect("random"), clerk.settings());
    let token = secret("an-opaque-token-of-alice");
    assert_eq!(inquirer.prove(token.expose()).expect_err("unknown").code(), Code::IssuerUnavailable);
    for _ in 0..3 {
        inquirer.ask(&settings, &token, None).await;
    }
    assert_eq!(clerk.asked(), 1);
    let claims = inquirer.prove(token.expose()).expect("good");
    assert_eq!((claims.subject.as_deref(), claims.asked.is_some()), (Some("alice"), true));
    let heard = clerk.heard.lock().expect("whole").clone();
    assert!(heard.starts_with("POST /introspect HTTP/1.1\r\n"), "{heard}");
    // Both parts are encoded before they are joined (RFC 6749, 2.3.1).
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode("gate%20way:s%3Acret%2F");
    assert!(heard.contains(&format!("authorization: Basic {pair}")), "{heard}");
    assert!(heard.ends_with("token=an-opaque-token-of-alice&token_type_hint=access_token"), "{heard}");
}

#[tokio::test]
async fn what_is_not_an_active_bearer_token_of_the_issuer_is_refused_and_asked_about_once() {
    let with = |name: &str, value: Value| {
        let mut told = good();
        told[name] = value;
        told
    };
    for told in [
        json!({"active": false}),
        json!({"active": "true", "aud": "penstock", "sub": "alice"}),
        json!({}),
        with("token_type", json!("refresh_token")),
        with("token_type", json!("DPoP")),
        with("cnf", json!({"jkt": "x"})),
        with("iss", json!("https://evil.example")),
        with("exp", json!(1_000_000_000)),
        with("exp", json!("soon")),
    ] {
        let clerk = Clerk::hired(told.clone()).await;
        let (inquirer, settings) = (Inquirer::new().expect("random"), clerk.settings());
        let token = secret("an-opaque-token-of-nobody");
        inquirer.ask(&settings, &token, None).await;
        inquirer.ask(&settings, &token, None).await;
        assert_eq!(inquirer.prove(token.expose()).expect_err("refused").code(), Code::InvalidToken, "{told}");
        assert_eq!(clerk.asked(), 1, "{told}");
    }
}

#[tokio::test]
async fn an_issuer_that_fails_lets_nobody_in_and_is_left_alone_for_a_moment() {
    let clerk = Clerk::hired(good()).await;
    clerk.says.lock().expect("whole").0 = 500;
    let (inquirer, settings) = (Inquirer::new().expect("random"), clerk.settings());
    let token = secret("an-opaque-token-of-alice");
    for _ in 0..20 {
        inquirer.ask(&settings, &token, None).await;
        assert_eq!(inquirer.prove(token.expose()).expect_err("down").code(), Code::IssuerUnavailable);
    }
    assert!(clerk.asked() <= 3, "{} questions to an issuer that fails", clerk.asked());
}

#[tokio::test]
async fn a_flood_of_guesses_pushes_out_no_good_token() {
    let clerk = Clerk::hired(good()).await;
    let (inquirer, settings) = (Inquirer::new().expect("random"), clerk.settings());
    let token = secret("an-opaque-token-of-alice");
    inquirer.ask(&settings, &token, None).await;
    for n in 0..20_000 {
        inquirer.keep(inquirer.digest(&format!("guess {n}")), None);
    }
    assert!(inquirer.prove(token.expose()).is_ok());
    assert_eq!(clerk.asked(), 1);
}

#[test]
fn an_answer_holds_for_a_minute_at_most_and_never_beyond_the_token() {
    let settings = how("http://127.0.0.1:1", Duration::from_secs(60));
    let fresh =
        |told: &Value| claims(&settings, told.as_object().expect("an object"), None).map(|(_, fresh)| fresh);
    assert_eq!(fresh(&good()), Some(Duration::from_secs(60)));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let mut short = good();
    short["exp"] = json!(now + 10);
    assert!(fresh(&short).is_some_and(|fresh| fresh <= Duration::from_secs(10)));
    // Two tokens that begin alike are two.
    let inquirer = Inquirer::new().expect("random");
    let (one, two) = ("a".repeat(64) + "1", "a".repeat(64) + "2");
    inquirer.keep(inquirer.digest(&one), Some((Claims::default(), Duration::from_secs(60))));
    assert!(matches!(inquirer.standing(&one), Standing::Good(_)));
    assert!(matches!(inquirer.standing(&two), Standing::Unknown));
}

#[tokio::test]
async fn many_who_show_one_token_at_once_cost_one_question() {
    let clerk = Clerk::hired(good()).await;
    let (inquirer, settings) = (Inquirer::new().expect("random"), clerk.settings());
    let inquirer = Arc::new(inquirer);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (inquirer, settings) = (Arc::clone(&inquirer), settings.clone());
        let token = secret("an-opaque-token-of-alice");
        asking.spawn(async move { inquirer.ask(&settings, &token, None).await.is_some() });
    }
    let news = asking.join_all().await.into_iter().filter(|new| *new).count();
    assert_eq!((clerk.asked(), news), (1, 1));
    assert!(inquirer.prove("an-opaque-token-of-alice").is_ok());
}

/// A token that was let in, with what its open answers hang on, and an issuer whose word holds for a moment.
async fn let_in(clerk: &Clerk) -> (Arc<Issuer>, Leash) {
    let settings = how(&clerk.url, Duration::from_millis(200));
    let issuer = Arc::new(Issuer::new(settings, Arc::default()));
    let token = secret("an-opaque-token-of-alice");
    let inquirer = issuer.inquirer.as_ref().expect("it is asked");
    let new = inquirer.ask(issuer.settings(), &token, None).await.expect("good");
    begin(Arc::clone(&issuer), token.clone(), None, new);
    let leash = inquirer.prove(token.expose()).expect("good").asked.expect("asked");
    (issuer, leash)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_open_answer_ends_with_the_first_word_that_its_token_was_withdrawn() {
    let clerk = Clerk::hired(good()).await;
    let (_issuer, leash) = let_in(&clerk).await;
    until("its issuer is asked again and again", || clerk.asked() >= 4).await;
    assert!(!leash.is_cut(), "it is good still");
    clerk.says.lock().expect("whole").1 = json!({"active": false});
    until("the answer ends", || leash.is_cut()).await;
}

#[tokio::test]
async fn an_open_answer_outlives_a_short_silence_of_its_issuer_and_not_a_long_one() {
    let clerk = Clerk::hired(good()).await;
    let (_issuer, leash) = let_in(&clerk).await;
    let begun = Instant::now();
    clerk.says.lock().expect("whole").0 = 500;
    until("the answer ends", || leash.is_cut()).await;
    assert!(
        begun.elapsed() >= Duration::from_millis(300),
        "one period to the question, and one without an answer"
    );
}

#[tokio::test]
async fn nobody_is_asked_about_a_token_without_open_answers() {
    let clerk = Clerk::hired(good()).await;
    let (issuer, leash) = let_in(&clerk).await;
    drop(leash);
    let room = &issuer.inquirer.as_ref().expect("it is asked").room;
    until("nobody watches", || room.available_permits() == WATCHED).await;
    assert_eq!(clerk.asked(), 1);
}
