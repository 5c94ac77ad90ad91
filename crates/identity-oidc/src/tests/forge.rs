//! Makes tokens, good ones and others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RsaKeyPair,
};
use ring::{hmac as mac, rand::SecureRandom};
use serde_json::{Value, json};

/// A key of these tests alone.
const RSA: &[u8] = include_bytes!("rsa.pk8");

pub(crate) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn join(header: &Value, claims: &Value, signature: &[u8]) -> String {
    format!(
        "{}.{}.{}",
        b64(header.to_string().as_bytes()),
        b64(claims.to_string().as_bytes()),
        b64(signature)
    )
}

pub(crate) fn hmac(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let signed = format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims.to_string().as_bytes()));
    let tag = mac::sign(&mac::Key::new(mac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", b64(tag.as_ref()))
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

pub(crate) struct Signer {
    pub(crate) alg: &'static str,
    pub(crate) kid: String,
    pair: Pair,
    random: SystemRandom,
}

impl Signer {
    fn new(alg: &'static str, pair: Pair) -> Self {
        let random = SystemRandom::new();
        let mut bytes = [0; 8];
        random.fill(&mut bytes).expect("randomness");
        Self { alg, kid: b64(&bytes), pair, random }
    }

    pub(crate) fn rsa(alg: &'static str) -> Self {
        Self::new(alg, Pair::Rsa(RsaKeyPair::from_pkcs8(RSA).expect("a key")))
    }

    pub(crate) fn p256() -> Self {
        Self::new("ES256", Pair::Ec(ec(&ECDSA_P256_SHA256_FIXED_SIGNING), "P-256"))
    }

    pub(crate) fn p384() -> Self {
        Self::new("ES384", Pair::Ec(ec(&ECDSA_P384_SHA384_FIXED_SIGNING), "P-384"))
    }

    pub(crate) fn ed25519() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self::new("EdDSA", Pair::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a key")))
    }

    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let parts = signature::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": b64(&parts.n), "e": b64(&parts.e)})
            }
            Pair::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y)})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref())}),
        };
        jwk["kid"] = self.kid.as_str().into();
        jwk["use"] = "sig".into();
        jwk
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({"alg": self.alg, "kid": self.kid, "typ": "at+jwt"}), claims)
    }

    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", b64(header.as_bytes()), b64(claims.as_bytes()));
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let how: &dyn signature::RsaEncoding = match self.alg {
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(how, &self.random, signed.as_bytes(), &mut out).expect("signed");
                out
            }
            Pair::Ec(pair, _) => {
                pair.sign(&self.random, signed.as_bytes()).expect("signed").as_ref().to_vec()
            }
            Pair::Ed(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", b64(&signature))
    }
}

fn ec(how: &'static signature::EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
    EcdsaKeyPair::from_pkcs8(how, key.as_ref(), &random).expect("a key")
}
