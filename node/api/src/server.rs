//! The listener: connections, their limits and their end. axum's own server has no limit on slow
//! heads, so this drives hyper itself.

use crate::backend::Backend;
use crate::call::Api;
use crate::guard::{Door, Token};
use crate::routes;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections at once; the next waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 512;
/// The largest head of a request: line and headers.
pub(crate) const MAX_HEAD_BYTES: usize = 32 << 10;
/// The most headers.
const MAX_HEADERS: usize = 64;
/// How long a head may take to arrive; an idle connection is closed after it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may take once the node stops.
const GRACE: Duration = Duration::from_secs(5);

/// Where the API listens and who may use it.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// The address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What opens it.
    pub token: Token,
}

/// Why the API can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address can't be bound.
    #[error(
        "can't listen on {listen}; `hale status` tells whether a node runs already, `listen` in the \
         configuration or `hale node --listen 127.0.0.1:0` takes another address"
    )]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A listener that is bound, not yet served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    token: Token,
}

/// Binds the address.
///
/// # Errors
/// If it can't be bound.
pub async fn bind(config: ApiConfig) -> Result<Server, ServerError> {
    let ApiConfig { listen, token } = config;
    let failed = |source| ServerError::Bind { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    if !addr.ip().is_loopback() {
        tracing::warn!(%addr, "the API listens beyond loopback, without TLS: keep it behind a proxy or in a trusted network");
    }
    Ok(Server {
        listener,
        addr,
        token,
    })
}

impl Server {
    /// The address it is bound to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop` turns true (or its sender is gone); then lets requests under way
    /// finish, for at most five seconds.
    pub async fn serve(self, backend: Arc<dyn Backend>, mut stop: watch::Receiver<bool>) {
        let door = Door::Listener {
            token: self.token,
            only_loopback_names: self.addr.ip().is_loopback(),
        };
        let api = Arc::new(Api::new(backend, door, stop.clone()));
        let router = routes::router(api.clone());
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut open = JoinSet::new();
        loop {
            while open.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = stopped(&mut stop) => break,
                accepted = accept(&self.listener, &places) => accepted,
            };
            let Some((stream, place)) = accepted else {
                continue;
            };
            let (api, router, stop) = (api.clone(), router.clone(), stop.clone());
            open.spawn(async move {
                let _place = place;
                api.meter.connections.fetch_add(1, Ordering::Relaxed);
                connection(stream, router, stop).await;
                api.meter.connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
        drop(self.listener);
        let all = async { while open.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::info!("requests still under way were cut off");
        }
    }
}

/// When the node stops, or nobody is left who could say so.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            stream.set_nodelay(true).ok();
            Some((stream, place))
        }
        Err(error) => {
            // Out of file descriptors, most likely: trying again at once would spin.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopped(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
