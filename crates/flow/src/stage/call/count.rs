//! The tokens of a request whose provider cannot count them.
//!
//! What it promises: everything that the model reads is counted, texts with the model's own vocabulary where it is public;
//! the number is always called an estimate, because what a vendor puts around messages, tools and media is its own secret.
//! What it refuses to know: which provider it stands in for.

use futures_util::stream;
use penstock_domain::{Code, Delta, Error};
use penstock_provider::{Call, Deltas};

use crate::stage::tokens::conversation;

/// Counts the request of a call.
///
/// # Errors
/// Those of a body that cannot be read.
pub(super) async fn count(call: Call) -> Result<Deltas, Error> {
    // A long prompt takes milliseconds, and the first look at a vocabulary tens of them.
    let counting = tokio::task::spawn_blocking(move || {
        let chat = call.request.body.content()?.chat()?;
        let text = |text: &str| penstock_tokenizer::count(&call.model, text).tokens;
        Ok(conversation(&text, chat))
    });
    let input = counting.await.map_err(|error| {
        Error::new(Code::InternalError, "counting the tokens failed").with_source(error)
    })??;
    Ok(Box::pin(stream::iter([Delta::Counted { input, estimated: true }])))
}
