//! How a node joins a cluster, and how a member lets one in. The checks are in
//! [`hale_membership::join`]; here are the connections, the ledger and the files.

use super::Shared;
use super::book::{Book, Settings, own_ip};
use crate::answers::now;
use crate::identity::{DataDir, IdentityError};
use hale_audit::enrolment::Enrolment;
use hale_consensus::Copy;
use hale_membership::join::{
    Answer, EXPORT_LABEL, End, Hello, JoinToken, Proven, Rejection, Welcome, check_clocks,
};
use hale_model::ledger::{Answer as Applied, Command, Refusal};
use hale_model::{HostName, Keypair, NodeId, TokenId, wire};
use hale_transport::{Config, Endpoint, Limits, Stream, Trust};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A stranger's first frame, and a member's answer.
pub(crate) const HELLO: u8 = 0x40;
const ANSWER: u8 = 0x41;
/// How long a stranger may take to say what it wants.
const HELLO_TIME: Duration = Duration::from_secs(5);
/// How long one seed may take.
const ONE_SEED: Duration = Duration::from_secs(15);
/// Between two rounds over all seeds.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the port may take to be free again: closed connections hold it while they drain, for
/// three probe timeouts (RFC 9000 §10.2), which are seconds where the path or the host is slow.
const RELEASED: Duration = Duration::from_secs(20);
/// The most contacts a new member is told.
const CONTACTS: usize = 64;

/// Why a node did not join.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// No seed was given.
    #[error(
        "no seed is given; type `hale join HOST:PORT --token TOKEN`, with one or more members of the cluster"
    )]
    NoSeeds,
    /// No token was given.
    #[error(
        "this host is not a member yet and no token is given; `hale token create` on a member prints one"
    )]
    NoToken,
    /// It can't even try.
    #[error(transparent)]
    Transport(#[from] hale_transport::TransportError),
    /// A member said no.
    #[error("{seed} does not let this host in: {why}")]
    Rejected {
        /// Who.
        seed: String,
        /// Why.
        why: Rejection,
    },
    /// What answers there does not know the token.
    #[error(
        "{0} does not know the token: it is no member of the cluster that made it; check the address, or somebody is in between"
    )]
    FalseSeed(String),
    /// Nobody answered.
    #[error(
        "no seed could be reached within {} s: {}; `hale members` on a member shows the addresses, UDP \
         has to get through", .waited.as_secs(), .why.join("; ")
    )]
    Unreachable {
        /// For how long it was tried.
        waited: Duration,
        /// What each said last.
        why: Vec<String>,
    },
    /// The files.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The ledger's copy.
    #[error(transparent)]
    Store(#[from] hale_consensus::StoreError),
    /// What the member sent can't be used.
    #[error("what {seed} sent can't be used: {why}")]
    Unusable {
        /// Who.
        seed: String,
        /// Why.
        why: String,
    },
}

/// What a node joins with.
pub(crate) struct Joining<'a> {
    pub(crate) data: &'a DataDir,
    pub(crate) key: &'a Keypair,
    pub(crate) host: &'a HostName,
    pub(crate) settings: Settings,
    pub(crate) token: &'a JoinToken,
    pub(crate) patience: Duration,
}

/// Joins through any of the seeds and settles in the data directory what was learnt.
///
/// # Errors
/// If a member says no, or none is reached in time. The directory is unchanged then.
pub(crate) async fn join(joining: Joining<'_>) -> Result<(), JoinError> {
    if joining.settings.seeds.is_empty() {
        return Err(JoinError::NoSeeds);
    }
    let config = Config {
        key: joining.key.clone(),
        cluster: 0,
        bind: joining.settings.bind.unwrap_or(super::DEFAULT_BIND),
        trust: Trust {
            roster: Arc::new(|_| false),
            joins: Arc::new(|| false),
        },
        limits: Limits::default(),
    };
    let (endpoint, arrivals) = Endpoint::bind(config)?;
    let joined = try_seeds(&joining, &endpoint).await;
    let bound = endpoint.local_addr();
    endpoint.close().await;
    drop((endpoint, arrivals));
    if let Ok(bound) = bound {
        released(bound).await;
    }
    joined
}

/// The port is let go of by the transport's own task, a moment after the last who used it.
async fn released(port: SocketAddr) {
    let began = Instant::now();
    while std::net::UdpSocket::bind(port).is_err() && began.elapsed() < RELEASED {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn try_seeds(joining: &Joining<'_>, endpoint: &Endpoint) -> Result<(), JoinError> {
    let began = Instant::now();
    loop {
        let mut why = vec![];
        for seed in &joining.settings.seeds {
            match try_seed(joining, endpoint, seed).await {
                Ok((addr, welcome)) => return settle(joining, endpoint, seed, addr, welcome),
                Err(Tried::Final(error)) => return Err(error),
                Err(Tried::Again(text)) => {
                    tracing::warn!(seed, why = text, "not joined through this seed");
                    why.push(format!("{seed}: {text}"));
                }
            }
        }
        if began.elapsed() + PAUSE > joining.patience {
            let waited = began.elapsed();
            return Err(JoinError::Unreachable { waited, why });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

enum Tried {
    Final(JoinError),
    Again(String),
}

async fn try_seed(
    joining: &Joining<'_>,
    endpoint: &Endpoint,
    seed: &str,
) -> Result<(SocketAddr, Welcome), Tried> {
    let again = |e: &dyn std::fmt::Display| Tried::Again(e.to_string());
    let found = tokio::net::lookup_host(seed).await;
    let found = found.map_err(|e| Tried::Again(format!("the name is not known: {e}")))?;
    let mut last = Tried::Again("the name has no address".into());
    for addr in found {
        let asked = tokio::time::timeout(ONE_SEED, ask(joining, endpoint, addr)).await;
        match asked {
            Err(_) => last = Tried::Again(format!("no answer within {ONE_SEED:?}")),
            Ok(Err(e)) => last = again(&e),
            Ok(Ok((answer, exported))) => {
                return believe(joining, seed, answer, &exported).map(|w| (addr, w));
            }
        }
    }
    Err(last)
}

/// Says hello and hears the answer, with the bytes that both proofs are bound to.
async fn ask(
    joining: &Joining<'_>,
    endpoint: &Endpoint,
    addr: SocketAddr,
) -> Result<(Answer, [u8; 32]), String> {
    let text = |e: hale_transport::TransportError| {
        let told = e.to_string();
        // A member that has no token at all ends every stranger's handshake.
        if told.contains("crypto") || told.contains("not on the roster") {
            return "it lets no stranger in: it has no join token; make one with `hale token create`".into();
        }
        told
    };
    let link = endpoint.join(addr).await.map_err(text)?;
    let exported = link.export(EXPORT_LABEL).map_err(text)?;
    let hello = Hello::new(
        joining.token,
        joining.host.clone(),
        env!("CARGO_PKG_VERSION"),
        now().as_millis(),
    );
    let proven = Proven::new(&hello, &joining.token.verifier(), End::Stranger, &exported);
    let bytes = proven
        .and_then(|p| wire::encode(&p))
        .map_err(|e| e.to_string())?;
    let mut stream = link.open().await.map_err(text)?;
    stream.send(HELLO, &bytes).await.map_err(text)?;
    stream.finish();
    let frame = stream.recv().await.map_err(text)?;
    let frame = frame.ok_or("it ended the connection without an answer")?;
    let answer = wire::decode::<Answer>(frame.payload()).map_err(|e| e.to_string())?;
    Ok((answer, exported))
}

/// What a seed says is believed once it has proven that it knows the token.
fn believe(
    joining: &Joining<'_>,
    seed: &str,
    answer: Answer,
    exported: &[u8; 32],
) -> Result<Welcome, Tried> {
    let seed = seed.to_owned();
    let proven = match answer {
        Answer::Welcome(proven) => proven,
        Answer::Rejected(Rejection::Unavailable(why)) => return Err(Tried::Again(why)),
        Answer::Rejected(why) => return Err(Tried::Final(JoinError::Rejected { seed, why })),
    };
    if !proven.holds(&joining.token.verifier(), End::Member, exported) {
        return Err(Tried::Final(JoinError::FalseSeed(seed)));
    }
    let welcome = wire::decode::<Welcome>(&proven.said).map_err(|e| {
        Tried::Final(JoinError::Unusable {
            seed: seed.clone(),
            why: e.to_string(),
        })
    })?;
    check_clocks(now().as_millis(), welcome.clock_ms)
        .map_err(|why| Tried::Final(JoinError::Rejected { seed, why }))?;
    Ok(welcome)
}

/// Writes what makes this a member, the cluster's number last: before it is there, nothing is.
fn settle(
    joining: &Joining<'_>,
    endpoint: &Endpoint,
    seed: &str,
    addr: SocketAddr,
    welcome: Welcome,
) -> Result<(), JoinError> {
    let unusable = |why: String| JoinError::Unusable {
        seed: seed.to_owned(),
        why,
    };
    let copy: Copy = wire::decode(&welcome.copy).map_err(|e| unusable(e.to_string()))?;
    let ledger = copy.ledger().map_err(|e| unusable(e.to_string()))?;
    if !ledger.is_enrolled(&joining.key.node_id()) {
        return Err(unusable("this node is not on its roster".into()));
    }
    let mut settings = joining.settings.clone();
    let bound = endpoint.local_addr()?;
    settings.bind.get_or_insert(bound);
    if settings.advertise.is_none() && bound.ip().is_unspecified() {
        // Seen through an address translation it would be another's: the route's own end it is,
        // unless that is not what the member saw on its own network.
        let own = own_ip(Some(addr));
        tracing::info!(%own, seen = %welcome.seen_at, "others will reach this node there; --advertise says otherwise");
    }
    copy.write(&joining.data.join("ledger"))?;
    let dir = joining.data.path();
    let book = Book::open(dir);
    book.note(welcome.contacts, |_| true);
    settings.write(dir)?;
    joining.data.set_cluster(welcome.cluster)?;
    tracing::info!(cluster = %format!("{:016x}", welcome.cluster), seed, "joined");
    Ok(())
}

/// A member's side: one stranger's stream. It has a moment to say what it wants, so that those who
/// say nothing keep nobody out; only what was said is then considered, a few at a time.
pub(super) async fn serve(shared: &Shared, mut stream: Stream) {
    let stranger = stream.peer();
    let said = tokio::time::timeout(HELLO_TIME, stream.recv()).await;
    let Ok(Ok(Some(frame))) = said else {
        return shared.counters.rejected_joins();
    };
    if frame.kind() != HELLO {
        return shared.counters.rejected_joins();
    }
    let answer = match shared.strangers.try_acquire() {
        Ok(_turn) => {
            let considered = consider(shared, &stream, stranger, frame.payload());
            let considered = tokio::time::timeout(ONE_SEED, considered).await;
            considered.unwrap_or_else(|_| Err(Rejection::Unavailable("it took too long".into())))
        }
        Err(_) => Err(Rejection::Unavailable("too many ask at once".into())),
    };
    let answer = answer.unwrap_or_else(|why| {
        tracing::warn!(node = %stranger.short(), %why, "a stranger was not let in");
        shared.counters.rejected_joins();
        Answer::Rejected(why)
    });
    // The connection lives until the stranger has heard it, or goes.
    let told = tokio::time::timeout(ONE_SEED, tell(&mut stream, &answer)).await;
    match told {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(node = %stranger.short(), %error, "a stranger could not be answered");
        }
        Err(_) => {
            tracing::warn!(node = %stranger.short(), "a stranger did not hear its answer in time")
        }
    }
}

async fn tell(stream: &mut Stream, answer: &Answer) -> Result<(), hale_transport::TransportError> {
    let sent = stream.send(ANSWER, &wire::encode(answer)?).await;
    if let Err(hale_transport::TransportError::Frame(error)) = &sent {
        // Better than none: it says what to look at.
        let why = Rejection::Unavailable(format!("its answer can't be sent: {error}"));
        let bytes = wire::encode(&Answer::Rejected(why))?;
        stream.send(ANSWER, &bytes).await?;
    }
    stream.finish();
    // It ends its own half once it has heard.
    let _ = stream.recv().await;
    sent
}

async fn consider(
    shared: &Shared,
    stream: &Stream,
    stranger: NodeId,
    said: &[u8],
) -> Result<Answer, Rejection> {
    let bad = |_| Rejection::Refused("what this host said is not understood".into());
    let proven: Proven = wire::decode(said).map_err(bad)?;
    let hello: Hello = wire::decode(&proven.said).map_err(bad)?;
    hello.check(now().as_millis())?;
    let id = TokenId::new(hello.token.clone())
        .map_err(|_| Rejection::UnknownToken(hello.token.clone()))?;
    let exported = stream
        .link()
        .export(EXPORT_LABEL)
        .map_err(|e| Rejection::Unavailable(e.to_string()))?;
    let token = shared.consensus.read_stale(|l| l.token(&id).cloned());
    let token = match token {
        Some(token) => Some(token),
        // It may have been made a moment ago.
        None => {
            let read = shared.consensus.read(|l| l.token(&id).cloned()).await;
            read.map_err(|e| Rejection::Unavailable(e.to_string()))?
        }
    };
    let token = token.ok_or_else(|| Rejection::UnknownToken(hello.token.clone()))?;
    if !proven.holds(&token.verifier, End::Stranger, &exported) {
        return Err(Rejection::WrongSecret(hello.token));
    }
    // Who is a member already comes for what it lost the answer with.
    let enrolled = shared
        .consensus
        .read_stale(|l| l.roster().any(|(n, h)| *n == stranger && *h == hello.host));
    if !enrolled {
        if !token.live || token.expires_at_ms <= now().as_millis() {
            return Err(Rejection::Expired(hello.token));
        }
        admit(shared, stranger, &hello, id).await?;
    }
    let copy = shared.consensus.copy().await;
    let copy = copy.map_err(|e| Rejection::Unavailable(e.to_string()))?;
    let me = shared.key.node_id();
    let mut contacts = vec![(me, shared.advertised)];
    let others = shared.members.others(&me);
    contacts.extend(others.iter().take(CONTACTS).map(|c| (c.node, c.addr)));
    let unable = |e: wire::WireError| Rejection::Unavailable(e.to_string());
    let welcome = Welcome {
        cluster: shared.cluster,
        clock_ms: now().as_millis(),
        seen_at: stream.link().remote_addr().ip(),
        contacts,
        copy: wire::encode(&copy).map_err(unable)?,
    };
    let proven = Proven::new(&welcome, &token.verifier, End::Member, &exported).map_err(unable)?;
    Ok(Answer::Welcome(proven))
}

async fn admit(
    shared: &Shared,
    node: NodeId,
    hello: &Hello,
    token: TokenId,
) -> Result<(), Rejection> {
    let enrolment = Enrolment {
        cluster: Some(format!("{:016x}", shared.cluster)),
        token: Some(token.as_str()),
        version: Some(&hello.release),
        at: Some(now()),
        ..Enrolment::of(node, &hello.host)
    };
    let entry = enrolment.sign(&shared.key);
    let command = Command::Admit {
        token: token.clone(),
        node,
        host: hello.host.clone(),
        entry,
    };
    match shared.consensus.propose(command).await {
        Ok(Applied::Refused(Refusal::TokenUsedUp(_))) => {
            Err(Rejection::UsedUp(hello.token.clone()))
        }
        Ok(Applied::Refused(Refusal::TokenExpired(_))) => {
            Err(Rejection::Expired(hello.token.clone()))
        }
        Ok(Applied::Refused(refusal)) => Err(Rejection::Refused(refusal.to_string())),
        Ok(_) => {
            tracing::info!(node = %node.short(), host = %hello.host, token = %token, "a host was let in");
            Ok(())
        }
        Err(e) => Err(Rejection::Unavailable(e.to_string())),
    }
}
