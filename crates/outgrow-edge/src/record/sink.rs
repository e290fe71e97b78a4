//! From the workers to a file: each fills a buffer, a thread writes full ones and gives them back.
//!
//! Requests never wait for the disk: when the writer is behind, records are dropped and counted.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::format::Line;
use crate::settings::AccessFormat;

/// A worker's buffer goes to the writer when it holds this much.
const BATCH_BYTES: usize = 64 * 1024;
/// Room for the record that goes beyond.
const SLACK_BYTES: usize = 8 * 1024;
/// Buffers on their way to the writer at most; beyond, records are dropped.
const QUEUE: usize = 64;

/// Where records are written to; replaced when a file is to be opened anew.
type Target = Box<dyn Write + Send>;

/// Where the workers' records go together. Always there, so that a reload can switch records on
/// and off and open their file anew (after it was rotated).
#[derive(Debug)]
pub struct RecordWriter {
    sender: SyncSender<Batch>,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    on: AtomicBool,
    json: AtomicBool,
    lost: Arc<AtomicU64>,
}

/// What the writer's thread is sent.
enum Batch {
    Records(Vec<u8>),
    Target(Target),
}

impl RecordWriter {
    /// Starts the writer's thread, which ends with the writer. No records until
    /// [`RecordWriter::direct`].
    pub fn start() -> std::io::Result<Arc<Self>> {
        let (sender, receiver) = sync_channel(QUEUE);
        let writer = Self {
            sender,
            spare: Arc::default(),
            on: AtomicBool::new(false),
            json: AtomicBool::new(false),
            lost: Arc::default(),
        };
        let (spare, lost) = (Arc::clone(&writer.spare), Arc::clone(&writer.lost));
        std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || write_all(&receiver, &spare, &lost))?;
        Ok(Arc::new(writer))
    }

    /// Sends the records to `target` from now on, or nowhere. Waits while the writer is behind.
    pub fn direct(&self, target: Option<Target>, format: AccessFormat) {
        self.json
            .store(format == AccessFormat::Json, Ordering::Relaxed);
        self.on.store(target.is_some(), Ordering::Relaxed);
        if let Some(target) = target {
            // The thread ends only with this writer.
            let _ = self.sender.send(Batch::Target(target));
        }
    }

    /// Whether records are wanted.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Records that could not be written: the writer was behind, or the file failed.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn format(&self) -> AccessFormat {
        if self.json.load(Ordering::Relaxed) {
            AccessFormat::Json
        } else {
            AccessFormat::Text
        }
    }

    fn send(&self, batch: Vec<u8>) {
        if let Err(
            TrySendError::Full(Batch::Records(mut batch))
            | TrySendError::Disconnected(Batch::Records(mut batch)),
        ) = self.sender.try_send(Batch::Records(batch))
        {
            self.lost.fetch_add(count_lines(&batch), Ordering::Relaxed);
            batch.clear();
            self.spare
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(batch);
        }
    }

    fn fresh(&self) -> Vec<u8> {
        let spare = self
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        spare.unwrap_or_else(|| Vec::with_capacity(BATCH_BYTES + SLACK_BYTES))
    }
}

fn count_lines(batch: &[u8]) -> u64 {
    batch.iter().filter(|&&byte| byte == b'\n').count() as u64
}

fn write_all(receiver: &Receiver<Batch>, spare: &Mutex<Vec<Vec<u8>>>, lost: &AtomicU64) {
    let mut target: Target = Box::new(std::io::sink());
    while let Ok(batch) = receiver.recv() {
        let mut records = match batch {
            Batch::Records(records) => records,
            Batch::Target(new) => {
                target = new;
                continue;
            }
        };
        if target
            .write_all(&records)
            .and_then(|()| target.flush())
            .is_err()
        {
            lost.fetch_add(count_lines(&records), Ordering::Relaxed);
        }
        records.clear();
        spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(records);
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
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if batch.capacity() == 0 {
            *batch = self.writer.fresh();
        }
        line.write(self.writer.format(), &mut batch);
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
        let writer = RecordWriter::start().expect("a thread");
        writer.direct(Some(Box::new(Stuck(stuck))), AccessFormat::Text);
        for _ in 0..QUEUE + 10 {
            writer.send(b"one\ntwo\n".to_vec());
        }
        assert!(writer.lost() >= 2 * 9, "{}", writer.lost());
        drop(let_go);
    }
}
