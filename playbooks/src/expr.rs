//! The one home of CEL: conditions, and texts with `${…}` in them.

mod cost;
mod functions;
mod names;
mod nesting;
mod template;

pub use template::Template;

use cel::extractors::This;
use cel::objects::{Key, OptionalValue};
use cel::parser::PrattParser;
use cel::{Context, IdedExpr, Value as Cel};
use regex::Regex;
use serde::{Serialize, Serializer};
use serde_json::{Number, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The longest expression, in bytes.
pub const MAX_EXPR_BYTES: usize = 4096;

/// The parser's own bound on depth, beyond the look that `nesting` takes before it.
const MAX_DEPTH: u16 = 64;

/// The most nodes of a tree, macros expanded.
const MAX_NODES: usize = 4096;

/// The longest regular expression that `matches` compiles, in bytes once compiled.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// The names that are always there, if only as an empty map, so that `has(service.unit)` is
/// false rather than an error on a host without services.
const ALWAYS_THERE: [&str; 7] = [
    "incident", "params", "tags", "steps", "checks", "service", "secret",
];

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

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl Expr {
    /// Checks that a text is a CEL expression within its bounds.
    ///
    /// # Errors
    /// [`EvalError::Syntax`] if it is not, is longer than [`MAX_EXPR_BYTES`], nests too deeply,
    /// or reads a secret whose name is not written out.
    pub fn parse(text: &str) -> Result<Self, EvalError> {
        let tree = tree(text)?;
        let unnamed_secret = |p: &Vec<String>| p.len() == 1 && p[0] == "secret";
        if names::paths(&tree).iter().any(unnamed_secret) {
            return Err(syntax(text, "a secret is read by its name: secret.NAME"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it reads: `steps.count.rows` as `["steps", "count", "rows"]`, without the variables
    /// that its own macros bind.
    pub fn paths(&self) -> BTreeSet<Vec<String>> {
        tree(&self.0).map(|t| names::paths(&t)).unwrap_or_default()
    }

    /// Its value. Numbers compare across types (`3 >= 2.5`); arithmetic does not mix them
    /// (`double(params.n) * 1.5`).
    ///
    /// # Errors
    /// [`EvalError::NoValue`] if it reads what is not there, if an operation does not fit its
    /// operands, or if it could take too long.
    pub fn evaluate(&self, env: &Env) -> Result<Value, EvalError> {
        let tree = tree(&self.0)?;
        cost::check(&tree, env).map_err(|why| no_value(&self.0, &why))?;
        let reads = tree.references();
        let mut context = Context::with_env(Arc::clone(&STDLIB));
        for name in ALWAYS_THERE.iter().filter(|n| !env.contains_key(**n)) {
            bind(&mut context, name, Cel::from(HashMap::<Key, Cel>::new()));
        }
        if let Some(sigma) = env.get("incident").and_then(|i| i.get("sigma")) {
            bind(&mut context, "anomaly_sigma", to_cel(sigma));
        }
        for (name, value) in env.iter().filter(|(name, _)| reads.has_variable(name)) {
            bind(&mut context, name, to_cel(value));
        }
        let patterns = Patterns::default();
        let matches = move |This(text): This<Arc<String>>, pattern: Arc<String>| {
            patterns.matches(&text, pattern)
        };
        let trim = |This(text): This<Arc<String>>| text.trim().to_owned();
        let lower = |This(text): This<Arc<String>>| text.to_ascii_lowercase();
        context
            .add_function("matches", matches)
            .and_then(|()| context.add_function("trim", trim))
            .and_then(|()| context.add_function("lowerAscii", lower))
            .map_err(|e| no_value(&self.0, &e.to_string()))?;
        catch_unwind(AssertUnwindSafe(|| context.resolve(&tree)))
            .map_err(|_| no_value(&self.0, "the interpreter gave up on it"))?
            .map_err(|e| no_value(&self.0, &explain(&e)))
            .and_then(|v| to_json(&v).map_err(|why| no_value(&self.0, &why)))
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// As [`Expr::evaluate`], and [`EvalError::Type`] if it is neither true nor false.
    pub fn holds(&self, env: &Env) -> Result<bool, EvalError> {
        match self.evaluate(env)? {
            Value::Bool(b) => Ok(b),
            other => Err(EvalError::Type {
                text: cut(&self.0),
                wanted: "true or false",
                found: type_name(&other).into(),
            }),
        }
    }
}

static STDLIB: LazyLock<Arc<cel::Env>> = LazyLock::new(|| Arc::new(cel::Env::stdlib()));

/// The syntax tree of a text, if it keeps within every bound.
fn tree(text: &str) -> Result<IdedExpr, EvalError> {
    if text.len() > MAX_EXPR_BYTES {
        let why = format!("it is longer than {MAX_EXPR_BYTES} bytes");
        return Err(syntax(text, &why));
    }
    nesting::check(text).map_err(|why| syntax(text, &why))?;
    // CEL's other parser, generated by ANTLR, takes 130 KiB of stack for each bracket.
    let parser = PrattParser::new()
        .max_recursion_depth(MAX_DEPTH)
        .max_expression_node_count(MAX_NODES)
        .enable_optional_syntax(true);
    // Parser and interpreter are foreign code on operators' texts: should one ever panic, it is
    // an error of that text and not the end of an actor.
    let parsed = catch_unwind(AssertUnwindSafe(|| parser.parse(text)))
        .map_err(|_| syntax(text, "the parser gave up on it"))?;
    let tree = parsed.map_err(|e| syntax(text, &first_complaint(&e)))?;
    names::check(&tree).map_err(|why| syntax(text, why))?;
    functions::check(&tree).map_err(|why| syntax(text, &why))?;
    Ok(tree)
}

/// The parser's first complaint, in one line.
fn first_complaint(errors: &cel::ParseErrors) -> String {
    errors.errors.first().map_or_else(
        || "it can't be parsed".into(),
        |e| format!("at character {}: {}", e.pos.1.max(0), cut(&e.msg)),
    )
}

fn explain(error: &cel::ExecutionError) -> String {
    match error {
        cel::ExecutionError::NoSuchKey(key) => format!("there is no `{key}`"),
        cel::ExecutionError::UndeclaredReference(name) => format!("nothing is called `{name}`"),
        other => cut(&other.to_string()),
    }
}

fn bind(context: &mut Context<'_, '_>, name: &str, value: Cel) {
    context.add_variable_from_value(name, value);
}

/// Linear-time regular expressions, where CEL's own are a feature with a larger dependency. Each is
/// compiled once for an evaluation: `cost` says how many there can be.
#[derive(Default)]
struct Patterns(Mutex<HashMap<Arc<String>, Regex>>);

impl Patterns {
    fn matches(&self, text: &str, pattern: Arc<String>) -> Result<bool, cel::ExecutionError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&pattern) {
            return Ok(found.is_match(text));
        }
        let compiled = regex::RegexBuilder::new(&pattern)
            .size_limit(MAX_REGEX_BYTES)
            .build()
            .map_err(|e| cel::ExecutionError::function_error("matches", e))?;
        let holds = compiled.is_match(text);
        known.insert(pattern, compiled);
        Ok(holds)
    }
}

fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(b) => Cel::Bool(*b),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Cel::Int(i),
            (_, Some(u)) => Cel::UInt(u),
            _ => Cel::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(s) => Cel::String(Arc::new(s.clone())),
        Value::Array(items) => Cel::from(items.iter().map(to_cel).collect::<Vec<_>>()),
        Value::Object(fields) => Cel::from(
            fields
                .iter()
                .map(|(k, v)| (Key::from(k.as_str()), to_cel(v)))
                .collect::<HashMap<_, _>>(),
        ),
    }
}

fn to_json(value: &Cel) -> Result<Value, String> {
    Ok(match value {
        Cel::Null => Value::Null,
        Cel::Bool(b) => Value::Bool(*b),
        Cel::Int(i) => (*i).into(),
        Cel::UInt(u) => (*u).into(),
        Cel::Float(f) => Number::from_f64(*f)
            .map(Value::Number)
            .ok_or_else(|| format!("the number is {f}"))?,
        Cel::String(s) => Value::String(s.to_string()),
        Cel::List(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        Cel::Map(map) => Value::Object(
            map.map
                .iter()
                .map(|(k, v)| to_json(v).map(|v| (k.to_string(), v)))
                .collect::<Result<_, _>>()?,
        ),
        Cel::Opaque(opaque) => match opaque.downcast_ref::<OptionalValue>() {
            Some(optional) => optional.value().map_or(Ok(Value::Null), to_json)?,
            None => return Err("it is no plain value".into()),
        },
        _ => return Err("it is no plain value".into()),
    })
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

fn syntax(text: &str, why: &str) -> EvalError {
    EvalError::Syntax {
        text: cut(text),
        why: why.into(),
    }
}

fn no_value(text: &str, why: &str) -> EvalError {
    EvalError::NoValue {
        text: cut(text),
        why: why.into(),
    }
}

#[cfg(test)]
mod tests;
