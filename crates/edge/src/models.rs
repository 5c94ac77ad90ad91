//! `GET /v1/models` and `GET /v1/models/{id}`, in the shape that the asker knows: two APIs have these paths, and Anthropic's
//! clients always send `anthropic-version`.

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::HeaderMap;
use penstock_dialect::openai::models::ModelRow;
use penstock_dialect::{anthropic, openai};
use penstock_domain::{Code, Error};
use penstock_flow::ModelInfo;

use crate::routes;

/// Whether the asker speaks Anthropic's dialect where the path does not tell.
pub(crate) fn is_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

/// The models that a caller may use; Anthropic's list comes in pages.
///
/// # Errors
/// `invalid_value` and `invalid_request` for a page that cannot be.
pub(crate) fn list(listed: &[ModelInfo], headers: &HeaderMap, query: Option<&str>) -> Result<Bytes, Error> {
    let rows: Vec<_> = listed.iter().map(row).collect();
    if !is_anthropic(headers) {
        return Ok(openai::models::list(&rows));
    }
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let members: Vec<_> =
        pairs.filter_map(|(name, value)| Some((name, routes::parameter(value)?.into_owned()))).collect();
    let page = anthropic::models::Page::read(members.iter().map(|(name, value)| (*name, value.as_str())))?;
    Ok(anthropic::models::list(&rows, &page))
}

/// One model.
///
/// # Errors
/// `model_not_found`.
pub(crate) fn one(listed: &[ModelInfo], headers: &HeaderMap, rest: &str) -> Result<Bytes, Error> {
    let id = routes::parameter(rest);
    let found = id.as_deref().and_then(|id| listed.iter().find(|model| *model.id == *id));
    let Some(model) = found else {
        let say = "no such model, or not for this key; GET /v1/models lists those it may use";
        return Err(Error::new(Code::ModelNotFound, say).with_param("model"));
    };
    let row = row(model);
    Ok(if is_anthropic(headers) { anthropic::models::one(&row) } else { openai::models::one(&row) })
}

fn row(model: &ModelInfo) -> ModelRow<'_> {
    let created = model.created.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    ModelRow { id: &model.id, created, owned_by: &model.provider }
}
