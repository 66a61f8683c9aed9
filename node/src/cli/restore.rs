//! `hale restore`: a new node made of a backup, after all nodes were lost.

use super::out::{Look, Out, many};
use super::recover::confirmed;
use super::{CliError, Globals, backup};
use crate::backup::restore::{self, NewNode, RestoreError};
use crate::cluster::book::Settings;
use crate::{cluster, daemon, identity};
use clap::Args;
use hale_consensus::recovery::Recovered;
use hale_model::HostName;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale restore hale.backup --data-dir /var/lib/hale         as a new node, on this host
  hale restore hale.backup --data-dir new --host db-1 --bind 10.0.0.5:7118
  hale restore hale.backup --data-dir new --key-file saved/node.key     as the member it was
  hale restore hale.backup --data-dir new --yes --json

For when all nodes that held a seat are gone. While a survivor is left, `hale recover` on it loses
less: what came after the backup is not in it. The backup is verified whole before anything is
made. The new node is a cluster of its own with the same id, chain, budgets, approvals and history;
join tokens are ended, leases too. The rest of the roster is shut out and joins anew; with
--key-file only who held a seat is. Give the key of one that held a seat: the others follow no node
alone of which they don't know that it did. The chain will tell of the restore: `hale audit verify`
lists it, and with a new key that no member vouches for it.

Exit code 1 if the backup does not hold, or the directory is not empty.")]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The new node's host [default: the machine's own name]
    #[arg(long, value_name = "NAME", env = "HALE_HOST")]
    host: Option<HostName>,
    /// Where it will listen for the other nodes, on UDP [default: 0.0.0.0:7118]
    #[arg(long, value_name = "ADDR")]
    bind: Option<SocketAddr>,
    /// Where the other nodes will reach it, if that is not where it listens
    #[arg(long, value_name = "ADDR")]
    advertise: Option<SocketAddr>,
    /// The node.key of a member: restore as that node, not as a new one
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Don't ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(args: RestoreArgs, globals: &Globals, out: &Out) -> Result<ExitCode, CliError> {
    let dir = globals
        .data_dir
        .clone()
        .unwrap_or_else(identity::default_data_dir);
    restore::is_free(&dir).map_err(failed)?;
    let found = restore::open(&args.file).map_err(failed)?;
    let node = match (&args.key_file, &args.host) {
        (Some(path), host) => NewNode::with_key_of(path, &found, host.as_ref()).map_err(failed)?,
        (None, Some(host)) => NewNode::on(host.clone()),
        (None, None) => NewNode::on(this_host()?),
    };
    let settings = Settings {
        bind: Some(args.bind.unwrap_or(cluster::DEFAULT_BIND)),
        advertise: args.advertise,
        ..Settings::default()
    };
    let bind = settings.bind.unwrap_or(cluster::DEFAULT_BIND);
    let advertise = daemon::advertised(&settings, bind);
    let advertise = advertise.map_err(|e| CliError::offline(e, "take another --bind"))?;
    let host = node.host.clone();
    backup::say(&found, &args.file, out)?;
    let who = match node.member() {
        Some(id) => format!("as node {} of host {host}", id.short()),
        None => format!("as a new node on host {host}, which takes the whole roster's place"),
    };
    out.fact("restore", &format!("{who}, into {}", dir.display()))?;
    confirmed(
        &found.header.cluster,
        "go on from this backup",
        args.yes,
        "hale restore … --yes",
    )?;
    let done = restore::restore(
        &args.file,
        &dir,
        node,
        (&settings, advertise),
        crate::answers::now(),
    );
    done_with(&done.map_err(failed)?, &dir, out)
}

fn failed(error: RestoreError) -> CliError {
    let next = match &error {
        RestoreError::Backup { .. } => "take another copy of the backup, or an older one",
        RestoreError::NotEmpty(_) => "hale restore FILE --data-dir NEW",
        _ => "hale restore --help",
    };
    CliError::offline(error, next)
}

fn this_host() -> Result<HostName, CliError> {
    HostName::new(daemon::machine_name()).map_err(|e| CliError::Usage {
        what: format!("the machine's name can't be the host's: {e}"),
        next: "give it with --host".into(),
    })
}

fn done_with(done: &Recovered, dir: &Path, out: &Out) -> Result<ExitCode, CliError> {
    out.value(done)?;
    let (told, dir) = (&done.told, dir.display());
    out.line(format!(
        "
{} cluster {} goes on as node {} on host {}
  shut out   {} of the old roster
  note       the chain will tell of it; auditors see it in `hale audit verify`

run it:              hale node --data-dir {dir} --host {}
let others in again: hale token create, then on each, with an empty directory: hale join",
        out.paint(Look::Good, "restored:"),
        told.cluster,
        told.node.short(),
        told.host,
        many(told.lost.len() as u64, "node", "nodes"),
        told.host,
    ))?;
    Ok(ExitCode::SUCCESS)
}
