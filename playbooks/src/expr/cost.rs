//! How long an expression can take and how large its value can become, told before it runs.
//!
//! CEL always ends, but `[x].map(y, y + y).map(y, y + y)…` grows without bound. So each part gets
//! an upper bound of its work and its size; members of what is known are looked up, not guessed.

use super::Env;
use super::names::{children, path};
use cel::IdedExpr;
use cel::common::ast::{ComprehensionExpr, Expr, LiteralValue};
use serde_json::Value;
use std::collections::BTreeMap;

/// The most work, in values and bytes touched: some tens of milliseconds.
const MAX_WORK: f64 = 5e6;

/// What a regular expression costs to compile, milliseconds at most. One that is written out is
/// compiled once for an evaluation, one that is computed each time.
const PATTERN_WORK: f64 = 2e5;
/// What it costs to look for one, for each byte: the worst of them, far more than usual.
const MATCH_WORK: f64 = 10.0;

/// How large a value is at most: one for each value in it, and one for each byte of text.
#[derive(Clone, Copy)]
enum Extent<'a> {
    Known(&'a Value),
    AtMost(f64),
}

struct Bound<'a> {
    work: f64,
    extent: Extent<'a>,
}

struct Scope<'a> {
    env: &'a Env,
    /// What macros bound, by name.
    bound: BTreeMap<String, f64>,
    /// Regular expressions that are written out.
    patterns: f64,
}

/// Whether evaluating `tree` keeps within its bound.
pub(super) fn check(tree: &IdedExpr, env: &Env) -> Result<(), String> {
    let bound = BTreeMap::new();
    let patterns = 0.0;
    let mut scope = Scope {
        env,
        bound,
        patterns,
    };
    let bounded = weigh(tree, &mut scope);
    let patterns = scope.patterns * PATTERN_WORK;
    if bounded.work + bounded.extent.size() + patterns > MAX_WORK {
        return Err("it could take too long; loop over less, or not within a loop".into());
    }
    Ok(())
}

impl Extent<'_> {
    fn size(self) -> f64 {
        match self {
            Self::Known(value) => size(value),
            Self::AtMost(n) => n,
        }
    }

    /// How many turns a loop over it takes, and how large the largest item is.
    fn items(self) -> (f64, f64) {
        match self {
            Self::Known(Value::Array(items)) => (
                items.len() as f64,
                items.iter().map(size).fold(0.0, f64::max),
            ),
            Self::Known(Value::Object(fields)) => (
                fields.len() as f64,
                fields.keys().map(|k| k.len() as f64).fold(1.0, f64::max),
            ),
            other => (other.size(), other.size()),
        }
    }
}

fn size(value: &Value) -> f64 {
    1.0 + match value {
        Value::String(s) => s.len() as f64,
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(k, v)| k.len() as f64 + size(v)).sum(),
        _ => 0.0,
    }
}

fn weigh<'a>(tree: &IdedExpr, scope: &mut Scope<'a>) -> Bound<'a> {
    if let Some(found) = path(tree) {
        let extent = scope.extent(&found);
        return Bound {
            work: found.len() as f64,
            extent,
        };
    }
    match &tree.expr {
        Expr::Literal(literal) => Bound {
            work: 1.0,
            extent: Extent::AtMost(literal_size(literal)),
        },
        Expr::Comprehension(c) => weigh_loop(c, scope),
        // A member of something computed is no larger than that.
        Expr::Select(select) => weigh(&select.operand, scope),
        Expr::Call(call) if call.func_name == "matches" => weigh_match(tree, scope),
        _ => {
            let mut all = Bound {
                work: 1.0,
                extent: Extent::AtMost(32.0),
            };
            for part in children(tree) {
                let part = weigh(part, scope);
                let size = part.extent.size();
                all.work += part.work + size;
                all.extent = Extent::AtMost(all.extent.size() + size);
            }
            all
        }
    }
}

fn weigh_match<'a>(tree: &IdedExpr, scope: &mut Scope<'a>) -> Bound<'a> {
    let parts = children(tree);
    let mut work = 1.0;
    for part in &parts {
        let part = weigh(part, scope);
        work += part.work + MATCH_WORK * part.extent.size();
    }
    match parts.last().map(|pattern| &pattern.expr) {
        Some(Expr::Literal(_)) => scope.patterns += 1.0,
        _ => work += PATTERN_WORK,
    }
    let extent = Extent::AtMost(1.0);
    Bound { work, extent }
}

fn weigh_loop<'a>(c: &ComprehensionExpr, scope: &mut Scope<'a>) -> Bound<'a> {
    let range = weigh(&c.iter_range, scope);
    let (turns, item) = range.extent.items();
    let shadowed = scope.bound.clone();
    scope.bound.insert(c.iter_var.clone(), item);
    if let Some(second) = &c.iter_var2 {
        scope.bound.insert(second.clone(), item);
    }
    // What is collected grows by one step's value each turn.
    scope.bound.insert(c.accu_var.clone(), 1.0);
    let step = weigh(&c.loop_step, scope);
    let turn = weigh(&c.loop_cond, scope).work + step.work;
    scope.bound = shadowed;
    Bound {
        work: range.work + range.extent.size() + turns * turn,
        extent: Extent::AtMost(1.0 + turns * step.extent.size()),
    }
}

fn literal_size(literal: &LiteralValue) -> f64 {
    1.0 + match literal {
        LiteralValue::String(s) => s.inner().len() as f64,
        LiteralValue::Bytes(b) => b.inner().len() as f64,
        _ => 0.0,
    }
}

impl<'a> Scope<'a> {
    fn extent(&self, path: &[String]) -> Extent<'a> {
        if let Some(size) = self.bound.get(&path[0]) {
            return Extent::AtMost(*size);
        }
        let mut found = self.env.get(&path[0]);
        for name in &path[1..] {
            found = found.and_then(|v| v.get(name));
        }
        found.map_or(Extent::AtMost(1.0), Extent::Known)
    }
}
