//! Signing in with a browser: OpenID Connect, authorization code with PKCE; then a session.
//!
//! Nothing is kept of a sign-in that has only begun: the browser holds a random seed, and `state`, `nonce` and the code's
//! verifier are digests of it under the pepper. Whoever has the seed alone learns none of them, and nobody can fill memory by
//! beginning. Who a person is says the issuer behind the port [`Doorkeeper`]; what follows from it is decided here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use penstock_config::{AdminLogin, Auth, Limits};
use penstock_domain::{Code, Error, Secret};
use subtle::ConstantTimeEq;

use crate::claims::{address_problem, key_id, shown};
use crate::keys::whole_millis;
use crate::{
    Caller, Ending, KeyRing, KeySource, Leash, ModelAllow, Pending, Role, ScopeSet, Session, SessionStore,
    token,
};

/// How long a person may take at their issuer.
const LONGEST_SIGN_IN: Duration = Duration::from_secs(600);
/// How often it is noted that somebody still asks.
const NOTED: Duration = Duration::from_secs(60);
/// Where issuers send people back.
const CALLBACK: &str = "/admin/callback";

/// What is asked of an issuer for one sign-in.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Comes back with the answer.
    pub state: String,
    /// Comes back in the ID token.
    pub nonce: String,
    /// Proves that whoever has the code began this (RFC 7636).
    pub verifier: Secret,
}

/// A person, by the word of their issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What the issuer calls them.
    pub subject: String,
    /// Their name or address.
    pub name: String,
    /// The values of the role claim.
    pub roles: Vec<String>,
    /// What the issuer calls its own session.
    pub sid: Option<String>,
}

/// An issuer who knows people.
pub trait Doorkeeper: Send + Sync {
    /// Where a browser is to go to sign in. `issuer_unavailable`.
    fn address(&self, ask: Ask) -> Pending<'_, String>;

    /// Who came back with a code; `issuer` is what the answer says of itself (RFC 9207). `invalid_token`,
    /// `issuer_unavailable`.
    fn redeem(&self, code: Secret, issuer: Option<String>, ask: Ask) -> Pending<'_, Person>;

    /// Where a browser may go to sign out at the issuer too.
    fn farewell(&self) -> Pending<'_, Option<String>>;

    /// Which sessions end by a logout token (OpenID Connect Back-Channel Logout 1.0). `invalid_token`,
    /// `issuer_unavailable`.
    fn dismissal(&self, token: Secret) -> Pending<'_, Ending>;
}

/// How people sign in: one configuration.
pub struct SignIn {
    keeper: Arc<dyn Doorkeeper>,
    issuer: Arc<str>,
    roles: BTreeMap<String, Role>,
    redirect: Arc<str>,
    longest: Duration,
    idle: Duration,
}

/// The address that issuers send people back to; `address` is where administration is when nobody says.
pub fn redirect_uri(auth: &Auth, login: &AdminLogin, address: &str) -> String {
    login.redirect_uri.clone().unwrap_or_else(|| {
        let base = auth.resource.as_deref().unwrap_or(address);
        format!("{}{CALLBACK}", base.trim_end_matches('/'))
    })
}

impl SignIn {
    /// Reads the section; `None` when there is none.
    ///
    /// # Errors
    /// Every problem, as path and sentence.
    pub fn new(
        auth: &Auth,
        keeper: Arc<dyn Doorkeeper>,
        address: &str,
    ) -> Result<Option<Self>, Vec<(String, String)>> {
        let Some(login) = &auth.admin_login else { return Ok(None) };
        let roles = read(login)?;
        Ok(Some(Self {
            keeper,
            issuer: login.issuer.as_str().into(),
            roles,
            redirect: redirect_uri(auth, login, address).into(),
            longest: login.max_session.0,
            idle: login.idle.0,
        }))
    }

    /// The problems of the section, as `(path, sentence)`; empty when there are none.
    pub fn check(auth: &Auth) -> Vec<(String, String)> {
        auth.admin_login.as_ref().and_then(|login| read(login).err()).unwrap_or_default()
    }

    /// Whether cookies are for TLS alone: everywhere but on this machine.
    fn is_secure(&self) -> bool {
        self.redirect.starts_with("https://")
    }

    fn origin(&self) -> &str {
        let after = self.redirect.find("://").map_or(0, |at| at + 3);
        let end = self.redirect[after..].find('/').map_or(self.redirect.len(), |at| after + at);
        &self.redirect[..end]
    }
}

fn read(login: &AdminLogin) -> Result<BTreeMap<String, Role>, Vec<(String, String)>> {
    let mut problems = Vec::new();
    let mut note = |member: &str, say: String| problems.push((format!("auth.admin_login.{member}"), say));
    if let Some(say) = address_problem(&login.issuer) {
        note("issuer", say);
    }
    if let Some(redirect) = login.redirect_uri.as_deref() {
        if let Some(say) = address_problem(redirect) {
            note("redirect_uri", say);
        } else if !redirect.ends_with(CALLBACK) {
            note("redirect_uri", format!("expected an address that ends with {CALLBACK}"));
        }
    }
    if !login.scopes.iter().any(|scope| scope == "openid") {
        note("scopes", "openid must be among them, or the issuer does not say who signed in".to_owned());
    }
    for (name, time) in [("max_session", login.max_session.0), ("idle", login.idle.0)] {
        if time < NOTED || time > Duration::from_secs(30 * 86_400) {
            note(name, "expected 1m to 30d".to_owned());
        }
    }
    let mut roles = BTreeMap::new();
    for (value, name) in &login.roles {
        match Role::parse(name) {
            Ok(role) => drop(roles.insert(value.clone(), role)),
            Err(say) => note(&format!("roles.{value}"), say),
        }
    }
    if login.roles.is_empty() {
        roles = Role::ALL.iter().map(|role| (role.name().to_owned(), *role)).collect();
    }
    if problems.is_empty() { Ok(roles) } else { Err(problems) }
}

/// A sign-in that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Where the browser goes.
    pub address: String,
    /// What it brings back in a cookie.
    pub cookie: Secret,
}

/// A session that has begun: the only moment at which its text exists.
#[derive(Debug)]
pub struct Opened {
    /// What is kept.
    pub session: Session,
    /// What the browser shows.
    pub cookie: Secret,
}

/// What came back from the issuer.
#[derive(Debug, Default)]
pub struct Returned {
    /// The code, or none when the issuer refused.
    pub code: Option<String>,
    /// What was asked with.
    pub state: Option<String>,
    /// Who answers.
    pub issuer: Option<String>,
    /// Why it refused.
    pub error: Option<String>,
}

/// Begins, recognises and ends sessions.
pub struct Sessions {
    store: Arc<dyn SessionStore>,
    ring: Arc<KeyRing>,
    door: ArcSwapOption<SignIn>,
}

impl Sessions {
    /// Sessions under the pepper of this ring. Nobody can sign in before [`use_door`](Self::use_door).
    pub fn new(store: Arc<dyn SessionStore>, ring: Arc<KeyRing>) -> Self {
        Self { store, ring, door: ArcSwapOption::empty() }
    }

    /// Takes another way to sign in; without one, nobody is signed in any more.
    pub fn use_door(&self, door: Option<SignIn>) {
        self.door.store(door.map(Arc::new));
    }

    /// Whether cookies are for TLS alone.
    pub fn is_secure(&self) -> bool {
        self.door.load().as_ref().is_none_or(|door| door.is_secure())
    }

    fn door(&self) -> Result<Arc<SignIn>, Error> {
        self.door.load_full().ok_or_else(|| {
            Error::new(Code::NotFound, "nobody can sign in here: the setting auth.admin_login says how")
        })
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// `not_found` where nobody can sign in, `issuer_unavailable`.
    pub async fn begin(&self, now: SystemTime) -> Result<Begun, Error> {
        let door = self.door()?;
        let seed = token::random_text()?;
        let cookie = format!("{seed}.{}", seconds(now));
        let address = door.keeper.address(self.ask(&cookie)).await?;
        Ok(Begun { address, cookie: Secret::new(cookie) })
    }

    /// Ends a sign-in with a session.
    ///
    /// # Errors
    /// `invalid_request` for an answer to something that this browser did not ask; `invalid_token`; `insufficient_scope` for
    /// people without a role; `issuer_unavailable`, `store_unavailable`, `not_found`.
    pub async fn finish(
        &self,
        cookie: Option<&Secret>,
        returned: Returned,
        now: SystemTime,
    ) -> Result<Opened, Error> {
        let door = self.door()?;
        let cookie = cookie.ok_or_else(foreign)?;
        let begun = cookie.expose().split_once('.').and_then(|(_, time)| time.parse::<u64>().ok());
        let begun = begun.ok_or_else(foreign)?;
        let ask = self.ask(cookie.expose());
        let state = returned.state.unwrap_or_default();
        if !bool::from(state.as_bytes().ct_eq(ask.state.as_bytes())) {
            return Err(foreign());
        }
        let now_seconds = seconds(now);
        if begun > now_seconds.saturating_add(60) || begun + LONGEST_SIGN_IN.as_secs() < now_seconds {
            return Err(Error::new(
                Code::InvalidRequest,
                "this sign-in took too long: begin again at /admin/login",
            ));
        }
        let Some(code) = returned.code.filter(|code| !code.is_empty() && code.len() <= 4096) else {
            let why: String =
                returned.error.unwrap_or_default().chars().filter(char::is_ascii_graphic).take(64).collect();
            return Err(Error::new(
                Code::InvalidToken,
                format!("the issuer did not sign this person in: {why}"),
            ));
        };
        let person = door.keeper.redeem(Secret::new(code), returned.issuer, ask).await?;
        let mut roles: Vec<Role> =
            person.roles.iter().take(256).filter_map(|value| door.roles.get(value)).copied().collect();
        roles.sort_by_key(|role| role.name());
        roles.dedup();
        if roles.is_empty() {
            let say =
                "this person has no role here: the setting auth.admin_login.roles says which groups have one";
            return Err(Error::new(Code::InsufficientScope, say)
                .with_param(&*key_id(&door.issuer, &person.subject).shared()));
        }
        let text = token::random_text()?;
        let now = whole_millis(now);
        let session = Session {
            digest: self.digest(&text),
            id: format!("ses_{}", &token::random_text()?[..22]).into(),
            issuer: Arc::clone(&door.issuer),
            subject: person.subject.as_str().into(),
            sid: person.sid.as_deref().map(Arc::from),
            name: shown(&person.name).into(),
            roles,
            created: now,
            seen: now,
            expires: now + door.longest,
        };
        self.store.insert(session.clone()).await?;
        Ok(Opened { session, cookie: Secret::new(text) })
    }

    /// Who shows a cookie, and the session itself.
    ///
    /// # Errors
    /// `expired_token` for whatever is no session, or no session any more; `store_unavailable`.
    pub async fn recognise(&self, cookie: &Secret, now: SystemTime) -> Result<(Arc<Caller>, Session), Error> {
        let door = self.door().map_err(|_| ended())?;
        let session = self.store.find(self.digest(cookie.expose())).await?.ok_or_else(ended)?;
        let idle = now.duration_since(session.seen).unwrap_or_default();
        if session.expires <= now || idle >= door.idle || session.issuer != door.issuer {
            return Err(ended());
        }
        if idle >= NOTED {
            self.store.touch(session.digest, whole_millis(now)).await?;
        }
        let scopes = ScopeSet::parse(session.roles.iter().map(|role| role.scope())).unwrap_or_default();
        let caller = Caller {
            key_id: key_id(&session.issuer, &session.subject),
            name: Arc::clone(&session.name),
            team: None,
            scopes,
            models: ModelAllow::ALL,
            limits: Limits::default(),
            budget: None,
            source: KeySource::Token,
            allow_ips: Arc::default(),
            priority: None,
            leash: Leash::default(),
        };
        Ok((Arc::new(caller), session))
    }

    /// What a page of ours must send beside the cookie with everything that changes something.
    pub fn csrf(&self, cookie: &Secret) -> String {
        self.ring.pepper().digest(&format!("csrf {}", cookie.expose())).to_hex()
    }

    /// Checks that a page of ours sent a request that changes something: its origin, and the text of [`csrf`](Self::csrf).
    ///
    /// # Errors
    /// `forbidden_origin`.
    pub fn check_page(&self, cookie: &Secret, origin: Option<&str>, csrf: Option<&str>) -> Result<(), Error> {
        let door = self.door().map_err(|_| ended())?;
        let ours = origin.is_some_and(|origin| origin.eq_ignore_ascii_case(door.origin()));
        let expected = self.csrf(cookie);
        let proved = bool::from(csrf.unwrap_or_default().as_bytes().ct_eq(expected.as_bytes()));
        if ours && proved {
            return Ok(());
        }
        let say = "whoever signed in with a browser changes things from this gateway's own pages: send their origin, and the csrf of /admin/v1/me as x-csrf-token";
        Err(Error::new(Code::ForbiddenOrigin, say))
    }

    /// Every session that may still be in use, the newest first.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn list(&self, now: SystemTime) -> Result<Vec<Session>, Error> {
        let mut all = self.store.list().await?;
        let idle = self.door.load().as_ref().map_or(Duration::MAX, |door| door.idle);
        all.retain(|one| one.expires > now && now.duration_since(one.seen).unwrap_or_default() < idle);
        Ok(all)
    }

    /// Ends sessions.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn end(&self, which: Ending) -> Result<Vec<Session>, Error> {
        self.store.end(which).await
    }

    /// The sessions that the issuer says are over.
    ///
    /// # Errors
    /// `invalid_token`, `issuer_unavailable`, `store_unavailable`, `not_found`.
    pub async fn dismiss(&self, token: Secret) -> Result<Vec<Session>, Error> {
        let which = self.door()?.keeper.dismissal(token).await?;
        self.end(which).await
    }

    /// Where a browser may go to sign out at the issuer too; nowhere when that cannot be told.
    pub async fn farewell(&self) -> Option<String> {
        self.door().ok()?.keeper.farewell().await.ok().flatten()
    }

    /// The digest of a cookie's text.
    pub fn digest(&self, cookie: &str) -> crate::Digest {
        self.ring.pepper().digest(&format!("session {cookie}"))
    }

    fn ask(&self, cookie: &str) -> Ask {
        // No key has a space in it: these digests are those of no key.
        let derive = |what: &str| self.ring.pepper().digest(&format!("sign-in {what} {cookie}")).to_hex();
        Ask { state: derive("state"), nonce: derive("nonce"), verifier: Secret::new(derive("verifier")) }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cold]
fn foreign() -> Error {
    Error::new(
        Code::InvalidRequest,
        "this answer belongs to a sign-in that this browser did not begin: begin at /admin/login",
    )
}

#[cold]
fn ended() -> Error {
    Error::new(Code::ExpiredToken, "this session has ended: sign in again at /admin/login")
}

#[cfg(test)]
mod tests;
