//! Durable writes a second: three Hale nodes beside three etcd nodes. `run` starts them and calls
//! this program for each part: a node of the ledger, a client of either.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints what it found and ends where something is wrong"
)]

mod etcd;
mod hale;
mod load;

use std::path::Path;
use std::time::Duration;

const USAGE: &str = "ledger-bench hale-node NUMBER PORT DIR
    and then, line by line on its input: load CLIENTS SECONDS FILE
ledger-bench etcd-client ADDR CLIENTS SECONDS FILE
ledger-bench summary FILE...";

fn seconds(text: &str) -> Duration {
    Duration::from_secs_f64(text.parse().unwrap())
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // As the product runs: two threads, and those of the port and the group.
    let threads = |n| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(n).enable_all().build().unwrap()
    };
    let (runtime, net) = (threads(2), threads(hale_consensus::threads()));
    match args[..] {
        ["hale-node", number, port, dir] => runtime.block_on(hale::node(
            number.parse().unwrap(),
            port.parse().unwrap(),
            Path::new(dir),
            net.handle(),
        )),
        ["etcd-client", addr, clients, time, file] => runtime.block_on(etcd::client(
            addr,
            clients.parse().unwrap(),
            seconds(time),
            Path::new(file),
        )),
        ["summary", ref files @ ..] => load::summary(files),
        _ => {
            println!("{USAGE}");
            std::process::exit(2);
        }
    }
}
