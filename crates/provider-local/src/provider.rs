//! The engine behind the provider ports.
//!
//! What it is: requests in the words of `domain` to tokens and plans, and the engine's deltas back.
//!
//! What it promises: everything that can be wrong with a request is said before it takes a place in the queue: content the
//! model cannot read, a prompt that does not fit, a schema that cannot be enforced. Dropping the stream ends the work
//! within one decode step.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::{StreamExt, stream};
use llama_cpp_2::token::LlamaToken;
use penstock_domain::{
    Code, Completion, Content, Conversation, Delta, Embedding, EmbeddingInput, Error, Logprobs, Sampling,
    Started, ToolChoice, Usage,
};
use penstock_provider::{Call, Calling, Chat, Complete, Count, Deltas, Embed, Health, Provider};
use tokio::sync::{mpsc, oneshot};

use crate::answer::{self, Rules};
use crate::engine::{EmbedOrder, Engine, Order, Plan, State, Tools, unavailable};
use crate::loaded::Loaded;
use crate::model;
use crate::prompt;
use crate::settings::Settings;

/// What OpenAI's completions generate when nobody says how much.
const COMPLETION_TOKENS: u32 = 16;
/// Most inputs of one embedding request, as OpenAI has it.
const MOST_INPUTS: usize = 2048;

/// The embedded models behind the provider ports.
pub struct LocalProvider {
    settings: Arc<Settings>,
    cache: PathBuf,
    engines: Mutex<HashMap<String, Arc<Engine>>>,
}

impl LocalProvider {
    /// Makes the provider and starts loading the model of the settings in the background. `cache` is [`crate::cache_dir`].
    /// Never fails: a model that is not there is told by `health` and by each call.
    pub fn new(settings: Settings, cache: PathBuf) -> Self {
        let provider = Self { settings: Arc::new(settings), cache, engines: Mutex::new(HashMap::new()) };
        let first = provider.settings.model.clone();
        // A failure is told by health and by calls.
        drop(provider.engine(&first));
        provider
    }

    /// The names that `model` may have in a route to this provider.
    pub fn models(&self) -> Vec<String> {
        let mut names: Vec<String> = model::CATALOGUE.iter().map(|name| (*name).to_owned()).collect();
        if self.settings.path.is_some() && !names.contains(&self.settings.model) {
            names.insert(0, self.settings.model.clone());
        }
        names
    }

    fn engine(&self, name: &str) -> Result<Arc<Engine>, Error> {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engines.get(name) {
            return Ok(engine.clone());
        }
        if model::purpose(name).is_none() && (self.settings.path.is_none() || self.settings.model != name) {
            return Err(unavailable(model::ModelError::Unknown { name: name.to_owned() }.to_string()));
        }
        let engine = Engine::shared(&self.cache, name, &self.settings);
        engines.insert(name.to_owned(), engine.clone());
        Ok(engine)
    }

    async fn ready(&self, name: &str, embeds: bool) -> Result<(Arc<Engine>, Arc<Loaded>), Error> {
        let engine = self.engine(name)?;
        let loaded = engine.loaded().await?;
        if loaded.embeds != embeds {
            let can = if loaded.embeds { "only embed" } else { "chat and complete, but not embed" };
            return Err(
                Error::new(Code::Unsupported, format!("the model {name} can {can}")).with_param("model")
            );
        }
        Ok((engine, loaded))
    }

    async fn start_chat(&self, call: Call) -> Result<Deltas, Error> {
        let (engine, loaded) = self.ready(&call.model, false).await?;
        let work = {
            let (loaded, request) = (loaded.clone(), call.request.clone());
            move || match request.body.content()? {
                Content::Chat(chat) => {
                    let prompt = (prompt::of_chat(&loaded, chat)?, prompt::lost(chat));
                    Ok((prompt, plan_of_chat(&loaded, chat)?, chat.sampling.clone()))
                }
                _ => Err(mismatch("a chat")),
            }
        };
        let ((prompt, lost), (shape, tools), sampling) = blocking(work).await?;
        let plan = plan(&loaded, &sampling, ("messages", prompt.len()), (shape, tools))?;
        let answer = dispatch(&engine, vec![(prompt, None)], &call, &sampling, plan)?;
        if lost.is_empty() {
            return Ok(answer);
        }
        Ok(Box::pin(stream::iter([Delta::Dropped(lost)]).chain(answer)))
    }

    /// Counts as the model itself will: with its template and its vocabulary.
    async fn start_count(&self, call: Call) -> Result<Deltas, Error> {
        let (_, loaded) = self.ready(&call.model, false).await?;
        let request = call.request;
        let work = move || match request.body.content()? {
            Content::Chat(chat) => prompt::of_chat(&loaded, chat).map(|prompt| prompt.len() as u64),
            _ => Err(mismatch("a chat")),
        };
        let input = blocking(work).await?;
        Ok(Box::pin(stream::iter([Delta::Counted { input, estimated: false }])))
    }

    async fn start_completion(&self, call: Call) -> Result<Deltas, Error> {
        let (engine, loaded) = self.ready(&call.model, false).await?;
        let work = {
            let (loaded, request) = (loaded.clone(), call.request.clone());
            move || match request.body.content()? {
                Content::Completion(completion) => {
                    Ok((prompts_of(&loaded, completion)?, completion.sampling.clone()))
                }
                _ => Err(mismatch("a completion")),
            }
        };
        let (prompts, mut sampling) = blocking(work).await?;
        let longest = prompts.iter().map(|(tokens, _)| tokens.len()).max().unwrap_or(0);
        let room = u32::try_from((loaded.context as usize).saturating_sub(longest)).unwrap_or(u32::MAX);
        sampling.max_output_tokens.get_or_insert(COMPLETION_TOKENS.min(room.max(1)));
        let plan = plan(&loaded, &sampling, ("prompt", longest), (None, Tools::Ignored))?;
        dispatch(&engine, prompts, &call, &sampling, plan)
    }

    async fn start_embedding(&self, call: Call) -> Result<Deltas, Error> {
        let (engine, loaded) = self.ready(&call.model, true).await?;
        let work = {
            let (loaded, request) = (loaded.clone(), call.request.clone());
            move || match request.body.content()? {
                Content::Embedding(embedding) => inputs_of(&loaded, embedding),
                _ => Err(mismatch("an embedding")),
            }
        };
        let inputs = blocking(work).await?;
        let tokens = inputs.iter().map(|input| input.len() as u64).sum();
        let (reply, answer) = oneshot::channel();
        engine.embed(EmbedOrder { inputs, reply })?;
        let vectors = answer
            .await
            .map_err(|_| unavailable("the engine stopped while it embedded; restart the gateway"))??;
        let (sender, receiver) = mpsc::channel(3);
        let usage = Usage { input: tokens, ..Usage::default() };
        for delta in [started(&call), Delta::Vectors(vectors), Delta::Usage(usage)] {
            // There is room for all three.
            drop(sender.try_send(delta));
        }
        Ok(Box::pin(Answer { receiver, over: false }))
    }
}

impl Provider for LocalProvider {
    fn kind(&self) -> &'static str {
        <Settings as penstock_config::Settings>::KIND
    }

    fn health(&self) -> Health {
        match self.engine(&self.settings.model) {
            Err(error) => Health::Unavailable(error.say().to_owned()),
            Ok(engine) => match engine.state() {
                State::Loading => Health::Starting,
                State::Ready(_) => Health::Ready,
                State::Failed(why) => Health::Unavailable(why.to_string()),
            },
        }
    }

    fn chat(&self) -> Option<&dyn Chat> {
        Some(self)
    }

    fn complete(&self) -> Option<&dyn Complete> {
        Some(self)
    }

    fn embed(&self) -> Option<&dyn Embed> {
        Some(self)
    }

    fn count(&self) -> Option<&dyn Count> {
        Some(self)
    }
}

impl Count for LocalProvider {
    fn count(&self, call: Call) -> Calling<'_> {
        Box::pin(self.start_count(call))
    }
}

impl Chat for LocalProvider {
    fn chat(&self, call: Call) -> Calling<'_> {
        Box::pin(self.start_chat(call))
    }
}

impl Complete for LocalProvider {
    fn complete(&self, call: Call) -> Calling<'_> {
        Box::pin(self.start_completion(call))
    }
}

impl Embed for LocalProvider {
    fn embed(&self, call: Call) -> Calling<'_> {
        Box::pin(self.start_embedding(call))
    }
}

/// Tokenising a long prompt and compiling a schema take milliseconds; they must not hold up an async thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(Code::InternalError, "preparing the prompt failed").with_source(error))?
}

fn mismatch(expected: &str) -> Error {
    Error::new(Code::InternalError, format!("the request holds something other than {expected}"))
}

fn plan_of_chat(loaded: &Loaded, chat: &Conversation) -> Result<(Option<answer::Matcher>, Tools), Error> {
    if let Some(call) = answer::forced_call(&chat.tools, chat.tool_choice.as_ref())? {
        return Ok((Some(loaded.grammars.compile(loaded, call, "tools")?), Tools::Forced));
    }
    let shape = match answer::schema_of_format(&chat.response_format)? {
        Some(schema) => Some(loaded.grammars.compile(loaded, schema, "response_format")?),
        None => None,
    };
    let free = shape.is_none() && !chat.tools.is_empty() && chat.tool_choice != Some(ToolChoice::None);
    let known = chat.tools.iter().map(|tool| tool.name.clone());
    Ok((shape, if free { Tools::Free(known.collect()) } else { Tools::Ignored }))
}

fn plan(
    loaded: &Loaded,
    sampling: &Sampling,
    (member, prompt): (&str, usize),
    (shape, tools): (Option<answer::Matcher>, Tools),
) -> Result<Plan, Error> {
    let context = loaded.context as usize;
    let asked = sampling.max_output_tokens.map(|most| most as usize);
    if prompt == 0 {
        return Err(Error::new(Code::InvalidValue, "the prompt is empty: expected at least one token")
            .with_param("prompt"));
    }
    if asked == Some(0) {
        return Err(
            Error::new(Code::InvalidValue, "max_tokens must be at least 1, found 0").with_param("max_tokens")
        );
    }
    if prompt + asked.unwrap_or(1) > context {
        let said = format!(
            "the context of this model holds {context} tokens, but the prompt has {prompt} and {} more were asked for: shorten one of them",
            asked.unwrap_or(1)
        );
        let param = if prompt >= context { member } else { "max_tokens" };
        return Err(Error::new(Code::ContextLengthExceeded, said).with_param(param));
    }
    let bias = sampling.logit_bias.clone();
    if let Some((token, _)) = bias.iter().find(|(token, _)| *token as usize >= loaded.vocabulary.len()) {
        let said =
            format!("logit_bias names the token {token}, but this model has {}", loaded.vocabulary.len());
        return Err(Error::new(Code::InvalidValue, said).with_param("logit_bias"));
    }
    let finite = |value: Option<f32>, usual: f32| value.filter(|value| value.is_finite()).unwrap_or(usual);
    let rules = Rules {
        temperature: finite(sampling.temperature, loaded.temperature),
        top_p: finite(sampling.top_p, loaded.top_p),
        top_k: sampling.top_k.unwrap_or(0) as usize,
        min_p: finite(sampling.min_p, 0.0),
        presence: finite(sampling.presence_penalty, 0.0),
        frequency: finite(sampling.frequency_penalty, 0.0),
        bias,
        logprobs: match sampling.logprobs {
            Logprobs::Off => None,
            Logprobs::Top(alternatives) => Some(alternatives),
        },
        seed: sampling.seed.map_or_else(chance, |seed| seed as u64),
    };
    let most = u32::try_from(asked.unwrap_or(context - prompt)).unwrap_or(u32::MAX);
    Ok(Plan { rules, most, stops: sampling.stop.clone(), shape, tools })
}

fn chance() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}

/// Each prompt's tokens, and its text where the answer shall repeat it.
type Prompts = Vec<(Vec<LlamaToken>, Option<String>)>;

fn prompts_of(loaded: &Loaded, completion: &Completion) -> Result<Prompts, Error> {
    if completion.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        let said = "the embedded model continues text and cannot fill a gap: leave suffix out";
        return Err(Error::new(Code::Unsupported, said).with_param("suffix"));
    }
    let tokens = |text: &String| {
        let mut tokens = loaded.vocabulary.tokens_of_plain(&loaded.model, text);
        if tokens.is_empty() {
            // As OpenAI does: an empty prompt is the beginning of a new document.
            let vocab = loaded.model.vocab();
            let begin = if vocab.bos().0 >= 0 { vocab.bos() } else { vocab.eos() };
            tokens.extend((begin.0 >= 0).then_some(begin));
        }
        (tokens, completion.echo.then(|| text.clone()))
    };
    Ok(completion.prompts.iter().map(tokens).collect())
}

fn inputs_of(loaded: &Loaded, embedding: &Embedding) -> Result<Vec<Vec<LlamaToken>>, Error> {
    let invalid =
        |code, index: usize, said: String| Error::new(code, said).with_param(format!("input[{index}]"));
    if embedding.inputs.is_empty() || embedding.inputs.len() > MOST_INPUTS {
        let said = format!("expected 1 to {MOST_INPUTS} inputs, found {}", embedding.inputs.len());
        return Err(Error::new(Code::InvalidValue, said).with_param("input"));
    }
    let mut inputs = Vec::with_capacity(embedding.inputs.len());
    for (index, input) in embedding.inputs.iter().enumerate() {
        let tokens = match input {
            EmbeddingInput::Text(text) => loaded.model.vocab().tokenize(text.as_bytes(), true, false),
            EmbeddingInput::Tokens(ids) => {
                if let Some(id) = ids.iter().find(|id| **id as usize >= loaded.vocabulary.len()) {
                    let said = format!(
                        "the token {id} is not in the vocabulary of {} tokens",
                        loaded.vocabulary.len()
                    );
                    return Err(invalid(Code::InvalidValue, index, said));
                }
                ids.iter().map(|id| LlamaToken(*id as i32)).collect()
            }
        };
        if tokens.is_empty() {
            return Err(invalid(
                Code::InvalidValue,
                index,
                "the input is empty: expected at least one token".to_owned(),
            ));
        }
        if tokens.len() > loaded.context as usize {
            let said = format!(
                "this model reads {} tokens of one input, found {}: split the text",
                loaded.context,
                tokens.len()
            );
            return Err(invalid(Code::ContextLengthExceeded, index, said));
        }
        inputs.push(tokens);
    }
    Ok(inputs)
}

fn started(call: &Call) -> Delta {
    Delta::Started(Started { id: String::new(), model: call.model.to_string() })
}

fn dispatch(
    engine: &Engine,
    prompts: Prompts,
    call: &Call,
    sampling: &Sampling,
    plan: Plan,
) -> Result<Deltas, Error> {
    let choices = sampling.choices.unwrap_or(1).max(1);
    // Room for everything that can come, so that a slow reader never holds up the engine; it is bounded by the context,
    // and memory is taken only for what is really there.
    let answers = prompts.len().saturating_mul(choices as usize);
    let room = answers.saturating_mul(plan.most as usize * 2 + 16).saturating_add(8);
    let (replies, receiver) = mpsc::channel(room.min(tokio::sync::Semaphore::MAX_PERMITS));
    drop(replies.try_send(started(call)));
    let mut tokens = Vec::with_capacity(prompts.len());
    for (index, (prompt, echo)) in prompts.into_iter().enumerate() {
        tokens.push(prompt);
        let Some(text) = echo else { continue };
        for choice in 0..choices {
            let choice = index as u32 * choices + choice;
            drop(replies.try_send(Delta::Text { choice, text: text.clone(), logprobs: Vec::new() }));
        }
    }
    engine.generate(Order { prompts: tokens, choices, plan, replies })?;
    Ok(Box::pin(Answer { receiver, over: false }))
}

/// The engine's deltas. Usage is the last one of a complete answer, so an end without it is a broken engine.
struct Answer {
    receiver: mpsc::Receiver<Delta>,
    over: bool,
}

impl Stream for Answer {
    type Item = Delta;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delta>> {
        if self.over {
            return Poll::Ready(None);
        }
        let delta = match self.receiver.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(delta)) => delta,
            Poll::Ready(None) => Delta::Failed(unavailable(
                "the engine stopped before the answer was complete; restart the gateway",
            )),
        };
        self.over = matches!(delta, Delta::Usage(_) | Delta::Failed(_));
        Poll::Ready(Some(delta))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn an_engine_that_vanishes_is_told() {
        let (sender, receiver) = mpsc::channel(2);
        sender.try_send(Delta::Text { choice: 0, text: "half".into(), logprobs: Vec::new() }).unwrap();
        drop(sender);
        let deltas: Vec<Delta> = Answer { receiver, over: false }.collect().await;
        let [Delta::Text { .. }, Delta::Failed(error)] = deltas.as_slice() else { panic!("{deltas:?}") };
        assert_eq!(error.code(), Code::LocalModelUnavailable);
    }
}
