//! From the workers to a file: each fills a buffer, an [`Outlet`] writes full ones and gives them
//! back.
//!
//! Requests never wait for the disk: when the writer is behind, records are dropped and counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::format::Line;
use super::outlet::{Outlet, Target};
use crate::settings::AccessFormat;

/// A worker's buffer goes to the writer when it holds this much.
const BATCH_BYTES: usize = 64 * 1024;
/// Room for the record that goes beyond.
const SLACK_BYTES: usize = 8 * 1024;
/// Buffers on their way to the writer at most; beyond, records are dropped.
const QUEUE: usize = 64;

/// Where the workers' records go together. Always there, so that a reload can switch records on
/// and off and open their file anew (after it was rotated).
#[derive(Debug)]
pub struct RecordWriter {
    outlet: Outlet,
    on: AtomicBool,
    json: AtomicBool,
}

impl RecordWriter {
    /// Starts the writer's thread, which ends with the writer. No records until
    /// [`RecordWriter::direct`].
    pub fn start() -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            outlet: Outlet::start("records", QUEUE)?,
            on: AtomicBool::new(false),
            json: AtomicBool::new(false),
        }))
    }

    /// Sends the records to `target` from now on, or nowhere. Never waits, also while the old
    /// target takes nothing.
    pub fn direct(&self, target: Option<Target>, format: AccessFormat) {
        self.json
            .store(format == AccessFormat::Json, Ordering::Relaxed);
        self.on.store(target.is_some(), Ordering::Relaxed);
        if let Some(target) = target {
            self.outlet.direct(target);
        }
    }

    /// Whether records are wanted.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Records that could not be written: the writer was behind, or the file failed.
    pub fn lost(&self) -> u64 {
        self.outlet.lost()
    }

    /// Waits for at most `limit` until all records are written, when the workers have ended;
    /// returns how many are not and never will be.
    pub fn finish(&self, limit: Duration) -> u64 {
        self.outlet.finish(limit)
    }

    fn format(&self) -> AccessFormat {
        if self.json.load(Ordering::Relaxed) {
            AccessFormat::Json
        } else {
            AccessFormat::Text
        }
    }

    fn fresh(&self) -> Vec<u8> {
        let spare = self.outlet.spare();
        spare.unwrap_or_else(|| Vec::with_capacity(BATCH_BYTES + SLACK_BYTES))
    }
}

/// One worker's end of a [`RecordWriter`].
#[derive(Debug)]
pub struct RecordSink {
    writer: Arc<RecordWriter>,
    batch: Mutex<Vec<u8>>,
}

impl RecordSink {
    /// An end for one worker.
    pub fn new(writer: Arc<RecordWriter>) -> Self {
        Self {
            writer,
            batch: Mutex::default(),
        }
    }

    /// Whether records are wanted.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.writer.is_on()
    }

    /// Adds a record.
    pub(crate) fn put(&self, line: &Line<'_>) {
        self.put_line(|format, batch| line.write(format, batch));
    }

    /// Adds a record of somebody else's, a whole line that is written in the form that is wanted.
    pub fn put_line(&self, write: impl FnOnce(AccessFormat, &mut Vec<u8>)) {
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if batch.capacity() == 0 {
            *batch = self.writer.fresh();
        }
        write(self.writer.format(), &mut batch);
        if batch.len() >= BATCH_BYTES {
            let full = std::mem::take(&mut *batch);
            drop(batch);
            self.writer.outlet.put(full);
        }
    }

    /// Sends what is there to the writer. To be called a few times a second.
    pub fn flush(&self) {
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if batch.is_empty() {
            return;
        }
        let full = std::mem::take(&mut *batch);
        drop(batch);
        self.writer.outlet.put(full);
    }
}
