//! The key store on the table `keys`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_domain::{Code, Error, Priority};
use penstock_identity::{
    Digest, KeyId, KeyRecord, KeySource, KeyStore, Listing, ModelAllow, Owner, OwnerKind, Pending, Previous,
    ScopeSet,
};

use crate::link::{Ask, Cells, Link, Lock};
use crate::{SqlStore, trouble};

const INSERT: &str = "INSERT INTO keys (team, digest, last_four, prefix, scopes, models, limits, \
     budget, expires, revoked, rotated, previous_digest, previous_last_four, previous_until, allow_ips, version, \
     id, priority, name, created, created_by, owner_kind, owner) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
     $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)";
const UPDATE: &str = "UPDATE keys SET team = $1, digest = $2, last_four = $3, prefix = $4, scopes = $5, models = $6, \
     limits = $7, budget = $8, expires = $9, revoked = $10, rotated = $11, \
     previous_digest = $12, previous_last_four = $13, previous_until = $14, allow_ips = $15, \
     version = $16 + 1, priority = $18 WHERE id = $17 AND version = $16";
const EXISTS: &str = "SELECT count(*) FROM keys WHERE id = $1";
const LIST: &str = "SELECT * FROM keys ORDER BY id";
const REVISION: &str = "SELECT revision FROM store WHERE one = 1";
pub(crate) const NEXT_REVISION: &str = "UPDATE store SET revision = revision + 1 WHERE one = 1";

impl KeyStore for SqlStore {
    fn list(&self) -> Pending<'_, Listing> {
        Box::pin(async {
            let mut connection = self.connection().await?;
            let outcome = read_all(&mut *connection).await;
            let (revision, rows) = self.0.done(connection, outcome).await?;
            let file = self.path().display();
            Ok(Listing { revision, keys: rows.iter().filter_map(|row| readable(&file, row)).collect() })
        })
    }

    fn insert(&self, record: KeyRecord) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            let outcome = add(&mut *connection, &record).await;
            drop(connection);
            match outcome {
                Ok(()) => Ok(()),
                Err(error) => match trouble::taken(&error) {
                    Some(what) => Err(conflict(what, &record)),
                    None => Err(self.failed(error).await),
                },
            }
        })
    }

    fn update(&self, mut record: KeyRecord) -> Pending<'_, KeyRecord> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            let outcome = change(&mut *connection, &record).await;
            drop(connection);
            match outcome {
                Ok(Changed::Done) => {
                    record.version += 1;
                    Ok(record)
                }
                Ok(Changed::Newer) => Err(newer()),
                Ok(Changed::Gone) => Err(gone()),
                Err(error) => match trouble::taken(&error) {
                    Some(what) => Err(conflict(what, &record)),
                    None => Err(self.failed(error).await),
                },
            }
        })
    }

    fn revision(&self) -> Pending<'_, u64> {
        Box::pin(async {
            let mut connection = self.connection().await?;
            let outcome = revision(&mut *connection).await;
            self.0.done(connection, outcome).await
        })
    }
}

pub(crate) async fn revision<L: Link>(link: &mut L) -> sqlx::Result<u64> {
    let rows = link.rows(Ask::new(REVISION)).await?;
    rows.first().map_or(Ok(0), |row| row.count(0)).map(|revision| u64::try_from(revision).unwrap_or(0))
}

pub(crate) async fn read_all<L: Link>(link: &mut L) -> sqlx::Result<(u64, Vec<L::Rows>)> {
    at_a_moment(link, LIST).await
}

/// One read transaction: revision and rows belong to the same moment.
pub(crate) async fn at_a_moment<L: Link>(link: &mut L, list: &str) -> sqlx::Result<(u64, Vec<L::Rows>)> {
    let mut transaction = link.look().await?;
    let revision = revision(&mut *transaction).await?;
    let rows = transaction.rows(Ask::new(list)).await?;
    transaction.commit().await?;
    Ok((revision, rows))
}

pub(crate) async fn add<L: Link>(link: &mut L, record: &KeyRecord) -> sqlx::Result<()> {
    // A transaction that is dropped, by an error or by a caller that went away, is rolled back.
    let mut transaction = link.change(Lock::Keys).await?;
    let ask = changeable(Ask::new(INSERT), record)
        .bind(&*record.name)
        .bind(millis(record.created))
        .bind(record.created_by.as_ref().map(ToString::to_string))
        .bind(record.owner.as_ref().map(|owner| owner.kind.name()))
        .bind(record.owner.as_ref().map(|owner| owner.name.to_string()));
    transaction.run(ask).await?;
    transaction.run(Ask::new(NEXT_REVISION)).await?;
    transaction.commit().await
}

pub(crate) enum Changed {
    Done,
    Newer,
    Gone,
}

pub(crate) async fn change<L: Link>(link: &mut L, record: &KeyRecord) -> sqlx::Result<Changed> {
    let mut transaction = link.change(Lock::Keys).await?;
    let done = transaction.run(changeable(Ask::new(UPDATE), record)).await?;
    if done == 0 {
        let there = transaction.rows(Ask::new(EXISTS).bind(record.id.to_string())).await?;
        let there = there.first().map_or(Ok(0), |row| row.count(0))?;
        return Ok(if there == 0 { Changed::Gone } else { Changed::Newer });
    }
    transaction.run(Ask::new(NEXT_REVISION)).await?;
    transaction.commit().await?;
    Ok(Changed::Done)
}

pub(crate) fn newer() -> Error {
    Error::new(Code::Conflict, "the key was changed by somebody else meanwhile: read it again")
}

pub(crate) fn gone() -> Error {
    Error::new(Code::NotFound, "there is no key of this id")
}

/// Binds what a change may touch, in the order of both statements; the id is among it.
fn changeable(ask: Ask, record: &KeyRecord) -> Ask {
    let previous = record.previous.as_ref();
    ask.bind(record.team.as_deref())
        .bind(&record.digest.as_bytes()[..])
        .bind(&*record.last_four)
        .bind(&*record.prefix)
        // Neither scopes nor model patterns can hold a space.
        .bind(record.scopes.to_vec().join(" "))
        .bind(record.models.patterns().map(|patterns| patterns.join(" ")))
        .bind(json(&record.limits))
        .bind(record.budget.as_ref().map(json))
        .bind(record.expires.map(millis))
        .bind(record.revoked.map(millis))
        .bind(record.rotated.map(millis))
        .bind(previous.map(|previous| &previous.digest.as_bytes()[..]))
        .bind(previous.map(|previous| &*previous.last_four))
        .bind(previous.map(|previous| millis(previous.until)))
        .bind(ranges(record))
        .bind(i64::try_from(record.version).unwrap_or(i64::MAX))
        .bind(record.id.to_string())
        .bind(record.priority.map(Priority::name))
}

/// Numbers and words only: writing them into memory cannot fail.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

/// Null is everywhere: no text could mean it by mistake.
fn ranges(record: &KeyRecord) -> Option<String> {
    let texts: Vec<String> = record.allow_ips.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

/// `what` names the column or the index, as the database does.
pub(crate) fn conflict(what: &str, record: &KeyRecord) -> Error {
    if what.contains("keys.name") || what == "keys_name" {
        let say =
            format!("a key named `{}` exists already: choose another name, or revoke that key", record.name);
        return Error::new(Code::Conflict, say).with_param("name");
    }
    Error::new(Code::Conflict, "the database refused the key because it clashes with another one")
}

/// A row that cannot be understood, perhaps written by a later version, costs its key and no other.
pub(crate) fn readable(database: &dyn std::fmt::Display, row: &impl Cells) -> Option<KeyRecord> {
    match record(row) {
        Ok(record) => Some(record),
        Err(error) => {
            let id = row.column_of("id").and_then(|column| row.word(column)).unwrap_or_default();
            tracing::error!(%database, key = id, %error, "a stored key cannot be read and is refused");
            None
        }
    }
}

fn record(row: &impl Cells) -> Result<KeyRecord, Box<dyn std::error::Error + Send + Sync>> {
    let text = |name: &str| row.word(row.column_of(name)?).map(str::to_owned);
    let maybe_text = |name: &str| row.text(row.column_of(name)?).map(|text| text.map(str::to_owned));
    let time = |name: &str| row.count(row.column_of(name)?).map(time_of);
    let maybe_time = |name: &str| row.number(row.column_of(name)?).map(|time| time.map(time_of));
    let maybe_digest = |name: &str| row.bytes(row.column_of(name)?);
    let digest = |bytes: &[u8]| {
        <[u8; 32]>::try_from(bytes).map(Digest::new).map_err(|_| "a digest does not have 32 bytes")
    };
    let models = match maybe_text("models")? {
        None => ModelAllow::ALL,
        Some(models) => ModelAllow::parse(models.split(' ')).map_err(|says| says.join(", "))?,
    };
    let previous = match (maybe_digest("previous_digest")?, maybe_time("previous_until")?) {
        (Some(bytes), Some(until)) => Some(Previous {
            digest: digest(bytes)?,
            last_four: maybe_text("previous_last_four")?.unwrap_or_default().into(),
            until,
        }),
        _ => None,
    };
    Ok(KeyRecord {
        id: KeyId::new(text("id")?),
        name: text("name")?.into(),
        team: maybe_text("team")?.map(Arc::from),
        owner: match (maybe_text("owner_kind")?.as_deref().map(OwnerKind::parse), maybe_text("owner")?) {
            (None, None) => None,
            (Some(Some(kind)), Some(name)) => Some(Owner { kind, name: name.into() }),
            _ => return Err("its owner cannot be read".into()),
        },
        digest: digest(maybe_digest("digest")?.unwrap_or_default())?,
        last_four: text("last_four")?.into(),
        prefix: text("prefix")?.into(),
        scopes: ScopeSet::parse(text("scopes")?.split(' ').filter(|scope| !scope.is_empty()))
            .map_err(|says| says.join(", "))?,
        models,
        limits: serde_json::from_str(&text("limits")?)?,
        budget: maybe_text("budget")?.map(|text| serde_json::from_str(&text)).transpose()?,
        // A range that cannot be read must not become everywhere: the key is then refused.
        allow_ips: match maybe_text("allow_ips")? {
            None => Arc::default(),
            Some(ranges) => ranges.split(' ').map(str::parse).collect::<Result<_, String>>()?,
        },
        // One that cannot be read must not become more urgent than it was.
        priority: match maybe_text("priority")? {
            None => None,
            Some(name) => Some(Priority::parse(&name).ok_or("its priority cannot be read")?),
        },
        created: time("created")?,
        created_by: maybe_text("created_by")?.map(KeyId::new),
        expires: maybe_time("expires")?,
        revoked: maybe_time("revoked")?,
        rotated: maybe_time("rotated")?,
        previous,
        source: KeySource::Database,
        version: u64::try_from(row.count(row.column_of("version")?)?)?,
    })
}

pub(crate) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(since).unwrap_or(i64::MAX)
}

pub(crate) fn time_of(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
