//! The signature: HMAC-SHA256 over id, time and body (Standard Webhooks 1.0.0, "Signature scheme").

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use ring::hmac;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// With or without the padding: tools differ.
const SECRETS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Signs with one secret.
#[derive(Debug)]
pub struct Signer(hmac::Key);

impl Signer {
    /// Reads `whsec_` and 24 to 64 bytes in base64.
    ///
    /// # Errors
    /// What was expected, without the secret.
    pub fn new(secret: &str) -> Result<Self, &'static str> {
        const SAY: &str = "expected `whsec_` and 24 to 64 bytes in base64";
        let text = secret.strip_prefix(PREFIX).ok_or(SAY)?;
        let key = SECRETS.decode(text).map_err(|_| SAY)?;
        if !(24..=64).contains(&key.len()) {
            return Err(SAY);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// `v1,` and the signature in base64, of a delivery that is sent at this second since 1970.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vector_is_signed_alike() {
        // The vector of the reference libraries of standard-webhooks: Python, `tests/test_webhooks.py`, and others.
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signature =
            signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn id_time_and_body_are_all_signed() {
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signature = signer.sign("evt_1", 17, b"{}");
        for other in [
            signer.sign("evt_2", 17, b"{}"),
            signer.sign("evt_1", 18, b"{}"),
            signer.sign("evt_1", 17, b"{ }"),
        ] {
            assert_ne!(signature, other);
        }
    }

    #[test]
    fn secrets_have_the_prefix_and_24_to_64_bytes() {
        for bytes in [24, 32, 64] {
            let padded = STANDARD.encode(vec![7; bytes]);
            assert!(Signer::new(&format!("whsec_{padded}")).is_ok());
            assert!(Signer::new(&format!("whsec_{}", padded.trim_end_matches('='))).is_ok());
        }
        for bad in [
            String::new(),
            "hunter2".to_owned(),
            "whsec_".to_owned(),
            format!("whsec_{}", STANDARD.encode([7; 23])),
            format!("whsec_{}", STANDARD.encode([7; 65])),
            "whsec_not base64 at all, however long it may be".to_owned(),
            STANDARD.encode([7; 32]),
        ] {
            let said = Signer::new(&bad).expect_err("refused");
            assert!(bad.len() < 10 || !said.contains(&bad), "{said}");
        }
    }
}
