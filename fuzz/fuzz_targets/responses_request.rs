//! The decoder of responses bodies: no panic, and whatever is accepted can be spliced and accepted again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use penstock_dialect::responses::request::decode;
use penstock_dialect::responses::state;
use penstock_dialect::{DecodeLimits, splice::upstream_body};
use penstock_domain::{Origin, RequestId};

fuzz_target!(|data: &[u8]| {
    let _ = state::head(data);
    let Ok(decoded) = decode(Bytes::copy_from_slice(data), &DecodeLimits::default()) else { return };
    let request = decoded.into_request(RequestId::new("req_fuzz"), Origin::Http, None);
    let _ = request.body.content();
    let _ = state::items_of_request(data, "fuzz");
    if let Err(error) = decode(upstream_body(&request, "another", true), &DecodeLimits::default()) {
        panic!("a spliced body is refused: {error}");
    }
});
