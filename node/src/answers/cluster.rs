//! The answers to what operators ask of the cluster: who is in it, who votes, who may join, and
//! what is changed of it.

use super::Inner;
use crate::answers::now;
use crate::cluster::remote::Request;
use hale_api::{
    BudgetLimitView, BudgetView, ByRequest, Consistency, CreateTokenRequest, LeaderView,
    LedgerStatus, MemberName, MemberState, MemberView, NewToken, Problem, RemoveRequest, Seat,
    SetBudgetRequest, TokenState, TokenView, TransferRequest, VoterView, VotersView, WaitView,
};
use hale_consensus::{Ledger, Metrics};
use hale_membership::join::JoinToken;
use hale_membership::{Member, State};
use hale_model::ledger::{Budget, BudgetLimit, Command, EntryKind, Token, Waiting, WaitsFor};
use hale_model::{HostName, NodeId, Timestamp, TokenId};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// The tag that says where a host stands, on a node that runs alone.
const ZONE: &str = "zone";

/// What only a node with a cluster's port can do.
pub(crate) fn alone() -> Problem {
    Problem::unavailable(
        "this node runs alone: it has no port for others",
        "start it with --bind 0.0.0.0:7118, or set [cluster] bind; `hale init` does so from the start",
    )
}

impl Inner {
    /// Who is on the roster as the ledger says, and how each is as gossip says.
    pub(crate) async fn members(&self, fresh: Consistency) -> Result<Vec<MemberView>, Problem> {
        let roster: Vec<(NodeId, HostName)> = self
            .ledger(fresh, |l| {
                l.roster().map(|(n, h)| (*n, h.clone())).collect()
            })
            .await?;
        let metrics = self.consensus.metrics();
        let tags = self.tags().await;
        let gossip: BTreeMap<NodeId, Member> = self.gossip();
        let mut members: Vec<MemberView> = roster
            .into_iter()
            .map(|(node, host)| self.member(node, host, gossip.get(&node), &metrics, &tags))
            .collect();
        members.sort_by(|a, b| (&a.host, a.node).cmp(&(&b.host, b.node)));
        Ok(members)
    }

    fn gossip(&self) -> BTreeMap<NodeId, Member> {
        let known = self.cluster.as_ref().map(|c| c.members.all());
        let known = known.unwrap_or_default().into_iter();
        known.map(|m| (m.contact.node, m)).collect()
    }

    fn member(
        &self,
        node: NodeId,
        host: HostName,
        known: Option<&Member>,
        metrics: &Metrics,
        own_tags: &BTreeMap<String, String>,
    ) -> MemberView {
        let is_self = node == self.key.node_id();
        let profile = known.and_then(|m| m.profile.as_ref());
        let mut seated = metrics.voters.iter().chain(&metrics.learners);
        let addr = known.map(|m| m.contact.addr.to_string()).or_else(|| {
            let seat = seated.find(|p| p.node == node);
            seat.map(|p| p.addr.clone()).filter(|a| !a.is_empty())
        });
        let tip = self.consensus.read_stale(Ledger::tip);
        let chain = match is_self {
            true if metrics.is_seated => Some((tip.entries, tip.hash)),
            true => None,
            false => profile.and_then(|p| p.chain).map(|t| (t.size, t.hash)),
        };
        MemberView {
            node,
            host,
            addr,
            http: match is_self {
                true => self.http.map(|a| a.to_string()),
                false => profile.and_then(|p| p.http.clone()),
            },
            state: match known.map(|m| m.state) {
                _ if is_self => MemberState::Alive,
                None => MemberState::Unknown,
                Some(State::Alive) => MemberState::Alive,
                Some(State::Suspect) => MemberState::Suspect,
                Some(State::Down) => MemberState::Down,
            },
            incarnation: known.map_or(0, |m| m.incarnation),
            zone: match is_self {
                true => self.zone(),
                false => profile.map(|p| p.zone.clone()).filter(|z| !z.is_empty()),
            },
            version: match is_self {
                true => Some(env!("CARGO_PKG_VERSION").to_owned()),
                false => profile.map(|p| p.version.clone()),
            },
            tags: match is_self {
                true => own_tags.clone(),
                false => profile.map(|p| p.tags.clone()).unwrap_or_default(),
            },
            seat: seat(metrics, node),
            chain_entries: chain.map(|(entries, _)| entries),
            chain_tip: chain.map(|(_, hash)| hash),
            is_self,
            removed: false,
        }
    }

    fn zone(&self) -> Option<String> {
        let settled = self.cluster.as_ref().and_then(|c| c.settings.zone.clone());
        settled.or_else(|| self.config.telemetry.tags.get(ZONE).cloned())
    }

    /// The member that was meant.
    async fn meant(&self, name: &MemberName) -> Result<MemberView, Problem> {
        let members = self.members(Consistency::Linearizable).await?;
        name.among(&members).cloned()
    }

    pub(crate) async fn remove(
        &self,
        name: MemberName,
        request: RemoveRequest,
    ) -> Result<MemberView, Problem> {
        let cluster = self.cluster.as_ref().ok_or_else(alone)?;
        let mut member = self.meant(&name).await?;
        if member.is_self {
            return Err(Problem::refused(
                "this is the node that is asked",
                "hale leave takes it out of the cluster",
            ));
        }
        cluster
            .remove(member.node, &member.host, request.by, request.reason)
            .await?;
        member.removed = true;
        Ok(member)
    }

    pub(crate) async fn leave(&self, request: RemoveRequest) -> Result<MemberView, Problem> {
        let cluster = self.cluster.as_ref().ok_or_else(alone)?;
        let members = self.members(Consistency::Stale).await?;
        let own = members.into_iter().find(|m| m.is_self);
        let mut own = own.ok_or_else(alone)?;
        cluster.leave(request.by, request.reason).await?;
        own.removed = true;
        Ok(own)
    }

    pub(crate) fn voters(&self) -> VotersView {
        let metrics = self.consensus.metrics();
        let hosts: BTreeMap<NodeId, HostName> = self
            .consensus
            .read_stale(|l| l.roster().map(|(n, h)| (*n, h.clone())).collect());
        let gossip = self.gossip();
        let me = self.key.node_id();
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let view = |peer: &hale_consensus::Peer| {
            let is_self = peer.node == me;
            let known = gossip.get(&peer.node);
            let zone = known
                .and_then(|m| m.profile.as_ref())
                .map(|p| p.zone.clone());
            let matched = match is_self {
                true => Some(metrics.last_log),
                false => metrics.matched.get(&peer.node).copied(),
            };
            let matched = matched.filter(|_| metrics.leads);
            let silent = match is_self {
                true => Some(Duration::ZERO),
                false => metrics.silent.get(&peer.node).copied(),
            };
            VoterView {
                node: peer.node,
                host: hosts.get(&peer.node).cloned(),
                addr: known.map_or_else(|| peer.addr.clone(), |m| m.contact.addr.to_string()),
                seat: seat(&metrics, peer.node),
                zone: if is_self {
                    self.zone()
                } else {
                    zone.filter(|z| !z.is_empty())
                },
                matched,
                lag: matched.map(|m| metrics.last_log.saturating_sub(m)),
                silent_ms: silent.filter(|_| metrics.leads).map(ms),
            }
        };
        let age = self
            .consensus
            .age()
            .unwrap_or_else(|| self.started.elapsed());
        VotersView {
            term: metrics.term,
            leader: metrics.leader.as_ref().map(|p| p.node),
            commit: metrics.applied,
            last_log: metrics.last_log.max(metrics.applied),
            voters: metrics
                .voters
                .iter()
                .chain(&metrics.learners)
                .map(view)
                .collect(),
            quorum: metrics.voters.len() as u64 / 2 + 1,
            age_ms: ms(age),
            plan: metrics.plan,
        }
    }

    pub(crate) fn leader(&self) -> LeaderView {
        let metrics = self.consensus.metrics();
        let leader = metrics.leader.map(|p| p.node);
        let host = |node| {
            self.consensus.read_stale(|l| {
                let found = l.roster().find(|(n, _)| **n == node);
                found.map(|(_, host)| host.clone())
            })
        };
        let is_self = leader == Some(self.key.node_id());
        let told = leader.and_then(|node| self.gossip().remove(&node)?.profile?.http);
        LeaderView {
            leader,
            host: leader.and_then(host),
            http: match is_self {
                true => self.http.map(|a| a.to_string()),
                false => told,
            },
            term: metrics.term,
            is_self,
        }
    }

    /// Hands the lead over, or has the leader do so.
    pub(crate) async fn transfer(
        &self,
        request: TransferRequest,
        may_forward: bool,
    ) -> Result<LeaderView, Problem> {
        let to = match request.member()? {
            Some(name) => Some(self.meant(&name).await?.node),
            None => None,
        };
        let group = self.consensus.group();
        let me = self.key.node_id();
        match (&self.cluster, group.leader) {
            (Some(cluster), Some(leader)) if leader != me && may_forward => {
                let request = TransferRequest {
                    to: to.map(|n| n.to_string()),
                    ..request
                };
                let request = Request::post("/v1/leader/transfer", &request)?;
                return cluster.forward(leader, &request).await?.read();
            }
            _ => {}
        }
        if to == Some(me) && group.leader == Some(me) {
            return Ok(self.leader());
        }
        let next = self.consensus.transfer_leadership(to).await;
        next.map_err(|e| Problem::refused(e.to_string(), "hale voters"))?;
        // It is told as soon as the one who leads now is known.
        let began = std::time::Instant::now();
        while self.leader().leader.is_none_or(|l| l == me) && began.elapsed() < super::ASK {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(self.leader())
    }

    pub(crate) async fn tokens(&self, fresh: Consistency) -> Result<Vec<TokenView>, Problem> {
        let mut tokens: Vec<TokenView> = self
            .ledger(fresh, |l| l.tokens().map(token_view).collect())
            .await?;
        tokens.sort_by_key(|t| std::cmp::Reverse(t.expires_at));
        Ok(tokens)
    }

    pub(crate) async fn create_token(
        &self,
        request: CreateTokenRequest,
    ) -> Result<NewToken, Problem> {
        let cluster = self.cluster.as_ref().ok_or_else(alone)?;
        let (mut entropy, mut secret) = ([0u8; 5], [0u8; 32]);
        crate::identity::fill_random(&mut entropy).map_err(|e| Problem::internal(e.to_string()))?;
        crate::identity::fill_random(&mut secret).map_err(|e| Problem::internal(e.to_string()))?;
        let id = TokenId::of(entropy);
        let token = JoinToken::new(id.as_str(), secret);
        let ttl = Duration::from_secs(request.ttl_seconds);
        let expires_at = now().plus(ttl);
        let uses = u32::try_from(request.uses).unwrap_or(u32::MAX);
        let body = json!({
            "schema": "hale.token.v1",
            "token": id,
            "uses": uses,
            "by": request.by,
            "expires_at": expires_at,
            "at": now(),
        });
        let entry = self.signed(EntryKind::Token, &body)?;
        self.propose(Command::CreateToken {
            id: id.clone(),
            verifier: token.verifier(),
            uses,
            ttl_ms: request.ttl_seconds.saturating_mul(1000),
            by: request.by,
            expires_at_ms: expires_at.as_millis(),
            entry,
        })
        .await?;
        let made = self
            .ledger(Consistency::Linearizable, |l| l.token(&id).map(token_view))
            .await?;
        let view = made.ok_or_else(|| no_token(&id))?;
        let text = token.reveal();
        Ok(NewToken {
            join: format!("hale join {} --token {text}", cluster.advertised),
            token: text,
            view,
        })
    }

    pub(crate) async fn revoke_token(
        &self,
        id: String,
        request: ByRequest,
    ) -> Result<TokenView, Problem> {
        let id = TokenId::new(id.clone()).map_err(|_| no_token(&id))?;
        let was = self
            .ledger(Consistency::Linearizable, |l| l.token(&id).map(token_view))
            .await?;
        let was = was.ok_or_else(|| no_token(&id))?;
        let body = json!({
            "schema": "hale.token-revoked.v1",
            "token": id,
            "by": request.by,
            "at": now(),
        });
        let entry = self.signed(EntryKind::Token, &body)?;
        let by = request.by;
        self.propose(Command::RevokeToken { id, by, entry }).await?;
        Ok(was)
    }

    pub(crate) async fn budgets(&self, fresh: Consistency) -> Result<Vec<BudgetView>, Problem> {
        self.ledger(fresh, |l| l.budgets().map(|b| budget_view(l, b)).collect())
            .await
    }

    pub(crate) async fn set_budget(
        &self,
        request: SetBudgetRequest,
    ) -> Result<BudgetView, Problem> {
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let budget = Budget {
            name: request.name.clone(),
            service: request.service.clone(),
            limit: match request.limit()? {
                BudgetLimitView::AtMost(n) => BudgetLimit::AtMost(small(n)),
                BudgetLimitView::Percent(p) => {
                    BudgetLimit::Percent(u8::try_from(p).unwrap_or(u8::MAX))
                }
                BudgetLimitView::PerHour(n) => BudgetLimit::PerHour(small(n)),
            },
        };
        let body = json!({
            "schema": "hale.budget.v1",
            "budget": budget,
            "by": request.by,
            "at": now(),
        });
        let entry = self.signed(EntryKind::Budget, &body)?;
        let by = request.by;
        self.propose(Command::SetBudget { budget, by, entry })
            .await?;
        self.budget(&request.name).await
    }

    pub(crate) async fn remove_budget(
        &self,
        name: String,
        request: ByRequest,
    ) -> Result<BudgetView, Problem> {
        let was = self.budget(&name).await?;
        let body = json!({
            "schema": "hale.budget-dropped.v1",
            "name": name,
            "by": request.by,
            "at": now(),
        });
        let entry = self.signed(EntryKind::Budget, &body)?;
        let by = request.by;
        self.propose(Command::DropBudget { name, by, entry })
            .await?;
        Ok(was)
    }

    async fn budget(&self, name: &str) -> Result<BudgetView, Problem> {
        let found = self
            .ledger(Consistency::Linearizable, |l| {
                l.budget(name).map(|b| budget_view(l, b))
            })
            .await?;
        found.ok_or_else(|| Problem::not_found("budget", name, "hale budget ls"))
    }

    pub(crate) async fn waiting(&self, fresh: Consistency) -> Result<Vec<WaitView>, Problem> {
        self.ledger(fresh, |l| {
            let numbered = l.waiting().zip(1u64..);
            numbered
                .map(|(w, position)| wait_view(w, position))
                .collect()
        })
        .await
    }

    /// The ledger as this node sees it.
    pub(super) async fn ledger_status(&self) -> LedgerStatus {
        let metrics = self.consensus.metrics();
        let (tip, known) = self
            .consensus
            .read_stale(|l| (l.tip(), l.roster().count() as u64));
        let alive = self.cluster.as_ref().map_or(1, |c| c.members.alive_count());
        LedgerStatus {
            role: role(&metrics, self.key.node_id()).to_owned(),
            leader: metrics.leader.map(|p| p.node),
            term: metrics.term,
            applied: metrics.applied,
            voters: metrics.voters.iter().map(|p| p.node).collect(),
            learners: metrics.learners.iter().map(|p| p.node).collect(),
            entries: tip.entries,
            tip: tip.hash,
            members_alive: alive as u64,
            members_known: known,
            zone: self.zone(),
        }
    }

    /// The host's tags: those of the configuration and those that the sensors found.
    pub(super) async fn tags(&self) -> BTreeMap<String, String> {
        let tags = self
            .slots
            .telemetry
            .ask(super::ASK, hale_telemetry::Message::Tags)
            .await;
        tags.unwrap_or_else(|| self.config.telemetry.tags.clone())
    }
}

fn no_token(id: impl std::fmt::Display) -> Problem {
    Problem::not_found("token", id, "hale token ls")
}

fn token_view(token: &Token) -> TokenView {
    let expires_at = Timestamp::from_millis(token.expires_at_ms);
    TokenView {
        id: token.id.to_string(),
        uses: u64::from(token.uses),
        uses_left: u64::from(token.uses_left),
        by: token.by.clone(),
        expires_at,
        state: match token {
            _ if !token.live || expires_at <= now() => TokenState::Expired,
            t if t.uses_left == 0 => TokenState::UsedUp,
            _ => TokenState::Valid,
        },
    }
}

fn budget_view(ledger: &Ledger, budget: &Budget) -> BudgetView {
    let (used, allowed) = ledger.usage(budget);
    BudgetView {
        name: budget.name.clone(),
        service: budget.service.clone(),
        limit: match budget.limit {
            BudgetLimit::AtMost(n) => BudgetLimitView::AtMost(u64::from(n)),
            BudgetLimit::Percent(p) => BudgetLimitView::Percent(u64::from(p)),
            BudgetLimit::PerHour(n) => BudgetLimitView::PerHour(u64::from(n)),
        },
        used,
        allowed,
    }
}

fn wait_view(waiting: &Waiting, position: u64) -> WaitView {
    WaitView {
        execution: waiting.execution.clone(),
        scope: waiting.scope.to_string(),
        holder: waiting.holder,
        service: waiting.service.clone(),
        waits_for: match &waiting.waits_for {
            WaitsFor::Scope => "its turn".into(),
            WaitsFor::Budgets(names) => format!("budget {}", names.join(", ")),
        },
        position,
    }
}

fn role(metrics: &Metrics, me: NodeId) -> &'static str {
    match &metrics.leader {
        _ if metrics.leads => "leader",
        Some(_) if metrics.voters.iter().any(|p| p.node == me) => "follower",
        Some(_) if metrics.learners.iter().any(|p| p.node == me) => "learner",
        None if metrics.voters.iter().any(|p| p.node == me) => "candidate",
        _ => "none",
    }
}

fn seat(metrics: &Metrics, node: NodeId) -> Seat {
    let sits = |peers: &[hale_consensus::Peer]| peers.iter().any(|p| p.node == node);
    if metrics.leader.as_ref().is_some_and(|l| l.node == node) {
        Seat::Leader
    } else if sits(&metrics.voters) {
        Seat::Voter
    } else if sits(&metrics.learners) {
        Seat::Learner
    } else {
        Seat::None
    }
}
