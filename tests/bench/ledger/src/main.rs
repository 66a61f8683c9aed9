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
ledger-bench hale-client PORT DIR CLIENTS SECONDS
ledger-bench etcd-client ADDR CLIENTS SECONDS";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // As the product runs: two threads beside the two of the ledger.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let seconds = |text: &str| Duration::from_secs_f64(text.parse().unwrap());
    match args[..] {
        ["hale-node", number, port, dir] => runtime.block_on(hale::node(
            number.parse().unwrap(),
            port.parse().unwrap(),
            Path::new(dir),
        )),
        ["hale-client", port, dir, clients, time] => runtime.block_on(hale::client(
            port.parse().unwrap(),
            Path::new(dir),
            clients.parse().unwrap(),
            seconds(time),
        )),
        ["etcd-client", addr, clients, time] => {
            runtime.block_on(etcd::client(addr, clients.parse().unwrap(), seconds(time)));
        }
        _ => {
            println!("{USAGE}");
            std::process::exit(2);
        }
    }
}
