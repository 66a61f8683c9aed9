//! The shell around [`hale_membership::Membership`]: packets and timers in, effects out. One task
//! owns it; what it sees is written to [`Members`].

use super::members::Members;
use super::wires::Wires;
use hale_membership::{Contact, Effect, Event, Membership};
use hale_model::{NodeId, wire};
use hale_transport::{Lane, Peer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// The first byte of a gossip datagram.
pub(crate) const PACKET: u8 = 0x01;
/// A stream that exchanges all that two nodes know.
pub(crate) const EXCHANGE: u8 = 0x20;
/// Events that wait; packets beyond it are dropped, as a network would.
const QUEUE: usize = 1024;
/// Packets that wait for a connection: those to nodes that don't answer give up after a while, and
/// meanwhile must not pile up.
const DIALS: usize = 64;
/// Exchanges that peers begin and that are worked on at a time; each may be of some megabytes.
const EXCHANGES: usize = 2;
/// How long an exchange may take.
const EXCHANGE_TIME: Duration = Duration::from_secs(5);
/// What is known is shown to the rest of the node at most this often while nothing happens to
/// members.
const SHOW: Duration = Duration::from_secs(1);

/// How many packets may wait for connections.
pub(crate) fn dials() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(DIALS))
}

/// What the driving task is asked.
pub(crate) enum Ask {
    /// Something happened.
    Event(Event),
    /// A peer tells what it knows and is told what this node does.
    Exchange(Vec<u8>, oneshot::Sender<Vec<u8>>),
}

/// Where gossip is told what happens. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Gossip {
    asks: mpsc::Sender<Ask>,
    exchanges: Arc<Semaphore>,
}

impl Gossip {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Ask>) {
        let (send, receive) = mpsc::channel(QUEUE);
        let asks = Self {
            asks: send,
            exchanges: Arc::new(Semaphore::new(EXCHANGES)),
        };
        (asks, receive)
    }

    /// A packet; dropped where too many wait.
    pub(crate) fn packet(&self, from: NodeId, bytes: Vec<u8>) {
        let _ = self
            .asks
            .try_send(Ask::Event(Event::Packet { from, bytes }));
    }

    /// Something that must not get lost.
    pub(crate) async fn tell(&self, event: Event) {
        // A driver that has ended hears nothing any more, and need not.
        let _ = self.asks.send(Ask::Event(event)).await;
    }

    /// What this node knows, for a peer that tells what it does; nothing while others exchange.
    pub(crate) async fn exchange(&self, theirs: &[u8]) -> Option<Vec<u8>> {
        let _turn = self.exchanges.try_acquire().ok()?;
        let (reply, answer) = oneshot::channel();
        let theirs = theirs.to_vec();
        self.asks.send(Ask::Exchange(theirs, reply)).await.ok()?;
        answer.await.ok()
    }
}

/// What the driver needs beside the membership.
pub(crate) struct Shell {
    pub(crate) wires: Wires,
    pub(crate) members: Arc<Members>,
    pub(crate) cluster: u64,
    pub(crate) gossip: Gossip,
    pub(crate) dials: Arc<Semaphore>,
    /// A node that is down: its connections are closed.
    pub(crate) forget: Arc<dyn Fn(&NodeId) + Send + Sync>,
}

/// Drives the membership until its queue is closed.
pub(crate) async fn run(mut membership: Membership, mut asks: mpsc::Receiver<Ask>, shell: Shell) {
    let began = Instant::now();
    let mut shown = Instant::now();
    shell.members.set(membership.members(), membership.counts());
    loop {
        let wait = membership
            .next_deadline()
            .map_or(SHOW, |at| at.saturating_sub(began.elapsed()));
        let asked = tokio::select! {
            asked = asks.recv() => match asked {
                Some(asked) => asked,
                None => return,
            },
            () = tokio::time::sleep(wait) => Ask::Event(Event::Tick),
        };
        let event = match asked {
            Ask::Event(event) => event,
            Ask::Exchange(theirs, reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(membership.everything().unwrap_or_default());
                Event::Everything(theirs)
            }
        };
        let is_news = !matches!(event, Event::Tick | Event::Packet { .. });
        let left = matches!(event, Event::Leave);
        let mut changed = is_news;
        let effects = membership.on(began.elapsed(), event);
        for effect in effects {
            changed |= !matches!(effect, Effect::Send { .. });
            shell.perform(effect, &membership);
        }
        if changed || shown.elapsed() >= SHOW {
            shown = Instant::now();
            shell.members.set(membership.members(), membership.counts());
        }
        if left {
            // What was said last is on its way: the transport is closed by whoever leaves.
            return;
        }
    }
}

impl Shell {
    fn perform(&self, effect: Effect, membership: &Membership) {
        match effect {
            Effect::Send { to, bytes } => {
                let endpoint = self.wires.endpoint.clone();
                // A packet may get lost.
                if let Some(link) = endpoint.linked(peer(to), Lane::Main) {
                    let _ = link.datagram(PACKET, &bytes);
                    return;
                }
                let Ok(turn) = Arc::clone(&self.dials).try_acquire_owned() else {
                    return;
                };
                tokio::spawn(async move {
                    let _ = endpoint.datagram(peer(to), PACKET, &bytes).await;
                    drop(turn);
                });
            }
            Effect::Exchange { with } => {
                let Ok(everything) = membership.everything() else {
                    return;
                };
                let Ok(frame) = wire::frame(EXCHANGE, self.cluster, &everything) else {
                    return;
                };
                let (endpoint, gossip) = (self.wires.endpoint.clone(), self.gossip.clone());
                tokio::spawn(async move {
                    let asked = endpoint
                        .ask(peer(with), Lane::Main, &frame, EXCHANGE_TIME)
                        .await;
                    if let Ok(answer) = asked
                        && let Some(theirs) = answer.get(wire::FRAME_HEADER_BYTES..)
                    {
                        gossip.tell(Event::Everything(theirs.to_vec())).await;
                    }
                });
            }
            Effect::Up(contact) => {
                tracing::info!(node = %contact.node.short(), addr = %contact.addr, "a member is up");
            }
            Effect::Down(contact) => {
                tracing::warn!(node = %contact.node.short(), addr = %contact.addr, "a member is down");
                (self.forget)(&contact.node);
            }
            Effect::Rejoined { incarnation } => {
                tracing::info!(
                    incarnation,
                    "the others took this node for down; it has said that it lives"
                );
            }
        }
    }
}

fn peer(contact: Contact) -> Peer {
    Peer {
        node: contact.node,
        addr: contact.addr,
    }
}

/// A contact where a node is thought to be.
pub(crate) fn contact(node: NodeId, addr: SocketAddr) -> Contact {
    Contact { node, addr }
}
