//! Gemini's `generateContent`, its embeddings and its token count: a dialect that vendors alone speak (Google's
//! Generative Language API, v1beta, <https://ai.google.dev/api>).
//!
//! What it promises: a conversation becomes contents with the roles, the order and the grouping that the API demands; an
//! answer becomes the shared words, complete only when every candidate has told why it ended; thought signatures travel
//! through the asker and come back unchanged; what cannot be said is named.
//!
//! What it refuses to know: who asks, addresses, credentials. Of models it knows only what their generation changes in
//! the request: how thinking is asked for, and whether calls must be signed.

mod content;
pub mod embed;
pub mod error;
mod media;
pub mod reader;
pub mod request;
mod wire;

/// How a thought signature is marked while it travels through an asker: a signature of another vendor that comes back
/// in its place must not reach Google, nor Google's another vendor. No base64 has a colon.
const MARK: &str = "google:";

/// How the ids of calls begin that the model gave none.
const OWN_ID: &str = "gcall_";

/// A thought signature as askers carry it.
pub(crate) fn sealed(signature: &str) -> String {
    format!("{MARK}{signature}")
}

/// The thought signature in what an asker carried, if it is Google's.
pub(crate) fn unsealed(carried: &str) -> Option<&str> {
    carried.strip_prefix(MARK).filter(|signature| !signature.is_empty())
}

/// The generation of a Gemini model: 3 for `gemini-3.1-pro`; `None` for names without one (`gemini-flash-latest`) and
/// for other families.
fn generation(model: &str) -> Option<u32> {
    let name = model.rsplit('/').next().unwrap_or(model);
    let rest = name.strip_prefix("gemini-")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Whether the model refuses calls without a thought signature: Gemini's third generation and later, aliases of the
/// latest models among them.
fn demands_signatures(model: &str) -> bool {
    let family = model.rsplit('/').next().unwrap_or(model).starts_with("gemini-");
    family && generation(model).is_none_or(|generation| generation >= 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_is_read_from_the_name() {
        let cases = [
            ("gemini-3-pro-preview", Some(3), true),
            ("models/gemini-3.1-flash", Some(3), true),
            ("gemini-2.5-flash", Some(2), false),
            ("gemini-10-x", Some(10), true),
            ("gemini-flash-latest", None, true),
            ("gemma-3-27b-it", None, false),
            ("", None, false),
        ];
        for (name, expected, demands) in cases {
            assert_eq!(generation(name), expected, "{name}");
            assert_eq!(demands_signatures(name), demands, "{name}");
        }
    }

    #[test]
    fn only_googles_signatures_are_taken_for_googles() {
        assert_eq!(unsealed(&sealed("CiQB")), Some("CiQB"));
        assert_eq!(unsealed("EqQBCkYI"), None);
        assert_eq!(unsealed("google:"), None);
    }
}
