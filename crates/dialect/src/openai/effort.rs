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

/// The effort to ask a model for; `Err` when it has no word for what was asked. `Ok(None)` leaves it to the model.
pub(crate) fn word(thinking: Option<Thinking>, model: &str) -> Result<Option<&'static str>, ()> {
    let effort = match thinking {
        None | Some(Thinking::Adaptive) => return Ok(None),
        Some(Thinking::Off) if can_be_told_not_to(model) => return Ok(Some("none")),
        // A model that does not think at all needs no telling.
        Some(Thinking::Off) => return if never_thinks(model) { Ok(None) } else { Err(()) },
        Some(Thinking::Effort(effort)) => effort,
        Some(Thinking::Budget(budget)) => thinking::effort_of(budget),
    };
    if never_thinks(model) {
        return Err(());
    }
    Ok(Some(match effort {
        Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::XHigh => "xhigh",
        Effort::Max => "max",
    }))
}

/// OpenAI's models that refuse an effort.
fn never_thinks(model: &str) -> bool {
    let name = model.rsplit_once('/').map_or(model, |(_, name)| name);
    ["gpt-3", "gpt-4", "chatgpt-4"].iter().any(|start| name.starts_with(start))
}

/// OpenAI's models that take the effort `none`: GPT-5.1 and later.
fn can_be_told_not_to(model: &str) -> bool {
    let name = model.rsplit_once('/').map_or(model, |(_, name)| name);
    name.strip_prefix("gpt-5.").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() && c != '0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_asked_only_for_what_it_takes() {
        let budget = Some(Thinking::Budget(20_000));
        assert_eq!(word(budget, "gpt-5"), Ok(Some("high")));
        assert_eq!(word(budget, "some-open-model"), Ok(Some("high")));
        assert_eq!(word(budget, "openai/gpt-4o"), Err(()));
        assert_eq!(word(Some(Thinking::Off), "gpt-5.1"), Ok(Some("none")));
        assert_eq!(word(Some(Thinking::Off), "gpt-5"), Err(()));
        assert_eq!(word(Some(Thinking::Off), "gpt-4o"), Ok(None));
        assert_eq!(word(Some(Thinking::Adaptive), "gpt-4o"), Ok(None));
        assert_eq!(word(None, "gpt-5"), Ok(None));
    }
}
