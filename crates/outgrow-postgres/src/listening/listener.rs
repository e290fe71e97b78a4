//! A client that listens, for the tests of what becomes of it elsewhere.

use std::sync::Arc;

use super::{Ear, Hearing, Hub};
use crate::seen::{ClientEntry, Far};
use crate::shared::Shared;

/// It listens on one channel, over a connection that does what it is told.
pub(crate) struct Listener {
    pub(crate) hub: Arc<Hub>,
    pub(crate) ear: Arc<Ear>,
    /// Held for as long as the client lives.
    _entry: ClientEntry,
}

impl Listener {
    pub(crate) fn new(shared: &Arc<Shared>, channel: &str) -> Self {
        let far = Far::Unix {
            process: 1,
            port: 0,
        };
        let entry = ClientEntry::new(shared, far, None);
        let (hub, ear) = (Arc::new(Hub::default()), Ear::new(&entry.seen));
        hub.lock().is_running = true;
        ear.set(&channel.as_bytes().into(), Hearing::Active);
        Self {
            hub,
            ear,
            _entry: entry,
        }
    }

    /// Everything that is said is done.
    pub(crate) fn answer(&self) {
        while let Some((batch, _)) = self.hub.next() {
            self.hub.answered(batch, true);
        }
    }
}
