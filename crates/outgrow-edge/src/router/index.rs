//! An index of texts by a number that is made of them: one look for most, however many there are.

/// A number for a text; different texts may have the same. The texts are from the configuration,
/// so nobody outside can make many collide. The high bits are mixed best.
#[inline]
pub(super) fn key(text: &[u8]) -> u64 {
    let mix = |key: u64, word: u64| (key.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    let (words, rest) = text.as_chunks::<8>();
    let key = words
        .iter()
        .fold(0, |key, word| mix(key, u64::from_le_bytes(*word)));
    let rest = rest
        .iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte));
    mix(key, rest)
}

/// The places of texts in a list, by their keys: open addressing, at most half full.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// By place.
    keys: Vec<u64>,
    /// One more than a place, 0 for none; a power of two of them.
    slots: Vec<u32>,
}

impl Index {
    /// The place of a text with this key; `is` says whether it is the one.
    #[inline]
    pub(super) fn find(&self, key: u64, is: impl Fn(usize) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut slot = self.slot(key);
        // There is an empty slot: they are at most half full.
        while let Some(place) = (self.slots[slot] as usize).checked_sub(1) {
            if self.keys[place] == key && is(place) {
                return Some(place);
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    /// Adds the next place; returns it.
    pub(super) fn push(&mut self, key: u64) -> usize {
        let place = self.keys.len();
        self.keys.push(key);
        if self.keys.len() * 2 > self.slots.len() {
            self.slots = vec![0; (self.keys.len() * 4).next_power_of_two()];
            (0..self.keys.len()).for_each(|place| self.settle(place));
        } else {
            self.settle(place);
        }
        place
    }

    fn settle(&mut self, place: usize) {
        let mask = self.slots.len() - 1;
        let mut slot = self.slot(self.keys[place]);
        while self.slots[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = place as u32 + 1;
    }

    #[inline]
    fn slot(&self, key: u64) -> usize {
        // The high bits; at least two slots, so the shift is less than 64.
        (key >> (64 - self.slots.len().trailing_zeros())) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_found_and_no_other() {
        let texts: Vec<String> = (0..5_000).map(|number| format!("t{number}")).collect();
        let mut index = Index::default();
        let is = |text: &str| {
            let text = text.to_owned();
            move |at: usize| format!("t{at}") == text
        };
        for (place, text) in texts.iter().enumerate() {
            assert_eq!(index.find(key(text.as_bytes()), is(text)), None);
            assert_eq!(index.push(key(text.as_bytes())), place);
        }
        for (place, text) in texts.iter().enumerate() {
            assert_eq!(index.find(key(text.as_bytes()), is(text)), Some(place));
        }
        // The same key is not the same text.
        let mut index = Index::default();
        for place in 0..20 {
            assert_eq!(index.push(7), place);
        }
        assert_eq!(index.find(7, |at| at == 13), Some(13));
        assert_eq!(index.find(7, |_| false), None);
    }
}
