//! The decoder of messages bodies: no panic, whatever is accepted can be spliced and accepted again, and what can be read
//! can be said to vendors of every other dialect, or is refused.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use penstock_dialect::anthropic::request::decode;
use penstock_dialect::{Ask, Chats, DecodeLimits, splice::upstream_body, vendor};
use penstock_domain::{Dialect, Origin, RequestId, Task};

fuzz_target!(|data: &[u8]| {
    for task in [Task::Chat, Task::CountTokens] {
        let Ok(decoded) = decode(task, Bytes::copy_from_slice(data), &DecodeLimits::default()) else { continue };
        let request = decoded.into_request(RequestId::new("req_fuzz"), Origin::Http, None);
        if let Err(error) = decode(task, upstream_body(&request, "another", true), &DecodeLimits::default()) {
            panic!("a spliced body is refused: {error}");
        }
        let Ok(content) = request.body.content() else { continue };
        for dialect in [Dialect::OpenAi, Dialect::Responses, Dialect::Gemini, Dialect::Bedrock] {
            let chats = if data.len() % 2 == 0 { Chats::OPENAI } else { Chats::COMPATIBLE };
            let ask = Ask { task, model: "gemini-3-x", stream: true, ask_usage: true, max_tokens: 9, chats };
            let _ = vendor(dialect).expect("a vendor").encode(content, &ask);
        }
    }
});
