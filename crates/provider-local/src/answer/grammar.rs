//! Answers that must have a shape: JSON, a JSON Schema, a call of a given tool.
//!
//! Why llguidance and not the engine's own grammars: it is Rust, so a hostile schema costs a bounded error and never a C++
//! exception across the border or an assertion that stops the process; it compiles lazily and answers "which tokens may
//! come" in well under a millisecond, so that other sequences do not wait; and every step has a fuel limit. The engine's
//! converter lives in a helper library that would double the build time.
//!
//! Schemas are checked for size and depth first, may refer to parts of themselves only, and are compiled off the engine's
//! thread.

use std::sync::{Arc, OnceLock};

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use penstock_domain::{Code, Error, ResponseFormat, Tool, ToolChoice};
use serde_json::{Map, Value, json};

use crate::loaded::Loaded;

const MOST_BYTES: usize = 64 * 1024;
const MOST_DEPTH: usize = 32;
const MOST_NODES: usize = 4096;
const MOST_PATTERN: usize = 1024;

/// Compiles shapes for one model. The token tables behind it are made at the first use.
#[derive(Default)]
pub(crate) struct Grammars(OnceLock<Result<Arc<ParserFactory>, String>>);

impl Grammars {
    /// A matcher for answers that `schema` accepts. Takes milliseconds, the first time of a model up to a second.
    pub(crate) fn compile(&self, loaded: &Loaded, mut schema: Value, param: &str) -> Result<Matcher, Error> {
        let refuse = |why: String| {
            Error::new(Code::InvalidValue, format!("the schema cannot be enforced: {why}")).with_param(param)
        };
        weigh(&schema).map_err(refuse)?;
        if !schema.is_object() {
            return Err(refuse("expected a JSON object".to_owned()));
        }
        let factory = self.0.get_or_init(|| factory(loaded).map(Arc::new)).clone().map_err(|why| {
            Error::new(Code::Unsupported, "the vocabulary of this model cannot be constrained")
                .with_source(why)
        })?;
        // One space after commas and colons, no other freedom: small models lose themselves in white space.
        let options = JsonCompileOptions {
            item_separator: ", ".to_owned(),
            key_separator: ": ".to_owned(),
            whitespace_flexible: false,
            ..JsonCompileOptions::default()
        };
        options.apply_to(&mut schema);
        let parser = factory
            .create_parser(TopLevelGrammar::from_json_schema(schema))
            .map_err(|error| refuse(first_line(&error.to_string())))?;
        let mut matcher = Matcher::new(Ok(parser));
        // A schema that nothing fits shows here and not after the prompt was read.
        match matcher.compute_mask() {
            Ok(mask) if mask.is_zero() => Err(refuse("no JSON can fit it".to_owned())),
            Ok(_) => Ok(matcher),
            Err(error) => Err(refuse(first_line(&error.to_string()))),
        }
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(300).collect()
}

fn factory(loaded: &Loaded) -> Result<ParserFactory, String> {
    let vocabulary = &loaded.vocabulary;
    let mut enders: Vec<u32> = vocabulary.enders().collect();
    if enders.is_empty() {
        return Err("no token ends an answer".to_owned());
    }
    let vocab = loaded.model.vocab();
    let usual = if vocab.eot().0 >= 0 { vocab.eot() } else { vocab.eos() };
    if let Some(place) = enders.iter().position(|ender| i64::from(*ender) == i64::from(usual.0)) {
        enders.swap(0, place);
    }
    let count = u32::try_from(vocabulary.len()).map_err(|error| error.to_string())?;
    let words: Vec<Vec<u8>> = vocab
        .tokens()
        .map(|token| match vocabulary.piece(token) {
            // Control tokens are marked with a byte that no text has, as the library wants it.
            [] => match vocabulary.control_text(token) {
                "" => Vec::new(),
                text => [&[0xff], text.as_bytes()].concat(),
            },
            bytes => bytes.to_vec(),
        })
        .collect();
    let trie = TokTrie::from(&TokRxInfo::new(count, enders[0]), &words).with_eos_tokens(&enders);
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let slices = SlicedBiasComputer::json_slices();
    let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
        .map_err(|error| error.to_string())?;
    factory.quiet();
    let limits = factory.limits_mut();
    limits.step_lexer_fuel = 100_000;
    limits.step_max_items = 25_000;
    limits.max_lexer_states = 25_000;
    limits.max_grammar_size = 200_000;
    limits.verbose_errors = false;
    Ok(factory)
}

/// Size and depth, before any code recurses into it.
fn weigh(schema: &Value) -> Result<(), String> {
    let mut nodes = 0;
    let mut bytes = 0;
    let mut open = vec![(schema, 0_usize)];
    while let Some((value, depth)) = open.pop() {
        nodes += 1;
        if depth > MOST_DEPTH {
            return Err(format!("it is nested more than {MOST_DEPTH} levels deep"));
        }
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    bytes += key.len();
                    let pattern = (key == "pattern").then(|| value.as_str()).flatten();
                    if pattern.is_some_and(|pattern| pattern.len() > MOST_PATTERN) {
                        return Err(format!("a pattern is longer than {MOST_PATTERN} bytes"));
                    }
                    open.push((value, depth + 1));
                }
            }
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::String(text) => bytes += text.len(),
            _ => bytes += 8,
        }
        if nodes > MOST_NODES || bytes > MOST_BYTES {
            return Err(format!("it is larger than {MOST_NODES} members or {MOST_BYTES} bytes"));
        }
    }
    Ok(())
}

/// The schema that a response format asks for.
pub(crate) fn schema_of_format(format: &ResponseFormat) -> Result<Option<Value>, Error> {
    match format {
        ResponseFormat::Text => Ok(None),
        ResponseFormat::JsonObject => Ok(Some(json!({"type": "object"}))),
        ResponseFormat::JsonSchema { schema, .. } => {
            parse(schema.as_str(), "response_format.json_schema.schema").map(Some)
        }
    }
}

fn parse(text: &str, param: &str) -> Result<Value, Error> {
    let mut schema: Value = serde_json::from_str(text).map_err(|error| {
        Error::new(Code::InvalidValue, format!("the schema is not JSON: {error}")).with_param(param)
    })?;
    // A switchboard of the library, not a part of JSON Schema: not the asker's to set.
    if let Some(members) = schema.as_object_mut() {
        members.remove("x-guidance");
    }
    Ok(schema)
}

/// The schema of a forced tool call: an object of `name` and `arguments`, in this order. `None` when nothing is forced.
pub(crate) fn forced_call(tools: &[Tool], choice: Option<&ToolChoice>) -> Result<Option<Value>, Error> {
    let allowed: Vec<&Tool> = match choice {
        Some(ToolChoice::Required) => tools.iter().collect(),
        Some(ToolChoice::Named(name)) => tools.iter().filter(|tool| tool.name == *name).collect(),
        _ => return Ok(None),
    };
    if allowed.is_empty() {
        let asked = match choice {
            Some(ToolChoice::Named(name)) => format!("expected the name of one of the tools, found {name}"),
            _ => "a tool is required, but tools is empty".to_owned(),
        };
        return Err(Error::new(Code::InvalidValue, asked).with_param("tool_choice"));
    }
    let one = allowed.len() == 1;
    let mut calls = Vec::with_capacity(allowed.len());
    for (index, tool) in allowed.into_iter().enumerate() {
        let mut arguments = match &tool.parameters {
            Some(schema) => parse(schema.as_str(), "tools")?,
            None => json!({"type": "object"}),
        };
        // References point at the root of the tool's own schema, which now stands deeper.
        let root = if one {
            "#/properties/arguments".to_owned()
        } else {
            format!("#/anyOf/{index}/properties/arguments")
        };
        weigh(&arguments).map_err(|why| {
            Error::new(
                Code::InvalidValue,
                format!("the parameters of {} cannot be enforced: {why}", tool.name),
            )
            .with_param("tools")
        })?;
        redirect(&mut arguments, &root);
        if let Some(members) = arguments
            .as_object_mut()
            .filter(|members| !members.contains_key("type") && !members.contains_key("$ref"))
        {
            members.insert("type".to_owned(), json!("object"));
        }
        let mut properties = Map::new();
        properties.insert("name".to_owned(), json!({"const": tool.name}));
        properties.insert("arguments".to_owned(), arguments);
        calls.push(json!({
            "type": "object",
            "properties": properties,
            "required": ["name", "arguments"],
            "additionalProperties": false,
        }));
    }
    Ok(Some(if one { calls.swap_remove(0) } else { json!({"anyOf": calls}) }))
}

fn redirect(value: &mut Value, root: &str) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(rest) = target.strip_prefix('#') {
                            *target = format!("{root}{rest}");
                        }
                    }
                    other => redirect(other, root),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, root)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use penstock_domain::Json;

    use super::*;

    fn tool(name: &str, schema: &str) -> Tool {
        Tool {
            name: name.into(),
            description: None,
            parameters: Some(Json::from_valid(schema)),
            strict: None,
            cache_mark: None,
        }
    }

    #[test]
    fn references_follow_the_schema_to_its_new_place() {
        let tools = [
            tool("a", "{}"),
            tool("b", r##"{"$defs":{"x":{"type":"string"}},"properties":{"p":{"$ref":"#/$defs/x"}}}"##),
        ];
        let schema = forced_call(&tools, Some(&ToolChoice::Required)).unwrap().unwrap();
        let reference =
            schema.pointer("/anyOf/1/properties/arguments/properties/p/$ref").unwrap().as_str().unwrap();
        assert_eq!(schema.pointer(&reference[1..]), Some(&json!({"type": "string"})));
        let schema = forced_call(&tools, Some(&ToolChoice::Named("b".into()))).unwrap().unwrap();
        assert_eq!(schema.pointer("/properties/name/const"), Some(&json!("b")));
    }

    #[test]
    fn choices_that_cannot_be_met_are_refused() {
        assert!(forced_call(&[], Some(&ToolChoice::Required)).is_err());
        assert!(forced_call(&[tool("a", "{}")], Some(&ToolChoice::Named("b".into()))).is_err());
        assert_eq!(forced_call(&[tool("a", "{}")], Some(&ToolChoice::Auto)).unwrap(), None);
    }

    #[test]
    fn monsters_are_refused_before_anything_recurses() {
        let mut deep = json!({});
        for _ in 0..200 {
            deep = json!({"properties": {"a": deep}});
        }
        assert!(weigh(&deep).unwrap_err().contains("levels deep"));
        let wide: Vec<usize> = (0..10_000).collect();
        assert!(weigh(&json!({"enum": wide})).is_err());
        assert!(weigh(&json!({"pattern": "a".repeat(2000)})).is_err());
        assert!(weigh(&json!({"const": "a".repeat(70_000)})).is_err());
    }
}
