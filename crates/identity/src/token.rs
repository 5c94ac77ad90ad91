//! Keys as text, and their digests.
//!
//! A key is `pk_live_`, 43 base-62 digits of 256 random bits, and 6 digits of checksum. The checksum refuses mistyped and
//! made-up keys before any look-up; the length of the secret part is why a fast keyed hash is enough at rest, where a
//! password would need a slow one. A key that an operator wrote into the config may be any ASCII text of 16 to 512
//! characters without spaces, but one that begins with `pk_live_` must be whole.

use std::fmt;
use std::hash::{Hash, Hasher};

use penstock_domain::{Code, Error, Secret};
use rand::TryRng;
use rand::rngs::SysRng;
use subtle::ConstantTimeEq;

/// What every key that we make begins with, so that secret scanners and people recognise it.
pub(crate) const PREFIX: &str = "pk_live_";
const SECRET_DIGITS: usize = 43;
const CHECK_DIGITS: usize = 6;
const TOKEN_BYTES: usize = PREFIX.len() + SECRET_DIGITS + CHECK_DIGITS;
const SHORTEST: usize = 16;
const LONGEST: usize = 512;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The server's own secret, 32 bytes, under which digests are made: a stolen database alone tells nothing, not even
/// whether a guessed key is in it. Shown by nothing, overwritten when dropped.
pub struct Pepper([u8; 32]);

impl Pepper {
    /// Takes the bytes that a store keeps.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Draws new ones from the operating system. `internal_error` when it has none to give.
    pub fn generate() -> Result<Self, Error> {
        random().map(Self)
    }

    /// The bytes, for the file that keeps them and for nothing else.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of a whole key (BLAKE3, keyed mode).
    pub fn digest(&self, key: &str) -> Digest {
        Digest(*blake3::keyed_hash(&self.0, key.as_bytes()).as_bytes())
    }
}

impl Drop for Pepper {
    fn drop(&mut self) {
        self.0.fill(0);
        // The optimiser must not remove the overwrite of memory that is about to be freed.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

/// The keyed digest of a key: what is stored and looked up. It never logs in, and it is never shown.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Takes the bytes that a store keeps.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest in hexadecimal, for what is derived from a secret to be shown.
    pub(crate) fn to_hex(self) -> String {
        self.0.iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
    }
}

impl PartialEq for Digest {
    /// Takes the same time whichever byte differs.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// A new key, before its only showing.
#[derive(Debug)]
pub struct Token(Secret);

impl Token {
    /// Draws 256 bits from the operating system. `internal_error` when it has none to give.
    pub fn generate() -> Result<Self, Error> {
        let mut bytes: [u8; 32] = random()?;
        let mut text = String::with_capacity(TOKEN_BYTES);
        text.push_str(PREFIX);
        push_base62(&mut text, &mut bytes, SECRET_DIGITS);
        push_checksum(&mut text);
        Ok(Self(Secret::new(text)))
    }

    /// The key as text.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// The key itself, for its one showing.
    pub fn into_secret(self) -> Secret {
        self.0
    }
}

/// A new key id: `key_` and 22 base-62 digits. `internal_error` when the operating system has no randomness to give.
pub(crate) fn generate_id() -> Result<String, Error> {
    let mut bytes: [u8; 16] = random()?;
    let mut text = String::with_capacity(26);
    text.push_str("key_");
    push_base62(&mut text, &mut bytes, 22);
    Ok(text)
}

/// 256 random bits as 64 hexadecimal digits. `internal_error` when the operating system has no randomness to give.
pub(crate) fn random_text() -> Result<String, Error> {
    Ok(Digest(random()?).to_hex())
}

/// Whether text can be a key at all. Decides without a look-up and without an allocation.
pub(crate) fn is_well_formed(key: &str) -> bool {
    if !(SHORTEST..=LONGEST).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return false;
    }
    if !key.starts_with(PREFIX) {
        return true;
    }
    let Some((body, check)) = key.split_at_checked(TOKEN_BYTES - CHECK_DIGITS) else { return false };
    let body_fits = body[PREFIX.len()..].bytes().all(|byte| byte.is_ascii_alphanumeric());
    key.len() == TOKEN_BYTES && body_fits && check.as_bytes() == checksum(body)
}

/// What is wrong with a key that an operator wrote, as a sentence without the key.
pub(crate) fn problem(key: &str) -> Option<String> {
    if key.len() < SHORTEST || key.len() > LONGEST {
        return Some(format!(
            "the key has {} characters: it must have {SHORTEST} to {LONGEST}, for example from `openssl rand -hex 32`",
            key.len()
        ));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("the key must be ASCII letters, digits and signs without spaces".to_owned());
    }
    (!is_well_formed(key)).then(|| {
        format!("the key begins with {PREFIX} but its checksum does not fit: copy it again, or use a prefix of your own")
    })
}

/// The last four characters of a key, all that is kept of its text.
pub(crate) fn last_four(key: &str) -> String {
    key.chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect()
}

/// The beginning of a key that says who made it, and nothing of its secret part.
pub(crate) fn prefix(key: &str) -> &'static str {
    if key.starts_with(PREFIX) { PREFIX } else { "" }
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|e| {
        Error::new(Code::InternalError, "the operating system gave no random bytes").with_source(e)
    })?;
    Ok(bytes)
}

/// Writes a big-endian number in base 62, least digit first. Consumes (and thereby clears) the number.
fn push_base62(text: &mut String, number: &mut [u8], digits: usize) {
    for _ in 0..digits {
        let mut remainder = 0_u32;
        for byte in number.iter_mut() {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            remainder = value % 62;
        }
        text.push(char::from(DIGITS[remainder as usize]));
    }
}

fn push_checksum(text: &mut String) {
    let check = checksum(text);
    text.extend(check.into_iter().map(char::from));
}

/// The first 32 bits of the BLAKE3 hash of all that precedes, as six base-62 digits.
fn checksum(body: &str) -> [u8; CHECK_DIGITS] {
    let hash = blake3::hash(body.as_bytes());
    let mut rest = hash.as_bytes()[..4].iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
    let mut digits = [0; CHECK_DIGITS];
    for digit in &mut digits {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests;
