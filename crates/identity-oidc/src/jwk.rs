//! The public keys of an issuer (RFC 7517, 7518, 8037), and the proof of a signature by one of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use penstock_config::TokenAlgorithm;
use ring::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::Value;

/// The most keys of one issuer that are kept.
const MAX_KEYS: usize = 64;

/// A JSON Web Key as issuers publish it. Symmetric keys and private parts are not read.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

/// A key that proves signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) kid: Option<String>,
    /// The one algorithm that it is for, where its issuer says so.
    alg: Option<TokenAlgorithm>,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Reads a key set. Keys that are not for signatures of ours are passed over: issuers publish others beside them.
///
/// # Errors
/// A sentence, when it is no key set or none of its keys is of use.
pub(crate) fn read(json: &[u8]) -> Result<Vec<Key>, String> {
    let set: Jwks = serde_json::from_slice(json).map_err(|_| "what came is not a JSON Web Key Set")?;
    let keys: Vec<Key> = set.keys.into_iter().filter_map(key).take(MAX_KEYS).collect();
    if keys.is_empty() {
        return Err("none of its keys can prove a signature".to_owned());
    }
    Ok(keys)
}

fn key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let verifies = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(|all| all.iter().any(|operation| operation == "verify"));
    if !verifies {
        return None;
    }
    let alg = match jwk.alg {
        None => None,
        // A key for another algorithm is not a key for any.
        Some(alg) => Some(serde_json::from_value(Value::String(alg)).ok()?),
    };
    let part = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?.trim_end_matches('=')).ok();
    let point = |size: usize| {
        let (x, y) = (part(&jwk.x)?, part(&jwk.y)?);
        (x.len() == size && y.len() == size).then(|| [&[4_u8][..], &x, &y].concat())
    };
    let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Material::Rsa { n: unpadded(part(&jwk.n)?), e: unpadded(part(&jwk.e)?) },
        ("EC", Some("P-256")) => Material::P256(point(32)?),
        ("EC", Some("P-384")) => Material::P384(point(48)?),
        ("OKP", Some("Ed25519")) => Material::Ed25519(part(&jwk.x).filter(|x| x.len() == 32)?),
        _ => return None,
    };
    Some(Key { kid: jwk.kid, alg, material })
}

/// Some issuers write a leading zero, which RFC 7518 (6.3.1.1) forbids.
fn unpadded(mut bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    bytes
}

impl Key {
    /// Whether it is a key for this algorithm.
    pub(crate) fn is_for(&self, alg: TokenAlgorithm) -> bool {
        self.alg.is_none_or(|own| own == alg)
            && match self.material {
                Material::Rsa { .. } => rsa(alg).is_some(),
                Material::P256(_) => alg == TokenAlgorithm::Es256,
                Material::P384(_) => alg == TokenAlgorithm::Es384,
                Material::Ed25519(_) => alg == TokenAlgorithm::EdDsa,
            }
    }

    /// Whether it made this signature.
    pub(crate) fn proves(&self, alg: TokenAlgorithm, signed: &[u8], signature: &[u8]) -> bool {
        let plain = |how: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(how, key).verify(signed, signature).is_ok()
        };
        if !self.is_for(alg) {
            return false;
        }
        match &self.material {
            Material::Rsa { n, e } => rsa(alg)
                .is_some_and(|how| RsaPublicKeyComponents { n, e }.verify(how, signed, signature).is_ok()),
            Material::P256(point) => plain(&signature::ECDSA_P256_SHA256_FIXED, point),
            Material::P384(point) => plain(&signature::ECDSA_P384_SHA384_FIXED, point),
            Material::Ed25519(point) => plain(&signature::ED25519, point),
        }
    }
}

/// Keys below 2048 bits prove nothing (RFC 7518, 3.3).
fn rsa(alg: TokenAlgorithm) -> Option<&'static RsaParameters> {
    Some(match alg {
        TokenAlgorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        TokenAlgorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        TokenAlgorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        TokenAlgorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        TokenAlgorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        TokenAlgorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        TokenAlgorithm::Es256 | TokenAlgorithm::Es384 | TokenAlgorithm::EdDsa => return None,
    })
}
