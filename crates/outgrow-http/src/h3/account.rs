//! What the ledger counts for a connection, and by whose leave it may hold more.
//!
//! QUIC holds what a client has sent until somebody takes it, and what came out of order until the rest
//! has come: as much as windows let the client send, and more, since it keeps whole packets of which a
//! byte is wanted. All of that is outside of our blocks, so it is counted by what it may come to: a
//! connection's own state when it is let in, its first window when a request on it is not there as a
//! whole, each such request, and each widening of the window, which the ledger has to allow. What was
//! granted for windows stays counted, since credit that was given cannot be taken back.
//!
//! Nobody need have sent a byte of what is counted so. Therefore all of it together, of all connections, is a
//! share of all memory at most ([`Ledger::foresee`]), and a smaller one where a connection could do
//! without; and what is counted for one client's address is a part of that. A tunnel that was opened is out
//! of the share, since it stays for hours: it counts as memory that is in use.
//!
//! A body that nobody takes may fill its stream's window. So that others can still be sent beside it,
//! the connection's becomes twice as wide as a stream's as soon as a request is not there as a whole.
//!
//! The state of a connection that has ended is there until QUIC has drained it (RFC 9000 section 10.2):
//! [`Account::keep_with`] ties the charge to that.
//!
//! Not here: what is sent, which lies in blocks of the ledger or is counted with them (`send.rs`).

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use outgrow_message::Ledger;
use outgrow_message::ledger::{Charge, Foreseen, Holder};
use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn::{TransportConfig, VarInt};

/// What a client may send before anybody has granted more.
pub const FIRST_WINDOW: u32 = 32 * 1024;
/// QUIC may keep so much for what a window lets in: packets of which two fifths are wanted.
const HELD_BY_WINDOW: (u64, u64) = (5, 2);
/// What QUIC may keep of packets for one stream beside that, and in what order its pieces are.
const HELD_BY_STREAM: u64 = 32 * 1024;
/// What all clients could make us hold may be one in so many of all memory.
const FORESEEN_SHARE: u64 = 3;
/// The same for requests beyond [`TIGHT_REQUESTS`] of a connection.
const MORE_SHARE: u64 = 6;
/// The same for what makes requests faster: windows that are wider than the first. The connection keeps
/// them, so they leave requests the larger part.
const WIDE_SHARE: u64 = 10;
/// Windows are widened as they are used while less than one in so many of all memory is handed out.
const ROOMY_SHARE: u64 = 4;
/// Requests that are not there as a whole which a connection may have while memory is short.
const TIGHT_REQUESTS: usize = 4;

/// What a client may send before it is taken, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Of one request's body.
    pub stream: u64,
    /// Of all of a connection, at most: not below twice a stream's, or one body that nobody takes keeps
    /// all other requests from being sent.
    pub connection: u64,
}

/// What the ledger counts for one connection, for as long as QUIC has anything of it.
pub struct Account {
    ledger: Arc<Ledger>,
    /// The client's address, with all of its connections.
    holder: Arc<Holder>,
    granted: Mutex<Granted>,
    windows: Windows,
    /// Bytes that were taken since the window was widened.
    taken: AtomicU64,
    /// Requests that are not there as a whole.
    unfinished: AtomicUsize,
}

/// What a connection may hold, and what is counted for it.
struct Granted {
    /// What the client may send before it is taken; none yet while nobody had to wait for the client.
    window: u64,
    first: Option<Foreseen>,
    /// By what it was widened.
    wider: Option<Foreseen>,
    /// Of the connection's state.
    _state: Charge,
}

impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (window, widest) = (self.granted().window, self.windows.connection);
        write!(formatter, "Account({window} of {widest})")
    }
}

/// What windows of so many bytes may come to.
fn held_by(window: u64) -> u64 {
    window * HELD_BY_WINDOW.0 / HELD_BY_WINDOW.1
}

impl Account {
    /// Of a connection of `holder`'s for whose state `charge` has been taken.
    pub fn new(
        ledger: &Arc<Ledger>,
        charge: Charge,
        windows: Windows,
        holder: Arc<Holder>,
    ) -> Arc<Self> {
        Arc::new(Self {
            ledger: Arc::clone(ledger),
            holder,
            granted: Mutex::new(Granted {
                window: 0,
                first: None,
                wider: None,
                _state: charge,
            }),
            windows,
            taken: AtomicU64::new(0),
            unfinished: AtomicUsize::new(0),
        })
    }

    /// Has a connection that is made with `transport` begin with the first window, and this counted
    /// until QUIC has forgotten it.
    pub fn keep_with(self: &Arc<Self>, transport: &mut TransportConfig) {
        transport
            .receive_window(VarInt::from_u32(self.first()))
            .congestion_controller_factory(Arc::new(Kept {
                congestion: Arc::default(),
                _account: Arc::clone(self),
            }));
    }

    fn first(&self) -> u32 {
        FIRST_WINDOW.min(u32::try_from(self.windows.connection).unwrap_or(u32::MAX))
    }

    /// Counts bytes that are held of a response; none where there is no memory.
    pub(super) fn charge(&self, bytes: usize) -> Option<Charge> {
        self.ledger.charge(bytes as u64)
    }

    /// Counts bytes that are held of a response in any case.
    pub(super) fn charge_anyway(&self, bytes: usize) -> Charge {
        self.ledger.charge_anyway(bytes as u64)
    }

    /// See [`Ledger::is_tight`].
    pub(super) fn is_tight(&self) -> bool {
        self.ledger.is_tight()
    }

    fn granted(&self) -> MutexGuard<'_, Granted> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is not there as a whole: what QUIC may hold of it; none where there is no memory. Where
    /// the client may send more from now on, since the request may never be taken and others are to have
    /// room beside it, how much that is.
    pub(super) fn unfinished(self: &Arc<Self>) -> Option<(Unfinished, Option<u64>)> {
        let unfinished = self.try_unfinished();
        if unfinished.is_none() {
            self.ledger.note_unforeseen();
        }
        unfinished
    }

    fn try_unfinished(self: &Arc<Self>) -> Option<(Unfinished, Option<u64>)> {
        let others = self.unfinished.load(Ordering::Relaxed);
        let is_more = others >= TIGHT_REQUESTS;
        if is_more && self.ledger.is_tight() {
            return None;
        }
        let share = match is_more {
            false => FORESEEN_SHARE,
            true => MORE_SHARE,
        };
        let foreseen = self.foresee(share, HELD_BY_STREAM)?;
        let mut granted = self.granted();
        if !granted.begin(self) {
            return None;
        }
        let wider = granted.set_apart(self);
        drop(granted);
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        let unfinished = Unfinished {
            account: Arc::clone(self),
            foreseen,
            is_tunnel: false,
        };
        Some((unfinished, wider))
    }

    fn foresee(&self, share: u64, bytes: u64) -> Option<Foreseen> {
        self.ledger.foresee(&self.holder, share, bytes)
    }

    /// Bytes of bodies were taken. A window that has been used as a whole becomes twice as wide, up to
    /// what it may be, if there is memory for it: how wide it is now.
    pub(super) fn took(&self, bytes: usize) -> Option<u64> {
        let taken = self.taken.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        let mut granted = self.granted();
        let window = granted.window;
        if window == 0 || taken < window {
            return None;
        }
        self.taken.store(0, Ordering::Relaxed);
        let wider = (2 * window).min(self.windows.connection);
        granted.widen(wider, |more| {
            let is_there = self.ledger.has_within(ROOMY_SHARE, more);
            is_there.then(|| self.foresee(WIDE_SHARE, more))?
        })
    }
}

impl Granted {
    /// The first window, if there is none; false where there is no memory for it.
    fn begin(&mut self, account: &Account) -> bool {
        let first = u64::from(account.first());
        let take = |more| account.foresee(FORESEEN_SHARE, more);
        self.window > 0 || self.widen(first, take).is_some()
    }

    /// A window that is twice as wide as a stream's, if there is memory: how wide it is, if it became so.
    fn set_apart(&mut self, account: &Account) -> Option<u64> {
        let apart = (2 * account.windows.stream).min(account.windows.connection);
        self.widen(apart, |more| account.foresee(WIDE_SHARE, more))
    }

    /// Makes the window this wide, if it is not, and there is memory: how wide it is then.
    fn widen(&mut self, wider: u64, take: impl FnOnce(u64) -> Option<Foreseen>) -> Option<u64> {
        let more = held_by(wider).checked_sub(held_by(self.window));
        let more = more.filter(|more| *more > 0)?;
        let more = take(more)?;
        match (&self.first, &mut self.wider) {
            (None, _) => self.first = Some(more),
            (Some(_), Some(wider)) => wider.join(more),
            (Some(_), none) => *none = Some(more),
        }
        self.window = wider;
        Some(wider)
    }
}

/// A request that is not there as a whole.
#[derive(Debug)]
pub(super) struct Unfinished {
    account: Arc<Account>,
    foreseen: Foreseen,
    is_tunnel: bool,
}

impl Unfinished {
    /// It is a tunnel that was opened, and no request that will be there as a whole.
    pub(super) fn be_tunnel(&mut self) {
        if !self.is_tunnel {
            self.is_tunnel = true;
            self.foreseen.leave_share();
            // It may use the connection's window for as long. What makes that faster keeps its share.
            if let Some(first) = &mut self.account.granted().first {
                first.leave_share();
            }
            self.account.unfinished.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_tunnel {
            self.account.unfinished.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What QUIC drops last of a connection: how it was to be made.
struct Kept {
    congestion: Arc<CubicConfig>,
    _account: Arc<Account>,
}

impl ControllerFactory for Kept {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Arc::clone(&self.congestion).build(now, mtu)
    }
}

#[cfg(test)]
mod tests;
