//! The list of models, as Anthropic's `GET /v1/models` and `GET /v1/models/{id}` give it.
//!
//! What it refuses to know: who may see which model, and HTTP.

use bytes::Bytes;
use penstock_domain::{Code, Error, calendar};
use serde_json::{Value, json};

use crate::openai::models::ModelRow;

/// Models on a page unless the asker says how many, and at most (Anthropic's own numbers).
const LIMIT: usize = 20;
const MOST: usize = 1000;

/// Which part of the list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    limit: usize,
    before: Option<String>,
    after: Option<String>,
}

impl Page {
    /// Reads the members of a query: `limit`, `before_id`, `after_id`; others are somebody else's.
    ///
    /// # Errors
    /// `invalid_value` for a limit out of range, `invalid_request` for both ends at once.
    pub fn read<'q>(members: impl Iterator<Item = (&'q str, &'q str)>) -> Result<Self, Error> {
        let mut page = Self { limit: LIMIT, before: None, after: None };
        for (name, value) in members {
            match name {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                    page.limit = limit.ok_or_else(|| {
                        let say = format!("`limit` must be a whole number between 1 and {MOST}");
                        Error::new(Code::InvalidValue, say).with_param("limit")
                    })?;
                }
                "before_id" => page.before = Some(value.to_owned()),
                "after_id" => page.after = Some(value.to_owned()),
                _ => {}
            }
        }
        if page.before.is_some() && page.after.is_some() {
            let say = "`before_id` and `after_id` exclude each other; send one of them";
            return Err(Error::new(Code::InvalidRequest, say).with_param("after_id"));
        }
        Ok(page)
    }

    /// The rows of the page, and whether there are more on its far side. An id that is not there begins at the list's end.
    fn of<'r, 'm>(&self, rows: &'r [ModelRow<'m>]) -> (&'r [ModelRow<'m>], bool) {
        let place = |id: &String| rows.iter().position(|row| row.id == id);
        if let Some(before) = &self.before {
            let end = place(before).unwrap_or(rows.len());
            let start = end.saturating_sub(self.limit);
            return (&rows[start..end], start > 0);
        }
        let start = self.after.as_ref().map_or(0, |after| place(after).map_or(rows.len(), |at| at + 1));
        let end = rows.len().min(start + self.limit);
        (&rows[start..end], end < rows.len())
    }
}

fn wire(row: &ModelRow<'_>) -> Value {
    json!({"type": "model", "id": row.id, "display_name": row.id, "created_at": calendar::rfc3339(row.created)})
}

/// The body of `GET /v1/models`.
pub fn list(rows: &[ModelRow<'_>], page: &Page) -> Bytes {
    let (rows, more) = page.of(rows);
    let (first, last) = (rows.first().map(|row| row.id), rows.last().map(|row| row.id));
    let data: Vec<Value> = rows.iter().map(wire).collect();
    Bytes::from(json!({"data": data, "has_more": more, "first_id": first, "last_id": last}).to_string())
}

/// The body of `GET /v1/models/{id}`.
pub fn one(row: &ModelRow<'_>) -> Bytes {
    Bytes::from(wire(row).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<ModelRow<'static>> {
        ["a", "b", "c", "d"].map(|id| ModelRow { id, created: 7, owned_by: "local" }).into()
    }

    fn page(query: &[(&str, &str)]) -> Value {
        let page = Page::read(query.iter().copied()).unwrap();
        serde_json::from_slice(&list(&rows(), &page)).unwrap()
    }

    fn ids(page: &Value) -> Vec<&str> {
        page["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
    }

    #[test]
    fn pages_walk_the_list_both_ways() {
        let first = page(&[("limit", "2")]);
        assert_eq!(
            (ids(&first), &first["has_more"], &first["last_id"]),
            (vec!["a", "b"], &json!(true), &json!("b"))
        );
        let second = page(&[("limit", "2"), ("after_id", "b"), ("beta", "true")]);
        assert_eq!((ids(&second), &second["has_more"]), (vec!["c", "d"], &json!(false)));
        let back = page(&[("limit", "2"), ("before_id", "d")]);
        assert_eq!(
            (ids(&back), &back["has_more"], &back["first_id"]),
            (vec!["b", "c"], &json!(true), &json!("b"))
        );
        let none = page(&[("after_id", "gone")]);
        assert_eq!((ids(&none), &none["first_id"]), (vec![], &Value::Null));
        assert_eq!(first["data"][0]["created_at"], "1970-01-01T00:00:07Z");
        for wrong in [&[("limit", "0")][..], &[("limit", "x")], &[("before_id", "a"), ("after_id", "b")]] {
            assert!(Page::read(wrong.iter().copied()).is_err(), "{wrong:?}");
        }
    }
}
