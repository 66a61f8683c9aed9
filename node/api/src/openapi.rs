//! The OpenAPI document, made of the routes' table and of `schemas.json`.

use crate::problem::Code;
use crate::routes::{Access, Pace, Parameter, ROUTES, Route, ValueKind};
use serde_json::{Map, Value, json};

const SCHEMAS: &str = include_str!("schemas.json");

/// The interface as OpenAPI 3.1.
///
/// # Errors
/// If the binary's own schemas are not JSON.
pub fn document() -> Result<Value, serde_json::Error> {
    let schemas: Value = serde_json::from_str(SCHEMAS)?;
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.verb.as_str()] = operation(route);
    }
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hale",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "One node of Hale. Every error names the next command to type.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token in api.token in the node's data directory.",
                },
            },
        },
    }))
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn operation(route: &Route) -> Value {
    let parameters: Vec<Value> = path_parts(route.path)
        .map(|name| {
            let kind = if name == "index" { "Count" } else { "Id" };
            json!({ "name": name, "in": "path", "required": true, "schema": reference(kind) })
        })
        .chain(route.query.iter().map(query))
        .collect();
    let mut answers = Map::new();
    answers.insert("200".into(), answer(route, "What was asked for."));
    if route.name == "readyz" {
        answers.insert(
            "503".into(),
            answer(route, "The node does not do its work; the reasons."),
        );
    }
    for code in problems(route) {
        let error = json!({
            "description": meaning(code),
            "content": { "application/json": { "schema": reference("Error") } },
        });
        answers.entry(code.status().as_str()).or_insert(error);
    }
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.about,
        "parameters": parameters,
        "responses": answers,
        "security": match route.access {
            Access::Open => json!([]),
            Access::Token => json!([{ "token": [] }]),
        },
    });
    if let Some(body) = &route.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { body.media: { "schema": reference(body.schema) } },
        });
    }
    operation
}

fn answer(route: &Route, description: &str) -> Value {
    json!({
        "description": description,
        "content": { route.answer.media: { "schema": reference(route.answer.schema) } },
    })
}

/// The names in braces.
fn path_parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn query(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        ValueKind::Text => json!({ "type": "string", "maxLength": 512 }),
        ValueKind::Integer { min, max: u64::MAX } => json!({ "type": "integer", "minimum": min }),
        ValueKind::Integer { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        ValueKind::OneOf(words) => json!({ "enum": words }),
        ValueKind::Flag => json!({ "type": "boolean" }),
    };
    json!({
        "name": parameter.name,
        "in": "query",
        "required": false,
        "description": parameter.about,
        "schema": schema,
    })
}

/// The problems that a route can answer with.
fn problems(route: &Route) -> Vec<Code> {
    let mut codes = vec![
        Code::BadRequest,
        Code::Misdirected,
        Code::Internal,
        Code::TimedOut,
    ];
    if route.access == Access::Token {
        codes.extend([Code::Unauthorized, Code::Unavailable]);
    }
    if path_parts(route.path).next().is_some() {
        codes.push(Code::NotFound);
    }
    if let Some(body) = &route.body {
        codes.extend([Code::TooLarge, Code::Refused, Code::Invalid]);
        if body.media == "application/json" {
            codes.push(Code::UnsupportedMediaType);
        }
    }
    // A stream that is under way can only be broken off.
    codes.retain(|c| route.pace != Pace::Stream || *c != Code::TimedOut);
    codes
}

fn meaning(code: Code) -> &'static str {
    match code {
        Code::BadRequest => "The request can't be read, or has an unknown query parameter.",
        Code::Unauthorized => "No token, or not this node's.",
        Code::NotFound => "There is no such thing.",
        Code::MethodNotAllowed => "The path has other methods.",
        Code::Refused => "The cluster's state forbids it.",
        Code::TooLarge => "The body is over 1 MiB.",
        Code::UnsupportedMediaType => "The body is of another type.",
        Code::Misdirected => "A loopback listener was asked for another host's name.",
        Code::Invalid => "A field is unknown, missing or out of range; it is named.",
        Code::Internal => "Something inside failed.",
        Code::Unavailable => "Not ready or too busy; Retry-After says when to come again.",
        Code::TimedOut => "It took too long.",
    }
}
