//! What llama.cpp prints goes to `tracing` at debug, and only there.
//!
//! The binding forwards each line at llama.cpp's own level, which is `info` for hundreds of lines per load. So the engine's
//! threads run under a dispatcher of their own that passes these lines on one level down, and remembers the last
//! complaint: it is the only place where the reason of a failed load is told.

use std::cell::RefCell;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, dispatcher};

thread_local! {
    static COMPLAINT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Takes llama.cpp's printing away from standard error. Once per process.
pub(crate) fn route() {
    llama_cpp_2::send_logs_to_tracing(llama_cpp_2::LogOptions::default());
}

/// Runs `work` with the engine's lines passed on at debug; also gives the last warning or error that it printed.
pub(crate) fn listening<T>(work: impl FnOnce() -> T) -> (T, Option<String>) {
    COMPLAINT.with_borrow_mut(Option::take);
    let outer = dispatcher::get_default(Clone::clone);
    let result = dispatcher::with_default(&Dispatch::new(Quieter(outer)), work);
    (result, COMPLAINT.with_borrow_mut(Option::take))
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
        if *event.metadata().level() <= Level::WARN && !line.0.is_empty() {
            COMPLAINT.with_borrow_mut(|complaint| *complaint = Some(line.0.clone()));
        }
        dispatcher::with_default(&self.0, || tracing::debug!(target: "penstock::engine", "{}", line.0));
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
