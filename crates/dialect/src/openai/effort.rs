//! `reasoning_effort`, and which models take it.
//!
//! What it refuses to know: everything about models but the beginning of OpenAI's own names. Servers of open models ignore
//! an effort that they have no use for; OpenAI refuses the whole request.

use penstock_domain::{Effort, Error, Thinking};
use serde_json::value::RawValue;

use crate::anthropic::thinking;
use crate::json::{self, Path};

/// Reads `reasoning_effort`.
pub(crate) fn read(raw: &RawValue, path: &Path<'_>) -> Result<Thinking, Error> {
    Ok(match json::cow(raw, path)?.as_ref() {
        "none" => Thinking::Off,
        "minimal" => Thinking::Effort(Effort::Minimal),
        "low" => Thinking::Effort(Effort::Low),
        "medium" => Thinking::Effort(Effort::Medium),
        "high" => Thinking::Effort(Effort::High),
        "xhigh" => Thinking::Effort(Effort::XHigh),
        "max" => Thinking::Effort(Effort::Max),
        other => {
            let say = format!(
                "must be `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`, found `{}`",
                json::bounded(other, 32)
            );
            return Err(path.error(penstock_domain::Code::InvalidValue, say));
        }
    })
}

/// What to ask a model for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// The effort; `None` leaves it to the model.
    pub(crate) effort: Option<&'static str>,
    /// The model has no word for what was asked: it is asked for the nearest, or for nothing.
    pub(crate) lost: bool,
}

/// The effort to ask a model for. A budget becomes at most `high`, the most that all thinking models take.
pub(crate) fn word(thinking: Option<Thinking>, model: &str) -> Word {
    let exactly = |effort| Word { effort, lost: false };
    let effort = match thinking {
        None | Some(Thinking::Adaptive) => return exactly(None),
        Some(Thinking::Off) if is_after(model, 1) => return exactly(Some("none")),
        // A model that does not think at all needs no telling.
        Some(Thinking::Off) => return Word { effort: None, lost: !never_thinks(model) },
        Some(Thinking::Effort(effort)) => effort,
        Some(Thinking::Budget(budget)) => thinking::effort_of(budget).min(Effort::High),
    };
    if never_thinks(model) {
        return Word { effort: None, lost: true };
    }
    let wide = is_after(model, 2);
    match effort {
        Effort::Minimal if bare(model).starts_with("gpt-5") => exactly(Some("minimal")),
        Effort::Minimal => Word { effort: Some("low"), lost: true },
        Effort::Low => exactly(Some("low")),
        Effort::Medium => exactly(Some("medium")),
        Effort::High => exactly(Some("high")),
        Effort::XHigh if wide => exactly(Some("xhigh")),
        Effort::Max if wide => exactly(Some("max")),
        Effort::XHigh | Effort::Max => Word { effort: Some("high"), lost: true },
    }
}

/// A model's name without the folder of its vendor.
fn bare(model: &str) -> &str {
    model.rsplit_once('/').map_or(model, |(_, name)| name)
}

/// OpenAI's models that refuse an effort.
fn never_thinks(model: &str) -> bool {
    ["gpt-3", "gpt-4", "chatgpt-4"].iter().any(|start| bare(model).starts_with(start))
}

/// Whether the model is GPT-5 of this minor version or a later one: 5.1 takes the effort `none`, 5.2 more than `high`.
fn is_after(model: &str, minor: u32) -> bool {
    let Some(rest) = bare(model).strip_prefix("gpt-5.") else { return false };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
    digits.parse::<u32>().is_ok_and(|found| found >= minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_asked_only_for_what_it_takes() {
        let asked = |thinking, model| {
            let word = word(Some(thinking), model);
            (word.effort, word.lost)
        };
        let budget = Thinking::Budget(31_999);
        assert_eq!(asked(budget, "gpt-5"), (Some("high"), false));
        assert_eq!(asked(budget, "some-open-model"), (Some("high"), false));
        assert_eq!(asked(budget, "openai/gpt-4o"), (None, true));
        assert_eq!(asked(Thinking::Effort(Effort::Max), "gpt-5"), (Some("high"), true));
        assert_eq!(asked(Thinking::Effort(Effort::Max), "gpt-5.2-pro"), (Some("max"), false));
        assert_eq!(asked(Thinking::Effort(Effort::Minimal), "o3"), (Some("low"), true));
        assert_eq!(asked(Thinking::Effort(Effort::Minimal), "gpt-5-mini"), (Some("minimal"), false));
        assert_eq!(asked(Thinking::Off, "gpt-5.1"), (Some("none"), false));
        assert_eq!(asked(Thinking::Off, "gpt-5"), (None, true));
        assert_eq!(asked(Thinking::Off, "gpt-4o"), (None, false));
        assert_eq!(asked(Thinking::Adaptive, "gpt-4o"), (None, false));
    }
}
