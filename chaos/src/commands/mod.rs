//! One file a subcommand.

pub(crate) mod real;
pub(crate) mod scale;
mod seats;
pub(crate) mod sim;
