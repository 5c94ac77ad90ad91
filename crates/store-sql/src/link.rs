//! What both databases are asked in the same words.
//!
//! SQLite and PostgreSQL both know `$1`, `ON CONFLICT`, `RETURNING`, recursive tables and windows: a question is written once,
//! and a row is read once. Numbers are 64 bits wide in both, truth values are 0 and 1, and what differs has a name in
//! [`Link`].

use std::future::Future;

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Column, Connection, Row, Transaction};

/// A value that is bound.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Number(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Number(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Value::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(Some(text))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Value::Text(text.map(str::to_owned))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Value::Text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value::Bytes(Some(bytes.to_vec()))
    }
}

impl From<Option<&[u8]>> for Value {
    fn from(bytes: Option<&[u8]>) -> Self {
        Value::Bytes(bytes.map(<[u8]>::to_vec))
    }
}

/// A statement and what is bound to it.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    text: String,
    values: Vec<Value>,
}

impl Ask {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// Goes on with the text.
    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Binds a value here, in the text.
    pub(crate) fn push_bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        let mark = format!("${}", self.values.len());
        self.push(&mark)
    }

    /// Binds the next of the values that the text names already.
    #[must_use]
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }
}

/// What must not be done by two at a time, where the database lets several write at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock<'a> {
    /// Another version of the tables.
    Tables,
    Keys,
    Audit,
    Records,
    Ledger,
    /// What one owner keeps.
    Owner(&'a str),
}

/// A connection to either database.
pub(crate) trait Link: Connection<Database: sqlx::Database<Row = Self::Rows>> {
    type Rows: Cells;

    /// The value of the label whose name is bound as `MARK`, in rows with a column `tags`.
    const LABEL: &'static str;
    /// The texts of the JSON list that is bound as `MARK`, in a column `value`.
    const EACH: &'static str;
    /// What passes over rows that somebody else is about to change.
    const UNTOUCHED: &'static str;

    fn rows(&mut self, ask: Ask) -> impl Future<Output = sqlx::Result<Vec<Self::Rows>>> + Send;

    /// How many rows it touched.
    fn run(&mut self, ask: Ask) -> impl Future<Output = sqlx::Result<u64>> + Send;

    /// A transaction that changes something. Dropped before its end, it never was.
    fn change(
        &mut self,
        lock: Lock<'_>,
    ) -> impl Future<Output = sqlx::Result<Transaction<'_, Self::Database>>> + Send;

    /// A transaction that only asks, and sees one moment.
    fn look(&mut self) -> impl Future<Output = sqlx::Result<Transaction<'_, Self::Database>>> + Send;
}

impl Link for SqliteConnection {
    type Rows = SqliteRow;

    const LABEL: &'static str = "(SELECT json_each.value FROM json_each(tags) WHERE json_each.key = MARK)";
    const EACH: &'static str = "json_each(MARK)";
    const UNTOUCHED: &'static str = "";

    async fn rows(&mut self, ask: Ask) -> sqlx::Result<Vec<SqliteRow>> {
        let arguments = of_sqlite(ask.values)?;
        sqlx::query_with(AssertSqlSafe(ask.text), arguments).fetch_all(self).await
    }

    async fn run(&mut self, ask: Ask) -> sqlx::Result<u64> {
        let arguments = of_sqlite(ask.values)?;
        Ok(sqlx::query_with(AssertSqlSafe(ask.text), arguments).execute(self).await?.rows_affected())
    }

    async fn change(&mut self, _: Lock<'_>) -> sqlx::Result<Transaction<'_, sqlx::Sqlite>> {
        // There is one writer of a file, and this is the moment at which it becomes that.
        self.begin_with("BEGIN IMMEDIATE").await
    }

    async fn look(&mut self) -> sqlx::Result<Transaction<'_, sqlx::Sqlite>> {
        self.begin().await
    }
}

fn of_sqlite(values: Vec<Value>) -> sqlx::Result<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        let added = match value {
            Value::Number(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Bytes(bytes) => arguments.add(bytes),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

impl Link for PgConnection {
    type Rows = PgRow;

    const LABEL: &'static str = "(tags::jsonb ->> MARK)";
    const EACH: &'static str = "jsonb_array_elements_text(MARK::jsonb) AS each (value)";
    const UNTOUCHED: &'static str = "FOR UPDATE SKIP LOCKED";

    async fn rows(&mut self, ask: Ask) -> sqlx::Result<Vec<PgRow>> {
        let arguments = of_postgres(ask.values)?;
        sqlx::query_with(AssertSqlSafe(ask.text), arguments).fetch_all(self).await
    }

    async fn run(&mut self, ask: Ask) -> sqlx::Result<u64> {
        let arguments = of_postgres(ask.values)?;
        Ok(sqlx::query_with(AssertSqlSafe(ask.text), arguments).execute(self).await?.rows_affected())
    }

    async fn change(&mut self, lock: Lock<'_>) -> sqlx::Result<Transaction<'_, sqlx::Postgres>> {
        let mut transaction = self.begin().await?;
        // Held until the transaction ends. The first number tells these locks from those of other programs.
        let ask = match lock {
            Lock::Owner(name) => {
                Ask::new("SELECT pg_advisory_xact_lock(1348825172, hashtext($1))").bind(name)
            }
            Lock::Tables => number_of(1),
            Lock::Keys => number_of(2),
            Lock::Audit => number_of(3),
            Lock::Records => number_of(4),
            Lock::Ledger => number_of(5),
        };
        transaction.run(ask).await?;
        Ok(transaction)
    }

    async fn look(&mut self) -> sqlx::Result<Transaction<'_, sqlx::Postgres>> {
        self.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }
}

fn number_of(lock: i32) -> Ask {
    Ask::new(format!("SELECT pg_advisory_xact_lock(1348825171, {lock})"))
}

fn of_postgres(values: Vec<Value>) -> sqlx::Result<PgArguments> {
    let mut arguments = PgArguments::default();
    for value in values {
        let added = match value {
            Value::Number(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text.map(whole)),
            Value::Bytes(bytes) => arguments.add(bytes),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// Text as PostgreSQL takes it: it has no byte 0, in JSON neither.
pub(crate) fn whole(text: String) -> String {
    let text = if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
    if text.contains("\\u0000") { text.replace("\\u0000", "\\ufffd") } else { text }
}

/// The names of a row's columns.
pub(crate) trait Columns {
    /// Where a column stands.
    fn column_of(&self, name: &str) -> sqlx::Result<usize>;
}

/// A row of either database.
pub(crate) trait Cells: Columns + Send + Sync {
    fn text(&self, column: usize) -> sqlx::Result<Option<&str>>;
    fn number(&self, column: usize) -> sqlx::Result<Option<i64>>;
    fn bytes(&self, column: usize) -> sqlx::Result<Option<&[u8]>>;

    /// A text that is there.
    fn word(&self, column: usize) -> sqlx::Result<&str> {
        self.text(column)?.ok_or_else(|| missing(column))
    }

    /// A number that is there.
    fn count(&self, column: usize) -> sqlx::Result<i64> {
        self.number(column)?.ok_or_else(|| missing(column))
    }
}

/// A truth value.
pub(crate) fn flag(row: &impl Cells, column: usize) -> sqlx::Result<bool> {
    Ok(row.count(column)? != 0)
}

fn missing(column: usize) -> sqlx::Error {
    sqlx::Error::Decode(format!("the column {column} is empty").into())
}

macro_rules! cells {
    ($row:ty) => {
        impl Cells for $row {
            fn text(&self, column: usize) -> sqlx::Result<Option<&str>> {
                self.try_get(column)
            }

            fn number(&self, column: usize) -> sqlx::Result<Option<i64>> {
                self.try_get(column)
            }

            fn bytes(&self, column: usize) -> sqlx::Result<Option<&[u8]>> {
                self.try_get(column)
            }
        }

        impl Columns for $row {
            fn column_of(&self, name: &str) -> sqlx::Result<usize> {
                Ok(self.try_column(name)?.ordinal())
            }
        }
    };
}

cells!(SqliteRow);
cells!(PgRow);
