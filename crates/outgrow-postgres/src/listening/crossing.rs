//! A client that listens changes its process: at which notification the one that leaves ends to tell
//! it, and the next one begins. Pure.
//!
//! Both listen, each over its shared connection, on the client's channels and on one of its own that
//! only they know. Once both do, a [`Marker`] is notified there. A server gives all its sessions what
//! was notified in one order, that of the commits: so what comes before the marker is for the one that
//! leaves to tell, and what comes after it for the next one. Neither counts or compares anything.
//!
//! The one that leaves keeps what comes after the marker all the same ([`Leaving`]): when the client
//! is not taken, it is told here as if nothing had been. The next one keeps only what comes after it
//! ([`Arriving`]), with the limit of any client, until the client is there.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use super::board::Name;
use super::ear::Notification;

/// Random bytes that a marker is made of.
pub(crate) const MARKER_BYTES: usize = 32;
/// What a marker's channel begins with, so that it can be told from an application's.
const PREFIX: &str = "outgrow_handover_";
/// Of those, what each of the two parts is made of.
const PART: usize = MARKER_BYTES / 2;

/// A notification that nobody can send who was not told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// There is one for each client that crosses.
    channel: Name,
    /// Its payload, which is not in the statement that listens: who sees that one cannot send it. Who
    /// sees the statement that notifies it sends it too late: the leaving process has asked for it by
    /// then, and the first one counts in both.
    word: Box<[u8]>,
}

impl Marker {
    /// Of random bytes that were used for nothing else.
    pub(crate) fn new(random: &[u8; MARKER_BYTES]) -> Self {
        let (channel, word) = random.split_at(PART);
        let hex = |bytes: &[u8], mut text: String| {
            for byte in bytes {
                let _ = write!(text, "{byte:02x}");
            }
            text.into_bytes()
        };
        Self {
            channel: hex(channel, PREFIX.to_owned()).into(),
            word: hex(word, String::new()).into(),
        }
    }

    /// As another process says it; none when it is no marker.
    pub(crate) fn read(channel: &[u8], word: &[u8]) -> Option<Self> {
        let is_hex = |text: &[u8]| {
            let mut bytes = text.iter();
            text.len() == 2 * PART && bytes.all(|one| matches!(one, b'0'..=b'9' | b'a'..=b'f'))
        };
        let hex = channel.strip_prefix(PREFIX.as_bytes())?;
        (is_hex(hex) && is_hex(word)).then(|| Self {
            channel: channel.into(),
            word: word.into(),
        })
    }

    /// Its channel, which needs no escaping.
    pub(crate) fn channel(&self) -> &Name {
        &self.channel
    }

    /// Its payload, which needs none either.
    pub(crate) fn word(&self) -> &[u8] {
        &self.word
    }

    fn is_it(&self, notification: &Notification) -> bool {
        self.channel == notification.channel && self.word == notification.payload
    }
}

/// How far a client is that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does not.
    Stays,
    /// It is prepared in both processes.
    Waits,
    /// That is done: the marker may be notified.
    Ready,
    /// The marker was asked for and did not come yet, or the client was not told everything that came
    /// before it.
    Crosses,
    /// It was told everything that was this process's to tell: it may be offered.
    Crossed,
    /// The next process cannot, or does not want to.
    Refused,
    /// It is to begin anew: the next process is gone, or too much time.
    Lost,
}

/// One of the two that listen for a client that crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listens {
    /// It is not known yet.
    Asked,
    Yes,
    No,
}

impl Listens {
    fn of(listens: bool) -> Self {
        if listens { Self::Yes } else { Self::No }
    }
}

/// What the process that leaves knows of a client that crosses.
#[derive(Debug)]
pub(super) struct Leaving {
    marker: Marker,
    /// What the next process was told that the client listens on, sorted.
    channels: Vec<Name>,
    here: Listens,
    there: Listens,
    is_asked: bool,
    is_lost: bool,
    /// What came after the marker, once that came.
    after: Option<VecDeque<Arc<Notification>>>,
}

impl Leaving {
    pub(super) fn new(marker: Marker, channels: Vec<Name>) -> Self {
        Self {
            marker,
            channels,
            here: Listens::Asked,
            there: Listens::Asked,
            is_asked: false,
            is_lost: false,
            after: None,
        }
    }

    pub(super) fn marker(&self) -> &Marker {
        &self.marker
    }

    /// Whether the next one listens for the client. What it cannot it cannot for good.
    pub(super) fn set_there(&mut self, listens: bool) {
        if self.there != Listens::No {
            self.there = Listens::of(listens);
        }
    }

    /// The next process is gone.
    pub(super) fn lose(&mut self) {
        self.is_lost = true;
    }

    /// It has been prepared for long enough. That is nothing to one whose marker was asked for, which
    /// has other limits, or to one that the next process does not take at all.
    pub(super) fn expire(&mut self) {
        let is_ready = self.standing(false) == Standing::Ready;
        self.is_lost |= is_ready;
    }

    /// The marker is to be notified now, for a client that listens on these channels, sorted; whether
    /// it may be.
    pub(super) fn ask(&mut self, channels: &[Name]) -> bool {
        let may = self.standing(false) == Standing::Ready && self.channels == channels;
        self.is_asked |= may;
        may
    }

    /// Where a notification belongs; none: it is for nobody. `queue` is for before the marker.
    pub(super) fn place<'q>(
        &'q mut self,
        notification: &Notification,
        queue: &'q mut VecDeque<Arc<Notification>>,
    ) -> Option<&'q mut VecDeque<Arc<Notification>>> {
        if notification.channel == self.marker.channel {
            if self.is_asked && self.after.is_none() && self.marker.is_it(notification) {
                self.after = Some(VecDeque::new());
            }
            return None;
        }
        Some(self.after.as_mut().unwrap_or(queue))
    }

    /// How far it is; `has_more`: it is still to be told something of before the marker.
    pub(super) fn standing(&self, has_more: bool) -> Standing {
        if self.is_lost {
            return Standing::Lost;
        }
        match (self.here, self.there) {
            (Listens::No, _) | (_, Listens::No) => Standing::Refused,
            (Listens::Asked, _) | (_, Listens::Asked) => Standing::Waits,
            (Listens::Yes, Listens::Yes) if !self.is_asked => Standing::Ready,
            _ if self.after.is_none() || has_more => Standing::Crosses,
            _ => Standing::Crossed,
        }
    }

    /// It stays: its marker, and what came after that, which is told here.
    pub(super) fn end(self) -> (Marker, VecDeque<Arc<Notification>>) {
        (self.marker, self.after.unwrap_or_default())
    }
}

/// What the next process knows of a client that crosses.
#[derive(Debug)]
pub(super) struct Arriving {
    marker: Marker,
    here: Listens,
    is_marked: bool,
}

impl Arriving {
    pub(super) fn new(marker: Marker) -> Self {
        Self {
            marker,
            here: Listens::Asked,
            is_marked: false,
        }
    }

    pub(super) fn marker(&self) -> &Marker {
        &self.marker
    }

    /// Whether this process listens on the marker's channel.
    pub(super) fn here(&self) -> Listens {
        self.here
    }

    /// Whether the marker has come.
    pub(super) fn is_marked(&self) -> bool {
        self.is_marked
    }

    /// Whether a notification is this process's to tell.
    pub(super) fn takes(&mut self, notification: &Notification) -> bool {
        if notification.channel == self.marker.channel {
            self.is_marked |= self.marker.is_it(notification);
            return false;
        }
        self.is_marked
    }
}

/// A client that changes its process, at either end.
#[derive(Debug)]
pub(super) enum Crossing {
    Leaves(Leaving),
    Arrives(Arriving),
}

impl Crossing {
    /// The channel of its marker.
    pub(super) fn channel(&self) -> Name {
        let marker = match self {
            Self::Leaves(leaving) => leaving.marker(),
            Self::Arrives(arriving) => arriving.marker(),
        };
        Arc::clone(&marker.channel)
    }

    /// This process listens on the channel of its marker, or cannot.
    pub(super) fn set_here(&mut self, listens: bool) {
        let listens = Listens::of(listens);
        match self {
            Self::Leaves(leaving) => leaving.here = listens,
            Self::Arrives(arriving) => arriving.here = listens,
        }
    }

    pub(super) fn leaves(&mut self) -> Option<&mut Leaving> {
        match self {
            Self::Leaves(leaving) => Some(leaving),
            Self::Arrives(_) => None,
        }
    }

    /// Where a notification belongs; none: it is not this process's to tell.
    pub(super) fn place<'q>(
        &'q mut self,
        notification: &Notification,
        queue: &'q mut VecDeque<Arc<Notification>>,
    ) -> Option<&'q mut VecDeque<Arc<Notification>>> {
        match self {
            Self::Leaves(leaving) => leaving.place(notification, queue),
            Self::Arrives(arriving) => arriving.takes(notification).then_some(queue),
        }
    }
}
