//! What the store does to files, and what files can do to it.

#![expect(clippy::expect_used, reason = "helpers of tests, which the lint takes for the program")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use penstock_domain::{Code, Credential, Error};
use penstock_identity::{KeyRequest, KeyStore, Keys, NewKey};
use penstock_store_sql::{DATABASE_FILE, PEPPER_FILE, SqlStore, pepper};
use sqlx::{ConnectOptions, Connection};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn wish(name: &str) -> NewKey {
    let wish = KeyRequest { name: name.into(), scopes: vec!["chat:*".into()], ..KeyRequest::default() };
    wish.check(SystemTime::now()).expect("sound")
}

async fn service(dir: &Path) -> (Arc<SqlStore>, Keys) {
    let store = Arc::new(SqlStore::open(dir).await.expect("opens"));
    let keys = Keys::new(Arc::clone(&store) as Arc<dyn KeyStore>, pepper(dir).expect("readable"));
    keys.refresh().await.expect("readable");
    (store, keys)
}

async fn refusal(dir: &Path) -> Error {
    let error = SqlStore::open(dir).await.expect_err("must not open");
    assert_eq!(error.code(), Code::StoreUnavailable);
    error
}

#[tokio::test]
async fn keys_are_there_after_reopening_and_a_second_process_sees_changes() {
    let dir = folder();
    let (_store, keys) = service(dir.path()).await;
    let minted = keys.create(wish("ci"), SystemTime::now()).await.expect("created");
    let credential = Credential::Key(minted.key.clone());
    // A connection of its own, as another process would have.
    let (_other_store, other) = service(dir.path()).await;
    assert!(other.ring().authenticate(&credential, SystemTime::now()).is_ok());
    keys.revoke(minted.record.id.as_str(), SystemTime::now()).await.expect("revoked");
    assert!(other.refresh().await.expect("readable"), "the change is noticed");
    let refused = other.ring().authenticate(&credential, SystemTime::now()).expect_err("revoked");
    assert_eq!(refused.code(), Code::InvalidApiKey);
    assert!(!other.refresh().await.expect("readable"), "nothing else changed");
}

#[tokio::test]
async fn two_writers_lose_nothing() {
    let dir = folder();
    let (_a, one) = service(dir.path()).await;
    let (_b, other) = service(dir.path()).await;
    let make = async |keys: &Keys, who: &str| {
        for i in 0..20 {
            keys.create(wish(&format!("{who}-{i}")), SystemTime::now()).await.expect("created");
        }
    };
    tokio::join!(make(&one, "one"), make(&other, "other"));
    one.refresh().await.expect("readable");
    assert_eq!(one.list().len(), 40);
}

#[tokio::test]
async fn no_file_holds_the_text_of_a_key() {
    let dir = folder();
    let (store, keys) = service(dir.path()).await;
    let mut texts = Vec::new();
    for i in 0..20 {
        let minted = keys.create(wish(&format!("k{i}")), SystemTime::now()).await.expect("created");
        let hour = Duration::from_secs(3600);
        let rotated = keys.rotate(minted.record.id.as_str(), hour, SystemTime::now()).await.expect("rotated");
        texts.extend([minted.key, rotated.key]);
    }
    let scan = || {
        for file in fs::read_dir(dir.path()).expect("readable") {
            let bytes = fs::read(file.expect("an entry").path()).expect("readable");
            for text in &texts {
                // Half of the secret part would already be too much.
                let half = &text.expose().as_bytes()[8..32];
                assert!(!bytes.windows(half.len()).any(|window| window == half), "a key is on the disk");
            }
        }
    };
    scan();
    store.close().await;
    scan();
    assert!(fs::metadata(store.path()).expect("there").len() > 4_096, "the scan saw a filled database");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_what_is_written() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder();
    let data = dir.path().join("new/data");
    let (_store, keys) = service(&data).await;
    keys.create(wish("ci"), SystemTime::now()).await.expect("created");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let mut files = 0;
    for file in fs::read_dir(&data).expect("readable") {
        let path = file.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert!(files >= 3, "database, log and pepper, found {files}");
    // Opened up by accident: the database is closed again, the pepper is refused.
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(data.join(DATABASE_FILE), open.clone()).expect("own file");
    SqlStore::open(&data).await.expect("opens");
    assert_eq!(mode(&data.join(DATABASE_FILE)), 0o600);
    fs::set_permissions(data.join(PEPPER_FILE), open).expect("own file");
    assert!(refusal(&data).await.say().contains("chmod 600"));
}

#[test]
fn many_processes_at_once_agree_on_one_pepper() {
    let dir = folder();
    let peppers: Vec<[u8; 32]> = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..16).map(|_| scope.spawn(|| *pepper(dir.path()).expect("made").expose())).collect();
        all.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    assert!(peppers.iter().all(|one| *one == peppers[0]), "two peppers were used");
    let files: Vec<_> = fs::read_dir(dir.path()).expect("readable").collect();
    assert_eq!(files.len(), 1, "drafts stay behind: {files:?}");
}

#[tokio::test]
async fn damaged_foreign_or_missing_files_are_told_with_the_mend() {
    for (file, bytes, hint) in [
        (DATABASE_FILE, &b"this is not a database, it is a letter of some length"[..], "backup"),
        (PEPPER_FILE, b"short", "not a pepper"),
        (PEPPER_FILE, b"zz", "not a pepper"),
    ] {
        let dir = folder();
        SqlStore::open(dir.path()).await.expect("opens").close().await;
        fs::write(dir.path().join(file), bytes).expect("own file");
        let error = refusal(dir.path()).await;
        assert!(error.say().contains(hint), "{file}: {error}");
        assert!(!error.say().contains("letter"), "{error}");
    }
    let dir = folder();
    SqlStore::open(dir.path()).await.expect("opens").close().await;
    fs::remove_file(dir.path().join(PEPPER_FILE)).expect("own file");
    assert!(
        refusal(dir.path()).await.say().contains("is gone"),
        "a lost pepper must not be replaced in silence"
    );
    let error = refusal(&dir.path().join(DATABASE_FILE).join("below-a-file")).await;
    assert!(error.say().contains("data_dir"), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let dir = folder();
    SqlStore::open(dir.path()).await.expect("opens").close().await;
    let path = dir.path().join(DATABASE_FILE);
    let mut raw = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.expect("opens");
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&mut raw).await.expect("set");
    raw.close().await.expect("closed");
    assert!(refusal(dir.path()).await.say().contains("newer Penstock"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_told() {
    // The kernel's own read-only tree works for root too, whom modes do not stop.
    let error = refusal(Path::new("/proc/penstock-data")).await;
    assert!(error.say().contains("/proc/penstock-data"), "{error}");
}

#[tokio::test]
async fn a_writer_that_holds_the_database_is_named_after_a_bounded_wait() {
    let dir = folder();
    let (_store, keys) = service(dir.path()).await;
    let path = dir.path().join(DATABASE_FILE);
    let mut holder =
        sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.expect("opens");
    let lock = holder.begin_with("BEGIN IMMEDIATE").await.expect("locked");
    let begin = Instant::now();
    let error = keys.create(wish("ci"), SystemTime::now()).await.expect_err("locked");
    assert_eq!(error.code(), Code::StoreUnavailable);
    assert!(error.say().contains("another process"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    keys.refresh().await.expect("readers are not held up");
    lock.rollback().await.expect("free");
    keys.create(wish("ci"), SystemTime::now()).await.expect("free again");
}

#[tokio::test]
async fn a_caller_that_goes_away_in_the_middle_leaves_all_or_nothing() {
    let dir = folder();
    let (store, keys) = service(dir.path()).await;
    for i in 0..30_u64 {
        let create = keys.create(wish(&format!("k{i}")), SystemTime::now());
        // Cut at ever later moments; both outcomes are fine, half of one is not.
        let _ = tokio::time::timeout(Duration::from_micros(i * 40), create).await;
    }
    let listing = store.list().await.expect("usable afterwards");
    keys.create(wish("after"), SystemTime::now()).await.expect("usable afterwards");
    let after = store.list().await.expect("readable");
    assert_eq!(after.keys.len(), listing.keys.len() + 1);
    assert_eq!(after.revision, 1 + after.keys.len() as u64, "each key that is there moved the revision once");
}

const CHILD: &str = "PENSTOCK_STORE_CHILD_DIR";

/// The part of the process that is killed in the test below.
async fn create_keys_until_killed(dir: &Path) {
    let (_store, keys) = service(dir).await;
    for i in 0.. {
        let minted = keys.create(wish(&format!("k{i}")), SystemTime::now()).await.expect("created");
        // Told only once it is durable.
        let line = format!("{}\n", minted.record.id);
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).expect("the pipe");
    }
}

#[tokio::test]
async fn a_process_killed_in_the_middle_loses_no_key_that_it_answered() {
    use std::io::{BufRead, BufReader};
    if let Some(dir) = std::env::var_os(CHILD) {
        return create_keys_until_killed(Path::new(&dir)).await;
    }
    let dir = folder();
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_process_killed_in_the_middle_loses_no_key_that_it_answered", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("spawned");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut told = Vec::new();
    for line in lines {
        let line = line.expect("text");
        if line.starts_with("key_") {
            told.push(line);
        }
        if told.len() == 25 {
            child.kill().expect("killed");
        }
    }
    child.wait().expect("ended");
    assert!(told.len() >= 25, "the child ended early: {told:?}");
    let (_store, keys) = service(dir.path()).await;
    for id in &told {
        assert!(keys.get(id).is_ok(), "{id} was answered and is gone");
    }
    assert!(keys.list().len() <= told.len() + 1, "at most the last one was not told any more");
}
