//! When to try again: the example of Standard Webhooks 1.0.0 ("Deliverability and reliability"), about three days.

use std::time::{Duration, SystemTime};

use crate::event::digest;
use crate::outbox::{Answer, Outcome, Reply};

/// What passes before each attempt after the first, in seconds.
const PAUSES: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// Attempts before a delivery is given up.
pub const ATTEMPTS: u32 = PAUSES.len() as u32 + 1;

/// The longest time for which an endpoint may ask to be left alone.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Longest text on what went wrong, in bytes.
const TROUBLE: usize = 200;

/// The time after so many attempts until the next; `None` when there is no next. Up to a fifth longer than the schedule says,
/// differently for each delivery: what failed together does not come back together.
pub fn pause(id: &str, attempts: u32) -> Option<Duration> {
    let seconds = *PAUSES.get(attempts.checked_sub(1)? as usize)?;
    let name = digest("", &[id, &attempts.to_string()]);
    let roll = u64::from_str_radix(&name[..4], 16).unwrap_or(0);
    Some(Duration::from_millis(seconds * 1_000 + seconds * 200 * roll / 0xffff))
}

/// What follows from an answer, `attempts` with this one counted.
///
/// No answer, 408, 425, 429 and every 5xx say that the endpoint is in trouble: what comes later waits behind this delivery.
/// Any other refusal, redirects included, is about this delivery alone, and what comes later overtakes it. 410 says that the
/// endpoint is gone.
pub fn judge(id: &str, attempts: u32, answer: Answer, now: SystemTime) -> Reply {
    let (outcome, trouble) = match (answer.status, pause(id, attempts)) {
        (Some(200..=299), _) => (Outcome::Delivered, None),
        (Some(410), _) => (Outcome::Dead, Some("the endpoint is gone (410)".into())),
        (_, None) => (Outcome::Dead, answer.trouble),
        (status, Some(pause)) => {
            let asked = answer.retry_after.unwrap_or_default().min(LONGEST);
            let in_line = matches!(status, None | Some(408 | 425 | 429 | 500..));
            (Outcome::Again { at: now + pause.max(asked), in_line }, answer.trouble)
        }
    };
    Reply { outcome, at: now, status: answer.status, trouble: trouble.as_deref().map(bounded) }
}

fn bounded(text: &str) -> Box<str> {
    let shown: String = text.chars().filter(|c| !c.is_control()).collect();
    match shown.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= TROUBLE).last() {
        Some(end) => shown[..end].into(),
        None => shown.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(status: Option<u16>, attempts: u32, retry_after: Option<u64>) -> Outcome {
        let answer = Answer { status, retry_after: retry_after.map(Duration::from_secs), trouble: None };
        judge("dlv_a", attempts, answer, SystemTime::UNIX_EPOCH).outcome
    }

    fn waits(outcome: Outcome) -> (u64, bool) {
        let Outcome::Again { at, in_line } = outcome else { panic!("tried again: {outcome:?}") };
        (at.duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs(), in_line)
    }

    #[test]
    fn only_2xx_is_delivered() {
        for status in 100..600 {
            let delivered = judged(Some(status), 1, None) == Outcome::Delivered;
            assert_eq!(delivered, (200..300).contains(&status), "{status}");
        }
        assert_eq!(judged(Some(410), 1, None), Outcome::Dead);
    }

    #[test]
    fn trouble_of_the_endpoint_holds_the_line_and_a_refusal_does_not() {
        for status in [None, Some(408), Some(425), Some(429), Some(500), Some(503)] {
            assert!(waits(judged(status, 1, None)).1, "{status:?}");
        }
        for status in [Some(302), Some(400), Some(401), Some(404), Some(413)] {
            assert!(!waits(judged(status, 1, None)).1, "{status:?}");
        }
    }

    #[test]
    fn who_asks_for_time_gets_it_up_to_a_day() {
        assert_eq!(waits(judged(Some(429), 1, Some(60))).0, 60);
        assert!((5..=6).contains(&waits(judged(Some(429), 1, Some(1))).0));
        assert_eq!(waits(judged(Some(503), 1, Some(1_000_000))).0, 86_400);
    }

    #[test]
    fn after_ten_attempts_in_about_three_days_it_is_given_up() {
        assert_eq!(ATTEMPTS, 10);
        assert_eq!(judged(Some(500), ATTEMPTS, None), Outcome::Dead);
        assert_eq!(judged(None, 9, None), judged(None, 9, Some(0)));
        let all: Duration = (1..ATTEMPTS).filter_map(|attempts| pause("dlv_a", attempts)).sum();
        assert!(all > Duration::from_secs(75 * 3_600) && all < Duration::from_secs(92 * 3_600), "{all:?}");
    }

    #[test]
    fn what_went_wrong_is_told_in_few_words() {
        let trouble = Some(format!("a\nb{}", "é".repeat(500)).into());
        let reply = judge("dlv_a", 1, Answer { trouble, ..Answer::default() }, SystemTime::UNIX_EPOCH);
        let told = reply.trouble.expect("words");
        assert!(told.len() <= TROUBLE && told.starts_with("abé"), "{told}");
    }

    proptest! {
        #[test]
        fn pauses_are_the_schedule_and_up_to_a_fifth(id in "[a-z0-9_]{1,30}", attempts in 1u32..10) {
            let planned = Duration::from_secs(PAUSES[attempts as usize - 1]);
            let pause = pause(&id, attempts).expect("another attempt");
            prop_assert!(pause >= planned && pause <= planned * 6 / 5);
        }
    }
}
