use std::future::Future;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::{Digest, Pepper};

/// Keeps sessions in memory.
#[derive(Default)]
struct Shelf(Mutex<Vec<Session>>);

impl Shelf {
    fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut Vec<Session>) -> T) -> Pending<'_, T> {
        let outcome = act(&mut self.0.lock().expect("whole"));
        Box::pin(std::future::ready(Ok(outcome)))
    }
}

impl SessionStore for Shelf {
    fn insert(&self, session: Session) -> Pending<'_, ()> {
        self.with(|all| all.push(session))
    }

    fn find(&self, digest: Digest) -> Pending<'_, Option<Session>> {
        self.with(|all| all.iter().find(|one| one.digest == digest).cloned())
    }

    fn touch(&self, digest: Digest, now: SystemTime) -> Pending<'_, ()> {
        self.with(|all| all.iter_mut().filter(|one| one.digest == digest).for_each(|one| one.seen = now))
    }

    fn list(&self) -> Pending<'_, Vec<Session>> {
        self.with(|all| all.clone())
    }

    fn end(&self, which: Ending) -> Pending<'_, Vec<Session>> {
        self.with(|all| all.extract_if(.., |one| which.takes(one)).collect())
    }
}

/// Lets everybody in whose code is their name.
struct Keeper;

impl Doorkeeper for Keeper {
    fn address(&self, ask: Ask) -> Pending<'_, String> {
        let address = format!("https://id.example.com/authorize?state={}&nonce={}", ask.state, ask.nonce);
        Box::pin(std::future::ready(Ok(address)))
    }

    fn redeem(&self, code: Secret, _: Option<String>, ask: Ask) -> Pending<'_, Person> {
        assert_eq!((ask.nonce.len(), ask.verifier.expose().len()), (64, 64));
        let name = code.expose().to_owned();
        let roles = if name == "stranger" { vec![] } else { vec!["watchers".to_owned(), "admin".to_owned()] };
        Box::pin(std::future::ready(Ok(Person {
            subject: name.clone(),
            name,
            roles,
            sid: Some("s1".into()),
        })))
    }

    fn farewell(&self) -> Pending<'_, Option<String>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn dismissal(&self, _: Secret) -> Pending<'_, Ending> {
        let (issuer, sid) = ("https://id.example.com".into(), Some("s1".into()));
        Box::pin(std::future::ready(Ok(Ending::AtIssuer { issuer, sid, subject: None })))
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("everything here answers at once"),
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn auth() -> Auth {
    let login = AdminLogin {
        issuer: "https://id.example.com".into(),
        client_id: "penstock".into(),
        client_secret: None,
        redirect_uri: Some("https://gateway.example.com/admin/callback".into()),
        scopes: vec!["openid".into()],
        role_claim: "groups".into(),
        roles: [("watchers".to_owned(), "viewer".to_owned())].into(),
        max_session: penstock_config::DurationText(Duration::from_secs(8 * 3600)),
        idle: penstock_config::DurationText(Duration::from_secs(1800)),
        algorithms: Vec::new(),
        ca_file: None,
    };
    Auth { admin_login: Some(login), ..Auth::default() }
}

fn sessions() -> Sessions {
    let ring = Arc::new(KeyRing::new(Pepper::new([9; 32])));
    let sessions = Sessions::new(Arc::<Shelf>::default(), ring);
    sessions.use_door(SignIn::new(&auth(), Arc::new(Keeper), "http://127.0.0.1:8080").expect("sound"));
    sessions
}

fn state(begun: &Begun) -> String {
    begun.address.split("state=").nth(1).expect("a state")[..64].to_owned()
}

fn returned(begun: &Begun, code: &str) -> Returned {
    Returned { code: Some(code.into()), state: Some(state(begun)), ..Returned::default() }
}

fn open(sessions: &Sessions, name: &str) -> Opened {
    let begun = now(sessions.begin(at(0))).expect("begun");
    now(sessions.finish(Some(&begun.cookie), returned(&begun, name), at(1))).expect("opened")
}

#[test]
fn a_person_with_a_role_gets_a_session_with_that_role_and_no_other() {
    let sessions = sessions();
    let opened = open(&sessions, "alice");
    let (caller, session) = now(sessions.recognise(&opened.cookie, at(2))).expect("in");
    assert_eq!(caller.key_id.as_str(), "jwt:https://id.example.com:alice");
    // `admin` is the name of a role, and no group that the operator named.
    assert_eq!(caller.scopes.to_vec(), ["role:viewer"]);
    assert_eq!(session, opened.session);
    assert_ne!(opened.cookie.expose(), opened.session.id.as_ref());
    let begun = now(sessions.begin(at(0))).expect("begun");
    let refused = now(sessions.finish(Some(&begun.cookie), returned(&begun, "stranger"), at(1)));
    assert_eq!(refused.expect_err("no role").code(), Code::InsufficientScope);
}

#[test]
fn only_the_browser_that_began_a_sign_in_ends_it_and_only_in_time() {
    let sessions = sessions();
    let (mine, other) =
        (now(sessions.begin(at(0))).expect("mine"), now(sessions.begin(at(0))).expect("other"));
    assert_ne!(state(&mine), state(&other));
    let code = |outcome: Result<Opened, Error>| outcome.expect_err("refused").code();
    let finish =
        |cookie: Option<&Secret>, returned: Returned, when| now(sessions.finish(cookie, returned, when));
    assert_eq!(code(finish(None, returned(&mine, "alice"), at(1))), Code::InvalidRequest);
    assert_eq!(code(finish(Some(&other.cookie), returned(&mine, "alice"), at(1))), Code::InvalidRequest);
    assert_eq!(code(finish(Some(&mine.cookie), Returned::default(), at(1))), Code::InvalidRequest);
    assert_eq!(code(finish(Some(&mine.cookie), returned(&mine, "alice"), at(601))), Code::InvalidRequest);
    // Another time in the cookie is another state.
    let later = Secret::new(mine.cookie.expose().replace("1800000000", "1800000600"));
    assert_eq!(code(finish(Some(&later), returned(&mine, "alice"), at(601))), Code::InvalidRequest);
    let refused = Returned { error: Some("access_denied\r\n<b>".into()), code: None, ..returned(&mine, "") };
    let refused = finish(Some(&mine.cookie), refused, at(1)).expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidToken);
    assert!(refused.say().ends_with("access_denied<b>"), "{refused}");
    assert!(finish(Some(&mine.cookie), returned(&mine, "alice"), at(600)).is_ok());
}

#[test]
fn sessions_end_by_idleness_by_age_by_the_issuer_and_with_the_configuration() {
    let sessions = sessions();
    let ended = |cookie: &Secret, seconds| {
        now(sessions.recognise(cookie, at(seconds))).map_err(|error| error.code()).map(drop)
    };
    let idle = open(&sessions, "idle");
    assert_eq!(ended(&idle.cookie, 1800), Ok(()));
    assert_eq!(ended(&idle.cookie, 3599), Ok(()), "each request begins the wait anew");
    assert_eq!(ended(&idle.cookie, 3599 + 1800), Err(Code::ExpiredToken));
    let busy = open(&sessions, "busy");
    for minute in 0..479 {
        assert_eq!(ended(&busy.cookie, 60 + minute * 60), Ok(()), "minute {minute}");
    }
    assert_eq!(ended(&busy.cookie, 8 * 3600 + 2), Err(Code::ExpiredToken));
    let out = open(&sessions, "out");
    assert_eq!(now(sessions.dismiss(Secret::new("a token"))).expect("ended").len(), 3);
    assert_eq!(ended(&out.cookie, 2), Err(Code::ExpiredToken));
    let left = open(&sessions, "left");
    sessions.use_door(None);
    assert_eq!(ended(&left.cookie, 2), Err(Code::ExpiredToken));
    assert_eq!(now(sessions.begin(at(0))).expect_err("no door").code(), Code::NotFound);
}

#[test]
fn only_a_page_of_the_gateway_changes_things() {
    let sessions = sessions();
    let (mine, other) = (open(&sessions, "alice"), open(&sessions, "bob"));
    let csrf = sessions.csrf(&mine.cookie);
    let check = |origin, csrf: Option<&str>| sessions.check_page(&mine.cookie, origin, csrf).is_ok();
    let home = Some("https://gateway.example.com");
    assert!(check(home, Some(&csrf)));
    for origin in [
        None,
        Some("null"),
        Some("https://gateway.example.com.evil.example"),
        Some("http://gateway.example.com"),
        Some("https://gateway.example.com:8443"),
        Some("https://gateway.example.com/"),
    ] {
        assert!(!check(origin, Some(&csrf)), "{origin:?}");
    }
    for csrf in [None, Some(""), Some(mine.cookie.expose()), Some(&*sessions.csrf(&other.cookie))] {
        assert!(!check(home, csrf), "{csrf:?}");
    }
}

#[test]
fn what_cannot_be_right_about_a_sign_in_is_said_at_once() {
    let mut auth = auth();
    let login = auth.admin_login.as_mut().expect("there");
    login.issuer = "http://id.example.com".into();
    login.redirect_uri = Some("https://gateway.example.com/callback".into());
    login.scopes = vec!["profile".into()];
    login.idle = penstock_config::DurationText(Duration::ZERO);
    login.roles = [("staff".to_owned(), "king".to_owned())].into();
    let paths: Vec<String> = SignIn::check(&auth).into_iter().map(|(path, _)| path).collect();
    let expected = ["issuer", "redirect_uri", "scopes", "idle", "roles.staff"];
    assert_eq!(paths, expected.map(|member| format!("auth.admin_login.{member}")));
    assert_eq!(
        redirect_uri(
            &Auth { resource: Some("https://gw.example/".into()), ..Auth::default() },
            &AdminLogin { redirect_uri: None, ..auth.admin_login.expect("there") },
            "http://127.0.0.1:1"
        ),
        "https://gw.example/admin/callback"
    );
}
