//! Texts with `${expression}` in them.

use super::{Env, EvalError, Expr, cut, syntax, type_name};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// The longest template, in bytes.
pub(super) const MAX_TEMPLATE_BYTES: usize = 16 << 10;
/// The most expressions in one template.
const MAX_EXPRESSIONS: usize = 64;

/// A text with `${expression}` in it; `$${` stands for `${` itself. One that is a single `${…}`
/// keeps the value's type. `${secret.NAME}` is resolved on the executing host and masked in
/// everything that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

/// A part of a template.
enum Piece<'a> {
    Text(&'a str),
    Expression(&'a str),
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl Template {
    /// Checks that every `${…}` in a text is closed and holds an expression.
    ///
    /// # Errors
    /// [`EvalError::Syntax`] if one is not, or if the text is too long or has too many.
    pub fn parse(text: &str) -> Result<Self, EvalError> {
        if text.len() > MAX_TEMPLATE_BYTES {
            let why = format!("it is longer than {MAX_TEMPLATE_BYTES} bytes");
            return Err(syntax(text, &why));
        }
        let pieces = pieces(text).map_err(|why| syntax(text, why))?;
        let expressions = pieces.iter().filter_map(Piece::expression);
        if expressions.clone().count() > MAX_EXPRESSIONS {
            let why = format!("it has more than {MAX_EXPRESSIONS} expressions");
            return Err(syntax(text, &why));
        }
        for expression in expressions {
            Expr::parse(expression)?;
        }
        Ok(Self(text.to_owned()))
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its value: typed if it is one `${…}` and nothing else, a text otherwise.
    ///
    /// # Errors
    /// If an expression has no value, or one that can't stand in a text.
    pub fn render(&self, env: &Env) -> Result<Value, EvalError> {
        match self.pieces().as_slice() {
            [Piece::Expression(e)] => Expr::parse(e)?.evaluate(env),
            _ => self.render_text(env).map(Value::String),
        }
    }

    /// Its value as a text.
    ///
    /// # Errors
    /// If an expression has no value, or one that can't stand in a text: null, a list, a map.
    pub fn render_text(&self, env: &Env) -> Result<String, EvalError> {
        let mut out = String::with_capacity(self.0.len());
        for piece in self.pieces() {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Expression(e) => match Expr::parse(e)?.evaluate(env)? {
                    Value::String(text) => out.push_str(&text),
                    value @ (Value::Bool(_) | Value::Number(_)) => out.push_str(&value.to_string()),
                    other => {
                        return Err(EvalError::Type {
                            text: cut(e),
                            wanted: "a text, a number or a boolean",
                            found: type_name(&other).into(),
                        });
                    }
                },
            }
        }
        Ok(out)
    }

    /// The expressions in it, in order.
    pub fn expressions(&self) -> Vec<&str> {
        self.pieces().iter().filter_map(Piece::expression).collect()
    }

    /// The names of the secrets it reads.
    pub fn secrets(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .expressions()
            .into_iter()
            .filter_map(|e| Expr::parse(e).ok())
            .flat_map(|e| e.paths())
            .filter(|path| path[0] == "secret")
            .filter_map(|path| path.into_iter().nth(1))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Whether it is one `${…}` and nothing else, so that its value may be other than a text.
    pub fn is_single(&self) -> bool {
        matches!(self.pieces().as_slice(), [Piece::Expression(_)])
    }

    fn pieces(&self) -> Vec<Piece<'_>> {
        pieces(&self.0).unwrap_or_default()
    }
}

impl<'a> Piece<'a> {
    fn expression(&self) -> Option<&'a str> {
        match self {
            Self::Expression(e) => Some(e),
            Self::Text(_) => None,
        }
    }
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, &'static str> {
    let mut out = vec![];
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push(Piece::Text(&rest[..at - 1]));
            out.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        if at > 0 {
            out.push(Piece::Text(&rest[..at]));
        }
        let inside = &rest[at + 2..];
        let end = closing(inside).ok_or("a `${` is not closed with `}`")?;
        out.push(Piece::Expression(inside[..end].trim()));
        rest = &inside[end + 1..];
    }
    if !rest.is_empty() {
        out.push(Piece::Text(rest));
    }
    Ok(out)
}

/// Where the `}` stands that closes an expression: not one in a text or of a map.
fn closing(text: &str) -> Option<usize> {
    let (mut open, mut quote, mut escaped) = (0_usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{') => open += 1,
            (None, '}') if open == 0 => return Some(at),
            (None, '}') => open -= 1,
            _ => {}
        }
    }
    None
}
