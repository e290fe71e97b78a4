//! Finds what is left of an instance whose shim was killed. Its processes are
//! children of the keeper then (it is a subreaper), and they carry the run's
//! key in their environment unless they threw it away.

use std::collections::{BTreeSet, HashSet};

use crate::processes::{KEY, Process, Processes, environment_has};

/// Who to look for.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The keeper's own pid.
    pub(super) keeper: u32,
    /// The children of the keeper that are meant to be: shims, data processes.
    pub(super) known: &'a HashSet<u32>,
    /// Whether a child that is not known can only be such a stray. Not so as
    /// pid 1, which also gets children that were never an instance's
    /// (`docker exec`), nor when the keeper replaced a shell that had children
    /// (`sidecar & exec outgrow run`): there key and group must do.
    pub(super) adopt: bool,
    /// The process group of the instance, while that number cannot be anybody
    /// else's.
    pub(super) group: Option<u32>,
    /// The value of `OUTGROW_KEY` of this run.
    pub(super) key: &'a str,
}

/// The living processes that are left.
pub(super) fn find(processes: &Processes, wanted: &Wanted<'_>) -> Vec<u32> {
    let entry = format!("{KEY}{}", wanted.key);
    let entries = BTreeSet::from([entry.as_str()]);
    select(processes, wanted, |pid| environment_has(pid, &entries))
}

fn select(
    processes: &Processes,
    wanted: &Wanted<'_>,
    carries_key: impl Fn(u32) -> bool,
) -> Vec<u32> {
    let protected = |pid: u32| pid == wanted.keeper || wanted.known.contains(&pid);
    // What descends from another shim carries another key and is not ours to
    // kill; but a stray that has lost its key still has a stray above it, or
    // became our child.
    let mut found: HashSet<u32> = processes
        .all()
        .filter(|process| {
            !protected(process.pid)
                && (wanted.group == Some(process.group) || carries_key(process.pid))
        })
        .map(|process| process.pid)
        .collect();
    if wanted.adopt {
        let adopted = processes
            .children(wanted.keeper)
            .iter()
            .filter(|pid| !protected(**pid));
        found.extend(adopted);
    }
    let roots: Vec<u32> = found.iter().copied().collect();
    for root in roots {
        found.extend(
            processes
                .descendants(root)
                .iter()
                .map(|process| process.pid),
        );
    }
    let alive = |pid: &u32| {
        processes
            .get(*pid)
            .is_some_and(|process: &Process| !process.is_dead())
    };
    let mut found: Vec<u32> = found
        .into_iter()
        .filter(|pid| !protected(*pid))
        .filter(alive)
        .collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, group: u32, state: char) -> Process {
        Process {
            pid,
            parent,
            group,
            state,
            own_ticks: 0,
            reaped_ticks: 0,
            threads: 1,
            start_ticks: 1,
            resident_pages: 1,
        }
    }

    /// Keeper 10 with data process 11 and shim 12 (instance 20, 21); the shim
    /// 13 is gone: its instance was group 30.
    fn processes() -> Processes {
        let keeper = 10;
        Processes::from_list(vec![
            process(keeper, 0, keeper, 'S'),
            process(11, keeper, 11, 'S'),
            process(12, keeper, 12, 'S'),
            process(20, 12, 20, 'S'),
            process(21, 20, 20, 'S'),
            process(30, keeper, 30, 'S'),
            process(31, 30, 31, 'S'),
            process(32, keeper, 30, 'Z'),
            process(33, keeper, 33, 'S'),
            process(34, keeper, 34, 'S'),
            process(99, 1, 99, 'S'),
        ])
    }

    fn select_with(adopt: bool) -> Vec<u32> {
        let known = HashSet::from([11, 12]);
        let wanted = Wanted {
            keeper: 10,
            known: &known,
            adopt,
            group: Some(30),
            key: "key",
        };
        select(&processes(), &wanted, |pid| pid == 33)
    }

    #[test]
    fn group_key_descendants_and_adopted_children_are_found() {
        assert_eq!(select_with(true), [30, 31, 33, 34]);
    }

    #[test]
    fn an_unknown_child_is_left_alone_when_it_may_be_anybodys() {
        assert_eq!(select_with(false), [30, 31, 33]);
    }
}
