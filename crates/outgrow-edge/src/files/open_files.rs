//! How many files are open while they are sent: descriptors that connections and endpoints need too. And
//! whose work the reading of a directory is, whichever configuration says so.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outgrow_net::listen;

use crate::pool::{KnownOwner, Owner};

/// The most of them where the configuration says nothing, however many files the process may open.
const MOST: u64 = 16_384;
/// What one client may have where more than half is open: one of so many.
const CLIENT_SHARE: u64 = 5;

/// The files that are open while they are sent.
#[derive(Debug, Default)]
pub struct OpenFiles {
    most: AtomicU64,
    /// From this descriptor on they are left to what is more than a client.
    ceiling: AtomicI32,
    refused: AtomicU64,
    open: Mutex<Open>,
}

/// Who has how many.
#[derive(Debug, Default)]
struct Open {
    all: u64,
    of_clients: HashMap<IpAddr, u64>,
    /// By the keys of those who read them.
    of_directories: HashMap<usize, u64>,
}

/// Whose one is.
#[derive(Clone, Debug)]
pub(super) struct Whose {
    /// The network of the client that it is sent to.
    pub(super) client: IpAddr,
    /// Who reads it.
    pub(super) owner: Owner,
    /// Whether files of other directories are sent too.
    pub(super) beside_others: bool,
}

impl Open {
    /// Whether there may be one more. A client that takes its time, and a directory that hangs, leave others some.
    fn has_room(&self, most: u64, whose: &Whose) -> bool {
        let half = (most / 2).max(1);
        let of_client = self.of_clients.get(&whose.client).copied();
        let of_directory = self.of_directories.get(&whose.owner.key()).copied();
        let share = (most / CLIENT_SHARE).max(1);
        self.all < most
            && (self.all < half || of_client.unwrap_or(0) < share)
            && (!whose.beside_others || of_directory.unwrap_or(0) < half)
    }

    fn add(&mut self, whose: &Whose) {
        self.all += 1;
        *self.of_clients.entry(whose.client).or_default() += 1;
        *self.of_directories.entry(whose.owner.key()).or_default() += 1;
    }

    fn subtract(&mut self, whose: &Whose) {
        fn one<K: Eq + Hash>(counts: &mut HashMap<K, u64>, key: &K) {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
        self.all -= 1;
        one(&mut self.of_clients, &whose.client);
        one(&mut self.of_directories, &whose.owner.key());
    }
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
        let most = most_of(most, listen::descriptor_limit());
        self.most.store(most, Ordering::Relaxed);
        self.ceiling.store(listen::ceiling(), Ordering::Relaxed);
    }

    fn counts(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there may be.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub fn open(&self) -> u64 {
        self.counts().all
    }

    /// How often one more was refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The right to keep `file` open; none where there are as many as may be, of all or of who it is, and where it
    /// has one of the descriptors that connections leave to the rest of the process too.
    pub(super) fn take(self: &Arc<Self>, file: &impl AsRawFd, whose: Whose) -> Option<OpenFile> {
        let most = self.most();
        let mut open = self.counts();
        let is_refused = is_reserved(file.as_raw_fd(), self.ceiling.load(Ordering::Relaxed))
            || !open.has_room(most, &whose);
        if is_refused {
            drop(open);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        open.add(&whose);
        drop(open);
        let all = Arc::clone(self);
        Some(OpenFile { all, whose })
    }
}

/// Whether a file with this descriptor would take one of those that are left to what is more than a client, from
/// `ceiling` on: the rule for connections.
fn is_reserved(descriptor: RawFd, ceiling: RawFd) -> bool {
    descriptor >= ceiling
}

fn most_of(said: Option<u64>, limit: u64) -> u64 {
    let most = said.unwrap_or((limit / 4).min(MOST));
    most.min(limit / 2).max(1)
}

/// One that is open; dropped after its descriptor.
#[derive(Debug)]
pub(super) struct OpenFile {
    all: Arc<OpenFiles>,
    whose: Whose,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.all.counts().subtract(&self.whose);
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

    /// Whether there are several.
    pub(super) fn are_several(&self) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let live = known.values().filter(|owner| owner.owner().is_some());
        live.take(2).count() > 1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::pool::Pool;

    /// One whose descriptor is the first that there may be.
    struct First;

    impl AsRawFd for First {
        fn as_raw_fd(&self) -> RawFd {
            0
        }
    }

    fn whose(client: u8, owner: &Owner, beside_others: bool) -> Whose {
        Whose {
            client: IpAddr::from([192, 0, 2, client]),
            owner: owner.clone(),
            beside_others,
        }
    }

    #[test]
    fn so_many_are_open_and_no_more() {
        let (files, owner) = (OpenFiles::new(), Owner::default());
        let take = |client| files.take(&First, whose(client, &owner, false));
        files.set_most(Some(2));
        let (first, second) = (take(1), take(2));
        assert!(first.is_some() && second.is_some() && take(3).is_none());
        assert_eq!((files.open(), files.refused()), (2, 1));
        drop(first);
        assert!(take(3).is_some());
        files.set_most(Some(1));
        assert!(take(3).is_none(), "one is open still");
        drop(second);
        assert!(take(3).is_some());
        let open = files.counts();
        assert_eq!(open.all, 0);
        assert!(open.of_clients.is_empty() && open.of_directories.is_empty());
    }

    /// One client takes as many as it gets, then each of the others does.
    #[test]
    fn a_client_leaves_others_half_of_them() {
        let (files, owner) = (OpenFiles::new(), Owner::default());
        files.set_most(Some(20));
        let all_of = |client| -> Vec<_> {
            let take = || files.take(&First, whose(client, &owner, false));
            std::iter::from_fn(take).collect()
        };
        let mut held: Vec<_> = (1..=5).map(all_of).collect();
        let counts = |held: &[Vec<_>]| held.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(counts(&held), [10, 4, 4, 2, 0]);
        // What the first gives back is for those who have none.
        held[0].clear();
        held.push(all_of(1));
        held.push(all_of(5));
        assert_eq!(counts(&held), [0, 4, 4, 2, 0, 4, 4]);
    }

    /// A directory hangs, and everybody who asks for its files leaves again.
    #[test]
    fn a_directory_that_hangs_leaves_others_half_of_them() {
        let (files, owners) = (OpenFiles::new(), Owners::default());
        files.set_most(Some(20));
        let hung = owners.of(Path::new("/srv/hung"));
        assert!(!owners.are_several());
        let sound = owners.of(Path::new("/srv/sound"));
        assert!(owners.are_several());
        let take = |client, owner| files.take(&First, whose(client, owner, true));
        let held: Vec<_> = (1..=20).filter_map(|client| take(client, &hung)).collect();
        assert_eq!(held.len(), 10);
        assert!(take(21, &sound).is_some());
        drop(sound);
        let alone = |client| files.take(&First, whose(client, &hung, owners.are_several()));
        assert!(alone(21).is_some(), "the only one has all of them");
    }

    #[test]
    fn descriptors_that_others_need_are_left_alone() {
        for (descriptor, ceiling, expected) in [
            (0, 0, true),
            (895, 896, false),
            (896, 896, true),
            (1_000, 896, true),
            (1_000, RawFd::MAX, false),
        ] {
            let is_so = is_reserved(descriptor, ceiling);
            assert_eq!(is_so, expected, "{descriptor} {ceiling}");
        }
        let files = OpenFiles::new();
        let any = std::fs::File::open("/dev/null").expect("a file");
        let take = || files.take(&any, whose(1, &Owner::default(), false));
        assert!(take().is_some());
        files.ceiling.store(any.as_raw_fd(), Ordering::Relaxed);
        assert!(take().is_none());
        assert_eq!((files.open(), files.refused()), (0, 1));
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
