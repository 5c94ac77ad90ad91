//! Many rows in one statement: column by column, as arrays.

use sqlx::Arguments;
use sqlx::postgres::PgArguments;

use crate::link::{Value, whole};

/// Rows for one statement.
const MOST: usize = 1_000;

/// One column of some rows.
enum Column {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
}

/// Rows of one shape: in every row the same place holds numbers, or texts.
#[derive(Default)]
pub(super) struct Sheet {
    columns: Vec<Column>,
    rows: usize,
}

impl Sheet {
    pub(super) fn row(&mut self, values: impl IntoIterator<Item = Value>) {
        for (place, value) in values.into_iter().enumerate() {
            if self.columns.len() <= place {
                self.columns.push(match value {
                    Value::Number(_) => Column::Numbers(Vec::new()),
                    Value::Text(_) | Value::Bytes(_) => Column::Texts(Vec::new()),
                });
            }
            match (&mut self.columns[place], value) {
                (Column::Numbers(column), Value::Number(number)) => column.push(number),
                (Column::Texts(column), Value::Text(text)) => column.push(text.map(whole)),
                // Shapes are ours and do not change from row to row.
                (Column::Numbers(column), _) => column.push(None),
                (Column::Texts(column), _) => column.push(None),
            }
        }
        self.rows += 1;
    }

    /// Whether it is time to begin another one.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= MOST
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// `unnest(…)` of these columns, and what is bound to it.
    pub(super) fn take(self) -> sqlx::Result<(String, PgArguments)> {
        let mut arguments = PgArguments::default();
        let mut marks = Vec::with_capacity(self.columns.len());
        for (place, column) in self.columns.into_iter().enumerate() {
            let number = place + 1;
            let added = match column {
                Column::Numbers(numbers) => {
                    marks.push(format!("${number}::bigint[]"));
                    arguments.add(numbers)
                }
                Column::Texts(texts) => {
                    marks.push(format!("${number}::text[]"));
                    arguments.add(texts)
                }
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        Ok((format!("unnest({})", marks.join(", ")), arguments))
    }
}
