//! What llama.cpp prints goes to `tracing` at debug, and only there.
//!
//! The binding forwards each line at llama.cpp's own level, which is `info` for hundreds of lines per load. So an engine's
//! thread runs under a dispatcher of its own that keeps these lines; `flush` passes them on at debug. They cannot be passed
//! on at once, because `tracing` drops events that are sent while another one is being handled. The last complaint among
//! them is the only place where the reason of a failed load is told.

use std::cell::RefCell;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, dispatcher};

/// More lines than this between two flushes are not kept.
const MOST_LINES: usize = 512;

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// Takes llama.cpp's printing away from standard error. Once per process.
pub(crate) fn route() {
    llama_cpp_2::send_logs_to_tracing(llama_cpp_2::LogOptions::default());
}

/// Runs `work` with the engine's lines kept.
pub(crate) fn listening<T>(work: impl FnOnce() -> T) -> T {
    let outer = dispatcher::get_default(Clone::clone);
    dispatcher::with_default(&Dispatch::new(Quieter(outer)), work)
}

/// Passes the lines that were kept on this thread on at debug, and gives the last warning or error among them.
pub(crate) fn flush() -> Option<String> {
    let lines = LINES.with_borrow_mut(std::mem::take);
    for (_, line) in &lines {
        tracing::debug!(target: "penstock::engine", "{line}");
    }
    // "failed to load" comes last and says nothing; the line before it names the reason.
    let complaints = lines.into_iter().filter(|(level, _)| *level <= Level::WARN).map(|(_, line)| line);
    let complaints: Vec<String> = complaints.collect();
    let telling =
        complaints.iter().rev().find(|line| line.contains(": ") && !line.contains("failed to load model"));
    telling.or(complaints.last()).cloned()
}

struct Quieter(Dispatch);

/// The text of one line.
struct Line(String);

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0 = value.trim_end().to_owned();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

fn of_engine(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("llama") || metadata.target() == "ggml"
}

impl Subscriber for Quieter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if of_engine(metadata) { *metadata.level() <= Level::INFO } else { self.0.enabled(metadata) }
    }

    fn event(&self, event: &Event<'_>) {
        if !of_engine(event.metadata()) {
            return self.0.event(event);
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        LINES.with_borrow_mut(|lines| {
            if lines.len() < MOST_LINES && !line.0.is_empty() {
                lines.push((*event.metadata().level(), line.0));
            }
        });
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.0.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.0.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.0.record_follows_from(span, follows);
    }

    fn enter(&self, span: &Id) {
        self.0.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.0.exit(span);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.0.clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.0.try_close(id)
    }
}
