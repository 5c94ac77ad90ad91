//! The dated list of what may break a rule for now.

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
}
