//! The running tier: its workers' threads.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_net::{Mailboxes, Socket, Tier, Wheel, Workers};

use crate::client::{self, Moved, Slot};
use crate::shared::{Drain, Shared};
use crate::worker::Worker;

impl Tier for Worker {
    type Slot = Slot;
    type Moved = Moved;

    fn wheel(&self) -> &Wheel {
        &self.wheel
    }

    fn accept(
        self: Arc<Self>,
        socket: Socket,
        slot: Slot,
        others: Mailboxes<Moved>,
    ) -> impl Future<Output = ()> + Send + 'static {
        client::run(self, socket, slot, others)
    }

    fn receive(self: &Arc<Self>, moved: Moved) {
        client::receive(self, moved);
    }

    fn turn(self: &Arc<Self>, now: Ticks, turns: u32, _lag: Duration) {
        Worker::turn(self, now, turns);
    }

    fn end(self: &Arc<Self>) {}
}

/// The running workers.
#[derive(Debug)]
pub struct Postgres {
    /// What they share.
    pub shared: Arc<Shared>,
    workers: Workers<Worker>,
}

impl Postgres {
    /// Starts so many workers.
    pub fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let all: Vec<_> = (0..shared.loads.len())
            .map(|index| Worker::new(index, Arc::clone(&shared)))
            .collect();
        let _ = shared.workers.set(all.clone());
        let workers = Workers::start("postgres", shared.clock, all)?;
        Ok(Self { shared, workers })
    }

    /// Accepts on `sockets`, which are spread over the workers; at best there is one for each.
    pub async fn listen(&self, key: &str, sockets: Vec<OwnedFd>, slot: &Slot) {
        self.workers.listen(key, sockets, slot).await;
    }

    /// Accepts no more on the sockets of `key`. Clients stay.
    pub async fn unlisten(&self, key: &str) {
        self.workers.unlisten(key).await;
    }

    /// Accepts no more at all; clients leave as soon as they are in no transaction.
    pub async fn drain(&self) {
        self.shared.set_drain(Drain::Gently);
        self.workers.stop_listening().await;
    }

    /// Whether every worker works with the newest plan.
    pub fn is_acknowledged(&self) -> bool {
        self.shared.is_followed()
    }

    /// Ends the workers with all their clients, and waits for their threads.
    pub async fn end(self) {
        self.workers.end().await;
    }
}
