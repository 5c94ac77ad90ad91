//! The prompt in a JSON body: what its strings say, without the names of its members.

use memchr::{memchr, memchr2};

use crate::Estimator;

/// Bodies up to this many bytes are read whole; of longer ones as many bytes are read, in windows.
const WHOLE: usize = 4 << 10;
/// Windows of a long body.
const WINDOWS: usize = 16;
const WINDOW: usize = WHOLE / WINDOWS;
/// A string whose first so many bytes are all of the base-64 alphabet is an image or another file.
const MEDIA: usize = 200;
/// What an image or another file counts: about what vendors bill for one of 1,000 × 1,000 pixels.
const MEDIA_TOKENS: u64 = 1_000;
/// What every message adds besides its text (OpenAI's cookbook, "How to count tokens with tiktoken").
const MESSAGE_TOKENS: u64 = 3;

/// Estimates the tokens of the prompt that a JSON body holds: its string values, and a little per message. At most 4 KiB
/// of the body are read. It need not be valid JSON.
pub fn estimate_json(body: &[u8]) -> u64 {
    if body.len() <= WHOLE {
        return strings(body);
    }
    // The beginning tells strings from names; further on nearly everything is content.
    let (mut sampled, mut files, mut inside) = (0u64, 0u64, false);
    for index in 0..WINDOWS {
        let at = (body.len() - WINDOW) / (WINDOWS - 1) * index;
        let window = &body[at..at + WINDOW];
        // The tokens of a file do not grow with its bytes: windows of one after another are one file.
        let media = is_media(window);
        files += u64::from(media && !inside);
        inside = media;
        if !media {
            let mut estimator = Estimator::default();
            estimator.feed(window);
            sampled += estimator.tokens();
        }
    }
    let tokens = u128::from(sampled) * body.len() as u128 / WHOLE as u128;
    u64::try_from(tokens).unwrap_or(u64::MAX).saturating_add(files * MEDIA_TOKENS)
}

fn is_media(bytes: &[u8]) -> bool {
    let coded = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_');
    bytes.len() >= MEDIA && bytes[..MEDIA].iter().all(coded)
}

/// Walks through all strings. A string before a colon is a name.
fn strings(body: &[u8]) -> u64 {
    let mut sum = 0u64;
    let mut at = 0;
    while let Some(open) = memchr(b'"', &body[at..]) {
        let (inside, after) = string(body, at + open + 1);
        at = after;
        let next = body[after..].iter().find(|byte| !byte.is_ascii_whitespace());
        sum += match next {
            Some(b':') if inside == b"role" => MESSAGE_TOKENS,
            Some(b':') => 0,
            _ => value(inside),
        };
    }
    sum
}

/// The inside of the string that begins at `from`, and where the body goes on behind it.
fn string(body: &[u8], from: usize) -> (&[u8], usize) {
    let mut at = from;
    while let Some(found) = body.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if body[at] == b'"' {
            return (&body[from..at], at + 1);
        }
        at += 2;
    }
    (&body[from..], body.len())
}

/// The tokens of one string value.
fn value(inside: &[u8]) -> u64 {
    let data = inside.strip_prefix(b"data:").and_then(|data| {
        let comma = data.iter().take(128).position(|byte| *byte == b',')?;
        Some(&data[comma + 1..])
    });
    if is_media(data.unwrap_or(inside)) {
        return MEDIA_TOKENS;
    }
    let mut estimator = Estimator::default();
    let mut rest = inside;
    while let Some(escape) = memchr(b'\\', rest) {
        estimator.feed(&rest[..escape]);
        rest = unescape(&rest[escape..], &mut estimator);
    }
    estimator.feed(rest);
    estimator.tokens()
}

/// Feeds what the escape at the beginning stands for; gives what follows it.
fn unescape<'t>(text: &'t [u8], estimator: &mut Estimator) -> &'t [u8] {
    let plain = match text.get(1) {
        Some(b'n' | b'r') => b"\n",
        Some(b't') => b"\t",
        Some(b'u') => {
            let code = text.get(2..6).and_then(|hex| std::str::from_utf8(hex).ok());
            let code = code.and_then(|hex| u32::from_str_radix(hex, 16).ok());
            // Half of a pair: both halves together are one character outside the first plane.
            let character = match code {
                Some(0xd800..=0xdbff) => Some('\u{1f642}'),
                Some(0xdc00..=0xdfff) => None,
                code => code.and_then(char::from_u32),
            };
            if let Some(character) = character {
                estimator.feed(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            return text.get(6..).unwrap_or_default();
        }
        // A quotation mark, a backslash, a slash.
        _ => b"\"",
    };
    estimator.feed(plain);
    text.get(2..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::estimate;

    #[test]
    fn names_and_numbers_are_not_part_of_the_prompt() {
        let text = "Why is the sky blue, and why is it red in the evening?";
        let body =
            format!(r#"{{"model":"m","temperature":0.7,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let extra = estimate("m") + estimate("user") + MESSAGE_TOKENS;
        assert_eq!(estimate_json(body.as_bytes()), estimate(text) + extra);
    }

    #[test]
    fn escapes_count_as_what_they_stand_for() {
        let value = |text: &str| estimate_json(format!("[{text}]").as_bytes());
        assert_eq!(value(r#""one\ntwo \"three\"""#), estimate("one\ntwo \"three\""));
        assert_eq!(value(r#""\u4e2d\u6587""#), estimate("中文"));
        assert_eq!(value(r#""\ud83d\ude42""#), estimate("🙂"));
    }

    #[test]
    fn a_file_counts_as_a_file_and_not_by_its_bytes() {
        let data = "iVBORw0KGgo".repeat(300);
        for text in [data.clone(), format!("data:image/png;base64,{data}")] {
            assert_eq!(estimate_json(format!("[\"{text}\"]").as_bytes()), MEDIA_TOKENS);
        }
    }

    #[test]
    fn a_file_in_a_long_body_counts_once_however_long_it_is() {
        let with = |times: usize| estimate_json(format!("[\"{}\"]", "iVBORw0KGgo".repeat(times)).as_bytes());
        // The first window holds the quotation mark, so it is taken for text.
        assert!((MEDIA_TOKENS..MEDIA_TOKENS * 20).contains(&with(4_000)), "{}", with(4_000));
    }

    #[test]
    fn a_long_body_is_estimated_from_samples_of_it() {
        let text = "It was a bright cold day in April, and the clocks were striking thirteen. ".repeat(2_000);
        let body = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let (sampled, whole) = (estimate_json(body.as_bytes()), estimate(&text));
        assert!(sampled.abs_diff(whole) * 20 <= whole, "{sampled} instead of {whole}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_estimated(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(estimate_json(&bytes) <= 2 * bytes.len() as u64 + MEDIA_TOKENS);
        }

        #[test]
        fn cut_json_is_estimated(text in r#"[\[\]{}:,"\\u0-9a-f ]{0,80}"#) {
            estimate_json(text.as_bytes());
        }
    }
}
