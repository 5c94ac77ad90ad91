//! `penstock up`: from nothing to a first answer.

mod discover;

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use penstock_config::Loaded;
use penstock_identity::{KeyRequest, Keys, Minted};

use crate::cli::Up;
use crate::serving::{self, Serving};
use crate::{Failure, audit, data, terminal, wiring};

/// What a first key may do: every inference route and the list of models, nothing else.
const FIRST_SCOPES: [&str; 3] = ["chat:*", "embeddings:*", "models:*"];

/// Writes what is missing, prints how to ask, and serves.
pub(crate) fn run(args: &Up) -> Result<ExitCode, Failure> {
    let path = &args.file.config;
    let wrote = write_starter(path)?;
    let mut loaded = super::load(path)?;
    if let Some(listen) = args.listen {
        loaded.config.server.listen = listen;
    }
    serving::run(loaded, args.listen, move |serving| async move {
        let minted = first_keys(&serving).await?;
        terminal::line(banner(&serving, wrote, minted.as_ref()));
        Ok(())
    })
}

/// Writes the configuration if there is none, from what this machine offers.
fn write_starter(path: &Path) -> Result<bool, Failure> {
    if path.exists() {
        return Ok(false);
    }
    let found = super::block(async { Ok(discover::find().await) })?;
    let text = penstock_config::starter(&found);
    write(path, &text)?;
    // The file's first line points editors at the schema beside it.
    let schema = penstock_config::schema(&wiring::kinds());
    write(&path.with_file_name("penstock.schema.json"), &format!("{schema:#}\n"))?;
    Ok(true)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| {
        format!("{} cannot be written: {error}; choose another place with --config FILE", path.display())
            .into()
    })
}

/// Makes the admin key and the first key if there is no key at all.
async fn first_keys(serving: &Serving) -> Result<Option<Minted>, Failure> {
    let (keys, config) = (&serving.keys, &serving.loaded.config);
    if !keys.list().is_empty() {
        return Ok(None);
    }
    let admin = mint(keys, "admin", &["*"]).await?;
    data::write_admin_key(&config.data_dir, &admin.key)?;
    let first = mint(keys, "first", &FIRST_SCOPES).await?;
    for minted in [&admin, &first] {
        audit::changed(&*serving.audit, "key.create", None, &super::keys::row(&minted.record, SystemTime::now()))
            .await?;
    }
    Ok(Some(first))
}

async fn mint(keys: &Keys, name: &str, scopes: &[&str]) -> Result<Minted, Failure> {
    let now = SystemTime::now();
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let request = KeyRequest { name: name.to_owned(), scopes, ..KeyRequest::default() };
    let new = request.check(now).map_err(|flaws| format!("the key '{name}' cannot be made: {flaws:?}"))?;
    keys.create(new, now).await.map_err(|error| error.say().into())
}

fn banner(serving: &Serving, wrote: bool, minted: Option<&Minted>) -> String {
    let mut out = String::new();
    let mut say = |mark: &str, what: &str, text: String| {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "  {mark} {what:<10} {text}");
    };
    let loaded: &Loaded = &serving.loaded;
    let base = format!("http://{}", serving.address);
    let state = if wrote { "written" } else { "read" };
    say("✓", "config", format!("{} ({state})", loaded.source.path.display()));
    for (name, health) in serving.gateway.snapshot().health() {
        match health {
            penstock_provider::Health::Ready => say("✓", "provider", name.to_string()),
            penstock_provider::Health::Starting => say("✓", "provider", format!("{name} (loading)")),
            penstock_provider::Health::Unavailable(why) => say("✗", "provider", format!("{name}: {why}")),
        }
    }
    if let Some(minted) = minted {
        say(
            "✓",
            "admin key",
            format!("{} (mode 0600)", data::admin_key_file(&loaded.config.data_dir).display()),
        );
        say("✓", "first key", format!("{}   (shown once)", minted.key.expose()));
    }
    say("✓", "api", format!("{base}/v1    docs {base}/docs    console {base}/"));
    let mut models = loaded.config.models.keys().map(String::as_str);
    let model = models.find(|name| super::chats(name)).unwrap_or("MODEL");
    let key = minted.map_or("$PENSTOCK_API_KEY", |minted| minted.key.expose());
    let _ = write!(
        out,
        "\n  try:  curl {base}/v1/chat/completions -H 'Authorization: Bearer {key}' \\\n          \
         -H 'Content-Type: application/json' \\\n          \
         -d '{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"What is the capital of France?\"}}]}}'\n"
    );
    out
}
