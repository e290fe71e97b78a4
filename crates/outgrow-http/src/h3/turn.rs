//! When a response has its turn among those of its connection.
//!
//! QUIC sends what is more urgent first, and nothing else for as long as there is any of it. That is right
//! for what is soon over. A download that takes minutes would have all others of its connection, its
//! WebSockets too, cut off as those of a client that takes nothing. So what has become long is no more
//! urgent than what nobody said anything of, and takes turns with the least urgent of what is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use quinn::SendStream;

use super::priority::Priority;

/// From here on a response is long. As much as QUIC holds by default of what was not acknowledged, so that
/// what is called urgent is sent first up to here.
const LONG_BYTES: u64 = 2 * 1024 * 1024;
/// The least urgent level that there is; the most urgent is 6.
const LEAST: i32 = -9;
const LEVELS: usize = 16;

/// What a connection has under way, by how urgent it is.
#[derive(Debug, Default)]
pub(super) struct Levels([AtomicU32; LEVELS]);

impl Levels {
    fn at(&self, level: i32) -> &AtomicU32 {
        let index = usize::try_from(level - LEAST).unwrap_or_default();
        &self.0[index.min(LEVELS - 1)]
    }

    /// The level of what is least urgent, if that is below `level`.
    fn least(&self, level: i32) -> i32 {
        let mut below = LEAST..level;
        let under_way = below.find(|level| self.at(*level).load(Ordering::Relaxed) > 0);
        under_way.unwrap_or(level)
    }
}

/// Something is under way at a level: a response, and each piece of it that was not acknowledged, since QUIC
/// may have that to send when the stream is gone for us.
#[derive(Debug)]
pub(super) struct UnderWay {
    levels: Arc<Levels>,
    level: i32,
}

impl UnderWay {
    fn new(levels: &Arc<Levels>, level: i32) -> Arc<Self> {
        levels.at(level).fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            levels: Arc::clone(levels),
            level,
        })
    }

    /// Its level when so much was sent of it at a stretch.
    fn level_after(&self, sent: u64) -> i32 {
        match sent < LONG_BYTES {
            true => self.level,
            false => self
                .levels
                .least(self.level.min(Priority::default().level())),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.levels.at(self.level).fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response's turn.
#[derive(Debug)]
pub(super) struct Turn {
    priority: Priority,
    /// As urgent as it was called.
    under_way: Arc<UnderWay>,
    /// What QUIC was told.
    level: i32,
}

impl Turn {
    /// Of a stream of which nothing was said.
    pub(super) fn new(levels: &Arc<Levels>) -> Self {
        let priority = Priority::default();
        let level = priority.level();
        Self {
            priority,
            under_way: UnderWay::new(levels, level),
            level,
        }
    }

    /// Takes what fields say of it.
    pub(super) fn take<'v>(&mut self, values: impl Iterator<Item = &'v [u8]>, stream: &SendStream) {
        values.for_each(|value| self.priority.take(value));
        let level = self.priority.level();
        if level != self.under_way.level {
            self.under_way = UnderWay::new(&self.under_way.levels, level);
        }
        self.tell(level, stream);
    }

    /// So much of it was sent at a stretch: from some length on others are to have their turn.
    pub(super) fn share(&mut self, sent: u64, stream: &SendStream) {
        self.tell(self.under_way.level_after(sent), stream);
    }

    /// To be kept with what is sent of it, until that is acknowledged.
    pub(super) fn under_way(&self) -> Arc<UnderWay> {
        Arc::clone(&self.under_way)
    }

    fn tell(&mut self, level: i32, stream: &SendStream) {
        if level != self.level {
            self.level = level;
            // It fails where nothing is sent any more.
            let _ = stream.set_priority(level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_urgent_is_known_while_anything_of_it_is_there() {
        let levels = Arc::default();
        assert_eq!(Levels::least(&levels, 0), 0);
        let all = [-9, 6, -2, -9].map(|level| UnderWay::new(&levels, level));
        assert_eq!((levels.least(0), levels.least(-9)), (-9, -9));
        let [first, most, other, last] = all;
        drop(first);
        assert_eq!(levels.least(0), -9, "there is another one");
        drop(last);
        assert_eq!(levels.least(0), -2);
        drop(other);
        assert_eq!((levels.least(0), levels.least(7)), (0, 6));
        drop(most);
        assert_eq!(levels.least(7), 7);
    }

    #[test]
    fn what_is_long_goes_below_the_usual_only_beside_what_is() {
        let levels = Arc::default();
        let [urgent, usual, less] = [6, 0, -4].map(|level| UnderWay::new(&levels, level));
        let after = |sent| [&urgent, &usual, &less].map(|one| one.level_after(sent));
        assert_eq!(after(LONG_BYTES - 1), [6, 0, -4]);
        assert_eq!(after(LONG_BYTES), [-4, -4, -4]);
        // A piece of it that was not acknowledged is enough.
        let piece = Arc::clone(&less);
        drop(less);
        assert_eq!(urgent.level_after(LONG_BYTES), -4);
        drop(piece);
        assert_eq!(urgent.level_after(LONG_BYTES), 0);
        assert_eq!(usual.level_after(LONG_BYTES), 0);
    }
}
