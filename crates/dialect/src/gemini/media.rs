//! Media of a turn: bytes inline, or an address that Google fetches.

use penstock_domain::{Code, Error, Media, MediaSource};
use serde::Serialize;

use crate::request::Lost;

/// How a PDF begins, in base64.
const PDF: &str = "JVBERi";
/// Where Google's own uploaded files are addressed.
const FILES: &str = "https://generativelanguage.googleapis.com/v1beta/";

/// Media types by the ending of an address, of what the API documents as input.
const ENDINGS: &[(&str, &str)] = &[
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("html", "text/html"),
    ("csv", "text/csv"),
    ("md", "text/markdown"),
    ("json", "application/json"),
    ("wav", "audio/wav"),
    ("mp3", "audio/mpeg"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("mov", "video/quicktime"),
];

/// Bytes in the request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob<'a> {
    mime_type: &'a str,
    data: &'a str,
}

/// Bytes elsewhere.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'a str>,
    file_uri: String,
}

/// Where the bytes are, in the API's words.
pub(super) enum Place<'a> {
    Inline(Blob<'a>),
    Elsewhere(FileData<'a>),
}

/// Says media of this kind (`image`, `document`, `audio`); `None` and a name when Google cannot reach them.
///
/// # Errors
/// `unsupported` for inline bytes that do not say what they are.
pub(super) fn place<'a>(media: &'a Media, kind: &str, lost: &mut Lost) -> Result<Option<Place<'a>>, Error> {
    let mime = media.mime.as_deref();
    let elsewhere = |uri: String| {
        let mime_type = mime.or_else(|| by_ending(&uri));
        Place::Elsewhere(FileData { mime_type, file_uri: uri })
    };
    match &media.source {
        MediaSource::Url(url) => Ok(Some(elsewhere(url.clone()))),
        MediaSource::FileId(id) if id.starts_with("https://") || id.starts_with("gs://") => {
            Ok(Some(elsewhere(id.clone())))
        }
        MediaSource::FileId(id) if id.starts_with("files/") => Ok(Some(elsewhere(format!("{FILES}{id}")))),
        MediaSource::FileId(_) => {
            // The id of a file that lies at another vendor.
            lost.note(true, &format!("messages.{kind}.file_id"));
            Ok(None)
        }
        MediaSource::Base64(data) => {
            let guessed = data.starts_with(PDF).then_some("application/pdf");
            let Some(mime_type) = mime.or(guessed) else {
                let say =
                    format!("the {kind} must tell its media type for this provider; send it as a data URL");
                return Err(Error::new(Code::Unsupported, say).with_param("messages"));
            };
            Ok(Some(Place::Inline(Blob { mime_type, data })))
        }
    }
}

fn by_ending(uri: &str) -> Option<&'static str> {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let (_, ending) = path.rsplit_once('/')?.1.rsplit_once('.')?;
    ENDINGS.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known)).map(|(_, mime)| *mime)
}
