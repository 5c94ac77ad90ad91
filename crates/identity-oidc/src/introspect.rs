//! Asking an issuer whether a token is (still) good: RFC 7662.
//!
//! What was answered is kept under the digest of the whole token, for a stated time and never beyond the token's end, in
//! tables of fixed size: one for good tokens and a smaller one for others, so that no flood of guesses pushes out what is
//! good. Few questions are open at once, those about tokens that were good lately before those about strangers; an issuer
//! that fails is left alone for a second. What cannot be asked is refused as `issuer_unavailable`, never let in. A token is asked
//! about once at a time, and again for as long as it has open answers (`watch`).

mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use http::Uri;
use penstock_config::OidcIssuer;
use penstock_domain::{Error, Secret};
use penstock_identity::{Claims, Leash};
use ring::{hmac, rand};
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};

pub(crate) use watch::{New, begin};

use crate::fetch::{self, Form, NamedBy};
use crate::issuer::unavailable;
use crate::{invalid, jws};

/// How many answers about good tokens are kept, and how many about others; powers of two.
const GOOD: usize = 4096;
const BAD: usize = 1024;
/// How long a refusal holds: a token that was shown a moment too early is not shut out for long.
const REFUSED: Duration = Duration::from_secs(10);
/// How many questions are open at once about tokens that were good, and about strangers.
const OPEN: usize = 16;
/// In how many lines questions wait of which no two may be about one token; a power of two.
const LINES: usize = 256;
/// How many good answers are watched at once; beyond that tokens are refused.
const WATCHED: usize = 16_384;
/// How long a question waits for its turn.
const TURN: Duration = Duration::from_secs(3);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a failure nothing is asked for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an endpoint is believed that the discovery document named.
const KNOWN: Duration = Duration::from_secs(3600);

type Digest = [u8; 32];

/// What is known of a token.
struct Answer {
    digest: Digest,
    /// `None`: it is not active.
    claims: Option<Claims>,
    until: Instant,
}

impl Answer {
    /// What open answers hang on. One clone of it is here; every caller has another.
    fn leash(&self) -> Option<&Leash> {
        self.claims.as_ref()?.asked.as_ref()
    }

    fn standing(&self) -> Standing {
        self.claims.clone().map_or(Standing::Bad, |claims| Standing::Good(Box::new(claims)))
    }
}

/// What is known of a token at this moment.
pub(crate) enum Standing {
    Good(Box<Claims>),
    Bad,
    Unknown,
}

/// The questions to one issuer.
pub(crate) struct Inquirer {
    key: hmac::Key,
    good: Box<[ArcSwapOption<Answer>]>,
    bad: Box<[ArcSwapOption<Answer>]>,
    regulars: Semaphore,
    strangers: Semaphore,
    lines: Box<[Mutex<()>]>,
    room: Arc<Semaphore>,
    place: Mutex<Option<(Uri, NamedBy, Instant)>>,
    began: Instant,
    /// Until when nothing is asked, in milliseconds since `began`.
    pause: AtomicU64,
}

impl Inquirer {
    /// Nothing is known yet. `None` when the operating system has no random numbers to give.
    pub(crate) fn new() -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).ok()?;
        let slots = |count| (0..count).map(|_| ArcSwapOption::empty()).collect();
        Some(Self {
            key,
            good: slots(GOOD),
            bad: slots(BAD),
            regulars: Semaphore::new(OPEN),
            strangers: Semaphore::new(OPEN),
            lines: (0..LINES).map(|_| Mutex::default()).collect(),
            room: Arc::new(Semaphore::new(WATCHED)),
            place: Mutex::default(),
            began: Instant::now(),
            pause: AtomicU64::new(0),
        })
    }

    /// What is known of a token.
    pub(crate) fn standing(&self, token: &str) -> Standing {
        self.known(token).0
    }

    /// What is known of a token, and until when.
    fn known(&self, token: &str) -> (Standing, Option<Instant>) {
        let digest = self.digest(token);
        let now = Instant::now();
        let found = |slots: &[ArcSwapOption<Answer>]| {
            let slot = slots[place(&digest) % slots.len()].load();
            slot.as_ref().filter(|answer| answer.digest == digest && now < answer.until).cloned()
        };
        match found(&self.good).or_else(|| found(&self.bad)) {
            Some(answer) => (answer.standing(), Some(answer.until)),
            None => (Standing::Unknown, None),
        }
    }

    /// The claims of a token that was asked about.
    ///
    /// # Errors
    /// `invalid_token`, `issuer_unavailable`.
    pub(crate) fn prove(&self, token: &str) -> Result<Claims, Error> {
        match self.standing(token) {
            Standing::Good(claims) => Ok(*claims),
            Standing::Bad => Err(invalid("its issuer says that it is not active")),
            Standing::Unknown => Err(unavailable(
                "this token's issuer cannot be asked about it now: send it again in a moment",
            )),
        }
    }

    /// Asks, and keeps the answer; a good one is to be watched. `signed` are the claims of a token whose signature was proved
    /// here.
    pub(crate) async fn ask(
        &self,
        settings: &OidcIssuer,
        token: &Secret,
        signed: Option<Claims>,
    ) -> Option<New> {
        let text = token.expose();
        let digest = self.digest(text);
        // A token that was good a minute ago is in its slot still.
        let slot = self.good[place(&digest) % GOOD].load();
        let regular = slot.as_ref().is_some_and(|answer| answer.digest == digest);
        let turns = if regular { &self.regulars } else { &self.strangers };
        // Those who ask about one token wait behind each other, and take no turn of those who ask about others.
        let line = &self.lines[place(&digest) % LINES];
        let waiting = async { (line.lock().await, turns.acquire().await) };
        let Ok((_line, Ok(_turn))) = tokio::time::timeout(TURN, waiting).await else { return None };
        // Whoever waited may find that another has asked meanwhile.
        if !matches!(self.standing(text), Standing::Unknown)
            || self.since_began() < self.pause.load(Ordering::Relaxed)
        {
            return None;
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            self.failed(settings, "too many tokens are watched already").await;
            return None;
        };
        match tokio::time::timeout(PATIENCE, self.answer(settings, text)).await {
            Ok(Ok(told)) => {
                let answer = self.keep(digest, claims(settings, &told, signed));
                return answer.claims.is_some().then_some(New { answer, _room: room });
            }
            Ok(Err(why)) => self.failed(settings, &why).await,
            Err(_) => self.failed(settings, "it did not answer within 5 seconds").await,
        }
        None
    }

    async fn answer(&self, settings: &OidcIssuer, token: &str) -> Result<Map<String, Value>, String> {
        let Some(how) = &settings.introspection else { return Err("there is nobody to ask".to_owned()) };
        let (url, named) = self.endpoint(settings).await?;
        let form = Form {
            members: &[("token", token), ("token_type_hint", "access_token")],
            client: Some((&how.client_id, how.client_secret.expose())),
        };
        let body = fetch::post(&url, (named, settings.ca_file.as_deref()), &form).await?;
        jws::object(&body).ok_or_else(|| format!("{url} did not answer with a JSON object"))
    }

    async fn endpoint(&self, settings: &OidcIssuer) -> Result<(Uri, NamedBy), String> {
        if let Some(url) = settings.introspection.as_ref().and_then(|how| how.url.as_deref()) {
            return Ok((fetch::parse(url)?, NamedBy::Operator));
        }
        let mut known = self.place.lock().await;
        if let Some((url, named, since)) = &*known
            && since.elapsed() < KNOWN
        {
            return Ok((url.clone(), *named));
        }
        let document = fetch::document(&settings.issuer, settings.ca_file.as_deref()).await?;
        let url = document.introspection_endpoint.as_deref();
        let url = url.ok_or("its discovery document has no introspection_endpoint: set introspection.url")?;
        let (url, named) = document.place(url)?;
        *known = Some((url.clone(), named, Instant::now()));
        Ok((url, named))
    }

    fn keep(&self, digest: Digest, told: Option<(Claims, Duration)>) -> Arc<Answer> {
        let (slots, fresh, claims) = match told {
            Some((claims, fresh)) => (&self.good, fresh, Some(claims)),
            None => {
                // It was good once: what says so must not stay.
                let slot = &self.good[place(&digest) % GOOD];
                if slot.load().as_ref().is_some_and(|answer| answer.digest == digest) {
                    slot.store(None);
                }
                (&self.bad, REFUSED, None)
            }
        };
        let answer = Arc::new(Answer { digest, claims, until: Instant::now() + fresh });
        slots[place(&digest) % slots.len()].store(Some(Arc::clone(&answer)));
        answer
    }

    async fn failed(&self, settings: &OidcIssuer, why: &str) {
        let now = self.since_began();
        let until = now + u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        let before = self.pause.swap(until, Ordering::Relaxed);
        // Once in a row of failures, or the log would be theirs who send tokens.
        if now > before.saturating_add(60_000) || before == 0 {
            tracing::warn!(
                issuer = settings.issuer,
                why,
                "the issuer cannot be asked about tokens; they are refused"
            );
        }
        // It may have moved.
        *self.place.lock().await = None;
    }

    fn since_began(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn digest(&self, token: &str) -> Digest {
        let tag = hmac::sign(&self.key, token.as_bytes());
        let mut digest = [0; 32];
        digest.copy_from_slice(tag.as_ref());
        digest
    }
}

fn place(digest: &Digest) -> usize {
    usize::from(u16::from_le_bytes([digest[0], digest[1]]))
}

/// What an answer means (RFC 7662, 2.2), and for how long; `None` for a token that is not to be let in.
fn claims(
    settings: &OidcIssuer,
    told: &Map<String, Value>,
    signed: Option<Claims>,
) -> Option<(Claims, Duration)> {
    if told.get("active") != Some(&Value::Bool(true)) {
        return None;
    }
    // Issuers answer about refresh tokens too, and about tokens that are bound to a key that nobody here looks at.
    let bearer = |kind: &Value| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
    if !told.get("token_type").is_none_or(bearer) || told.contains_key("cnf") {
        return None;
    }
    if told.get("iss").is_some_and(|issuer| issuer.as_str() != Some(&settings.issuer)) {
        return None;
    }
    let mut claims = match signed {
        Some(signed) => signed,
        None => {
            let mut claims = jws::claims(told, settings).ok()?;
            let client = || told.get("client_id").and_then(Value::as_str).map(str::to_owned);
            claims.subject = claims.subject.or_else(client);
            claims
        }
    };
    claims.asked = Some(Leash::default());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fresh = settings.introspection.as_ref()?.cache.0;
    let left = claims.expires.map_or(fresh, |end| Duration::from_secs(end).saturating_sub(now));
    (!left.is_zero()).then(|| (claims, left.min(fresh)))
}

#[cfg(test)]
mod tests;
