//! Pictures and documents.

use penstock_domain::{Code, Error, Media, MediaSource, Part};
use serde_json::value::RawValue;

use super::{MAX_BLOCKS, optional, required};
use crate::json::{self, Object, Path};
use crate::openai::base64;
use crate::request::Lost;

/// The type of documents that are text.
const PLAIN: &str = "text/plain";

pub(super) fn image(object: &Object<'_>, path: &Path<'_>) -> Result<Media, Error> {
    let path = path.member("source");
    let source = source(object, &path)?;
    media(&source, &path)
}

/// A document, with what is said about it.
pub(super) fn document(object: &Object<'_>, path: &Path<'_>, out: &mut Vec<Part>) -> Result<(), Error> {
    let cited =
        object.get("citations").map(|raw| json::object(raw, &path.member("citations"))).transpose()?;
    let enabled = cited.as_ref().and_then(|cited| cited.get("enabled"));
    let cited = enabled.is_some_and(|raw| raw.get() == "true");
    let (note, context) = (optional(object, "title", path)?, optional(object, "context", path)?);
    let about = |media: Media| Part::File(Media { note, context, cited, ..media });
    let path = path.member("source");
    let source = source(object, &path)?;
    match required(&source, "type", &path)?.as_str() {
        "text" => out.push(about(plain(&required(&source, "data", &path)?))),
        "content" => {
            let content = path.member("content");
            let Some(raw) = source.get("content") else {
                return Err(content.error(Code::InvalidRequest, "is missing"));
            };
            let (text, images) = pieces(raw, &content)?;
            out.push(about(plain(&text)));
            out.extend(images);
        }
        _ => out.push(about(media(&source, &path)?)),
    }
    Ok(())
}

/// A result of a search that the asker made: a text with a title. Where it comes from is named.
pub(super) fn search_result(
    object: &Object<'_>,
    path: &Path<'_>,
    out: &mut Vec<Part>,
    lost: &mut Lost,
) -> Result<(), Error> {
    lost.note(object.get("source").is_some(), "messages.search_result.source");
    lost.note(object.get("citations").is_some(), "messages.search_result.citations");
    let content = path.member("content");
    let Some(raw) = object.get("content") else {
        return Err(content.error(Code::InvalidRequest, "is missing; send an array of text blocks"));
    };
    let (text, _) = pieces(raw, &content)?;
    out.push(Part::File(Media { note: optional(object, "title", path)?, ..plain(&text) }));
    Ok(())
}

/// Text as a document: bytes of a type, as every other document is.
fn plain(text: &str) -> Media {
    Media::new(MediaSource::Base64(base64::encode(text.as_bytes())), Some(PLAIN.to_owned()))
}

/// A document that was sent as a string or as blocks of text and pictures: its text, and its pictures.
fn pieces(raw: &RawValue, path: &Path<'_>) -> Result<(String, Vec<Part>), Error> {
    if raw.get().starts_with('"') {
        return Ok((json::string(raw, path)?, Vec::new()));
    }
    let (mut texts, mut images) = (Vec::new(), Vec::new());
    for (i, raw) in json::items(raw, MAX_BLOCKS, path)?.iter().enumerate() {
        let path = path.item(i);
        let block = json::object(raw, &path)?;
        match required(&block, "type", &path)?.as_str() {
            "text" => texts.push(required(&block, "text", &path)?),
            "image" => images.push(Part::Image(image(&block, &path)?)),
            other => {
                let say = format!("must be `text` or `image`, found `{}`", json::bounded(other, 32));
                return Err(path.member("type").error(Code::InvalidValue, say));
            }
        }
    }
    Ok((texts.join("\n\n"), images))
}

fn source<'a>(object: &Object<'a>, path: &Path<'_>) -> Result<Object<'a>, Error> {
    match object.get("source") {
        Some(raw) => json::object(raw, path),
        None => Err(path.error(Code::InvalidRequest, "is missing")),
    }
}

fn media(source: &Object<'_>, path: &Path<'_>) -> Result<Media, Error> {
    let mime = optional(source, "media_type", path)?;
    let source = match required(source, "type", path)?.as_str() {
        "base64" => MediaSource::Base64(required(source, "data", path)?),
        "url" => MediaSource::Url(required(source, "url", path)?),
        "file" => MediaSource::FileId(required(source, "file_id", path)?),
        other => {
            let say = format!(
                "must be `base64`, `url`, `file`, or for documents `text` or `content`, found `{}`",
                json::bounded(other, 32)
            );
            return Err(path.member("type").error(Code::InvalidValue, say));
        }
    };
    Ok(Media::new(source, mime))
}
