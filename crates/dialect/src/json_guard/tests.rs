use super::*;

fn code(text: &[u8]) -> Option<Code> {
    check(text, 4).err().map(|e| e.code())
}

#[test]
fn counts_depth_outside_strings_only() {
    assert_eq!(code(b"[[[[]]]]"), None);
    assert_eq!(code(b"[[[[{}]]]]"), Some(Code::JsonTooDeep));
    assert_eq!(code(br#"["[[[[[[[[", "\"[[[[[[", "\\"]"#), None);
    assert_eq!(code(br#"["\\",[[["#), None);
    assert_eq!(code(br#"["\\",[[[["#), Some(Code::JsonTooDeep));
    assert_eq!(code(br#"[[],[],[],[],[],[]]"#), None);
    assert_eq!(code(&vec![b'['; 10_000]), Some(Code::JsonTooDeep));
}

#[test]
fn refuses_what_parsers_disagree_about() {
    assert_eq!(code(b"\xEF\xBB\xBF{}"), Some(Code::InvalidJson));
    assert_eq!(code(b"{\"a\":\"\xFF\"}"), Some(Code::InvalidJson));
    assert_eq!(code(br#"["\ud83d\ude00"]"#), None);
    assert_eq!(code(br#"["\uD83D\uDE00 \u00e9"]"#), None);
    assert_eq!(code(br#"["\ud83d"]"#), Some(Code::InvalidJson));
    assert_eq!(code(br#"["\ude00\ud83d"]"#), Some(Code::InvalidJson));
    assert_eq!(code(br#"["\\ud83d"]"#), None);
}

#[test]
fn survives_text_that_ends_anywhere() {
    let text = br#"{"a\ud83d\ude00":["\\",{"b":"\u0041"}]}"#;
    for end in 0..text.len() {
        let _ = check(&text[..end], 4);
    }
}
