//! What a node remembers of its cluster between two starts: how it was told to take part, and where
//! it last saw the others. The first is settled once, by `hale init` or `hale join`; the second is
//! a cache that may be wrong.

use crate::identity::{IdentityError, at, write_private};
use hale_model::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How a node takes part in its cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// Where it listens for the others; none if it runs alone.
    pub(crate) bind: Option<SocketAddr>,
    /// Where the others reach it, if that is not where it listens.
    pub(crate) advertise: Option<SocketAddr>,
    /// Whom it asks when it knows nobody.
    pub(crate) seeds: Vec<String>,
    /// Its failure domain.
    pub(crate) zone: Option<String>,
}

impl Settings {
    const FILE: &str = "cluster.json";

    /// What was settled in this data directory.
    pub(crate) fn read(dir: &Path) -> Result<Self, IdentityError> {
        read(&dir.join(Self::FILE))
    }

    /// Settles it.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), IdentityError> {
        write(&dir.join(Self::FILE), self)
    }
}

fn read<T: Default + for<'de> Deserialize<'de>>(path: &Path) -> Result<T, IdentityError> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| at(path)(io::Error::other(e))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(e) => Err(at(path)(e)),
    }
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), IdentityError> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|e| at(path)(io::Error::other(e)))?;
    write_private(path, &bytes)
}

/// Where other nodes were last seen.
pub(crate) struct Book {
    path: PathBuf,
    known: Mutex<BTreeMap<NodeId, SocketAddr>>,
}

impl Book {
    const FILE: &str = "peers.json";

    /// Opens what is in the data directory. A book that can't be read is begun anew: the seeds and
    /// the others' gossip fill it.
    pub(crate) fn open(dir: &Path) -> Self {
        let path = dir.join(Self::FILE);
        let known = read(&path).unwrap_or_else(|error| {
            tracing::warn!(%error, "where the others were is not known any more; the seeds tell");
            BTreeMap::new()
        });
        Self {
            path,
            known: Mutex::new(known),
        }
    }

    /// Where a node was last seen.
    pub(crate) fn addr_of(&self, node: &NodeId) -> Option<SocketAddr> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(node).copied()
    }

    /// All that is known.
    pub(crate) fn all(&self) -> Vec<(NodeId, SocketAddr)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(n, a)| (*n, *a)).collect()
    }

    /// Notes where nodes are, and forgets those that `keep` does not want; stored if it changed.
    pub(crate) fn note(
        &self,
        seen: impl IntoIterator<Item = (NodeId, SocketAddr)>,
        keep: impl Fn(&NodeId) -> bool,
    ) {
        let changed = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let before = known.clone();
            known.extend(seen);
            known.retain(|node, _| keep(node));
            (before != *known).then(|| known.clone())
        };
        if let Some(known) = changed
            && let Err(error) = write(&self.path, &known)
        {
            tracing::warn!(%error, "where the others are could not be stored");
        }
    }
}

/// The address under which this host is reached from `towards`, or from anywhere.
pub(crate) fn own_ip(towards: Option<SocketAddr>) -> IpAddr {
    // Connecting a UDP socket sends nothing; it asks the routing table. 192.0.2.1 is nobody's
    // (RFC 5737).
    let anyone = SocketAddr::from(([192, 0, 2, 1], 9));
    let routed = |to: SocketAddr| {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
            SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
        };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    towards
        .and_then(routed)
        .or_else(|| routed(anyone))
        .or_else(local_ip)
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The first address of this host that is not loopback, where no route leads outside.
fn local_ip() -> Option<IpAddr> {
    let table = std::fs::read_to_string("/proc/net/fib_trie").ok()?;
    let lines: Vec<&str> = table.lines().map(str::trim).collect();
    let own = lines.windows(2).filter_map(|pair| {
        let ip: Ipv4Addr = pair[0].strip_prefix("|-- ")?.parse().ok()?;
        (pair[1] == "/32 host LOCAL" && !ip.is_loopback()).then_some(IpAddr::V4(ip))
    });
    own.min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_model::Keypair;

    #[test]
    fn a_book_keeps_what_was_seen_and_forgets_who_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (
            Keypair::from_seed(&[1; 32]).node_id(),
            Keypair::from_seed(&[2; 32]).node_id(),
        );
        let addr = SocketAddr::from(([10, 0, 0, 1], 7118));
        let book = Book::open(dir.path());
        book.note([(a, addr), (b, addr)], |_| true);
        book.note([], |n| *n != b);
        let again = Book::open(dir.path());
        assert_eq!(again.all(), [(a, addr)]);
        std::fs::write(dir.path().join("peers.json"), b"{").unwrap();
        assert!(Book::open(dir.path()).all().is_empty());
    }

    #[test]
    fn settings_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Settings::read(dir.path()).unwrap(), Settings::default());
        let settings = Settings {
            bind: Some(SocketAddr::from(([0, 0, 0, 0], 7118))),
            seeds: vec!["db-1:7118".into()],
            ..Settings::default()
        };
        settings.write(dir.path()).unwrap();
        assert_eq!(Settings::read(dir.path()).unwrap(), settings);
    }
}
