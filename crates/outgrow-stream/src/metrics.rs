//! Metric cells: one set per worker, so that each has a single writer. Interned by the listener's
//! name, so that a reload goes on counting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use outgrow_core::metrics::{Counter, Gauge, Histogram};

use crate::addresses::Addresses;
use crate::end::End;

/// One worker's cells of a listener.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Cells {
    /// Connections accepted.
    pub accepted: Counter,
    /// Bytes from clients that endpoints were given.
    pub received_bytes: Counter,
    /// Bytes from endpoints that clients were given.
    pub sent_bytes: Counter,
    /// Datagrams that came from clients.
    pub received_datagrams: Counter,
    /// Datagrams that clients were sent.
    pub sent_datagrams: Counter,
    /// Endpoints that did not take a connection, which was then tried elsewhere.
    pub retries: Counter,
    /// How long connections were open.
    pub duration: Histogram,
    /// How long it took until an endpoint had taken a connection.
    pub connect: Histogram,
    ends: Mutex<Reasons>,
    /// Datagrams that went nowhere.
    dropped: Mutex<Reasons>,
}

impl Cells {
    /// Counts datagrams that went nowhere.
    pub fn count_dropped(&self, reason: &'static str, count: u64) {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        *dropped.entry(reason).or_insert(0) += count;
    }

    /// Counts how a connection ended.
    pub fn count_end(&self, end: End) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        *ends.entry(end.reason().unwrap_or(FINISHED)).or_insert(0) += 1;
    }
}

/// The sums of counts by reason.
type Reasons = BTreeMap<&'static str, u64>;

/// The reason of connections that both sides ended in order.
const FINISHED: &str = "finished";

/// The numbers of one listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    /// Its name in the configuration.
    pub name: String,
    /// Connections open now.
    pub open: Gauge,
    /// The same by address, where that is limited.
    pub addresses: Arc<Addresses>,
    cells: Box<[Cells]>,
}

impl ListenerMetrics {
    fn new(name: &str, workers: usize) -> Self {
        Self {
            name: name.to_owned(),
            open: Gauge::default(),
            addresses: Arc::default(),
            cells: (0..workers.max(1)).map(|_| Cells::default()).collect(),
        }
    }

    /// The cells that `worker` may write.
    #[inline]
    pub fn of(&self, worker: usize) -> &Cells {
        &self.cells[worker % self.cells.len()]
    }

    /// All workers' cells, for reading.
    pub fn all(&self) -> &[Cells] {
        &self.cells
    }

    /// The sum of a counter over workers.
    pub fn sum(&self, counter: impl Fn(&Cells) -> &Counter) -> u64 {
        let counts = self.cells.iter().map(|cells| counter(cells).get());
        counts.fold(0, u64::wrapping_add)
    }

    /// How often connections ended for which reason.
    pub fn ends(&self) -> Reasons {
        self.by_reason(|cells| &cells.ends)
    }

    /// How many datagrams went nowhere for which reason.
    pub fn dropped(&self) -> Reasons {
        self.by_reason(|cells| &cells.dropped)
    }

    fn by_reason(&self, counts: impl Fn(&Cells) -> &Mutex<Reasons>) -> Reasons {
        let mut all = BTreeMap::new();
        for cells in &self.cells {
            let counts = counts(cells).lock().unwrap_or_else(PoisonError::into_inner);
            for (reason, count) in counts.iter() {
                *all.entry(*reason).or_insert(0) += count;
            }
        }
        all
    }
}

/// All cells, by the listener's name.
#[derive(Debug)]
pub struct Metrics {
    workers: usize,
    listeners: Mutex<BTreeMap<String, Arc<ListenerMetrics>>>,
    /// Tasks that panicked.
    pub panics: Counter,
}

impl Metrics {
    /// Cells for so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            listeners: Mutex::default(),
            panics: Counter::default(),
        }
    }

    /// The cells of a listener.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        let listeners = self.listeners.lock();
        let mut listeners = listeners.unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(ListenerMetrics::new(name, self.workers));
        Arc::clone(listeners.entry(name.to_owned()).or_insert_with(make))
    }

    /// All listeners', by name.
    pub fn listeners(&self) -> Vec<Arc<ListenerMetrics>> {
        let listeners = self.listeners.lock();
        let listeners = listeners.unwrap_or_else(PoisonError::into_inner);
        listeners.values().cloned().collect()
    }

    /// Forgets those of listeners that are gone and have no connections any more.
    pub fn retire(&self, keep: &dyn Fn(&str) -> bool) {
        let listeners = self.listeners.lock();
        let mut listeners = listeners.unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|name, cells| keep(name) || Arc::strong_count(cells) > 1);
    }
}
