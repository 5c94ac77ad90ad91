//! The suites: each promise of the ports, tried on a live back end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use penstock_domain::{Code, Delta, Error, Task};
use penstock_provider::{Call, Calling, Provider};
use serde_json::{Value, json};

use crate::fold::{Seen, collect, fold};
use crate::request::{call, openai};

/// No back end in a test may take longer for one answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a suite is told about a back end, because no port can say it.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Whether the same request gives the same answer (with `seed: 1` and `temperature: 0`).
    pub deterministic: bool,
    /// Whether `n` gives several choices.
    pub several_choices: bool,
    /// Whether usage is counted exactly; otherwise it only has to be there.
    pub exact_usage: bool,
    /// Messages that the back end cannot take; it must refuse them before any delta.
    pub unsupported: Option<Value>,
    /// A model name that the back end does not know, where it knows its names.
    pub unknown_model: Option<String>,
}

/// Which ability is tried.
#[derive(Clone, Copy)]
struct Tried<'a> {
    provider: &'a dyn Provider,
    task: Task,
    model: &'a str,
}

impl<'a> Tried<'a> {
    fn start(self, body: &Value, deadline: Option<Instant>) -> Calling<'a> {
        self.begin(call(openai(self.task, body), self.model, deadline))
    }

    fn begin(self, call: Call) -> Calling<'a> {
        match self.task {
            Task::Chat => self.provider.chat().expect("the back end chats").chat(call),
            Task::Completion => self.provider.complete().expect("the back end completes").complete(call),
            Task::Embedding => self.provider.embed().expect("the back end embeds").embed(call),
            Task::CountTokens => self.provider.count().expect("the back end counts").count(call),
        }
    }

    async fn answer(self, body: &Value) -> Seen {
        let call = call(openai(self.task, body), self.model, None);
        let request = Arc::clone(&call.request);
        let deltas = patient(self.begin(call)).await;
        let deltas = deltas.unwrap_or_else(|error| panic!("a plain request is answered, but: {error}"));
        let seen = fold(&request, patient(collect(deltas)).await);
        if let Some(error) = &seen.failed {
            panic!("a plain request is answered whole, but it broke: {error}");
        }
        seen
    }
}

async fn patient<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("the back end answers in two minutes")
}

/// Tries every promise of [`penstock_provider::Chat`].
///
/// # Panics
/// When one is broken, and says which.
pub async fn chat_conformance(provider: &dyn Provider, model: &str, sample: &Sample) {
    let tried = Tried { provider, task: Task::Chat, model };
    let ask = |stream: bool, more: Value| {
        let mut body = json!({
            "model": model, "stream": stream, "seed": 1, "temperature": 0, "max_tokens": 24,
            "messages": [{"role": "user", "content": "Say hello to the world."}],
        });
        if stream {
            body["stream_options"] = json!({"include_usage": true});
        }
        merge(body, more)
    };
    generation(tried, sample, &ask).await;
    if let Some(messages) = &sample.unsupported {
        let body = ask(true, json!({"messages": messages}));
        let error = patient(tried.start(&body, None)).await.err();
        let error = error.expect("unsupported content is refused before any delta");
        assert!(
            matches!(error.code(), Code::Unsupported | Code::InvalidRequest | Code::UpstreamRejected),
            "unsupported content is the asker's mistake, found {error}"
        );
        well_said(&error);
    }
    if let Some(unknown) = &sample.unknown_model {
        let tried = Tried { model: unknown, ..tried };
        let error = patient(tried.start(&ask(false, json!({})), None)).await.err();
        well_said(&error.expect("an unknown model is refused before any delta"));
    }
}

/// Tries every promise of [`penstock_provider::Complete`].
///
/// # Panics
/// When one is broken, and says which.
pub async fn complete_conformance(provider: &dyn Provider, model: &str, sample: &Sample) {
    let tried = Tried { provider, task: Task::Completion, model };
    let ask = |stream: bool, more: Value| {
        let mut body = json!({
            "model": model, "stream": stream, "seed": 1, "temperature": 0, "max_tokens": 24,
            "prompt": "Once upon a time",
        });
        if stream {
            body["stream_options"] = json!({"include_usage": true});
        }
        merge(body, more)
    };
    generation(tried, sample, &ask).await;
}

/// What chat and completion share.
async fn generation(tried: Tried<'_>, sample: &Sample, ask: &dyn Fn(bool, Value) -> Value) {
    let streamed = tried.answer(&ask(true, json!({}))).await;
    complete_answer(&streamed, 1);
    let whole = tried.answer(&ask(false, json!({}))).await;
    complete_answer(&whole, 1);
    if sample.deterministic {
        assert_eq!(streamed.text, whole.text, "streamed and whole answers say the same");
        assert_eq!(streamed.finished, whole.finished, "streamed and whole answers end for the same reason");
    }
    let usage = streamed.usage.expect("usage was asked for");
    if sample.exact_usage {
        assert_eq!(Some(usage), whole.usage, "streamed and whole answers cost the same");
        assert!(usage.input > 0 && usage.output > 0, "tokens are counted, found {usage:?}");
        assert!(usage.output <= 24, "no more tokens than allowed, found {usage:?}");
        let short = tried.answer(&ask(true, json!({"max_tokens": 2}))).await;
        let short = short.usage.expect("usage was asked for");
        assert!(short.output <= 2, "no more tokens than allowed, found {short:?}");
        assert_eq!(short.input, usage.input, "the same prompt costs the same");
    }
    if sample.several_choices {
        complete_answer(&tried.answer(&ask(true, json!({"n": 2}))).await, 2);
    }
    deadline(tried, &ask(true, json!({}))).await;
    drop_cancels(tried, &ask(true, json!({"max_tokens": 512}))).await;
}

/// One finish per choice, something said in each, and usage once.
fn complete_answer(seen: &Seen, choices: u32) {
    let finished: Vec<u32> = seen.finished.keys().copied().collect();
    assert_eq!(finished, (0..choices).collect::<Vec<_>>(), "every choice ends once");
    for choice in 0..choices {
        let said = seen.text.contains_key(&choice)
            || seen.refusal.contains_key(&choice)
            || seen.tool_calls.keys().any(|(of, _)| *of == choice);
        assert!(said, "choice {choice} says something");
    }
    assert!(seen.usage.is_some(), "usage comes once, at the end");
}

/// A deadline that has passed ends the call, as an error or as a broken answer, with its own code.
async fn deadline(tried: Tried<'_>, body: &Value) {
    let error = match patient(tried.start(body, Some(Instant::now()))).await {
        Err(error) => error,
        Ok(deltas) => {
            let last = patient(collect(deltas)).await.pop();
            match last {
                Some(Delta::Failed(error)) => error,
                other => panic!("a deadline that has passed ends the answer, found {other:?}"),
            }
        }
    };
    assert_eq!(error.code(), Code::DeadlineExceeded, "a passed deadline has its own code, found {error}");
    well_said(&error);
}

/// A dropped future and a dropped stream leave a back end that answers the next request.
async fn drop_cancels(tried: Tried<'_>, body: &Value) {
    drop(tried.start(body, None));
    for _ in 0..3 {
        let mut deltas =
            patient(tried.start(body, None)).await.unwrap_or_else(|error| panic!("answered, but: {error}"));
        patient(deltas.next()).await;
        drop(deltas);
    }
    complete_answer(&tried.answer(body).await, 1);
}

/// Tries every promise of [`penstock_provider::Embed`].
///
/// # Panics
/// When one is broken, and says which.
pub async fn embed_conformance(provider: &dyn Provider, model: &str, sample: &Sample) {
    let tried = Tried { provider, task: Task::Embedding, model };
    let body = json!({"model": model, "input": ["a river", "a mill", "a river"]});
    let seen = tried.answer(&body).await;
    assert_eq!(seen.vectors.len(), 3, "one vector per input, in order");
    let dimensions = seen.vectors[0].len();
    assert!(dimensions > 0, "vectors are not empty");
    assert!(seen.vectors.iter().all(|vector| vector.len() == dimensions), "vectors have one length");
    assert!(seen.vectors.iter().flatten().all(|x| x.is_finite()), "components are finite");
    let far = |a: usize, b: usize| -> f32 {
        seen.vectors[a].iter().zip(&seen.vectors[b]).map(|(x, y)| (x - y).powi(2)).sum::<f32>().sqrt()
    };
    assert!(far(0, 2) < 1e-3, "equal inputs have equal vectors");
    assert!(far(0, 1) > 1e-3, "different inputs have different vectors");
    let usage = seen.usage.expect("usage comes once");
    assert_eq!(usage.output, 0, "an embedding says nothing");
    if sample.exact_usage {
        let one =
            tried.answer(&json!({"model": model, "input": "a river"})).await.usage.expect("usage comes once");
        assert!(usage.input > one.input && one.input > 0, "every input is counted: {usage:?} and {one:?}");
    }
    deadline(tried, &body).await;
}

/// The grammar of error sentences.
fn well_said(error: &Error) {
    let say = error.say();
    assert!(!say.is_empty() && !say.ends_with('.'), "an error is a sentence without a final stop: {say:?}");
    let capital = say.chars().next().is_some_and(char::is_uppercase);
    assert!(!capital, "an error begins in lower case: {say:?}");
}

fn merge(mut body: Value, more: Value) -> Value {
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    body
}
