//! How the shop stops: first it says that it is not ready, then it takes
//! nothing new, then what is in flight ends. Every connection and WebSocket
//! holds a [`Watcher`]; the shop is drained when all of them are dropped.

use std::{convert::Infallible, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time,
};

/// How far the stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    NotReady,
    Stopping,
}

/// The side that stops.
#[derive(Debug)]
pub(super) struct Drain {
    phase: watch::Sender<Phase>,
    alive: mpsc::Receiver<Infallible>,
}

/// What a connection holds while it lives.
#[derive(Debug, Clone)]
pub(super) struct Watcher {
    phase: watch::Receiver<Phase>,
    _alive: mpsc::Sender<Infallible>,
}

/// The two sides.
pub(super) fn drain() -> (Drain, Watcher) {
    let (phase, watched) = watch::channel(Phase::Serving);
    let (sender, alive) = mpsc::channel(1);
    let watcher = Watcher {
        phase: watched,
        _alive: sender,
    };
    (Drain { phase, alive }, watcher)
}

impl Drain {
    /// From now on the shop is not ready.
    pub(super) fn not_ready(&self) {
        self.phase.send_replace(Phase::NotReady);
    }

    /// From now on nothing new is taken; waits for what is in flight, at most
    /// `timeout`. False when something was still in flight then.
    pub(super) async fn stop(mut self, timeout: Duration) -> bool {
        self.phase.send_replace(Phase::Stopping);
        time::timeout(timeout, self.alive.recv()).await.is_ok()
    }
}

impl Watcher {
    /// Whether the shop takes requests and means to go on.
    pub(super) fn ready(&self) -> bool {
        *self.phase.borrow() == Phase::Serving
    }

    /// Ends when the shop takes nothing new any more.
    pub(super) async fn stopping(&mut self) {
        // An error means that the shop itself is gone, which is stopping too.
        let _gone = self.phase.wait_for(|phase| *phase == Phase::Stopping).await;
    }
}
