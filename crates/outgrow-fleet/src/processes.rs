//! What `/proc` says about processes: who descends from whom, who carries a
//! key in its environment, who used how much. One walk over `/proc` answers
//! for all instances. Killing is deliberately not here: see `shim` and
//! `keeper`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;

use rustix::process::{Pid, Signal};

/// One line of `/proc/PID/stat`, as far as it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    /// `Z` and `X` are dead ones that nobody has reaped yet.
    pub(crate) state: char,
    /// Clock ticks used by itself.
    pub(crate) own_ticks: u64,
    /// Clock ticks used by its children that it has reaped.
    pub(crate) reaped_ticks: u64,
    pub(crate) threads: u64,
    /// When it was started, in clock ticks since the machine was.
    pub(crate) start_ticks: u64,
    pub(crate) resident_pages: u64,
}

impl Process {
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Reads a line of `/proc/PID/stat`. The name in parentheses may hold anything,
/// closing parentheses too: fields are counted from the last one.
pub(crate) fn parse_stat(line: &str) -> Option<Process> {
    let (pid, rest) = line.split_once(" (")?;
    let (_, fields) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // Numbers of `proc(5)` are from 1 and the state is field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at)?.parse::<u64>().ok();
    let signed = |at: usize| Some(field(at)?.parse::<i64>().ok()?.max(0) as u64);
    Some(Process {
        pid: pid.parse().ok()?,
        parent: field(4)?.parse().ok()?,
        group: u32::try_from(signed(5)?).ok()?,
        state: field(3)?.chars().next()?,
        own_ticks: number(14)?.saturating_add(number(15)?),
        reaped_ticks: signed(16)?.saturating_add(signed(17)?),
        threads: signed(20)?,
        start_ticks: number(22)?,
        resident_pages: signed(24)?,
    })
}

/// All processes at about one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes {
    by_pid: HashMap<u32, Process>,
    children: HashMap<u32, Vec<u32>>,
}

impl Processes {
    /// Walks over `/proc`. Processes that end meanwhile are left out.
    pub(crate) fn scan() -> io::Result<Self> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Ok(entry) = entry else { continue };
            let name = entry.file_name();
            if !name
                .to_string_lossy()
                .starts_with(|first: char| first.is_ascii_digit())
            {
                continue;
            }
            // The name may be any bytes: not always UTF-8.
            let Ok(line) = fs::read(entry.path().join("stat")) else {
                continue;
            };
            found.extend(parse_stat(&String::from_utf8_lossy(&line)));
        }
        Ok(Self::from_list(found))
    }

    pub(crate) fn from_list(list: Vec<Process>) -> Self {
        let mut processes = Self::default();
        for process in list {
            processes
                .children
                .entry(process.parent)
                .or_default()
                .push(process.pid);
            processes.by_pid.insert(process.pid, process);
        }
        processes
    }

    pub(crate) fn get(&self, pid: u32) -> Option<&Process> {
        self.by_pid.get(&pid)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Process> {
        self.by_pid.values()
    }

    /// The direct children of `pid`.
    pub(crate) fn children(&self, pid: u32) -> &[u32] {
        self.children.get(&pid).map_or(&[], Vec::as_slice)
    }

    /// Everything that descends from `pid`, without `pid` itself.
    pub(crate) fn descendants(&self, pid: u32) -> Vec<&Process> {
        let mut seen = HashSet::from([pid]);
        let mut todo = self.children(pid).to_vec();
        let mut found = Vec::new();
        while let Some(next) = todo.pop() {
            if seen.insert(next) {
                found.extend(self.get(next));
                todo.extend(self.children(next));
            }
        }
        found
    }
}

/// When the process was started; `None` if it is gone.
pub(crate) fn start_of(pid: u32) -> Option<u64> {
    let line = fs::read(format!("/proc/{pid}/stat")).ok()?;
    Some(parse_stat(&String::from_utf8_lossy(&line))?.start_ticks)
}

/// How the entry in the environment begins that all processes of a run have.
pub(crate) const KEY: &str = "OUTGROW_KEY=";

/// Whether the environment that `pid` was started with has one of `entries` (`NAME=value`).
/// `false` also when it may not be read.
pub(crate) fn environment_has(pid: u32, entries: &BTreeSet<&str>) -> bool {
    let bytes = environment(pid);
    let mut found = bytes.split(|byte| *byte == 0);
    found.any(|one| std::str::from_utf8(one).is_ok_and(|one| entries.contains(one)))
}

/// The first entry of that environment that begins so; none also when it may not be read.
pub(crate) fn environment_entry(pid: u32, beginning: &str) -> Option<String> {
    let bytes = environment(pid);
    let mut entries = bytes.split(|byte| *byte == 0);
    let entry = entries.find(|one| one.starts_with(beginning.as_bytes()))?;
    String::from_utf8(entry.to_vec()).ok()
}

fn environment(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

/// A pid in rustix's type; `None` for 0 and for what is no pid.
pub(crate) fn pid(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

/// Sends a signal to one process; that it is gone already is no error.
pub(crate) fn signal_process(number: u32, signal: Signal) {
    if let Some(pid) = pid(number) {
        // The only other errors are permissions of a process that changed its
        // user, where nothing can be done.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Sends a signal to a process group; that it is gone already is no error.
pub(crate) fn signal_group(number: u32, signal: Signal) {
    if let Some(pid) = pid(number) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "4242 (a) b (c) S 17 4242 4000 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 3 0 \
                        100 1000000 250 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0";

    #[test]
    fn a_stat_line_is_read_whatever_the_name_is() {
        let process = parse_stat(LINE).unwrap();
        let expected = Process {
            pid: 4242,
            parent: 17,
            group: 4242,
            state: 'S',
            own_ticks: 33,
            reaped_ticks: 77,
            threads: 3,
            start_ticks: 100,
            resident_pages: 250,
        };
        assert_eq!(process, expected);
    }

    #[test]
    fn a_broken_stat_line_is_nothing() {
        for line in [
            "",
            "1",
            "1 (x",
            "1 (x) ",
            "1 (x) S",
            "x (y) S 1 1 1",
            &LINE[..60],
        ] {
            assert_eq!(parse_stat(line), None, "{line:?}");
        }
    }

    fn process(pid: u32, parent: u32) -> Process {
        Process {
            pid,
            parent,
            ..parse_stat(LINE).unwrap()
        }
    }

    #[test]
    fn descendants_are_found_and_circles_end() {
        let list = vec![
            process(2, 1),
            process(3, 2),
            process(4, 3),
            process(5, 1),
            process(7, 8),
            process(8, 7),
        ];
        let processes = Processes::from_list(list);
        let mut pids: Vec<u32> = processes.descendants(2).iter().map(|one| one.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [3, 4]);
        assert_eq!(processes.descendants(7).len(), 1);
        assert!(processes.descendants(99).is_empty());
    }

    #[test]
    fn this_process_is_found_with_its_parent() {
        let processes = Processes::scan().unwrap();
        let me = processes.get(std::process::id()).unwrap();
        assert!(!me.is_dead());
        assert!(processes.children(me.parent).contains(&me.pid));
        assert!(me.resident_pages > 0 && me.threads > 0);
    }
}
