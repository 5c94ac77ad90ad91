//! What replicas share, in Redis.
//!
//! What it is: [`RedisShared`], the port `Shared` of the admission as scripts that Redis runs, each as one step, over one
//! connection on which questions and answers overlap.
//!
//! What it promises: a request costs one round trip; nobody sees half of a step; numbers are whole and exact up to 2^53; a
//! lost connection is made anew by the keeper's next greeting and by nobody else, so that requests never wait for one; all
//! keys begin with `{penstock}` and so lie in one slot of a cluster; accounts that nobody uses expire.
//!
//! What it refuses to know: who asks, what happens when Redis is gone.

mod address;
mod arguments;
mod reply;

use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use penstock_admission::Level;
use penstock_admission::ledger::{GatewayId, Pending};
use penstock_admission::shared::{Changes, Hold, Place, Present, Reply, Seen, Share, Shared};
use penstock_domain::{Code, Error, Secret};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Script, Value};

/// What every key begins with.
const PREFIX: &str = "{penstock}:";
/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(1);
/// How long an answer may take at most; whoever asks waits for less.
const ANSWERING: Duration = Duration::from_secs(5);
/// How long the requests of a gateway are known that does not greet: longer than their accounts.
const FORGOTTEN: Duration = Duration::from_secs(4 * 86_400);

struct Scripts {
    reserve: Script,
    put: Script,
    greet: Script,
    bury: Script,
}

fn scripts() -> &'static Scripts {
    static SCRIPTS: OnceLock<Scripts> = OnceLock::new();
    SCRIPTS.get_or_init(|| {
        let with = |text: &str| Script::new(&format!("{}\n{text}", include_str!("common.lua")));
        Scripts {
            reserve: with(include_str!("reserve.lua")),
            put: with(include_str!("put.lua")),
            greet: with(include_str!("greet.lua")),
            bury: with(include_str!("bury.lua")),
        }
    })
}

/// What replicas share, at one Redis.
pub struct RedisShared {
    client: Client,
    gateway: GatewayId,
    /// The key of this gateway's requests.
    requests: String,
    link: Mutex<Option<MultiplexedConnection>>,
    /// The state that this gateway belongs to.
    epoch: Mutex<String>,
}

impl RedisShared {
    /// For a gateway, at an address such as `redis://:PASSWORD@HOST:6379/0` or `rediss://…`, behind which
    /// `?sslrootcert=FILE` may name the authorities to trust instead of the system's. Reads that file; connects nowhere yet.
    ///
    /// # Errors
    /// `invalid_value` when this is no address, which is not repeated, or when the file cannot be used.
    pub fn new(address: &Secret, gateway: GatewayId) -> Result<Self, Error> {
        let client = address::client(address.expose())?;
        let requests = format!("{PREFIX}h:{}", gateway.as_str());
        Ok(Self { client, gateway, requests, link: Mutex::new(None), epoch: Mutex::new(String::new()) })
    }

    /// Whether the server can be reached and takes our scripts; makes nothing.
    ///
    /// # Errors
    /// `store_unavailable`, with a sentence on the mend.
    pub async fn reach(&self) -> Result<(), Error> {
        let mut link = self.connect().await?;
        redis::cmd("PING").exec_async(&mut link).await.map_err(|error| failed(&error))
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Error> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTING))
            .set_response_timeout(Some(ANSWERING));
        let made = self.client.get_multiplexed_async_connection_with_config(&settings).await;
        let mut link = made.map_err(|error| failed(&error))?;
        let Scripts { reserve, put, greet, bury } = scripts();
        for script in [reserve, put, greet, bury] {
            script.prepare_invoke().load_async(&mut link).await.map_err(|error| failed(&error))?;
        }
        Ok(link)
    }

    /// Asks over the connection that there is.
    async fn ask(&self, command: &Cmd) -> Result<Vec<Value>, Error> {
        let link = self.link.lock().clone();
        let Some(mut link) = link else {
            return Err(Error::new(Code::StoreUnavailable, "there is no connection to Redis"));
        };
        match command.query_async(&mut link).await {
            Ok(values) => Ok(values),
            Err(error) => {
                // One that answers nothing in time may answer late, and what it then says nobody wants to hear.
                *self.link.lock() = None;
                Err(failed(&error))
            }
        }
    }
}

impl Shared for RedisShared {
    fn reserve<'a>(&'a self, hold: &'a Hold) -> Pending<'a, Reply> {
        Box::pin(async move {
            let epoch = self.epoch.lock().clone();
            let number = hold.number.to_string();
            let asked = arguments::reserve(&self.requests, (&epoch, &number), &hold.shares, &hold.need);
            reply::reserved(&hold.shares, &self.ask(&asked).await?)
        })
    }

    fn look<'a>(&'a self, shares: &'a [Share]) -> Pending<'a, Vec<Option<Seen>>> {
        Box::pin(async move {
            let asked = arguments::reserve(&self.requests, ("", ""), shares, &Default::default());
            reply::looked(shares, &self.ask(&asked).await?)
        })
    }

    fn put<'a>(&'a self, changes: &'a Changes) -> Pending<'a, Vec<u64>> {
        Box::pin(async move {
            let epoch = self.epoch.lock().clone();
            let asked = arguments::put(&self.requests, &epoch, changes);
            reply::numbers(&self.ask(&asked).await?)
        })
    }

    fn greet(&self, whole: bool) -> Pending<'_, Present> {
        Box::pin(async move {
            if self.link.lock().is_none() {
                let link = self.connect().await?;
                *self.link.lock() = Some(link);
            }
            let mut asked = call(&scripts().greet, 2);
            asked.arg(key("common")).arg(key("gateways")).arg(self.gateway.as_str());
            asked.arg(GatewayId::random().as_str()).arg(u8::from(whole)).arg(key("h:"));
            asked.arg(FORGOTTEN.as_millis().to_string());
            let (epoch, present) = reply::present(&self.ask(&asked).await?)?;
            *self.epoch.lock() = epoch;
            Ok(present)
        })
    }

    fn bury<'a>(&'a self, gateway: &'a GatewayId, go: bool) -> Pending<'a, Vec<Place>> {
        Box::pin(async move {
            let mut asked = call(&scripts().bury, 2);
            asked.arg(key("gateways")).arg(format!("{PREFIX}h:{}", gateway.as_str()));
            asked.arg(gateway.as_str()).arg(u8::from(go));
            reply::places(&self.ask(&asked).await?)
        })
    }
}

fn call(script: &Script, keys: usize) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(script.get_hash()).arg(keys);
    command
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The letter of a level in keys.
const LEVELS: [(Level, &str); 5] = [
    (Level::Key, "k"),
    (Level::Team, "t"),
    (Level::Organisation, "o"),
    (Level::Model, "m"),
    (Level::Provider, "p"),
];

fn account(place: &Place) -> String {
    let letter = LEVELS.iter().find(|(level, _)| *level == place.level).map_or("x", |(_, letter)| letter);
    format!("{PREFIX}a:{letter}:{}", place.name)
}

fn place(key: &str) -> Option<Place> {
    let (letter, name) = key.strip_prefix(PREFIX)?.strip_prefix("a:")?.split_once(':')?;
    let (level, _) = LEVELS.iter().find(|(_, known)| *known == letter)?;
    Some(Place { level: *level, name: name.into() })
}

/// What Redis says of itself may repeat an address, and never a password.
fn failed(error: &RedisError) -> Error {
    let why = match error.code() {
        Some(code) => format!("Redis answers {code}"),
        None if error.is_timeout() => "Redis does not answer in time".to_owned(),
        None if error.is_connection_refusal() => "Redis refuses the connection: is it running?".to_owned(),
        None => match insecure(error) {
            Some(why) => format!(
                "no secure connection to Redis ({why}): name an authority of your own by ?sslrootcert=FILE in stores.shared"
            ),
            None => format!("Redis cannot be asked ({})", error.category()),
        },
    };
    Error::new(Code::StoreUnavailable, why)
}

/// What TLS says of a certificate.
fn insecure(error: &RedisError) -> Option<String> {
    // The client hands out its own pointer to the cause.
    let cause = std::error::Error::source(error)?.downcast_ref::<Cause>()?;
    let io = cause.downcast_ref::<io::Error>()?;
    (io.kind() == io::ErrorKind::InvalidData).then(|| io.to_string())
}

type Cause = std::sync::Arc<dyn std::error::Error + Send + Sync>;

impl fmt::Debug for RedisShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisShared").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}
