//! The edge itself: what a matched route does.

use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, request};
use http_body_util::Full;
use hyper::body::Incoming;
use penstock_dialect::{Encode, Fold, asker};
use penstock_domain::{Code, Credential, Dialect, Error, RequestId, Stage, Task};
use penstock_flow::{Gateway, Refusal};
use penstock_identity::{Needs, Route, Scope};
use penstock_provider::Alarm;
use tower::ServiceExt;

use crate::decode::{self, Arriving};
use crate::drain::{Drain, shutdown};
use crate::error::Refused;
use crate::idempotency::{Once, Standing};
use crate::intake::Intake;
use crate::reply::{self, Events, Reply, Source};
use crate::responses::{self, After, Recalled};
use crate::routes::Handler;
use crate::{EdgeSettings, Extra, models, pages, upload};

/// Largest body of an administration request: what it changes is small.
const MAX_ADMIN_BODY: usize = 64 << 10;

/// The HTTP face of a gateway. Cheap to clone; serve it with [`crate::serve`].
#[derive(Clone)]
pub struct Edge(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) gateway: Gateway,
    pub(crate) settings: EdgeSettings,
    pub(crate) extra: Extra,
    pub(crate) drain: Drain,
    pub(crate) intake: Arc<Intake>,
}

impl Edge {
    /// Puts HTTP in front of a gateway. The settings hold for the life of the listener; the gateway's snapshot may
    /// change under it. Several listeners may share one drain.
    pub fn new(gateway: Gateway, settings: EdgeSettings, extra: Extra, drain: Drain) -> Self {
        let intake = Intake::new(&settings);
        Self(Arc::new(Inner { gateway, settings, extra, drain, intake }))
    }

    /// The switch that ends it.
    pub fn drain(&self) -> &Drain {
        &self.0.drain
    }
}

/// One request on its way through the edge.
pub(crate) struct Visit<'a> {
    pub(crate) edge: &'a Inner,
    pub(crate) id: &'a RequestId,
    pub(crate) arrived: Instant,
    /// The address that it comes from.
    pub(crate) from: Option<IpAddr>,
    /// Whether somebody has taken over the duty to record this request.
    pub(crate) recorded: &'a AtomicBool,
    /// The body that was read for a route of ours, where another may answer it.
    pub(crate) kept: OnceLock<Bytes>,
}

pub(crate) type Outcome = Result<Response<Reply>, Box<Refused>>;

impl Visit<'_> {
    /// What the asker shows, and from where.
    pub(crate) fn credential(&self, headers: &HeaderMap) -> Credential {
        decode::credential(headers, self.from)
    }

    /// Authorises by the matched row, then answers.
    pub(crate) async fn serve(
        &self,
        route: &Route<Handler>,
        (rest, query): (&str, Option<&str>),
        headers: &HeaderMap,
        body: Incoming,
    ) -> Outcome {
        match (route.handler, route.needs) {
            (Handler::Infer(task, dialect), Needs::Scope(scope)) => {
                self.infer((task, dialect), (scope, route.path, query), headers, body).await
            }
            (Handler::Stored(what), Needs::Scope(scope)) => {
                Box::pin(self.stored((what, scope), (rest, query), headers)).await
            }
            (handler, Needs::Scope(scope)) => {
                let credential = self.credential(headers);
                let flow = self.edge.gateway.snapshot();
                let caller = flow.authorize(&credential, scope, None)?;
                let listed = flow.models(&caller);
                match handler {
                    Handler::Models => Ok(json(models::list(&listed, headers, query)?)),
                    Handler::Model => Ok(json(models::one(&listed, headers, rest)?)),
                    _ => Err(misrouted()),
                }
            }
            (handler, Needs::Nothing(_)) => self.open(handler, rest),
        }
    }

    /// Routes for everybody.
    fn open(&self, handler: Handler, rest: &str) -> Outcome {
        match handler {
            Handler::Live => Ok(json(&b"{\"status\":\"live\"}"[..])),
            Handler::Ready => Ok(pages::ready(self.edge)),
            Handler::Metrics => Ok(pages::metrics(self.edge)),
            Handler::OpenApi => Ok(json(self.edge.extra.openapi.clone())),
            Handler::Docs => Ok(pages::docs()),
            Handler::DocsScript => Ok(pages::docs_script()),
            Handler::ErrorPage => Ok(pages::error_page(rest)?),
            Handler::Home => Ok(pages::home()),
            Handler::Resource => Ok(pages::resource(self.edge)?),
            Handler::Infer(..) | Handler::Stored(_) | Handler::Models | Handler::Model | Handler::Relay => {
                Err(misrouted())
            }
        }
    }

    /// Hands a request to the admin router, its body read within the same bounds as any other.
    pub(crate) async fn admin(&self, mut parts: request::Parts, body: Incoming) -> Outcome {
        let Some(router) = self.edge.extra.admin.clone() else {
            return Err(Error::new(Code::RouteNotFound, "this listener has no administration").into());
        };
        let most = self.edge.settings.max_body.min(MAX_ADMIN_BODY);
        let bounds = EdgeSettings { max_body: most, ..self.edge.settings.clone() };
        let bytes = upload::read(&parts.headers, body, &bounds, None).await?;
        // Problems name the request they belong to.
        parts.extensions.insert(self.id.clone());
        if let Some(from) = self.from {
            parts.extensions.insert(from);
        }
        let request = Request::from_parts(parts, axum::body::Body::new(Full::new(bytes)));
        self.recorded.store(true, Ordering::Relaxed);
        let answered = self.edge.drain.unless_over(router.oneshot(request)).await?;
        Ok(answered.unwrap_or_else(|never| match never {}).map(Reply::routed))
    }

    async fn infer(
        &self,
        (task, dialect): (Task, Dialect),
        (scope, path, query): (Scope, &'static str, Option<&str>),
        headers: &HeaderMap,
        body: Incoming,
    ) -> Outcome {
        let flow = self.edge.gateway.snapshot();
        let arriving = Arriving {
            id: self.id,
            arrived: self.arrived,
            headers,
            task,
            dialect,
            from: self.from,
            kept: &self.kept,
        };
        let refuse = |error: Error| {
            let error = error.at(Stage::Decode);
            // What may be passed on is recorded once it is clear who answers.
            if !Handler::Infer(task, dialect).misses(&error) {
                self.refuse(Some(task), &error);
            }
            error
        };
        let (asked, credential, seat) =
            decode::decode(arriving, body, &flow, self.edge).await.map_err(refuse)?;
        let standing = Standing {
            flow: &flow,
            request: &asked,
            credential: &credential,
            scope,
            line: (path, path, query),
            headers,
        };
        let recording = match self.once(standing).await? {
            Once::Path(recording) => recording,
            Once::Replay(response) => return Ok(response),
        };
        let Recalled { request, after } = if dialect == Dialect::Responses {
            Box::pin(responses::recall(self.edge, &flow, &asked, (&credential, scope)))
                .await
                .map_err(refuse)?
        } else {
            Recalled::default()
        };
        // From here on the flow keeps the record, whichever way the request ends.
        self.recorded.store(true, Ordering::Relaxed);
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let asker = asker(dialect).ok_or_else(decode::nobody_asks)?;
        // The answer speaks of what was asked, not of what that became.
        let answered = if asked.stream {
            let encoder = asker.encoder(&asked, created);
            let request = request.unwrap_or(asked);
            let run = Box::pin(flow.run(request, credential, scope));
            self.stream(run, (dialect, after), encoder).await
        } else {
            let folder = asker.folder(&asked, created);
            let request = request.unwrap_or(asked);
            let dialect = request.body.dialect();
            // Pinned here, so that the future of folding does not carry room for it twice.
            let run = pin!(flow.run(request, credential, scope));
            self.fold(run, (dialect, after), folder).await
        };
        let answered = answered.map(|response| response.map(|reply| reply.seated(seat)));
        match recording {
            Some(recording) => Ok(Box::pin(recording.of(answered?)).await),
            None => answered,
        }
    }

    async fn fold(
        &self,
        run: Pin<&mut (impl Future<Output = Result<penstock_flow::Answer, Refusal>> + Send)>,
        (dialect, after): (Dialect, Option<After>),
        folder: Box<dyn Fold>,
    ) -> Outcome {
        let (mut bytes, head, bill) = {
            let whole = pin!(async move {
                let mut answer = run.await.map_err(refused)?;
                match reply::whole(&mut answer, dialect, folder).await {
                    Ok(bytes) => Ok((bytes, answer.head, answer.bill)),
                    Err(error) => Err(Box::new(Refused {
                        error: error.at(Stage::Reply),
                        head: Some(answer.head),
                        allow: None,
                        close: false,
                    })),
                }
            });
            self.edge.drain.unless_over(whole).await.map_err(|error| error.at(Stage::Call))??
        };
        if let Some(after) = after {
            // Boxed, as all that is rare here: every request would carry room for it.
            bytes = Box::pin(after.whole(bytes)).await;
        }
        let mut response = json(bytes);
        response.headers_mut().reserve(16);
        reply::describe(response.headers_mut(), &head, dialect);
        if let Some(cost) = bill.and_then(|bill| bill.cost().known()) {
            reply::price(response.headers_mut(), cost);
        }
        Ok(response)
    }

    /// Waits for the first content, which decides the status; after `hold_max` it commits without.
    async fn stream(
        &self,
        run: impl Future<Output = Result<penstock_flow::Answer, Refusal>> + Send + 'static,
        (dialect, after): (Dialect, Option<After>),
        encoder: Box<dyn Encode>,
    ) -> Outcome {
        let EdgeSettings { hold_max, keep_alive, .. } = self.edge.settings;
        let drain = &self.edge.drain;
        let mut run: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(run);
        let mut silence = Alarm::at(tokio::time::Instant::now() + hold_max);
        let first = std::future::poll_fn(|context| {
            if drain.is_over() {
                let refusal =
                    Refusal { error: shutdown().at(Stage::Call), head: penstock_flow::Head::default() };
                return Poll::Ready(Some(Err(refusal)));
            }
            match run.as_mut().poll(context) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending => silence.poll(context, tokio::time::Instant::now()).map(|()| None),
            }
        });
        let (source, head) = match pin!(first).await {
            Some(Err(refusal)) => return Err(refused(refusal)),
            Some(Ok(answer)) => (Source::Live(answer.deltas), Some(answer.head)),
            None => (Source::Running(run), None),
        };
        let events = Events::new(source, (dialect, after), encoder, silence, (keep_alive, drain.clone()));
        let mut response = reply::events(events);
        if let Some(head) = head {
            reply::describe(response.headers_mut(), &head, dialect);
        }
        Ok(response)
    }
}

pub(crate) fn refused(refusal: Refusal) -> Box<Refused> {
    Box::new(Refused { error: refusal.error, head: Some(refusal.head), allow: None, close: false })
}

/// A row whose `needs` and handler do not fit each other: a mistake in the table, found by the route matrix test.
fn misrouted() -> Box<Refused> {
    Error::new(Code::InternalError, "this route is wired wrongly").into()
}

pub(crate) fn json(body: impl Into<bytes::Bytes>) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
