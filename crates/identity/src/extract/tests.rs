use super::*;

fn read(headers: &[(&str, &str)]) -> Credential {
    credential(headers.iter().map(|(name, value)| (*name, value.as_bytes())), None)
}

fn key(text: &str) -> Credential {
    Credential::Key(Secret::new(text))
}

const SPELLINGS: [(&str, &str); 3] = [("authorization", "Bearer "), ("x-api-key", ""), ("api-key", "")];

#[test]
fn every_pair_of_spellings_agrees_or_conflicts() {
    for (first, before_first) in SPELLINGS {
        for (second, before_second) in SPELLINGS {
            let value = |before: &str, key: &str| format!("{before}{key}");
            let (a, b, same) =
                (value(before_first, "aaa"), value(before_second, "bbb"), value(before_second, "aaa"));
            assert_eq!(read(&[(first, &a)]), key("aaa"), "{first} alone");
            assert_eq!(read(&[(first, &a), (second, &same)]), key("aaa"), "{first} and {second}, the same");
            assert_eq!(
                read(&[(first, &a), (second, &b)]),
                Credential::Conflicting,
                "{first} and {second}, different"
            );
            assert_eq!(
                read(&[(first, &a), (second, before_second)]),
                key("aaa"),
                "{second} empty counts as absent"
            );
        }
    }
}

#[test]
fn odd_headers_are_read_strictly() {
    for (headers, expected) in [
        (&[][..], Credential::Missing),
        (
            &[("content-type", "aaa"), ("cookie", "api-key=aaa"), ("x-goog-api-key", "aaa")],
            Credential::Missing,
        ),
        (&[("authorization", "")], Credential::Missing),
        (&[("authorization", "Bearer")], Credential::Missing),
        (&[("authorization", "Bearer   ")], Credential::Missing),
        (&[("Authorization", "bEaReR  aaa ")], key("aaa")),
        (&[("X-API-Key", " aaa\t")], key("aaa")),
        // Another scheme is a credential, though no key will match it.
        (&[("authorization", "Basic YTpi")], key("Basic YTpi")),
        (&[("authorization", "aaa")], key("aaa")),
        (&[("authorization", "Beareraaa")], key("Beareraaa")),
        (&[("authorization", "Basic YTpi"), ("x-api-key", "aaa")], Credential::Conflicting),
        (&[("authorization", "Bearer aaa"), ("authorization", "Bearer bbb")], Credential::Conflicting),
        (&[("x-api-key", "aaa"), ("x-api-key", "aaa")], key("aaa")),
        (
            &[("x-api-key", "aaa"), ("api-key", "aaa"), ("authorization", "Bearer bbb")],
            Credential::Conflicting,
        ),
        (&[("x-api-key", "aaa"), ("api-key", "Aaa")], Credential::Conflicting),
        (&[("x-api-key", "aaa, bbb")], key("aaa, bbb")),
    ] {
        assert_eq!(read(headers), expected, "{headers:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_a_credential_that_matches_nothing() {
    let found = credential([("x-api-key", &b"\xff\xfe"[..])], None);
    assert!(
        matches!(&found, Credential::Key(key) if !key.expose().is_ascii()),
        "it must not count as absent"
    );
    let both = credential([("x-api-key", &b"\xff"[..]), ("api-key", b"\xfe")], None);
    assert_eq!(both, Credential::Conflicting);
}
