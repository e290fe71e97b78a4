//! A table of names that is built once and read often.

use super::super::lexer::{Token, TokenKind};
use super::super::name::Key;

/// Bits of the filter that says which names are surely in no list of suspects.
const FILTER_BITS: usize = 1 << 16;
/// Slots that are looked at for one name at most. Half of them are empty, so it takes more than bad luck
/// to need as many: whoever makes names to that end gets a table that is refused.
const MOST_PROBES: usize = 64;

/// One name.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Upper half of the hash; with `length` zero the slot is empty.
    tag: u32,
    /// Where its bytes begin.
    at: u32,
    length: u8,
    flags: u8,
}

/// Names with flags.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Box<[Slot]>,
    bytes: Box<[u8]>,
    filter: Box<[u64]>,
}

fn tag(key: Key) -> u32 {
    (key.0 >> 32) as u32
}

fn filter_bit(key: Key) -> (usize, u64) {
    let bit = (key.0 >> 16) as usize % FILTER_BITS;
    (bit / 64, 1 << (bit % 64))
}

impl Table {
    /// Of names with their flags; those of one name are joined. `None` when they do not fit.
    pub(super) fn new(names: &[(Box<[u8]>, u8)], is_suspect: impl Fn(u8) -> bool) -> Option<Self> {
        let size = (names.len() * 2).next_power_of_two().max(64);
        let mut table = Self {
            slots: vec![Slot::default(); size].into(),
            bytes: Box::default(),
            filter: vec![0; FILTER_BITS / 64].into(),
        };
        let mut bytes = Vec::new();
        for (name, flags) in names {
            let key = Key::of(name);
            // The server has no longer ones.
            let length = u8::try_from(name.len()).ok().filter(|&length| length > 0)?;
            let mut place = key.0 as usize;
            let mut probes = 0;
            loop {
                let slot = &mut table.slots[place & (size - 1)];
                if slot.length == 0 {
                    *slot = Slot {
                        tag: tag(key),
                        at: u32::try_from(bytes.len()).ok()?,
                        length,
                        flags: *flags,
                    };
                    bytes.extend_from_slice(name);
                    break;
                }
                let known = slot.at as usize..slot.at as usize + usize::from(slot.length);
                if slot.tag == tag(key) && bytes.get(known) == Some(name) {
                    slot.flags |= flags;
                    break;
                }
                place = place.wrapping_add(1);
                probes += 1;
                if probes > MOST_PROBES {
                    return None;
                }
            }
            if is_suspect(*flags) {
                let (word, bit) = filter_bit(key);
                table.filter[word] |= bit;
            }
        }
        table.bytes = bytes.into();
        Some(table)
    }

    /// The flags of a name, whose key is `key` and which is `name` in `text`.
    #[inline]
    pub(super) fn find(&self, key: Key, text: &[u8], name: Token) -> Option<u8> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut place = key.0 as usize;
        for _ in 0..=MOST_PROBES {
            let slot = self.slots[place & mask];
            if slot.length == 0 {
                return None;
            }
            if slot.tag == tag(key) {
                let known = slot.at as usize..slot.at as usize + usize::from(slot.length);
                if is_same(self.bytes.get(known)?, text, name) {
                    return Some(slot.flags);
                }
            }
            place = place.wrapping_add(1);
        }
        None
    }

    /// False when the name is surely none of those that are suspect anywhere.
    #[inline(always)]
    pub(super) fn may_be_suspect(&self, key: Key) -> bool {
        let (word, bit) = filter_bit(key);
        self.filter.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots) + self.bytes.len() + size_of_val(&*self.filter)
    }
}

/// Whether a name in a text is this one.
#[inline]
fn is_same(known: &[u8], text: &[u8], name: Token) -> bool {
    let raw = name.of(text);
    if name.kind == TokenKind::Word {
        // Folded only where the server folds surely; a name that is not ASCII is asked for elsewhere.
        return known.len() == raw.len()
            && known
                .iter()
                .zip(raw)
                .all(|(known, byte)| *known == byte.to_ascii_lowercase());
    }
    let inside = raw.get(1..raw.len() - 1).unwrap_or_default();
    if known.len() == inside.len() {
        return known == inside;
    }
    // With quotes in it.
    let mut written = inside.iter();
    known.iter().all(|byte| {
        let here = written.next();
        if here == Some(&b'"') {
            written.next();
        }
        here == Some(byte)
    }) && written.next().is_none()
}
