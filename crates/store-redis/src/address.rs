//! What an address of Redis says.

use penstock_domain::{Code, Error};
use redis::{Client, TlsCertificates};

/// The parameter that names the authorities to trust, as addresses of PostgreSQL have it.
const AUTHORITY: &str = "sslrootcert=";

/// Who connects to an address; the file of authorities that it names is read.
pub(crate) fn client(address: &str) -> Result<Client, Error> {
    // Behind the # the client takes `insecure`, which would believe every certificate.
    if address.contains('#') {
        return Err(invalid("expected no # in it: written in a password it is %23"));
    }
    let (plain, query) = address.split_once('?').unwrap_or((address, ""));
    let (authority, others): (Vec<&str>, Vec<&str>) =
        query.split('&').filter(|pair| !pair.is_empty()).partition(|pair| pair.starts_with(AUTHORITY));
    let rest = if others.is_empty() { plain.to_owned() } else { format!("{plain}?{}", others.join("&")) };
    let bad = |error: redis::RedisError| {
        invalid(&format!("{}: expected redis://:PASSWORD@HOST:6379", error.category()))
    };
    let Some(file) = authority.last().and_then(|pair| pair.strip_prefix(AUTHORITY)) else {
        return Client::open(rest).map_err(bad);
    };
    if !plain.starts_with("rediss://") {
        return Err(invalid("an authority (sslrootcert) is only asked with rediss://"));
    }
    let read = std::fs::read(file);
    let pem = read.map_err(|error| invalid(&format!("the file of sslrootcert: {}", error.kind())))?;
    if !pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Err(invalid("there is no certificate in the file of sslrootcert"));
    }
    Client::build_with_tls(rest, TlsCertificates { client_tls: None, root_cert: Some(pem) }).map_err(bad)
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn invalid(why: &str) -> Error {
    Error::new(Code::InvalidValue, format!("stores.shared cannot be used ({why})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_address_is_told_without_its_password() {
        for (bad, says) in [
            ("redis://:hunter2@h?sslrootcert=/x.pem", "rediss://"),
            ("rediss://:hunter2@h?sslrootcert=/there/is/none.pem", "the file of sslrootcert"),
            ("rediss://:hunter2@h/#insecure", "no # in it"),
            ("http://:hunter2@h", "expected redis://"),
        ] {
            let error = client(bad).expect_err(bad);
            assert!(error.say().contains(says) && !format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        for good in ["redis://h", "redis://:p@h:6379/2?protocol=resp3", "rediss://:p@h"] {
            assert!(client(good).is_ok(), "{good}");
        }
    }
}
