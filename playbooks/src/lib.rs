//! The playbook language: what may be written in a playbook, checked before it can run.
//!
//! Text becomes a [`raw`] document with its line numbers, that becomes a [`Playbook`] whose every
//! field is valid, and what is wrong is told by [`lint`]: file, line, and what to write instead.
//! Conditions are CEL ([`expr`]), values are typed, and there are no shell strings.

pub mod expr;
pub mod language;

pub use expr::{Env, EvalError, Expr, Template};
pub use language::{
    Action, FailAction, Parameter, ParameterType, Playbook, ScopeKind, SeriesPattern, Signature,
    Step,
};
