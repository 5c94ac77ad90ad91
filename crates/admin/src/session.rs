//! Signing in and out with a browser, and what a session may do.
//!
//! A session's cookie is taken where no key and no token is sent. With it a page changes things only when it is one of this
//! gateway's own: it names its origin, and sends the text that `/admin/v1/me` gave it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION, ORIGIN, REFERRER_POLICY,
    SET_COOKIE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, request};
use penstock_domain::{Code, Credential, Error, Secret};
use penstock_identity::{AuditEvent, Caller, Denial, Ending, Returned, Scope, Session};
use serde_json::{Value, json};

use crate::keys::{Answer, stamp};
use crate::problem::Refusal;
use crate::{Parts, audit};

/// The header with the text that proves a page of ours.
const CSRF: &str = "x-csrf-token";
/// The longest cookie of ours.
const LONGEST: usize = 256;

/// The page after a sign-in. A cookie that is sent to its own site alone would not go along if the issuer's redirect led
/// straight to the console: this page is of the same site.
const ARRIVED: &str = "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=\"0;url=/\"><title>Signed \
     in</title><p>Signed in. <a href=\"/\">Go on</a>.";

/// How somebody shows who they are.
pub(crate) enum Who {
    /// By a header: no page of another site can send it.
    Header(Credential),
    /// By the cookie of a session.
    Browser {
        cookie: Secret,
        /// Whether the request changes something, and how it shows to come from a page of ours.
        page: Option<(Option<String>, Option<String>)>,
    },
}

impl Who {
    /// Reads a request's head. A header counts before a cookie.
    pub(crate) fn of(parts: &Parts, credential: Credential, method: &Method, headers: &HeaderMap) -> Self {
        if credential != Credential::Missing {
            return Who::Header(credential);
        }
        let Some(cookie) = cookie(headers, session_cookie(parts)) else { return Who::Header(credential) };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let changes = !matches!(*method, Method::GET | Method::HEAD);
        Who::Browser { cookie, page: changes.then(|| (text(ORIGIN.as_str()), text(CSRF))) }
    }

    /// The caller, when they hold the scope; else why not, and who they are where that is known.
    pub(crate) async fn admit(
        &self,
        parts: &Parts,
        scope: Scope,
    ) -> Result<Arc<Caller>, (Error, Option<Arc<str>>)> {
        let now = (parts.now)();
        match self {
            Who::Header(credential) => (parts.authorize)(credential, scope, None).map_err(|error| {
                let ring = parts.keys.ring();
                let known = ring.authenticate(credential, now).ok().or_else(|| ring.owner(credential));
                (error, known.map(|caller| caller.key_id.shared()))
            }),
            Who::Browser { cookie, page } => {
                let found = parts.sessions.recognise(cookie, now).await;
                let (caller, _) = found.map_err(|error| (error, None))?;
                let refused = |error| (error, Some(caller.key_id.shared()));
                if let Some((origin, csrf)) = page {
                    let checked = parts.sessions.check_page(cookie, origin.as_deref(), csrf.as_deref());
                    checked.map_err(refused)?;
                }
                if !caller.scopes.allows(scope, None) {
                    let say = format!("this person's role does not include {scope}");
                    return Err(refused(Error::new(Code::InsufficientScope, say)));
                }
                Ok(caller)
            }
        }
    }
}

/// `__Host-`: only this host can have set it, over TLS, for all paths.
fn session_cookie(parts: &Parts) -> &'static str {
    if parts.sessions.is_secure() { "__Host-penstock" } else { "penstock-session" }
}

fn login_cookie(parts: &Parts) -> &'static str {
    if parts.sessions.is_secure() { "__Host-penstock-login" } else { "penstock-login" }
}

/// A cookie that is there once: of two nobody knows who set which.
fn cookie(headers: &HeaderMap, name: &str) -> Option<Secret> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut found = pairs.filter(|(have, _)| *have == name).map(|(_, value)| value);
    let value = found.next().filter(|value| !value.is_empty() && value.len() <= LONGEST)?;
    found.next().is_none().then(|| Secret::new(value))
}

fn set_cookie(
    parts: &Parts,
    (name, value): (&str, &str),
    same_site: &str,
    age: u64,
) -> Result<HeaderValue, Error> {
    let secure = if parts.sessions.is_secure() { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite={same_site}; Max-Age={age}{secure}");
    let mut value = HeaderValue::try_from(text)
        .map_err(|error| Error::new(Code::InternalError, "a cookie cannot be written").with_source(error))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Sends the browser to the issuer.
pub(crate) async fn begin(parts: &Parts) -> Result<Response, Refusal> {
    let begun = parts.sessions.begin((parts.now)()).await?;
    let pair = (login_cookie(parts), begun.cookie.expose());
    // Lax: the issuer leads back from another site.
    let cookie = set_cookie(parts, pair, "Lax", 600)?;
    let location = HeaderValue::try_from(begun.address).map_err(|error| {
        Error::new(Code::IssuerUnavailable, "the issuer's address cannot be sent").with_source(error)
    })?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.append(SET_COOKIE, cookie);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Takes the issuer's answer, and opens a session. Whoever is turned away stands in the audit log.
pub(crate) async fn finish(parts: &Parts, head: &request::Parts) -> Result<Response, Refusal> {
    let opened = match finished(parts, head).await {
        Ok(opened) => opened,
        Err(error) => {
            let caller = error.param().filter(|_| error.code() == Code::InsufficientScope).map(Arc::from);
            parts.denials.note(Denial { code: error.code(), caller, what: "signIn" });
            return Err(error.into());
        }
    };
    let (session, now) = (&opened.session, (parts.now)());
    let caller = parts.sessions.recognise(&opened.cookie, now).await?.0;
    let after = show(session).to_string();
    let event =
        AuditEvent::new(now, caller.key_id.as_str(), "admin.login", &session.id).with(None, Some(&after));
    if let Err(error) = audit::write(parts, event).await {
        // Nobody is in of whom the log does not know.
        parts.sessions.end(Ending::Digest(session.digest)).await?;
        return Err(error.into());
    }
    let age = session.expires.duration_since(now).unwrap_or_default().as_secs();
    let cookie = set_cookie(parts, (session_cookie(parts), opened.cookie.expose()), "Strict", age)?;
    let mut response = ARRIVED.into_response();
    let headers = response.headers_mut();
    headers.append(SET_COOKIE, cookie);
    headers.append(SET_COOKIE, set_cookie(parts, (login_cookie(parts), ""), "Lax", 0)?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    Ok(response)
}

async fn finished(parts: &Parts, head: &request::Parts) -> Result<penstock_identity::Opened, Error> {
    let unreadable = || Error::new(Code::InvalidRequest, "the issuer's answer cannot be read");
    if head.uri.query().is_some_and(|query| query.len() > 16 * 1024) {
        return Err(unreadable());
    }
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(&head.uri) else {
        return Err(unreadable());
    };
    let one = |name: &str| {
        let mut found = pairs.iter().filter(|(have, _)| have == name);
        let first = found.next().map(|(_, value)| value.clone());
        if found.next().is_some() { Err(unreadable()) } else { Ok(first) }
    };
    let returned =
        Returned { code: one("code")?, state: one("state")?, issuer: one("iss")?, error: one("error")? };
    let cookie = cookie(&head.headers, login_cookie(parts));
    parts.sessions.finish(cookie.as_ref(), returned, (parts.now)()).await
}

/// Ends the session of the cookie. Says where to sign out at the issuer too.
pub(crate) async fn leave(parts: &Parts, caller: &Caller, who: &Who) -> Result<Response, Refusal> {
    let Who::Browser { cookie, .. } = who else {
        let say =
            "there is no session to end: this request came with a key or a token, and not with a cookie";
        return Err(Error::new(Code::InvalidRequest, say).into());
    };
    let ended = parts.sessions.end(Ending::Digest(parts.sessions.digest(cookie.expose()))).await?;
    for session in &ended {
        note(parts, caller.key_id.as_str(), "admin.logout", session).await?;
    }
    let body = json!({"ended": ended.len(), "issuer": parts.sessions.farewell().await}).to_string();
    let mut response = (StatusCode::OK, Body::from(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.append(SET_COOKIE, set_cookie(parts, (session_cookie(parts), ""), "Strict", 0)?);
    Ok(response)
}

/// Ends the sessions that the issuer says are over (OpenID Connect Back-Channel Logout 1.0).
pub(crate) async fn dismiss(parts: &Parts, body: &[u8]) -> Result<Response, Refusal> {
    let unreadable = || Error::new(Code::InvalidRequest, "expected a form with a logout_token");
    let text = std::str::from_utf8(body).map_err(|_| unreadable())?;
    // A form is written as a query string is.
    let uri: Uri = format!("/?{text}").parse().map_err(|_| unreadable())?;
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(&uri) else {
        return Err(unreadable().into());
    };
    let token = pairs.into_iter().find(|(name, _)| name == "logout_token").map(|(_, value)| value);
    let token = token.filter(|token| token.len() <= 8 * 1024).ok_or_else(unreadable)?;
    let ended = parts.sessions.dismiss(Secret::new(token)).await.inspect_err(|error| {
        parts.denials.note(Denial { code: error.code(), caller: None, what: "backChannelLogout" });
    })?;
    for session in &ended {
        note(parts, "the issuer of sign-ins", "session.end", session).await?;
    }
    Ok((StatusCode::OK, [(CACHE_CONTROL, "no-store")]).into_response())
}

/// Who asks.
pub(crate) async fn me(parts: &Parts, caller: &Caller, who: &Who) -> Answer {
    let mut shown = json!({
        "id": caller.key_id.as_str(),
        "name": caller.name,
        "team": caller.team,
        "scopes": caller.scopes.to_vec(),
        "source": caller.source.name(),
        "session": null,
    });
    if let Who::Browser { cookie, .. } = who {
        let (_, session) = parts.sessions.recognise(cookie, (parts.now)()).await?;
        shown["source"] = "session".into();
        shown["session"] = show(&session);
        shown["session"]["csrf"] = parts.sessions.csrf(cookie).into();
    }
    Ok((StatusCode::OK, shown))
}

/// Everybody who is signed in.
pub(crate) async fn list(parts: &Parts) -> Answer {
    let all = parts.sessions.list((parts.now)()).await?;
    let data: Vec<Value> = all.iter().map(show).collect();
    Ok((StatusCode::OK, json!({"data": data})))
}

/// Ends one session.
pub(crate) async fn end(parts: &Parts, caller: &Caller, id: &str) -> Answer {
    let ended = parts.sessions.end(Ending::Id(id.into())).await?;
    let session =
        ended.first().ok_or_else(|| Error::new(Code::NotFound, "there is no session of this id"))?;
    note(parts, caller.key_id.as_str(), "session.end", session).await?;
    Ok((StatusCode::OK, show(session)))
}

async fn note(parts: &Parts, actor: &str, action: &str, session: &Session) -> Result<(), Error> {
    let before = show(session).to_string();
    let event = AuditEvent::new((parts.now)(), actor, action, &session.id).with(Some(&before), None);
    audit::write(parts, event).await
}

/// A session as it is shown.
pub fn show(session: &Session) -> Value {
    json!({
        "id": session.id,
        "issuer": session.issuer,
        "subject": session.subject,
        "name": session.name,
        "roles": session.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
        "created": stamp(session.created),
        "seen": stamp(session.seen),
        "expires": stamp(session.expires),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_counts_only_when_it_is_there_once() {
        let found = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(COOKIE, value.parse().expect("a value"));
            }
            cookie(&headers, "penstock-session").map(|secret| secret.expose().to_owned())
        };
        assert_eq!(found(&["a=b; penstock-session=x"]).as_deref(), Some("x"));
        assert_eq!(found(&["a=b", "penstock-session=x"]).as_deref(), Some("x"));
        for none in [
            &["a=b"][..],
            &["penstock-session="],
            &["xpenstock-session=x"],
            &["penstock-session=x; penstock-session=y"],
            &["penstock-session=x", "penstock-session=x"],
        ] {
            assert_eq!(found(none), None, "{none:?}");
        }
        assert_eq!(found(&[&format!("penstock-session={}", "x".repeat(300))]), None);
    }
}
