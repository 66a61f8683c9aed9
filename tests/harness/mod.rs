//! The parts that tests are made of, one file a part.

pub(crate) mod chain;
pub(crate) mod cluster;
pub(crate) mod disk;
pub(crate) mod events;
pub(crate) mod http;
pub(crate) mod member;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod playbook;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod scene;
pub(crate) mod scratch;
pub(crate) mod servers;
pub(crate) mod service;
pub(crate) mod wait;
pub(crate) mod writers;
