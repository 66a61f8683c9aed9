//! The one home of CEL: conditions, and texts with `${…}` in them.

use serde::{Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// The longest expression, in bytes.
pub const MAX_EXPR_BYTES: usize = 4096;

/// What expressions can see: names to JSON values (`incident`, `params`, `tags`, `steps`, …).
pub type Env = BTreeMap<String, Value>;

/// Why an expression can't be parsed or gives no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// It is not CEL.
    #[error("`{text}` is not a valid expression: {why}")]
    Syntax {
        /// The expression, cut to 200 characters.
        text: String,
        /// What the parser said.
        why: String,
    },
    /// It has no value here.
    #[error("`{text}` has no value here: {why}")]
    NoValue {
        /// The expression.
        text: String,
        /// Why.
        why: String,
    },
    /// It is a value of another type than the one wanted.
    #[error("`{text}` should be {wanted} and is {found}")]
    Type {
        /// The expression.
        text: String,
        /// What was wanted.
        wanted: &'static str,
        /// What it is.
        found: String,
    },
}

/// A CEL expression that is known to parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expr(String);

/// A text with `${expression}` in it. One that is a single `${…}` keeps the value's type.
/// `${secret.NAME}` is resolved on the executing host and masked in everything that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl Expr {
    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Template {
    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
