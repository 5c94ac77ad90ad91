//! A small judge of JSON by OpenAI's own description, as far as that description goes: types, members that must be there,
//! fixed values, alternatives.

use std::path::Path;

use serde_json::Value;

/// The schemas of what responses are made of.
pub(crate) struct Schemas(Value);

impl Schemas {
    pub(crate) fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/responses/openapi.json");
        let text = std::fs::read_to_string(path).unwrap();
        Self(serde_json::from_str::<Value>(&text).unwrap()["schemas"].clone())
    }

    /// Whether a value is what the schema of this name describes; where and why not.
    pub(crate) fn check(&self, name: &str, value: &Value) -> Result<(), String> {
        self.judge(&self.0[name], value, "")
    }

    fn judge(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        if let Some(name) = schema["$ref"].as_str() {
            // Our codes of errors are more than OpenAI's: clients match on them, so they are told.
            return if name == "ResponseErrorCode" { Ok(()) } else { self.judge(&self.0[name], value, at) };
        }
        for all in schema["allOf"].as_array().into_iter().flatten() {
            self.judge(all, value, at)?;
        }
        for any in ["anyOf", "oneOf"] {
            if let Some(any) = schema[any].as_array() {
                self.any(any, value, at)?;
            }
        }
        if let Some(fixed) = schema["enum"].as_array()
            && !fixed.contains(value)
        {
            return Err(format!("{at}: {value} is none of {fixed:?}"));
        }
        self.typed(schema, value, at)
    }

    /// One of several; the complaint is that of the one that is meant, which its `type` tells.
    fn any(&self, any: &[Value], value: &Value, at: &str) -> Result<(), String> {
        let mut complaint = format!("{at}: no alternative fits");
        for schema in any {
            match self.judge(schema, value, at) {
                Ok(()) => return Ok(()),
                Err(found) if self.is_meant(schema, value) => complaint = found,
                Err(_) => {}
            }
        }
        Err(complaint)
    }

    fn is_meant(&self, schema: &Value, value: &Value) -> bool {
        let schema = schema["$ref"].as_str().map_or(schema, |name| &self.0[name]);
        let kinds = schema["properties"]["type"]["enum"].as_array();
        kinds.is_some_and(|kinds| kinds.contains(&value["type"]))
    }

    fn typed(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let fits = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            Some("null") => value.is_null(),
            _ => true,
        };
        if !fits {
            return Err(format!("{at}: {value} is no {}", schema["type"]));
        }
        if let Some(object) = value.as_object() {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !object.contains_key(name) {
                    return Err(format!("{at}: has no `{name}`"));
                }
            }
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(value) = object.get(name) {
                    self.judge(schema, value, &format!("{at}.{name}"))?;
                }
            }
        }
        for (i, item) in value.as_array().into_iter().flatten().enumerate() {
            if !schema["items"].is_null() {
                self.judge(&schema["items"], item, &format!("{at}[{i}]"))?;
            }
        }
        Ok(())
    }
}

#[test]
fn the_judge_tells_right_from_wrong() {
    let schemas = Schemas::read();
    let right = serde_json::json!({
        "type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": "x",
        "sequence_number": 1, "logprobs": [],
    });
    assert_eq!(schemas.check("ResponseStreamEvent", &right), Ok(()));
    for (name, wrong) in [("delta", Value::Null), ("item_id", 1.into()), ("type", "response.other".into())] {
        let mut event = right.clone();
        event[name] = wrong;
        assert!(schemas.check("ResponseStreamEvent", &event).is_err(), "{name}");
    }
    let mut event = right;
    event.as_object_mut().unwrap().remove("logprobs");
    assert!(schemas.check("ResponseStreamEvent", &event).is_err());
}
