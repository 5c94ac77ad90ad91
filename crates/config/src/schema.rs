//! The JSON Schema of the file, for editors and for the reference.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::File;
use crate::{KindSchemas, Kinds, schema_of};

/// The JSON Schema (draft 2020-12) of the file for the kinds of this build. Kinds that share one settings type share one
/// branch; a kind that is not in this build has none.
pub fn schema(kinds: &KindSchemas) -> Value {
    let mut root = schema_of::<File>();
    let mut defs = root.get_mut("$defs").map(Value::take).and_then(into_map).unwrap_or_default();
    let branches = branches(&kinds.providers, &mut defs);
    if let Some(providers) = root.pointer_mut("/properties/providers") {
        providers["additionalProperties"] = json!({ "$ref": "#/$defs/Provider" });
    }
    defs.insert("Provider".to_owned(), json!({ "type": "object", "required": ["kind"], "anyOf": branches }));
    root["$defs"] = Value::Object(defs);
    root
}

fn into_map(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

fn branches(kinds: &Kinds, defs: &mut Map<String, Value>) -> Vec<Value> {
    // Grouped by the text of the schema: presets share theirs.
    let mut groups: BTreeMap<String, (Value, Vec<&str>)> = BTreeMap::new();
    for (name, kind) in kinds {
        let canonical = kind.alias_of.as_ref().and_then(|of| kinds.get(of)).unwrap_or(kind);
        if let Some(schema) = &canonical.schema {
            let group = groups.entry(schema.to_string()).or_insert_with(|| (schema.clone(), Vec::new()));
            group.1.push(name);
        }
    }
    let mut groups: Vec<(Value, Vec<&str>)> = groups.into_values().collect();
    groups.sort_by(|a, b| a.1.cmp(&b.1));
    groups.into_iter().map(|(schema, names)| branch(schema, &names, defs)).collect()
}

fn branch(mut schema: Value, names: &[&str], defs: &mut Map<String, Value>) -> Value {
    let prefix = format!("provider.{}", names.first().copied().unwrap_or_default());
    let inner = schema.get_mut("$defs").map(Value::take).and_then(into_map).unwrap_or_default();
    for (name, mut definition) in inner {
        rename_refs(&mut definition, &prefix);
        defs.insert(format!("{prefix}.{name}"), definition);
    }
    rename_refs(&mut schema, &prefix);
    let Value::Object(map) = &mut schema else { return schema };
    map.shift_remove("$schema");
    map.shift_remove("$defs");
    map.insert("title".to_owned(), json!(names.join(", ")));
    let kind = json!({ "enum": names, "description": "Which kind of provider it is." });
    let properties = map.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        properties.shift_insert(0, "kind".to_owned(), kind);
    }
    let required = map.entry("required").or_insert_with(|| json!([]));
    if let Value::Array(required) = required {
        required.insert(0, json!("kind"));
    }
    schema
}

fn rename_refs(value: &mut Value, prefix: &str) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                match inner {
                    Value::String(target) if key == "$ref" => {
                        if let Some(name) = target.strip_prefix("#/$defs/") {
                            *target = format!("#/$defs/{prefix}.{name}");
                        }
                    }
                    other => rename_refs(other, prefix),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_refs(item, prefix)),
        _ => {}
    }
}
