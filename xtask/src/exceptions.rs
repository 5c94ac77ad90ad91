//! The dated list of what may break a rule for now.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::Finding;

#[derive(Debug, Default, PartialEq, Eq)]
struct Exception {
    rule: String,
    place: String,
    reason: String,
    until: String,
}

/// Removes what an exception covers; adds what is wrong with the exceptions themselves.
pub(crate) fn apply(found: Vec<Finding>, text: &str, today: &str) -> Vec<Finding> {
    let exceptions = parse(text);
    let covers = |e: &Exception, f: &Finding| {
        // Lines move: an exception for a file covers its findings in any line.
        let file = f.place.rsplit_once(':').filter(|(_, line)| line.bytes().all(|b| b.is_ascii_digit()));
        e.rule == f.rule && (e.place == f.place || file.is_some_and(|(file, _)| e.place == file))
    };
    let mut left: Vec<Finding> = Vec::new();
    for exception in &exceptions {
        let place = format!("xtask/exceptions.toml ({} {})", exception.rule, exception.place);
        if exception.reason.len() < 10 || exception.until.len() != 10 {
            left.push(Finding::new(
                "exceptions",
                place,
                "lacks a reason or a day",
                "write `reason` and `until = \"YYYY-MM-DD\"`",
            ));
        } else if !found.iter().any(|f| covers(exception, f)) {
            left.push(Finding::new(
                "exceptions",
                place,
                "nothing needs this exception any more",
                "remove it",
            ));
        } else if exception.until.as_str() < today {
            left.push(Finding::new(
                "exceptions",
                place,
                "its day has passed",
                "mend the breach, or argue for another day",
            ));
        }
    }
    left.extend(found.into_iter().filter(|f| !exceptions.iter().any(|e| covers(e, f))));
    left
}

/// The few lines of TOML that the list uses: tables named `exception` with texts.
fn parse(text: &str) -> Vec<Exception> {
    let mut found: Vec<Exception> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line == "[[exception]]" {
            found.push(Exception::default());
        }
        let (Some((key, value)), Some(last)) = (line.split_once('='), found.last_mut()) else { continue };
        let value = value.trim().trim_matches('"').to_owned();
        match key.trim() {
            "rule" => last.rule = value,
            "place" => last.place = value,
            "reason" => last.reason = value,
            "until" => last.until = value,
            _ => {}
        }
    }
    found
}

/// Today in UTC as `YYYY-MM-DD` (days to civil date after Howard Hinnant, "chrono-compatible low-level date algorithms").
pub(crate) fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    civil(seconds / 86_400)
}

fn civil(days: u64) -> String {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "[[exception]]\nrule = \"file-length\"\nplace = \"a.rs\"\nreason = \"a table of words\"\nuntil = \"2027-01-01\"\n";

    fn breach() -> Finding {
        Finding::new("file-length", "a.rs", "long", "split")
    }

    #[test]
    fn an_exception_covers_its_breach_until_its_day() {
        assert_eq!(apply(vec![breach()], LIST, "2026-12-31"), []);
        assert_eq!(apply(vec![breach()], LIST, "2027-01-02")[0].message, "its day has passed");
        assert_eq!(apply(vec![], LIST, "2026-12-31")[0].message, "nothing needs this exception any more");
    }

    #[test]
    fn days_are_counted_right() {
        assert_eq!(civil(0), "1970-01-01");
        assert_eq!(civil(11_016), "2000-02-29");
    }
}
