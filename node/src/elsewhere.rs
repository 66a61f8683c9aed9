//! Answers that another node gives: that of the host they are about, or one of the group where this
//! node holds no chain. A question is forwarded once.

use crate::answers::{Inner, alone, silent};
use crate::cluster::remote::{Answered, Request};
use hale_api::{
    Code, ExecutionView, Gathered, HostView, IncidentFilter, IncidentQuery, IncidentRow, Problem,
};
use hale_consensus::Ledger;
use hale_model::{HostName, NodeId, Reading};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long one host may take for a live question.
const ONE_HOST: Duration = Duration::from_secs(5);
/// How long each may take where all are asked.
const EACH: Duration = Duration::from_secs(3);
/// How many are asked at a time.
const AT_A_TIME: usize = 32;

impl Inner {
    /// The node of another host; none if the host is this one.
    pub(crate) fn node_of(&self, host: &HostName) -> Result<Option<NodeId>, Problem> {
        if *host == self.host {
            return Ok(None);
        }
        let of_host = |l: &Ledger| l.roster().find(|(_, h)| *h == host).map(|(n, _)| *n);
        let node = self.consensus.read_stale(of_host);
        node.map(Some)
            .ok_or_else(|| Problem::not_found("host", host, "hale members lists them"))
    }

    /// A live question to a host's own node.
    pub(crate) async fn live<T: DeserializeOwned>(
        &self,
        node: NodeId,
        request: Request,
    ) -> Result<T, Problem> {
        let cluster = self.cluster.as_ref().ok_or_else(alone)?;
        cluster.live(node, &request, ONE_HOST).await?.read()
    }

    /// Asks one of the group, for what only they hold.
    pub(crate) async fn of_group<T, F>(&self, ask: impl Fn(NodeId) -> F) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        let group = self.consensus.group();
        let mut last = Problem::unavailable(
            "no node that holds the chain is known",
            "hale voters shows the group",
        );
        let leader = group.leader;
        let mut members: Vec<NodeId> = group.members().map(|p| p.node).collect();
        // The leader has the most to do already.
        members.sort_by_key(|n| Some(*n) == leader);
        for node in members.into_iter().filter(|n| *n != self.key.node_id()) {
            match ask(node).await {
                Ok(answer) => return Ok(answer),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// The answer of one of the group, whole.
    pub(crate) async fn group_answers<T: DeserializeOwned>(
        &self,
        request: Request,
    ) -> Result<T, Problem> {
        let cluster = self.cluster.as_ref().ok_or_else(alone)?;
        let answered = self
            .of_group(|node| cluster.forward(node, &request))
            .await?;
        answered.read()
    }

    /// The answer of one of the group, in pieces.
    pub(crate) async fn group_streams(
        &self,
        request: Request,
    ) -> Result<mpsc::Receiver<Result<Vec<u8>, Problem>>, Problem> {
        let cluster = self.cluster.as_ref().ok_or_else(alone)?;
        let ask = |node| cluster.forward_streaming(node, &request);
        let mut pieces = self.of_group(ask).await?;
        if pieces.status == 200 {
            return Ok(pieces.body);
        }
        let mut body = Vec::new();
        while let Some(Ok(piece)) = pieces.body.recv().await {
            body.extend_from_slice(&piece);
        }
        let answered = Answered {
            status: pieces.status,
            body,
        };
        let refused: Result<serde_json::Value, Problem> = answered.read();
        Err(refused.err().unwrap_or_else(|| silent("group")))
    }

    /// Asks every other host that is alive; who gives no answer is named.
    async fn everyone<T: DeserializeOwned + Send + 'static>(
        &self,
        request: Request,
    ) -> (Vec<(HostName, T)>, Vec<HostName>) {
        let Some(cluster) = &self.cluster else {
            return (Vec::new(), Vec::new());
        };
        let me = self.key.node_id();
        let roster: Vec<(NodeId, HostName)> = self
            .consensus
            .read_stale(|l| l.roster().map(|(n, h)| (*n, h.clone())).collect());
        let alive: Vec<NodeId> = cluster.members.others(&me).iter().map(|c| c.node).collect();
        let (mut told, mut silent) = (Vec::new(), Vec::new());
        let mut waiting = roster.into_iter().filter(|(n, _)| *n != me);
        let mut asked = JoinSet::new();
        loop {
            while asked.len() < AT_A_TIME
                && let Some((node, host)) = waiting.next()
            {
                if !alive.contains(&node) {
                    silent.push(host);
                    continue;
                }
                let (cluster, request) = (Arc::clone(cluster), request.clone());
                asked.spawn(async move {
                    let answered = cluster.live(node, &request, EACH).await;
                    (host, answered.and_then(|a| a.read::<T>()))
                });
            }
            match asked.join_next().await {
                None => break,
                Some(Ok((host, Ok(value)))) => told.push((host, value)),
                // There is no such thing on that host: an answer too.
                Some(Ok((_, Err(error)))) if error.code == Code::NotFound => {}
                Some(Ok((host, Err(error)))) => {
                    tracing::debug!(%host, %error, "a host gave no answer");
                    silent.push(host);
                }
                Some(Err(_)) => {}
            }
        }
        silent.sort();
        (told, silent)
    }

    /// The first answer of any other host, for what only one of them knows.
    pub(crate) async fn whoever_knows<T: DeserializeOwned + Send + 'static>(
        &self,
        request: Request,
        unknown: Problem,
    ) -> Result<T, Problem> {
        let (mut told, silent) = self.everyone::<T>(request).await;
        match told.pop() {
            Some((_, value)) => Ok(value),
            None if silent.is_empty() => Err(unknown),
            None => {
                let names: Vec<&str> = silent.iter().map(HostName::as_str).take(5).collect();
                let (n, names) = (silent.len(), names.join(", "));
                Err(Problem::unavailable(
                    format!("{}, and {n} hosts did not answer: {names}", unknown.message),
                    unknown.next,
                ))
            }
        }
    }

    pub(crate) async fn all_incidents(
        &self,
        query: IncidentQuery,
    ) -> Result<Gathered<IncidentRow>, Problem> {
        #[derive(Deserialize)]
        struct Told {
            incidents: Vec<IncidentRow>,
        }
        let state = match query.state {
            IncidentFilter::Open => "open",
            IncidentFilter::Resolved => "resolved",
            IncidentFilter::All => "all",
        };
        let service = query.service.as_ref();
        let service = service.map(|s| format!("&service={s}")).unwrap_or_default();
        let limit = query.limit;
        let path = format!("/v1/incidents?state={state}&limit={limit}{service}");
        let (own, (told, silent)) = tokio::join!(
            self.incidents(query),
            self.everyone::<Told>(Request::get(path))
        );
        let mut items = own?;
        items.extend(told.into_iter().flat_map(|(_, t)| t.incidents));
        items.sort_by_key(|i| std::cmp::Reverse(i.opened_at));
        items.truncate(limit);
        Ok(Gathered { items, silent })
    }

    pub(crate) async fn all_executions(&self) -> Result<Gathered<ExecutionView>, Problem> {
        #[derive(Deserialize)]
        struct Told {
            executions: Vec<ExecutionView>,
        }
        let (own, (told, silent)) = tokio::join!(
            self.executions(),
            self.everyone::<Told>(Request::get("/v1/executions"))
        );
        let mut items = own?;
        items.extend(told.into_iter().flat_map(|(_, t)| t.executions));
        items.sort_by_key(|e| e.started_at);
        Ok(Gathered { items, silent })
    }

    pub(crate) async fn remote_baselines(
        &self,
        node: NodeId,
        host: &HostName,
        query: &hale_api::BaselineQuery,
    ) -> Result<Vec<Reading>, Problem> {
        #[derive(Deserialize)]
        struct Told {
            baselines: Vec<Reading>,
        }
        let mut path = format!("/v1/hosts/{host}/baselines?limit={}", query.limit);
        if let Some(series) = &query.series {
            path.push_str("&series=");
            path.push_str(&quoted(series));
        }
        let told: Told = self.live(node, Request::get(path)).await?;
        Ok(told.baselines)
    }

    /// Every host on the roster; of the others, what gossip knows.
    pub(crate) async fn hosts_of_all(&self, own: HostView) -> Result<Vec<HostView>, Problem> {
        let members = self.members(hale_api::Consistency::Stale).await?;
        let mut hosts: Vec<HostView> = members
            .into_iter()
            .filter(|m| !m.is_self)
            .map(|m| HostView {
                host: m.host,
                node: Some(m.node),
                environment: own.environment.clone(),
                tags: m.tags,
                state: m.state.as_str().to_owned(),
                last_round_at: None,
                incidents_open: None,
            })
            .collect();
        hosts.push(own);
        hosts.sort_by(|a, b| a.host.cmp(&b.host));
        Ok(hosts)
    }
}

/// Percent-encoded (RFC 3986 section 2.1): what is not unreserved.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(b as char);
            }
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
