//! The service over the store: what may be kept, how far a request reaches back, when turns end.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use penstock_domain::{Code, Error};

use crate::{Chain, Owner, Policy, Reach, ResponseStore, Tail, Turn};

/// How long an answer waits for the store before it leaves unkept.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the removal of a turn that came too late may take.
const CLEANING: Duration = Duration::from_secs(60);
/// How long after the start turns whose time is over are first looked for: the start has better things to do.
const FIRST: Duration = Duration::from_secs(60);
/// How often turns whose time is over are looked for.
const SWEEP: Duration = Duration::from_secs(3_600);
/// Between two steps of one sweep, so that it never stands in anybody's way for long.
const STEP: Duration = Duration::from_millis(50);
/// The longest id that a response may have, in bytes.
const MAX_ID: usize = 128;

/// What became of a turn that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kept {
    /// It is there.
    Stored,
    /// It is larger than a turn may be, or its id cannot be asked for.
    Unfit,
    /// Its owner has no room left.
    Full,
    /// The store failed or did not answer in time.
    Failed,
}

impl Kept {
    /// Every outcome.
    pub const ALL: [Kept; 4] = [Kept::Stored, Kept::Unfit, Kept::Full, Kept::Failed];

    /// The word in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Kept::Stored => "stored",
            Kept::Unfit => "unfit",
            Kept::Full => "full",
            Kept::Failed => "failed",
        }
    }
}

/// Hears of every turn that was to be kept.
pub type Notice = Box<dyn Fn(Kept) + Send + Sync>;

/// Keeps turns and finds them again.
pub struct Conversations {
    store: Arc<dyn ResponseStore>,
    policy: ArcSwap<Policy>,
    notice: Notice,
}

impl Conversations {
    /// A service over a store.
    pub fn new(store: Arc<dyn ResponseStore>, policy: Policy, notice: Notice) -> Self {
        Self { store, policy: ArcSwap::from_pointee(policy), notice }
    }

    /// The policy for one request; take it once and keep it to the end.
    pub fn policy(&self) -> Policy {
        **self.policy.load()
    }

    /// Puts a new policy in force. What was kept before keeps its time.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// Keeps a turn. Never fails: an answer is worth more than its copy.
    pub async fn keep(&self, turn: Turn, policy: &Policy) -> Kept {
        let kept = self.try_keep(turn, policy).await;
        (self.notice)(kept);
        kept
    }

    async fn try_keep(&self, turn: Turn, policy: &Policy) -> Kept {
        if turn.size() > policy.max_bytes || !askable(&turn.id) {
            tracing::warn!(id = %turn.id.escape_debug(), size = turn.size(), "a response is too large, or its id too odd, to be stored");
            return Kept::Unfit;
        }
        let (owner, id) = (turn.owner.clone(), Arc::clone(&turn.id));
        match tokio::time::timeout(PATIENCE, self.store.put(turn, policy.max_owner_bytes)).await {
            Ok(Ok(())) => Kept::Stored,
            Ok(Err(error)) if error.code() == Code::RequestTooLarge => {
                tracing::warn!(%owner, "a response is not stored: {}", error.say());
                Kept::Full
            }
            Ok(Err(error)) => {
                let source = std::error::Error::source(&error);
                tracing::error!(%error, source, "a response is not stored");
                Kept::Failed
            }
            Err(_) => {
                tracing::error!("a response is not stored: the store did not answer in time");
                self.clean(owner, id);
                Kept::Failed
            }
        }
    }

    /// What was given up may have been written all the same, and its asker was told otherwise.
    fn clean(&self, owner: Owner, id: Arc<str>) {
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            let gone = store.delete(&owner, &id, SystemTime::UNIX_EPOCH);
            if !matches!(tokio::time::timeout(CLEANING, gone).await, Ok(Ok(_))) {
                tracing::warn!(%id, "a response that was given up may be stored until it expires");
            }
        });
    }

    /// One turn.
    ///
    /// # Errors
    /// `not_found`, the same for what is not there and what is somebody else's; `store_unavailable`.
    pub async fn one(&self, owner: &Owner, id: &str, now: SystemTime) -> Result<Turn, Error> {
        let chain = self.read(owner, id, Reach::ONE, now).await?;
        chain.turns.into_iter().next().ok_or_else(|| not_found(id))
    }

    /// What was said up to and including a turn, oldest first, so that a request can go on from it.
    ///
    /// # Errors
    /// `previous_response_not_found` when it, or one that it continues, is not there or not this owner's; `invalid_value`
    /// when there is too much of it; `store_unavailable`.
    pub async fn before(&self, owner: &Owner, id: &str, now: SystemTime) -> Result<Vec<Turn>, Error> {
        let reach = self.policy().reach();
        let chain = self.read(owner, id, reach, now).await?;
        let first = chain.turns.first().ok_or_else(|| previous_not_found(id))?;
        let alone_too_much = first.size() > reach.bytes;
        match chain.tail {
            Tail::Begins if !alone_too_much => Ok(oldest_first(chain.turns)),
            Tail::Gone => Err(broken(id)),
            Tail::Begins | Tail::More => Err(too_long(id, reach)),
        }
    }

    /// What was said up to and including a turn, oldest first, as far as it is still there.
    ///
    /// # Errors
    /// As [`one`](Self::one).
    pub async fn history(&self, owner: &Owner, id: &str, now: SystemTime) -> Result<Vec<Turn>, Error> {
        let chain = self.read(owner, id, self.policy().reach(), now).await?;
        if chain.turns.is_empty() { Err(not_found(id)) } else { Ok(oldest_first(chain.turns)) }
    }

    /// The turns that hold these items, as far as a request reaches.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn holding(
        &self,
        owner: &Owner,
        items: &[String],
        now: SystemTime,
    ) -> Result<Vec<Turn>, Error> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        self.store.holding(owner, items, self.policy().reach(), now).await
    }

    /// Removes a turn for good. Turns that continue it can no longer be continued.
    ///
    /// # Errors
    /// As [`one`](Self::one).
    pub async fn delete(&self, owner: &Owner, id: &str, now: SystemTime) -> Result<(), Error> {
        let there = askable(id) && self.store.delete(owner, id, now).await?;
        if there { Ok(()) } else { Err(not_found(id)) }
    }

    /// Throws away what has expired, a minute from now and then every hour, for ever.
    pub async fn sweep(&self) {
        let mut failing = false;
        tokio::time::sleep(FIRST).await;
        loop {
            let mut swept = self.store.expire(SystemTime::now()).await;
            while let Ok(true) = swept {
                tokio::time::sleep(STEP).await;
                swept = self.store.expire(SystemTime::now()).await;
            }
            match swept {
                // Once per trouble.
                Err(error) if !failing => {
                    tracing::error!(%error, "responses whose time is over cannot be thrown away");
                    failing = true;
                }
                Err(_) => {}
                Ok(_) => failing = false,
            }
            tokio::time::sleep(SWEEP).await;
        }
    }

    async fn read(&self, owner: &Owner, id: &str, reach: Reach, now: SystemTime) -> Result<Chain, Error> {
        if !askable(id) {
            return Ok(Chain { turns: Vec::new(), tail: Tail::Gone });
        }
        self.store.chain(owner, id, reach, now).await
    }
}

impl fmt::Debug for Conversations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversations").field("policy", &self.policy()).finish_non_exhaustive()
    }
}

fn oldest_first(mut turns: Vec<Turn>) -> Vec<Turn> {
    turns.reverse();
    turns
}

/// Whether an id can stand in a path, and in a store: plain letters, digits, `_`, `-` and `.`.
fn askable(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(plain)
}

/// An id as an error may repeat it.
fn shown(id: &str) -> String {
    id.chars().filter(|c| !c.is_control()).take(MAX_ID).collect()
}

fn not_found(id: &str) -> Error {
    let id = shown(id);
    let say = format!(
        "response with id '{id}' not found: it was not stored, was deleted, has expired, or belongs to somebody else"
    );
    Error::new(Code::NotFound, say)
}

fn previous(say: String, code: Code) -> Error {
    Error::new(code, say).with_param("previous_response_id")
}

fn previous_not_found(id: &str) -> Error {
    let id = shown(id);
    let say = format!(
        "previous response with id '{id}' not found: it was not stored, was deleted, has expired, or belongs to somebody \
         else; send the whole conversation as input instead"
    );
    previous(say, Code::PreviousResponseNotFound)
}

fn broken(id: &str) -> Error {
    let id = shown(id);
    let say = format!(
        "previous response with id '{id}' continues one that was deleted or has expired; send the whole conversation as \
         input instead"
    );
    previous(say, Code::PreviousResponseNotFound)
}

fn too_long(id: &str, reach: Reach) -> Error {
    let (id, Reach { turns, bytes }) = (shown(id), reach);
    let say = format!(
        "the conversation up to response '{id}' has more than {turns} turns or {bytes} bytes; begin a new one with a \
         summary as input"
    );
    previous(say, Code::InvalidValue)
}
