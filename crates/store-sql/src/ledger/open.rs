//! Reservations that are open, in the file. A thousand open answers are written down twice a second: each statement takes many
//! of them, because every statement is a round trip to SQLite's thread, which costs more than a row.

use std::sync::Arc;

use penstock_admission::Need;
use penstock_admission::ledger::{GatewayId, Open};
use penstock_observe::store::MAX_TOKENS;
use sqlx::Arguments;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};

use super::write::{Bound, column};
use crate::records::{fitting, int, micros, tags};

/// Columns of an open reservation, in the order in which they are bound.
const COLUMNS: &str = "id, begun, key, team, model, reserved_input, reserved_output, reserved_cost, input, output, cost, \
     tags, gateway, provider";
/// Rows of one statement: prepared once each, the largest that fits is taken.
const ROWS: [usize; 4] = [64, 16, 4, 1];

type Statements = [(usize, Arc<str>); ROWS.len()];

/// The texts of the statements.
pub(super) struct Texts {
    add: Statements,
    grow: Statements,
    close: Statements,
}

impl Texts {
    pub(super) fn new() -> Self {
        let rows = |columns: usize, rows| {
            let row = format!("({})", vec!["?"; columns].join(", "));
            vec![row; rows].join(", ")
        };
        let columns = COLUMNS.split(", ").count();
        let add = |many| format!("INSERT OR IGNORE INTO open ({COLUMNS}) VALUES {}", rows(columns, many));
        let grow = |many| {
            format!(
                "WITH now (id, input, output, cost, provider) AS (VALUES {}) \
                 UPDATE open SET input = now.input, output = now.output, cost = now.cost, provider = now.provider \
                 FROM now WHERE open.id = now.id",
                rows(5, many)
            )
        };
        let close = |many| format!("DELETE FROM open WHERE id IN {}", rows(many, 1));
        Self {
            add: ROWS.map(|many| (many, add(many).into())),
            grow: ROWS.map(|many| (many, grow(many).into())),
            close: ROWS.map(|many| (many, close(many).into())),
        }
    }

    /// Writes them down; those that are known already stay as they are.
    pub(super) async fn add(
        &self,
        connection: &mut SqliteConnection,
        opened: &[Arc<Open>],
        gateway: &GatewayId,
    ) -> sqlx::Result<()> {
        let gateway: Arc<str> = gateway.as_str().into();
        let add = |arguments: &mut SqliteArguments, open: &Arc<Open>| bind(arguments, open, &gateway);
        each(connection, &self.add, opened, add).await
    }

    /// Writes down what their answers have used by now.
    pub(super) async fn grow(
        &self,
        connection: &mut SqliteConnection,
        grown: &[Arc<Open>],
    ) -> sqlx::Result<()> {
        let grow = |arguments: &mut SqliteArguments, open: &Arc<Open>| {
            arguments.add(open.id.shared())?;
            add_so_far(arguments, open)?;
            arguments.add(open.provider())
        };
        each(connection, &self.grow, grown, grow).await
    }

    /// Forgets them.
    pub(super) async fn close(
        &self,
        connection: &mut SqliteConnection,
        closed: &[&Arc<Open>],
    ) -> sqlx::Result<()> {
        let close = |arguments: &mut SqliteArguments, open: &&Arc<Open>| arguments.add(open.id.shared());
        each(connection, &self.close, closed, close).await
    }
}

/// Runs the statements that take all of these, in as few steps as may be.
async fn each<T>(
    connection: &mut SqliteConnection,
    statements: &Statements,
    all: &[T],
    bind: impl Fn(&mut SqliteArguments, &T) -> Bound,
) -> sqlx::Result<()> {
    let mut rest = all;
    while !rest.is_empty() {
        let (rows, text) = fitting(statements, rest.len());
        let (now, later) = rest.split_at(rows);
        let mut arguments = SqliteArguments::default();
        now.iter().try_for_each(|one| bind(&mut arguments, one)).map_err(sqlx::Error::Encode)?;
        sqlx::query_with(AssertSqlSafe(text), arguments).execute(&mut *connection).await?;
        rest = later;
    }
    Ok(())
}

fn bind(arguments: &mut SqliteArguments, open: &Open, gateway: &Arc<str>) -> Bound {
    let Need { input, output, micros: cost } = open.reserved;
    arguments.add(open.id.shared())?;
    arguments.add(micros(open.begun))?;
    arguments.add(Arc::clone(&open.key))?;
    arguments.add(open.team.clone())?;
    arguments.add(open.model.clone())?;
    [input, output, cost].into_iter().try_for_each(|number| arguments.add(int(number)))?;
    add_so_far(arguments, open)?;
    arguments.add(tags(&open.tags)?)?;
    arguments.add(Arc::clone(gateway))?;
    arguments.add(open.provider())
}

fn add_so_far(arguments: &mut SqliteArguments, open: &Open) -> Bound {
    let (input, output, cost) = so_far(open);
    [input, output, cost].into_iter().try_for_each(|number| arguments.add(number))
}

/// What an open reservation would be settled with now: input, output, cost.
pub(crate) fn so_far(open: &Open) -> (Option<i64>, Option<i64>, Option<i64>) {
    let Some((usage, cost)) = open.so_far() else { return (None, None, None) };
    (Some(int(usage.input.min(MAX_TOKENS))), Some(int(usage.output.min(MAX_TOKENS))), column(cost))
}
