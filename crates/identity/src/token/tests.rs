use std::collections::HashSet;

use super::*;

#[test]
fn a_new_key_has_the_published_form_and_never_repeats() {
    let mut seen = HashSet::new();
    for _ in 0..500 {
        let token = Token::generate().expect("randomness");
        let text = token.secret().expose();
        assert_eq!(text.len(), 57);
        assert!(text.starts_with("pk_live_"));
        assert!(text[8..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(is_well_formed(text));
        assert_eq!(problem(text), None);
        assert!(seen.insert(text.to_owned()), "repeated");
    }
}

#[test]
fn base_62_holds_all_256_bits() {
    let mut text = String::new();
    push_base62(&mut text, &mut [0xff; 32], SECRET_DIGITS);
    // Least digit first, read back with the rule of the positional system.
    let mut number = [0_u8; 32];
    for digit in text.bytes().rev() {
        let mut carry = DIGITS.iter().position(|d| *d == digit).expect("a digit") as u32;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 62 + carry;
            *byte = (value & 0xff) as u8;
            carry = value >> 8;
        }
        assert_eq!(carry, 0);
    }
    assert_eq!(number, [0xff; 32]);
    let mut zero = String::new();
    push_base62(&mut zero, &mut [0; 32], SECRET_DIGITS);
    assert_eq!(zero, "0".repeat(43), "short numbers keep their length");
}

#[test]
fn every_single_changed_character_breaks_the_checksum() {
    let token = Token::generate().expect("randomness");
    let text = token.secret().expose();
    for at in PREFIX.len()..text.len() {
        let mut forged = text.as_bytes().to_vec();
        forged[at] = if forged[at] == b'x' { b'y' } else { b'x' };
        let forged = String::from_utf8(forged).expect("ascii");
        assert!(!is_well_formed(&forged), "changed at {at}");
    }
}

#[test]
fn malformed_keys_are_refused_before_a_look_up() {
    let token = Token::generate().expect("randomness");
    let good = token.secret().expose();
    let cut = &good[..56];
    let long = format!("{good}0");
    let swapped = format!("{}{}{}", &good[..50], &good[51..57], &good[50..51]);
    for bad in
        ["", "pk_live_", "short", "pk_live_0123456789", cut, &long, &swapped, "has spaces in the middle"]
    {
        assert!(!is_well_formed(bad), "{bad:?}");
    }
    for bad in
        ["ünïcödé-key-of-some-length", "tab\tseparated-key-000", "nul\0byte-key-0000000", &"x".repeat(513)]
    {
        assert!(!is_well_formed(bad), "{bad:?}");
        assert!(problem(bad).is_some(), "{bad:?}");
    }
    for good in ["sk-operator-chosen-key", &"x".repeat(16), &"x".repeat(512)] {
        assert!(is_well_formed(good) && problem(good).is_none(), "{good:?}");
    }
    let shown = problem("pk_live_whatever-secret").expect("bad checksum");
    assert!(!shown.contains("whatever-secret"), "a sentence shows the key: {shown}");
}

#[test]
fn a_digest_depends_on_every_byte_of_key_and_pepper() {
    let (one, other) = (Pepper::new([1; 32]), Pepper::new([2; 32]));
    let key = "x".repeat(64);
    assert_ne!(one.digest(&key), other.digest(&key));
    for shared in 0..64 {
        let mut sibling = key.clone().into_bytes();
        sibling[shared] = b'y';
        let sibling = String::from_utf8(sibling).expect("ascii");
        assert_ne!(one.digest(&key), one.digest(&sibling), "{shared} shared characters");
    }
    assert_eq!(one.digest(&key), Pepper::new([1; 32]).digest(&key));
}

#[test]
fn nothing_secret_is_printed_by_debug() {
    let token = Token::generate().expect("randomness");
    let text = token.secret().expose().to_owned();
    let pepper = Pepper::new([0xab; 32]);
    let shown = format!("{token:?} {pepper:?} {:?}", pepper.digest(&text));
    assert_eq!(shown, "Token(Secret(…)) Pepper(…) Digest(…)");
}

#[test]
fn ids_are_short_and_do_not_repeat() {
    let ids: HashSet<String> = (0..200).map(|_| generate_id().expect("randomness")).collect();
    assert_eq!(ids.len(), 200);
    assert!(ids.iter().all(|id| id.len() == 26 && id.starts_with("key_") && !id.starts_with("key_file_")));
}
