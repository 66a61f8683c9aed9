//! The language as a JSON Schema (draft 2020-12), for editors and other tools.

use crate::shape::{self, Field, Want};
use serde_json::{Map, Value, json};

/// The schema of a playbook, committed as `schema.json`.
pub fn schema() -> Value {
    let mut whole = object(shape::PLAYBOOK);
    let about = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://hale.invalid/playbook.schema.json",
        "title": "Hale playbook",
        "description": "What is checked, done, verified and undone when an incident fits.",
    });
    if let (Value::Object(whole), Value::Object(about)) = (&mut whole, about) {
        whole.extend(about);
        whole.insert("$defs".into(), json!({ "step": step() }));
    }
    whole
}

/// A check or step: the common fields, and those of its type.
fn step() -> Value {
    let each: Vec<Value> = shape::ACTIONS
        .iter()
        .map(|action| {
            let mut one = fields(shape::COMMON.iter().chain(action.fields));
            one["properties"]["type"] = json!({ "const": action.kind });
            one["title"] = json!(action.kind);
            one["description"] = json!(action.about);
            one
        })
        .collect();
    json!({ "type": "object", "oneOf": each })
}

fn object(of: &'static [Field]) -> Value {
    fields(of.iter())
}

fn fields<'a>(of: impl Iterator<Item = &'a Field>) -> Value {
    let mut properties = Map::new();
    let mut required = vec![];
    for field in of {
        let mut wanted = want(field.want);
        if let Value::Object(wanted) = &mut wanted {
            wanted.insert("description".into(), field.about.into());
        }
        properties.insert(field.name.into(), wanted);
        if let Want::Span(max) = field.want {
            let name = format!("{}_seconds", field.name);
            let about = format!("`{}` as a number of seconds.", field.name);
            let seconds =
                json!({ "type": "number", "minimum": 0, "maximum": max, "description": about });
            properties.insert(name, seconds);
        } else if field.needed {
            required.push(field.name);
        }
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn want(want_: Want) -> Value {
    match want_ {
        Want::Text(max) => json!({ "type": "string", "minLength": 1, "maxLength": max }),
        Want::Bool => json!({ "type": "boolean" }),
        Want::Whole(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Want::Decimal(min, max) if min == f64::MIN && max == f64::MAX => {
            json!({ "type": "number" })
        }
        Want::Decimal(min, max) => json!({ "type": "number", "minimum": min, "maximum": max }),
        Want::Bytes => {
            json!({ "type": ["integer", "string"], "minimum": 0, "pattern": r"^[0-9.]+ ?([kKMG]i?)?B?$" })
        }
        Want::Span(_) => json!({ "type": "string", "pattern": r"^([0-9.]+(ms|s|m|h|d) ?)+$" }),
        Want::Condition(_) => {
            json!({ "type": ["string", "boolean"], "maxLength": crate::expr::MAX_EXPR_BYTES })
        }
        Want::Template | Want::Bound | Want::Scalar => {
            json!({ "type": ["string", "number", "boolean"] })
        }
        Want::Regex => json!({ "type": "string", "format": "regex" }),
        Want::OneOf(known) => json!({ "enum": known }),
        Want::Scope => {
            json!({ "type": "string", "pattern": "^(host|service|custom:[A-Za-z0-9_-]+)$" })
        }
        Want::List(each) => json!({ "type": "array", "items": want(*each) }),
        Want::OneOrMore(each) => {
            let one = want(*each);
            json!({ "oneOf": [one.clone(), { "type": "array", "items": one }] })
        }
        Want::Map(each) => json!({ "type": "object", "additionalProperties": want(*each) }),
        Want::Object(of) => object(of),
        Want::Steps => json!({ "type": "array", "items": { "$ref": "#/$defs/step" } }),
    }
}
