//! Which other process reads at which listener, by what they say: pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// More listeners than a configuration has.
const MOST: usize = 4_096;

/// What a process says of what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// It is going to say.
    Soon,
    /// What comes to this listener is read there.
    Reads(&'a str),
    /// Not any more.
    ReadsNoMore(&'a str),
}

/// The listeners at which other processes read, of those that have said so.
#[derive(Debug, Default)]
pub(super) struct Readers(BTreeMap<u32, HashSet<Arc<str>>>);

impl Readers {
    /// The process of this number says this.
    pub(super) fn hear(&mut self, generation: u32, said: Said<'_>) {
        let keys = self.0.entry(generation).or_default();
        match said {
            Said::Soon => {}
            Said::Reads(key) if keys.len() < MOST => drop(keys.insert(key.into())),
            Said::Reads(_) => {}
            Said::ReadsNoMore(key) => drop(keys.remove(key)),
        }
    }

    /// It is gone, and reads nothing.
    pub(super) fn forget(&mut self, generation: u32) {
        self.0.remove(&generation);
    }

    /// Whether a process that follows this one reads at a listener; none as long as none has said.
    pub(super) fn after(&self, generation: u32, key: &str) -> Option<bool> {
        let mut later = self.0.range(generation.saturating_add(1)..).peekable();
        later.peek()?;
        Some(later.any(|(_, keys)| keys.contains(key)))
    }

    /// Whether any other process reads there.
    pub(super) fn any(&self, key: &str) -> bool {
        self.0.values().any(|keys| keys.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_last_holds() {
        let mut readers = Readers::default();
        assert_eq!((readers.after(3, "a"), readers.any("a")), (None, false));
        readers.hear(4, Said::Soon);
        assert_eq!(readers.after(3, "a"), Some(false));
        readers.hear(4, Said::Reads("a"));
        assert_eq!(
            (readers.after(3, "a"), readers.any("a")),
            (Some(true), true)
        );
        assert_eq!(readers.after(4, "a"), None, "that is itself");
        readers.hear(4, Said::ReadsNoMore("a"));
        assert_eq!(
            (readers.after(3, "a"), readers.any("a")),
            (Some(false), false)
        );
    }

    #[test]
    fn who_is_gone_reads_nothing() {
        let mut readers = Readers::default();
        readers.hear(4, Said::Reads("a"));
        readers.hear(5, Said::Reads("b"));
        readers.hear(2, Said::Reads("c"));
        let after = |readers: &Readers| ["a", "b", "c"].map(|key| readers.after(3, key));
        assert_eq!(after(&readers), [Some(true), Some(true), Some(false)]);
        assert!(readers.any("c"), "of one that came before");
        readers.forget(4);
        assert_eq!(after(&readers), [Some(false), Some(true), Some(false)]);
        readers.forget(5);
        assert_eq!(after(&readers), [None; 3]);
    }

    #[test]
    fn a_process_cannot_say_without_end() {
        let mut readers = Readers::default();
        for at in 0..2 * MOST {
            readers.hear(4, Said::Reads(&at.to_string()));
        }
        assert_eq!(readers.0[&4].len(), MOST);
    }
}
