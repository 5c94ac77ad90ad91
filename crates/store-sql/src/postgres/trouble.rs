//! What went wrong with the server, and how to mend it.

use std::io::ErrorKind;

use penstock_domain::{Code, Error};

/// The SQLSTATE of an error (postgresql.org/docs/current/errcodes-appendix.html).
fn state(error: &sqlx::Error) -> Option<std::borrow::Cow<'_, str>> {
    error.as_database_error()?.code()
}

/// Whether the server refused one statement, so that the connection is as good as before.
pub(super) fn is_of_the_database(error: &sqlx::Error) -> bool {
    let lost =
        |state: &str| state.starts_with("57P") || state.starts_with("08") || state.starts_with("25P03");
    match state(error) {
        Some(state) => !lost(&state),
        None => matches!(error, sqlx::Error::RowNotFound | sqlx::Error::Decode(_) | sqlx::Error::Encode(_)),
    }
}

/// The name of the index whose uniqueness was violated, if that is what happened.
pub(super) fn taken(error: &sqlx::Error) -> Option<&str> {
    let error = error.as_database_error()?;
    (error.code()? == "23505").then(|| error.constraint().unwrap_or_default())
}

/// Whether the same change will fail the same way whenever it is tried: what it says is not what the tables hold.
pub(super) fn is_hopeless(error: &sqlx::Error) -> bool {
    let refused = |state: &str| ["22", "23", "54"].iter().any(|class| state.starts_with(class));
    matches!(error, sqlx::Error::Encode(_)) || state(error).is_some_and(|state| refused(&state))
}

/// Whether time alone may mend it: nobody listens there yet, or is not ready for anybody.
pub(super) fn may_pass(place: &str, error: &sqlx::Error) -> bool {
    match state(error) {
        Some(state) => ["08", "57P", "53"].iter().any(|class| state.starts_with(class)),
        None => match error {
            sqlx::Error::Io(io) => io.kind() != ErrorKind::InvalidData && !is_of_a_file(place, io),
            other => matches!(other, sqlx::Error::PoolTimedOut),
        },
    }
}

/// Whether a file that the address names cannot be read. Where the server is a socket in a folder, that may be missing too.
fn is_of_a_file(place: &str, io: &std::io::Error) -> bool {
    !place.starts_with('/') && matches!(io.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

/// `store_unavailable`, with the place, the finding and the mend. The server's own words stand in the log: they may hold
/// values.
pub(super) fn translate(place: &str, error: sqlx::Error) -> Error {
    let say = match state(&error).as_deref() {
        Some("28P01" | "28000") => format!(
            "the database {place} refuses the user or the password of stores.database: correct them, or the server's \
             pg_hba.conf"
        ),
        Some("3D000") => {
            format!("there is no database {place}: make it with `createdb`, or correct stores.database")
        }
        Some("42501") => format!(
            "the user of stores.database may not change the database {place}: make it the owner, or grant it the schema"
        ),
        Some("25006") => format!(
            "the database {place} can only be read: stores.database has to name the primary, not one that follows it"
        ),
        Some("53300") => format!(
            "the database {place} takes no more connections: raise max_connections; a gateway uses up to {}",
            super::WRITERS + super::OTHERS
        ),
        Some("53100") => {
            format!("the disk of the database {place} is full: free some space, nothing was changed")
        }
        Some("57014" | "55P03" | "25P03" | "40P01" | "40001") => {
            format!("the database {place} was too slow, nothing was changed: see what else it does")
        }
        Some(state) if state.starts_with("57P") => {
            format!("the database {place} is starting or stopping: wait, or see the server's log")
        }
        Some(_) => format!("the database {place} did not do as asked: see the log for its own words"),
        None => unreached(place, &error),
    };
    Error::new(Code::StoreUnavailable, say).with_source(error)
}

fn unreached(place: &str, error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => format!(
            "the database {place} takes no connection: is it running, is the address in stores.database right, and is a \
             firewall in between?"
        ),
        sqlx::Error::Io(io) if io.kind() == ErrorKind::TimedOut => {
            format!(
                "the database {place} does not answer in time, nothing was changed: see what else it does"
            )
        }
        sqlx::Error::Io(io) if is_of_a_file(place, io) => format!(
            "a file that stores.database names for {place} cannot be read ({}): correct sslrootcert, sslcert or sslkey",
            io.kind()
        ),
        // What TLS says of a certificate.
        sqlx::Error::Io(io) if io.kind() == ErrorKind::InvalidData => insecure(place, &io.to_string()),
        sqlx::Error::Io(io) => {
            format!("the connection to the database {place} failed ({}): is it running?", io.kind())
        }
        sqlx::Error::Tls(why) => insecure(place, &why.to_string()),
        _ => format!("the database {place} did not do as asked: see the log for its own words"),
    }
}

fn insecure(place: &str, why: &str) -> String {
    format!(
        "no secure connection to the database {place} ({why}): name an authority of your own by \
         sslmode=verify-full&sslrootcert=FILE in stores.database, or write sslmode=disable where the network is trusted"
    )
}
