//! How many handshakes go on at a time, in all and from one place. Who somebody is shows only at the
//! handshake's end, so that where it comes from is all that tells a member from one that floods the
//! port: one place takes half of the room at most.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Handshakes under way. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Room {
    limit: usize,
    taken: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// One handshake's part of the room, until it is dropped.
pub(crate) struct Turn {
    room: Room,
    place: IpAddr,
}

/// Whoever has an IPv6 address has a whole /64 of them (RFC 4291 section 2.5.4).
fn place_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

impl Room {
    /// For so many in all.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: Arc::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many go on in all, and from the place of an address.
    fn used(&self, ip: IpAddr) -> (usize, usize) {
        let taken = self.taken();
        let here = taken.get(&place_of(ip)).copied().unwrap_or(0);
        (taken.values().sum(), here)
    }

    /// At most so many from one place.
    fn share(&self) -> usize {
        self.limit.div_ceil(2)
    }

    /// Whether half of the room, or of the address's part of it, is taken. An address that is not
    /// proven must not take the rest: it may be another's, who could not get in then.
    pub(crate) fn is_busy(&self, ip: IpAddr) -> bool {
        let (all, here) = self.used(ip);
        all > self.limit / 2 || here > self.share() / 2
    }

    /// A turn, if there is room.
    pub(crate) fn enter(&self, ip: IpAddr) -> Option<Turn> {
        let (all, here) = self.used(ip);
        if all >= self.limit || here >= self.share() {
            return None;
        }
        let place = place_of(ip);
        *self.taken().entry(place).or_default() += 1;
        Some(Turn {
            room: self.clone(),
            place,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        if let Some(here) = taken.get_mut(&self.place) {
            *here -= 1;
            if *here == 0 {
                taken.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_place_leaves_half_of_the_room_to_others() {
        let room = Room::new(8);
        let flood: Vec<Turn> = (0..100)
            .filter_map(|n| room.enter(ip(&format!("2001:db8::{n:x}"))))
            .collect();
        assert_eq!(flood.len(), 4);
        assert!(room.is_busy(ip("2001:db8::ffff")) && !room.is_busy(ip("10.0.0.1")));
        let mapped = room.enter(ip("::ffff:10.0.0.1")).unwrap();
        let others: Vec<Turn> = (0..100)
            .filter_map(|_| room.enter(ip("10.0.0.1")))
            .collect();
        assert_eq!(others.len(), 3);
        assert!(room.enter(ip("10.0.0.2")).is_none(), "it is full");
        drop((flood, mapped, others));
        assert!(room.taken().is_empty(), "nobody is kept who has no turn");
    }

    #[test]
    fn an_address_has_to_be_proven_before_its_part_is_used_up() {
        let room = Room::new(64);
        let mut turns = vec![];
        while !room.is_busy(ip("10.0.0.1")) {
            turns.push(room.enter(ip("10.0.0.1")).unwrap());
        }
        assert_eq!(turns.len(), 17);
        assert!(room.enter(ip("10.0.0.1")).is_some());
    }
}
