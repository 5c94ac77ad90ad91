//! People by the word of their issuer: OpenID Connect Core 1.0, authorization code (3.1) with PKCE (RFC 7636), and
//! Back-Channel Logout 1.0.
//!
//! Signing in is rare: the discovery document and the keys are fetched for each one anew, few at once, so that nothing here
//! goes stale. The ID token's signature is proved although it came straight from the issuer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use penstock_config::AdminLogin;
use penstock_domain::{Error, Secret};
use penstock_identity::{Ask, Doorkeeper, Ending, Pending, Person};
use ring::digest;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::fetch::{self, Discovery, Form, NamedBy};
use crate::issuer::unavailable;
use crate::jwk::Key;
use crate::{invalid, jws};

/// How many sign-ins are asked about at once.
const OPEN: usize = 8;
/// How long one waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// How far the clocks of the issuer and of this machine may be apart, in seconds.
const LEEWAY: u64 = 60;
/// How old a logout token may be, in seconds.
const LOGOUT_AGE: u64 = 300;
/// The event that makes a token a logout token.
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The issuer of a configuration.
pub struct OidcDoorkeeper {
    login: AdminLogin,
    redirect: String,
    turns: Semaphore,
}

impl OidcDoorkeeper {
    /// An issuer that sends people back to `redirect`. Asks nothing yet.
    pub fn new(login: AdminLogin, redirect: String) -> Arc<Self> {
        Arc::new(Self { login, redirect, turns: Semaphore::new(OPEN) })
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        match tokio::time::timeout(TURN, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(unavailable("too many sign in at once: try again in a moment")),
        }
    }

    async fn document(&self) -> Result<Discovery, Error> {
        let document = fetch::document(&self.login.issuer, self.login.ca_file.as_deref()).await;
        document.map_err(|why| self.down(&why))
    }

    fn down(&self, why: &str) -> Error {
        tracing::warn!(issuer = self.login.issuer, why, "nobody can sign in");
        unavailable("the issuer of sign-ins does not answer: try again in a moment; the log has the cause")
    }

    fn place(&self, document: &Discovery, url: Option<&str>, what: &str) -> Result<(Uri, NamedBy), Error> {
        let url = url.ok_or_else(|| self.down(&format!("its discovery document has no {what}")))?;
        document.place(url).map_err(|why| self.down(&why))
    }

    async fn keys(&self, document: &Discovery) -> Result<Vec<Key>, Error> {
        let how = self.login.ca_file.as_deref();
        document.keys(how).await.map_err(|why| self.down(&why))
    }

    /// The claims of a token that the issuer signed for us; `kind` is what it may say in `typ`.
    fn proved(
        &self,
        text: &str,
        keys: &[Key],
        kinds: &[Option<&str>],
    ) -> Result<Map<String, Value>, &'static str> {
        let token = jws::Token::read(text).map_err(|_| "it is not readable")?;
        if !token.says(kinds) {
            return Err("it is another kind of token (`typ`)");
        }
        if !self.login.algorithms.contains(&token.alg) {
            return Err("its algorithm (`alg`) is none of those that are configured");
        }
        let fits = |key: &&Key| {
            key.is_for(token.alg) && (token.kid.is_none() || key.kid.as_deref() == token.kid.as_deref())
        };
        let mut fitting = keys.iter().filter(fits);
        let key = fitting.next().ok_or("no key of the issuer has its key id (`kid`)")?;
        if fitting.next().is_some() && token.kid.is_none() {
            return Err("it does not say which key (`kid`) signed it");
        }
        if !key.proves(token.alg, token.signed.as_bytes(), &token.signature) {
            return Err("its signature does not fit");
        }
        let told = token.raw();
        if told.get("iss").and_then(Value::as_str) != Some(&*self.login.issuer) {
            return Err("another issuer made it (`iss`)");
        }
        let audience = jws::texts(told.get("aud"), false);
        let ours = |text: &str| text == self.login.client_id;
        if !audience.iter().any(|audience| ours(audience)) {
            return Err("it is for another client (`aud`)");
        }
        let party = told.get("azp").and_then(Value::as_str);
        if party.is_some_and(|party| !ours(party)) || audience.len() > 1 && party.is_none() {
            return Err("it was given to another client (`azp`)");
        }
        Ok(told.clone())
    }

    async fn redeemed(&self, code: &Secret, issuer: Option<&str>, ask: &Ask) -> Result<Person, Error> {
        let _turn = self.turn().await?;
        let document = self.document().await?;
        // RFC 9207: an answer that another issuer sent is not to be taken to this one.
        let silent = issuer.is_none() && document.authorization_response_iss_parameter_supported;
        if silent || issuer.is_some_and(|issuer| issuer != self.login.issuer) {
            return Err(refused("the answer came from another issuer (`iss`)"));
        }
        let (url, named) = self.place(&document, document.token_endpoint.as_deref(), "token_endpoint")?;
        let secret = self.login.client_secret.as_ref();
        let form = Form {
            members: &[
                ("grant_type", "authorization_code"),
                ("code", code.expose()),
                ("redirect_uri", &self.redirect),
                ("code_verifier", ask.verifier.expose()),
                ("client_id", &self.login.client_id),
            ],
            client: secret.map(|secret| (&*self.login.client_id, secret.expose())),
        };
        let body = fetch::post(&url, (named, self.login.ca_file.as_deref()), &form).await;
        let body = body.map_err(|why| {
            // A code that is wrong or was used is answered like a client that is wrong: the log says more.
            tracing::warn!(issuer = self.login.issuer, why, "the issuer did not take a code");
            refused("its issuer did not take the code: begin again at /admin/login; the log has the cause")
        })?;
        let told = jws::object(&body).ok_or_else(|| refused("the issuer's answer is not readable"))?;
        let token = told.get("id_token").and_then(Value::as_str);
        let token = token.ok_or_else(|| refused("the issuer gave no ID token"))?;
        let keys = self.keys(&document).await?;
        let claims = self.proved(token, &keys, &[None, Some("jwt")]).map_err(refused)?;
        person(&self.login, &claims, ask).map_err(refused)
    }

    async fn dismissed(&self, token: &Secret) -> Result<Ending, Error> {
        let _turn = self.turn().await?;
        let document = self.document().await?;
        let keys = self.keys(&document).await?;
        let kinds = [None, Some("jwt"), Some("logout+jwt")];
        let claims = self.proved(token.expose(), &keys, &kinds).map_err(refused)?;
        ending(&self.login.issuer, &claims).map_err(refused)
    }
}

impl Doorkeeper for OidcDoorkeeper {
    fn address(&self, ask: Ask) -> Pending<'_, String> {
        Box::pin(async move {
            let _turn = self.turn().await?;
            let document = self.document().await?;
            let endpoint = document.authorization_endpoint.as_deref();
            let (url, _) = self.place(&document, endpoint, "authorization_endpoint")?;
            let challenge = digest::digest(&digest::SHA256, ask.verifier.expose().as_bytes());
            let query = fetch::query(&[
                ("response_type", "code"),
                ("client_id", &self.login.client_id),
                ("redirect_uri", &self.redirect),
                ("scope", &self.login.scopes.join(" ")),
                ("state", &ask.state),
                ("nonce", &ask.nonce),
                ("code_challenge", &URL_SAFE_NO_PAD.encode(challenge)),
                ("code_challenge_method", "S256"),
            ]);
            let between = if url.query().is_some() { '&' } else { '?' };
            Ok(format!("{url}{between}{query}"))
        })
    }

    fn redeem(&self, code: Secret, issuer: Option<String>, ask: Ask) -> Pending<'_, Person> {
        Box::pin(async move { self.redeemed(&code, issuer.as_deref(), &ask).await })
    }

    fn farewell(&self) -> Pending<'_, Option<String>> {
        Box::pin(async move {
            let _turn = self.turn().await?;
            let document = self.document().await?;
            let Some(url) = document.end_session_endpoint.as_deref() else { return Ok(None) };
            let (url, _) = self.place(&document, Some(url), "end_session_endpoint")?;
            Ok(Some(format!("{url}?{}", fetch::query(&[("client_id", &self.login.client_id)]))))
        })
    }

    fn dismissal(&self, token: Secret) -> Pending<'_, Ending> {
        Box::pin(async move { self.dismissed(&token).await })
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Who an ID token is about (OpenID Connect Core 1.0, 3.1.3.7).
fn person(login: &AdminLogin, claims: &Map<String, Value>, ask: &Ask) -> Result<Person, &'static str> {
    let now = now();
    let time = |name: &str| jws::time(claims, name).map_err(|_| "one of its times is no time");
    if time("exp")?.is_none_or(|end| end.saturating_add(LEEWAY) <= now) {
        return Err("it has expired, or has no end (`exp`)");
    }
    if time("iat")?.is_none_or(|made| made > now.saturating_add(LEEWAY)) {
        return Err("it comes from the future, or does not say when it was made (`iat`)");
    }
    if claims.get("nonce").and_then(Value::as_str) != Some(&*ask.nonce) {
        return Err("it answers another sign-in (`nonce`)");
    }
    let text = |name: &str| {
        let text =
            claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty() && text.len() <= 1024);
        text.map(str::to_owned)
    };
    let subject = text("sub").ok_or("it has no subject (`sub`)")?;
    let name = ["email", "preferred_username", "name"].into_iter().find_map(text);
    Ok(Person {
        name: name.unwrap_or_else(|| subject.clone()),
        roles: jws::texts(jws::find(claims, &login.role_claim), false),
        sid: text("sid"),
        subject,
    })
}

/// Which sessions a logout token ends (Back-Channel Logout 1.0, 2.6).
fn ending(issuer: &str, claims: &Map<String, Value>) -> Result<Ending, &'static str> {
    let now = now();
    let made = jws::time(claims, "iat").ok().flatten().ok_or("it does not say when it was made (`iat`)")?;
    if made > now.saturating_add(LEEWAY) || made.saturating_add(LOGOUT_AGE) < now {
        return Err("it is too old, or comes from the future (`iat`)");
    }
    let expired = |end: Option<u64>| end.is_some_and(|end| end.saturating_add(LEEWAY) <= now);
    if jws::time(claims, "exp").map_or(true, expired) {
        return Err("it has expired (`exp`)");
    }
    let event = claims.get("events").and_then(|events| events.get(LOGOUT));
    if !event.is_some_and(Value::is_object) {
        return Err("it is no logout token (`events`)");
    }
    if claims.contains_key("nonce") {
        return Err("it is an ID token (`nonce`)");
    }
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(Arc::from);
    let (sid, subject) = (text("sid"), text("sub"));
    if sid.is_none() && subject.is_none() {
        return Err("it says neither whose session it is about (`sub`) nor which (`sid`)");
    }
    Ok(Ending::AtIssuer { issuer: issuer.into(), sid, subject })
}

fn refused(why: &'static str) -> Error {
    invalid(why)
}

#[cfg(test)]
mod tests;
