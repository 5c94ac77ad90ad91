//! Everything that serving needs, opened once, looked after while it runs, and closed.

use std::sync::Arc;
use std::time::Duration;

use penstock_alert::Alerts;
use penstock_config::{Loaded, Problem, exposure};
use penstock_conversation::Conversations;
use penstock_domain::Error;
use penstock_edge::Extra;
use penstock_flow::Gateway;
use penstock_observe::{Metrics, Sink};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::administration::{self, StoreState};
use crate::audit::Noted;
use crate::idempotency::Answers;
use crate::ledger::Kept as Ledger;
use crate::people::People;
use crate::records::{self, Kept};
use crate::reload::Current;
use crate::stores::Stores;
use crate::wiring::{self, Lasting, Providers, Trusted};
use crate::{Failure, alerts, logging, serving};

/// How long records that are still queued may take to be written at the end.
const LAST_RECORDS: Duration = Duration::from_secs(2);

/// What is open while the gateway serves.
pub(crate) struct House {
    pub(crate) stores: Arc<Stores>,
    pub(crate) people: Arc<People>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) noted: Noted,
    records: Kept,
    alerts: Arc<Alerts>,
    ledger: Ledger,
    conversations: Arc<Conversations>,
    answers: Answers,
    tally: JoinHandle<()>,
}

impl House {
    /// Opens everything, and says what every snapshot shares and which providers the first one has.
    ///
    /// # Errors
    /// A sentence on the mend, or the report of what is wrong with the file.
    pub(crate) async fn open(
        loaded: &Loaded,
        stores: Arc<Stores>,
    ) -> Result<(Self, Lasting, Providers), Failure> {
        let config = &loaded.config;
        let said = |error: Error| error.say().to_owned();
        let people = Arc::new(People::open(config, &stores).await.map_err(said)?);
        if let Some(problem) = exposure(config, people.keys.ring().len()) {
            return Err(crate::verb::report(&loaded.source.path, &[problem]).into());
        }
        let told = |problems: Vec<Problem>| crate::verb::report(&loaded.source.path, &problems);
        let providers = wiring::providers(config, None).map_err(told)?;
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
        let (recorder, tally) = Sink::new(Arc::clone(&metrics));
        let noted = Noted::new(Arc::clone(&stores.audit));
        let (records, tally) = Kept::new(Arc::clone(&stores.records), tally);
        let alerts = alerts::open(config, &stores).map_err(told)?;
        let ledger = Ledger::open(&people.whole(config), &stores).await?;
        let conversations = crate::responses::open(config, &stores, Arc::clone(&metrics));
        let answers = Answers::open(config, &stores).await.map_err(said)?;
        let lasting = Lasting {
            people: Arc::clone(&people),
            trusted: Trusted::default(),
            audit: Arc::clone(&noted.log),
            alerts: Arc::clone(&alerts),
            admission: Arc::clone(&ledger.admission),
            fleet: Arc::default(),
            doors: Arc::new(penstock_flow::Doors::of(&ledger.admission)),
            recorder: noted.watch(recorder),
            conversations: Arc::clone(&conversations),
            idempotency: Arc::clone(&answers.service),
        };
        lasting.trusted.follow(&people.keys, config).map_err(told)?;
        people.use_door(config).map_err(told)?;
        let tally = apart(tally.writing(logging::lines(&config.log)).run());
        let house =
            Self { stores, people, metrics, noted, records, alerts, ledger, conversations, answers, tally };
        Ok((house, lasting, providers))
    }

    /// What the listeners serve beside model traffic.
    pub(crate) fn extra(&self, gateway: &Gateway, current: Current, store: &StoreState) -> Extra {
        let administered = (&self.records, &self.noted, &self.answers, &self.alerts);
        let parts = administration::parts(gateway, &self.people, administered, &self.stores, current);
        let text = serving::metrics_text(gateway.clone(), Arc::clone(&self.metrics), self.ledger.link());
        Extra {
            admin: Some(penstock_admin::router(parts)),
            openapi: wiring::openapi().into(),
            metrics: alerts::measured(
                text,
                (gateway.clone(), Arc::clone(&self.metrics)),
                (Arc::clone(&self.alerts), self.ledger.orphans),
            ),
            store: store.health(self.ledger.link()),
            conversations: Arc::clone(&self.conversations),
            idempotency: Arc::clone(&self.answers.service),
        }
    }

    /// What is done every now and then, each as a task that is to be aborted at the end.
    pub(crate) fn chores(&mut self, gateway: &Gateway, current: &Current) -> Vec<JoinHandle<()>> {
        let keys = Arc::clone(&self.people.keys);
        let crossings = self.ledger.crossings.take();
        let conversations = Arc::clone(&self.conversations);
        vec![
            tokio::spawn(records::sweep(Arc::clone(&self.records.store), Arc::clone(current))),
            tokio::spawn(crate::ledger::sweep(Arc::clone(&self.stores), Arc::clone(current))),
            tokio::spawn(alerts::work(Arc::clone(&self.alerts), crossings, gateway.clone(), keys)),
            tokio::spawn(async move { conversations.sweep().await }),
        ]
    }

    /// Whoever watches records is told that nothing more comes.
    pub(crate) fn nobody_watches(&self) {
        self.records.tail.close();
    }

    /// Writes what waits, and closes the stores. Every snapshot has to be gone: the tally ends with the last recorder.
    pub(crate) async fn close(self) {
        // Each of them waits for its own last rows: together they take as long as the slowest.
        let kept = tokio::time::timeout(LAST_RECORDS, self.tally);
        let paid = tokio::time::timeout(LAST_RECORDS, self.ledger.close());
        let done = tokio::time::timeout(LAST_RECORDS, self.answers.close());
        let (kept, paid, _) = tokio::join!(kept, paid, done);
        if kept.is_err() || paid.is_err() {
            tracing::error!("the last records could not be written in time and are lost");
        }
        let _ = tokio::time::timeout(LAST_RECORDS, self.stores.close()).await;
    }
}

/// Runs what writes down what requests did, on a thread of its own. Among the tasks of requests it would wait its turn for each
/// answer of the store, behind thousands of them when all streams end at once.
pub(crate) fn apart(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(work))
}
