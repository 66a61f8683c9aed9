//! How one actor hands on to the next without knowing it: a port takes a question and answers
//! in the future. Whoever asks through a port waits for the answer, so no mailbox is flooded.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// An answer that comes later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A way to ask `Q` of somebody unknown and get `R`.
pub type Port<Q, R = ()> = Arc<dyn Fn(Q) -> Later<R> + Send + Sync>;

/// Makes a port of an async closure.
pub fn port<Q, R, F, Fut>(f: F) -> Port<Q, R>
where
    F: Fn(Q) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    Arc::new(move |q| Box::pin(f(q)))
}
