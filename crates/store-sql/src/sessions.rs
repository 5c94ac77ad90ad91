//! The session store on the table `sessions`, in the file of the keys.

use std::time::SystemTime;

use penstock_domain::{Code, Error};
use penstock_identity::{Digest, Ending, MAX_SESSIONS, Pending, Role, Session, SessionStore};

use crate::SqlStore;
use crate::keys::{millis, time_of};
use crate::link::{Ask, Cells, Link, Lock};

const FORGET: &str = "DELETE FROM sessions WHERE expires <= $1";
const COUNT: &str = "SELECT count(*) FROM sessions";
const INSERT: &str = "INSERT INTO sessions (digest, id, issuer, subject, sid, name, role, created, seen, expires) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const FIND: &str = "SELECT * FROM sessions WHERE digest = $1";
const TOUCH: &str = "UPDATE sessions SET seen = $2 WHERE digest = $1 AND seen < $2";
const LIST: &str = "SELECT * FROM sessions ORDER BY created DESC, id";
const END: &str = "DELETE FROM sessions WHERE digest = $1";

impl SessionStore for SqlStore {
    fn insert(&self, session: Session) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            let outcome = add(&mut *connection, &session).await;
            if self.0.done(connection, outcome).await? { Ok(()) } else { Err(full()) }
        })
    }

    fn find(&self, digest: Digest) -> Pending<'_, Option<Session>> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            let outcome = find(&mut *connection, &digest).await;
            self.0.done(connection, outcome).await
        })
    }

    fn touch(&self, digest: Digest, now: SystemTime) -> Pending<'_, ()> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            let outcome = touch(&mut *connection, &digest, now).await;
            self.0.done(connection, outcome).await
        })
    }

    fn list(&self) -> Pending<'_, Vec<Session>> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            let outcome = list(&mut *connection).await;
            self.0.done(connection, outcome).await
        })
    }

    fn end(&self, which: Ending) -> Pending<'_, Vec<Session>> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            let outcome = end(&mut *connection, &which).await;
            self.0.done(connection, outcome).await
        })
    }
}

pub(crate) fn full() -> Error {
    let say = format!("{MAX_SESSIONS} people are signed in, which is the most: end some sessions");
    Error::new(Code::Conflict, say)
}

/// Whether there was room.
pub(crate) async fn add<L: Link>(link: &mut L, session: &Session) -> sqlx::Result<bool> {
    let mut transaction = link.change(Lock::Keys).await?;
    transaction.run(Ask::new(FORGET).bind(millis(session.created))).await?;
    let count = transaction.rows(Ask::new(COUNT)).await?;
    let count = count.first().map_or(Ok(0), |row| row.count(0))?;
    if usize::try_from(count).unwrap_or(usize::MAX) >= MAX_SESSIONS {
        return Ok(false);
    }
    let roles: Vec<&str> = session.roles.iter().map(|role| role.name()).collect();
    let ask = Ask::new(INSERT)
        .bind(session.digest.as_bytes().as_slice())
        .bind(&*session.id)
        .bind(&*session.issuer)
        .bind(&*session.subject)
        .bind(session.sid.as_deref())
        .bind(&*session.name)
        .bind(roles.join(" "))
        .bind(millis(session.created))
        .bind(millis(session.seen))
        .bind(millis(session.expires));
    transaction.run(ask).await?;
    transaction.commit().await?;
    Ok(true)
}

pub(crate) async fn find<L: Link>(link: &mut L, digest: &Digest) -> sqlx::Result<Option<Session>> {
    let rows = link.rows(Ask::new(FIND).bind(digest.as_bytes().as_slice())).await?;
    // What cannot be read is no session.
    Ok(rows.first().and_then(|row| session(row).ok()))
}

pub(crate) async fn touch<L: Link>(link: &mut L, digest: &Digest, now: SystemTime) -> sqlx::Result<()> {
    link.run(Ask::new(TOUCH).bind(digest.as_bytes().as_slice()).bind(millis(now))).await.map(drop)
}

pub(crate) async fn list<L: Link>(link: &mut L) -> sqlx::Result<Vec<Session>> {
    let rows = link.rows(Ask::new(LIST)).await?;
    Ok(rows.iter().filter_map(|row| session(row).ok()).collect())
}

/// There are few: which of them end is decided by the one rule of the head.
pub(crate) async fn end<L: Link>(link: &mut L, which: &Ending) -> sqlx::Result<Vec<Session>> {
    let mut transaction = link.change(Lock::Keys).await?;
    let rows = transaction.rows(Ask::new(LIST)).await?;
    let mut ended: Vec<Session> = rows.iter().filter_map(|row| session(row).ok()).collect();
    ended.retain(|session| which.takes(session));
    for session in &ended {
        transaction.run(Ask::new(END).bind(session.digest.as_bytes().as_slice())).await?;
    }
    transaction.commit().await?;
    Ok(ended)
}

fn session(row: &impl Cells) -> Result<Session, Box<dyn std::error::Error + Send + Sync>> {
    let text = |name: &str| row.word(row.column_of(name)?);
    let number = |name: &str| row.count(row.column_of(name)?);
    let digest = row.bytes(row.column_of("digest")?)?.unwrap_or_default();
    let digest = <[u8; 32]>::try_from(digest).map_err(|_| "a digest does not have 32 bytes")?;
    Ok(Session {
        digest: Digest::new(digest),
        id: text("id")?.into(),
        issuer: text("issuer")?.into(),
        subject: text("subject")?.into(),
        sid: row.text(row.column_of("sid")?)?.map(Into::into),
        name: text("name")?.into(),
        roles: text("role")?.split(' ').map(Role::parse).collect::<Result<_, _>>()?,
        created: time_of(number("created")?),
        seen: time_of(number("seen")?),
        expires: time_of(number("expires")?),
    })
}
