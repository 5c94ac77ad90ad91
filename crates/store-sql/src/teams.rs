//! The team store on the table `teams`, in the file of the keys and under the same revision.

use std::sync::Arc;
use std::time::SystemTime;

use penstock_domain::{Code, Error};
use penstock_identity::{KeySource, KeyStore, Pending, TeamListing, TeamRecord, TeamStore, in_use};

use crate::keys::{NEXT_REVISION, at_a_moment, json, millis, time_of};
use crate::link::{Ask, Cells, Link, Lock};
use crate::{SqlStore, trouble};

const LIST: &str = "SELECT * FROM teams ORDER BY name";
const INSERT: &str =
    "INSERT INTO teams (name, settings, created, changed, version) VALUES ($1, $2, $3, $4, $5)";
const UPDATE: &str =
    "UPDATE teams SET settings = $2, changed = $3, version = $4 + 1 WHERE name = $1 AND version = $4";
const DELETE: &str = "DELETE FROM teams WHERE name = $1";
const EXISTS: &str = "SELECT count(*) FROM teams WHERE name = $1";
const HELD: &str =
    "SELECT count(*) FROM keys WHERE team = $1 AND revoked IS NULL AND (expires IS NULL OR expires > $2)";

impl TeamStore for SqlStore {
    fn list(&self) -> Pending<'_, TeamListing> {
        Box::pin(async {
            let mut connection = self.connection().await?;
            let outcome = read_all(&mut *connection).await;
            let (revision, rows) = self.0.done(connection, outcome).await?;
            listing(revision, &rows)
        })
    }

    fn insert(&self, record: TeamRecord) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            let outcome = add(&mut *connection, &record).await;
            drop(connection);
            match outcome {
                Ok(()) => Ok(()),
                Err(error) if trouble::taken(&error).is_some() => Err(there_already(&record)),
                Err(error) => Err(self.failed(error).await),
            }
        })
    }

    fn update(&self, mut record: TeamRecord) -> Pending<'_, TeamRecord> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            let outcome = change(&mut *connection, &record).await;
            match self.0.done(connection, outcome).await? {
                Outcome::Done => {
                    record.version += 1;
                    Ok(record)
                }
                Outcome::Refused => Err(newer()),
                Outcome::Gone => Err(gone()),
            }
        })
    }

    fn delete(&self, name: Arc<str>, now: SystemTime) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            let outcome = remove(&mut *connection, &name, now).await;
            match self.0.done(connection, outcome).await? {
                Outcome::Done => Ok(()),
                Outcome::Refused => Err(in_use()),
                Outcome::Gone => Err(gone()),
            }
        })
    }

    fn revision(&self) -> Pending<'_, u64> {
        KeyStore::revision(self)
    }
}

pub(crate) enum Outcome {
    Done,
    Refused,
    Gone,
}

pub(crate) fn listing(revision: u64, rows: &[impl Cells]) -> Result<TeamListing, Error> {
    let teams = rows.iter().map(|row| record(row).map_err(|error| unreadable(row, &*error)));
    Ok(TeamListing { revision, teams: teams.collect::<Result<_, _>>()? })
}

pub(crate) async fn read_all<L: Link>(link: &mut L) -> sqlx::Result<(u64, Vec<L::Rows>)> {
    at_a_moment(link, LIST).await
}

pub(crate) async fn add<L: Link>(link: &mut L, record: &TeamRecord) -> sqlx::Result<()> {
    let mut transaction = link.change(Lock::Keys).await?;
    let ask = Ask::new(INSERT)
        .bind(&*record.name)
        .bind(json(&record.settings))
        .bind(millis(record.created))
        .bind(millis(record.changed))
        .bind(i64::try_from(record.version).unwrap_or(i64::MAX));
    transaction.run(ask).await?;
    transaction.run(Ask::new(NEXT_REVISION)).await?;
    transaction.commit().await
}

pub(crate) async fn change<L: Link>(link: &mut L, record: &TeamRecord) -> sqlx::Result<Outcome> {
    let mut transaction = link.change(Lock::Keys).await?;
    let ask = Ask::new(UPDATE)
        .bind(&*record.name)
        .bind(json(&record.settings))
        .bind(millis(record.changed))
        .bind(i64::try_from(record.version).unwrap_or(i64::MAX));
    if transaction.run(ask).await? == 0 {
        let there = transaction.rows(Ask::new(EXISTS).bind(&*record.name)).await?;
        let there = there.first().map_or(Ok(0), |row| row.count(0))?;
        return Ok(if there == 0 { Outcome::Gone } else { Outcome::Refused });
    }
    transaction.run(Ask::new(NEXT_REVISION)).await?;
    transaction.commit().await?;
    Ok(Outcome::Done)
}

pub(crate) async fn remove<L: Link>(link: &mut L, name: &str, now: SystemTime) -> sqlx::Result<Outcome> {
    let mut transaction = link.change(Lock::Keys).await?;
    let held = transaction.rows(Ask::new(HELD).bind(name).bind(millis(now))).await?;
    if held.first().map_or(Ok(0), |row| row.count(0))? > 0 {
        return Ok(Outcome::Refused);
    }
    if transaction.run(Ask::new(DELETE).bind(name)).await? == 0 {
        return Ok(Outcome::Gone);
    }
    transaction.run(Ask::new(NEXT_REVISION)).await?;
    transaction.commit().await?;
    Ok(Outcome::Done)
}

pub(crate) fn there_already(record: &TeamRecord) -> Error {
    let say = format!("a team named `{}` exists already: change that one", record.name);
    Error::new(Code::Conflict, say).with_param("name")
}

pub(crate) fn newer() -> Error {
    Error::new(Code::Conflict, "the team was changed by somebody else meanwhile: read it again")
}

pub(crate) fn gone() -> Error {
    Error::new(Code::NotFound, "there is no team of this name")
}

type Unreadable = Box<dyn std::error::Error + Send + Sync>;

/// A key that cannot be read is refused; a team that cannot be read would lift its limits, so all is refused.
fn unreadable(row: &impl Cells, error: &(dyn std::error::Error + Send + Sync)) -> Error {
    let name = row.column_of("name").and_then(|column| row.word(column)).unwrap_or_default();
    let say = format!(
        "the team `{name}` in the database cannot be read ({error}): it was made by a newer Penstock, run that one"
    );
    Error::new(Code::StoreUnavailable, say)
}

fn record(row: &impl Cells) -> Result<TeamRecord, Unreadable> {
    let text = |name: &str| row.word(row.column_of(name)?);
    let number = |name: &str| row.count(row.column_of(name)?);
    Ok(TeamRecord {
        name: text("name")?.into(),
        settings: serde_json::from_str(text("settings")?)?,
        source: KeySource::Database,
        created: time_of(number("created")?),
        changed: time_of(number("changed")?),
        version: u64::try_from(number("version")?)?,
    })
}
