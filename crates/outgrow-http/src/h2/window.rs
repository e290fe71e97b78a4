//! The window of a client's connection: what streams hold that nobody takes from, a tunnel whose reader
//! does not read or an upload to a slow endpoint, is not taken from the others.
//!
//! The protocol has one window for all streams of a connection (RFC 9113 section 5.2), so two of them that
//! hold a window each would stall it. A large one from the start is what peers do; then every client could
//! have all of it held. So it grows by a stream's window for each stream that is stalled, as long as there
//! is memory, what it grew by is counted, and it falls again when they go on.

use std::sync::Arc;

use outgrow_message::Ledger;
use outgrow_message::ledger::Charge;

use super::Settings;

/// The part of the memory that may be handed out so that windows still grow: one in so many.
const SHARE: u64 = 4;
/// The largest window that the protocol knows (RFC 9113 section 6.9.1).
pub(super) const LARGEST_BYTES: u32 = (1 << 31) - 1;

/// A connection's.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Streams for which it has grown.
    grown: usize,
    charge: Option<Charge>,
}

impl Window {
    /// Grows for `stalled` streams at a time, as far as there is memory, and falls to them when they are less
    /// than half as many as before; what the window is to be, if that has changed.
    pub(super) fn fit(
        &mut self,
        stalled: usize,
        settings: &Settings,
        ledger: &Arc<Ledger>,
    ) -> Option<u32> {
        let before = self.grown;
        if stalled < self.grown.div_ceil(2) {
            *self = Self::default();
        }
        while self.grown < stalled.min(settings.streams as usize) {
            let bytes = u64::from(settings.stream_window_bytes);
            let Some(charge) = ledger.charge_within(SHARE, bytes) else {
                break;
            };
            match &mut self.charge {
                Some(all) => all.join(charge),
                none => *none = Some(charge),
            }
            self.grown += 1;
        }
        let more = (self.grown as u64).saturating_mul(settings.stream_window_bytes.into());
        let all = u64::from(settings.connection_window_bytes).saturating_add(more);
        let all = u32::try_from(all).unwrap_or(u32::MAX).min(LARGEST_BYTES);
        (self.grown != before).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_for_who_is_stalled_while_there_is_memory() {
        let settings = Settings {
            streams: 10,
            stream_window_bytes: 1_000,
            connection_window_bytes: 2_000,
            ..Settings::default()
        };
        let ledger = Ledger::new(40_000);
        let mut window = Window::default();
        assert_eq!(window.fit(0, &settings, &ledger), None);
        assert_eq!(window.fit(2, &settings, &ledger), Some(4_000));
        assert_eq!(window.fit(1, &settings, &ledger), None);
        assert_eq!(ledger.used_bytes(), 2_000);
        let others = ledger.charge(5_000);
        assert_eq!(window.fit(9, &settings, &ledger), Some(7_000));
        drop(others);
        assert_eq!(window.fit(100, &settings, &ledger), Some(12_000));
        // They go on: what they held is there for others.
        assert_eq!(window.fit(5, &settings, &ledger), None);
        assert_eq!(window.fit(4, &settings, &ledger), Some(6_000));
        assert_eq!(ledger.used_bytes(), 4_000);
        assert_eq!(window.fit(0, &settings, &ledger), Some(2_000));
        assert_eq!(ledger.used_bytes(), 0);
        assert_eq!(window.fit(1, &settings, &ledger), Some(3_000));
        drop(window);
        assert_eq!(ledger.used_bytes(), 0);
    }
}
