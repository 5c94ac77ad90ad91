//! What a profile-guided build learns from: the work of the other figures, and its translations, in one life of the program.
//!
//! The fast lane gets most of the turns, as it does in service; every other dialect gets enough of them for its code not to be
//! taken for code that never runs.

use std::rc::Rc;
use std::time::Duration;

use crate::http::{Connection, post};
use crate::target::{KEY, Rig};
use crate::variant::PENSTOCK;
use crate::{Options, Trouble, load, stream};

/// How long the program may take to write down what it learnt.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests of each translation, one after another.
const TURNS: u32 = 1_000;
/// Tokens of a streamed answer.
const TOKENS: u32 = 40;

/// Runs all kinds of work once, and ends the program properly.
pub(crate) async fn train(options: &Options) -> Result<String, Trouble> {
    let rig = Rig::start(options, &PENSTOCK).await?;
    load::closed(&rig, options.seconds).await?;
    load::paced(&rig, 1).await?;
    for _ in 0..TURNS {
        for request in translations() {
            let mut connection = Connection::open(rig.address).await?;
            connection.exchange(&request).await?;
        }
    }
    stream::flowing(&rig, options).await?;
    drop(rig.end(PATIENCE)?);
    Ok("trained".to_owned())
}

/// Chats of all dialects that are translated, whole and streamed.
fn translations() -> Vec<Rc<[u8]>> {
    let question = "How does a penstock feed a turbine? ".repeat(8);
    let said = format!(r#"[{{"role":"user","content":"{question}"}}]"#);
    let messages = format!(r#""messages":{said}"#);
    let bodies = [
        ("/v1/chat/completions", messages.clone()),
        ("/v1/messages", format!(r#""max_tokens":{TOKENS},"system":"You answer briefly.",{messages}"#)),
        ("/v1/responses", format!(r#""store":false,"instructions":"You answer briefly.","input":{said}"#)),
    ];
    let both = |(path, members): (&'static str, String)| {
        ["false", "true"].map(|stream| {
            let body = format!(r#"{{"model":"bench","stream":{stream},{members}}}"#);
            post(path, KEY, &body).into()
        })
    };
    bodies.into_iter().flat_map(both).collect()
}
