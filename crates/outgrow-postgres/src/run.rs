//! The running tier: its workers' threads.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_net::{Mailboxes, Passage, Socket, Tier, Wheel, Workers};

use crate::client::{self, Moved, Slot};
use crate::handover;
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

    fn is_idle(&self) -> bool {
        self.shared.loads[self.index].load(Ordering::Relaxed) == 0 && self.has_no_pools()
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

    /// There is a next process, at the other end of a passage: clients are handed to it once this
    /// process drains. To be called within a runtime that stays for as long.
    ///
    /// # Errors
    /// It is no passage.
    pub fn meet_successor(&self, end: OwnedFd) -> io::Result<()> {
        self.meet(end, true)
    }

    /// A process that leaves is at the other end of a passage: its clients are taken over. To be
    /// called likewise.
    ///
    /// # Errors
    /// It is no passage.
    pub fn meet_leaving(&self, end: OwnedFd) -> io::Result<()> {
        self.meet(end, false)
    }

    fn meet(&self, end: OwnedFd, is_successor: bool) -> io::Result<()> {
        let passage = Passage::new(end)?;
        let mailboxes = Arc::clone(self.workers.mailboxes());
        let shared = Arc::clone(&self.shared);
        tokio::spawn(handover::run(shared, mailboxes, passage, is_successor));
        Ok(())
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
