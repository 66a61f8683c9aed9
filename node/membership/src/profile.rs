//! What a node says of itself beside being alive: signed, so that nobody can say it for another,
//! and small enough to ride a packet.

use crate::MembershipError;
use crate::identity::Id;
use crate::membership::Admit;
use foca::{BroadcastHandler, Invalidates};
use hale_model::{Digest, HostName, Keypair, NodeId, Signature, wire};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most bytes that a profile may take, signed and encoded.
pub const MAX_PROFILE_BYTES: usize = 700;

/// How far a node's copy of the chain goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// How many entries.
    pub size: u64,
    /// The last one's hash.
    pub hash: Digest,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its host.
    pub host: HostName,
    /// Its failure domain: a rack, an availability zone.
    pub zone: String,
    /// The version of its binary.
    pub version: String,
    /// Where its HTTP endpoint is, `host:port`; none if only the host itself may ask.
    pub http: Option<String>,
    /// The host's tags.
    pub tags: BTreeMap<String, String>,
    /// How far its copy of the chain goes; none outside the Raft group.
    pub chain: Option<Tip>,
}

/// A profile with its number and its node's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    node: NodeId,
    /// The node's start, then the count since: a later one replaces an earlier.
    number: (u64, u64),
    body: Vec<u8>,
    signature: Signature,
}

fn signing_bytes(number: (u64, u64), body: &[u8]) -> Vec<u8> {
    let (start, count) = (number.0.to_be_bytes(), number.1.to_be_bytes());
    [b"hale-profile-v1\0", &start[..], &count[..], body].concat()
}

impl Announcement {
    /// Signs a profile and encodes it.
    pub(crate) fn sign(
        profile: &Profile,
        number: (u64, u64),
        key: &Keypair,
    ) -> Result<Vec<u8>, MembershipError> {
        let body = wire::encode(profile)?;
        let signature = key.sign(&signing_bytes(number, &body));
        let bytes = wire::encode(&Self {
            node: key.node_id(),
            number,
            body,
            signature,
        })?;
        if bytes.len() > MAX_PROFILE_BYTES {
            return Err(MembershipError::ProfileTooLarge { bytes: bytes.len() });
        }
        Ok(bytes)
    }
}

struct Known {
    number: (u64, u64),
    profile: Profile,
    bytes: Vec<u8>,
}

/// The profiles of all members. Cloning shares it: foca owns one end, the driver reads the other.
#[derive(Clone)]
pub(crate) struct Profiles(Arc<Mutex<Inner>>);

struct Inner {
    admit: Admit,
    limit: usize,
    known: BTreeMap<NodeId, Known>,
    /// No start later than this is believed, in milliseconds since the epoch.
    latest: u64,
    refused: u64,
}

impl Profiles {
    pub(crate) fn new(admit: Admit, limit: usize) -> Self {
        let known = BTreeMap::new();
        Self(Arc::new(Mutex::new(Inner {
            admit,
            limit,
            known,
            latest: u64::MAX,
            refused: 0,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on no start later than this is believed, in milliseconds since the epoch.
    pub(crate) fn believe_until(&self, latest: u64) {
        self.inner().latest = latest;
    }

    pub(crate) fn of(&self, node: &NodeId) -> Option<Profile> {
        self.inner().known.get(node).map(|k| k.profile.clone())
    }

    /// All of them, as they were signed.
    pub(crate) fn all(&self) -> Vec<Vec<u8>> {
        self.inner()
            .known
            .values()
            .map(|k| k.bytes.clone())
            .collect()
    }

    pub(crate) fn retain(&self, keep: impl Fn(&NodeId) -> bool) {
        self.inner().known.retain(|node, _| keep(node));
    }

    /// How many were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.inner().refused
    }

    /// Takes one in if it is news: its key then.
    pub(crate) fn take(&self, bytes: &[u8]) -> Option<Key> {
        let mut inner = self.inner();
        let read = (bytes.len() <= MAX_PROFILE_BYTES)
            .then(|| wire::decode::<Announcement>(bytes).ok())
            .flatten();
        let Some(said) = read else {
            inner.refused += 1;
            return None;
        };
        let known = inner.known.get(&said.node).map(|k| k.number);
        if known.is_some_and(|k| k >= said.number) {
            return None;
        }
        let has_room = known.is_some() || inner.known.len() < inner.limit;
        let is_timely = said.number.0 <= inner.latest;
        // The signature last: it costs the most.
        let profile = (has_room && is_timely && (inner.admit)(&said.node))
            .then(|| wire::decode::<Profile>(&said.body).ok())
            .flatten()
            .filter(|_| {
                said.node
                    .verify(&signing_bytes(said.number, &said.body), &said.signature)
                    .is_ok()
            });
        let Some(profile) = profile else {
            inner.refused += 1;
            return None;
        };
        let key = Key {
            node: said.node,
            number: said.number,
        };
        inner.known.insert(
            said.node,
            Known {
                number: said.number,
                profile,
                bytes: bytes.to_vec(),
            },
        );
        Some(key)
    }
}

/// Which profile a broadcast is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    node: NodeId,
    number: (u64, u64),
}

impl Invalidates for Key {
    fn invalidates(&self, other: &Self) -> bool {
        self.node == other.node && self.number >= other.number
    }
}

impl BroadcastHandler<Id> for Profiles {
    type Key = Key;
    type Error = Infallible;

    fn receive_item(&mut self, data: &[u8], _: Option<&Id>) -> Result<Option<Key>, Infallible> {
        Ok(self.take(data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(zone: &str) -> Profile {
        Profile {
            host: HostName::new("db-1").unwrap(),
            zone: zone.into(),
            version: "1.0.0".into(),
            http: Some("10.0.0.1:7700".into()),
            tags: [("role".to_owned(), "primary".to_owned())].into(),
            chain: Some(Tip {
                size: 9,
                hash: Digest::of(b"tip"),
            }),
        }
    }

    fn key(n: u8) -> Keypair {
        Keypair::from_seed(&[n; 32])
    }

    fn profiles() -> Profiles {
        let me = key(1).node_id();
        Profiles::new(Arc::new(move |n| *n == me), 10)
    }

    #[test]
    fn a_later_profile_replaces_an_earlier_and_never_the_other_way() {
        let p = profiles();
        let say = |zone: &str, n| Announcement::sign(&profile(zone), (7, n), &key(1)).unwrap();
        assert!(p.take(&say("b", 2)).is_some());
        assert!(p.take(&say("a", 1)).is_none() && p.take(&say("b", 2)).is_none());
        assert_eq!(p.of(&key(1).node_id()).unwrap().zone, "b");
        assert_eq!(p.refused(), 0);
    }

    #[test]
    fn nobody_speaks_for_another_and_strangers_are_not_heard() {
        let p = profiles();
        let mut forged: Announcement =
            wire::decode(&Announcement::sign(&profile("a"), (7, 1), &key(2)).unwrap()).unwrap();
        forged.node = key(1).node_id();
        assert!(p.take(&wire::encode(&forged).unwrap()).is_none());
        assert!(
            p.take(&Announcement::sign(&profile("a"), (7, 1), &key(2)).unwrap())
                .is_none()
        );
        assert!(p.take(b"garbage").is_none());
        assert_eq!(p.refused(), 3);
    }

    #[test]
    fn a_number_beyond_all_clocks_is_not_taken_so_that_a_later_one_can_follow() {
        let p = profiles();
        p.believe_until(1_000);
        let say = |n| Announcement::sign(&profile("a"), n, &key(1)).unwrap();
        assert!(p.take(&say((u64::MAX, u64::MAX))).is_none());
        assert_eq!(p.refused(), 1);
        assert!(p.take(&say((1_000, 1))).is_some());
    }

    #[test]
    fn a_profile_too_large_for_a_packet_is_refused_where_it_is_made() {
        let large = profile(&"z".repeat(MAX_PROFILE_BYTES));
        let error = Announcement::sign(&large, (0, 0), &key(1)).unwrap_err();
        assert!(
            error.to_string().contains("fewer or shorter tags"),
            "{error}"
        );
    }
}
