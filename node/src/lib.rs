//! All of the `hale` binary: one command line for the node, its operators and the demo.
//!
//! It is a library so that what reads bytes here can be fuzzed; `main.rs` calls [`main`] and no more.

mod answers;
mod backend;
mod backtest;
mod backup;
mod chain;
mod cli;
mod cluster;
mod cluster_metrics;
mod config;
mod daemon;
mod demo;
mod elsewhere;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod identity;
mod levels;
mod library;
mod logging;
mod manual;
mod memory;
mod node_metrics;
mod notify;
mod pipeline;
mod recorded;
mod replay;
mod secrets;
mod sisters;
mod store;
mod supervise;
mod telling;
mod tls;
mod views;

use clap::Parser;
use cli::{
    BaselineCommand, Cli, Command, DecisionCommand, DemoServiceCommand, Globals, JoinArgs, NodeArgs,
};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

/// A task that can't be cancelled (a hung mount) is not waited for longer.
const RUNTIME_END: Duration = Duration::from_secs(2);

/// Does what the command line says, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    tls::install_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("hale")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return cli::failed(&e, &cli.globals),
    };
    let code = runtime.block_on(run(cli.command, &cli.globals));
    runtime.shutdown_timeout(RUNTIME_END);
    code
}

async fn run(command: Command, globals: &Globals) -> ExitCode {
    let ended: Result<ExitCode, Box<dyn Error>> = match command {
        Command::Node(args) => node(args, globals).await,
        Command::Init(args) => init(args, globals).await,
        Command::Join(args) => join(args, globals).await,
        Command::Demo(args) => {
            let options = demo::DemoOptions {
                json: globals.json,
                keep: args.keep,
                nodes: usize::from(args.nodes),
                only: args.only,
            };
            demo::run(options).await.map_err(Into::into)
        }
        Command::Client(command) => return cli::run(command, globals).await,
        Command::Baseline(BaselineCommand::Replay(args)) => {
            replay::baseline_command(&args.input, &args.output, args.options(), globals.json)
                .map_err(Into::into)
        }
        Command::Baseline(BaselineCommand::Plot(args)) => replay::plot_command(
            &args.file,
            &args.output,
            args.options(),
            args.last_days,
            globals.json,
        )
        .map_err(Into::into),
        Command::Baseline(BaselineCommand::Exclude(args)) => {
            return cli::run(cli::ClientCommand::Exclude(args), globals).await;
        }
        Command::Decision(DecisionCommand::Replay {
            incidents,
            playbooks,
            output,
        }) => replay::decision_command(&incidents, playbooks.as_deref(), &output, globals.json)
            .map_err(Into::into),
        Command::DemoService(DemoServiceCommand::Run(args)) => {
            let served = demo::service::run(&args.dir, args.port).await;
            served.map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Command::DemoService(DemoServiceCommand::Restart(args)) => {
            let served = demo::service::restart(&args.dir, args.port).await;
            served.map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
    };
    ended.unwrap_or_else(|e| cli::failed(&*e, globals))
}

fn configured(args: NodeArgs, globals: &Globals) -> Result<config::Config, daemon::NodeError> {
    daemon::configured(daemon::Overrides {
        config: args.config,
        data_dir: globals.data_dir.clone(),
        listen: args.listen,
        interval: args.interval,
        host: args.host,
        bind: args.bind,
        advertise: args.advertise,
        zone: args.zone,
        seeds: Vec::new(),
    })
}

async fn node(args: NodeArgs, globals: &Globals) -> Result<ExitCode, Box<dyn Error>> {
    let config = configured(args, globals)?;
    logging::start(&config.node.log_level, config.node.log_format);
    daemon::run(config, None).await?;
    Ok(ExitCode::SUCCESS)
}

async fn init(args: NodeArgs, globals: &Globals) -> Result<ExitCode, Box<dyn Error>> {
    let options = args.for_each_start();
    let config = configured(args, globals)?;
    let founding = daemon::init(config).await?;
    cli::founded(&founding, &options, globals);
    Ok(ExitCode::SUCCESS)
}

async fn join(args: JoinArgs, globals: &Globals) -> Result<ExitCode, Box<dyn Error>> {
    let token = args.token.as_deref().map(str::parse).transpose()?;
    let mut config = configured(args.node, globals)?;
    if !args.seeds.is_empty() {
        config.cluster.seeds = args.seeds;
    }
    config.cluster.token_file = args.token_file.or(config.cluster.token_file);
    config.cluster.check()?;
    logging::start(&config.node.log_level, config.node.log_format);
    daemon::run(config, token).await?;
    Ok(ExitCode::SUCCESS)
}
