//! One file a subcommand.

pub(crate) mod real;
pub(crate) mod sim;
