//! Ports for what the demo starts: free on loopback, and below those that the system gives to
//! clients. A service that is down for a moment finds such a port free when it is back; of the
//! others any connection may have taken it meanwhile, even the one of whoever asks whether the
//! service is back.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// What the system gives to clients, where it does not say so.
const USUAL_CLIENTS_FROM: u16 = 32_768;
/// Below this, services have their well-known ports.
const FROM: u16 = 10_000;
/// So many in a row belong to one demo.
const STRETCH: u16 = 64;

/// Gives free ports, each once.
pub(super) struct FreePorts {
    next: u16,
    end: u16,
}

impl FreePorts {
    /// From somewhere below the clients' ports, another place each time.
    pub(super) fn new() -> Self {
        let told = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let end = told.ok().and_then(|t| clients_from(&t));
        let end = end.unwrap_or(USUAL_CLIENTS_FROM);
        let stretches = end.saturating_sub(FROM) / STRETCH;
        let mut seed = [0; 2];
        // Without randomness all demos begin at one place, and pass over what is taken.
        let _ = getrandom::fill(&mut seed);
        let at = u16::from_le_bytes(seed) % stretches.max(1);
        Self {
            next: FROM + at * STRETCH,
            end,
        }
    }

    /// A port that is free for TCP and UDP.
    ///
    /// # Errors
    /// If none is.
    pub(super) fn take(&mut self) -> io::Result<u16> {
        while self.next < self.end {
            let port = self.next;
            self.next += 1;
            let at = (Ipv4Addr::LOCALHOST, port);
            if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
                return Ok(port);
            }
        }
        // Where clients are given all ports, one of theirs.
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()
            .map(|a| a.port())
    }
}

/// The first port of those that clients are given: `32768 60999`.
fn clients_from(range: &str) -> Option<u16> {
    range.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_below_the_clients_and_given_once() {
        let mut ports = FreePorts::new();
        let taken: Vec<u16> = (0..20).map(|_| ports.take().unwrap()).collect();
        assert!(taken.iter().all(|p| *p < ports.end), "{taken:?}");
        assert!(taken.is_sorted_by(|a, b| a < b), "{taken:?}");
    }

    #[test]
    fn what_is_taken_is_passed_over() {
        let mut ports = FreePorts::new();
        let first = ports.take().unwrap();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let mut again = FreePorts {
            next: first,
            end: first + 40,
        };
        assert!(again.take().unwrap() > first);
        drop(held);
    }

    #[test]
    fn where_all_ports_are_the_clients_one_of_theirs_is_given() {
        let mut none = FreePorts { next: 1, end: 1 };
        assert_ne!(none.take().unwrap(), 0);
    }

    #[test]
    fn the_range_is_read_as_the_system_tells_it() {
        assert_eq!(clients_from("32768\t60999\n"), Some(32_768));
        assert_eq!(clients_from(""), None);
    }
}
