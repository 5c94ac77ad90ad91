//! Effort, budgets, and which of them a model takes.
//!
//! What it promises: one table from OpenAI's steps to Anthropic's tokens, used in both directions; a budget always stays
//! below `max_tokens`, as the API demands. What it refuses to know: everything about models but the version in their name.

use penstock_domain::{Conversation, Effort, Part, Role, Thinking, ToolChoice};
use serde_json::{Value, json};

use crate::request::Lost;

/// The least budget that the API takes.
const LEAST: u32 = 1024;

/// The tokens that an effort stands for: those of Google's table for OpenAI's steps up to `high` ("OpenAI compatibility"
/// of the Gemini API), and round numbers above it.
const BUDGETS: [(Effort, u32); 6] = [
    (Effort::Minimal, LEAST),
    (Effort::Low, LEAST),
    (Effort::Medium, 8_192),
    (Effort::High, 24_576),
    (Effort::XHigh, 32_768),
    (Effort::Max, 65_536),
];

/// The budget of an effort, in tokens.
pub(crate) fn budget_of(effort: Effort) -> u32 {
    BUDGETS.iter().find(|(step, _)| *step == effort).map_or(LEAST, |(_, budget)| *budget)
}

/// The smallest effort whose budget holds these tokens; never less than `low`.
pub(crate) fn effort_of(budget: u32) -> Effort {
    BUDGETS[1..].iter().find(|(_, most)| budget <= *most).map_or(Effort::Max, |(effort, _)| *effort)
}

/// The effort in Anthropic's steps, which begin at `low`.
fn step(effort: Effort) -> &'static str {
    match effort {
        Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::XHigh => "xhigh",
        Effort::Max => "max",
    }
}

/// How a request says how much the model may think.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) thinking: Option<Value>,
    pub(super) effort: Option<&'static str>,
    /// What to add to a bound that the asker did not set, so that thinking takes nothing from the answer.
    pub(super) room: u32,
}

/// Plans the thinking of an asker of another dialect. Models from version 4.6 on think adaptively and take an effort; those
/// before take a budget.
pub(super) fn plan(conversation: &Conversation, model: &str, lost: &mut Lost) -> Plan {
    let most = conversation.sampling.max_output_tokens;
    let (budget, effort) = match conversation.thinking {
        None => return Plan::default(),
        Some(Thinking::Off) => {
            return Plan { thinking: Some(json!({"type": "disabled"})), ..Plan::default() };
        }
        Some(Thinking::Adaptive) => (budget_of(Effort::Medium), None),
        Some(Thinking::Effort(effort)) => (budget_of(effort), Some(effort)),
        Some(Thinking::Budget(budget)) => (budget.max(LEAST), Some(effort_of(budget))),
    };
    let room = if most.is_none() { budget } else { 0 };
    // The API refuses to think where a tool must be called.
    let forced = matches!(conversation.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    if is_adaptive(model) {
        lost.note(forced, "reasoning_effort");
        let thinking = (!forced).then(|| json!({"type": "adaptive"}));
        return Plan { thinking, effort: effort.map(step), room };
    }
    // A fifth of what the asker allows stays for the answer.
    let budget = most.map_or(budget, |most| budget.min(most / 5 * 4));
    let fits = budget >= LEAST && !forced && !is_in_unsigned_loop(conversation);
    let whole = most.is_none_or(|most| budget_asked(conversation) <= most / 5 * 4);
    lost.note(!fits || !whole, "reasoning_effort");
    let thinking = fits.then(|| json!({"type": "enabled", "budget_tokens": budget}));
    Plan { thinking, effort: None, room: if fits { room } else { 0 } }
}

fn budget_asked(conversation: &Conversation) -> u32 {
    match conversation.thinking {
        Some(Thinking::Effort(effort)) => budget_of(effort),
        Some(Thinking::Budget(budget)) => budget,
        _ => 0,
    }
}

/// Whether a model's name tells version 4.6 or later: `claude-opus-4-6`, `anthropic.claude-sonnet-5-v1:0`. Names without a
/// version are taken for older ones, which think by budget.
fn is_adaptive(model: &str) -> bool {
    let Some((_, name)) = model.rsplit_once("claude-") else { return false };
    // A date is no version.
    let number =
        |part: &&str| part.len() <= 2 && part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty();
    let mut parts = name.split(['-', '.', '@', ':']).skip_while(|part| !number(part));
    let major: u32 = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    let minor: u32 = parts.next().filter(number).and_then(|part| part.parse().ok()).unwrap_or(0);
    (major, minor) >= (4, 6)
}

/// Whether a tool loop is under way whose calls came without signed thinking: with a budget set, the API wants it back.
fn is_in_unsigned_loop(conversation: &Conversation) -> bool {
    let mut turns = conversation.messages.iter().rev().skip_while(|turn| turn.role == Role::Tool).peekable();
    let in_loop = conversation.messages.last().is_some_and(|turn| turn.role == Role::Tool);
    let signed = |part: &Part| matches!(part, Part::Signature(_) | Part::Sealed(_));
    in_loop && turns.peek().is_some_and(|turn| !turn.parts.iter().any(signed))
}

#[cfg(test)]
mod tests {
    use penstock_domain::Sampling;

    use super::*;

    fn planned(thinking: Thinking, most: Option<u32>, model: &str) -> (Plan, Vec<String>) {
        let sampling = Sampling { max_output_tokens: most, ..Sampling::default() };
        let conversation = Conversation { thinking: Some(thinking), sampling, ..Conversation::default() };
        let mut lost = Lost::default();
        let plan = plan(&conversation, model, &mut lost);
        (plan, lost.names())
    }

    #[test]
    fn versions_are_read_from_names_and_dates_are_none() {
        for new in
            ["claude-opus-4-6", "claude-sonnet-4-6-20260101", "anthropic.claude-opus-5-v1:0", "claude-x-4.7"]
        {
            assert!(is_adaptive(new), "{new}");
        }
        for old in
            ["claude-3-7-sonnet-latest", "claude-sonnet-4-20250514", "claude-opus-4-5", "upstream", "claude-"]
        {
            assert!(!is_adaptive(old), "{old}");
        }
    }

    #[test]
    fn an_effort_becomes_a_budget_below_the_bound_or_says_so() {
        let high = Thinking::Effort(Effort::High);
        let (plan, lost) = planned(high, None, "claude-sonnet-4-5");
        assert_eq!(plan.thinking, Some(json!({"type": "enabled", "budget_tokens": 24_576})));
        assert_eq!((plan.room, lost), (24_576, vec![]));
        let (plan, lost) = planned(high, Some(10_000), "claude-sonnet-4-5");
        assert_eq!(plan.thinking, Some(json!({"type": "enabled", "budget_tokens": 8_000})));
        assert_eq!((plan.room, lost), (0, vec!["reasoning_effort".to_owned()]));
        let (plan, lost) = planned(high, Some(1_200), "claude-sonnet-4-5");
        assert_eq!((plan.thinking, lost), (None, vec!["reasoning_effort".to_owned()]));
        let (plan, lost) = planned(high, Some(1_200), "claude-opus-4-6");
        assert_eq!(
            (plan.thinking, plan.effort, lost),
            (Some(json!({"type": "adaptive"})), Some("high"), vec![])
        );
    }

    #[test]
    fn budgets_and_efforts_are_one_table() {
        for (effort, budget) in &BUDGETS[1..] {
            assert_eq!(effort_of(budget_of(*effort)), *effort);
            assert_eq!(budget_of(*effort), *budget);
        }
        assert_eq!(
            (effort_of(1), effort_of(1_025), effort_of(u32::MAX)),
            (Effort::Low, Effort::Medium, Effort::Max)
        );
    }
}
