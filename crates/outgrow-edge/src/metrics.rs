//! The edge's metric cells: one set per worker, so that each has a single writer.
//!
//! Interned by name, so that a reload goes on counting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use outgrow_core::Cause;
use outgrow_core::metrics::{Counter, Gauge, Histogram, HistogramTotal};

/// Status classes counted: none (0), 1xx to 5xx.
pub const CLASSES: usize = 6;

/// Responses of a route that were compressed in one way.
#[derive(Debug, Default)]
pub struct CompressedCells {
    /// Responses, those to HEAD included.
    pub responses: Counter,
    /// Bytes that they had before.
    pub plain_bytes: Counter,
    /// Bytes that clients got.
    pub coded_bytes: Counter,
}

/// Requests of a route whose bodies were decompressed from one coding.
#[derive(Debug, Default)]
pub struct DecompressedCells {
    /// Requests, those that failed meanwhile included.
    pub requests: Counter,
    /// Bytes that clients sent.
    pub coded_bytes: Counter,
    /// Bytes that became of them.
    pub plain_bytes: Counter,
}

/// One worker's cells of a route, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RouteCells {
    /// Requests by the first digit of their status; 0: the client was gone.
    pub by_class: [Counter; CLASSES],
    /// From the first byte of the request to the last one of the response.
    pub duration: Histogram,
    /// From the request sent to the response's head.
    pub first_byte: Histogram,
    /// Requests sent again.
    pub retries: Counter,
    /// Responses cut off.
    pub truncated: Counter,
    /// Compressed responses, by the number of their [`crate::settings::ContentCoding`].
    pub compressed: [CompressedCells; 3],
    /// Decompressed requests, by the number of their [`crate::settings::RequestCoding`].
    pub decompressed: [DecompressedCells; 4],
    /// Responses not compressed for want of memory.
    pub uncompressed: Counter,
    /// Copies sent to the mirror's service and answered.
    pub mirrored: Counter,
    /// Copies sent and not answered.
    pub mirrors_failed: Counter,
    /// Requests not mirrored: too large, too many at a time, or the service had no room.
    pub mirrors_dropped: Counter,
    /// Copies that are being made or under way.
    pub mirrors_open: Gauge,
    /// Upgraded connections.
    pub tunnels: TunnelCells,
}

/// One worker's cells of upgraded connections (WebSocket and its like) of a route.
#[derive(Debug, Default)]
pub struct TunnelCells {
    /// Those that are open.
    pub open: Gauge,
    /// All that there were.
    pub begun: Counter,
    /// WebSockets that were told their end by a Close frame of ours.
    pub told: Counter,
}

/// One worker's cells of a listener.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ListenerCells {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections turned away at the limit.
    pub refused: Counter,
    /// Bytes of request bodies.
    pub received_bytes: Counter,
    /// Bytes of response bodies.
    pub sent_bytes: Counter,
}

/// One worker's cells of the tickets of floors.
#[derive(Debug, Default)]
pub struct FloorCells {
    /// Tickets that were given.
    pub given: Counter,
    /// Tickets of users that were not ours, or not whole.
    pub refused: Counter,
    /// Floors that were not known in time.
    pub unknown: Counter,
}

/// One worker's own cells.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerCells {
    faults: [Counter; FAULTS],
    /// Tasks that panicked.
    pub panics: Counter,
    /// Tickets of floors.
    pub floors: FloorCells,
    /// The largest delay of the worker's timer in the last second, in microseconds.
    pub lag_micros: Gauge,
}

/// All causes, in the order of their cells.
const ALL_CAUSES: [Cause; FAULTS] = [
    Cause::BadRequest,
    Cause::BadTarget,
    Cause::BadHost,
    Cause::BadFraming,
    Cause::HeadTooLarge,
    Cause::TargetTooLong,
    Cause::BodyTooLarge,
    Cause::DecompressionRatio,
    Cause::DecompressionTimeout,
    Cause::UnsupportedCoding,
    Cause::BadCoding,
    Cause::NotImplemented,
    Cause::VersionNotSupported,
    Cause::ExpectationFailed,
    Cause::HeadTimeout,
    Cause::BodyTimeout,
    Cause::BodyTooSlow,
    Cause::SendTimeout,
    Cause::ClientGone,
    Cause::ResetFlood,
    Cause::ProxyHeader,
    Cause::NoRoute,
    Cause::MethodNotAllowed,
    Cause::NoFile,
    Cause::FileForbidden,
    Cause::FileFailed,
    Cause::FileChanged,
    Cause::FileLimit,
    Cause::NoEndpoint,
    Cause::QueueFull,
    Cause::QueueTimeout,
    Cause::ConnectRefused,
    Cause::ConnectTimeout,
    Cause::ConnectUnresolved,
    Cause::ConnectDenied,
    Cause::ConnectUnreachable,
    Cause::ConnectFailed,
    Cause::ConnectTls,
    Cause::UpstreamReset,
    Cause::UpstreamClosed,
    Cause::UpstreamBadResponse,
    Cause::UpstreamTruncated,
    Cause::UpstreamUnavailable,
    Cause::FirstByteTimeout,
    Cause::StreamIdleTimeout,
    Cause::RequestTimeout,
    Cause::Overload,
    Cause::MemoryLimit,
    Cause::Internal,
];
const FAULTS: usize = 49;

impl Default for WorkerCells {
    fn default() -> Self {
        Self {
            faults: std::array::from_fn(|_| Counter::default()),
            panics: Counter::default(),
            floors: FloorCells::default(),
            lag_micros: Gauge::default(),
        }
    }
}

impl WorkerCells {
    /// Counts a fault.
    pub fn count_fault(&self, cause: Cause) {
        self.faults[cause as usize].add(1);
    }

    /// How often each cause occurred.
    pub fn faults(&self) -> impl Iterator<Item = (Cause, u64)> {
        ALL_CAUSES
            .into_iter()
            .zip(self.faults.iter().map(Counter::get))
    }
}

/// The cells of one name, one per worker.
#[derive(Debug)]
pub struct PerWorker<T> {
    /// The name of the route or listener.
    pub name: String,
    cells: Box<[T]>,
}

impl<T: Default> PerWorker<T> {
    fn new(name: &str, workers: usize) -> Self {
        Self {
            name: name.to_owned(),
            cells: (0..workers.max(1)).map(|_| T::default()).collect(),
        }
    }

    /// The cells that `worker` may write.
    #[inline]
    pub fn of(&self, worker: usize) -> &T {
        &self.cells[worker % self.cells.len()]
    }

    /// All workers' cells, for reading.
    pub fn all(&self) -> &[T] {
        &self.cells
    }
}

/// A listener's numbers that all workers share.
#[derive(Debug)]
pub struct ListenerMetrics {
    /// One set per worker.
    pub workers: PerWorker<ListenerCells>,
    /// Connections open now.
    pub open: Gauge,
}

/// All cells of the edge, by name.
#[derive(Debug)]
pub struct EdgeMetrics {
    workers: usize,
    routes: Mutex<BTreeMap<String, Arc<PerWorker<RouteCells>>>>,
    listeners: Mutex<BTreeMap<String, Arc<ListenerMetrics>>>,
    /// The workers' own cells.
    pub worker: Box<[WorkerCells]>,
}

impl EdgeMetrics {
    /// Cells for so many workers.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            workers,
            routes: Mutex::default(),
            listeners: Mutex::default(),
            worker: (0..workers.max(1))
                .map(|_| WorkerCells::default())
                .collect(),
        })
    }

    /// The cells of a route.
    pub fn route(&self, name: &str) -> Arc<PerWorker<RouteCells>> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(PerWorker::new(name, self.workers));
        Arc::clone(routes.entry(name.to_owned()).or_insert_with(make))
    }

    /// The cells of a listener.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let workers = PerWorker::new(name, self.workers);
            Arc::new(ListenerMetrics {
                workers,
                open: Gauge::default(),
            })
        };
        Arc::clone(listeners.entry(name.to_owned()).or_insert_with(make))
    }

    /// Forgets the cells of routes that nobody uses any more and that are not in `keep`.
    pub fn retire(&self, keep: &dyn Fn(&str) -> bool) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|name, cells| keep(name) || Arc::strong_count(cells) > 1);
    }

    /// All routes' cells, by name.
    pub fn routes(&self) -> Vec<Arc<PerWorker<RouteCells>>> {
        self.routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// All listeners' cells, by name.
    pub fn listeners(&self) -> Vec<Arc<ListenerMetrics>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}

/// The sum of a histogram over workers.
pub fn total<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> HistogramTotal {
    let mut total = HistogramTotal::default();
    histograms.for_each(|histogram| histogram.add_to(&mut total));
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_own_cell() {
        for (index, cause) in ALL_CAUSES.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }
}
