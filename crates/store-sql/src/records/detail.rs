//! What of a record is only ever read, as one JSON text; and rows as records again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use penstock_domain::{Code, Cost, Dialect, Error, FinishReason, Money, RequestId, Stage, Tags, Task, Usage};
use penstock_observe::store::{Entry, MAX_COST, Pauses, Status};
use penstock_observe::{Attempt, Captured, Considered, Form, Outcome, Record, Timings};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{int, uint};
use crate::link::{Cells, flag};

/// The columns that [`entry`] reads, in its order.
pub(super) const COLUMNS: &str = "records.place, id, key, team, model, provider, status, code, input, output, \
     cached_input, cache_write, reasoning, estimated, cost, tags, detail";

type Strange = Box<dyn std::error::Error + Send + Sync>;

/// The members of what is written: short, because it is most of a row. Times are microseconds. What can be told from the
/// rest is left out: the model as asked where the catalogue has it under that name, the upstream model where the last call
/// names it. Written member by member, which takes a third of what a derived serialisation does.
struct Members(Vec<u8>);

type Written = Result<(), serde_json::Error>;

impl Members {
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(if self.0.is_empty() { b"{\"" } else { b",\"" });
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn value<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Written {
        self.name(name);
        serde_json::to_writer(&mut self.0, value)
    }

    fn optional<T: Serialize>(&mut self, name: &str, value: Option<T>) -> Written {
        value.map_or(Ok(()), |value| self.value(name, &value))
    }

    /// A word of ours, in which nothing has to be escaped.
    fn word(&mut self, name: &str, word: Option<&'static str>) {
        let Some(word) = word else { return };
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(word.as_bytes());
        self.0.push(b'"');
    }
}

/// What is written, as it is read; a version that knows more members adds them as optional ones.
#[derive(Deserialize)]
struct Detail<'a> {
    at: u64,
    took: u64,
    first: Option<u64>,
    #[serde(borrow)]
    task: Option<Cow<'a, str>>,
    #[serde(default)]
    stream: bool,
    dialect: Option<Cow<'a, str>>,
    /// Missing: like the model. Null: there was none.
    #[serde(default, deserialize_with = "said")]
    asked: Option<Option<String>>,
    /// Missing: like that of the last call. Null: there was none.
    #[serde(default, deserialize_with = "said")]
    upstream: Option<Option<String>>,
    version: Option<Cow<'a, str>>,
    attempts: Option<u32>,
    #[serde(default)]
    tries: Vec<Try<'a>>,
    /// More of each call. Missing: there is one, and what it used is what the request used.
    #[serde(default, borrow)]
    more: Vec<More<'a>>,
    #[serde(default, borrow)]
    considered: Vec<Weighed<'a>>,
    hour_write: Option<u64>,
    finish: Option<Cow<'a, str>>,
    gaps: Option<Five>,
    #[serde(default)]
    stages: BTreeMap<Cow<'a, str>, u64>,
    error: Option<Trouble<'a>>,
}

/// Tells a null from a member that is missing.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Provider, model, code, time.
type Try<'a> = (Cow<'a, str>, Cow<'a, str>, Cow<'a, str>, u64);

/// Why, credential, tokens, whether they are estimated, cost as in its column.
type More<'a> = (Cow<'a, str>, u32, Option<Tokens>, bool, Option<i64>);

/// Input, output, and of these cached, written to a cache, for an hour, reasoning.
type Tokens = (u64, u64, Option<u64>, Option<u64>, Option<u64>, Option<u64>);

/// Provider, credential, model, verdict.
type Weighed<'a> = (Cow<'a, str>, u32, Cow<'a, str>, Cow<'a, str>);

/// Count, sum, longest, p50, p99.
type Five = (u32, u64, u64, u64, u64);

#[derive(Serialize, Deserialize)]
struct Trouble<'a> {
    say: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    param: Option<Cow<'a, str>>,
}

/// The letter of each stage; never given to another one.
const fn letter(stage: Stage) -> &'static str {
    match stage {
        Stage::Decode => "d",
        Stage::Authenticate => "a",
        Stage::Admit => "m",
        Stage::Prepare => "p",
        Stage::Route => "r",
        Stage::Queue => "q",
        Stage::Call => "c",
        Stage::Settle => "s",
        Stage::Reply => "y",
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The text of the column `detail`.
pub(crate) fn write(record: &Record) -> Result<String, serde_json::Error> {
    let mut out = Members(Vec::with_capacity(320));
    out.value("at", &micros(record.at.duration_since(UNIX_EPOCH).unwrap_or_default()))?;
    out.value("took", &micros(record.duration))?;
    out.optional("first", record.first_token.map(micros))?;
    out.word("task", record.task.map(Task::name));
    if record.stream {
        out.value("stream", &true)?;
    }
    out.word("dialect", record.dialect.map(Dialect::name));
    if record.asked != record.model {
        out.value("asked", &record.asked.as_deref())?;
    }
    let upstream = record.upstream_model.as_deref();
    if upstream != record.tries.last().map(|last| &*last.model) {
        out.value("upstream", &upstream)?;
    }
    out.optional("version", record.version.as_deref())?;
    if record.attempts as usize != record.tries.len() {
        out.value("attempts", &record.attempts)?;
    }
    tries_of(record, &mut out)?;
    out.optional("more", more(record))?;
    if !record.considered.is_empty() {
        let considered = record.considered.iter().map(|one| {
            ((&*one.provider).into(), one.credential, (&*one.model).into(), (&*one.verdict).into())
        });
        out.value("considered", &considered.collect::<Vec<Weighed<'_>>>())?;
    }
    out.optional("hour_write", record.usage.and_then(|usage| usage.cache_write_hour))?;
    out.word("finish", record.finish.map(FinishReason::name));
    let pauses = record.gaps.as_deref().map(Pauses::from);
    let five = pauses.map(|p| (p.count, micros(p.sum), micros(p.max), micros(p.p50), micros(p.p99)));
    out.optional("gaps", five)?;
    stages(record, &mut out)?;
    out.optional(
        "error",
        record.outcome.error().map(|error| Trouble {
            say: error.say().into(),
            stage: error.stage().map(|stage| stage.name().into()),
            param: error.param().map(Cow::Borrowed),
        }),
    )?;
    out.0.push(b'}');
    // What serde writes is always valid.
    String::from_utf8(out.0).map_err(serde_json::Error::custom)
}

/// Provider, model, code and time of each call.
fn tries_of(record: &Record, out: &mut Members) -> Written {
    if record.tries.is_empty() {
        return Ok(());
    }
    out.name("tries");
    for (place, one) in record.tries.iter().enumerate() {
        out.0.push(if place == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut out.0, &(&*one.provider, &*one.model, one.code, micros(one.took)))?;
    }
    out.0.push(b']');
    Ok(())
}

/// How long each stage took, under its letter.
fn stages(record: &Record, out: &mut Members) -> Written {
    out.name("stages");
    let text = &mut out.0;
    let from = text.len();
    for (stage, time) in record.timings.iter() {
        let before: &[u8] = if text.len() == from { b"{\"" } else { b",\"" };
        text.extend_from_slice(before);
        text.extend_from_slice(letter(stage).as_bytes());
        text.extend_from_slice(b"\":");
        serde_json::to_writer(&mut *text, &micros(time))?;
    }
    text.extend_from_slice(if text.len() == from { b"{}" } else { b"}" });
    Ok(())
}

/// What is told of each call beyond its name and its end; nothing where the rest of the record says it.
fn more(record: &Record) -> Option<Vec<More<'_>>> {
    match &record.tries[..] {
        [] => return None,
        [one] if one.why == "first" && one.credential == 0 && paid(one) == paid_in_all(record) => {
            return None;
        }
        _ => {}
    }
    let more = |one: &Attempt| {
        let tokens = one.usage.map(|usage| {
            let Usage { input, output, cached_input, cache_write, cache_write_hour, reasoning, .. } = usage;
            (input, output, cached_input, cache_write, cache_write_hour, reasoning)
        });
        (one.why.into(), one.credential, tokens, one.estimated, cost_number(one.cost))
    };
    Some(record.tries.iter().map(more).collect())
}

fn paid(one: &Attempt) -> (Option<Usage>, bool, Cost) {
    (one.usage, one.estimated, one.cost)
}

fn paid_in_all(record: &Record) -> (Option<Usage>, bool, Cost) {
    (record.usage, record.estimated, record.cost)
}

/// A cost as a number: nothing where there was nothing to pay for, -1 where nobody knows.
pub(crate) fn cost_number(cost: Cost) -> Option<i64> {
    match cost {
        Cost::None => None,
        Cost::Known(money) => Some(int(money.min(MAX_COST).micros())),
        Cost::Unknown => Some(-1),
    }
}

fn cost_of(number: Option<i64>) -> Cost {
    match number {
        None => Cost::None,
        Some(-1) => Cost::Unknown,
        Some(money) => Cost::Known(Money::from_micros(uint(money))),
    }
}

/// The text of the column `tags`; nothing where there are none.
pub(crate) fn tags(tags: &Tags) -> Result<Option<String>, serde_json::Error> {
    if tags.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&tags.iter().collect::<BTreeMap<_, _>>()).map(Some)
}

/// The labels that the column `tags` holds.
pub(crate) fn read_tags(text: Option<String>) -> Result<Tags, Strange> {
    let labels: BTreeMap<String, String> =
        text.map_or(Ok(BTreeMap::new()), |text| serde_json::from_str(&text))?;
    Ok(labels.into_iter().collect())
}

/// The dialect of a captured answer's bytes.
pub(crate) fn dialect_of(form: Form) -> Option<&'static str> {
    match form {
        Form::Text => None,
        Form::Body(dialect) | Form::Events(dialect) => Some(dialect.name()),
    }
}

/// A row of [`COLUMNS`] as a record.
pub(super) fn entry(row: &impl Cells) -> Result<Entry, Strange> {
    let text = |column: usize| row.text(column);
    let shared = |column: usize| text(column).map(|text| text.map(Arc::<str>::from));
    let number = |column: usize| row.number(column);
    let count = |column: usize| number(column).map(|count| count.map(uint));
    let detail: Detail<'_> = serde_json::from_str(text(16)?.unwrap_or_default())?;
    let usage = match (count(8)?, count(9)?) {
        (Some(input), Some(output)) => Some(Usage {
            input,
            output,
            cached_input: count(10)?,
            cache_write: count(11)?,
            cache_write_hour: detail.hour_write,
            reasoning: count(12)?,
            // What was doubtful has been counted anew before it came here.
            doubtful: false,
        }),
        _ => None,
    };
    let (cost, estimated) = (cost_of(number(14)?), flag(row, 13)?);
    let labels: BTreeMap<String, String> = text(15)?.map_or(Ok(BTreeMap::new()), serde_json::from_str)?;
    let pauses = detail.gaps.map(|(count, sum, max, p50, p99)| Pauses {
        count,
        sum: Duration::from_micros(sum),
        max: Duration::from_micros(max),
        p50: Duration::from_micros(p50),
        p99: Duration::from_micros(p99),
    });
    let model = shared(4)?;
    let tries = tries(&detail, (usage, estimated, cost));
    let asked = detail.asked.as_ref().map_or_else(|| model.clone(), |asked| asked.as_deref().map(Arc::from));
    let upstream = match &detail.upstream {
        Some(upstream) => upstream.as_deref().map(Arc::from),
        None => tries.last().map(|last| Arc::clone(&last.model)),
    };
    let record = Record {
        id: RequestId::new(text(1)?.unwrap_or_default()),
        at: UNIX_EPOCH + Duration::from_micros(detail.at),
        task: detail.task.as_deref().and_then(task),
        stream: detail.stream,
        dialect: detail.dialect.as_deref().and_then(dialect),
        asked,
        tags: labels.into_iter().collect(),
        key: shared(2)?,
        team: shared(3)?,
        model,
        provider: shared(5)?,
        upstream_model: upstream,
        version: detail.version.as_deref().map(Arc::from),
        attempts: detail.attempts.unwrap_or(u32::try_from(tries.len()).unwrap_or(u32::MAX)),
        tries,
        considered: detail.considered.iter().map(considered).collect(),
        usage,
        estimated,
        cost,
        finish: detail.finish.as_deref().and_then(finish),
        duration: Duration::from_micros(detail.took),
        first_token: detail.first.map(Duration::from_micros),
        gaps: None,
        timings: timings(&detail),
        outcome: outcome(row.count(6)?, text(7)?.unwrap_or_default(), detail.error),
        content: None,
    };
    Ok(Entry { record, pauses })
}

/// The calls; `paid` is what a single one used.
fn tries(detail: &Detail<'_>, paid: (Option<Usage>, bool, Cost)) -> Box<[Attempt]> {
    let attempt = |(at, (provider, model, code, took)): (usize, &Try<'_>)| {
        let code = match &**code {
            "ok" => "ok",
            "cancelled" => "cancelled",
            code => code_named(code).map_or("unknown", Code::name),
        };
        let bare = Attempt::new(&**provider, &**model, code, Duration::from_micros(*took));
        match detail.more.get(at) {
            Some((reason, credential, tokens, estimated, cost)) => Attempt {
                why: why(reason),
                credential: *credential,
                usage: tokens.map(usage_of),
                estimated: *estimated,
                cost: cost_of(*cost),
                ..bare
            },
            None if detail.tries.len() == 1 => {
                let (usage, estimated, cost) = paid;
                Attempt { usage, estimated, cost, ..bare }
            }
            // Written by a version that knew only the last one's.
            None => bare,
        }
    };
    detail.tries.iter().enumerate().map(attempt).collect()
}

fn usage_of((input, output, cached_input, cache_write, cache_write_hour, reasoning): Tokens) -> Usage {
    Usage { input, output, cached_input, cache_write, cache_write_hour, reasoning, doubtful: false }
}

fn why(name: &str) -> &'static str {
    let known = ["first", "retry", "failover", "hedge", "probe", "panic", "resume"];
    known.into_iter().find(|known| *known == name).unwrap_or("unknown")
}

fn considered((provider, credential, model, verdict): &Weighed<'_>) -> Considered {
    Considered {
        provider: Arc::from(&**provider),
        credential: *credential,
        model: Arc::from(&**model),
        verdict: verdict.clone().into_owned().into(),
    }
}

fn timings(detail: &Detail<'_>) -> Timings {
    let mut timings = Timings::default();
    for (name, took) in &detail.stages {
        if let Some(stage) = Stage::ALL.into_iter().find(|stage| letter(*stage) == name) {
            timings.add(stage, Duration::from_micros(*took));
        }
    }
    timings
}

fn outcome(status: i64, code: &str, trouble: Option<Trouble<'_>>) -> Outcome {
    let error = || {
        let say = trouble.as_ref().map_or("", |trouble| &trouble.say);
        // A code that this version does not know was written by another one.
        let known = code_named(code).ok_or_else(|| format!("{code}: {say}"));
        let error = match known {
            Ok(code) => Error::new(code, say),
            Err(say) => Error::new(Code::InternalError, say),
        };
        let Some(trouble) = &trouble else { return error };
        let error = match &trouble.param {
            Some(param) => error.with_param(&**param),
            None => error,
        };
        match trouble.stage.as_deref().and_then(stage) {
            Some(stage) => error.at(stage),
            None => error,
        }
    };
    match Status::ALL.get(usize::try_from(status).unwrap_or(usize::MAX)) {
        Some(Status::Ok) if code == Outcome::Replayed.code() => Outcome::Replayed,
        Some(Status::Ok) => Outcome::Complete,
        Some(Status::Cancelled) => Outcome::Cancelled,
        Some(Status::Refused) => Outcome::Refused(error()),
        Some(Status::Failed) | None => Outcome::Failed(error()),
    }
}

/// The columns of a content, from this place on: request, cut, answer, cut, form, dialect, and how long it is kept.
pub(super) fn content(row: &impl Cells, from: usize) -> Result<Option<Box<Captured>>, Strange> {
    let Some(request) = row.bytes(from)? else { return Ok(None) };
    let dialect = row.text(from + 5)?.and_then(dialect).unwrap_or(Dialect::OpenAi);
    let form = match row.word(from + 4)? {
        "body" => Form::Body(dialect),
        "events" => Form::Events(dialect),
        _ => Form::Text,
    };
    Ok(Some(Box::new(Captured {
        request: request.to_vec().into(),
        request_cut: flag(row, from + 1)?,
        answer: row.bytes(from + 2)?.unwrap_or_default().to_vec().into(),
        answer_cut: flag(row, from + 3)?,
        form,
        retention: Duration::from_micros(uint(row.count(from + 6)?)),
    })))
}

fn code_named(name: &str) -> Option<Code> {
    Code::ALL.iter().copied().find(|code| code.name() == name)
}

fn stage(name: &str) -> Option<Stage> {
    Stage::ALL.into_iter().find(|stage| stage.name() == name)
}

fn task(name: &str) -> Option<Task> {
    let all = [Task::Chat, Task::Completion, Task::Embedding, Task::CountTokens, Task::Relay];
    all.into_iter().find(|task| task.name() == name)
}

fn dialect(name: &str) -> Option<Dialect> {
    let all = [Dialect::OpenAi, Dialect::Responses, Dialect::Anthropic, Dialect::Gemini, Dialect::Bedrock];
    all.into_iter().find(|dialect| dialect.name() == name)
}

fn finish(name: &str) -> Option<FinishReason> {
    let all =
        [FinishReason::Stop, FinishReason::Length, FinishReason::ToolCalls, FinishReason::ContentFilter];
    all.into_iter().find(|finish| finish.name() == name)
}
