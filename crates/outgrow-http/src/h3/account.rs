//! What the ledger counts for a connection, and by whose leave it may hold more.
//!
//! QUIC holds what a client has sent until somebody takes it, and what came out of order until the rest
//! has come: as much as windows let the client send, and more, since it keeps whole packets of which a
//! byte is wanted. All of that is outside of our blocks, so it is counted by what it may come to: a
//! connection's own state when it is let in, its first window while a request on it is not there as a
//! whole, each such request, and each widening of the window, which the ledger has to allow. What was
//! granted for widening stays counted, since credit that was given cannot be taken back.
//!
//! Nobody need have sent a byte of what is counted so. Therefore all of it together, of all connections, is a
//! share of all memory at most ([`Ledger::foresee`]), and a smaller one where a connection could do
//! without; and what is counted for one client's address is a part of that. A tunnel that was opened leaves
//! the share while memory is not short, since it stays for hours: it counts as memory that is in use.
//!
//! A body that nobody takes may fill its stream's window. So that others can still be sent beside it,
//! the connection's becomes twice as wide as a stream's as soon as a request is not there as a whole, and wider by
//! one for each that is known to be taken later only.
//!
//! The state of a connection that has ended is there until QUIC has drained it (RFC 9000 section 10.2):
//! [`Account::keep_with`] ties the charge to that.
//!
//! Not here: what is sent, which lies in blocks of the ledger or is counted with them (`send.rs`).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use outgrow_message::Ledger;
use outgrow_message::ledger::{Charge, Foreseen, Holder, Share};
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
    /// So much of what all clients could make us hold may be one address's, in percent.
    pub address_percent: u64,
}

/// What the ledger counts for one connection, for as long as QUIC has anything of it.
pub struct Account {
    ledger: Arc<Ledger>,
    granted: Mutex<Granted>,
    windows: Windows,
    /// Bytes that were taken since the window was widened.
    taken: AtomicU64,
    /// Bodies that are not taken for now.
    stalled: AtomicU64,
}

/// What a connection may hold, and what is counted for it.
struct Granted {
    /// The client's address, with all of its connections.
    holder: Arc<Holder>,
    /// What the client may send before it is taken.
    window: u64,
    /// Requests that are not there as a whole, and tunnels.
    unfinished: usize,
    /// Of the first window, while there are any: none of it is used when there are not.
    first: Option<Foreseen>,
    /// By what it was widened.
    wider: Vec<Foreseen>,
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
            granted: Mutex::new(Granted {
                holder,
                window: windows.connection.min(FIRST_WINDOW.into()),
                unfinished: 0,
                first: None,
                wider: Vec::new(),
                _state: charge,
            }),
            windows,
            taken: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
        })
    }

    /// Has a connection that is made with `transport` begin with the first window, and this counted
    /// until QUIC has forgotten it.
    pub fn keep_with(self: &Arc<Self>, transport: &mut TransportConfig) {
        // No setting is above what there is.
        let first = VarInt::from_u64(self.granted().window).unwrap_or(VarInt::MAX);
        transport
            .receive_window(first)
            .congestion_controller_factory(Arc::new(Kept {
                congestion: Arc::default(),
                _account: Arc::clone(self),
            }));
    }

    /// The client's address was shown: the connection is this holder's from now on. Requests that came
    /// before stay where they are until they end.
    pub fn be_of(&self, holder: Arc<Holder>) {
        let mut granted = self.granted();
        let Granted { first, wider, .. } = &mut *granted;
        for foreseen in first.iter_mut().chain(wider) {
            foreseen.be_of(&holder);
        }
        granted.holder = holder;
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
        let mut granted = self.granted();
        let is_more = granted.unfinished >= TIGHT_REQUESTS;
        if is_more && self.ledger.is_tight() {
            return None;
        }
        let share = match is_more {
            false => FORESEEN_SHARE,
            true => MORE_SHARE,
        };
        let foreseen = self.foresee(&granted, share, HELD_BY_STREAM)?;
        if granted.first.is_none() {
            let first = held_by(self.windows.connection.min(FIRST_WINDOW.into()));
            granted.first = Some(self.foresee(&granted, FORESEEN_SHARE, first)?);
        }
        granted.unfinished += 1;
        let unfinished = Unfinished {
            account: Arc::clone(self),
            foreseen,
        };
        let apart = (2 * self.windows.stream).min(self.windows.connection);
        Some((unfinished, self.widen(&mut granted, apart)))
    }

    /// Takes note that a request was refused, since [`Account::unfinished`] gave nothing.
    pub(super) fn note_refused(&self) {
        self.ledger.note_unforeseen();
    }

    fn foresee(&self, granted: &Granted, one_in: u64, bytes: u64) -> Option<Foreseen> {
        let share = Share {
            one_in,
            holder_percent: self.windows.address_percent,
        };
        self.ledger.foresee(&granted.holder, share, bytes)
    }

    /// Bytes of bodies were taken. A window that has been used as a whole becomes twice as wide, up to
    /// what it may be, if there is memory for it: how wide it is now.
    pub(super) fn took(&self, bytes: usize) -> Option<u64> {
        let taken = self.taken.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        let mut granted = self.granted();
        let window = granted.window;
        if granted.first.is_none() || taken < window {
            return None;
        }
        self.taken.store(0, Ordering::Relaxed);
        self.widen_while_roomy(&mut granted, 2 * window)
    }

    /// A body is not taken for now (true), or is taken again or over.
    pub(super) fn note_stalled(&self, is_stalled: bool) {
        match is_stalled {
            true => self.stalled.fetch_add(1, Ordering::Relaxed),
            false => self.stalled.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Bodies that are not taken for now may fill their streams' windows: the connection's is to be wider by that
    /// than it has to be, up to what it may be, if there is memory for it: how wide it is now, where that is new.
    pub(super) fn fit_stalled(&self) -> Option<u64> {
        let mut granted = self.granted();
        granted.first.as_ref()?;
        let streams = self.stalled.load(Ordering::Relaxed).saturating_add(2);
        let wider = self.windows.stream.saturating_mul(streams);
        match wider > granted.window {
            true => self.widen_while_roomy(&mut granted, wider),
            false => None,
        }
    }

    /// Makes the window this wide, or as wide as it may be, while memory is not asked for elsewhere.
    fn widen_while_roomy(&self, granted: &mut Granted, wider: u64) -> Option<u64> {
        let wider = wider.min(self.windows.connection);
        let more = held_by(wider).saturating_sub(held_by(granted.window));
        match self.ledger.has_within(ROOMY_SHARE, more) {
            true => self.widen(granted, wider),
            false => None,
        }
    }

    /// Makes the window this wide, if it is not, and there is memory: how wide it is then.
    fn widen(&self, granted: &mut Granted, wider: u64) -> Option<u64> {
        let more = held_by(wider).checked_sub(held_by(granted.window));
        let more = more.filter(|more| *more > 0)?;
        let more = self.foresee(granted, WIDE_SHARE, more)?;
        granted.wider.push(more);
        granted.window = wider;
        Some(wider)
    }
}

/// A request that is not there as a whole.
#[derive(Debug)]
pub(super) struct Unfinished {
    account: Arc<Account>,
    foreseen: Foreseen,
}

impl Unfinished {
    /// It is a tunnel that was opened, and no request that will be there as a whole.
    pub(super) fn be_tunnel(&mut self) {
        let mut granted = self.account.granted();
        // It may have come before the address was shown.
        self.foreseen.be_of(&granted.holder);
        // Where memory is short it stays in the share, which bounds all that nobody need have sent.
        if !self.account.is_tight() {
            self.foreseen.leave_share();
            // It may use the connection's window for as long. What makes that faster keeps its share.
            if let Some(first) = &mut granted.first {
                first.leave_share();
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut granted = self.account.granted();
        granted.unfinished -= 1;
        if granted.unfinished == 0 {
            granted.first = None;
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
