//! A playbook's parameters with their values for one incident, typed and checked.

use crate::expr::{Env, EvalError};
use crate::finding::nearest;
use crate::language::{Parameter, ParameterType, Playbook};
use crate::quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// The longest text, in bytes, and the longest list.
const MAX_TEXT_BYTES: usize = 4096;
const MAX_ITEMS: usize = 256;

/// Why a playbook's parameters can't be settled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The playbook has no such parameter.
    #[error("{playbook} has no parameter `{name}`; {hint}")]
    Unknown {
        /// The playbook.
        playbook: String,
        /// What was given.
        name: String,
        /// What to write instead.
        hint: String,
    },
    /// There is no value.
    #[error("{playbook} needs `{name}` ({about}); give it with `--param {name}=VALUE`")]
    Missing {
        /// The playbook.
        playbook: String,
        /// The parameter.
        name: String,
        /// What it is for.
        about: String,
    },
    /// The value does not fit.
    #[error("`{name}` {why}; give another with `--param {name}=VALUE`")]
    Unfit {
        /// The parameter.
        name: String,
        /// Why.
        why: String,
    },
    /// Where it comes from can't be evaluated.
    #[error("`{name}` can't be taken from the incident")]
    From {
        /// The parameter.
        name: String,
        /// Why.
        #[source]
        source: EvalError,
    },
}

/// The parameters of a playbook: what is given comes before where it comes `from`, and that before
/// the default. Texts that are given are read as the parameter's type, as a command line has
/// nothing else.
///
/// # Errors
/// If one is given that is not there, has no value, or has one that does not fit.
pub fn settle(
    playbook: &Playbook,
    env: &Env,
    given: &BTreeMap<String, Value>,
) -> Result<BTreeMap<String, Value>, SettleError> {
    let names = || playbook.parameters.iter().map(|p| p.name.as_str());
    if let Some(name) = given.keys().find(|g| !names().any(|n| n == *g)) {
        let hint = match nearest(name, names()) {
            Some(near) => format!("write `{near}`"),
            None => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
        };
        let playbook = playbook.name.to_string();
        return Err(SettleError::Unknown {
            playbook,
            name: name.clone(),
            hint,
        });
    }
    let settled = playbook.parameters.iter().map(|parameter| {
        let value = value_of(parameter, env, given)?.ok_or_else(|| SettleError::Missing {
            playbook: playbook.name.to_string(),
            name: parameter.name.clone(),
            about: parameter.description.clone(),
        })?;
        let unfit = |why| SettleError::Unfit {
            name: parameter.name.clone(),
            why,
        };
        Ok((
            parameter.name.clone(),
            admit(parameter, &value).map_err(unfit)?,
        ))
    });
    settled.collect()
}

fn value_of(
    parameter: &Parameter,
    env: &Env,
    given: &BTreeMap<String, Value>,
) -> Result<Option<Value>, SettleError> {
    if let Some(value) = given.get(&parameter.name) {
        return Ok(Some(read(parameter.kind, value)));
    }
    let found = match parameter.from.as_ref().map(|from| from.evaluate(env)) {
        None | Some(Ok(Value::Null) | Err(EvalError::NoValue { .. })) => None,
        Some(Ok(value)) => Some(value),
        Some(Err(source)) => {
            return Err(SettleError::From {
                name: parameter.name.clone(),
                source,
            });
        }
    };
    Ok(found.or_else(|| parameter.default.clone()))
}

/// A text as the type it stands for; anything else as it is.
fn read(kind: ParameterType, value: &Value) -> Value {
    let Value::String(text) = value else {
        return value.clone();
    };
    let parsed = match kind {
        ParameterType::Integer
        | ParameterType::Number
        | ParameterType::Boolean
        | ParameterType::Duration => serde_json::from_str(text)
            .ok()
            .filter(|v: &Value| v.is_number() || v.is_boolean()),
        ParameterType::TextList => Some(
            text.split(',')
                .map(|t| Value::String(t.trim().to_owned()))
                .collect(),
        ),
        ParameterType::Text => None,
    };
    parsed.unwrap_or_else(|| value.clone())
}

/// The value in the form it is used in, if it fits the parameter.
///
/// # Errors
/// Why it does not, as the end of a sentence about the parameter.
pub(crate) fn admit(parameter: &Parameter, value: &Value) -> Result<Value, String> {
    let value = typed(parameter.kind, value)?;
    if let Some(number) = value.as_f64() {
        if let Some(min) = parameter.min.filter(|min| number < *min) {
            return Err(format!("is {number} and must be at least {min}"));
        }
        if let Some(max) = parameter.max.filter(|max| number > *max) {
            return Err(format!("is {number} and must be at most {max}"));
        }
    }
    if !parameter.one_of.is_empty() && !parameter.one_of.contains(&value) {
        let all: Vec<_> = parameter.one_of.iter().map(Value::to_string).collect();
        return Err(format!("is {value} and must be one of {}", all.join(", ")));
    }
    if let Some(pattern) = &parameter.pattern {
        let whole = regex::Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|_| "has a pattern that is no regular expression".to_owned())?;
        let texts = match &value {
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
            Value::String(text) => vec![text.as_str()],
            _ => vec![],
        };
        if let Some(bad) = texts.iter().find(|t| !whole.is_match(t)) {
            return Err(format!(
                "is `{}` and must match `{pattern}`",
                bad.chars().take(80).collect::<String>()
            ));
        }
    }
    Ok(value)
}

fn typed(kind: ParameterType, value: &Value) -> Result<Value, String> {
    let wanted = match (kind, value) {
        (ParameterType::Integer, Value::Number(n)) if n.is_i64() || n.is_u64() => {
            return Ok(value.clone());
        }
        (ParameterType::Integer, Value::Number(n)) => match n.as_f64() {
            Some(f) if f.fract() == 0.0 && f.abs() < 2f64.powi(53) => return Ok((f as i64).into()),
            _ => "a whole number",
        },
        (ParameterType::Integer, _) => "a whole number",
        (ParameterType::Number, Value::Number(_)) | (ParameterType::Boolean, Value::Bool(_)) => {
            return Ok(value.clone());
        }
        (ParameterType::Number, _) => "a number",
        (ParameterType::Boolean, _) => "true or false",
        (ParameterType::Text, Value::String(text)) if is_clean(text) => return Ok(value.clone()),
        (ParameterType::Text, _) => "a text of at most 4096 bytes without control characters",
        (ParameterType::Duration, Value::Number(n)) if n.as_f64().is_some_and(|s| s >= 0.0) => {
            return Ok(value.clone());
        }
        (ParameterType::Duration, Value::String(text)) => match quantity::duration(text) {
            Some(d) => return Ok(quantity::seconds(d)),
            None => "a duration like `90s` or a number of seconds",
        },
        (ParameterType::Duration, _) => "a duration like `90s` or a number of seconds",
        (ParameterType::TextList, Value::Array(items))
            if items.len() <= MAX_ITEMS
                && items.iter().all(|i| i.as_str().is_some_and(is_clean)) =>
        {
            return Ok(value.clone());
        }
        (ParameterType::TextList, _) => "a list of at most 256 texts without control characters",
    };
    let shown: String = value.to_string().chars().take(80).collect();
    Err(format!("should be {wanted} and is {shown}"))
}

fn is_clean(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control)
}
