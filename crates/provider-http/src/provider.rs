//! One vendor as a provider: a request goes out as bytes, an answer comes back as deltas.
//!
//! What it is: the call, in the order in which it happens: slot, URL, body, connection, status, answer.
//!
//! What it promises: the credential leaves only for the origin of `base_url`; no header of the asker is forwarded but the
//! hints of its dialect; no redirect is followed; every buffer and every wait is bounded; a request is repeated at most
//! once, and only when a pooled connection proves to have been closed before the vendor saw it.
//!
//! What it refuses to know: other candidates, retries by policy, who asks.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request as HttpRequest, Response, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use penstock_config::Problem;
use penstock_dialect::openai::request::{decode, decode_content};
use penstock_dialect::{Ask, DecodeLimits, Encoded, Refusal, Vendor as Wire, splice, vendor};
use penstock_domain::{Body, Code, Delta, Dialect, Error, Members, Request, Task};
use penstock_provider::{Call, Calling, Chat, Complete, Count, Deltas, Embed, Provider, Relay};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::address::segment;
use crate::clock::Clock;
use crate::connector::{Dial, Tls};
use crate::exchange::Arriving;
use crate::faults;
use crate::hints::hint;
use crate::pool::Pool;
use crate::presets::Preset;
use crate::settings::{Checked, Names, Settings};
use crate::sigv4::Signer;
use crate::stream::Events;
use crate::waits;

/// Largest whole answer, in bytes.
pub const MAX_BODY: usize = 64 << 20;
/// What is read of an error answer, in bytes, and for how long.
const MAX_ERROR_BODY: usize = 64 << 10;
const ERROR_BODY_WAIT: Duration = Duration::from_secs(5);
/// A pooled connection that the vendor had closed fails at once; what fails later was being worked on.
const STALE_WITHIN: Duration = Duration::from_secs(1);

/// Where Amazon names the kind of an error.
const ERROR_KIND: &str = "x-amzn-errortype";

const AGENT: &str = concat!("penstock/", env!("CARGO_PKG_VERSION"));

/// Stands for the model's name in a path.
const MODEL: &str = "{model}";

/// One of a vendor's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    Chat,
    ChatStream,
    Responses,
    CountTokens,
    Completions,
    Embeddings,
}

const SPOTS: usize = Spot::ALL.len();

impl Spot {
    const ALL: [Spot; 6] = [
        Spot::Chat,
        Spot::ChatStream,
        Spot::Responses,
        Spot::CountTokens,
        Spot::Completions,
        Spot::Embeddings,
    ];

    fn path(self, preset: &Preset) -> Option<&'static str> {
        match self {
            Spot::Chat => preset.chat,
            Spot::ChatStream => preset.chat_stream,
            Spot::Responses => preset.responses,
            Spot::CountTokens => preset.count_tokens,
            Spot::Completions => preset.completions,
            Spot::Embeddings => preset.embeddings,
        }
    }
}

/// A vendor reached by HTTP.
pub struct Vendor {
    pub(crate) preset: &'static Preset,
    pub(crate) settings: Checked,
    pool: Pool,
    slots: Option<Arc<Semaphore>>,
    /// What it speaks, and how to askers of responses where it speaks that as well.
    pub(crate) wire: &'static dyn Wire,
    /// Signs requests, for vendors that want it.
    signer: Option<Signer>,
    responses: Option<&'static dyn Wire>,
    /// URLs that no request changes, by [`Spot`].
    fixed: [Option<Uri>; SPOTS],
}

impl Vendor {
    /// Makes the provider of a preset. Opens no connection and reads nothing but `ca_file`.
    ///
    /// # Errors
    /// Every problem of the settings.
    pub fn build(preset: &'static Preset, settings: Settings) -> Result<Self, Vec<Problem>> {
        let settings = settings.check(preset)?;
        let tls = match &settings.ca_file {
            None => Tls::System,
            Some(file) => Tls::only(file).map_err(|message| vec![Problem::error("ca_file", message)])?,
        };
        let wire = vendor(preset.dialect).ok_or_else(|| {
            let say = format!("providers of kind {} cannot be asked by this version", preset.kind);
            vec![Problem::error("kind", say)]
        })?;
        let fixed = Spot::ALL.map(|spot| {
            let path = spot.path(preset).filter(|path| !path.contains(MODEL))?;
            settings.address.url(path, None)
        });
        let dial = Dial::new(settings.address.origin(), settings.timeouts.connect, tls);
        let pool = Pool::new(dial, settings.address.host());
        Ok(Self {
            preset,
            wire,
            signer: None,
            // No vendor has it below a deployment.
            responses: preset
                .responses
                .filter(|_| matches!(settings.naming, Names::Body))
                .and_then(|_| vendor(Dialect::Responses)),
            pool,
            slots: settings.max_concurrency.map(|most| Arc::new(Semaphore::new(most as usize))),
            settings,
            fixed,
        })
    }

    /// The same vendor with its requests signed.
    pub(crate) fn signing(mut self, signer: Signer) -> Self {
        self.signer = Some(signer);
        self
    }

    async fn call(&self, call: Call) -> Result<Deltas, Error> {
        let slot = self.slot()?;
        let wire = self.wire(&call.request);
        let uri = self.url(self.spot(&call.request), &call.model)?;
        let Encoded { body, dropped } = self.body(&call, wire)?;
        let clock = Clock::start(self.settings.timeouts, call.deadline);
        let dress = || {
            let mut outgoing = self.dress(&uri, body.clone(), call.request.stream, call.credential)?;
            if call.request.body.dialect() == wire.dialect() {
                hint(self.preset, &call.request, outgoing.headers_mut());
            }
            Ok(outgoing)
        };
        let limit = first_limit(&call.request, &clock);
        let (response, sent) = self.send(&dress, limit, &clock).await?;
        let status = response.status();
        if status.is_success() {
            let answer = answer(response, (&call.request, wire), clock, sent, slot).await?;
            return Ok(lead(dropped, answer));
        }
        if status.is_redirection() {
            return Err(faults::redirect(status.as_u16()));
        }
        Err(refusal(response, &clock).await)
    }

    /// The dialect in which this request is asked: the asker's own where the vendor has it.
    fn wire(&self, request: &Request) -> &'static dyn Wire {
        match self.responses {
            Some(responses) if request.body.dialect() == Dialect::Responses => responses,
            // Counting is an ability of that dialect alone.
            Some(responses) if request.task == Task::CountTokens => responses,
            _ => self.wire,
        }
    }

    fn spot(&self, request: &Request) -> Spot {
        match request.task {
            Task::Chat if self.wire(request).dialect() == Dialect::Responses => Spot::Responses,
            Task::Chat if request.stream && self.preset.chat_stream.is_some() => Spot::ChatStream,
            Task::Chat => Spot::Chat,
            Task::Completion => Spot::Completions,
            Task::Embedding => Spot::Embeddings,
            Task::CountTokens => Spot::CountTokens,
            // Never asked here: a relayed request brings its own address.
            Task::Relay => Spot::Chat,
        }
    }

    pub(crate) fn slot(&self) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let Some(slots) = &self.slots else { return Ok(None) };
        let full = |_| {
            Error::new(Code::Overloaded, "the provider already has as many calls as max_concurrency allows")
        };
        Arc::clone(slots).try_acquire_owned().map(Some).map_err(full)
    }

    /// Where the request goes.
    fn url(&self, spot: Spot, model: &str) -> Result<Uri, Error> {
        let Some(path) = spot.path(self.preset) else {
            return Err(Error::new(Code::Unsupported, "the provider of this model has no such ability"));
        };
        let url = match &self.settings.naming {
            Names::Body => match &self.fixed[spot as usize] {
                Some(fixed) => Some(fixed.clone()),
                None => segment(bare(model, path))
                    .and_then(|model| self.settings.address.url(&path.replace(MODEL, &model), None)),
            },
            Names::Deployment { query, deployments } => {
                let deployment = deployments.get(model).map_or(model, String::as_str);
                segment(deployment).and_then(|deployment| {
                    self.settings.address.url(&format!("/openai/deployments/{deployment}{path}"), Some(query))
                })
            }
        };
        url.ok_or_else(|| {
            Error::new(Code::InvalidValue, "the model's name cannot be part of an address")
                .with_param("model")
        })
    }

    fn body(&self, call: &Call, wire: &dyn Wire) -> Result<Encoded, Error> {
        let request = &*call.request;
        if request.body.is_wire(wire.dialect()) {
            return self.same(request, &call.model).map(|body| Encoded { body, dropped: Vec::new() });
        }
        let ask = Ask {
            task: request.task,
            model: &call.model,
            stream: request.stream,
            ask_usage: self.settings.stream_options,
            max_tokens: self.settings.default_max_tokens,
            chats: self.preset.chats,
        };
        wire.encode(request.body.content()?, &ask)
    }

    /// The asker's own bytes, with what has to be exchanged.
    fn same(&self, request: &Request, model: &str) -> Result<Bytes, Error> {
        if !self.settings.stream_options && request.body.members().stream_options.is_some() {
            let request = without_stream_options(request)?;
            return Ok(splice::upstream_body_for(self.preset.chats, &request, model, false));
        }
        let ask_usage = self.settings.stream_options;
        Ok(splice::upstream_body_for(self.preset.chats, request, model, ask_usage))
    }

    /// Sends what `dress` makes until its headers are answered, for at most `limit`; once more if it met a stale
    /// connection. Also gives the instant from which the first token is awaited.
    pub(crate) async fn send(
        &self,
        dress: &(dyn Fn() -> Result<HttpRequest<Full<Bytes>>, Error> + Sync),
        limit: Duration,
        clock: &Clock,
    ) -> Result<(Response<Arriving>, Instant), Error> {
        let mut may_repeat = true;
        loop {
            let outgoing = dress()?;
            let connect = clock.timeouts.connect;
            // Pinned here, so that the futures around them do not carry room for them once more.
            let line = pin!(self.pool.line(may_repeat));
            let line = clock.phase(connect, faults::connect_late, line).await?;
            let line = line.map_err(|failed| faults::unanswered(failed, connect))?;
            let sent = Instant::now();
            let answering = pin!(line.ask(outgoing));
            match clock.phase(limit, faults::first_token_late, answering).await? {
                Ok(response) => return Ok((response, sent)),
                // Every turn uses up one pooled connection.
                Err(failed) if failed.is_unsent() => {}
                Err(failed) if may_repeat && failed.is_stale() && sent.elapsed() < STALE_WITHIN => {
                    may_repeat = false;
                }
                Err(failed) => return Err(faults::unanswered(failed, connect)),
            }
        }
    }

    /// The request with its headers. The credential is put on here and only here, and only for its own origin.
    pub(crate) fn dress(
        &self,
        uri: &Uri,
        body: Bytes,
        stream: bool,
        credential: u32,
    ) -> Result<HttpRequest<Full<Bytes>>, Error> {
        let mut request = HttpRequest::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let headers: &mut HeaderMap = request.headers_mut();
        headers.reserve(self.settings.private_headers.len() + 6);
        let accept = match stream {
            true if self.preset.dialect == Dialect::Bedrock => FRAMES,
            true => "text/event-stream",
            false => "application/json",
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
        if !self.settings.address.is_origin_of(uri) {
            return Err(Error::new(
                Code::InternalError,
                "a request was about to leave for another host than base_url names",
            ));
        }
        headers
            .extend(self.settings.private_headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        headers.extend(self.settings.keys.header(credential)?);
        if let Some(signer) = &self.signer {
            signer.sign(&mut request, &body, SystemTime::now())?;
        }
        Ok(request)
    }
}

/// The model's name for a path that brings its collection: some write it before the name as well (`models/gemini-…`).
fn bare<'m>(model: &'m str, path: &str) -> &'m str {
    let told = path.starts_with("/models/{model}");
    model.strip_prefix("models/").filter(|name| told && !name.is_empty()).unwrap_or(model)
}

/// The same request without its `stream_options`, for a vendor that would refuse it. Rare, so it may decode again.
fn without_stream_options(request: &Request) -> Result<Request, Error> {
    let body = &request.body;
    // The one member that a splice cuts out is the one that it is told to be ours.
    let members =
        Members { stream_options: None, penstock: body.members().stream_options, ..*body.members() };
    let marked = Body::new(body.dialect(), request.task, body.bytes().clone(), members, decode_content);
    let marked = Request { body: marked, ..request.clone() };
    let bytes = splice::upstream_body(&marked, &request.model, false);
    let decoded = decode(request.task, bytes, &DecodeLimits::default())?;
    let mut decoded = decoded.into_request(request.id.clone(), request.origin, request.deadline);
    if let Some(most) = body.bound() {
        decoded.body = decoded.body.bounded(most);
    }
    Ok(decoded)
}

/// How long headers may take: a stream's come at once and embeddings are quick, but a whole chat answer comes when its
/// last token is made, so only the total time bounds it.
fn first_limit(request: &Request, clock: &Clock) -> Duration {
    if request.stream || request.task == Task::Embedding {
        clock.timeouts.first_token
    } else {
        clock.timeouts.total
    }
}

/// The answer of a success status.
async fn answer(
    response: Response<Arriving>,
    (request, wire): (&Request, &dyn Wire),
    clock: Clock,
    sent: Instant,
    slot: Option<OwnedSemaphorePermit>,
) -> Result<Deltas, Error> {
    let media = media(response.headers(), request.stream);
    if response.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(faults::bad("the provider compressed its answer although it was asked not to"));
    }
    match (request.stream, media) {
        (true, Media::Events) => {
            let first_by = sent + clock.timeouts.first_token;
            let lane = wire.lane(request);
            Ok(Box::pin(Events::new(response.into_body(), lane, clock, first_by, slot)))
        }
        (_, Media::Json) => {
            let body = read_body(response, &clock).await?;
            Ok(Box::pin(stream::iter(wire.whole(request, body)?)))
        }
        (true, Media::Other) => {
            Err(faults::bad("expected a stream of events from the provider, found another content type"))
        }
        (false, _) => Err(faults::bad("expected JSON from the provider, found another content type")),
    }
}

/// Puts what the translation lost before the answer.
fn lead(dropped: Vec<String>, answer: Deltas) -> Deltas {
    if dropped.is_empty() {
        return answer;
    }
    Box::pin(stream::iter([Delta::Dropped(dropped)]).chain(answer))
}

/// The media type of Amazon's event streams.
const FRAMES: &str = "application/vnd.amazon.eventstream";

enum Media {
    Events,
    Json,
    Other,
}

/// What the answer says that it is; one that does not say is taken for what was asked, and read just as strictly.
fn media(headers: &HeaderMap, stream: bool) -> Media {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return if stream { Media::Events } else { Media::Json };
    };
    let value = value.to_str().unwrap_or_default();
    let name = value.split(';').next().unwrap_or_default().trim();
    if name.eq_ignore_ascii_case("text/event-stream") || name.eq_ignore_ascii_case(FRAMES) {
        Media::Events
    } else if name.eq_ignore_ascii_case("application/json") {
        Media::Json
    } else {
        Media::Other
    }
}

/// Reads a whole body, bounded in size, silence and total time.
async fn read_body(response: Response<Arriving>, clock: &Clock) -> Result<Bytes, Error> {
    let too_large = || faults::bad(format!("the provider's answer is larger than {} MiB", MAX_BODY >> 20));
    let mut body = response.into_body();
    let announced = body.size_hint().lower();
    if announced > MAX_BODY as u64 {
        return Err(too_large());
    }
    let Some(first) = next_chunk(&mut body, clock).await? else { return Ok(Bytes::new()) };
    // One chunk is the usual case and is not copied.
    let Some(mut chunk) = next_chunk(&mut body, clock).await? else { return Ok(first) };
    // The announced length is believed up to a bound: nobody has sent it yet.
    let mut whole = BytesMut::with_capacity((announced.min(1 << 20) as usize).max(first.len() + chunk.len()));
    whole.extend_from_slice(&first);
    loop {
        if whole.len() + chunk.len() > MAX_BODY {
            return Err(too_large());
        }
        whole.extend_from_slice(&chunk);
        match next_chunk(&mut body, clock).await? {
            Some(next) => chunk = next,
            None => return Ok(whole.freeze()),
        }
    }
}

/// The next piece of a body; `None` at its proper end.
async fn next_chunk(body: &mut Arriving, clock: &Clock) -> Result<Option<Bytes>, Error> {
    while let Some(frame) = clock.phase(clock.timeouts.idle, faults::idle_late, body.frame()).await? {
        if let Ok(chunk) = frame.map_err(faults::cut)?.into_data() {
            return Ok(Some(chunk));
        }
    }
    Ok(None)
}

/// What an error status means. Its body is a help, not a condition: whatever has come of it in time is used.
pub(crate) async fn refusal(response: Response<Arriving>, clock: &Clock) -> Error {
    let (head, mut body) = response.into_parts();
    let mut text = BytesMut::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(chunk) = frame.into_data() {
                let room = MAX_ERROR_BODY - text.len();
                text.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            if text.len() == MAX_ERROR_BODY {
                break;
            }
        }
    };
    // Late or cut, the status alone still says what happened.
    let _ = clock.phase(ERROR_BODY_WAIT, faults::idle_late, reading).await;
    let kind = head.headers.get(ERROR_KIND).and_then(|kind| kind.to_str().ok());
    let refusal = Refusal {
        status: head.status.as_u16(),
        // A name, and sometimes an address after a colon.
        kind: kind.and_then(|kind| kind.split(':').next()),
        wait: waits::retry_after(&head.headers),
        reset: waits::reset(&head.headers),
        body: &text,
    };
    refusal.meaning()
}

impl Provider for Vendor {
    fn kind(&self) -> &'static str {
        self.preset.kind
    }

    fn credentials(&self) -> u32 {
        self.settings.keys.count()
    }

    fn chat(&self) -> Option<&dyn Chat> {
        self.preset.chat.map(|_| self as &dyn Chat)
    }

    fn complete(&self) -> Option<&dyn Complete> {
        self.preset.completions.map(|_| self as &dyn Complete)
    }

    fn embed(&self) -> Option<&dyn Embed> {
        self.preset.embeddings.map(|_| self as &dyn Embed)
    }

    fn count(&self) -> Option<&dyn Count> {
        // Who imitates OpenAI elsewhere has no such path.
        let own = self.preset.dialect != Dialect::OpenAi
            || self
                .preset
                .base_url
                .and_then(|url| url.parse().ok())
                .is_some_and(|url: Uri| self.settings.address.is_origin_of(&url));
        self.preset.count_tokens.filter(|_| own).map(|_| self as &dyn Count)
    }

    fn relay(&self) -> Option<&dyn Relay> {
        self.can_relay().then_some(self)
    }
}

impl Chat for Vendor {
    fn chat(&self, call: Call) -> Calling<'_> {
        Box::pin(self.call(call))
    }
}

impl Complete for Vendor {
    fn complete(&self, call: Call) -> Calling<'_> {
        Box::pin(self.call(call))
    }
}

impl Count for Vendor {
    fn count(&self, call: Call) -> Calling<'_> {
        Box::pin(self.call(call))
    }
}

impl Embed for Vendor {
    fn embed(&self, call: Call) -> Calling<'_> {
        Box::pin(self.call(call))
    }
}

#[cfg(test)]
mod tests;
