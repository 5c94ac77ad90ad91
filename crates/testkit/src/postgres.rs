//! A real PostgreSQL for tests: private, and gone with the process that asked for it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The superuser of every server.
const USER: &str = "penstock";
/// Its password, by TCP; the signs have to be quoted in an address.
const PASSWORD: &str = "a pass/word:with@signs";
const QUOTED: &str = "a%20pass%2Fword%3Awith%40signs";

/// Nothing here has to survive a crash of the machine; committed work survives a crash of the server all the same.
const SETTINGS: [&str; 7] = [
    "fsync=off",
    "full_page_writes=off",
    "max_connections=100",
    "shared_buffers=16MB",
    "listen_addresses=127.0.0.1",
    "logging_collector=off",
    "autovacuum_naptime=1h",
];

/// Ends the server when its standard input closes, which the system does when the test process ends, however it ends.
const WATCH: &str = "folder=$1; shift; \"$@\" </dev/null & server=$!; read -r _; kill -CONT $server; kill -QUIT $server; \
     wait $server; rm -rf \"$folder\"";
/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of one process.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    watched: Mutex<Option<(Child, ChildStdin)>>,
}

impl Postgres {
    /// The server of this process; the first caller starts it.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Postgres::start)
    }

    /// A server of the caller's own, to be stopped and killed. Its folder is removed when the process ends.
    pub fn start() -> Postgres {
        let folder =
            tempfile::Builder::new().prefix("penstock-postgres-").tempdir().expect("a folder").keep();
        let template = template();
        let data = folder.join("data");
        run(Command::new("cp").arg("-a").arg(&template).arg(&data));
        if let Some((uid, gid)) = user() {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).expect("root may");
        }
        let port = TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("bound").port();
        let postgres = Postgres { folder, port, databases: AtomicU32::new(0), watched: Mutex::new(None) };
        postgres.launch();
        postgres
    }

    /// A new, empty database; its address, with the password in it.
    pub fn database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://{USER}:{QUOTED}@127.0.0.1:{}/{name}", self.port)
    }

    /// What a statement says, fields with `|` between. `address` is that of a database.
    pub fn ask(&self, address: &str, text: &str) -> String {
        self.sql(address.rsplit('/').next().unwrap_or_default(), text)
    }

    /// Ends it at once, without a word to whom it serves.
    pub fn crash(&self) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (mut watch, input) = watched.expect("it runs");
        // The folder has to stay: `restart` takes it up again.
        let server = self.postmaster();
        signal("KILL", watch.id());
        watch.wait().expect("it was started here");
        signal("QUIT", server);
        let end = Instant::now() + PATIENCE;
        while self.folder.join("data/postmaster.pid").exists() {
            assert!(Instant::now() < end, "the server does not end");
            std::thread::yield_now();
        }
        drop(input);
    }

    /// Starts it again after [`crash`](Self::crash).
    pub fn restart(&self) {
        self.launch();
    }

    /// Stops every process of it: connections stay open and nothing answers.
    pub fn pause(&self) {
        let server = self.postmaster();
        signal("STOP", server);
        children(server).for_each(|child| signal("STOP", child));
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn go_on(&self) {
        let server = self.postmaster();
        children(server).for_each(|child| signal("CONT", child));
        signal("CONT", server);
    }

    fn postmaster(&self) -> u32 {
        let text = fs::read_to_string(self.folder.join("data/postmaster.pid")).expect("it runs");
        text.lines().next().and_then(|pid| pid.parse().ok()).expect("a process")
    }

    fn launch(&self) {
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join("log")).expect("a file");
        let mut server: Vec<String> = as_user(&program("postgres"));
        server.extend(["-D".to_owned(), self.folder.join("data").display().to_string()]);
        let own =
            [format!("port={}", self.port), format!("unix_socket_directories={}", self.folder.display())];
        for setting in SETTINGS.map(str::to_owned).into_iter().chain(own) {
            server.extend(["-c".to_owned(), setting]);
        }
        let mut child = Command::new("sh")
            .args(["-c", WATCH, "watch"])
            .arg(&self.folder)
            .args(server)
            // Whoever ends the tests' group must not end the one who cleans up behind them.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("sh runs");
        let input = child.stdin.take().expect("piped");
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Some((child, input));
        let end = Instant::now() + PATIENCE;
        while !self.psql("postgres", "SELECT 1").status.success() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "PostgreSQL does not answer: {log}");
            std::thread::yield_now();
        }
    }

    fn sql(&self, database: &str, text: &str) -> String {
        let done = self.psql(database, text);
        assert!(done.status.success(), "{text}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
    }

    fn psql(&self, database: &str, text: &str) -> std::process::Output {
        Command::new(program("psql"))
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--username", USER])
            .args(["--dbname", database, "--port", &self.port.to_string(), "--host"])
            .arg(&self.folder)
            .args(["--command", text])
            .output()
            .expect("psql runs")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some((mut watch, input)) = self.watched.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(input);
            let _ = watch.wait();
        }
    }
}

/// An empty cluster, made once for all test processes of a build.
fn template() -> PathBuf {
    let bin = program("initdb");
    let version = String::from_utf8_lossy(&run(Command::new(&bin).arg("--version"))).into_owned();
    let version: String = version.chars().filter(|c| c.is_ascii_digit() || *c == '.').take(8).collect();
    let program = std::env::current_exe().expect("it runs");
    let beside = program.parent().expect("a folder");
    let place = beside.join(format!("postgres-{version}"));
    let lock = File::create(beside.join(format!("postgres-{version}.lock"))).expect("a file");
    lock.lock().expect("a lock");
    if place.join("complete").exists() {
        return place.join("data");
    }
    let _ = fs::remove_dir_all(&place);
    fs::create_dir(&place).expect("a folder");
    let made = tempfile::Builder::new().prefix("penstock-postgres-").tempdir().expect("a folder");
    if let Some((uid, gid)) = user() {
        std::os::unix::fs::chown(made.path(), Some(uid), Some(gid)).expect("root may");
    }
    let secret = made.path().join("password");
    File::create(&secret).and_then(|mut file| writeln!(file, "{PASSWORD}")).expect("written");
    let words = as_user(&bin);
    run(Command::new(&words[0])
        .args(&words[1..])
        .arg(format!("--pgdata={}", made.path().join("data").display()))
        .arg(format!("--pwfile={}", secret.display()))
        .args(["--username", USER, "--encoding=UTF8", "--locale=C", "--no-sync"])
        .args(["--auth-local=trust", "--auth-host=scram-sha-256"]));
    run(Command::new("cp").arg("-a").arg(made.path().join("data")).arg(place.join("data")));
    File::create(place.join("complete")).expect("written");
    place.join("data")
}

/// Debian keeps them off the path; Homebrew does not link them.
fn program(name: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    folders.sort();
    folders.reverse();
    folders.extend(
        ["/opt/homebrew/opt/postgresql@17/bin", "/usr/local/opt/postgresql@17/bin"].map(PathBuf::from),
    );
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| PathBuf::from(name))
}

/// PostgreSQL refuses to run as root: whom it runs as instead.
fn user() -> Option<(u32, u32)> {
    let id = |words: &[&str]| {
        let done = Command::new("id").args(words).output().expect("id runs");
        String::from_utf8_lossy(&done.stdout).trim().parse::<u32>().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    let found = ["postgres", "nobody"].iter().find_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?)));
    Some(found.expect("neither postgres nor nobody is a user of this machine"))
}

fn as_user(program: &Path) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    if let Some((uid, gid)) = user() {
        words.extend(["setpriv".to_owned(), format!("--reuid={uid}"), format!("--regid={gid}")]);
        words.extend(["--clear-groups".to_owned(), "--".to_owned()]);
    }
    words.push(program.display().to_string());
    words
}

fn children(process: u32) -> impl Iterator<Item = u32> {
    let rows =
        String::from_utf8_lossy(&run(Command::new("ps").args(["-A", "-o", "pid=,ppid="]))).into_owned();
    let pair = |row: &str| {
        let mut words = row.split_whitespace().map(str::parse::<u32>);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    };
    let found: Vec<u32> = rows
        .lines()
        .filter_map(pair)
        .filter(|(_, parent)| *parent == process)
        .map(|(child, _)| child)
        .collect();
    found.into_iter()
}

fn signal(name: &str, process: u32) {
    // One that has ended meanwhile needs none.
    let _ = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).output();
}

fn run(command: &mut Command) -> Vec<u8> {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}
