//! One request: its route, its script, its answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use penstock_dialect::{DecodeLimits, Fold as _, openai};
use penstock_domain::{Delta, Dialect, Error, Origin, RequestId, Task};
use serde_json::json;

use super::events::{Encoder, Events};
use super::gemini::{self, Verb};
use super::reply::{Broken, Reply};
use super::vendor;
use super::wire::Order;
use super::{Head, Shared, messages, responses};
use crate::answer::{Answer, Step, embedding_usage, millis, vectors};
use crate::asked::{Asked, View};
use crate::script::{Directives, Hang, MAX_INLINE_SCRIPT, Script, ScriptError};
use crate::select::Facts;
use crate::stats::{InFlight, bare, credential};

/// The largest body that is read.
const MAX_BODY: usize = 32 * 1024 * 1024;
/// When every answer was made, so that answers are the same on every day.
const CREATED: u64 = 1_700_000_000;
/// The header that carries a script.
const SCRIPT_HEADER: &str = "x-mock-script";

/// What a path means, by its end: gateways put all kinds of prefixes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Generate(Dialect, Task),
    Gemini(Verb),
    CountTokens,
    Models,
    Model,
    Stats,
    Requests,
    Calls,
    Script,
    Reset,
    Nowhere,
}

impl Route {
    fn of(method: &Method, path: &str) -> Self {
        use Dialect::{Anthropic, OpenAi, Responses};
        let post = method == Method::POST;
        match path {
            "/mock/stats" if !post => Self::Stats,
            "/mock/requests" if !post => Self::Requests,
            "/mock/calls" if !post => Self::Calls,
            "/mock/script" if post => Self::Script,
            "/mock/reset" if post => Self::Reset,
            _ if post && path.ends_with("/chat/completions") => Self::Generate(OpenAi, Task::Chat),
            _ if post && path.ends_with("/completions") => Self::Generate(OpenAi, Task::Completion),
            _ if post && path.ends_with("/embeddings") => Self::Generate(OpenAi, Task::Embedding),
            _ if post && path.ends_with("/responses") => Self::Generate(Responses, Task::Chat),
            _ if post && path.ends_with("/messages") => Self::Generate(Anthropic, Task::Chat),
            _ if post && path.ends_with("/messages/count_tokens") => Self::CountTokens,
            _ if post && Verb::of(path).is_some() => {
                Verb::of(path).map_or(Self::Nowhere, |(verb, _)| Self::Gemini(verb))
            }
            _ if method == Method::GET && path.ends_with("/models") => Self::Models,
            _ if method == Method::GET && path.contains("/models/") => Self::Model,
            _ => Self::Nowhere,
        }
    }

    /// The path in statistics and for rules, whatever stood before it.
    fn name(self) -> &'static str {
        match self {
            Self::Generate(Dialect::Anthropic, _) => "/v1/messages",
            Self::Generate(Dialect::Responses, _) => "/v1/responses",
            Self::Generate(_, Task::Chat | Task::CountTokens) => "/v1/chat/completions",
            Self::Generate(_, Task::Completion) => "/v1/completions",
            Self::Generate(_, Task::Embedding) => "/v1/embeddings",
            Self::Gemini(verb) => verb.name(),
            Self::CountTokens => "/v1/messages/count_tokens",
            Self::Models => "/v1/models",
            Self::Model => "/v1/models/{id}",
            Self::Stats | Self::Requests | Self::Calls | Self::Script | Self::Reset => "/mock",
            Self::Generate(_, Task::Relay) | Self::Nowhere => "other",
        }
    }

    fn dialect(self) -> Dialect {
        match self {
            Self::Generate(dialect, _) => dialect,
            Self::CountTokens => Dialect::Anthropic,
            Self::Gemini(_) => Dialect::Gemini,
            _ => Dialect::OpenAi,
        }
    }
}

/// A request with everything that answering it needs.
struct Turn {
    shared: Arc<Shared>,
    route: Route,
    /// HTTP/1.1 alone breaks its connection.
    order: Option<Arc<Order>>,
    /// The credential that came with the request.
    key: Option<HeaderValue>,
    id: u64,
}

/// A refusal that the mock itself makes.
struct Refused {
    status: u16,
    say: String,
    param: Option<String>,
}

impl From<ScriptError> for Refused {
    fn from(error: ScriptError) -> Self {
        Self { status: 400, say: error.say, param: Some("mock".to_owned()) }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { status: 400, say: error.say().to_owned(), param: error.param().map(str::to_owned) }
    }
}

fn refused(say: impl Into<String>) -> Refused {
    Refused { status: 400, say: say.into(), param: None }
}

/// Answers one request.
pub(crate) async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    order: Arc<Order>,
) -> Result<Response<Reply>, Broken> {
    let route = Route::of(request.method(), request.uri().path());
    match route {
        Route::Stats => return Ok(json_reply(&shared.counters.stats())),
        Route::Requests => return Ok(json_reply(&shared.counters.requests())),
        Route::Calls => return Ok(json_reply(&shared.counters.calls())),
        Route::Script => return Ok(replace_script(request, &shared).await),
        Route::Reset => {
            shared.reset();
            return Ok(json_reply(&json!({"reset": true})));
        }
        _ => {}
    }
    let order = (request.version() != Version::HTTP_2).then_some(order);
    let id = shared.ids.fetch_add(1, Ordering::Relaxed);
    let key = credential(request.headers()).cloned();
    let turn = Turn { shared, route, order, key, id };
    match turn.take(request).await {
        Ok(response) => response,
        Err(refused) => {
            let body =
                vendor::error_body(route.dialect(), refused.status, &refused.say, refused.param.as_deref());
            Ok(turn.respond(refused.status, "application/json", Reply::plain(body), None))
        }
    }
}

impl Turn {
    async fn take(&self, request: Request<Incoming>) -> Result<Result<Response<Reply>, Broken>, Refused> {
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let say = format!("the body is larger than {MAX_BODY} bytes");
                return Err(Refused { status: 413, say, param: None });
            }
            Err(_) => return Err(refused("the body ended before its announced length")),
        };
        let script = parts.headers.get(SCRIPT_HEADER).cloned();
        let script = script.as_ref().map(inline_text).transpose()?;
        let uri = parts.uri.path_and_query().map_or_else(|| parts.uri.path().to_owned(), ToString::to_string);
        let model = parts.uri.path().rsplit_once("/models/").map(|(_, model)| model.to_owned());
        self.shared.counters.seen(parts.method, uri, parts.headers, &body);
        match self.route {
            Route::Generate(dialect, task) => self.generate(dialect, task, body, script).await,
            Route::Gemini(verb) => {
                self.gemini(verb, (parts.uri.path(), parts.uri.query()), &body, script).await
            }
            Route::CountTokens => self.count_tokens(&body, script).await,
            Route::Models | Route::Model => Ok(self.models(model, script).await?),
            _ => Err(Refused { status: 404, say: "the mock has no such path".to_owned(), param: None }),
        }
    }

    async fn generate(
        &self,
        dialect: Dialect,
        task: Task,
        body: Bytes,
        script: Option<String>,
    ) -> Result<Result<Response<Reply>, Broken>, Refused> {
        if dialect == Dialect::Responses {
            let (head, asked, own) = responses::read(&body)?;
            let own = script.as_deref().or(own.as_deref());
            let directives = self.directives(own, None, &asked.model, &asked.text)?;
            return self.play(&head, None, asked, directives).await;
        }
        let (head, request) = match dialect {
            Dialect::Anthropic => (messages::head(&body)?, None),
            _ => {
                let decoded = openai::request::decode(task, body.clone(), &DecodeLimits::default())?;
                let id = RequestId::new(format!("req_mock_{:06}", self.id));
                let request = decoded.into_request(id, Origin::Http, None);
                let head = Head {
                    model: request.model.as_ref().to_owned(),
                    stream: request.stream && task != Task::Embedding,
                    choices: request.choices,
                    max_tokens: request.max_output_tokens,
                };
                (head, Some(request))
            }
        };
        let mut view: View<'_> = read_view(&body)?;
        let own = view.mock.take();
        let asked = view.asked(&head);
        let directives =
            self.directives(script.as_deref(), own.map(|own| own.get()), &asked.model, &asked.text)?;
        self.play(&head, request, asked, directives).await
    }

    async fn gemini(
        &self,
        verb: Verb,
        (path, query): (&str, Option<&str>),
        body: &[u8],
        script: Option<String>,
    ) -> Result<Result<Response<Reply>, Broken>, Refused> {
        let model = Verb::of(path).map_or("", |(_, model)| model);
        if verb == Verb::Count {
            let directives = self.directives(script.as_deref(), None, model, "")?;
            let bytes = json!({"totalTokens": gemini::count(body, model)?}).to_string();
            return Ok(self.simple(&directives, bytes).await);
        }
        let (head, asked) = match verb {
            Verb::Embed => gemini::embed(body, model)?,
            _ => gemini::generate(body, verb, model)?,
        };
        // Without it Google streams one long JSON list, which nobody asks for.
        if head.stream && query.is_none_or(|query| !query.split('&').any(|pair| pair == "alt=sse")) {
            return Err(refused("the mock streams with alt=sse alone"));
        }
        let directives = self.directives(script.as_deref(), None, &asked.model, &asked.text)?;
        self.play(&head, None, asked, directives).await
    }

    /// Answers under a script.
    async fn play(
        &self,
        head: &Head,
        request: Option<penstock_domain::Request>,
        asked: Asked,
        directives: Arc<Directives>,
    ) -> Result<Result<Response<Reply>, Broken>, Refused> {
        let mut flight = self.shared.counters.begin(head.stream);
        flight.of(self.route.name(), &asked.model, self.key.clone());
        match self.before(&directives, &mut flight).await {
            Early::Broken => return Ok(Err(Broken)),
            Early::Reply(response) => {
                flight.status(response.status);
                let whole = Reply::whole(response.bytes, &directives, self.order.clone(), flight);
                return Ok(Ok(self.respond(response.status, response.kind, whole, Some(&directives))));
            }
            Early::Answer => {}
        }
        self.shared.counters.bill_prompt(asked.prompt_tokens);
        flight.status(200);
        if head.stream {
            flight.open();
            let answer = Answer::new(Arc::clone(&directives), asked, self.id);
            let encoder = match &request {
                Some(request) => {
                    Encoder::OpenAi(Box::new(openai::stream::StreamEncoder::new(request, CREATED)))
                }
                None if self.route.dialect() == Dialect::Gemini => {
                    Encoder::Gemini(Box::new(gemini::Encoder::new(answer.reported())))
                }
                None if self.route.dialect() == Dialect::Responses => Encoder::Responses(Box::default()),
                None => Encoder::Anthropic(Box::new(messages::Encoder::new(answer.reported()))),
            };
            let events = Events::new(answer, encoder, &directives);
            let reply = Reply::events(events, &directives, self.order.clone(), flight);
            return Ok(Ok(self.respond(200, "text/event-stream", reply, Some(&directives))));
        }
        let bytes = self.whole(request.as_ref(), &directives, asked, &mut flight).await?;
        let reply = Reply::whole(bytes, &directives, self.order.clone(), flight);
        Ok(Ok(self.respond(200, "application/json", reply, Some(&directives))))
    }

    /// The body of an answer that is no stream. Its pauses pass before the headers, as they do at vendors.
    async fn whole(
        &self,
        request: Option<&penstock_domain::Request>,
        directives: &Arc<Directives>,
        asked: Asked,
        flight: &mut InFlight,
    ) -> Result<Bytes, Refused> {
        let mut fold = match request {
            Some(request) => Fold::OpenAi(Box::new(openai::response::Folder::new(request, CREATED))),
            None if self.route.dialect() == Dialect::Gemini => Fold::Gemini(Box::new(gemini::Folder::new())),
            None if self.route.dialect() == Dialect::Responses => Fold::Responses(Box::default()),
            None => Fold::Anthropic(Box::default()),
        };
        if self.route == Route::Gemini(Verb::Embed) {
            return Ok(gemini::vectors(&vectors(directives, &asked)));
        }
        if request.is_some_and(|request| request.task == Task::Embedding) {
            fold.push(Delta::Vectors(vectors(directives, &asked)))?;
            if let Some(usage) = embedding_usage(directives, &asked) {
                fold.push(Delta::Usage(usage))?;
            }
            return Ok(fold.finish()?);
        }
        let mut directives = Arc::clone(directives);
        if directives.hang == Some(Hang::MidStream) {
            // The body falls silent, not the making of it.
            Arc::make_mut(&mut directives).hang = None;
        }
        let mut answer = Answer::new(directives, asked, self.id);
        let mut pauses = Duration::ZERO;
        for step in &mut answer {
            match step {
                Step::Pause(pause) => pauses += pause,
                Step::Say(delta) => fold.push(delta)?,
                Step::Hang => {}
            }
        }
        if !pauses.is_zero() {
            tokio::time::sleep(pauses).await;
        }
        flight.bill_completion(answer.produced());
        Ok(fold.finish()?)
    }

    async fn count_tokens(
        &self,
        body: &Bytes,
        script: Option<String>,
    ) -> Result<Result<Response<Reply>, Broken>, Refused> {
        let mut view: View<'_> = read_view(body)?;
        let own = view.mock.take();
        let directives = self.directives(script.as_deref(), own.map(|own| own.get()), "", "")?;
        let bytes = json!({"input_tokens": view.prompt_tokens()}).to_string();
        Ok(self.simple(&directives, bytes).await)
    }

    async fn models(
        &self,
        model: Option<String>,
        script: Option<String>,
    ) -> Result<Result<Response<Reply>, Broken>, Refused> {
        let directives = self.directives(script.as_deref(), None, model.as_deref().unwrap_or(""), "")?;
        let row = |id: &str| json!({"id": id, "object": "model", "created": CREATED, "owned_by": "mock"});
        let bytes = match model {
            Some(model) => row(&model),
            None => {
                let rows: Vec<_> = self.shared.selector().models().iter().map(|id| row(id)).collect();
                json!({"object": "list", "data": rows})
            }
        };
        Ok(self.simple(&directives, bytes.to_string()).await)
    }

    /// A small JSON answer under a script.
    async fn simple(&self, directives: &Arc<Directives>, bytes: String) -> Result<Response<Reply>, Broken> {
        let mut flight = self.shared.counters.begin(false);
        flight.of(self.route.name(), "", self.key.clone());
        let (status, kind, bytes) = match self.before(directives, &mut flight).await {
            Early::Broken => return Err(Broken),
            Early::Reply(response) => (response.status, response.kind, response.bytes),
            Early::Answer => (200, "application/json", Bytes::from(bytes)),
        };
        flight.status(status);
        let reply = Reply::whole(bytes, directives, self.order.clone(), flight);
        Ok(self.respond(status, kind, reply, Some(directives)))
    }

    fn directives(
        &self,
        header: Option<&str>,
        member: Option<&str>,
        model: &str,
        text: &str,
    ) -> Result<Arc<Directives>, Refused> {
        if let Some(own) = header.or(member) {
            return Ok(self.shared.selector().inline(own)?);
        }
        let text = || Cow::Borrowed(text);
        let key = self.key.as_ref().and_then(|key| key.to_str().ok()).map(bare);
        Ok(self.shared.selector().select(&Facts { path: self.route.name(), model, key, text: &text }))
    }

    /// What happens before, or instead of, an answer.
    async fn before(&self, directives: &Directives, flight: &mut InFlight) -> Early {
        if let Some(latency) = directives.latency_ms {
            tokio::time::sleep(millis(latency)).await;
        }
        if directives.hang == Some(Hang::BeforeHeaders) {
            std::future::pending::<()>().await;
        }
        if let (Some(cut), None, None) = (directives.cut, directives.cut_at_byte, directives.cut_at_event) {
            flight.complete();
            self.shared.counters.answered(self.route.name(), 0);
            let Some(order) = &self.order else { return Early::Broken };
            order.cut(cut);
            // The connection breaks at its next flush and takes this future with it.
            std::future::pending::<()>().await;
        }
        let text = match &directives.body {
            Some(serde_json::Value::String(text)) => Some(text.clone()),
            Some(value) => Some(value.to_string()),
            None => directives.raw_body.clone(),
        };
        let kind = "application/json";
        match (directives.status, text) {
            (None, None) => Early::Answer,
            (status, Some(text)) => {
                Early::Reply(Instead { status: status.unwrap_or(200), kind, bytes: text.into() })
            }
            (Some(status), None) => {
                let say = format!("the mock was told to answer with status {status}");
                let bytes = vendor::error_body(self.route.dialect(), status, &say, None).into();
                Early::Reply(Instead { status, kind, bytes })
            }
        }
    }

    fn respond(
        &self,
        status: u16,
        kind: &'static str,
        reply: Reply,
        directives: Option<&Directives>,
    ) -> Response<Reply> {
        self.shared.counters.answered(self.route.name(), status);
        let mut response = Response::new(reply);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if kind == "text/event-stream" {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        let name = match self.route.dialect() {
            Dialect::Anthropic => HeaderName::from_static("request-id"),
            _ => HeaderName::from_static("x-request-id"),
        };
        if let Ok(id) = HeaderValue::try_from(format!("req_mock_{:06}", self.id)) {
            headers.insert(name, id);
        }
        if let Some(directives) = directives {
            vendor::add_headers(headers, directives);
        }
        response
    }
}

/// What happens before an answer.
enum Early {
    Answer,
    Reply(Instead),
    Broken,
}

/// What is sent instead of an answer.
struct Instead {
    status: u16,
    kind: &'static str,
    bytes: Bytes,
}

/// The folder of a dialect.
enum Fold {
    OpenAi(Box<openai::response::Folder>),
    Anthropic(Box<messages::Folder>),
    Gemini(Box<gemini::Folder>),
    Responses(Box<responses::Writer>),
}

impl Fold {
    fn push(&mut self, delta: Delta) -> Result<(), Error> {
        match self {
            Self::OpenAi(folder) => folder.push(delta),
            Self::Anthropic(folder) => {
                folder.push(delta);
                Ok(())
            }
            Self::Gemini(folder) => {
                folder.push(delta);
                Ok(())
            }
            Self::Responses(writer) => {
                writer.encode(delta, &mut BytesMut::new());
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Bytes, Error> {
        match self {
            Self::OpenAi(folder) => folder.finish(),
            Self::Anthropic(folder) => Ok(folder.finish()),
            Self::Gemini(folder) => Ok(folder.finish()),
            Self::Responses(writer) => Ok(writer.whole()),
        }
    }
}

fn inline_text(value: &HeaderValue) -> Result<String, Refused> {
    if value.len() > MAX_INLINE_SCRIPT {
        let say = format!(
            "the header {SCRIPT_HEADER} has {} bytes, at most {MAX_INLINE_SCRIPT} are read",
            value.len()
        );
        return Err(refused(say));
    }
    let text = std::str::from_utf8(value.as_bytes());
    text.map(str::to_owned).map_err(|_| refused(format!("the header {SCRIPT_HEADER} is not UTF-8")))
}

fn read_view(body: &[u8]) -> Result<View<'_>, Refused> {
    serde_json::from_slice(body).map_err(|error| refused(format!("the mock cannot read the body: {error}")))
}

/// Follows another script from now on, which starts every rule again; the count goes on.
async fn replace_script(request: Request<Incoming>, shared: &Shared) -> Response<Reply> {
    let script = match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => {
            let script = Script::from_json(&String::from_utf8_lossy(&body.to_bytes()));
            script.and_then(|script| script.check_served().map(|()| script))
        }
        Err(_) => {
            Err(ScriptError { directive: String::new(), say: "the script did not arrive whole".to_owned() })
        }
    };
    match script {
        Ok(script) => {
            shared.follow(script);
            json_reply(&json!({"script": "replaced"}))
        }
        Err(error) => {
            let mut response =
                json_reply(&json!({"error": {"message": error.say, "param": error.directive}}));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    }
}

fn json_reply(value: &impl serde::Serialize) -> Response<Reply> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Reply::plain(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
