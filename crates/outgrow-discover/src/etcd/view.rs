//! What is known of the keys below a prefix, and the endpoints that follow: pure.

use std::collections::BTreeMap;

use super::messages::{self, Listing};
use crate::found::{Discovered, Found, LIMIT};

/// Most keys that are remembered.
const KEYS: usize = 4 * LIMIT;

/// The keys with their endpoints; a value that says none is remembered as such.
#[derive(Debug, Default)]
pub(super) struct View {
    keys: BTreeMap<Vec<u8>, Option<Found>>,
    /// Keys that there are besides.
    beyond: usize,
}

impl View {
    /// Starts from a listing.
    pub(super) fn of(listing: Listing) -> Self {
        let beyond = listing.count - listing.pairs.len();
        let pairs = listing.pairs.into_iter();
        Self {
            keys: pairs
                .map(|pair| (pair.key, messages::endpoint(&pair.value)))
                .collect(),
            beyond,
        }
    }

    /// Takes over changes.
    pub(super) fn change(&mut self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        for (key, value) in changes {
            match value {
                Some(value) if self.keys.len() < KEYS || self.keys.contains_key(&key) => {
                    self.keys.insert(key, messages::endpoint(&value));
                }
                Some(_) => self.beyond += 1,
                None => {
                    self.keys.remove(&key);
                }
            }
        }
    }

    /// The endpoints.
    pub(super) fn discovered(&self) -> Discovered {
        let unusable = self.keys.values().filter(|found| found.is_none()).count();
        let found = self.keys.values().flatten().cloned();
        Discovered::new(found, unusable + self.beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::messages::Pair;

    #[test]
    fn changes_are_followed_key_by_key() {
        let pair = |key: &str, value: &str| Pair {
            key: key.into(),
            value: value.into(),
        };
        let mut view = View::of(Listing {
            revision: 1,
            pairs: vec![
                pair("a", "10.0.0.1:1"),
                pair("b", "?"),
                pair("c", "10.0.0.1:1"),
            ],
            count: 3,
        });
        let told = |view: &View| {
            let discovered = view.discovered();
            (discovered.endpoints().len(), discovered.left_out())
        };
        assert_eq!(told(&view), (1, 1));
        view.change(vec![
            ("b".into(), Some("10.0.0.2:1".into())),
            ("a".into(), None),
        ]);
        assert_eq!(told(&view), (2, 0));
        // The other key with the same address still says it.
        view.change(vec![("c".into(), None), ("x".into(), None)]);
        assert_eq!(told(&view), (1, 0));
        let flood = (0..10_000_u32).map(|key| (key.to_be_bytes().to_vec(), Some(b"?".to_vec())));
        view.change(flood.collect());
        assert_eq!(view.keys.len(), KEYS);
    }
}
