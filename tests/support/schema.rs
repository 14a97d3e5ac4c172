//! Values held against schemas of the API's document, as far as it uses them.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]

use serde_json::Value;

/// What in `value` is not as `schema` has it, by its path; `None`: nothing.
pub fn fault(document: &Value, schema: &Value, value: &Value, path: &str) -> Option<String> {
    let inner = |schema: &Value, value: &Value, path: &str| fault(document, schema, value, path);
    if let Some(to) = schema["$ref"].as_str() {
        let name = to.rsplit('/').next().unwrap_or_default();
        let known = &document["components"]["schemas"][name];
        if known.is_null() {
            return Some(format!("{path}: there is no schema {name}"));
        }
        return inner(known, value, path);
    }
    if let Some(all) = schema["allOf"].as_array() {
        return all.iter().find_map(|schema| inner(schema, value, path));
    }
    let any = schema["anyOf"].as_array();
    if let Some(choices) = schema["oneOf"].as_array().or(any) {
        let faults: Vec<_> = choices.iter().map(|schema| inner(schema, value, path)).collect();
        let good = faults.iter().filter(|fault| fault.is_none()).count();
        let is_good = if any.is_some() { good > 0 } else { good == 1 };
        // Some schemas have rules beside the choice.
        if !is_good || schema["type"].is_null() {
            return (!is_good).then(|| format!("{path}: {value} fits {good} choices: {faults:?}"));
        }
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |own: &Value| own == kind || (own == "number" && kind == "integer");
    let is_of_kind = match &schema["type"] {
        // A choice that only says which members there are.
        Value::Null => schema.is_object(),
        Value::Array(kinds) => kinds.iter().any(is),
        own => is(own),
    };
    if !is_of_kind {
        return Some(format!("{path}: {value} is no {}", schema["type"]));
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
        return Some(format!("{path}: {value} is none of {words:?}"));
    }
    if schema.get("const").is_some_and(|own| own != value) {
        return Some(format!("{path}: {value} is not {}", schema["const"]));
    }
    match value {
        Value::Array(list) => list.iter().find_map(|value| inner(&schema["items"], value, path)),
        Value::Object(members) => {
            let needed = schema["required"].as_array().into_iter().flatten();
            let missing =
                needed.filter_map(Value::as_str).find(|name| !members.contains_key(*name));
            if let Some(name) = missing {
                return Some(format!("{path}: no {name}"));
            }
            members.iter().find_map(|(name, value)| {
                let path = format!("{path}.{name}");
                match (&schema["properties"][name], &schema["additionalProperties"]) {
                    (Value::Null, Value::Bool(false)) => {
                        Some(format!("{path} is not in the schema"))
                    }
                    (Value::Null, Value::Null | Value::Bool(true)) => None,
                    (Value::Null, schema) => inner(schema, value, &path),
                    (schema, _) => inner(schema, value, &path),
                }
            })
        }
        _ => None,
    }
}

/// Panics with what is wrong.
pub fn check(document: &Value, schema: &Value, value: &Value, path: &str) {
    if let Some(fault) = fault(document, schema, value, path) {
        panic!("{fault}");
    }
}
