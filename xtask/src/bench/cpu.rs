//! CPU time of a process and everything below it, from /proc.
//!
//! utime and stime of /proc/PID/stat hold all threads, those that ended too; cutime and cstime hold
//! children that ended; but each process is counted in whole ticks. /proc/PID/task/TID/schedstat counts
//! nanoseconds, of threads that are there: for trees of many processes that each do little. Deliberately not here: the load's and the backend's CPU time; it is not the
//! contestant's.

use std::collections::HashMap;
use std::fs;

use anyhow::Context;

/// Length of a tick in /proc: USER_HZ is 100 on every architecture that we run on.
const TICK_MICROS: u64 = 10_000;

/// One process as /proc shows it.
struct Entry {
    parent: u32,
    ticks: u64,
}

/// The processes of the tree under `root`, itself first.
pub(crate) fn tree(root: u32) -> anyhow::Result<Vec<u32>> {
    Ok(members(root, &entries()?))
}

/// CPU microseconds that the tree under `root` has used so far.
pub(crate) fn tree_micros(root: u32) -> anyhow::Result<u64> {
    let entries = entries()?;
    anyhow::ensure!(entries.contains_key(&root), "process {root} has ended");
    let ticks: u64 = members(root, &entries)
        .iter()
        .filter_map(|process| entries.get(process))
        .map(|entry| entry.ticks)
        .sum();
    Ok(ticks * TICK_MICROS)
}

/// CPU time that each thread of a tree has used so far.
#[derive(Debug, Default)]
pub(crate) struct Threads(HashMap<(u32, u32), u64>);

impl Threads {
    /// Of the tree under `root`, now.
    pub(crate) fn of_tree(root: u32) -> anyhow::Result<Self> {
        let mut threads = HashMap::new();
        for process in tree(root)? {
            // Processes and threads may end between the listing and the reading.
            let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else {
                continue;
            };
            for task in tasks.flatten() {
                let Ok(thread) = task.file_name().to_string_lossy().parse() else {
                    continue;
                };
                let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
                    continue;
                };
                let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
                let nanos = nanos.context("/proc/PID/task/TID/schedstat is not as known")?;
                threads.insert((process, thread), nanos);
            }
        }
        anyhow::ensure!(!threads.is_empty(), "process {root} has ended");
        Ok(Self(threads))
    }

    /// Microseconds used since `before`. What a thread used that has ended since is not in it.
    pub(crate) fn micros_since(&self, before: &Self) -> u64 {
        let used = |(key, nanos): (&(u32, u32), &u64)| {
            nanos.saturating_sub(before.0.get(key).copied().unwrap_or(0))
        };
        self.0.iter().map(used).sum::<u64>() / 1_000
    }
}

fn members(root: u32, entries: &HashMap<u32, Entry>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        found.extend(
            entries
                .iter()
                .filter(|(_, entry)| entry.parent == parent)
                .map(|(&process, _)| process),
        );
    }
    found
}

fn entries() -> anyhow::Result<HashMap<u32, Entry>> {
    let mut entries = HashMap::new();
    for folder in fs::read_dir("/proc").context("cannot list /proc")? {
        let folder = folder?;
        let Ok(process) = folder.file_name().to_string_lossy().parse() else {
            continue;
        };
        // It may end between the listing and the reading.
        let Ok(stat) = fs::read_to_string(folder.path().join("stat")) else {
            continue;
        };
        entries.insert(
            process,
            read_stat(&stat).context("/proc/PID/stat is not as known")?,
        );
    }
    Ok(entries)
}

/// Reads the fields behind the name, which may hold spaces and parentheses itself.
fn read_stat(stat: &str) -> Option<Entry> {
    let (_, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    // After the name: state, ppid, …; utime, stime, cutime and cstime are fields 14 to 17 of proc(5).
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>());
    Some(Entry {
        parent: fields.get(1)?.parse().ok()?,
        ticks: ticks.sum::<Result<u64, _>>().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_any_name() {
        let stat = "12 (a) (b c) S 7 12 12 0 -1 4194560 1 0 0 0 30 12 4 1 20 0 1 0 9 9 9";
        let entry = read_stat(stat).unwrap();
        assert_eq!((entry.parent, entry.ticks), (7, 47));
    }

    #[test]
    fn a_tree_is_counted_with_its_grandchildren() {
        let entry = |parent| Entry { parent, ticks: 1 };
        let entries = HashMap::from([
            (1, entry(0)),
            (5, entry(1)),
            (6, entry(5)),
            (7, entry(6)),
            (8, entry(1)),
        ]);
        let mut found = members(5, &entries);
        found.sort_unstable();
        assert_eq!(found, [5, 6, 7]);
    }

    #[test]
    fn threads_are_counted_that_are_new() {
        let threads = |all: &[(u32, u64)]| {
            let all = all.iter().map(|&(thread, nanos)| ((1, thread), nanos));
            Threads(all.collect())
        };
        let before = threads(&[(1, 5_000), (2, 9_000)]);
        let after = threads(&[(1, 7_000), (3, 4_000)]);
        assert_eq!(after.micros_since(&before), 6);
        let own = std::process::id();
        assert!(Threads::of_tree(own).is_ok_and(|own| !own.0.is_empty()));
    }

    #[test]
    fn our_own_time_grows_with_work() {
        let own = std::process::id();
        let before = tree_micros(own).unwrap();
        let mut rounds = 0_u64;
        // Work until the clock of /proc has moved; one tick is 10 ms of it.
        while tree_micros(own).unwrap() == before {
            rounds += 1;
            assert!(rounds < 1_000_000, "no tick in a million readings");
        }
    }
}
