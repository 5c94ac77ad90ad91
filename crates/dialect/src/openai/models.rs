//! The list of models.
use bytes::Bytes;
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
/// The body of `GET /v1/models`.
pub fn list(rows: &[ModelRow<'_>]) -> Bytes {
    let _ = rows;
    Bytes::new()
}
/// The body of `GET /v1/models/{id}`.
pub fn one(row: &ModelRow<'_>) -> Bytes {
    let _ = row;
    Bytes::new()
}
