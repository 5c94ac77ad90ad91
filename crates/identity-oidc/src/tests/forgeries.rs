//! The forgeries, by what is forged of them.

use super::*;

/// Who signs: two keys of the issuer, and a stranger.
pub(crate) struct Cast {
    pub(crate) rsa: Signer,
    pub(crate) ec: Signer,
    stranger: Signer,
    pub(crate) good: String,
}

type Forged = Vec<(&'static str, String)>;

pub(crate) fn header(alg: &str, kid: &str) -> Value {
    json!({"alg": alg, "kid": kid, "typ": "at+jwt"})
}

impl Cast {
    pub(crate) fn new() -> Self {
        let rsa = Signer::rsa("RS256");
        let good = rsa.sign(&claims());
        Self { rsa, ec: Signer::p256(), stranger: Signer::p256(), good }
    }

    /// RFC 8725, 2.1: weak or confused algorithms.
    pub(crate) fn algorithms(&self) -> Forged {
        let Self { rsa, ec, stranger, .. } = self;
        let n = rsa.jwk()["n"].as_str().expect("n").to_owned();
        vec![
            ("alg none, no signature", join(&header("none", &rsa.kid), &claims(), b"")),
            ("alg None", join(&header("None", &rsa.kid), &claims(), b"x")),
            ("alg nOnE", join(&header("nOnE", &rsa.kid), &claims(), b"x")),
            ("alg empty", join(&header("", &rsa.kid), &claims(), b"x")),
            ("HS256 with the public key", forge::hmac(&header("HS256", &rsa.kid), &claims(), n.as_bytes())),
            ("HS256 with an empty secret", forge::hmac(&header("HS256", &rsa.kid), &claims(), b"")),
            ("RS256 of an EC key", join(&header("RS256", &ec.kid), &claims(), b"signature")),
            ("ES256 of an RSA key", ec.sign_as(&header("ES256", &rsa.kid), &claims())),
            ("an algorithm not allowed for the issuer", Signer::rsa("RS512").sign(&claims())),
            (
                "all-zero ECDSA signature (CVE-2022-21449)",
                join(&header("ES256", &ec.kid), &claims(), &[0; 64]),
            ),
            ("a stranger's key under a known id", stranger.sign_as(&header("ES256", &ec.kid), &claims())),
        ]
    }

    /// RFC 8725, 2.9 to 2.11: headers that lead elsewhere, and other kinds of tokens.
    pub(crate) fn headers(&self) -> Forged {
        let Self { rsa, ec, stranger, .. } = self;
        let led = |name: &str, value: Value| {
            let mut header = header("ES256", &ec.kid);
            header[name] = value;
            stranger.sign_as(&header, &claims())
        };
        let own = |name: &str, value: Value| {
            let mut header = header("RS256", &rsa.kid);
            header[name] = value;
            rsa.sign_as(&header, &claims())
        };
        vec![
            ("jwk in the header", led("jwk", stranger.jwk())),
            ("jku in the header", led("jku", json!("https://evil.example/keys"))),
            ("x5u in the header", led("x5u", json!("https://evil.example/cert"))),
            ("x5c in the header", led("x5c", json!(["MIIB"]))),
            ("an unknown critical extension", own("crit", json!(["b64"]))),
            ("an ID token: typ JWT", own("typ", json!("JWT"))),
            ("no typ", rsa.sign_as(&json!({"alg": "RS256", "kid": rsa.kid}), &claims())),
            ("typ of a logout token", own("typ", json!("logout+jwt"))),
            ("typ as a list", own("typ", json!(["at+jwt"]))),
            ("kid as a path", own("kid", json!("../../etc/passwd"))),
            ("kid as SQL", own("kid", json!("x' OR '1'='1"))),
            ("kid as a number", own("kid", json!(1))),
            ("a huge header", own("x", json!("x".repeat(3000)))),
        ]
    }

    /// Texts that were changed after signing, or that two readers could read in two ways.
    pub(crate) fn texts(&self) -> Forged {
        let Self { rsa, good, .. } = self;
        let parts: Vec<&str> = good.split('.').collect();
        let (head, body) = (header("RS256", &rsa.kid).to_string(), claims().to_string());
        let other = rsa.sign(&json!({"iss": ISSUER}));
        let other = other.rsplit('.').next().expect("a signature");
        vec![
            (
                "changed claims",
                [parts[0], &b64(body.replace("alice", "admin").as_bytes()), parts[2]].join("."),
            ),
            ("another header", [&b64(head.replace('}', " }").as_bytes()), parts[1], parts[2]].join(".")),
            ("cut signature", good[..good.len() - 4].to_owned()),
            ("no signature", format!("{}.{}.", parts[0], parts[1])),
            ("signature of another token", [parts[0], parts[1], other].join(".")),
            ("padding", format!("{good}==")),
            ("a letter outside the alphabet", format!("{good}!")),
            ("four parts", format!("{good}.x")),
            ("a claim twice", rsa.sign_text(&head, &body.replace("\"sub\"", "\"sub\":\"bob\",\"sub\""))),
            ("a header member twice", rsa.sign_text(&format!("{{\"alg\":\"none\",{}", &head[1..]), &body)),
            ("claims that are a list", rsa.sign_text(&head, "[]")),
            ("claims in depth", rsa.sign_text(&head, &"[".repeat(3000))),
        ]
    }

    /// Signed well, and still not a token of ours.
    pub(crate) fn contents(&self) -> Forged {
        let signed = |name: &str, value: Value| self.rsa.sign(&with(name, value));
        vec![
            ("another issuer", signed("iss", json!("https://evil.example"))),
            ("issuer with a slash", signed("iss", json!("https://id.example.com/"))),
            ("issuer in capitals", signed("iss", json!("https://ID.example.com"))),
            ("issuer as a list", signed("iss", json!([ISSUER]))),
            ("no issuer", signed("iss", Value::Null)),
            ("expiry as a text", signed("exp", json!("1800000300"))),
            ("a negative time", signed("nbf", json!(-1))),
            ("a team that is no text", signed("org", json!({"team": ["a"]}))),
        ]
    }
}
