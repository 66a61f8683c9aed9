//! As much of JSON Schema as the document uses, checked strictly: what an answer holds has to be
//! described.

use serde_json::Value;

fn resolve<'a>(document: &'a Value, reference: &str) -> &'a Value {
    let found = document.pointer(reference.trim_start_matches('#'));
    found.unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

pub(crate) fn every_reference_leads_somewhere(document: &Value) {
    fn walk(document: &Value, value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    resolve(document, reference);
                }
                map.values().for_each(|v| walk(document, v));
            }
            Value::Array(list) => list.iter().for_each(|v| walk(document, v)),
            _ => {}
        }
    }
    walk(document, document);
}

/// Panics if `value` is not what `schema` describes.
pub(crate) fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Err(why) = holds(document, schema, value, at) {
        panic!("{why}");
    }
}

fn holds(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return holds(document, resolve(document, reference), value, at);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let tried: Vec<_> = choices
            .iter()
            .map(|s| holds(document, s, value, at))
            .collect();
        return if tried.iter().any(Result::is_ok) {
            Ok(())
        } else {
            Err(format!("{tried:?}"))
        };
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{at}: {value} is none of {words:?}"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    if !types.is_empty() && !types.iter().any(|t| is_a(value, t)) {
        return Err(format!("{at}: {value} is not {types:?}"));
    }
    if let Some(items) = value.as_array()
        && !schema["items"].is_null()
    {
        for (i, item) in items.iter().enumerate() {
            holds(document, &schema["items"], item, &format!("{at}[{i}]"))?;
        }
    }
    let Some(map) = value.as_object() else {
        return Ok(());
    };
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !map.contains_key(name) {
            return Err(format!("{at}: `{name}` is promised and missing"));
        }
    }
    let more = &schema["additionalProperties"];
    for (name, inner) in map {
        let at = format!("{at}.{name}");
        match schema["properties"].get(name) {
            Some(schema) => holds(document, schema, inner, &at)?,
            None if more.is_object() => holds(document, more, inner, &at)?,
            None if schema["properties"].is_null() || more == true => {}
            None => return Err(format!("{at} is not described")),
        }
    }
    Ok(())
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("`{other}` is no type"),
    }
}
