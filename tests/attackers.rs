//! Attacks on a cluster of real nodes: by whoever can send packets, by strangers that speak TLS, by a
//! member that lies. Each is refused and counted; nobody is down, much slower or larger for it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "attackers/fleet.rs"]
mod fleet;
#[path = "attackers/forged.rs"]
mod forged;
#[path = "attackers/member.rs"]
mod member;
#[path = "attackers/port.rs"]
mod port;
#[path = "attackers/stranger.rs"]
mod stranger;

/// Something to run what an attacker does on.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

const KEY: &str = "hale_transport_refused_total{reason=\"key\"}";
const HANDSHAKE: &str = "hale_transport_refused_total{reason=\"handshake\"}";
const FLOOD: &str = "hale_transport_refused_total";
const JOIN: &str = "hale_transport_refused_total{reason=\"join\"}";
const OVERSIZED: &str = "hale_transport_refused_total{reason=\"oversized\"}";
const MALFORMED: &str = "hale_transport_refused_total{reason=\"malformed\"}";
const VERSION: &str = "hale_transport_refused_total{reason=\"version\"}";
const FOREIGN: &str = "hale_transport_refused_total{reason=\"foreign_cluster\"}";
const UNKNOWN: &str = "hale_transport_refused_total{reason=\"unknown_stream\"}";
const LEDGER: &str = "hale_ledger_refused_total";
const PACKETS: &str = "hale_gossip_refused_total{what=\"packet\"}";
const MEMBERS: &str = "hale_gossip_refused_total{what=\"member\"}";
const IDENTITIES: &str = "hale_gossip_refused_total{what=\"identity\"}";
const PROFILES: &str = "hale_gossip_refused_total{what=\"profile\"}";
const SESSIONS: &str = "hale_actor_sessions_refused_total";
