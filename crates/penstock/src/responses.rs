//! Stored responses: their database, their policy, and the count of what became of them.

use std::sync::Arc;

use penstock_config::Config;
use penstock_conversation::{Conversations, Policy};
use penstock_observe::Metrics;

use crate::stores::Stores;

/// The responses of the configuration. The store is opened by whoever first needs it: trouble with it costs copies, not
/// answers.
pub(crate) fn open(config: &Config, stores: &Stores, metrics: Arc<Metrics>) -> Arc<Conversations> {
    let notice = Box::new(move |kept: penstock_conversation::Kept| metrics.response_kept(kept.name()));
    Arc::new(Conversations::new(Arc::clone(&stores.responses), Policy::from(&config.responses), notice))
}
