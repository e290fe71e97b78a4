//! From what is known to be registered to what should be: pure.

use std::collections::BTreeMap;

use outgrow_core::settings::Address;
use serde_json::json;

/// Most entries of one registration.
pub const LIMIT: usize = crate::found::LIMIT;

/// Where a box serves a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where others reach it.
    pub address: Address,
    /// Its share compared with the others, 1 to 1000.
    pub weight: u32,
    /// The zone that it is in; empty is none.
    pub zone: String,
}

/// Entries by name.
pub type Entries = BTreeMap<String, Entry>;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Write it, whatever was there.
    Put(String, Entry),
    /// Take it away.
    Delete(String),
}

/// What is to be done, in order: what is new comes before what is old goes.
pub(super) fn steps(known: &Entries, wanted: &Entries) -> Vec<Step> {
    let to_put = wanted
        .iter()
        .filter(|(name, entry)| known.get(*name) != Some(entry))
        .map(|(name, entry)| Step::Put(name.clone(), entry.clone()));
    let to_delete = known
        .keys()
        .filter(|name| !wanted.contains_key(*name))
        .map(|name| Step::Delete(name.clone()));
    to_put.chain(to_delete).collect()
}

/// An entry as our own discovery reads it from etcd: a table as in `endpoints`.
pub(super) fn text(entry: &Entry) -> String {
    let mut table = json!({ "address": entry.address.to_string(), "weight": entry.weight });
    if !entry.zone.is_empty() {
        table["zone"] = entry.zone.as_str().into();
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use outgrow_core::Random;

    use super::*;
    use crate::etcd::messages;
    use crate::found::Found;

    fn entry(port: u16, weight: u32) -> Entry {
        Entry {
            address: Address::tcp("10.0.0.1", port),
            weight,
            zone: "a".to_owned(),
        }
    }

    fn some(list: &[(&str, u32)]) -> Entries {
        let one = |&(name, weight): &(&str, u32)| (name.to_owned(), entry(80, weight));
        list.iter().map(one).collect()
    }

    #[test]
    fn only_what_differs_is_done_and_the_new_comes_first() {
        let check = |known: &[(&str, u32)], wanted: &[(&str, u32)], expected: &[&str]| {
            let told: Vec<String> = steps(&some(known), &some(wanted))
                .into_iter()
                .map(|step| match step {
                    Step::Put(name, entry) => format!("put {name} {}", entry.weight),
                    Step::Delete(name) => format!("delete {name}"),
                })
                .collect();
            assert_eq!(told, expected, "{known:?} to {wanted:?}");
        };
        check(&[], &[], &[]);
        check(&[], &[("a", 1)], &["put a 1"]);
        check(&[("a", 1)], &[("a", 1)], &[]);
        check(&[("a", 1)], &[("a", 2)], &["put a 2"]);
        check(&[("a", 1)], &[], &["delete a"]);
        check(
            &[("a", 1), ("c", 1)],
            &[("b", 1), ("c", 1)],
            &["put b 1", "delete a"],
        );
    }

    #[test]
    fn after_all_steps_there_is_what_was_wanted() {
        let mut random = Random::from_seed(11);
        let mut draw = || -> Entries {
            (0..random.below(8))
                .map(|_| {
                    let weight = 1 + random.below(3) as u32;
                    (format!("app.{}", random.below(6)), entry(80, weight))
                })
                .collect()
        };
        for _ in 0..2_000 {
            let (mut known, wanted) = (draw(), draw());
            for step in steps(&known, &wanted) {
                match step {
                    Step::Put(name, entry) => drop(known.insert(name, entry)),
                    Step::Delete(name) => drop(known.remove(&name).expect("it was there")),
                }
            }
            assert_eq!(known, wanted);
        }
    }

    #[test]
    fn our_own_discovery_reads_what_is_written() {
        let written = text(&entry(80, 7));
        let read = messages::endpoint(written.as_bytes()).expect("an endpoint");
        let expected = Found {
            weight: 7,
            zone: "a".to_owned(),
            ..Found::at(Address::tcp("10.0.0.1", 80))
        };
        assert_eq!(read, expected);
        let bare = Entry {
            zone: String::new(),
            ..entry(80, 1)
        };
        assert!(messages::endpoint(text(&bare).as_bytes()).is_some());
    }
}
