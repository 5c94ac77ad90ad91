//! Citations, both ways.
//!
//! What it refuses to know: the vendor's own handle of a web page (`encrypted_index`): it is empty in what is written here,
//! and what is read loses it, because no other dialect could carry it back.

use penstock_domain::{Citation, CitedPlace};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    cited_text: Option<String>,
    #[serde(default, alias = "search_result_index")]
    document_index: Option<u32>,
    #[serde(default, alias = "document_title")]
    title: Option<String>,
    #[serde(default, alias = "source")]
    url: Option<String>,
    #[serde(default, alias = "start_page_number", alias = "start_block_index")]
    start_char_index: Option<u32>,
    #[serde(default, alias = "end_page_number", alias = "end_block_index")]
    end_char_index: Option<u32>,
}

/// Reads a citation; `None` when it names no source.
pub(super) fn read(raw: &RawValue) -> Option<Citation> {
    let wire: Wire = serde_json::from_str(raw.get()).ok()?;
    let range = wire.start_char_index.zip(wire.end_char_index);
    let place = range.and_then(|(start, end)| match wire.kind.as_str() {
        "char_location" => Some(CitedPlace::Characters(start, end)),
        "page_location" => Some(CitedPlace::Pages(start, end)),
        "content_block_location" | "search_result_location" => Some(CitedPlace::Blocks(start, end)),
        _ => None,
    });
    let source = wire.url.is_some() || place.is_some();
    source.then(|| Citation {
        quote: wire.cited_text.filter(|text| !text.is_empty()),
        url: wire.url,
        title: wire.title,
        document: wire.document_index,
        place,
        of: None,
    })
}

/// Writes a citation; `None` for a source that the dialect cannot name.
pub(super) fn write(citation: &Citation) -> Option<Value> {
    let Citation { quote, url, title, document, place, .. } = citation;
    let quote = quote.as_deref().unwrap_or_default();
    let (kind, start, end, from, to) = match (place, url, document) {
        (Some(CitedPlace::Blocks(from, to)), Some(source), Some(index)) => {
            return Some(json!({
                "type": "search_result_location", "cited_text": quote, "source": source, "title": title,
                "search_result_index": index, "start_block_index": from, "end_block_index": to,
            }));
        }
        (_, Some(url), _) => {
            return Some(json!({
                "type": "web_search_result_location", "cited_text": quote, "url": url, "title": title,
                "encrypted_index": "",
            }));
        }
        (Some(CitedPlace::Characters(from, to)), None, _) => {
            ("char_location", "start_char_index", "end_char_index", from, to)
        }
        (Some(CitedPlace::Pages(from, to)), None, _) => {
            ("page_location", "start_page_number", "end_page_number", from, to)
        }
        (Some(CitedPlace::Blocks(from, to)), None, _) => {
            ("content_block_location", "start_block_index", "end_block_index", from, to)
        }
        (None, None, _) => return None,
    };
    Some(json!({
        "type": kind, "cited_text": quote, "document_index": document.unwrap_or(0), "document_title": title,
        start: from, end: to,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let quoted = Citation { quote: Some("words".into()), title: Some("T".into()), ..Citation::default() };
        let document = Citation { document: Some(1), ..quoted.clone() };
        for place in [CitedPlace::Characters(3, 8), CitedPlace::Pages(1, 2), CitedPlace::Blocks(0, 1)] {
            let citation = Citation { place: Some(place), ..document.clone() };
            let text = write(&citation).unwrap().to_string();
            assert_eq!(read(serde_json::from_str(&text).unwrap()), Some(citation));
        }
        let web = Citation { url: Some("https://example.com".into()), ..quoted.clone() };
        let searched = Citation {
            url: Some("kb/1".into()),
            place: Some(CitedPlace::Blocks(0, 2)),
            document: Some(0),
            ..quoted.clone()
        };
        for citation in [web, searched] {
            let text = write(&citation).unwrap().to_string();
            assert_eq!(read(serde_json::from_str(&text).unwrap()), Some(citation));
        }
        assert_eq!(write(&quoted), None);
    }
}
