//! For how long a client keeps a connection outside of transactions, and why.

use outgrow_core::Ticks;

use crate::numbers::Numbers;
use crate::sql::facts::{Pin, Pins};

/// The first reason, and since when the client has kept the connection at rest.
#[derive(Debug, Default)]
pub(super) struct Pinned(Option<(Pin, Ticks)>);

impl Pinned {
    /// The client is in no transaction, and keeps the connection for these reasons.
    #[inline]
    pub(super) fn begin(&mut self, pins: Pins, now: Ticks) {
        if !pins.is_empty() {
            self.0 = pins.iter().next().map(|pin| (pin, now));
        }
    }

    /// It uses it again, or has given it back.
    #[inline]
    pub(super) fn end(&mut self, numbers: &Numbers, now: impl FnOnce() -> Ticks) {
        if let Some((pin, since)) = self.0.take() {
            numbers.pinned_micros[pin as usize].add(now().micros_since(since));
        }
    }
}
