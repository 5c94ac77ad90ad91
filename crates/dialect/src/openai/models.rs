//! The list of models, as `GET /v1/models` and `GET /v1/models/{id}` give it.

use bytes::Bytes;
use serde::Serialize;

/// One row of `/v1/models`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelRow<'a> {
    /// The name that clients ask for.
    pub id: &'a str,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// Who offers it.
    pub owned_by: &'a str,
}

#[derive(Serialize)]
struct Wire<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

impl<'a> From<&ModelRow<'a>> for Wire<'a> {
    fn from(row: &ModelRow<'a>) -> Self {
        Self { id: row.id, object: "model", created: row.created, owned_by: row.owned_by }
    }
}

/// The body of `GET /v1/models`.
pub fn list(rows: &[ModelRow<'_>]) -> Bytes {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<Wire<'a>>,
    }
    let list = List { object: "list", data: rows.iter().map(Wire::from).collect() };
    // Strings and numbers only: writing them into memory cannot fail.
    serde_json::to_vec(&list).map(Bytes::from).unwrap_or_default()
}

/// The body of `GET /v1/models/{id}`.
pub fn one(row: &ModelRow<'_>) -> Bytes {
    serde_json::to_vec(&Wire::from(row)).map(Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_openais_shape() {
        let row = ModelRow { id: "small", created: 7, owned_by: "local" };
        let one_row = r#"{"id":"small","object":"model","created":7,"owned_by":"local"}"#;
        assert_eq!(one(&row), one_row);
        assert_eq!(list(&[row]), format!(r#"{{"object":"list","data":[{one_row}]}}"#));
        assert_eq!(list(&[]), r#"{"object":"list","data":[]}"#);
    }
}
