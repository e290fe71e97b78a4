//! The ear of a client that changes its process: that of the process that leaves, and the one that
//! the next process has before the client is there.

use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::Notify;

use super::{Ear, Hearing, Inner};
use crate::listening::board::Name;
use crate::listening::crossing::{Arriving, Crossing, Leaving, Listens, Marker, Standing};
use crate::seen::ClientSeen;

impl Ear {
    /// The channel of the client's marker, while it changes its process.
    pub(crate) fn marker_channel(&self) -> Option<Name> {
        let inner = self.lock();
        inner.crossing.as_ref().map(|one| one.channel())
    }

    /// Waits until something is so of the ear of a client that changes its process. One waits at a
    /// time.
    pub(crate) async fn wait(&self, is_so: impl Fn(&Self) -> bool) {
        let news = self.news.get_or_init(Box::<Notify>::default);
        while !is_so(self) {
            news.notified().await;
        }
    }
}

/// In the process that leaves.
impl Ear {
    /// The client is to change its process; gives what it listens on, sorted. None when it listens on
    /// nothing for certain, or something is not committed.
    pub(crate) fn begin_leaving(&self, marker: Marker) -> Option<Vec<Name>> {
        let mut inner = self.lock();
        let channels = inner.settled()?;
        let leaving = Leaving::new(marker, channels.clone());
        inner.crossing = Some(Box::new(Crossing::Leaves(leaving)));
        Some(channels)
    }

    /// What it listens on, sorted; none when that is nothing, or something is not committed.
    pub(crate) fn listened(&self) -> Option<Vec<Name>> {
        self.lock().settled()
    }

    /// How far it is with that.
    pub(crate) fn standing(&self) -> Standing {
        let mut inner = self.lock();
        let has_more = !inner.queue.is_empty();
        let leaving = inner.leaving();
        leaving.map_or(Standing::Stays, |one| one.standing(has_more))
    }

    /// The next process listens for the client, or cannot.
    pub(crate) fn set_heard_there(&self, listens: bool) {
        self.change_leaving(|leaving| leaving.set_there(listens));
    }

    /// The next process is gone.
    pub(crate) fn lose_crossing(&self) {
        self.change_leaving(Leaving::lose);
    }

    /// It has been prepared for long enough.
    pub(crate) fn expire_crossing(&self) {
        self.change_leaving(Leaving::expire);
    }

    /// The marker is to be notified now; gives it when it may be.
    pub(crate) fn ask_for_mark(&self) -> Option<Marker> {
        let mut inner = self.lock();
        let channels = inner.settled()?;
        let leaving = inner.leaving()?;
        leaving.ask(&channels).then(|| leaving.marker().clone())
    }

    /// The client stays, and is told everything here; gives the marker's channel.
    pub(crate) fn end_leaving(&self) -> Option<Name> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        match inner.crossing.take().map(|one| *one) {
            Some(Crossing::Leaves(leaving)) => {
                let (marker, mut after) = leaving.end();
                // Who is ended is told nothing any more.
                if inner.over.is_none() {
                    inner.queue.append(&mut after);
                }
                Some(Arc::clone(marker.channel()))
            }
            other => {
                inner.crossing = other.map(Box::new);
                None
            }
        }
    }

    fn change_leaving<T>(&self, change: impl FnOnce(&mut Leaving) -> T) -> Option<T> {
        let changed = self.lock().leaving().map(change);
        self.nudge();
        changed
    }
}

/// In the next process.
impl Ear {
    /// That of a client that is still elsewhere, by a number that nobody else has.
    pub(crate) fn of_arriving(number: u64, marker: Marker) -> Arc<Self> {
        let arriving = Arriving::new(marker);
        let inner = Inner {
            crossing: Some(Box::new(Crossing::Arrives(arriving))),
            ..Inner::default()
        };
        Arc::new(Self {
            number,
            seen: OnceLock::new(),
            news: OnceLock::from(Box::default()),
            inner: Mutex::new(inner),
        })
    }

    /// Whether the marker has come, or never will.
    pub(crate) fn is_marked(&self) -> bool {
        let inner = self.lock();
        let is_marked = match inner.crossing.as_deref() {
            Some(Crossing::Arrives(arriving)) => arriving.is_marked(),
            _ => true,
        };
        is_marked || inner.over.is_some()
    }

    /// Whether everything that was asked for is listened on; none while that is not known.
    pub(crate) fn is_prepared(&self) -> Option<bool> {
        let inner = self.lock();
        let marker = match inner.crossing.as_deref() {
            Some(Crossing::Arrives(arriving)) => arriving.here(),
            _ => Listens::No,
        };
        let mut hearings = inner.channels.values();
        if marker == Listens::No || hearings.any(|one| *one == Hearing::Refused) {
            return Some(false);
        }
        let mut hearings = inner.channels.values();
        let waits = marker == Listens::Asked || hearings.any(|one| *one == Hearing::Asked);
        (!waits).then_some(true)
    }

    /// Everything that was asked for, so many channels, counts as the client's own from now on. False
    /// when something of it is not listened on.
    pub(crate) fn begin_arriving(&self, channels: usize) -> bool {
        if self.is_prepared() != Some(true) {
            return false;
        }
        let mut inner = self.lock();
        for hearing in inner.channels.values_mut() {
            if *hearing == Hearing::Promised {
                *hearing = Hearing::Active;
            }
        }
        let settled = inner.settled();
        inner.over.is_none() && settled.is_some_and(|names| names.len() == channels)
    }

    /// The client is there, and listens on these channels, sorted; gives the marker's channel. None
    /// when it cannot be told everything.
    pub(crate) fn land(&self, seen: &Arc<ClientSeen>, channels: &[Name]) -> Option<Name> {
        let mut inner = self.lock();
        if inner.over.is_some() || inner.settled().as_deref() != Some(channels) {
            return None;
        }
        match inner.crossing.as_deref() {
            Some(Crossing::Arrives(arriving)) if arriving.is_marked() => {}
            _ => return None,
        }
        let _ = self.seen.set(Arc::clone(seen));
        inner.crossing.take().map(|one| one.channel())
    }
}

impl Inner {
    fn leaving(&mut self) -> Option<&mut Leaving> {
        self.crossing.as_mut()?.leaves()
    }

    /// The shared connection has said whether it listens on a channel: that of a marker?
    pub(super) fn tell_crossing(&mut self, name: &[u8], is_heard: bool) {
        if let Some(crossing) = self.crossing.as_deref_mut()
            && *crossing.channel() == *name
        {
            crossing.set_here(is_heard);
        }
    }

    /// What the client listens on, sorted; none when that is nothing, or not certain.
    fn settled(&self) -> Option<Vec<Name>> {
        let mut hearings = self.channels.values();
        if self.channels.is_empty() || hearings.any(|one| *one != Hearing::Active) {
            return None;
        }
        let mut channels: Vec<Name> = self.channels.keys().cloned().collect();
        channels.sort_unstable();
        Some(channels)
    }
}
