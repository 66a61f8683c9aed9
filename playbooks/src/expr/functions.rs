//! The functions that there are: an expression that calls another has no value, ever.

use cel::IdedExpr;

/// Beside the operators and the macros (`has`, `all`, `exists`, `exists_one`, `map`, `filter`).
pub(super) const KNOWN: [&str; 25] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "hasValue",
    "int",
    "lowerAscii",
    "matches",
    "none",
    "of",
    "ofNonZeroValue",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "or",
    "orValue",
    "size",
    "startsWith",
    "string",
    "trim",
    "type",
    "uint",
    "value",
];

/// Whether all functions that are called exist.
pub(super) fn check(tree: &IdedExpr) -> Result<(), String> {
    let references = tree.references();
    let is_operator = |name: &str| !name.starts_with(|c: char| c.is_ascii_alphabetic());
    let mut called = references.functions();
    called.sort_unstable();
    let unknown = called
        .into_iter()
        .find(|name| !is_operator(name) && !KNOWN.contains(name));
    match unknown {
        Some(name) => Err(format!(
            "there is no function `{name}()`; there are {}",
            listed()
        )),
        None => Ok(()),
    }
}

fn listed() -> String {
    let plain = KNOWN.iter().filter(|n| !n.contains('.'));
    plain.copied().collect::<Vec<_>>().join(", ")
}
