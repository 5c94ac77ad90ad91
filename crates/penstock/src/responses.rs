//! Stored responses: their database, their policy, and the count of what became of them.

use std::sync::Arc;

use penstock_config::Config;
use penstock_conversation::{Conversations, Policy, ResponseStore};
use penstock_observe::Metrics;
use penstock_store_sql::SqlResponses;

/// The responses of the configuration. The file is opened by whoever first needs it: trouble with it costs copies, not
/// answers.
pub(crate) fn open(config: &Config, metrics: Arc<Metrics>) -> (Arc<SqlResponses>, Arc<Conversations>) {
    let store = Arc::new(SqlResponses::new(&config.data_dir));
    let notice = Box::new(move |kept: penstock_conversation::Kept| metrics.response_kept(kept.name()));
    let port = Arc::clone(&store) as Arc<dyn ResponseStore>;
    let conversations = Conversations::new(port, Policy::from(&config.responses), notice);
    (store, Arc::new(conversations))
}
