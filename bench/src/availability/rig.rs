//! Upstreams that fail by script, and a gateway before them.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::wire::{KEY, once, request};
use crate::{Options, Trouble};

/// How long a process may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A scratch folder that goes with its owner.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A scripted upstream.
pub(crate) struct Mock {
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Mock {
    /// Follows this script from now on.
    pub(crate) async fn script(&self, script: &Value) -> Result<(), Trouble> {
        let reply = once(self.address, &request("POST", "/mock/script", &script.to_string())).await?;
        if reply.status != 200 {
            return Err(format!("the mock refused {script}: {}", String::from_utf8_lossy(&reply.body)).into());
        }
        Ok(())
    }

    /// Answers after so many milliseconds, and fails this share of requests at once, drawn by a seed.
    pub(crate) async fn fails(&self, share: f64, seed: u64, latency_ms: u64) -> Result<(), Trouble> {
        self.script(&json!({"default": {"text": "pong", "latency_ms": latency_ms}, "rules": [
            {"when": {"share": share, "seed": seed}, "do": {"status": 503}}]}))
            .await
    }

    /// How many requests arrived.
    pub(crate) async fn requests(&self) -> Result<u64, Trouble> {
        let reply = once(self.address, &request("GET", "/mock/stats", "")).await?;
        let stats: Value = serde_json::from_slice(&reply.body)?;
        stats["requests"].as_u64().ok_or_else(|| "the mock tells no count".into())
    }
}

/// Three upstreams, `a`, `b` and `c`, and a gateway.
pub(crate) struct Rig {
    pub(crate) mocks: Vec<Mock>,
    pub(crate) address: SocketAddr,
    pub(crate) config: Value,
    folder: Folder,
    gateway: Process,
}

impl Rig {
    /// Starts everything with these models; `change` may alter the configuration before it is written.
    pub(crate) async fn start(
        options: &Options,
        models: Value,
        change: impl FnOnce(&mut Value),
    ) -> Result<Self, Trouble> {
        let unique = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let path =
            std::env::temp_dir().join(format!("penstock-availability-{}-{unique}", std::process::id()));
        fs::create_dir_all(&path)?;
        let folder = Folder(path);
        let mut mocks = Vec::new();
        let mut providers = Map::new();
        for name in ["a", "b", "c"] {
            let address = free()?;
            let mut command = Command::new(&options.penstock);
            command.args(["mock", "--listen", &address.to_string()]);
            mocks.push(Mock { address, _process: spawn(&mut command, None)? });
            ready(address, "/v1/models").await?;
            let base = format!("http://{address}/v1");
            let timeouts = json!({"first_token": "10s", "idle": "300s", "total": "600s"});
            providers.insert(
                name.to_owned(),
                json!({"kind": "openai_compatible", "base_url": base, "timeouts": timeouts}),
            );
        }
        let address = free()?;
        let mut config = json!({
            "version": 1, "server": {"listen": address.to_string()}, "data_dir": folder.0.join("data"),
            "providers": providers, "models": models, "log": {"format": "json"},
            "keys": [{"name": "bench", "key": KEY, "scopes": ["*"]}],
        });
        change(&mut config);
        fs::write(folder.0.join("penstock.yaml"), format!("{config:#}\n"))?;
        let mut command = Command::new(&options.penstock);
        command.arg("serve").arg("--config").arg(folder.0.join("penstock.yaml"));
        let gateway = spawn(&mut command, Some(File::create(folder.0.join("log"))?))?;
        let rig = Self { mocks, address, config, folder, gateway };
        if let Err(trouble) = ready(address, "/readyz").await {
            return Err(format!("{trouble}; its last words: {}", tail(&rig.log())).into());
        }
        Ok(rig)
    }

    /// Calls that all upstreams have counted.
    pub(crate) async fn calls(&self) -> Result<u64, Trouble> {
        let mut sum = 0;
        for mock in &self.mocks {
            sum += mock.requests().await?;
        }
        Ok(sum)
    }

    /// Replaces the configuration's text and asks for a reload.
    pub(crate) fn reload(&self, text: &[u8]) -> Result<(), Trouble> {
        fs::write(self.folder.0.join("penstock.yaml"), text)?;
        self.signal("-HUP")
    }

    pub(crate) fn signal(&self, name: &str) -> Result<(), Trouble> {
        Command::new("kill").arg(name).arg(self.gateway.0.id().to_string()).status()?;
        Ok(())
    }

    /// Whether the gateway has ended.
    pub(crate) fn ended(&mut self) -> Result<bool, Trouble> {
        Ok(self.gateway.0.try_wait()?.is_some())
    }

    /// What the gateway has written.
    pub(crate) fn log(&self) -> String {
        fs::read(self.folder.0.join("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

fn tail(text: &str) -> &str {
    &text[text.floor_char_boundary(text.len().saturating_sub(600))..]
}

fn spawn(command: &mut Command, log: Option<File>) -> Result<Process, Trouble> {
    let (out, err) = match log {
        Some(log) => (Stdio::from(log.try_clone()?), Stdio::from(log)),
        None => (Stdio::null(), Stdio::null()),
    };
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    Ok(Process(command.spawn().map_err(|error| format!("{command:?} cannot be started: {error}"))?))
}

fn free() -> Result<SocketAddr, Trouble> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn ready(address: SocketAddr, path: &str) -> Result<(), Trouble> {
    let end = Instant::now() + PATIENCE;
    let ask = request("GET", path, "");
    loop {
        if let Ok(reply) = once(address, &ask).await
            && reply.status == 200
        {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("{address} never answered {path}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A model with these providers as equal deployments, under an upstream name of its own.
pub(crate) fn deployments(name: &str, providers: &[&str]) -> Value {
    let all: Vec<Value> =
        providers.iter().map(|provider| json!({"provider": provider, "model": name})).collect();
    json!({"deployments": all})
}
