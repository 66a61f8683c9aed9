//! The StatsD socket: a task takes datagrams as they come, each round tells what came together.

use super::{Found, chain, event, lock};
use crate::error::Error;
use crate::statsd::Aggregate;
use hale_model::{EventSource, Level, Timestamp};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The longest datagram UDP can carry.
const MAX_DATAGRAM_BYTES: usize = 65_536;

/// The listener.
#[derive(Debug)]
pub struct Statsd {
    address: SocketAddr,
    aggregate: Arc<Mutex<Aggregate>>,
    task: Option<JoinHandle<()>>,
}

impl Statsd {
    /// A listener on `address` for at most `max_series` series. It binds when it is first read,
    /// and tries again each round while the address is taken.
    pub fn new(address: SocketAddr, max_series: usize) -> Self {
        Self {
            address,
            aggregate: Arc::new(Mutex::new(Aggregate::new(max_series))),
            task: None,
        }
    }

    /// Starts listening, if it does not yet.
    ///
    /// # Errors
    /// If the address can't be bound.
    pub async fn listen(&mut self) -> Result<(), Error> {
        if self.task.as_ref().is_some_and(|t| !t.is_finished()) {
            return Ok(());
        }
        let bind = UdpSocket::bind(self.address).await;
        let socket = bind.map_err(|source| Error::Bind {
            address: self.address.to_string(),
            source,
        })?;
        self.task = Some(tokio::spawn(receive(socket, Arc::clone(&self.aggregate))));
        Ok(())
    }

    /// What came together since the last round.
    pub async fn read(&mut self, at: Timestamp) -> Found {
        let mut found = Found::default();
        if let Err(e) = self.listen().await {
            let origin = self.address.to_string();
            found.events.push(event(
                at,
                EventSource::Sensor,
                None,
                Level::Warning,
                &chain(&e),
                &origin,
            ));
        }
        (found.samples, found.drops) = lock(&self.aggregate).flush();
        found
    }
}

impl Drop for Statsd {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn receive(socket: UdpSocket, aggregate: Arc<Mutex<Aggregate>>) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(n) => lock(&aggregate).datagram(&buffer[..n]),
            // An unconnected socket only fails if the host is in trouble; the next read binds anew.
            Err(e) => {
                tracing::warn!(error = %e, "the StatsD socket failed; it is opened again");
                return;
            }
        }
        // Senders that never pause must not starve the others on this worker.
        tokio::task::coop::consume_budget().await;
    }
}
