//! Serving: everything is put together, runs until a signal, and drains.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_admission::shared::Link;
use penstock_config::{Config, Loaded};
use penstock_domain::Error;
use penstock_edge::{Drain, Edge, EdgeSettings, Extra, StoreHealth, Surface};
use penstock_flow::Gateway;
use penstock_identity::{AuditLog, Keys};
use penstock_observe::{Metrics, QueueState, TargetState};
use penstock_provider::Health;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::administration::StoreState;
use crate::house::House;
use crate::people::People;
use crate::reload::Reloader;
use crate::snapshots::Snapshots;
use crate::stores::Stores;
use crate::{Failure, logging, wiring};

/// How often the database is asked whether another process changed a key.
const KEY_LOOK: Duration = Duration::from_millis(500);

/// What runs, for whoever announces it.
pub(crate) struct Serving {
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) audit: Arc<dyn AuditLog>,
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
}

/// Starts, announces, serves until SIGTERM or SIGINT, drains. `listen` is the address of the command line, which wins
/// over the file's on reload too.
pub(crate) fn run<F>(
    loaded: Loaded,
    listen: Option<SocketAddr>,
    announce: impl FnOnce(Serving) -> F,
) -> Result<ExitCode, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    logging::start(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!(path = warning.path, "{}", warning.message);
    }
    wiring::prepare(&loaded.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("penstock")
        .build()
        .map_err(|error| format!("the runtime cannot start: {error}"))?;
    // What is left at the end is memory, which goes with the process at once; piece by piece it would take a tenth of a second.
    ManuallyDrop::new(runtime).block_on(serve(Arc::new(loaded), listen, announce))
}

async fn serve<F>(
    loaded: Arc<Loaded>,
    listen: Option<SocketAddr>,
    announce: impl FnOnce(Serving) -> F,
) -> Result<ExitCode, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let config = &loaded.config;
    // Before the ports open: whoever can reach the gateway can also signal it.
    let mut signals = Signals::catch()?;
    let hangup = catch(SignalKind::hangup())?;
    let ports = Ports::open(config).await?;
    let Some(stores) = ready(config, &ports, &mut signals).await? else { return Ok(ExitCode::SUCCESS) };
    let (mut house, lasting, providers) = House::open(&loaded, stores).await?;
    let gateway = Gateway::new(lasting.parts(config, providers));
    let snapshots = Snapshots::new(Arc::clone(&loaded), gateway.clone(), lasting);
    let reloader = Reloader::new(snapshots, listen, Arc::clone(&house.metrics));
    let store = StoreState::default();
    let extra = house.extra(&gateway, reloader.current(), &store);
    let drain = Drain::new();
    let address = ports.address()?;
    let surfaces = ports.surfaces(config, &gateway, extra, &drain);
    let looking = tokio::spawn(look_at_people(Arc::clone(&house.people), store));
    let denying = house.noted.begin(&loaded).await;
    announce(Serving {
        loaded: Arc::clone(&loaded),
        keys: Arc::clone(&house.people.keys),
        audit: Arc::clone(&house.stores.audit),
        gateway: gateway.clone(),
        address,
    })
    .await?;
    // Who connected meanwhile has waited: nobody is answered before the first keys are where they belong.
    let listeners: Vec<_> =
        surfaces.into_iter().map(|(socket, edge)| tokio::spawn(penstock_edge::serve(socket, edge))).collect();
    let mut chores = house.chores(&gateway, &reloader.current());
    chores.extend([looking, denying, tokio::spawn(reloader.run(hangup))]);
    signals.terminated().await;
    drain.begin();
    // Those who watch would otherwise be waited for like an answer.
    house.nobody_watches();
    tokio::spawn(second_signal(signals, drain));
    for listener in listeners {
        // A listener that panicked has nothing left to drain.
        let _ = listener.await;
    }
    let closing = Instant::now();
    for task in chores {
        task.abort();
        let _ = task.await;
    }
    drop(gateway);
    house.close().await;
    tracing::info!(ms = closing.elapsed().as_millis(), "stopped");
    Ok(ExitCode::SUCCESS)
}

/// The stores, once they can be used; `None` when a signal came first. Whoever asks meanwhile hears that they are waited for.
async fn ready(
    config: &Config,
    ports: &Ports,
    signals: &mut Signals,
) -> Result<Option<Arc<Stores>>, Failure> {
    let said = |error: Error| error.say().to_owned();
    let stores = Arc::new(Stores::of(config).map_err(said)?);
    let missing: StoreHealth =
        Arc::new(|| Err("the database of stores.database is waited for; see the log".to_owned()));
    tokio::select! {
        biased;
        ready = stores.ready(config.stores.database_wait.0) => ready.map_err(said)?,
        () = signals.terminated() => return Ok(None),
        () = ports.wait(&missing) => {}
    }
    Ok(Some(stores))
}

/// The ports: one for everything, or a second one for administration.
struct Ports {
    main: TcpListener,
    admin: Option<TcpListener>,
}

impl Ports {
    /// Opens them. Nobody is answered there yet.
    async fn open(config: &Config) -> Result<Self, Failure> {
        let main = bind(config.server.listen).await?;
        let admin = match config.server.admin_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Self { main, admin })
    }

    fn address(&self) -> Result<SocketAddr, Failure> {
        self.main.local_addr().map_err(|error| format!("the listener has no address: {error}").into())
    }

    /// Tells whoever asks that this gateway is not ready, for as long as it is polled.
    async fn wait(&self, missing: &StoreHealth) {
        let main = penstock_edge::wait(&self.main, missing);
        match &self.admin {
            Some(admin) => drop(tokio::join!(main, penstock_edge::wait(admin, missing))),
            None => main.await,
        }
    }

    fn surfaces(
        self,
        config: &Config,
        gateway: &Gateway,
        extra: Extra,
        drain: &Drain,
    ) -> Vec<(TcpListener, Edge)> {
        let edge = |surface| {
            let settings = EdgeSettings { surface, ..settings(config) };
            Edge::new(gateway.clone(), settings, extra.clone(), drain.clone())
        };
        let surface = if self.admin.is_some() { Surface::Data } else { Surface::All };
        let admin = self.admin.map(|listener| (listener, edge(Surface::Admin)));
        admin.into_iter().chain([(self.main, edge(surface))]).collect()
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another program listens there; stop it or choose another port",
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose a higher one",
            _ => "choose an address of this machine",
        };
        format!("cannot listen on {address}: {error}; {hint} (server.listen or --listen)").into()
    })
}

fn settings(config: &Config) -> EdgeSettings {
    let server = &config.server;
    EdgeSettings {
        max_body: usize::try_from(server.max_body.0).unwrap_or(usize::MAX),
        max_in_flight: usize::try_from(server.max_in_flight).unwrap_or(usize::MAX),
        // Batch work, too, must be able to send a body of any size that is allowed.
        max_in_flight_bytes: usize::try_from(
            server.max_in_flight_bytes.0.max(server.max_body.0.saturating_mul(2)),
        )
        .unwrap_or(usize::MAX),
        header_timeout: server.header_timeout.0,
        body_timeout: server.body_timeout.0,
        write_timeout: server.write_timeout.0,
        keep_alive: server.keep_alive.0,
        drain: server.drain.0,
        trusted_proxies: server.trusted_proxies.clone(),
        console: crate::people::console(config).into_iter().collect(),
        ..EdgeSettings::default()
    }
}

/// The text of `/metrics`, with what is only known when it is asked for.
pub(crate) fn metrics_text(
    gateway: Gateway,
    metrics: Arc<Metrics>,
    link: Option<Arc<Link>>,
) -> penstock_edge::MetricsText {
    Arc::new(move || {
        if let Some(link) = &link {
            metrics.shared(&crate::ledger::told(link));
        }
        let flow = gateway.snapshot();
        for (name, health) in flow.health() {
            metrics.provider_up(&name, matches!(health, Health::Ready));
        }
        let targets = flow.targets();
        for of_one in targets.chunk_by(|a, b| a.provider == b.provider) {
            metrics.ejected(&of_one[0].provider, of_one.iter().map(|target| target.ejections).sum());
        }
        metrics.targets(targets.into_iter().map(|target| TargetState {
            provider: target.provider,
            credential: target.credential,
            model: target.model,
            state: target.state,
        }));
        metrics.queues(flow.waiting().into_iter().map(|(provider, class, waiting)| QueueState {
            provider,
            class,
            waiting,
        }));
        metrics.text()
    })
}

async fn look_at_people(people: Arc<People>, store: StoreState) {
    let mut every = tokio::time::interval(KEY_LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        every.tick().await;
        let looked = people.refresh().await;
        store.note(looked.is_err());
        match &looked {
            Ok(true) => tracing::info!("keys or teams changed"),
            Ok(false) => {}
            // Once, not twice a second: the keys in memory go on working meanwhile.
            Err(error) if !failing => {
                tracing::error!(%error, "keys and teams cannot be read; the known ones stay in force");
            }
            Err(_) => {}
        }
        failing = looked.is_err();
    }
}

/// The signals that end the program.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on the signals wait here instead of killing the process.
    pub(crate) fn catch() -> Result<Self, Failure> {
        Ok(Self { terminate: catch(SignalKind::terminate())?, interrupt: catch(SignalKind::interrupt())? })
    }

    /// Resolves at the next SIGTERM or SIGINT.
    pub(crate) async fn terminated(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn catch(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| format!("signals cannot be caught: {error}").into())
}

/// A second signal ends the grace at once.
async fn second_signal(mut signals: Signals, drain: Drain) {
    signals.terminated().await;
    tracing::warn!("second signal: open streams end now");
    drain.end();
}
