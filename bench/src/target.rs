//! A target that runs: the scripted upstream, what stands in front of it, and the servers that it needs.

use std::cell::Cell;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::http::{Connection, Letter, post};
use crate::stores::Stores;
use crate::variant::{Kind, Variant, select};
use crate::{Options, Trouble, process};

/// A running target with its upstream; everything stops when it is dropped.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) whole: Letter,
    pub(crate) stream: Letter,
    pub(crate) quiet: Letter,
    /// Requests that were sent since the start.
    pub(crate) sent: Rc<Cell<u64>>,
    pub(crate) first_reply: Option<Duration>,
    pub(crate) stores: Stores,
    measured: u32,
    children: Vec<Child>,
    folder: tempdir::Folder,
}

pub(crate) const KEY: &str = "bench-key-0123456789abcdef0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(20);

impl Rig {
    /// Starts the upstream and the target.
    pub(crate) async fn start(options: &Options, variant: &Variant) -> Result<Self, Trouble> {
        Self::under(options, variant, &[]).await
    }

    /// The same, Penstock started by another program, which may write into the rig's folder.
    pub(crate) async fn under(options: &Options, variant: &Variant, by: &[&str]) -> Result<Self, Trouble> {
        let folder = tempdir::Folder::make()?;
        let upstream = free()?;
        let mut mock = Command::new(&options.penstock);
        mock.args(["mock", "--listen", &upstream.to_string()]);
        let stores = Stores::start(variant.marks)?;
        let mut children = vec![spawn(&mut mock)?];
        answers(upstream).await?;
        let (address, first_reply) = match variant.kind {
            Kind::Direct => (upstream, None),
            Kind::Nginx => (nginx(options, upstream, folder.path(), &mut children).await?, None),
            Kind::Penstock => {
                let text = configuration(options, variant, &stores)
                    .replace("@FOLDER@", &folder.path().display().to_string())
                    .replace("@UPSTREAM@", &upstream.to_string());
                let (address, time) = penstock(options, text, folder.path(), (&mut children, by)).await?;
                (address, Some(time))
            }
        };
        let measured = children.last().map(Child::id).unwrap_or_default();
        let sent = Rc::new(Cell::new(0));
        let letter = |members| Letter::new(&request(members), Rc::clone(&sent), variant.keyed);
        Ok(Self {
            address,
            whole: letter(r#""max_tokens":16"#),
            stream: letter(r#""stream":true,"mock":{"inter_token_ms":50,"tokens":100000}"#),
            quiet: letter(r#""stream":true,"mock":{"inter_token_ms":600000,"tokens":10}"#),
            sent,
            first_reply,
            stores,
            measured,
            children,
            folder,
        })
    }

    /// CPU seconds that the target has used.
    pub(crate) fn cpu(&self) -> f64 {
        process::cpu(self.measured)
    }

    /// Resident bytes of the target.
    pub(crate) fn memory(&self) -> u64 {
        process::memory(self.measured)
    }
}

impl Rig {
    /// Asks the target to end and waits for it. Gives the folder, which goes with the rig.
    pub(crate) fn end(mut self, patience: Duration) -> Result<Ended, Trouble> {
        let end = Instant::now() + patience;
        if let Some(target) = self.children.last_mut() {
            Command::new("kill").arg(target.id().to_string()).status()?;
            while target.try_wait()?.is_none() {
                if Instant::now() > end {
                    return Err("the target does not end".into());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(Ended(self))
    }
}

/// A rig whose target has ended.
pub(crate) struct Ended(Rig);

impl std::ops::Deref for Ended {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.0.folder.path()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                continue;
            }
            // nginx's master takes its workers along on SIGTERM only.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            std::thread::sleep(Duration::from_millis(300));
            let _ = child.kill();
            let _ = child.wait();
        }
        self.folder.remove();
    }
}

/// A chat of ordinary size: about 1 KiB.
pub(crate) fn request(members: &str) -> Rc<[u8]> {
    let question = "How does a penstock feed a turbine, and why is it made of steel? ".repeat(12);
    let body = format!(
        r#"{{"model":"bench","messages":[{{"role":"system","content":"You answer briefly."}},{{"role":"user","content":"{question}"}}],{members}}}"#
    );
    post("/v1/chat/completions", KEY, &body).into()
}

async fn nginx(
    options: &Options,
    upstream: SocketAddr,
    folder: &Path,
    children: &mut Vec<Child>,
) -> Result<SocketAddr, Trouble> {
    let address = free()?;
    let text = include_str!("../nginx.conf")
        .replace("@FOLDER@", &folder.display().to_string())
        .replace("@UPSTREAM@", &upstream.to_string())
        .replace("@LISTEN@", &address.to_string());
    let file = folder.join("nginx.conf");
    fs::write(&file, text)?;
    let mut command = Command::new(&options.nginx);
    command.arg("-c").arg(&file).arg("-p").arg(folder).arg("-e").arg(folder.join("error.log"));
    children.push(spawn(&mut command)?);
    answers(address).await?;
    Ok(address)
}

/// What the gateway is told; its own place is still to be filled in.
fn configuration(options: &Options, variant: &Variant, stores: &Stores) -> String {
    let local = (!options.without_local).then_some("local");
    let marks: Vec<&str> = variant.marks.iter().copied().chain(local).collect();
    select(include_str!("../penstock.yaml"), &marks)
        .replace("@KEY@", KEY)
        .replace("@REDIS@", stores.redis().unwrap_or_default())
        .replace("@POSTGRES@", stores.postgres().unwrap_or_default())
}

async fn penstock(
    options: &Options,
    text: String,
    folder: &Path,
    (children, by): (&mut Vec<Child>, &[&str]),
) -> Result<(SocketAddr, Duration), Trouble> {
    let address = free()?;
    let text = text.replace("@LISTEN@", &address.to_string());
    let file = folder.join("penstock.yaml");
    fs::write(&file, text)?;
    let mut command = Command::new(by.first().map_or(options.penstock.as_os_str(), std::ffi::OsStr::new));
    if let [_, arguments @ ..] = by {
        command.args(arguments).arg(std::path::absolute(&options.penstock)?).current_dir(folder);
    }
    command.arg("serve").arg("--config").arg(&file);
    if !by.is_empty() {
        children.push(spawn(&mut command)?);
        answers(address).await?;
        return Ok((address, Duration::ZERO));
    }
    // Once for the database to be made, then the start that counts.
    let mut first = spawn(&mut command)?;
    answers(address).await?;
    let _ = Command::new("kill").arg(first.id().to_string()).status();
    first.wait()?;
    let begin = Instant::now();
    children.push(spawn(&mut command)?);
    answers(address).await?;
    Ok((address, begin.elapsed()))
}

pub(crate) fn spawn(command: &mut Command) -> Result<Child, Trouble> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn().map_err(|error| format!("{command:?} cannot be started: {error}"))?)
}

pub(crate) fn free() -> Result<SocketAddr, Trouble> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Waits until a chat is answered.
async fn answers(address: SocketAddr) -> Result<(), Trouble> {
    let request = request(r#""max_tokens":16"#);
    let end = Instant::now() + PATIENCE;
    loop {
        let tried = match Connection::open(address).await {
            Ok(mut connection) => connection.exchange(&request).await,
            Err(error) => Err(error),
        };
        match tried {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > end => {
                return Err(format!("{address} never answered: {error}").into());
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

mod tempdir {
    use std::path::{Path, PathBuf};

    /// A scratch folder.
    pub(crate) struct Folder(PathBuf);

    impl Folder {
        pub(crate) fn make() -> std::io::Result<Self> {
            let unique = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
            let path = std::env::temp_dir().join(format!("penstock-bench-{}-{unique}", std::process::id()));
            std::fs::create_dir_all(&path)?;
            Ok(Self(path))
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        pub(crate) fn remove(&self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
