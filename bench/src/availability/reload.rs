//! Row 13: damaged configurations under load.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::figures::{Figures, Target};
use crate::load::Load;
use crate::rig::{Rig, deployments};
use crate::wire::{chat, once, request};
use crate::{Options, Trouble, note};

/// Requests per second beside the reloads.
const RATE: f64 = 300.0;
/// The longest until a damaged file is refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is replaced in the file, each by something that is wrong.
const WRONG: [(&str, &str); 20] = [
    (r#""providers""#, r#""provders""#),
    (r#""models""#, r#""modles""#),
    (r#""keys""#, r#""key""#),
    (r#""server""#, r#""sever""#),
    (r#""openai_compatible""#, r#""openai_compatable""#),
    (r#""provider": "a""#, r#""provider": "gone""#),
    (r#""version": 1"#, r#""version": 99"#),
    (r#""version": 1"#, r#""version": "one""#),
    (r#""version": 1"#, r#""version": [1]"#),
    (r#""format": "json""#, r#""format": "morse""#),
    (r#""300s""#, r#""300 parsecs""#),
    (r#""10s""#, r#""-10s""#),
    (r#""base_url": "http"#, r#""base_url": "gopher"#),
    (r#""listen": "127.0.0.1"#, r#""listen": "127.0.0.256"#),
    (r#""scopes": ["#, r#""scopes": {"#),
    (r#""name": "bench""#, r#""name": 7"#),
    ("bench-key-0123456789abcdef0123456789abcdef", "${NO_SUCH_SECRET}"),
    ("bench-key-0123456789abcdef0123456789abcdef", "file:/no/such/file"),
    (r#""deployments": ["#, r#""deployments": 3, "x": ["#),
    (r#""data_dir": "#, r#""data_dir": 3, "y": "#),
];

/// Thirty files: twenty with one wrong word, ten cut off somewhere.
fn damaged(sound: &str) -> Vec<String> {
    let mut all: Vec<String> = WRONG.iter().map(|(right, wrong)| sound.replacen(right, wrong, 1)).collect();
    // The last line is the closing bracket; a file that ends before it is no mapping any more.
    all.extend((0..10).map(|tenth| sound[..sound.len() * (2 * tenth + 1) / 20].to_owned()));
    all
}

/// Damages the file in thirty ways beside a steady load.
pub(crate) async fn mutations(options: &Options, figures: &mut Figures) -> Result<(), Trouble> {
    let rig = Rig::start(options, json!({"m": deployments("m", &["a", "b", "c"])}), |_| {}).await?;
    let sound = format!("{:#}\n", rig.config);
    let stop = Rc::new(Cell::new(false));
    let load = tokio::task::spawn_local(beside(rig.address, Rc::clone(&stop)));
    let (mut refused, mut placed) = (0_u64, 0_u64);
    let files = damaged(&sound);
    for text in &files {
        if *text == sound {
            return Err("a mutation changes nothing".into());
        }
        let before = rig.log().len();
        rig.reload(text.as_bytes())?;
        let end = Instant::now() + PATIENCE;
        let said = loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let log = rig.log();
            let new = log.get(before..).unwrap_or_default();
            if new.contains("penstock.yaml") || Instant::now() > end {
                break new.to_owned();
            }
        };
        refused += u64::from(said.contains("penstock.yaml"));
        let line = said
            .split("penstock.yaml:")
            .nth(1)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        placed += u64::from(line);
        if !line {
            note(&format!("no line is named for: {}", said.lines().last().unwrap_or("nothing was said")));
        }
    }
    let changed = sound.replacen(r#""m": {"#, r#""after": {"provider": "a", "model": "m"}, "m": {"#, 1);
    rig.reload(changed.as_bytes())?;
    let ask = request("GET", "/v1/models/after", "");
    let end = Instant::now() + PATIENCE;
    while once(rig.address, &ask).await?.status != 200 {
        if Instant::now() > end {
            return Err("a mended file is not taken up".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.set(true);
    let (requests, failed) = load.await??;
    let trials = files.len() as u64;
    figures.add(
        (13, requests),
        ("requests that failed beside damaged reloads", ""),
        failed as f64,
        Some(Target::Most(0.0)),
    );
    figures.add(
        (13, trials),
        ("damaged files that were refused by name", "files"),
        refused as f64,
        Some(Target::Least(trials as f64)),
    );
    figures.add(
        (13, trials),
        ("of these with the line at fault", "files"),
        placed as f64,
        Some(Target::Least(trials as f64)),
    );
    Ok(())
}

async fn beside(address: std::net::SocketAddr, stop: Rc<Cell<bool>>) -> Result<(u64, u64), Trouble> {
    let ask: Rc<[u8]> = chat("m", "").into();
    let (mut requests, mut failed) = (0, 0);
    while !stop.get() {
        let ask = Rc::clone(&ask);
        let load = Load { address, requests: (RATE / 2.0) as u64, rate: RATE, connections: 16 };
        let tally = load.run(move |_| Rc::clone(&ask), |_, _, _| {}).await?;
        requests += tally.requests;
        failed += tally.failed();
    }
    Ok((requests, failed))
}
