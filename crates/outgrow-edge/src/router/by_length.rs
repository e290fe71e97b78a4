//! Texts that are found by their length and then by their key: the hosts.

use super::index::{Index, key};

/// Texts grouped by their length, the longest first: a lookup compares only texts that are as long
/// as what it looks for, and a lookup by prefix or suffix has one try a length.
#[derive(Clone, Debug)]
pub(super) struct ByLength<T> {
    groups: Vec<Group<T>>,
}

/// The texts of one length.
#[derive(Clone, Debug)]
pub(super) struct Group<T> {
    pub(super) length: usize,
    index: Index,
    /// In the order of the index.
    entries: Vec<(Box<[u8]>, T)>,
}

impl<T> Default for ByLength<T> {
    fn default() -> Self {
        Self { groups: Vec::new() }
    }
}

impl<T> Group<T> {
    #[inline]
    pub(super) fn get(&self, text: &[u8]) -> Option<&T> {
        if let [(only, value)] = self.entries.as_slice() {
            return (**only == *text).then_some(value);
        }
        let found = self
            .index
            .find(key(text), |at| *self.entries[at].0 == *text);
        found.map(|at| &self.entries[at].1)
    }
}

impl<T> ByLength<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn longest_first(&self) -> std::slice::Iter<'_, Group<T>> {
        self.groups.iter()
    }

    #[inline]
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
                index: Index::default(),
                entries: Vec::new(),
            };
            self.groups.insert(at, group);
            at
        });
        let group = &mut self.groups[at];
        let key = key(text);
        let known = group.index.find(key, |at| *group.entries[at].0 == *text);
        let at = known.unwrap_or_else(|| {
            group.entries.push((text.into(), value()));
            group.index.push(key)
        });
        &mut group.entries[at].1
    }
}
