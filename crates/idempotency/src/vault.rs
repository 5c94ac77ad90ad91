//! Where an answer lies, and how it is sealed: everything that a store gets is a keyed digest or sealed.
//!
//! The secret is derived from the server's pepper (BLAKE3, `derive_key`). One keyed digest over tenant, route and key
//! gives, as 96 bytes of its extendable output, the slot, the key of the seal and the key of the request's print: parts of
//! a pseudorandom output, of which the first, which is stored, tells nothing of the others. So a copy of the store is
//! worthless without the pepper, and with it only to who guesses the client's key as well.

use blake3::Hasher;
use bytes::Bytes;
use penstock_domain::{Code, Error};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::{Kept, Key, Print, Slot, Tenant, Ticket};

/// What the derived secret is for; another form of the store would take another sentence.
const CONTEXT: &str = "penstock 2026-11-23 20:40:00 answers by idempotency key";
/// The form of the sealed bytes.
const FORM: u8 = 1;

/// The secret of the service. Shown by nothing, overwritten when dropped.
pub(crate) struct Vault {
    secret: [u8; 32],
    random: SystemRandom,
}

/// Where the answer to one key of one tenant on one route lies, and what opens it.
pub(crate) struct Place {
    pub(crate) slot: Slot,
    pub(crate) tenant: Tenant,
    seal: [u8; 32],
    print: [u8; 32],
}

impl Vault {
    pub(crate) fn new(pepper: &[u8; 32]) -> Self {
        Self { secret: blake3::derive_key(CONTEXT, pepper), random: SystemRandom::new() }
    }

    pub(crate) fn place(&self, tenant: &str, route: &str, key: &Key) -> Place {
        let owner = digest(&self.secret, &[b"tenant", tenant.as_bytes()]).finalize();
        let parts = [b"answer", tenant.as_bytes(), route.as_bytes(), key.as_bytes()];
        let mut output = digest(&self.secret, &parts).finalize_xof();
        let mut next = || {
            let mut part = [0; 32];
            output.fill(&mut part);
            part
        };
        Place { slot: Slot(next()), tenant: Tenant(*owner.as_bytes()), seal: next(), print: next() }
    }

    /// Draws who runs.
    pub(crate) fn ticket(&self) -> Result<Ticket, Error> {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).map_err(|_| no_chance())?;
        Ok(Ticket(bytes))
    }

    /// Seals an answer for its place: ChaCha20-Poly1305 (RFC 8439) under the place's key, a random nonce, bound to the slot.
    pub(crate) fn seal(&self, place: &Place, kept: &Kept) -> Result<Bytes, Error> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| no_chance())?;
        let mut plain = Vec::with_capacity(kept.body.len() + 1024);
        kept.write(&mut plain);
        let tag = place
            .key()?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&place.slot.0),
                &mut plain,
            )
            .map_err(|_| Error::new(Code::InternalError, "an answer could not be sealed"))?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len() + 16);
        sealed.push(FORM);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&plain);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed.into())
    }

    /// Opens what was sealed for this place; `None` for whatever else lies there.
    pub(crate) fn open(&self, place: &Place, sealed: &[u8]) -> Option<Kept> {
        let (form, rest) = sealed.split_first()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
        if *form != FORM {
            return None;
        }
        let mut bytes = rest.to_vec();
        let key = place.key().ok()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key.open_in_place(nonce, Aad::from(&place.slot.0), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Kept::read(bytes)
    }
}

impl Place {
    /// The print as a store gets it: whoever has the store cannot try out what was asked.
    pub(crate) fn print(&self, print: &Print) -> [u8; 32] {
        *blake3::keyed_hash(&self.print, print.as_bytes()).as_bytes()
    }

    fn key(&self) -> Result<LessSafeKey, Error> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.seal);
        key.map(LessSafeKey::new).map_err(|_| Error::new(Code::InternalError, "a seal could not be made"))
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.secret.fill(0);
        // The optimiser must not remove the overwrite of memory that is about to be freed.
        std::hint::black_box(&self.secret);
    }
}

/// Each part with its length before it, so that none runs into the next.
fn digest(secret: &[u8; 32], parts: &[&[u8]]) -> Hasher {
    let mut hasher = Hasher::new_keyed(secret);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher
}

fn no_chance() -> Error {
    Error::new(Code::InternalError, "the operating system gives no random bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::read([text.as_bytes()]).unwrap()
    }

    fn kept() -> Kept {
        Kept { status: 200, headers: vec![("a".into(), "b".into())], body: "a word of a person".into() }
    }

    #[test]
    fn only_its_own_place_opens_an_answer() {
        let vault = Vault::new(&[7; 32]);
        let place = vault.place("me", "POST /v1/x", &key("k"));
        let sealed = vault.seal(&place, &kept()).unwrap();
        assert_eq!(vault.open(&place, &sealed), Some(kept()));
        for other in [
            vault.place("you", "POST /v1/x", &key("k")),
            vault.place("me", "POST /v1/y", &key("k")),
            vault.place("me", "POST /v1/x", &key("l")),
            Vault::new(&[8; 32]).place("me", "POST /v1/x", &key("k")),
        ] {
            assert!(other.slot != place.slot && vault.open(&other, &sealed).is_none());
        }
    }

    #[test]
    fn what_was_touched_does_not_open_and_what_is_sealed_shows_nothing() {
        let vault = Vault::new(&[7; 32]);
        let place = vault.place("me", "POST /v1/x", &key("k"));
        let sealed = vault.seal(&place, &kept()).unwrap();
        for at in 0..sealed.len() {
            let mut touched = sealed.to_vec();
            touched[at] ^= 1;
            assert_eq!(vault.open(&place, &touched), None, "{at}");
            assert_eq!(vault.open(&place, &sealed[..at]), None, "{at}");
        }
        assert!(memchr::memmem::find(&sealed, b"word").is_none());
        assert_ne!(vault.seal(&place, &kept()).unwrap(), sealed, "sealed with another nonce");
    }

    #[test]
    fn tenants_are_told_apart_and_not_named() {
        let vault = Vault::new(&[7; 32]);
        let tenant = |name| vault.place(name, "r", &key("k")).tenant;
        assert_eq!(tenant("me"), vault.place("me", "other", &key("l")).tenant);
        assert_ne!(tenant("me"), tenant("you"));
    }
}
