//! What the ledger counts for a connection, and by whose leave it may hold more.
//!
//! QUIC holds what a client has sent until somebody takes it, and what came out of order until the rest
//! has come: as much as windows let the client send, and more, since it keeps whole packets of which a
//! byte is wanted. All of that is outside of our blocks, so it is counted by what it may come to: a
//! connection's own state when it is let in, its first window when a request on it is not there as a
//! whole, each such request, and each widening of the window, which the ledger has to allow. What was
//! granted for windows stays counted, since credit that was given cannot be taken back.
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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use outgrow_message::Ledger;
use outgrow_message::ledger::Charge;
use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn::{TransportConfig, VarInt};

/// What a client may send before anybody has granted more.
pub const FIRST_WINDOW: u32 = 32 * 1024;
/// QUIC may keep so much for what a window lets in: packets of which two fifths are wanted.
const HELD_BY_WINDOW: (u64, u64) = (5, 2);
/// What QUIC may keep of packets for one stream beside that, and in what order its pieces are.
const HELD_BY_STREAM: u64 = 32 * 1024;
/// Windows are widened while no more than one in so many of all memory is handed out.
const WIDE_SHARE: u64 = 4;
/// The same for the first time, by which a request that is not taken leaves others room.
const APART_SHARE: u64 = 2;
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
    charge: Mutex<Charge>,
    /// What the client may send before it is taken; none yet while nobody had to wait for the client.
    window: AtomicU64,
    windows: Windows,
    /// Bytes that were taken since the window was widened.
    taken: AtomicU64,
    /// Requests that are not there as a whole.
    unfinished: AtomicUsize,
}

impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = self.window.load(Ordering::Relaxed);
        write!(
            formatter,
            "Account({window} of {})",
            self.windows.connection
        )
    }
}

/// What windows of so many bytes may come to.
fn held_by(window: u64) -> u64 {
    window * HELD_BY_WINDOW.0 / HELD_BY_WINDOW.1
}

impl Account {
    /// Of a connection for whose state `charge` has been taken.
    pub fn new(ledger: &Arc<Ledger>, charge: Charge, windows: Windows) -> Arc<Self> {
        Arc::new(Self {
            ledger: Arc::clone(ledger),
            charge: Mutex::new(charge),
            window: AtomicU64::new(0),
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

    fn grow(&self, more: Charge) {
        let mut charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        charge.join(more);
    }

    /// A request is not there as a whole: what QUIC may hold of it; none where there is no memory.
    pub(super) fn unfinished(self: &Arc<Self>) -> Option<Unfinished> {
        let others = self.unfinished.load(Ordering::Relaxed);
        if others >= TIGHT_REQUESTS && self.ledger.is_tight() {
            return None;
        }
        if self.window.load(Ordering::Relaxed) == 0 {
            let first = u64::from(self.first());
            self.grow(self.ledger.charge(held_by(first))?);
            self.window.store(first, Ordering::Relaxed);
        }
        let charge = self.ledger.charge(HELD_BY_STREAM)?;
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        Some(Unfinished {
            account: Arc::clone(self),
            _charge: charge,
        })
    }

    /// Bytes of bodies were taken. A window that has been used as a whole becomes twice as wide, up to
    /// what it may be, if there is memory for it: how wide it is now.
    pub(super) fn took(&self, bytes: usize) -> Option<u64> {
        let window = self.window.load(Ordering::Relaxed);
        let taken = self.taken.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if window == 0 || taken < window {
            return None;
        }
        self.taken.store(0, Ordering::Relaxed);
        self.widen((2 * window).min(self.windows.connection), WIDE_SHARE)
    }

    /// A request is not there as a whole, and may never be taken: others are to have room beside it, if
    /// there is memory. How wide the window is now, where it became wider.
    pub(super) fn set_apart(&self) -> Option<u64> {
        let apart = (2 * self.windows.stream).min(self.windows.connection);
        self.widen(apart, APART_SHARE)
    }

    fn widen(&self, wider: u64, share: u64) -> Option<u64> {
        let window = self.window.load(Ordering::Relaxed);
        let more = held_by(wider).checked_sub(held_by(window));
        let more = more.filter(|more| *more > 0)?;
        self.grow(self.ledger.charge_within(share, more)?);
        self.window.store(wider, Ordering::Relaxed);
        Some(wider)
    }
}

/// A request that is not there as a whole.
#[derive(Debug)]
pub(super) struct Unfinished {
    account: Arc<Account>,
    _charge: Charge,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.account.unfinished.fetch_sub(1, Ordering::Relaxed);
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
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    fn account(limit: u64) -> (Arc<Ledger>, Arc<Account>) {
        let ledger = Ledger::new(limit);
        let charge = ledger.charge(KIB).expect("room");
        let windows = Windows {
            stream: 32 * KIB,
            connection: 128 * KIB,
        };
        (Arc::clone(&ledger), Account::new(&ledger, charge, windows))
    }

    #[test]
    fn windows_grow_with_what_is_taken_while_there_is_memory() {
        let (ledger, account) = account(4 << 20);
        assert_eq!(account.took(1 << 20), None, "nobody waits for anything");
        let request = account.unfinished().expect("room");
        assert_eq!(ledger.used_bytes(), KIB + 80 * KIB + 32 * KIB);
        assert_eq!(account.took(0), Some(64 * KIB), "what came before counts");
        assert_eq!(account.took(60_000), None);
        assert_eq!(account.took(6_000), Some(128 * KIB));
        assert_eq!(account.took(1 << 20), None, "it is as wide as it may be");
        drop(request);
        assert_eq!(ledger.used_bytes(), KIB + 320 * KIB, "the credit was given");
        drop(account);
        assert_eq!(ledger.used_bytes(), 0);
    }

    #[test]
    fn a_request_that_is_not_taken_leaves_others_room() {
        let (ledger, account) = account(1 << 20);
        let request = account.unfinished().expect("room");
        assert_eq!(account.set_apart(), Some(64 * KIB), "two streams' windows");
        assert_eq!(account.set_apart(), None, "once is enough");
        assert_eq!(ledger.used_bytes(), KIB + 160 * KIB + 32 * KIB);
        drop((request, account));
        let (ledger, account) = self::account(1 << 20);
        let other = ledger.charge(500 * KIB).expect("half of it");
        let request = account.unfinished().expect("room");
        assert_eq!(account.set_apart(), None, "there is no memory for it");
        drop(other);
        assert_eq!(account.set_apart(), Some(64 * KIB));
        drop(request);
    }

    #[test]
    fn without_memory_windows_stay_and_requests_are_few() {
        let (ledger, account) = account(1 << 20);
        let first = account.unfinished();
        let other = ledger.charge(500 * KIB).expect("half of it");
        assert!(first.is_some() && ledger.is_tight());
        assert_eq!(account.took(1 << 20), None);
        let others: Vec<_> = (0..10).map_while(|_| account.unfinished()).collect();
        assert_eq!(others.len(), TIGHT_REQUESTS - 1);
        drop((first, others));
        let rest = ledger.charge(370 * KIB);
        assert!(rest.is_some() && account.unfinished().is_none());
        drop((other, rest, account));
        assert_eq!(ledger.used_bytes(), 0);
    }
}
