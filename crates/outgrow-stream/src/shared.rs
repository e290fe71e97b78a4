//! What all workers share.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use outgrow_core::Clock;
use outgrow_message::Ledger;

use crate::metrics::Metrics;
use crate::record::Records;
use crate::udp::Crowds;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Nothing: business as usual.
    No,
    /// No new ones come; those that are there go on until the process ends.
    Going,
    /// They end now.
    Over,
}

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The process's clock.
    pub clock: Clock,
    /// The bound on buffered bytes.
    pub ledger: Arc<Ledger>,
    /// Metric cells, of connections.
    pub metrics: Metrics,
    /// Metric cells, of datagrams.
    pub datagrams: Metrics,
    /// Connections and sessions of each worker.
    pub loads: Box<[AtomicUsize]>,
    /// Who listens for datagrams.
    pub(crate) crowds: Crowds,
    records: OnceLock<Arc<dyn Records>>,
    drain: AtomicU8,
}

impl Shared {
    /// For so many workers.
    pub fn new(clock: Clock, ledger: Arc<Ledger>, workers: usize) -> Arc<Self> {
        let workers = workers.max(1);
        Arc::new(Self {
            clock,
            ledger,
            metrics: Metrics::new(workers),
            datagrams: Metrics::new(workers),
            loads: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            crowds: Crowds::default(),
            records: OnceLock::new(),
            drain: AtomicU8::new(0),
        })
    }

    /// Says, once, who takes the records.
    pub fn set_records(&self, records: Arc<dyn Records>) {
        let _ = self.records.set(records);
    }

    /// Who takes the records, while they are wanted.
    pub(crate) fn records(&self) -> Option<&dyn Records> {
        let records = self.records.get()?;
        records.is_on().then_some(records.as_ref())
    }

    /// Connections and sessions that are open, of all workers.
    pub fn connections(&self) -> usize {
        let loads = self.loads.iter();
        loads.map(|load| load.load(Ordering::Relaxed)).sum()
    }

    /// Changes what becomes of connections.
    pub fn set_drain(&self, drain: Drain) {
        self.drain.store(drain as u8, Ordering::Release);
    }

    /// What becomes of connections.
    #[inline]
    pub fn drain(&self) -> Drain {
        match self.drain.load(Ordering::Acquire) {
            0 => Drain::No,
            1 => Drain::Going,
            _ => Drain::Over,
        }
    }
}
