//! What the end-to-end tests share: a real `hale` program, real servers beside it, and ways to
//! wait for what must happen. The tests themselves are the files beside this one.
//!
//! Whatever is started here ends when its value is dropped, also when a test panics.

#![allow(
    clippy::unwrap_used,
    reason = "only tests use it: a failed unwrap is a failed test"
)]

mod harness;

pub use harness::chain::Chain;
pub use harness::cluster::{Fleet, SETTLED};
pub use harness::disk::Disk;
pub use harness::events::Events;
pub use harness::http::{Answer, Client};
pub use harness::member::{Member, Start};
pub use harness::network::Network;
pub use harness::node::Node;
pub use harness::playbook::{Playbook, check, command};
pub use harness::postgres::{Cluster, PgError, Session};
pub use harness::process::{Ended, Guarded, run};
pub use harness::program::{binary, hale, hale_command};
pub use harness::scene::{SOON, Scene};
pub use harness::scratch::{Scratch, free_port};
pub use harness::servers::{Nginx, Redis};
pub use harness::service::Service;
pub use harness::wait::{alone, pause, skipped, wait_for, wait_until};
pub use harness::writers::{Writers, assert_written};
