//! One file a subcommand.

pub(crate) mod real;
mod seats;
pub(crate) mod sim;
