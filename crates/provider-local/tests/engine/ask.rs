//! How tests ask: content in, the folded answer out.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use penstock_domain::{
    Body, Completion, Content, Conversation, Delta, Dialect, Embedding, Error, FinishReason, Members,
    Message, Origin, Part, Request, RequestId, Role, Sampling, Task, TokenLogprob, Usage,
};
use penstock_provider::{Call, Deltas, Provider};
use penstock_provider_local::{LocalProvider, Settings, cache_dir, settle};

/// Bodies are decoded by a plain function, so the contents of tests wait here and the body holds their number.
static CONTENTS: Mutex<Vec<Content>> = Mutex::new(Vec::new());

fn decode(bytes: &[u8], _: Task) -> Result<Content, Error> {
    let number: usize = std::str::from_utf8(bytes).unwrap().parse().unwrap();
    Ok(CONTENTS.lock().unwrap()[number].clone())
}

pub(crate) fn cache() -> PathBuf {
    let dir = cache_dir(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()));
    assert!(
        dir.join("SmolLM2-135M-Instruct.Q4_1.gguf").is_file(),
        "the models are not in {}: run ./scripts/fetch-models, then the tests again",
        dir.display()
    );
    dir
}

/// The provider that most tests share: loading once is enough.
pub(crate) fn local() -> Arc<LocalProvider> {
    static LOCAL: LazyLock<Arc<LocalProvider>> = LazyLock::new(|| {
        let provider = with(Settings::default());
        // A test may ask another model only, and end, and its process with it, while this one is still loading.
        assert!(settle(Duration::from_secs(60)), "a model is still loading after a minute");
        provider
    });
    LOCAL.clone()
}

pub(crate) fn with(settings: Settings) -> Arc<LocalProvider> {
    Arc::new(LocalProvider::new(settings, cache()))
}

/// What came back.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reply {
    pub(crate) texts: Vec<String>,
    pub(crate) calls: Vec<Vec<(String, String)>>,
    pub(crate) reasons: Vec<Option<FinishReason>>,
    pub(crate) stop: Option<String>,
    pub(crate) logprobs: Vec<TokenLogprob>,
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) usage: Usage,
    pub(crate) pieces: Vec<String>,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        &self.texts[0]
    }

    fn choice(&mut self, choice: u32) -> usize {
        let count = self.texts.len().max(choice as usize + 1);
        self.texts.resize_with(count, String::new);
        self.calls.resize_with(count, Vec::new);
        self.reasons.resize_with(count, || None);
        choice as usize
    }
}

pub(crate) fn call(model: &str, content: Content) -> Call {
    let mut contents = CONTENTS.lock().unwrap();
    contents.push(content);
    let bytes = Bytes::from((contents.len() - 1).to_string());
    let (task, choices, most) = match contents.last().unwrap() {
        Content::Chat(chat) => (Task::Chat, chat.sampling.choices, chat.sampling.max_output_tokens),
        Content::Completion(completion) => {
            (Task::Completion, completion.sampling.choices, completion.sampling.max_output_tokens)
        }
        Content::Embedding(_) => (Task::Embedding, None, None),
    };
    let request = Request {
        id: RequestId::new("req_test"),
        origin: Origin::Http,
        task,
        model: model.into(),
        stream: true,
        stream_usage: true,
        max_output_tokens: most,
        choices: choices.unwrap_or(1),
        deadline: None,
        arrived: None,
        residency: None,
        priority: None,
        resume: Default::default(),
        hints: Default::default(),
        tags: Default::default(),
        body: Body::new(Dialect::OpenAi, task, bytes, Members::default(), decode),
    };
    Call { request: Arc::new(request), model: model.into(), credential: 0, deadline: None }
}

pub(crate) async fn open(provider: &LocalProvider, model: &str, content: Content) -> Result<Deltas, Error> {
    let call = call(model, content);
    match call.request.task {
        Task::Chat => provider.chat().unwrap().chat(call).await,
        Task::Completion => provider.complete().unwrap().complete(call).await,
        Task::Embedding => provider.embed().unwrap().embed(call).await,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn fold(mut deltas: Deltas) -> Result<Reply, Error> {
    let mut reply = Reply::default();
    let mut first = true;
    let mut over = false;
    while let Some(delta) = deltas.next().await {
        assert!(!over, "{delta:?} came after the end");
        assert_eq!(first, matches!(delta, Delta::Started(_)), "{delta:?}");
        first = false;
        match delta {
            Delta::Started(_) => {}
            Delta::Text { choice, text, mut logprobs } => {
                let choice = reply.choice(choice);
                assert!(reply.reasons[choice].is_none());
                reply.texts[choice].push_str(&text);
                reply.pieces.push(text);
                reply.logprobs.append(&mut logprobs);
            }
            Delta::ToolCall { choice, index, id, name, arguments } => {
                let choice = reply.choice(choice);
                assert_eq!(id.is_some(), name.is_some());
                if let Some(name) = name {
                    assert_eq!(reply.calls[choice].len(), index as usize);
                    reply.calls[choice].push((name, String::new()));
                }
                reply.calls[choice][index as usize].1.push_str(&arguments);
            }
            Delta::Finished { choice, reason, stop } => {
                let choice = reply.choice(choice);
                reply.reasons[choice] = Some(reason);
                reply.stop = stop.map(String::from);
            }
            Delta::Vectors(vectors) => reply.vectors = vectors,
            Delta::Usage(usage) => {
                reply.usage = usage;
                over = true;
            }
            Delta::Failed(error) => return Err(error),
            other => panic!("{other:?} is not for this provider"),
        }
    }
    assert!(over, "the stream ended without usage");
    Ok(reply)
}

pub(crate) async fn ask(provider: &LocalProvider, content: Content) -> Result<Reply, Error> {
    fold(open(provider, "smollm2-135m", content).await?).await
}

pub(crate) fn message(role: Role, text: &str) -> Message {
    Message { role, name: None, parts: vec![Part::Text(text.to_owned())] }
}

/// Greedy, and short unless a test says otherwise.
pub(crate) fn greedy(most: u32) -> Sampling {
    Sampling { temperature: Some(0.0), max_output_tokens: Some(most), ..Sampling::default() }
}

pub(crate) fn chat(text: &str, sampling: Sampling) -> Conversation {
    Conversation { messages: vec![message(Role::User, text)], sampling, ..Conversation::default() }
}

pub(crate) fn completion(prompt: &str, sampling: Sampling) -> Content {
    Content::Completion(Completion { prompts: vec![prompt.to_owned()], sampling, ..Completion::default() })
}

pub(crate) fn embedding(inputs: Vec<penstock_domain::EmbeddingInput>) -> Content {
    Content::Embedding(Embedding { inputs, ..Embedding::default() })
}
