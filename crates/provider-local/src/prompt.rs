//! From a conversation to the tokens that the model reads.
//!
//! What it is: the messages as the file's own chat template wants them, tools included, then tokens.
//!
//! What it promises: any order of roles gives a prompt or an error that says what the model cannot do; text from the
//! request never becomes a control token (see `vocabulary`); a template cannot run for long or recurse deeply.
//!
//! What it refuses to know: sampling, slots, the engine's thread.

mod template;

use std::collections::BTreeSet;

use llama_cpp_2::token::LlamaToken;
use penstock_domain::{
    Code, Conversation, Error, Message, Part, Role, Thinking, Tier, Tool, ToolChoice, Verbosity,
};
use serde_json::{Map, Value, json};

pub(crate) use template::Template;

use crate::loaded::Loaded;

/// The tokens of a chat.
pub(crate) fn of_chat(loaded: &Loaded, chat: &Conversation) -> Result<Vec<LlamaToken>, Error> {
    let template = &loaded.template;
    let tools = if chat.tool_choice == Some(ToolChoice::None) { &[] } else { chat.tools.as_slice() };
    let native = template.knows_tools;
    let mut turns = Vec::with_capacity(chat.messages.len() + 1);
    if !tools.is_empty() && !native {
        turns.push(Turn::new("system", tool_instructions(tools, chat.tool_choice.as_ref())));
    }
    for (index, message) in chat.messages.iter().enumerate() {
        Turn::add(&mut turns, message, native).map_err(|error| match error.param() {
            Some(_) => error,
            None => error.with_param(format!("messages[{index}].content")),
        })?;
    }
    let turns = join_systems(turns);
    let tools: Vec<Value> = if native { tools.iter().map(tool_value).collect() } else { Vec::new() };
    let rendered = render(loaded, &turns, &tools)?;
    Ok(loaded.vocabulary.tokens_of_rendered(&loaded.model, &rendered))
}

fn render(loaded: &Loaded, turns: &[Turn], tools: &[Value]) -> Result<String, Error> {
    let shield = |text: &str| loaded.vocabulary.shield(text);
    let attempt = |turns: &[Turn]| {
        let messages: Vec<Value> = turns.iter().map(|turn| shielded(turn.value(), &shield)).collect();
        let tools: Vec<Value> = tools.iter().map(|tool| shielded(tool.clone(), &shield)).collect();
        loaded.template.render(&loaded.vocabulary, &messages, &tools)
    };
    attempt(turns).or_else(|first| {
        // Some models know no system turn and want user and assistant to alternate; fold the turns and try once more.
        attempt(&folded(turns)).map_err(|_| {
            Error::new(
                Code::Unsupported,
                format!("the chat template of the model refuses this conversation: {first}"),
            )
            .with_param("messages")
        })
    })
}

/// One turn as templates know them.
#[derive(Debug, Clone, Default, PartialEq)]
struct Turn {
    role: &'static str,
    name: Option<String>,
    content: String,
    reasoning: Option<String>,
    calls: Vec<Value>,
    call_id: Option<String>,
}

impl Turn {
    fn new(role: &'static str, content: String) -> Self {
        Self { role, content, ..Self::default() }
    }

    fn add(turns: &mut Vec<Turn>, message: &Message, native: bool) -> Result<(), Error> {
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool if native => "tool",
            Role::Tool => "user",
        };
        let mut turn = Turn { role, name: message.name.clone(), ..Turn::default() };
        let mut results = Vec::new();
        for part in &message.parts {
            match part {
                Part::Text(text) | Part::Refusal(text) => turn.content.push_str(text),
                Part::Reasoning(text) => turn.reasoning.get_or_insert_default().push_str(text),
                Part::ToolCall(call) => {
                    let arguments = serde_json::from_str::<Value>(&call.arguments)
                        .ok()
                        .filter(Value::is_object)
                        .unwrap_or_else(|| Value::String(call.arguments.clone()));
                    let function = json!({"name": call.name, "arguments": arguments});
                    if native {
                        turn.calls.push(json!({"type": "function", "id": call.id, "function": function}));
                    } else {
                        turn.content.push_str(&format!("<tool_call>\n{function}\n</tool_call>"));
                    }
                }
                Part::ToolResult { call_id, parts, .. } => results.push((call_id.clone(), text_of(parts))),
                // Other vendors' own notes, which mean nothing to a model of ours.
                Part::Signature(_) | Part::Sealed(_) | Part::CacheMark(_) => {}
                Part::Image(_) | Part::Audio(_) | Part::File(_) => return Err(unsupported(part)),
            }
        }
        let said = !turn.content.is_empty() || !turn.calls.is_empty();
        if results.is_empty() || said {
            turns.push(turn);
        }
        for (call_id, content) in results {
            turns.push(if native {
                Turn { role: "tool", content, call_id: Some(call_id), ..Turn::default() }
            } else {
                Turn::new("user", format!("<tool_response>\n{content}\n</tool_response>"))
            });
        }
        Ok(())
    }

    fn value(&self) -> Value {
        let mut value = Map::new();
        value.insert("role".into(), self.role.into());
        value.insert("content".into(), self.content.as_str().into());
        if let Some(name) = &self.name {
            value.insert("name".into(), name.as_str().into());
        }
        if let Some(reasoning) = &self.reasoning {
            value.insert("reasoning_content".into(), reasoning.as_str().into());
        }
        if !self.calls.is_empty() {
            value.insert("tool_calls".into(), self.calls.clone().into());
        }
        if let Some(id) = &self.call_id {
            value.insert("tool_call_id".into(), id.as_str().into());
        }
        Value::Object(value)
    }
}

/// The text of a tool's result. A picture in it would make every later turn of an agent impossible: the model is told that
/// there was one, and [`lost`] names it.
fn text_of(parts: &[Part]) -> String {
    let mut whole = String::new();
    for part in parts {
        match part {
            Part::Text(text) => whole.push_str(text),
            Part::Image(_) => whole.push_str("[an image, which this model cannot see]"),
            Part::Audio(_) | Part::File(_) => whole.push_str("[a file, which this model cannot read]"),
            _ => {}
        }
    }
    whole
}

/// What of a request the model never gets to know, by path, each once.
pub(crate) fn lost(chat: &Conversation) -> Vec<String> {
    let mut lost: BTreeSet<String> = chat.unsaid.iter().cloned().collect();
    let mut note = |lost_here: bool, path: &str| {
        if lost_here {
            lost.insert(path.to_owned());
        }
    };
    note(!matches!(chat.thinking, None | Some(Thinking::Off | Thinking::Adaptive)), "thinking");
    note(chat.parallel_tool_calls == Some(false) && !chat.tools.is_empty(), "parallel_tool_calls");
    note(chat.tools.iter().any(|tool| tool.cache_mark.is_some()), "tools.cache_control");
    note(!matches!(chat.verbosity, None | Some(Verbosity::Medium)), "verbosity");
    note(chat.cache_key.is_some(), "prompt_cache_key");
    note(!matches!(chat.tier, None | Some(Tier::Auto | Tier::Default)), "service_tier");
    for part in chat.messages.iter().flat_map(|message| &message.parts) {
        let inner = if let Part::ToolResult { parts, .. } = part { &parts[..] } else { &[] };
        note(matches!(part, Part::ToolResult { failed: true, .. }), "messages.is_error");
        note(matches!(part, Part::Signature(_)), "messages.thinking.signature");
        note(matches!(part, Part::Sealed(_)), "messages.redacted_thinking");
        let mut all = std::iter::once(part).chain(inner);
        note(all.any(|part| matches!(part, Part::CacheMark(_))), "messages.cache_control");
        let media = |part: &Part| matches!(part, Part::Image(_) | Part::Audio(_) | Part::File(_));
        note(inner.iter().any(media), "messages.tool_result.media");
    }
    lost.into_iter().collect()
}

fn unsupported(part: &Part) -> Error {
    let what = match part {
        Part::Image(_) => "images",
        Part::Audio(_) => "audio",
        Part::File(_) => "files",
        _ => "this kind of content",
    };
    Error::new(
        Code::Unsupported,
        format!("the embedded model reads text only, found {what}: send text, or ask a model that sees them"),
    )
}

/// Leading system turns become one, because most templates look at the first message only.
fn join_systems(turns: Vec<Turn>) -> Vec<Turn> {
    let leading = turns.iter().take_while(|turn| turn.role == "system").count();
    if leading < 2 {
        return turns;
    }
    let text: Vec<&str> = turns[..leading].iter().map(|turn| turn.content.as_str()).collect();
    let mut joined = vec![Turn::new("system", text.join("\n\n"))];
    joined.extend_from_slice(&turns[leading..]);
    joined
}

/// Systems become part of the user's turn, neighbours of one role become one, the first turn is the user's.
fn folded(turns: &[Turn]) -> Vec<Turn> {
    let mut folded: Vec<Turn> = Vec::with_capacity(turns.len() + 1);
    for turn in turns {
        let mut turn = turn.clone();
        if turn.role == "system" {
            turn.role = "user";
        }
        if folded.is_empty() && turn.role != "user" {
            folded.push(Turn::new("user", String::new()));
        }
        match folded.last_mut().filter(|last| last.role == turn.role && turn.role != "tool") {
            Some(last) => {
                if !last.content.is_empty() {
                    last.content.push_str("\n\n");
                }
                last.content.push_str(&turn.content);
                last.calls.append(&mut turn.calls);
            }
            None => folded.push(turn),
        }
    }
    folded
}

fn tool_value(tool: &Tool) -> Value {
    let parameters = tool.parameters.as_ref().and_then(|schema| serde_json::from_str(schema.as_str()).ok());
    json!({"type": "function", "function": {
        "name": tool.name,
        "description": tool.description.as_deref().unwrap_or_default(),
        "parameters": parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}})),
    }})
}

/// What a model is told about tools when its template has no place for them.
fn tool_instructions(tools: &[Tool], choice: Option<&ToolChoice>) -> String {
    let mut text = "You can call functions. The functions are:\n<tools>\n".to_owned();
    for tool in tools {
        text.push_str(&tool_value(tool).to_string());
        text.push('\n');
    }
    text.push_str(
        "</tools>\nTo call one, answer with nothing but its name and arguments as JSON between these tags:\n\
         <tool_call>\n{\"name\": \"function name\", \"arguments\": {}}\n</tool_call>",
    );
    match choice {
        Some(ToolChoice::Required) => text.push_str("\nYou must call a function now."),
        Some(ToolChoice::Named(name)) => text.push_str(&format!("\nYou must call the function {name} now.")),
        _ => {}
    }
    text
}

fn shielded(value: Value, shield: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(shield(&text)),
        Value::Array(items) => items.into_iter().map(|item| shielded(item, shield)).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(key, value)| (shield(&key), shielded(value, shield)))
            .collect::<Map<_, _>>()
            .into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(turns: &[Turn]) -> Vec<(&str, &str)> {
        turns.iter().map(|turn| (turn.role, turn.content.as_str())).collect()
    }

    #[test]
    fn folding_makes_roles_alternate_from_the_user_on() {
        let turns = [
            Turn::new("system", "s".into()),
            Turn::new("user", "a".into()),
            Turn::new("user", "b".into()),
            Turn::new("assistant", "c".into()),
        ];
        assert_eq!(roles(&folded(&turns)), [("user", "s\n\na\n\nb"), ("assistant", "c")]);
        assert_eq!(roles(&folded(&turns[3..])), [("user", ""), ("assistant", "c")]);
    }

    #[test]
    fn leading_systems_are_joined() {
        let turns = vec![
            Turn::new("system", "a".into()),
            Turn::new("system", "b".into()),
            Turn::new("user", "c".into()),
        ];
        assert_eq!(roles(&join_systems(turns)), [("system", "a\n\nb"), ("user", "c")]);
    }

    #[test]
    fn tool_history_becomes_text_for_templates_without_tools() {
        let message = Message {
            role: Role::Tool,
            name: None,
            parts: vec![Part::ToolResult {
                call_id: "c1".into(),
                parts: vec![Part::Text("12 degrees".into())],
                failed: false,
            }],
        };
        let mut turns = Vec::new();
        Turn::add(&mut turns, &message, false).unwrap();
        assert_eq!(roles(&turns), [("user", "<tool_response>\n12 degrees\n</tool_response>")]);
        Turn::add(&mut turns, &message, true).unwrap();
        assert_eq!(turns[1].value()["tool_call_id"], "c1");
    }
}
