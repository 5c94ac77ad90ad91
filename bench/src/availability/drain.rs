//! Row 12: SIGTERM with as many open streams as the limits allow.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use memchr::memmem;
use serde_json::json;

use crate::figures::{Figures, Target};
use crate::rig::{Rig, deployments};
use crate::wire::{Connection, chat, once, request};
use crate::{Options, Trouble, note, process};

/// How long streams may go on after SIGTERM.
const GRACE: Duration = Duration::from_secs(20);
/// Descriptors that the gateway needs beside the two of each stream.
const SPARE_FILES: usize = 500;
/// Streams that are opened at once.
const AT_ONCE: usize = 128;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With its end marker.
    Whole,
    /// With the error that says that the gateway is ending.
    Told,
    /// In silence.
    Cut,
}

/// Half of the streams end inside the grace, half would go on for minutes.
pub(crate) async fn streams(options: &Options, figures: &mut Figures) -> Result<(), Trouble> {
    let runs = options.trials(5);
    let wanted = usize::try_from(options.trials(10_000))?;
    let count = wanted.min(process::open_files().saturating_sub(SPARE_FILES) / 2);
    if count < wanted {
        note(&format!("the limit of open files allows only {count} of {wanted} streams"));
    }
    let (mut cut, mut unready, mut late, mut whole) = (0_u64, 0.0_f64, 0.0_f64, 0_u64);
    for _ in 0..runs {
        let run = one(options, count).await?;
        let those = |end: End| run.ends.iter().filter(|(_, seen)| *seen == end).count() as u64;
        // Who would have ended inside the grace must be whole; who would not must be told.
        cut +=
            run.ends.iter().filter(|(short, end)| *end == End::Cut || (*short && *end == End::Told)).count()
                as u64;
        whole += those(End::Whole);
        unready = unready.max(run.unready.as_secs_f64());
        late = late.max(run.exit.as_secs_f64() - GRACE.as_secs_f64());
        note(&format!(
            "drain: {} whole, {} told, {} cut",
            those(End::Whole),
            those(End::Told),
            those(End::Cut)
        ));
    }
    let all = count as u64 * runs;
    figures.add(
        (12, all),
        ("streams cut in silence, or cut inside the grace, by SIGTERM", "streams"),
        cut as f64,
        Some(Target::Most(0.0)),
    );
    figures.add(
        (12, all),
        ("streams that ended inside the grace", "streams"),
        whole as f64,
        Some(Target::Least(all as f64 / 2.0)),
    );
    figures.add((12, runs), ("not ready any more after, the longest", "s"), unready, Some(Target::Most(1.0)));
    figures.add(
        (12, runs),
        ("exit after the end of the grace, the latest", "s"),
        late,
        Some(Target::Most(1.0)),
    );
    Ok(())
}

struct Run {
    ends: Vec<(bool, End)>,
    unready: Duration,
    exit: Duration,
}

async fn one(options: &Options, count: usize) -> Result<Run, Trouble> {
    let mut rig = Rig::start(options, json!({"m": deployments("m", &["a", "b", "c"])}), |config| {
        config["server"]["drain"] = format!("{}s", GRACE.as_secs()).into();
    })
    .await?;
    let ends = Rc::new(RefCell::new(Vec::with_capacity(count)));
    let mut readers = Vec::new();
    let begin = Instant::now();
    for batch in (0..count).collect::<Vec<_>>().chunks(AT_ONCE) {
        let opening: Vec<_> = batch
            .iter()
            .map(|n| {
                let short = n % 2 == 0;
                tokio::task::spawn_local(open(rig.address, short))
            })
            .collect();
        for (n, opened) in batch.iter().zip(opening) {
            let (connection, ends) = (opened.await??, Rc::clone(&ends));
            readers.push(tokio::task::spawn_local(read(connection, n % 2 == 0, ends)));
        }
    }
    note(&format!("drain: {count} streams open after {:.1} s", begin.elapsed().as_secs_f64()));
    let signalled = Instant::now();
    rig.signal("-TERM")?;
    let ask = request("GET", "/readyz", "");
    while let Ok(reply) = once(rig.address, &ask).await
        && reply.status == 200
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let unready = signalled.elapsed();
    while !rig.ended()? {
        if signalled.elapsed() > GRACE + Duration::from_secs(30) {
            return Err("the gateway does not end".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let exit = signalled.elapsed();
    for reader in readers {
        reader.await?;
    }
    Ok(Run { ends: ends.take(), unready, exit })
}

/// Opens a stream and waits for its first content.
async fn open(address: std::net::SocketAddr, short: bool) -> Result<Connection, Trouble> {
    // The short ones outlive the time that opening takes, and end inside the grace.
    let (tokens, pause) = if short { (7, 2_500) } else { (400, 2_500) };
    let script =
        format!(r#""stream":true,"max_tokens":1000,"mock":{{"tokens":{tokens},"inter_token_ms":{pause}}}"#);
    let ask = chat("m", &script).into_boxed_slice();
    let text = String::from_utf8(ask.into_vec())?.replacen(r#""max_tokens":16,"#, "", 1);
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    let mut connection = Connection::open(address).await?;
    connection.send(&request("POST", "/v1/chat/completions", &body)).await?;
    connection.until(b"data: {").await?;
    Ok(connection)
}

async fn read(mut connection: Connection, short: bool, ends: Rc<RefCell<Vec<(bool, End)>>>) {
    let end = match connection.reply().await {
        Ok(reply) if memmem::find(&reply.body, b"data: [DONE]").is_some() => End::Whole,
        Ok(reply) if memmem::find(&reply.body, b"server_shutdown").is_some() => End::Told,
        _ => End::Cut,
    };
    ends.borrow_mut().push((short, end));
}
