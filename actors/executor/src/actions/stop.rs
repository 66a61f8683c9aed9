//! How a running action learns that it has to end.

use tokio::sync::watch;

/// How urgently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not at all.
    Run,
    /// With a moment to end by itself.
    Gently,
    /// Now: the right to act has ended.
    AtOnce,
}

/// What an action watches while it runs.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Level>);

impl Stop {
    /// A sender and what watches it.
    pub fn channel() -> (watch::Sender<Level>, Self) {
        let (sender, receiver) = watch::channel(Level::Run);
        (sender, Self(receiver))
    }

    /// Whether it has to end; for loops that block.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() > Level::Run
    }

    /// Waits until it has to end. If nobody can say so any more, it has to.
    pub async fn asked(&mut self) {
        let _ = self.0.wait_for(|level| *level > Level::Run).await;
    }

    /// Waits until it has to end at once.
    pub async fn at_once(&mut self) {
        let _ = self.0.wait_for(|level| *level == Level::AtOnce).await;
    }
}
