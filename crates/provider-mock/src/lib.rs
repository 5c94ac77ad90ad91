//! A scripted provider: demo partner, test double, and the upstream of benchmarks.
//!
//! What it is: one script engine in two shapes. [`MockProvider`] is the provider kind `mock`, in process, answering in
//! deltas. [`MockServer`] speaks OpenAI's and Anthropic's dialects over HTTP/1.1 and HTTP/2. Both follow a [`Script`] and
//! the scripts that requests bring along (header `x-mock-script`, member `mock`).
//!
//! What it promises: the same question under the same script gives the same answer, every time and in both shapes. Its
//! own count of requests, tokens and broken answers, by rules that need no vocabulary ([`tokens`]), so that ledgers can be
//! held against it. Memory stays bounded whatever is asked.
//!
//! What it refuses to know: the gateway. It imitates vendors, and it is never clever: what the script does not say does
//! not happen.

mod answer;
mod asked;
mod provider;
mod script;
mod select;
mod server;
mod settings;
mod stats;
pub mod tokens;

pub use provider::MockProvider;
pub use script::{
    Cut, Directives, Finish, Hang, Panic, ReportedUsage, RetryAfter, RetryForm, Rule, Script, ScriptError,
    ScriptedCall, When,
};
pub use server::{MockHandle, MockServer, RunningMock};
pub use settings::{Settings, register};
pub use stats::{SeenCall, SeenRequest, Stats, key_digest};
