//! What the compressors and decompressors of a process may hold: shares of its memory, and of those one
//! client's.
//!
//! A client decides how much the decompressor of its body needs. So one may have a quarter of what is left
//! when it has it, in all (the rule by which switches share their buffers): alone a fifth of a room, the next one
//! a fifth of what is left, and so on, so that ten of them leave a tenth; what they give back is the next
//! one's. What a client's only body needs may be more, up to as much as is left. Nobody gives back what a body
//! needs before it ends, so enough clients together have it all.
//!
//! Who finds that other bodies of its client have the client's part can wait for them ([`Held::poll_grow`]), but
//! not for those that are not gone on with for now ([`Held::rest`]); who finds that there is no room whatever they
//! do, or that as many wait as may, is refused.
//!
//! Each room has one lock for the process. It is taken for a body's beginning and end, and where it comes to
//! need more, for a look at a few entries.

mod counts;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use outgrow_message::Ledger;
use outgrow_message::ledger::Charge;

use self::counts::{Answer, Counts};

/// The part of the process's memory that a room has: one in so many.
const SHARE: u64 = 4;

/// A share of the process's memory.
#[derive(Clone, Debug)]
pub(super) struct Room {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ledger: Arc<Ledger>,
    counts: Mutex<Counts>,
}

impl Inner {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn total(&self) -> u64 {
        self.ledger.limit_bytes() / SHARE
    }

    fn subtract(&self, less: u64, client: Option<IpAddr>) {
        let woken = self.counts().subtract(less, client, self.total());
        wake(woken);
    }
}

fn wake(woken: Vec<Waker>) {
    for waker in woken {
        waker.wake();
    }
}

impl Room {
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        let counts = Mutex::default();
        Self {
            inner: Arc::new(Inner { ledger, counts }),
        }
    }

    fn nothing(&self, client: Option<IpAddr>) -> Held {
        Held {
            room: self.clone(),
            client,
            bytes: 0,
            charge: None,
            above: None,
            wish: None,
            moving: None,
            rests: false,
        }
    }

    /// Room for so many bytes, of a client's share where there is one.
    pub(super) fn hold(&self, bytes: u64, client: Option<IpAddr>) -> Option<Held> {
        let mut held = self.nothing(client);
        held.grow(bytes).then_some(held)
    }

    /// Nothing for now, which goes over to `above` when it becomes more than `most` bytes.
    pub(super) fn nothing_up_to(&self, (most, above): (u64, &Self), client: IpAddr) -> Held {
        let mut held = self.nothing(Some(client));
        held.above = Some((most, above.clone()));
        held
    }
}

/// Memory of a compressor or a decompressor, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: Room,
    client: Option<IpAddr>,
    bytes: u64,
    charge: Option<Charge>,
    /// Above how many bytes another room counts them.
    above: Option<(u64, Room)>,
    /// It waits for so many more.
    wish: Option<(u64, Arc<Answer>)>,
    /// It waits in the other room.
    moving: Option<Box<Held>>,
    /// Nobody waits for it.
    rests: bool,
}

impl Held {
    /// Counts `bytes` in all, where that is more than now; whether there is room for them now.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let rests = self.rests;
        self.go_on();
        let has_room = self.grow_now(bytes);
        if rests {
            self.rest();
        }
        has_room
    }

    fn grow_now(&mut self, bytes: u64) -> bool {
        if let Some((_, above)) = self.above_for(bytes) {
            let held = above.hold(bytes, self.client);
            let has_room = held.is_some();
            if let Some(held) = held {
                *self = held;
            }
            return has_room;
        }
        let more = bytes.saturating_sub(self.bytes);
        more == 0 || {
            let (wanted, total) = ((more, self.bytes), self.room.inner.total());
            let has_room = self.room.inner.counts().add(wanted, self.client, total);
            has_room && self.charge(more)
        }
    }

    /// The same for who can wait: not while other bodies of its client do.
    pub(crate) fn grow_in_turn(&mut self, bytes: u64) -> bool {
        let room = match self.above_for(bytes) {
            Some((_, above)) => above,
            None => &self.room,
        };
        let waits = |client| room.inner.counts().waits(client);
        bytes <= self.bytes || !self.client.is_some_and(waits) && self.grow(bytes)
    }

    /// Counts them as soon as there is room: waits for other bodies of its client, for which there is none while
    /// they have it. Whether there is room at all.
    pub(crate) fn poll_grow(&mut self, bytes: u64, cx: &Context<'_>) -> Poll<bool> {
        let Some((_, above)) = self.above_for(bytes) else {
            return self.poll_grow_here(bytes, cx);
        };
        let above = above.clone();
        let client = self.client;
        let moving = self
            .moving
            .get_or_insert_with(|| Box::new(above.nothing(client)));
        let has_room = ready!(moving.poll_grow_here(bytes, cx));
        if let Some(moved) = self.moving.take()
            && has_room
        {
            *self = *moved;
        }
        Poll::Ready(has_room)
    }

    fn poll_grow_here(&mut self, bytes: u64, cx: &Context<'_>) -> Poll<bool> {
        let more = bytes.saturating_sub(self.bytes);
        let (true, Some(client)) = (more > 0, self.client) else {
            return Poll::Ready(self.grow(bytes));
        };
        let inner = &self.room.inner;
        let (more, answer) = self.wish.get_or_insert_with(|| {
            let wanted = (more, self.bytes);
            let (answer, woken) = inner.counts().ask(wanted, client, inner.total());
            wake(woken);
            (more, answer)
        });
        let (more, granted) = (*more, ready!(answer.poll(cx)));
        self.wish = None;
        if !(granted && self.charge(more)) {
            return Poll::Ready(false);
        }
        // It may have come to want more while it waited.
        self.poll_grow_here(bytes, cx)
    }

    /// It waits for nothing any more, and nobody waits for it: whom it is for waits for something else, which others
    /// of its client may have that wait for room.
    pub(crate) fn rest(&mut self) {
        self.moving = None;
        self.withdraw();
        let (false, Some(client)) = (self.rests, self.client) else {
            return;
        };
        self.rests = true;
        let inner = &self.room.inner;
        let woken = inner.counts().rest(self.bytes, client, inner.total());
        wake(woken);
    }

    /// It is gone on with again.
    pub(crate) fn go_on(&mut self) {
        if let (true, Some(client)) = (std::mem::take(&mut self.rests), self.client) {
            self.room.inner.counts().go_on(self.bytes, client);
        }
    }

    /// Waits no longer.
    fn withdraw(&mut self) {
        if let (Some((more, answer)), Some(client)) = (self.wish.take(), self.client) {
            let inner = &self.room.inner;
            let mut counts = inner.counts();
            let woken = counts.withdraw(&answer, more, client, inner.total());
            drop(counts);
            wake(woken);
        }
    }

    fn above_for(&self, bytes: u64) -> Option<&(u64, Room)> {
        self.above.as_ref().filter(|(most, _)| bytes > *most)
    }

    /// Has the ledger count `more`, for which there is room here; whether it has room as well.
    fn charge(&mut self, more: u64) -> bool {
        // Counted from here on, whatever becomes of it.
        self.bytes += more;
        let Some(charge) = self.room.inner.ledger.charge(more) else {
            self.bytes -= more;
            self.room.inner.subtract(more, self.client);
            return false;
        };
        match &mut self.charge {
            Some(own) => own.join(charge),
            None => self.charge = Some(charge),
        }
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.charge = None;
        self.withdraw();
        self.go_on();
        if self.bytes > 0 {
            self.room.inner.subtract(self.bytes, self.client);
        }
    }
}
