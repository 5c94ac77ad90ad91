//! A whole answer: deltas folded into one JSON body, or the vendor's body untouched.

use bytes::Bytes;
use futures_util::StreamExt;
use penstock_dialect::Fold;
use penstock_domain::{Delta, Dialect, Error};
use penstock_flow::Answer;

/// Folds an answer to its end. The end matters even when the whole body came at once: the stream settles there.
///
/// # Errors
/// The error of a broken answer; nothing of it is shown.
pub(crate) async fn whole(
    answer: &mut Answer,
    dialect: Dialect,
    mut folder: Box<dyn Fold>,
) -> Result<Bytes, Error> {
    let mut untouched = None;
    while let Some(delta) = answer.deltas.next().await {
        match delta {
            Delta::Whole(body) if body.dialect == dialect && untouched.is_none() => {
                untouched = Some(body.bytes)
            }
            // What follows a whole body is notes about it; only a failure changes the answer.
            Delta::Failed(error) => return Err(error),
            delta if untouched.is_none() => folder.push(delta)?,
            _ => {}
        }
    }
    untouched.map_or_else(|| folder.finish(), Ok)
}
