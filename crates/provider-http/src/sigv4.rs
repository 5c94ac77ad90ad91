//! Signatures of AWS requests, version 4.
//!
//! What it promises: method, path, query, host, body and time are covered by the signature, so that nobody on the way can
//! change them; the secret itself never leaves. What it refuses to know: which service it is, apart from its name.
//!
//! Source: AWS Signature Version 4; the arithmetic is `aws-sigv4`'s.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use penstock_domain::{Code, Error, Secret};

/// Signs requests to one service in one region.
pub(crate) struct Signer {
    credentials: Credentials,
    region: String,
    service: &'static str,
}

impl Signer {
    /// A signer with an access key; `session` is the token of temporary credentials.
    pub(crate) fn new(
        (id, secret): (&Secret, &Secret),
        session: Option<&Secret>,
        region: &str,
        service: &'static str,
    ) -> Self {
        let text = |secret: &Secret| secret.expose().trim().to_owned();
        let credentials =
            Credentials::new(text(id), text(secret), session.map(text), None, "penstock configuration");
        Self { credentials, region: region.to_owned(), service }
    }

    /// Adds the signature's headers to a request that is complete otherwise.
    ///
    /// # Errors
    /// `internal_error` when the request cannot be signed.
    pub(crate) fn sign<B>(
        &self,
        request: &mut Request<B>,
        body: &Bytes,
        time: SystemTime,
    ) -> Result<(), Error> {
        let fail = |say: &'static str, cause: String| Error::new(Code::InternalError, say).with_source(cause);
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = self.credentials.clone().into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(time)
            .settings(settings)
            .build()
            .map_err(|e| fail("the request to the provider cannot be signed", e.to_string()))?
            .into();
        let uri = request.uri().to_string();
        let headers = request.headers().iter().filter_map(|(name, value)| {
            // What proxies may touch stays out of the signature.
            let signed = name == http::header::CONTENT_TYPE;
            signed.then(|| value.to_str().ok().map(|value| (name.as_str(), value))).flatten()
        });
        let signable =
            SignableRequest::new(request.method().as_str(), &uri, headers, SignableBody::Bytes(body))
                .map_err(|e| fail("the request to the provider cannot be signed", e.to_string()))?;
        let (instructions, _) = sign(signable, &parameters)
            .map_err(|e| fail("the request to the provider cannot be signed", e.to_string()))?
            .into_parts();
        for (name, value) in instructions.headers() {
            let bad = |e: http::Error| fail("the signature of a request is no header", e.to_string());
            let name = HeaderName::try_from(name).map_err(|e| bad(e.into()))?;
            let mut value = HeaderValue::try_from(value).map_err(|e| bad(e.into()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        Ok(())
    }
}
