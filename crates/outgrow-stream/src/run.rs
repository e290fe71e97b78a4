//! The running tier: its workers' threads.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use outgrow_net::Workers;

use crate::plan::ListenerSlot;
use crate::shared::{Drain, Shared};
use crate::worker::Worker;

/// How long connections may take to say how they ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(5);

/// The running workers.
#[derive(Debug)]
pub struct Streams {
    /// What they share.
    pub shared: Arc<Shared>,
    workers: Workers<Worker>,
}

impl Streams {
    /// Starts a thread for each worker of `shared`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let all = (0..shared.loads.len())
            .map(|index| Worker::new(index, Arc::clone(&shared)))
            .collect();
        let workers = Workers::start("stream", shared.clock, all)?;
        Ok(Self { shared, workers })
    }

    /// Accepts on `sockets`, which are spread over the workers; at best there is one for each.
    pub async fn listen(&self, key: &str, sockets: Vec<OwnedFd>, slot: &ListenerSlot) {
        self.workers.listen(key, sockets, slot).await;
    }

    /// Accepts no more on the sockets of `key`. Connections stay.
    pub async fn unlisten(&self, key: &str) {
        self.workers.unlisten(key).await;
    }

    /// Accepts no more at all; connections go on until [`Streams::end`].
    pub async fn drain(&self) {
        self.shared.set_drain(Drain::Going);
        self.workers.stop_listening().await;
    }

    /// Has every connection look whether its endpoint is down.
    pub async fn look_at_endpoints(&self) {
        self.workers.wake_all().await;
    }

    /// Ends the workers with all their connections, which are reset, and waits for their threads.
    pub async fn end(self) {
        self.shared.set_drain(Drain::Over);
        self.workers.wake_all().await;
        let began = self.shared.clock.now();
        // Each says how it ended.
        while self.shared.connections() > 0 && self.shared.clock.now().since(began) < LAST_WORDS {
            tokio::time::sleep(LOOK).await;
        }
        self.workers.end().await;
    }
}
