//! The command line: what there is to type, and how it ends. Each group of client commands has a
//! file; what runs a node, the demo or a replay is dispatched in `main.rs`.

mod approvals;
mod audit;
mod backtest;
mod backup;
mod baseline;
mod budget;
mod chart;
mod client;
mod error;
mod freeze;
mod incidents;
mod leases;
mod members;
mod metrics;
mod out;
mod playbook;
mod recover;
mod restore;
mod status;
mod token;
mod voters;
mod why_not;

pub(crate) use baseline::BaselineCommand;
use client::Client;
pub(crate) use error::CliError;

use clap::{Args, Parser, Subcommand};
use out::Out;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  all is well
  1  something is wrong: a broken chain, an open incident, a playbook with errors
  2  the command line is not understood
  3  no node answers
  4  the node refused

First steps:
  hale demo                 see it heal this machine, in under a minute
  hale node                 run a node on this host
  hale init, hale join      make a cluster of many
  hale status               what it sees
  hale why INCIDENT         why it did what it did
  hale why-not HOST         why it did not
  hale audit verify         whether its record can be believed";

/// Keeps hosts healthy without waking anyone, and proves what it did.
#[derive(Debug, Parser)]
#[command(name = "hale", version, about, after_help = EXIT_CODES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command knows.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Globals {
    /// Answer with JSON on standard output, and nothing else there
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Where the node answers, like 127.0.0.1:7117; found in the data directory if left out
    #[arg(
        long,
        global = true,
        env = "HALE_ADDR",
        value_name = "ADDR",
        help_heading = "Node"
    )]
    pub(crate) addr: Option<String>,
    /// The node's token; others on this host can see an argument, so prefer the variable
    #[arg(
        long,
        global = true,
        env = "HALE_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        help_heading = "Node"
    )]
    pub(crate) token: Option<String>,
    /// Where the node keeps its state [default: /var/lib/hale for root, else ~/.local/share/hale]
    #[arg(
        long,
        global = true,
        env = "HALE_DATA_DIR",
        value_name = "DIR",
        help_heading = "Node"
    )]
    pub(crate) data_dir: Option<PathBuf>,
}

/// What there is to type.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node on this host
    Node(NodeArgs),
    /// Found a cluster of this host, for others to join
    #[command(after_help = "\
Examples:
  hale init                                       found a cluster; `hale node` then runs this host
  hale init --bind 10.0.0.5:7118 --zone rack-1
  hale init --config /etc/hale/hale.toml

A cluster is founded once, on one host. Every other host joins it with `hale join`. The data
directory keeps --bind, --advertise and --zone; what else was said here is said again at each start:
the line that `hale init` prints has it.")]
    Init(NodeArgs),
    /// Join a cluster and run a node of it; the same line starts it again later
    Join(JoinArgs),
    /// Break real things on this machine and watch them heal, in under a minute
    Demo(DemoArgs),
    #[command(flatten)]
    Client(ClientCommand),
    /// Look at what a baseline makes of recorded history
    #[command(subcommand)]
    Baseline(BaselineCommand),
    /// Look at what the decision makes of recorded incidents
    #[command(subcommand)]
    Decision(DecisionCommand),
    /// The service that the demo breaks
    #[command(subcommand, hide = true)]
    DemoService(DemoServiceCommand),
}

/// What is asked of a running node.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// The node at a glance
    Status(status::StatusArgs),
    /// What is wrong, and what was done about it
    Incidents(incidents::IncidentsArgs),
    /// Why an incident was treated as it was
    Why(incidents::WhyArgs),
    /// Why nothing was done about a host, and what it would have taken
    WhyNot(why_not::WhyNotArgs),
    /// Agree to a plan, or list those that wait for you
    Approve(approvals::ApproveArgs),
    /// Refuse a plan
    Deny(approvals::DenyArgs),
    /// List, show, check and run playbooks
    #[command(subcommand)]
    Playbook(playbook::PlaybookCommand),
    /// Who may act on what, who looks at what, and what runs now
    Leases(leases::LeasesArgs),
    /// Verify, export and follow the record of all that was done
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Stop all execution: nothing new is started
    Freeze(freeze::FreezeArgs),
    /// Allow execution again
    Thaw(freeze::ThawArgs),
    /// What a host's sensors see, held against what is normal
    Metrics(metrics::MetricsArgs),
    /// Who belongs to the cluster, and how each is
    Members(members::MembersArgs),
    /// The Raft group: who votes, who lags, what the seat planner would do next
    Voters(voters::VotersArgs),
    /// Who leads
    Leader(voters::LeaderArgs),
    /// Hand the lead to another voter
    TransferLeadership(voters::TransferArgs),
    /// Make, list and revoke the secrets that let other hosts join
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Take this node out of the cluster
    Leave(members::LeaveArgs),
    /// Take another node out of the cluster, one that is gone
    Remove(members::RemoveArgs),
    /// Limit how much is done at once, or within an hour
    #[command(subcommand)]
    Budget(budget::BudgetCommand),
    /// Write the ledger's state and the chain to a file
    Backup(backup::BackupArgs),
    /// Make a new node of a backup, after all nodes were lost
    Restore(restore::RestoreArgs),
    /// Go on from this node's own files, after a majority of the voters was lost
    Recover(recover::RecoverArgs),
    /// See what Hale would have seen, decided and done in recorded history
    Backtest(backtest::BacktestArgs),
    /// `hale baseline exclude`, which asks a node as these do
    #[command(skip)]
    Exclude(baseline::ExcludeArgs),
}

/// How a node is run.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  hale node                                   watch this host with what is normal for it
  hale node --config /etc/hale/hale.toml      with databases, logs, health checks, notifications
  hale node --interval 1s --listen 127.0.0.1:0

The configuration is TOML; every field has a default, deploy/hale.toml explains them all:
  [node]
  environment = \"production\"
  tags = { role = \"primary\" }

  [[telemetry.postgres]]
  url = \"postgres://hale@localhost/postgres\"

  [services.shop]
  health_url = \"http://127.0.0.1:8080/health\"
  restart_command = [\"/usr/bin/supervisorctl\", \"restart\", \"shop\"]

  [notify]
  webhook_url_env = \"HALE_WEBHOOK\"")]
pub(crate) struct NodeArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", env = "HALE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where to answer HTTP [default: 127.0.0.1:7117]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// How often the sensors are read: 100ms, 1s, 30s [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) interval: Option<hale_telemetry::Span>,
    /// The host's name [default: the machine's own]
    #[arg(long, value_name = "NAME", env = "HALE_HOST")]
    pub(crate) host: Option<String>,
    /// Where to listen for the other nodes, on UDP [default: 0.0.0.0:7118 in a cluster]
    #[arg(long, value_name = "ADDR", help_heading = "Cluster")]
    pub(crate) bind: Option<SocketAddr>,
    /// Where the other nodes reach this one, if that is not where it listens
    #[arg(long, value_name = "ADDR", help_heading = "Cluster")]
    pub(crate) advertise: Option<SocketAddr>,
    /// The host's failure domain: voters are spread over zones
    #[arg(long, value_name = "ZONE", help_heading = "Cluster")]
    pub(crate) zone: Option<String>,
}

impl NodeArgs {
    /// The options that the data directory does not keep, as they have to be typed at each start.
    pub(crate) fn for_each_start(&self) -> String {
        let config = self.config.as_ref().map(|c| c.display().to_string());
        let listen = self.listen.map(|l| l.to_string());
        let interval = self.interval.map(|i| i.to_string());
        [
            ("config", config),
            ("listen", listen),
            ("interval", interval),
            ("host", self.host.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|v| format!(" --{name} {v}")))
        .collect()
    }
}

/// How a cluster is joined.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  hale token create                                on a member: prints the token
  hale join 10.0.0.5:7118 --token tok_….…          on the new host
  hale join db-1:7118 db-2:7118 db-3:7118 --token-file /run/hale.token --config /etc/hale/hale.toml

Any member serves as a seed; one that answers is enough. Once joined, the token is not needed any
more: the same command line, or `hale node`, starts the node again, also when its seeds are down.

Exit code 1 if the host was not let in; the message says why and what to type.")]
pub(crate) struct JoinArgs {
    /// Members of the cluster, any of them
    #[arg(value_name = "HOST:PORT")]
    pub(crate) seeds: Vec<String>,
    /// The one-time token; others on this host can see an argument, so prefer the variable or file
    #[arg(
        long,
        env = "HALE_JOIN_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub(crate) token: Option<String>,
    /// The file that holds the token
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// How the demo is run.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  hale demo                     everything that this machine can show, with three nodes
  hale demo --nodes 7           a larger cluster; of 1 or 2 nodes none is killed
  hale demo --only shop         one fault
  hale demo --keep              leave the nodes running to look around
  hale demo --json              say what happened as one JSON object

The nodes are real processes on loopback. While the last fault is healed, the one that leads the
cluster is killed; it is started again afterwards.

Nothing is installed, nothing is left behind. Exit code 1 if anything was not healed, the loss was
not survived, or the nodes' records differ.")]
pub(crate) struct DemoArgs {
    /// How many nodes to run, 1 to 9
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) nodes: u8,
    /// Leave the nodes running afterwards, until Ctrl-C
    #[arg(long)]
    pub(crate) keep: bool,
    /// Only faults whose name holds this; may be given several times
    #[arg(long, value_name = "FAULT")]
    pub(crate) only: Vec<String>,
}

/// What can be done with decisions.
#[derive(Debug, Subcommand)]
pub(crate) enum DecisionCommand {
    /// Rank playbooks for recorded incidents
    #[command(after_help = "\
Examples:
  hale decision replay --incidents incidents.jsonl rankings.jsonl
  hale decision replay --incidents incidents.jsonl --playbooks ours.jsonl rankings.jsonl")]
    Replay {
        /// The incidents, one JSON object a line
        #[arg(long, value_name = "FILE")]
        incidents: PathBuf,
        /// The playbooks, one JSON object a line [default: those in this binary]
        #[arg(long, value_name = "FILE")]
        playbooks: Option<PathBuf>,
        /// Where the rankings are written
        #[arg(value_name = "OUT")]
        output: PathBuf,
    },
}

/// The demo's own service.
#[derive(Debug, Subcommand)]
pub(crate) enum DemoServiceCommand {
    /// Serve until told to end
    Run(DemoServiceArgs),
    /// End it, start it, wait until it is healthy
    Restart(DemoServiceArgs),
}

/// Where the demo's service lives.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoServiceArgs {
    /// Its port
    #[arg(long)]
    pub(crate) port: u16,
    /// Its directory
    #[arg(long)]
    pub(crate) dir: PathBuf,
}

/// Runs a client command to its end and tells what went wrong, if anything did.
pub(crate) async fn run(command: ClientCommand, globals: &Globals) -> ExitCode {
    let out = Out::new(globals.json);
    match dispatch(command, globals, &out).await {
        Ok(code) => code,
        Err(CliError::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            out.failed(&error, &error.next(), error.code());
            ExitCode::from(error.code())
        }
    }
}

/// Tells what `hale init` made, and what to type next.
pub(crate) fn founded(founding: &crate::daemon::Founding, options: &str, globals: &Globals) {
    let out = Out::new(globals.json);
    if globals.json {
        // Whoever closed the output has seen enough.
        let _ = out.value(founding);
        return;
    }
    let dir = founding.data_dir.display();
    let text = format!(
        "founded cluster {}\n  host     {}, node {}\n  port     UDP {}, others reach it at {}\n  state    {dir}\n\n\
         run it:              hale node --data-dir {dir}{options}\n\
         let another host in: hale token create --data-dir {dir}\n",
        founding.cluster,
        founding.host,
        founding.node.short(),
        founding.bind,
        founding.advertise
    );
    let _ = out.line(&text);
}

/// Tells why something other than a client command failed, in the same way.
pub(crate) fn failed(error: &dyn Error, globals: &Globals) -> ExitCode {
    Out::new(globals.json).failed(error, "", 1);
    ExitCode::FAILURE
}

async fn dispatch(
    command: ClientCommand,
    globals: &Globals,
    out: &Out,
) -> Result<ExitCode, CliError> {
    // What works without a node must not ask for one.
    let command = match command {
        ClientCommand::Playbook(command) if command.is_offline() => {
            return playbook::offline(command, out);
        }
        ClientCommand::Audit(audit::AuditCommand::Verify(args)) if args.file.is_some() => {
            return audit::verify_file(&args, out);
        }
        ClientCommand::Backtest(args) => return backtest::run(args, out).await,
        ClientCommand::Restore(args) => return restore::run(args, globals, out),
        ClientCommand::Recover(args) => return recover::run(args, globals, out),
        command => command,
    };
    let client = Client::new(globals)?;
    match command {
        ClientCommand::Exclude(args) => baseline::exclude(args, &client, out).await,
        ClientCommand::Status(args) => status::run(args, &client, out).await,
        ClientCommand::Incidents(args) => incidents::run(args, &client, out).await,
        ClientCommand::Why(args) => incidents::why(args, &client, out).await,
        ClientCommand::WhyNot(args) => why_not::run(args, &client, out).await,
        ClientCommand::Approve(args) => approvals::approve(args, &client, out).await,
        ClientCommand::Deny(args) => approvals::deny(args, &client, out).await,
        ClientCommand::Playbook(command) => playbook::run(command, &client, out).await,
        ClientCommand::Leases(args) => leases::run(args, &client, out).await,
        ClientCommand::Audit(command) => audit::run(command, &client, out).await,
        ClientCommand::Freeze(args) => freeze::freeze(args, &client, out).await,
        ClientCommand::Thaw(args) => freeze::thaw(args, &client, out).await,
        ClientCommand::Metrics(args) => metrics::run(args, &client, out).await,
        ClientCommand::Members(args) => members::run(args, &client, out).await,
        ClientCommand::Voters(args) => voters::run(args, &client, out).await,
        ClientCommand::Leader(args) => voters::leader(args, &client, out).await,
        ClientCommand::TransferLeadership(args) => voters::transfer(args, &client, out).await,
        ClientCommand::Token(command) => token::run(command, &client, out).await,
        ClientCommand::Leave(args) => members::leave(args, &client, out).await,
        ClientCommand::Remove(args) => members::remove(args, &client, out).await,
        ClientCommand::Budget(command) => budget::run(command, &client, out).await,
        ClientCommand::Backup(args) => backup::run(args, &client, out).await,
        ClientCommand::Backtest(args) => backtest::run(args, out).await,
        ClientCommand::Restore(args) => restore::run(args, globals, out),
        ClientCommand::Recover(args) => recover::run(args, globals, out),
    }
}

/// Success, or the code that says something is wrong.
fn ok_unless(wrong: bool) -> ExitCode {
    if wrong {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Who types: `--by`, or the user's name. The record has to say who it was.
fn who(by: Option<String>) -> String {
    let known = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    let named = by
        .or_else(|| known("SUDO_USER"))
        .or_else(|| known("USER"))
        .or_else(|| known("LOGNAME"));
    named.unwrap_or_else(|| match rustix::process::getuid() {
        uid if uid.is_root() => "root".into(),
        uid => format!("uid {}", uid.as_raw()),
    })
}

#[cfg(test)]
mod tests;
