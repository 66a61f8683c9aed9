//! By whoever can send packets to the port.

use super::fleet::Fleet;
use super::forged::{endpoint, key};
use super::{FLOOD, HANDSHAKE, runtime};
use hale_tests::alone;
use hale_transport::Lane;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Numbers that look random and are the same each time (Knuth's MMIX generator).
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut next = || {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }
}

/// A loopback socket's own buffer is small: what is sent faster is lost before anybody sees it.
fn flood(to: &[SocketAddr], packets: usize, mut packet: impl FnMut(usize) -> Vec<u8>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..packets {
        let _ = socket.send_to(&packet(n), to[n % to.len()]);
        if n.is_multiple_of(64) {
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

/// A long header of QUIC's first packet (RFC 9000 section 17.2.2) and noise for the rest.
fn initial(noise: &mut Noise, version: u32) -> Vec<u8> {
    let mut packet = vec![0xc3];
    packet.extend(version.to_be_bytes());
    for id in [noise.bytes(8), noise.bytes(8)] {
        packet.push(8);
        packet.extend(id);
    }
    // No token, and a length of all that follows.
    let rest = 1200 - packet.len() - 3;
    packet.push(0);
    packet.extend((0x4000 | rest as u16).to_be_bytes());
    packet.extend(noise.bytes(rest));
    packet
}

type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// Hands on packets between one client and a node, and keeps what the client sends.
fn wiretap(node: SocketAddr) -> (SocketAddr, Seen) {
    let (front, back) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    let addr = front.local_addr().unwrap();
    back.connect(node).unwrap();
    let seen = Seen::default();
    let client = Arc::new(Mutex::new(None));
    let (front, back) = (Arc::new(front), Arc::new(back));
    for socket in [&front, &back] {
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
    }
    let (f, b, c, s) = (front.clone(), back.clone(), client.clone(), seen.clone());
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = f.recv_from(&mut buffer) {
            *c.lock().unwrap() = Some(from);
            s.lock().unwrap().push(buffer[..len].to_vec());
            let _ = b.send(&buffer[..len]);
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok(len) = back.recv(&mut buffer) {
            if let Some(to) = *client.lock().unwrap() {
                let _ = front.send_to(&buffer[..len], to);
            }
        }
    });
    (addr, seen)
}

/// All that a client sends in a handshake on the lane of strangers, which the node lets end well.
fn handshake(node: SocketAddr) -> Vec<Vec<u8>> {
    let (addr, seen) = wiretap(node);
    runtime().block_on(async {
        let (stranger, _arrivals) = endpoint(&key(77), 0);
        let link = stranger.join(addr).await.unwrap();
        assert_eq!(link.lane(), Lane::Join);
        stranger.close().await;
    });
    let seen = seen.lock().unwrap();
    assert!(seen[0].len() >= 1200, "the first packet is padded");
    seen.clone()
}

/// The first packets of so many handshakes, none of them sent to a node yet.
fn begun_handshakes(many: usize) -> Vec<Vec<u8>> {
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let addr = sink.local_addr().unwrap();
    let collect = std::thread::spawn(move || {
        let (mut begun, mut buffer) = (std::collections::BTreeMap::new(), [0; 2048]);
        while begun.len() < many
            && let Ok(len) = sink.recv(&mut buffer)
        {
            let packet = buffer[..len].to_vec();
            // By the id that the client chose for the node: what is sent again has the same.
            begun.entry(packet[6..14].to_vec()).or_insert(packet);
        }
        begun.into_values().collect::<Vec<_>>()
    });
    runtime().block_on(async {
        let (stranger, _arrivals) = endpoint(&key(78), 0);
        let mut dials = tokio::task::JoinSet::new();
        for n in 0..many {
            let stranger = stranger.clone();
            dials.spawn(async move { stranger.join(addr).await.is_ok() });
            if n % 16 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        dials.join_all().await;
    });
    let begun = collect.join().unwrap();
    assert!(begun.len() > many / 2, "only {} began", begun.len());
    begun
}

#[test]
fn what_comes_to_the_port_from_anywhere_disturbs_nobody() {
    let _alone = alone();
    let mut fleet = Fleet::of_three();
    let ports: Vec<SocketAddr> = fleet.hosts.iter().map(|h| h.udp).collect();
    let captured = handshake(ports[0]);
    let mut noise = Noise(1);

    fleet.withstands("30,000 datagrams of noise", &[], || {
        flood(&ports, 30_000, |n| noise.bytes(n % 1400));
    });
    let mut noise = Noise(2);
    fleet.withstands("10,000 first packets of noise", &[], || {
        flood(&ports, 10_000, |n| {
            initial(&mut noise, if n % 4 == 0 { 0xfade } else { 1 })
        });
    });
    // The first of the packets begins a handshake each time that the one before is given up.
    fleet.withstands(
        "a handshake sent again 200 times",
        &[(HANDSHAKE, 1)],
        || {
            for _ in 0..200 {
                flood(&ports[..1], captured.len(), |n| captured[n].clone());
            }
        },
    );
    let begun = begun_handshakes(800);
    fleet.withstands(
        "800 handshakes begun from 800 addresses",
        &[(FLOOD, 400)],
        || {
            let sockets: Vec<UdpSocket> = begun
                .iter()
                .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
                .collect();
            for (n, (socket, packet)) in sockets.iter().zip(&begun).enumerate() {
                let _ = socket.send_to(packet, ports[0]);
                if n % 8 == 0 {
                    std::thread::park_timeout(Duration::from_millis(2));
                }
            }
        },
    );
}
