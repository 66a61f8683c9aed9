//! How nodes come in: the product's words and proofs over a connection that may break at any moment,
//! and the real ledger, which spends the tokens. The shell between the two is that of a member which
//! reads its own copy and has the leader write.

use super::event::What;
use super::world::World;
use crate::rng::Rng;
use hale_audit::{enrolment, removal};
use hale_consensus::ledger::RULES;
use hale_membership::join::{End, Hello, JoinToken, Proven};
use hale_model::ledger::{Answer, Command, EntryKind, Signed};
use hale_model::{Timestamp, TokenId, canonical, wire};
use serde_json::json;
use std::ops::Range;

/// The two tokens of a world and how many each may let in; few enough that some stay out.
const TOKENS: [(&str, Range<u64>); 2] = [("tok_a", 1..6), ("tok_b", 2..9)];
/// A stranger without an answer asks again after a while, in milliseconds.
const AGAIN_MS: Range<u64> = 2_000..15_000;
/// What a wall clock says at the beginning, in milliseconds since the epoch.
const EPOCH_MS: i64 = 1_780_000_000_000;

/// With what a node comes.
#[derive(Debug, Clone)]
pub(super) struct Invitation {
    token: JoinToken,
    genuine: bool,
}

fn secret(which: usize) -> [u8; 32] {
    [which as u8 + 1; 32]
}

impl Invitation {
    /// Most know a token's secret; some have only heard its name.
    pub(super) fn draw(n: u64, rng: &mut Rng) -> Self {
        let which = rng.within(0, TOKENS.len() as u64) as usize;
        let genuine = n == 0 || !rng.chance(80);
        let secret = if genuine { secret(which) } else { [99; 32] };
        Self {
            token: JoinToken::new(TOKENS[which].0, secret),
            genuine,
        }
    }

    pub(super) fn is_genuine(&self) -> bool {
        self.genuine
    }
}

/// How far a node's joining is.
#[derive(Debug, Clone, Default)]
pub(super) struct Joining {
    /// When it asks, or asks again.
    asks_at_ms: u64,
    /// What a member has the leader write for it, and when that is written.
    admission: Option<(u64, Command)>,
}

impl World {
    fn wall(&self) -> i64 {
        EPOCH_MS + self.now_ms as i64
    }

    fn write(&mut self, command: Command) -> Answer {
        self.index += 1;
        self.ledger.apply(self.index, command).answer
    }

    pub(super) fn enrol_founder(&mut self) {
        let (key, host) = (self.nodes[0].key.clone(), self.nodes[0].host.clone());
        self.write(Command::Rules { version: RULES });
        let entry = enrolment::sign(key.node_id(), &host, &key);
        self.write(Command::Enrol {
            node: key.node_id(),
            host,
            entry,
        });
        self.nodes[0].is_member = true;
        self.tell(What::Enrolled {
            node: 0,
            token: None,
        });
    }

    pub(super) fn make_tokens(&mut self) {
        for (which, (name, uses)) in TOKENS.into_iter().enumerate() {
            let uses = self.rng.within(uses.start, uses.end) as u32;
            let body = canonical::to_bytes(&json!({"token": name})).unwrap_or_default();
            let Ok(id) = TokenId::new(name) else { continue };
            let entry = Signed::new(EntryKind::Token, body, &self.nodes[0].key);
            self.write(Command::CreateToken {
                id,
                verifier: JoinToken::new(name, secret(which)).verifier(),
                uses,
                ttl_ms: 86_400_000,
                by: "simulated".into(),
                expires_at_ms: self.wall() + 86_400_000,
                entry,
            });
            let token = name.to_owned();
            self.tell(What::Token { token, uses });
        }
    }

    pub(super) fn step_joins(&mut self) {
        for n in 0..self.nodes.len() {
            if let Some((at_ms, command)) = self.nodes[n].joining.admission.take() {
                match at_ms <= self.now_ms && self.raft.can_write(self) {
                    true => self.admit(n, command),
                    false => self.nodes[n].joining.admission = Some((at_ms, command)),
                }
            }
            let node = &self.nodes[n];
            let is_due = node.joining.asks_at_ms <= self.now_ms && !node.is_member;
            if is_due && self.is_reached(n) {
                let pause = self.rng.within(AGAIN_MS.start, AGAIN_MS.end);
                self.nodes[n].joining.asks_at_ms = self.now_ms + pause;
                self.ask(n);
            }
        }
    }

    /// A stranger asks a member, which may answer, or not be heard.
    fn ask(&mut self, n: usize) {
        let members: Vec<usize> = (0..self.nodes.len())
            .filter(|m| *m != n && self.nodes[*m].is_member && self.is_reached(*m))
            .collect();
        let Some(member) = members.get(self.rng.within(0, members.len() as u64) as usize) else {
            return;
        };
        let (member, node) = (*member, &self.nodes[n]);
        let exported = [self.rng.bits() as u8; 32];
        let clock_ms = self.wall() + node.skew_ms;
        let (token, host) = (&node.invitation.token, node.host.clone());
        let hello = Hello::new(token, host, "1.0.0", clock_ms);
        let said = Proven::new(&hello, &token.verifier(), End::Stranger, &exported);
        let Some(admission) = said
            .ok()
            .and_then(|s| self.consider(member, n, &s, &exported))
        else {
            return;
        };
        // What a member knows already is answered at once.
        let node = &self.nodes[n];
        let is_known = self
            .ledger
            .roster()
            .any(|(id, h)| *id == node.id && *h == node.host);
        let (writes_at, is_heard) = (
            self.now_ms + self.rng.within(0, 4_000),
            self.rng.chance(700),
        );
        match is_known {
            true => self.nodes[n].is_member = is_heard,
            false => self.nodes[n].joining.admission = Some((writes_at, admission)),
        }
    }

    /// What a member makes of a stranger: what it has written, if it lets it in.
    fn consider(
        &self,
        member: usize,
        stranger: usize,
        said: &Proven,
        exported: &[u8; 32],
    ) -> Option<Command> {
        let hello: Hello = wire::decode(&said.said).ok()?;
        hello.check(self.wall()).ok()?;
        let token = TokenId::new(hello.token.clone()).ok()?;
        let known = self.ledger.token(&token)?;
        if !said.holds(&known.verifier, End::Stranger, exported) || !known.live {
            return None;
        }
        let (node, by) = (self.nodes[stranger].id, &self.nodes[member].key);
        let entry = enrolment::sign(node, &hello.host, by);
        let host = hello.host;
        Some(Command::Admit {
            token,
            node,
            host,
            entry,
        })
    }

    fn admit(&mut self, n: usize, command: Command) {
        let Command::Admit { token, .. } = &command else {
            return;
        };
        let token = token.to_string();
        // Written, though the answer may get lost: the stranger asks again then.
        if let Answer::Done { entry: Some(_) } = self.write(command) {
            let token = Some(token);
            self.tell(What::Enrolled { node: n, token });
            self.nodes[n].is_member = self.rng.chance(700) && self.is_reached(n);
        }
    }

    /// An operator removes a node, if a majority of those who vote is left.
    pub(super) fn remove(&mut self, n: usize) {
        let node = &self.nodes[n];
        let is_enrolled = self.ledger.is_enrolled(&node.id);
        if !is_enrolled || !self.raft.can_write(self) || !self.raft.can_spare(self, n) {
            return;
        }
        let Some(leader) = self.raft.leader else {
            return;
        };
        let by = &self.nodes[leader].key;
        let at = Timestamp::from_millis(self.wall());
        let entry = removal::sign(node.id, &node.host, "simulated", "it is gone", at, by);
        let command = Command::Remove {
            node: node.id,
            by: "simulated".into(),
            reason: "it is gone".into(),
            entry,
        };
        if let Answer::Done { entry: Some(_) } = self.write(command) {
            self.tell(What::Removed { node: n });
            // It does not know that it may not come back, and tries.
            self.nodes[n].is_member = false;
        }
    }
}
