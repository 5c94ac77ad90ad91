//! Google's errors inside a 200: `google.rpc.Status`, alone or as the first item of a list
//! (<https://cloud.google.com/apis/design/errors>).

use memchr::memmem;
use penstock_domain::Error;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::refusal;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    error: Option<IgnoredAny>,
}

impl Body {
    fn fails(&self) -> bool {
        self.error.is_some()
    }
}

/// The error inside a 200: a body or an event that has an `error` member.
pub(super) fn in_band(body: &[u8]) -> Option<Error> {
    // Nearly every event is none, and is read anyway.
    memmem::find(body, b"\"error\"")?;
    let has_error = match body.trim_ascii_start().first()? {
        // Told by the first byte, because a struct can be read from a list as well.
        b'[' => serde_json::from_slice::<Vec<Body>>(body)
            .is_ok_and(|bodies| bodies.first().is_some_and(Body::fails)),
        b'{' => serde_json::from_slice::<Body>(body).is_ok_and(|body| body.fails()),
        _ => false,
    };
    has_error.then(|| refusal::in_band(body))
}
