//! `hale recover`: out of a lost quorum, on a stopped node's own files.

use super::out::{Look, Out, Table, ago, count, many, plain};
use super::{CliError, Globals};
use crate::cluster::book::Book;
use crate::identity::{self, DataDir};
use clap::Args;
use hale_audit::archive::Options;
use hale_consensus::recovery::{self, Recovered, RecoveryError, Survey};
use hale_consensus::{SegmentChain, StoreError};
use hale_model::{HostName, Keypair, NodeId, Timestamp};
use serde_json::{Value, json};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale recover                             on each survivor: how far its log goes; changes nothing
  hale recover --as-sole-voter             on the one whose log goes furthest
  hale recover --as-sole-voter --yes --json

For when a majority of the voters is gone for good. While they may come back, wait: a group that
has its majority again needs nothing. Every `hale node` of the cluster that held a seat must be
stopped. Then:
  1  run `hale recover` on each survivor; take the one with the highest log end: term first, index
     second
  2  run `hale recover --as-sole-voter` there, then `hale node`
  3  wipe the data directory of every other survivor that held a seat, and join it anew with
     `hale token create` and `hale join`; nodes that held none follow again by themselves

Exit code 1 if this node can't be recovered; the message says why.")]
pub(crate) struct RecoverArgs {
    /// Make this node the group's only voter, with all that its log holds
    #[arg(long)]
    as_sole_voter: bool,
    /// Don't ask
    #[arg(long, requires = "as_sole_voter")]
    yes: bool,
}

/// A stopped node's directory, held.
struct Held {
    data: DataDir,
    key: Keypair,
    cluster: u64,
    chain: SegmentChain,
    /// When the chain was last written, before anything was opened.
    changed: Option<Timestamp>,
}

pub(super) fn run(args: RecoverArgs, globals: &Globals, out: &Out) -> Result<ExitCode, CliError> {
    let dir = globals
        .data_dir
        .clone()
        .unwrap_or_else(identity::default_data_dir);
    let held = Held::open(&dir)?;
    let me = held.key.node_id();
    let ledger = held.data.join("ledger");
    let survey = recovery::survey(&ledger, me, held.cluster, &held.chain).map_err(failed)?;
    if !args.as_sole_voter {
        out.value(&shown(&survey, &held))?;
        say(&survey, &held, out)?;
        explain(&survey, &dir, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    if survey.voters.len() == 1 {
        return Err(failed(RecoveryError::Alone));
    }
    say(&survey, &held, out)?;
    confirmed(
        &format!("{:016x}", held.cluster),
        "make this node the group's only voter",
        args.yes,
        "hale recover --as-sole-voter --yes",
    )?;
    let now = crate::answers::now();
    let done = recovery::recover(&ledger, &held.key, held.cluster, &held.chain, now);
    done_with(&done.map_err(failed)?, &survey, &dir, out)
}

fn failed(error: RecoveryError) -> CliError {
    let next = match &error {
        RecoveryError::Store(StoreError::InUse { .. }) => {
            "stop the node first; a node that runs and has its quorum needs no recovery (`hale voters`)"
        }
        RecoveryError::Store(_) => "take another survivor, or `hale restore` with a backup",
        RecoveryError::Alone => "hale node",
        _ => "hale recover on another node",
    };
    CliError::offline(error, next)
}

impl Held {
    /// Nothing is made that is not there.
    fn open(dir: &Path) -> Result<Self, CliError> {
        if !dir.join("node.key").exists() || !dir.join("cluster.id").exists() {
            return Err(CliError::NoNode(dir.to_owned()));
        }
        let stop = "stop the node first: `hale recover` works on the files of one that is stopped";
        let data = DataDir::open(dir).map_err(|e| CliError::offline(e, stop))?;
        let unusable = |e| CliError::offline(e, "give the node's own --data-dir");
        let key = data.key().map_err(unusable)?;
        let cluster = data.cluster().map_err(unusable)?;
        let cluster = cluster.ok_or_else(|| CliError::NoNode(dir.to_owned()))?;
        let path = data.join("chain");
        let changed = last_change(&path);
        let chain =
            SegmentChain::open(&path, Options::default()).map_err(|source| CliError::File {
                done: "read",
                path,
                source,
            })?;
        Ok(Self {
            data,
            key,
            cluster,
            chain,
            changed,
        })
    }

    /// Where the others were last seen.
    fn seen(&self) -> Vec<(NodeId, String)> {
        let book = Book::open(self.data.path());
        let all = book.all().into_iter();
        all.map(|(n, a)| (n, a.to_string())).collect()
    }
}

fn last_change(dir: &Path) -> Option<Timestamp> {
    let files = std::fs::read_dir(dir).ok()?.flatten();
    let times = files.filter_map(|f| {
        // The lock is touched by whoever looks.
        let is_lock = f.file_name() == "lock";
        f.metadata().ok()?.modified().ok().filter(|_| !is_lock)
    });
    let since = times.max()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis())
        .ok()
        .map(Timestamp::from_millis)
}

fn host_of(survey: &Survey, node: &NodeId) -> Option<HostName> {
    let mut roster = survey.roster.iter();
    roster.find(|(n, _)| n == node).map(|(_, h)| h.clone())
}

fn shown(survey: &Survey, held: &Held) -> Value {
    let peer = |p: &hale_consensus::Peer| json!({ "node": p.node, "host": host_of(survey, &p.node), "addr": p.addr });
    let peers = |all: &[hale_consensus::Peer]| all.iter().map(peer).collect::<Vec<_>>();
    let seen = held.seen().into_iter();
    json!({
        "node": survey.node,
        "host": host_of(survey, &survey.node),
        "cluster": format!("{:016x}", held.cluster),
        "voters": peers(&survey.voters),
        "learners": peers(&survey.learners),
        "roster": survey.roster.iter().map(|(n, h)| json!({ "node": n, "host": h })).collect::<Vec<_>>(),
        "last_log": survey.last,
        "applied": survey.applied,
        "committed": survey.committed,
        "unconfirmed": survey.unconfirmed,
        "highest_term": survey.highest_term,
        "chain": { "entries": survey.chain.entries, "tip": survey.chain.hash },
        "chain_after": { "entries": survey.leads_to.entries, "tip": survey.leads_to.hash },
        "chain_changed_at": held.changed,
        "last_seen": seen.map(|(n, a)| json!({ "node": n, "host": host_of(survey, &n), "addr": a })).collect::<Vec<_>>(),
    })
}

fn say(survey: &Survey, held: &Held, out: &Out) -> Result<(), CliError> {
    let name = |node: &NodeId| host_of(survey, node).map_or("-".into(), |h| h.to_string());
    out.line(format!(
        "{}, node {} of cluster {:016x}",
        out.paint(Look::Bold, &name(&survey.node)),
        survey.node.short(),
        held.cluster
    ))?;
    let mut table = Table::new(["SEAT", "HOST", "NODE", "ADDRESS", ""]);
    let mut rows = |seat: &str, peers: &[hale_consensus::Peer]| {
        for p in peers {
            let own = if p.node == survey.node {
                "this node"
            } else {
                ""
            };
            table.row([
                plain(seat),
                plain(name(&p.node)),
                plain(p.node.short()),
                plain(&p.addr),
                plain(own),
            ]);
        }
    };
    rows("voter", &survey.voters);
    rows("learner", &survey.learners);
    table.print(out)?;
    let log_end = out.paint(Look::Bold, &survey.last.to_string());
    out.fact("log end", &log_end)?;
    out.fact(
        "committed",
        &format!(
            "up to index {} as far as this node knew; {} beyond",
            survey.committed,
            many(survey.unconfirmed, "entry", "entries")
        ),
    )?;
    let applied = survey.applied.map_or("nothing".into(), |p| p.to_string());
    out.fact("stored", &format!("applied up to {applied}"))?;
    let (now, then) = (survey.chain, survey.leads_to);
    out.fact(
        "chain",
        &format!(
            "{}, tip {}; {} once the whole log is applied",
            many(now.entries, "entry", "entries"),
            now.hash.short(),
            count(then.entries)
        ),
    )?;
    if let Some(changed) = held.changed {
        let told = format!("the chain's files, {} ({changed})", ago(changed));
        out.fact("changed", &told)?;
    }
    for (node, addr) in held.seen() {
        let told = format!("{} ({}) at {addr}", name(&node), node.short());
        out.fact("last seen", &told)?;
    }
    Ok(())
}

fn explain(survey: &Survey, dir: &Path, out: &Out) -> Result<(), CliError> {
    let needed = survey.voters.len() / 2 + 1;
    let unconfirmed = match survey.unconfirmed {
        0 => "This node's log ends with what it knew to be committed.".into(),
        n => format!(
            "{} at this log's end would become final: each may have been acknowledged, or not.",
            many(n, "entry", "entries")
        ),
    };
    out.line(format!(
        "
Nothing was changed. The group needs {needed} of its {} voters; while that many may come back, wait.
If they are gone for good:
  1  stop the node on every survivor and type `hale recover` there; take the one whose log ends
     highest: the higher term, and of equal terms the higher index. This one ends at {}.
  2  type there:  hale recover --as-sole-voter --data-dir {}
  3  wipe every other survivor that held a seat and join it anew: its log may differ, and its key
     is shut out. Nodes that held no seat follow again by themselves.

What is lost: what the lost voters acknowledged and no survivor's log holds. It can't be counted
here. {unconfirmed}
Leases that were granted in what is lost end by their holders' own clocks: wait a lease's time
before the new group acts, if hosts are cut off rather than gone.
The chain will tell of the recovery, and `hale audit verify` with it.",
        survey.voters.len(),
        survey.last,
        dir.display()
    ))
}

/// Asks a person to type the cluster's id; whoever is none has to have said `--yes`.
pub(super) fn confirmed(cluster: &str, to: &str, yes: bool, line: &str) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    let usage = |what: String| CliError::Usage {
        what,
        next: format!("{line}, once you are sure"),
    };
    if !io::stdin().is_terminal() {
        return Err(usage(format!("nobody is there to agree to {to}")));
    }
    // Whoever can't see the question can't answer it either.
    let mut err = io::stderr().lock();
    let _ = write!(err, "\nTo {to}, type the cluster's id ({cluster}): ");
    let _ = err.flush();
    let mut typed = String::new();
    let read = io::stdin().lock().read_line(&mut typed);
    if read.is_ok() && typed.trim() == cluster {
        return Ok(());
    }
    Err(usage(
        "that is not the cluster's id; nothing was changed".into(),
    ))
}

fn done_with(
    done: &Recovered,
    survey: &Survey,
    dir: &Path,
    out: &Out,
) -> Result<ExitCode, CliError> {
    out.value(done)?;
    let lost = done.told.lost.iter().map(|node| {
        let host = host_of(survey, node).map_or("-".into(), |h| h.to_string());
        format!("{host} ({})", node.short())
    });
    let lost: Vec<_> = lost.collect();
    let dir: PathBuf = dir.to_owned();
    out.line(format!(
        "
this node is the group's only voter, from {} on
  final      {} that were not known to be committed
  shut out   {}

run it:                  hale node --data-dir {}
let others in again:     hale token create, then on each, with an empty directory: hale join",
        done.at,
        many(done.told.unconfirmed, "log entry", "log entries"),
        lost.join(", "),
        dir.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}
