//! Bytes on their way to a file or a pipe: a bounded queue and a thread that empties it.
//!
//! Nobody who puts something in ever waits: what does not fit is lost and counted, for a reader
//! that stalls (a paused pager, a log driver) must not stall a proxy. What the bytes are is not
//! known here.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Emptied buffers that are kept for the next batches.
const SPARE: usize = 64;

/// Where bytes are written to.
pub type Target = Box<dyn Write + Send>;

/// A bounded queue of batches of whole lines, with the thread that writes them. The thread ends
/// with the outlet, unless its target never takes what it is given.
#[derive(Debug)]
pub struct Outlet {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The thread has something to do.
    work: Condvar,
    /// The thread has done everything.
    done: Condvar,
    capacity: usize,
    lost: AtomicU64,
}

#[derive(Default)]
struct State {
    batches: VecDeque<Vec<u8>>,
    /// What is to be written to from the next batch on. The newest counts.
    target: Option<Target>,
    /// Lines of the batch that is being written.
    writing: u64,
    spare: Vec<Vec<u8>>,
    ending: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("State")
            .field("batches", &self.batches.len())
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}

impl Outlet {
    /// Starts the thread. At most `capacity` batches wait; nothing is written anywhere until
    /// [`Outlet::direct`].
    pub fn start(name: &str, capacity: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            capacity,
            lost: AtomicU64::new(0),
        });
        let own = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || own.write_all())?;
        Ok(Self { shared })
    }

    /// Writes to `target` from the next batch on. Does not wait for the one that is being written.
    pub fn direct(&self, target: Target) {
        let replaced = self.shared.lock().target.replace(target);
        self.shared.work.notify_one();
        // What was never used is closed without the lock.
        drop(replaced);
    }

    /// Puts whole lines in; when the queue is full they are lost, and counted. Whether they fitted.
    pub fn put(&self, mut batch: Vec<u8>) -> bool {
        let mut state = self.shared.lock();
        if state.batches.len() < self.shared.capacity && !state.ending {
            state.batches.push_back(batch);
            drop(state);
            self.shared.work.notify_one();
            return true;
        }
        self.shared.lose(count_lines(&batch));
        batch.clear();
        state.keep(batch);
        false
    }

    /// An emptied buffer to fill, if there is one.
    pub fn spare(&self) -> Option<Vec<u8>> {
        self.shared.lock().spare.pop()
    }

    /// Lines that could not be written: the target was behind, or failed.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Takes nothing more and waits until everything is written, for at most `limit`. What is left
    /// then is lost; returns how many lines that are.
    pub fn finish(&self, limit: Duration) -> u64 {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.lock();
        state.ending = true;
        self.shared.work.notify_one();
        while !state.batches.is_empty() || state.writing > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.done.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let waiting: u64 = state.batches.iter().map(|batch| count_lines(batch)).sum();
        let left = waiting + state.writing;
        state.batches.clear();
        self.shared.lose(left);
        left
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// What the thread does.
    fn write_all(&self) {
        let mut target: Target = Box::new(io::sink());
        let mut state = self.lock();
        loop {
            if let Some(new) = state.target.take() {
                drop(state);
                // Closes the old one, which may take its time.
                target = new;
                state = self.lock();
            } else if let Some(mut batch) = state.batches.pop_front() {
                state.writing = count_lines(&batch);
                drop(state);
                let result = target.write_all(&batch).and_then(|()| target.flush());
                if result.is_err() {
                    self.lose(count_lines(&batch));
                }
                batch.clear();
                state = self.lock();
                state.writing = 0;
                state.keep(batch);
            } else if state.ending {
                self.done.notify_all();
                return;
            } else {
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl State {
    fn keep(&mut self, emptied: Vec<u8>) {
        if self.spare.len() < SPARE {
            self.spare.push(emptied);
        }
    }
}

fn count_lines(batch: &[u8]) -> u64 {
    // In pieces whose counts fit into a byte, which the compiler turns into wide instructions.
    let in_piece = |piece: &[u8]| -> u8 { piece.iter().map(|&byte| u8::from(byte == b'\n')).sum() };
    batch
        .chunks(240)
        .map(|piece| u64::from(in_piece(piece)))
        .sum()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const CAPACITY: usize = 4;

    /// Says what it is given, and takes it when it is told to.
    struct Slow {
        began: Sender<Vec<u8>>,
        go_on: Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.began.send(bytes.to_vec());
            let _ = self.go_on.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Target, Receiver<Vec<u8>>, Sender<()>) {
        let (began, begun) = channel();
        let (let_go, go_on) = channel();
        (Box::new(Slow { began, go_on }), begun, let_go)
    }

    /// An outlet whose target has begun with a line and does not take it, with a full queue.
    fn stuck() -> (Outlet, Receiver<Vec<u8>>, Sender<()>) {
        let outlet = Outlet::start("test", CAPACITY).expect("a thread");
        let (target, begun, let_go) = slow();
        outlet.direct(target);
        outlet.put(b"first\n".to_vec());
        assert_eq!(begun.recv_timeout(LONG).expect("begun"), b"first\n");
        for _ in 0..CAPACITY {
            outlet.put(b"one\ntwo\n".to_vec());
        }
        (outlet, begun, let_go)
    }

    #[test]
    fn a_target_that_is_behind_costs_lines_not_time() {
        let (outlet, _begun, _let_go) = stuck();
        assert_eq!(outlet.lost(), 0);
        for _ in 0..10 {
            outlet.put(b"one\ntwo\n".to_vec());
        }
        assert_eq!(outlet.lost(), 20);
    }

    #[test]
    fn another_target_is_set_while_one_is_stuck() {
        let (outlet, begun, let_go) = stuck();
        outlet.direct(Box::new(io::sink()));
        let (target, next, let_next_go) = slow();
        // With a queue that is full this returns all the same.
        outlet.direct(target);
        let_go.send(()).expect("the thread waits for it");
        assert_eq!(next.recv_timeout(LONG).expect("begun"), b"one\ntwo\n");
        assert!(begun.try_recv().is_err(), "the old one gets nothing more");
        drop(let_next_go);
    }

    #[test]
    fn the_end_waits_for_what_is_on_its_way() {
        let (outlet, begun, let_go) = stuck();
        let reader = std::thread::spawn(move || {
            drop(let_go);
            begun.iter().map(|bytes| count_lines(&bytes)).sum::<u64>()
        });
        assert_eq!(outlet.finish(LONG), 0);
        drop(outlet);
        assert_eq!(reader.join().expect("a reader"), 2 * CAPACITY as u64);
    }

    #[test]
    fn the_end_counts_what_is_left() {
        let (outlet, _begun, _let_go) = stuck();
        assert_eq!(outlet.finish(Duration::ZERO), 1 + 2 * CAPACITY as u64);
        assert_eq!(outlet.lost(), 1 + 2 * CAPACITY as u64);
        outlet.put(b"too late\n".to_vec());
        assert_eq!(outlet.lost(), 2 + 2 * CAPACITY as u64);
    }

    #[test]
    fn a_target_that_fails_is_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let outlet = Outlet::start("test", CAPACITY).expect("a thread");
        outlet.direct(Box::new(Full));
        outlet.put(b"one\ntwo\n".to_vec());
        assert_eq!(outlet.finish(LONG), 0);
        assert_eq!(outlet.lost(), 2);
    }
}
