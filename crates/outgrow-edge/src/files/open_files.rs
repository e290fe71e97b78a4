//! How many files are open while they are sent: descriptors that connections and endpoints need too. And
//! whose work the reading of a directory is, whichever configuration says so.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use outgrow_net::listen;

use crate::pool::{KnownOwner, Owner};

/// The most of them where the configuration says nothing, however many files the process may open.
const MOST: u64 = 16_384;

/// The files that are open while they are sent.
#[derive(Debug, Default)]
pub struct OpenFiles {
    most: AtomicU64,
    open: AtomicU64,
    refused: AtomicU64,
}

impl OpenFiles {
    /// With the limit of a configuration that says nothing.
    pub fn new() -> Arc<Self> {
        let files = Arc::new(Self::default());
        files.set_most(None);
        files
    }

    /// Sets how many there may be; left out: a quarter of what the process may open, and 16,384 at most. Half of
    /// that are the most in any case, so that a connection can be accepted for each of them. Those that are open
    /// stay.
    pub fn set_most(&self, most: Option<u64>) {
        self.most
            .store(most_of(most, listen::descriptor_limit()), Ordering::Relaxed);
    }

    /// How many there may be.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// How often one more was refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The right to keep one more open; none where there are as many as may be.
    pub(super) fn take(self: &Arc<Self>) -> Option<OpenFile> {
        let most = self.most();
        let more = |open: u64| (open < most).then_some(open + 1);
        let taken = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if taken.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(OpenFile(Arc::clone(self)))
    }
}

fn most_of(said: Option<u64>, limit: u64) -> u64 {
    let most = said.unwrap_or((limit / 4).min(MOST));
    most.min(limit / 2).max(1)
}

/// One that is open; dropped after its descriptor.
#[derive(Debug)]
pub(super) struct OpenFile(Arc<OpenFiles>);

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whose work it is to read below each directory. A directory has one share of the threads, so that one that
/// hangs has no other with each reload, nor with each route that leads to it.
#[derive(Debug, Default)]
pub(crate) struct Owners(Mutex<HashMap<PathBuf, KnownOwner>>);

impl Owners {
    /// Whose it is below a directory, by the path that the configuration gives it.
    pub(super) fn of(&self, directory: &Path) -> Owner {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, owner| owner.owner().is_some());
        if let Some(owner) = known.get(directory).and_then(KnownOwner::owner) {
            return owner;
        }
        let owner = Owner::default();
        known.insert(directory.to_owned(), owner.known());
        owner
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::pool::Pool;

    #[test]
    fn so_many_are_open_and_no_more() {
        let files = OpenFiles::new();
        files.set_most(Some(2));
        let (first, second) = (files.take(), files.take());
        assert!(first.is_some() && second.is_some() && files.take().is_none());
        assert_eq!((files.open(), files.refused()), (2, 1));
        drop(first);
        assert!(files.take().is_some());
        files.set_most(Some(1));
        assert!(files.take().is_none(), "one is open still");
        drop(second);
        assert!(files.take().is_some());
        assert_eq!(files.open(), 0);
    }

    #[test]
    fn the_limit_follows_from_what_the_process_may_open() {
        for (said, limit, expected) in [
            (None, 1_024, 256),
            (None, 1_000_000, MOST),
            (None, u64::MAX, MOST),
            (None, 2, 1),
            (Some(50_000), 1_000_000, 50_000),
            (Some(50_000), 1_024, 512),
        ] {
            assert_eq!(most_of(said, limit), expected, "{said:?} {limit}");
        }
    }

    /// The directory of one configuration hangs; the next configuration has it too.
    #[test]
    fn a_directory_that_hangs_gets_no_new_share_with_a_reload() {
        let pool = Pool::with_shares("test", (2, 1), 8);
        let owners = Owners::default();
        let before = owners.of(Path::new("/srv/hung"));
        let (release, held) = mpsc::channel::<()>();
        let (begun, begins) = mpsc::channel();
        let hung = pool.submit(&before, move || {
            begun.send(()).expect("the test waits");
            held.recv().is_ok()
        });
        begins.recv().expect("the thread begins");
        // The plan before is gone, and nobody waits for its request any more.
        drop((before, hung));
        let after = owners.of(Path::new("/srv//hung/"));
        let (done, order) = mpsc::channel();
        let work = |owner: &Owner, name: &'static str| {
            let done = done.clone();
            let ticket = pool.submit(owner, move || done.send(name).is_ok());
            ticket.ok().expect("room")
        };
        let _hangs = work(&after, "hung");
        let _goes = work(&owners.of(Path::new("/srv/sound")), "sound");
        assert_eq!(order.recv(), Ok("sound"), "the other thread is not its");
        release.send(()).expect("the thread waits");
        assert_eq!(order.recv(), Ok("hung"));
    }

    #[test]
    fn directories_that_nobody_serves_are_forgotten() {
        let owners = Owners::default();
        let kept = owners.of(Path::new("/a"));
        drop(owners.of(Path::new("/b")));
        assert!(owners.of(Path::new("/a")).is_same(&kept));
        assert_eq!(owners.0.lock().expect("a map").len(), 1);
    }
}
