//! What an expression reads, and the forms of CEL that playbooks don't have.

use cel::IdedExpr;
use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};
use std::collections::BTreeSet;

/// Refuses what has no meaning here: messages of a protocol, and trees the parser left unfinished.
pub(super) fn check(tree: &IdedExpr) -> Result<(), &'static str> {
    match &tree.expr {
        Expr::Unspecified => return Err("it is not finished"),
        Expr::Struct(_) => return Err("messages can't be built here; use a map"),
        Expr::Map(map) => {
            let is_field = |e: &EntryExpr| matches!(e, EntryExpr::StructField(_));
            if map.entries.iter().any(|e| is_field(&e.expr)) {
                return Err("messages can't be built here; use a map");
            }
        }
        _ => {}
    }
    children(tree).into_iter().try_for_each(check)
}

/// Every path that is read from outside, longest form only: `a.b["c"]` is `["a", "b", "c"]`.
pub(super) fn paths(tree: &IdedExpr) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    collect(tree, &mut vec![], &mut found);
    found
}

fn collect(tree: &IdedExpr, bound: &mut Vec<String>, found: &mut BTreeSet<Vec<String>>) {
    if let Some(path) = path(tree) {
        if !bound.contains(&path[0]) {
            found.insert(path);
        }
        return;
    }
    if let Expr::Comprehension(c) = &tree.expr {
        collect(&c.iter_range, bound, found);
        let before = bound.len();
        bound.extend([c.iter_var.clone(), c.accu_var.clone()]);
        bound.extend(c.iter_var2.clone());
        for inner in body(c) {
            collect(inner, bound, found);
        }
        bound.truncate(before);
        return;
    }
    for child in children(tree) {
        collect(child, bound, found);
    }
}

/// The path that a chain of members, and of indices by a constant text, spells.
pub(super) fn path(tree: &IdedExpr) -> Option<Vec<String>> {
    match &tree.expr {
        Expr::Ident(name) => Some(vec![name.trim_start_matches('.').to_owned()]),
        Expr::Select(select) => {
            let mut path = path(&select.operand)?;
            path.push(select.field.clone());
            Some(path)
        }
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [of, key]) => {
                let Expr::Literal(LiteralValue::String(key)) = &key.expr else {
                    return None;
                };
                let mut path = path(of)?;
                path.push(key.inner().to_owned());
                Some(path)
            }
            _ => None,
        },
        _ => None,
    }
}

fn body(c: &ComprehensionExpr) -> [&IdedExpr; 4] {
    [&c.accu_init, &c.loop_cond, &c.loop_step, &c.result]
}

/// The direct parts of an expression.
pub(super) fn children(tree: &IdedExpr) -> Vec<&IdedExpr> {
    match &tree.expr {
        Expr::Call(call) => call
            .target
            .as_deref()
            .into_iter()
            .chain(&call.args)
            .collect(),
        Expr::Comprehension(c) => std::iter::once(&c.iter_range).chain(body(c)).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|e| entry(&e.expr)).collect(),
        Expr::Struct(s) => s.entries.iter().flat_map(|e| entry(&e.expr)).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => vec![],
    }
}

fn entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}
