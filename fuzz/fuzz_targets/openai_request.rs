//! The request decoder: no panic, and whatever is accepted can be spliced and accepted again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use penstock_dialect::openai::request::decode;
use penstock_dialect::{DecodeLimits, splice::upstream_body};
use penstock_domain::{Origin, RequestId, Task};

fuzz_target!(|data: &[u8]| {
    for task in [Task::Chat, Task::Completion, Task::Embedding] {
        let Ok(decoded) = decode(task, Bytes::copy_from_slice(data), &DecodeLimits::default()) else { continue };
        let request = decoded.into_request(RequestId::new("req_fuzz"), Origin::Http, None);
        let _ = request.body.content();
        let spliced = upstream_body(&request, "another", true);
        if let Err(error) = decode(task, spliced, &DecodeLimits::default()) {
            panic!("a spliced body is refused: {error}");
        }
    }
});
