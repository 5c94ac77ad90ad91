//! Several scripted vendors behind one model, and what each of them was asked.

use std::collections::VecDeque;

use penstock_observe::Attempt;
use penstock_routing::{Deployment, Policy, Prices};

use super::*;

/// What a vendor does with one call.
pub(super) enum Act {
    /// Refuses.
    Refuse(Code, Option<Duration>),
    /// Answers with these deltas and ends.
    Say(Vec<Delta>),
    /// Answers with these deltas and breaks off.
    Cut(Vec<Delta>),
    /// Answers with these deltas and falls silent for ever.
    Stall(Vec<Delta>),
    /// Answers after a while.
    Late(Duration, Vec<Delta>),
}

struct Vendor {
    name: Arc<str>,
    acts: Mutex<VecDeque<Act>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// One call as a vendor saw it.
pub(super) struct Asked {
    pub(super) vendor: Arc<str>,
    pub(super) call: Call,
    /// Set when the asker dropped the call before its end.
    pub(super) dropped: Arc<AtomicBool>,
}

/// Sets its flag when it is dropped, unless it was told that all is over.
struct Watch(Arc<AtomicBool>, bool);

impl Watch {
    fn over(&mut self) {
        self.1 = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.1 {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

impl Provider for Vendor {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn chat(&self) -> Option<&dyn Chat> {
        Some(self)
    }
}

impl Chat for Vendor {
    fn chat(&self, call: Call) -> Calling<'_> {
        let act = self.acts.lock().expect("not poisoned").pop_front().expect("one act for each call");
        let dropped = Arc::new(AtomicBool::new(false));
        let asked = Asked { vendor: Arc::clone(&self.name), call, dropped: Arc::clone(&dropped) };
        self.asked.lock().expect("not poisoned").push(asked);
        let mut watch = Watch(dropped, false);
        async move {
            let (deltas, end) = match act {
                Act::Refuse(code, wait) => {
                    watch.over();
                    let error = Error::new(code, "no");
                    return Err(wait.map_or(error.clone(), |wait| {
                        error.with_retry(penstock_domain::Retry::After(wait))
                    }));
                }
                Act::Say(deltas) => (deltas, Some(None)),
                Act::Cut(deltas) => {
                    (deltas, Some(Some(Delta::Failed(Error::new(Code::UpstreamStreamCut, "cut")))))
                }
                Act::Stall(deltas) => (deltas, None),
                Act::Late(wait, deltas) => {
                    tokio::time::sleep(wait).await;
                    (deltas, Some(None))
                }
            };
            let mut deltas = VecDeque::from(deltas);
            let mut end = end;
            let answer = stream::poll_fn(move |_| {
                if let Some(delta) = deltas.pop_front() {
                    return std::task::Poll::Ready(Some(delta));
                }
                match end.as_mut() {
                    None => std::task::Poll::Pending,
                    Some(last) => {
                        watch.over();
                        std::task::Poll::Ready(last.take())
                    }
                }
            });
            Ok(answer.boxed())
        }
        .boxed()
    }
}

/// A gateway before several vendors that all serve the model `large`.
pub(super) struct Street {
    pub(super) bench: Bench,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// How a street is laid out.
#[derive(Default)]
pub(super) struct Layout {
    pub(super) policy: Policy,
    pub(super) bounds: HashMap<Arc<str>, Bounds>,
    /// The region of each vendor, in order.
    pub(super) regions: &'static [&'static str],
    pub(super) model: Option<fn(&mut Model)>,
}

/// Vendors `a`, `b`, … in this order, each with what it does with its calls. A token of a prompt costs a dollar, one of an
/// answer ten.
pub(super) fn street(layout: Layout, vendors: Vec<Vec<Act>>) -> Street {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut providers = Providers::new();
    let mut model = Model::single("large", "a", Some("m".into()));
    model.deployments.clear();
    model.policy = layout.policy;
    for (place, acts) in vendors.into_iter().enumerate() {
        let name: Arc<str> = char::from(b'a' + u8::try_from(place).expect("few")).to_string().into();
        let mut deployment = Deployment::new(Arc::clone(&name), Some("m".into()));
        deployment.pricing = priced();
        deployment.region = layout.regions.get(place).map(|region| (*region).into());
        // The first is wanted most by far.
        deployment.weight = if place == 0 { 1_000_000 } else { 1 };
        model.deployments.push(deployment);
        let vendor =
            Vendor { name: Arc::clone(&name), acts: Mutex::new(acts.into()), asked: Arc::clone(&asked) };
        providers.insert(name, Arc::new(vendor));
    }
    // One model after another, so that their order is certain.
    let mut models = Vec::new();
    let deployments = std::mem::take(&mut model.deployments);
    for (place, deployment) in deployments.into_iter().enumerate() {
        let name: Arc<str> = if place == 0 { "large".into() } else { format!("spare-{place}").into() };
        models.push(Model { name, deployments: vec![deployment], ..model.clone() });
    }
    models[0].fallbacks = models[1..].iter().map(|model| Arc::clone(&model.name)).collect();
    if let Some(change) = layout.model {
        models.iter_mut().for_each(change);
    }
    let captures = (Captures::default(), layout.bounds);
    let bench = bench_of((&["chat:*"], &["*"]), (Catalogue::new(models), providers), captures);
    Street { bench, asked }
}

pub(super) fn priced() -> Pricing {
    use penstock_domain::{Price, Rates, Tariff};
    let price = |text| Price::per_million(text).expect("a price");
    let rates = Rates { input: price("1"), output: Some(price("10")), ..Rates::default() };
    Pricing::Own(Arc::new(Prices::new(vec![(SystemTime::UNIX_EPOCH, Tariff { rates, long: None })])))
}

impl Street {
    /// Asks, and gives what the asker saw and what was recorded.
    pub(super) async fn ask(&self, request: Request) -> (Result<Vec<Delta>, Refusal>, Record) {
        let seen = match self.bench.run(request).await {
            Ok(answer) => Ok(answer.deltas.collect::<Vec<_>>().await),
            Err(refusal) => Err(refusal),
        };
        (seen, self.bench.record())
    }

    /// Who was asked, in order.
    pub(super) fn who(&self) -> String {
        self.asked.lock().expect("not poisoned").iter().map(|asked| &*asked.vendor).collect()
    }

    pub(super) fn asked(&self, place: usize) -> Call {
        self.asked.lock().expect("not poisoned")[place].call.clone()
    }

    /// Whether a call was dropped before its end.
    pub(super) fn was_dropped(&self, place: usize) -> bool {
        self.asked.lock().expect("not poisoned")[place].dropped.load(Ordering::SeqCst)
    }
}

/// The text that an asker saw, with a `|` where another candidate went on.
pub(super) fn seen(deltas: &[Delta]) -> String {
    let piece = |delta: &Delta| match delta {
        Delta::Text { text, .. } => text.clone(),
        Delta::Resumed => "|".into(),
        _ => String::new(),
    };
    deltas.iter().map(piece).collect()
}

/// The calls of a record: why, who, and how it ended.
pub(super) fn tries(record: &Record) -> Vec<String> {
    let one = |one: &Attempt| format!("{} {} {}", one.why, one.provider, one.code);
    record.tries.iter().map(one).collect()
}

pub(super) fn answer(said: &str) -> Vec<Delta> {
    vec![
        Delta::Started(Default::default()),
        text(said),
        Delta::Finished { choice: 0, reason: FinishReason::Stop, stop: None },
        Delta::Usage(Usage { input: 5, output: 1, ..Usage::default() }),
    ]
}

/// A request with a prompt of some ten tokens, whose content says the same.
pub(super) fn asking() -> Request {
    let body = br#"{"model":"large","messages":[{"role":"user","content":"Where does the river end?"}]}"#;
    let decode = |_: &[u8], _| Ok(Content::Chat(Conversation::default()));
    let body = Body::new(Dialect::OpenAi, Task::Chat, Bytes::from_static(body), Members::default(), decode);
    Request { body, ..request("large") }
}
