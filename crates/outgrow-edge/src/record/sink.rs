//! From the workers to a file: each fills a buffer, a thread writes full ones and gives them back.
//!
//! Requests never wait for the disk: when the writer is behind, records are dropped and counted.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::format::Line;
use crate::settings::AccessFormat;

/// A worker's buffer goes to the writer when it holds this much.
const BATCH_BYTES: usize = 32 * 1024;
/// Room for the record that goes beyond.
const SLACK_BYTES: usize = 8 * 1024;
/// Buffers on their way to the writer at most; beyond, records are dropped.
const QUEUE: usize = 64;

/// Where the workers' records go together.
#[derive(Debug)]
pub struct RecordWriter {
    sender: Option<SyncSender<Vec<u8>>>,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    format: AccessFormat,
    lost: Arc<AtomicU64>,
}

impl RecordWriter {
    /// No records at all.
    pub fn off() -> Arc<Self> {
        Arc::new(Self {
            sender: None,
            spare: Arc::default(),
            format: AccessFormat::Text,
            lost: Arc::default(),
        })
    }

    /// Records go to `target`, written by a thread of its own that ends with the writer.
    pub fn start(
        target: impl Write + Send + 'static,
        format: AccessFormat,
    ) -> std::io::Result<Arc<Self>> {
        let (sender, receiver) = sync_channel(QUEUE);
        let spare = Arc::default();
        let lost: Arc<AtomicU64> = Arc::default();
        let writer = Self { sender: Some(sender), spare: Arc::clone(&spare), format, lost };
        let lost = Arc::clone(&writer.lost);
        std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || write_all(target, &receiver, &spare, &lost))?;
        Ok(Arc::new(writer))
    }

    /// Whether records are wanted.
    pub fn is_on(&self) -> bool {
        self.sender.is_some()
    }

    /// Buffers of records that could not be written: the writer was behind, or the file failed.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn send(&self, batch: Vec<u8>) {
        let Some(sender) = &self.sender else { return };
        if let Err(TrySendError::Full(mut batch) | TrySendError::Disconnected(mut batch)) =
            sender.try_send(batch)
        {
            self.lost.fetch_add(count_lines(&batch), Ordering::Relaxed);
            batch.clear();
            self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
        }
    }

    fn fresh(&self) -> Vec<u8> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(BATCH_BYTES + SLACK_BYTES))
    }
}

fn count_lines(batch: &[u8]) -> u64 {
    batch.iter().filter(|&&byte| byte == b'\n').count() as u64
}

fn write_all(
    mut target: impl Write,
    receiver: &Receiver<Vec<u8>>,
    spare: &Mutex<Vec<Vec<u8>>>,
    lost: &AtomicU64,
) {
    while let Ok(mut batch) = receiver.recv() {
        if target.write_all(&batch).and_then(|()| target.flush()).is_err() {
            lost.fetch_add(count_lines(&batch), Ordering::Relaxed);
        }
        batch.clear();
        spare.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
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
        Self { writer, batch: Mutex::default() }
    }

    /// Whether records are wanted.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.writer.is_on()
    }

    /// Adds a record.
    pub(crate) fn put(&self, line: &Line<'_>) {
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if batch.capacity() == 0 {
            *batch = self.writer.fresh();
        }
        line.write(self.writer.format, &mut batch);
        if batch.len() >= BATCH_BYTES {
            let full = std::mem::take(&mut *batch);
            drop(batch);
            self.writer.send(full);
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
        self.writer.send(full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_is_behind_costs_records_not_time() {
        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                // Blocks until the test lets go.
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (let_go, stuck) = std::sync::mpsc::channel();
        let writer = RecordWriter::start(Stuck(stuck), AccessFormat::Text).expect("a thread");
        for _ in 0..QUEUE + 10 {
            writer.send(b"one\ntwo\n".to_vec());
        }
        assert!(writer.lost() >= 2 * 9, "{}", writer.lost());
        drop(let_go);
    }
}
