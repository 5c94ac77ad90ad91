//! Waits as vendors spell them.

use std::time::Duration;

/// Longest wait that is believed, in seconds.
const MAX_WAIT: f64 = 86_400.0;

/// Reads a wait such as `1.2s`, `6m0s`, `12ms`, `1h30m`, `20 seconds`, or a bare number of seconds; what follows it is not
/// looked at. A day at most.
pub fn wait_of(text: &str) -> Option<Duration> {
    let mut rest = text.trim_start();
    let mut seconds = None;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = rest[..digits].trim_end_matches('.');
        let Ok(number) = number.parse::<f64>() else { break };
        let after = &rest[digits..];
        let named = after.trim_start();
        let letters = named.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(named.len());
        let unit = match named[..letters].to_ascii_lowercase().as_str() {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            // Seconds, if nothing else was said before.
            _ if seconds.is_none() => {
                seconds = Some(number);
                break;
            }
            _ => break,
        };
        seconds = Some(seconds.unwrap_or(0.0) + number * unit);
        rest = &named[letters..];
    }
    seconds.map(|seconds: f64| Duration::from_secs_f64(seconds.min(MAX_WAIT)))
}

/// The wait in a sentence: `Please try again in 1.2s.`, `Please retry after 6 seconds.`
pub(super) fn in_message(message: &str) -> Option<Duration> {
    const MARKS: [&str; 4] = ["try again in ", "retry after ", "retry in ", "again after "];
    let after = |mark: &&str| message.find(*mark).map(|at| &message[at + mark.len()..]);
    MARKS.iter().filter_map(after).find_map(wait_of)
}
