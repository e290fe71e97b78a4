//! Texts that are found by their length and then by a number: the hosts.

/// Texts grouped by their length, the longest first: a lookup compares only texts that are as long
/// as what it looks for, and a lookup by prefix or suffix has one try a length.
#[derive(Clone, Debug)]
pub(super) struct ByLength<T> {
    groups: Vec<Group<T>>,
}

/// The texts of one length, sorted by their [`key`]: a lookup compares numbers that lie side by side
/// and then one text.
#[derive(Clone, Debug)]
pub(super) struct Group<T> {
    pub(super) length: usize,
    keys: Vec<u64>,
    /// In the order of `keys`.
    entries: Vec<(Box<[u8]>, T)>,
}

/// A number for a text, to find it faster; different texts may have the same. The texts are from
/// the configuration, so nobody outside can make many collide.
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

/// The place of the first of the sorted keys that is not below `key`.
#[inline(always)]
pub(super) fn first_not_below(keys: &[u64], key: u64) -> usize {
    // Halved without a branch on what is found: which half it is cannot be foreseen.
    let (mut start, mut length) = (0, keys.len());
    while length > 1 {
        let half = length / 2;
        start += if keys[start + half - 1] < key {
            half
        } else {
            0
        };
        length -= half;
    }
    start + usize::from(length == 1 && keys[start] < key)
}

impl<T> Default for ByLength<T> {
    fn default() -> Self {
        Self { groups: Vec::new() }
    }
}

impl<T> Group<T> {
    #[inline(always)]
    pub(super) fn get(&self, text: &[u8]) -> Option<&T> {
        if let [(only, value)] = self.entries.as_slice() {
            return (**only == *text).then_some(value);
        }
        self.place(key(text), text)
            .ok()
            .map(|at| &self.entries[at].1)
    }

    /// Where the text is, or else where it belongs.
    #[inline(always)]
    fn place(&self, key: u64, text: &[u8]) -> Result<usize, usize> {
        let mut at = first_not_below(&self.keys, key);
        while self.keys.get(at) == Some(&key) {
            if *self.entries[at].0 == *text {
                return Ok(at);
            }
            at += 1;
        }
        Err(at)
    }

    fn insert(&mut self, at: usize, key: u64, text: &[u8], value: T) {
        self.keys.insert(at, key);
        self.entries.insert(at, (text.into(), value));
    }
}

impl<T> ByLength<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn longest_first(&self) -> std::slice::Iter<'_, Group<T>> {
        self.groups.iter()
    }

    #[inline(always)]
    pub(super) fn get(&self, text: &[u8]) -> Option<&T> {
        let by_length = |group: &Group<T>| text.len().cmp(&group.length);
        let at = self.groups.binary_search_by(by_length).ok()?;
        self.groups[at].get(text)
    }
}

impl<T> ByLength<T> {
    /// Every value, to be changed.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let entries = self.groups.iter_mut().flat_map(|group| &mut group.entries);
        entries.map(|(_, value)| value)
    }

    /// The value for a text, made when it is not there.
    pub(super) fn get_or_insert_with(&mut self, text: &str, value: impl FnOnce() -> T) -> &mut T {
        let text = text.as_bytes();
        let by_length = |group: &Group<T>| text.len().cmp(&group.length);
        let at = self.groups.binary_search_by(by_length);
        let at = at.unwrap_or_else(|at| {
            let group = Group {
                length: text.len(),
                keys: Vec::new(),
                entries: Vec::new(),
            };
            self.groups.insert(at, group);
            at
        });
        let group = &mut self.groups[at];
        let key = key(text);
        let at = group.place(key, text).unwrap_or_else(|at| {
            group.insert(at, key, text, value());
            at
        });
        &mut group.entries[at].1
    }
}
