//! The path with scripted providers: what is recorded, returned and cancelled on every way out.

mod again;
mod billing;
mod failover;
mod hedge;
mod money;
mod queue;
mod residency;
mod resume;
mod revocation;
mod terms;
mod vendors;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use penstock_admission::Admission;
use penstock_config::{FileKey, Limits};
use penstock_domain::{
    Body, Code, Content, Conversation, Credential, Delta, Dialect, Error, FinishReason, Members, Origin,
    Request, RequestId, Secret, Stage, Tags, Task, Usage,
};
use penstock_identity::{KeyRecord, KeyStore, Keys, Listing, Pending, Pepper, Scope};
use penstock_observe::{Outcome, Record, Recorder};
use penstock_provider::{Call, Calling, Chat, Deltas, Provider};
use penstock_routing::{Bounds, Catalogue, Model, Pricing};

use crate::{Captures, Flow, Gateway, Parts, Refusal};

const KEY: &str = "a-key-that-is-long-enough";
const CHAT: Scope = Scope::new("chat", "invoke");

type Script = Box<dyn Fn() -> Result<Deltas, Error> + Send + Sync>;

/// Answers whatever its script says.
struct Scripted(Script);

impl Provider for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn chat(&self) -> Option<&dyn Chat> {
        Some(self)
    }
}

impl Chat for Scripted {
    fn chat(&self, _: Call) -> Calling<'_> {
        let answer = (self.0)();
        async move { answer }.boxed()
    }
}

#[derive(Default)]
struct Kept {
    records: Mutex<Vec<Record>>,
    begun: std::sync::atomic::AtomicUsize,
}

impl Recorder for Kept {
    fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    fn end(&self, record: Record) {
        self.records.lock().expect("not poisoned").push(record);
    }
}

struct NoStore;

impl KeyStore for NoStore {
    fn list(&self) -> Pending<'_, Listing> {
        Box::pin(async { Ok(Listing { revision: 0, keys: Vec::new() }) })
    }

    fn insert(&self, _: KeyRecord) -> Pending<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn update(&self, record: KeyRecord) -> Pending<'_, KeyRecord> {
        Box::pin(async { Ok(record) })
    }

    fn revision(&self) -> Pending<'_, u64> {
        Box::pin(async { Ok(0) })
    }
}

struct Bench {
    flow: Arc<Flow>,
    kept: Arc<Kept>,
    admission: Arc<Admission>,
    keys: Keys,
    key_id: String,
}

fn bench(
    scopes: &[&str],
    models: &[&str],
    script: impl Fn() -> Result<Deltas, Error> + Send + Sync + 'static,
) -> Bench {
    bench_with((scopes, models), (Pricing::default(), Captures::default()), script)
}

fn bench_with(
    (scopes, models): (&[&str], &[&str]),
    (pricing, captures): (Pricing, Captures),
    script: impl Fn() -> Result<Deltas, Error> + Send + Sync + 'static,
) -> Bench {
    let provider: Arc<dyn Provider> = Arc::new(Scripted(Box::new(script)));
    let mut large = Model::single("large", "vendor", Some("vendor-large".into()));
    large.max_output_tokens = Some(100);
    large.deployments[0].pricing = pricing;
    let providers = HashMap::from([("vendor".into(), provider)]);
    bench_of((scopes, models), (Catalogue::new([large]), providers), (captures, HashMap::new()))
}

type Providers = HashMap<Arc<str>, Arc<dyn Provider>>;

fn bench_of(
    (scopes, models): (&[&str], &[&str]),
    (catalogue, providers): (Catalogue, Providers),
    (captures, bounds): (Captures, HashMap<Arc<str>, Bounds>),
) -> Bench {
    let file = FileKey {
        name: "test".into(),
        key: serde_json::from_value(serde_json::json!(KEY)).expect("a key"),
        team: Some("support".into()),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        models: models.iter().map(|model| (*model).to_owned()).collect(),
        limits: Limits { requests_per_minute: Some(100), concurrent_requests: Some(1), ..Limits::default() },
        budget: None,
        expires: None,
        allow_ips: Vec::new(),
        priority: None,
    };
    let keys = Keys::new(Arc::new(NoStore), Pepper::new([7; 32]));
    keys.use_file(&[file], Limits::default()).expect("a valid key");
    let kept = Arc::new(Kept::default());
    let admission = Arc::new(Admission::new(Instant::now()));
    let parts = Parts {
        keys: keys.ring(),
        admission: Arc::clone(&admission),
        rules: Default::default(),
        catalogue,
        fleet: Default::default(),
        doors: HashMap::new(),
        shares: HashMap::new(),
        bounds,
        providers,
        captures,
        recorder: Arc::clone(&kept) as Arc<dyn Recorder>,
        made: SystemTime::now(),
    };
    let key_id = keys.list()[0].id.to_string();
    Bench { flow: Gateway::new(parts).snapshot(), kept, admission, keys, key_id }
}

pub(crate) fn request(model: &str) -> Request {
    let decode = |_: &[u8], _| Ok(Content::Chat(Conversation::default()));
    Request {
        id: RequestId::new("req_test"),
        origin: Origin::Http,
        task: Task::Chat,
        model: model.into(),
        stream: true,
        stream_usage: false,
        max_output_tokens: None,
        choices: 1,
        deadline: None,
        arrived: None,
        hints: Default::default(),
        tags: Tags::default(),
        residency: None,
        priority: None,
        resume: Default::default(),
        body: Body::new(Dialect::OpenAi, Task::Chat, Bytes::from_static(b"{}"), Members::default(), decode),
    }
}

fn text(text: &str) -> Delta {
    Delta::Text { choice: 0, text: text.into(), logprobs: Vec::new() }
}

fn whole_answer() -> Vec<Delta> {
    vec![
        Delta::Started(Default::default()),
        text("Paris"),
        Delta::Finished { choice: 0, reason: FinishReason::Stop, stop: None },
        Delta::Usage(Usage { input: 5, output: 1, ..Usage::default() }),
    ]
}

fn gives(deltas: Vec<Delta>) -> impl Fn() -> Result<Deltas, Error> + Send + Sync {
    move || Ok(stream::iter(deltas.clone()).boxed())
}

impl Bench {
    async fn run(&self, request: Request) -> Result<crate::Answer, Refusal> {
        self.flow.run(request, Credential::Key(Secret::new(KEY)), CHAT).await
    }

    fn record(&self) -> Record {
        let mut records = self.kept.records.lock().expect("not poisoned");
        assert_eq!(records.len(), 1, "every request ends in exactly one record");
        assert_eq!(self.kept.begun.load(Ordering::SeqCst), 1);
        records.remove(0)
    }

    fn in_flight(&self) -> u32 {
        self.admission.in_flight(&self.key_id)
    }
}

#[tokio::test]
async fn a_whole_answer_is_settled_once_and_gives_its_slot_back() {
    let bench = bench(&["chat:*"], &["*"], gives(whole_answer()));
    let answer = bench.run(request("large")).await.expect("an answer");
    assert_eq!(answer.head.provider.as_deref(), Some("vendor"));
    assert_eq!(bench.in_flight(), 1, "the slot is held while the answer streams");
    let deltas: Vec<_> = answer.deltas.collect().await;
    assert_eq!(deltas.len(), 4, "the held opening comes with the rest");
    let record = bench.record();
    assert!(matches!(record.outcome, Outcome::Complete));
    assert_eq!(record.usage, Some(Usage { input: 5, output: 1, ..Usage::default() }));
    assert_eq!(record.finish, Some(FinishReason::Stop));
    assert_eq!((record.model.as_deref(), record.team.as_deref()), (Some("large"), Some("support")));
    assert_eq!((record.upstream_model.as_deref(), record.attempts), (Some("vendor-large"), 1));
    assert!(record.first_token.is_some());
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test]
async fn a_dropped_answer_cancels_the_call_and_is_recorded_as_cancelled() {
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let cancelled = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&cancelled);
    let bench = bench(&["chat:*"], &["*"], move || {
        let flag = Flag(Arc::clone(&seen));
        let endless = stream::iter(whole_answer().into_iter().take(2)).chain(stream::pending());
        Ok(endless
            .inspect(move |_| {
                let _held = &flag;
            })
            .boxed())
    });
    let mut answer = bench.run(request("large")).await.expect("an answer");
    answer.deltas.next().await.expect("a first delta");
    drop(answer);
    assert!(cancelled.load(Ordering::SeqCst), "the provider's stream is dropped with the answer");
    assert!(matches!(bench.record().outcome, Outcome::Cancelled));
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test]
async fn an_asker_who_leaves_before_the_first_content_is_recorded_too() {
    let bench = bench(&["chat:*"], &["*"], || Ok(stream::pending().boxed()));
    let run = bench.run(request("large"));
    assert!(tokio::time::timeout(Duration::from_millis(20), run).await.is_err(), "nothing comes");
    assert!(matches!(bench.record().outcome, Outcome::Cancelled));
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_before_the_first_content_refuses_the_request() {
    let broken = || Error::new(Code::UpstreamError, "the vendor fell over");
    let bench =
        bench(&["chat:*"], &["*"], gives(vec![Delta::Started(Default::default()), Delta::Failed(broken())]));
    let refusal = bench.run(request("large")).await.err().expect("a refusal");
    assert_eq!(refusal.error.code(), Code::UpstreamError);
    assert_eq!(refusal.error.stage(), Some(Stage::Call));
    assert_eq!(refusal.head.attempts, 3);
    assert!(refusal.head.rate.is_some(), "rate headers come with refusals too");
    assert!(matches!(bench.record().outcome, Outcome::Refused(_)));
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test]
async fn what_a_translation_lost_is_told_in_the_head_and_not_in_the_answer() {
    let lost = Delta::Dropped(vec!["seed".to_owned()]);
    let bench =
        bench(&["chat:*"], &["*"], gives(vec![lost, Delta::Started(Default::default()), text("Par")]));
    let answer = bench.run(request("large")).await.expect("an answer");
    assert_eq!(answer.head.dropped, ["seed"]);
    let deltas: Vec<_> = answer.deltas.collect().await;
    assert!(matches!(&deltas[..], [Delta::Started(_), Delta::Text { .. }]), "{deltas:?}");
}

#[tokio::test]
async fn an_error_after_the_first_content_ends_the_stream() {
    let broken = Error::new(Code::UpstreamStreamCut, "cut");
    let bench = bench(&["chat:*"], &["*"], gives(vec![text("Par"), Delta::Failed(broken), text("never")]));
    let answer = bench.run(request("large")).await.expect("an answer");
    let deltas: Vec<_> = answer.deltas.collect().await;
    assert_eq!(deltas.len(), 2, "nothing follows a failure");
    assert!(matches!(&deltas[1], Delta::Failed(error) if error.stage() == Some(Stage::Reply)));
    assert!(matches!(bench.record().outcome, Outcome::Failed(_)));
}

#[tokio::test]
async fn an_empty_or_endlessly_opening_answer_is_no_answer() {
    for deltas in [Vec::new(), vec![Delta::Started(Default::default()); 1_000]] {
        let bench = bench(&["chat:*"], &["*"], gives(deltas));
        let refusal = bench.run(request("large")).await.err().expect("a refusal");
        assert_eq!(refusal.error.code(), Code::UpstreamBadResponse);
    }
}

#[tokio::test]
async fn the_deadline_ends_a_silent_call_before_and_after_the_first_content() {
    let soon = || Some(Instant::now() + Duration::from_millis(30));
    let silent = bench(&["chat:*"], &["*"], || Ok(stream::pending().boxed()));
    let refusal =
        silent.run(Request { deadline: soon(), ..request("large") }).await.err().expect("a refusal");
    assert_eq!(refusal.error.code(), Code::DeadlineExceeded);

    let stalls =
        bench(&["chat:*"], &["*"], || Ok(stream::iter([text("Par")]).chain(stream::pending()).boxed()));
    let answer = stalls.run(Request { deadline: soon(), ..request("large") }).await.expect("an answer");
    let deltas: Vec<_> = answer.deltas.collect().await;
    assert!(matches!(deltas.last(), Some(Delta::Failed(error)) if error.code() == Code::DeadlineExceeded));
}

#[tokio::test]
async fn rights_are_checked_before_anything_is_called() {
    for (scopes, models, model, code) in [
        (&["embeddings:*"][..], &["*"][..], "large", Code::InsufficientScope),
        (&["chat:invoke:small"], &["*"], "large", Code::ModelNotFound),
        (&["chat:*"], &["small"], "large", Code::ModelNotFound),
        (&["chat:*"], &["*"], "no-such-model", Code::ModelNotFound),
    ] {
        let bench = bench(scopes, models, || unreachable!("the vendor must not be called"));
        let refusal = bench.run(request(model)).await.err().expect("a refusal");
        assert_eq!(refusal.error.code(), code, "{scopes:?} {models:?} {model}");
        assert_eq!(bench.record().attempts, 0);
    }
}

#[tokio::test]
async fn a_model_that_is_forbidden_reads_like_one_that_does_not_exist() {
    let say = |models: &'static [&'static str], model: &'static str| async move {
        let bench = bench(&["chat:*"], models, gives(Vec::new()));
        let refusal = bench.run(request(model)).await.err().expect("a refusal");
        refusal.error.say().replace(model, "MODEL")
    };
    assert_eq!(say(&["small"], "large").await, say(&["small"], "nosuch").await);
}

#[tokio::test]
async fn a_second_request_waits_for_the_first_ones_slot() {
    let bench = bench(&["chat:*"], &["*"], gives(whole_answer()));
    let first = bench.run(request("large")).await.expect("an answer");
    let refused = bench.run(request("large")).await.err().expect("a refusal");
    assert_eq!(refused.error.code(), Code::ConcurrencyLimitExceeded);
    drop(first);
    bench.run(request("large")).await.expect("the slot is free again");
}

#[tokio::test]
async fn a_provider_without_the_ability_says_so() {
    let bench = bench(&["embeddings:*"], &["*"], gives(whole_answer()));
    let embedding = Request { task: Task::Embedding, ..request("large") };
    let credential = Credential::Key(Secret::new(KEY));
    let refusal = bench.flow.run(embedding, credential, Scope::new("embeddings", "invoke")).await.err();
    assert_eq!(refusal.expect("a refusal").error.code(), Code::Unsupported);
}

#[tokio::test]
async fn a_panic_in_a_provider_is_recorded_as_our_fault() {
    let bench = bench(&["chat:*"], &["*"], || {
        Ok(stream::iter([text("Par")]).chain(stream::poll_fn(|_| panic!("a defect"))).boxed())
    });
    let mut answer = bench.run(request("large")).await.expect("an answer");
    answer.deltas.next().await.expect("a first delta");
    let poll = std::panic::AssertUnwindSafe(answer.deltas.next()).catch_unwind().await;
    assert!(poll.is_err());
    drop(answer);
    assert_eq!(bench.record().outcome.code(), "internal_error");
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test]
async fn a_caller_lists_the_models_that_it_can_use() {
    let listed = |scopes: &[&str], models: &[&str]| {
        let bench = bench(scopes, models, gives(Vec::new()));
        let credential = Credential::Key(Secret::new(KEY));
        let caller = bench.flow.authorize(&credential, Scope::new("models", "read"), None).expect("may list");
        bench.flow.models(&caller).len()
    };
    assert_eq!(listed(&["models:read", "chat:*"], &["*"]), 1);
    assert_eq!(listed(&["models:read", "chat:invoke:small"], &["*"]), 0, "a scope for another model");
    assert_eq!(listed(&["models:read", "chat:*"], &["small"]), 0, "an allow-list without it");
    assert_eq!(listed(&["models:read"], &["*"]), 1, "a key that only looks");
}
