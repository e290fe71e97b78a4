//! Processes of this machine as `/proc` shows them: a tree by parent, and those
//! that carry a mark in their environment, wherever in the tree they are now.

use std::{fs, io};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// One process that is running (no zombie).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its command line.
    pub command: Vec<String>,
}

/// All processes that can be seen, in no order.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| read(name.parse().ok()?)).collect()
}

fn read(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last ')' may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = command
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    Some(Process {
        pid,
        parent,
        command: words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect(),
    })
}

/// The processes under `pid`, without itself.
pub fn under(pid: u32) -> Vec<Process> {
    let mut rest = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        let (children, others) = rest
            .into_iter()
            .partition(|one: &Process| one.parent == parent);
        rest = others;
        parents.extend(children.iter().map(|one| one.pid));
        found.extend(children);
    }
    found
}

/// The processes that were started with `entry` (`NAME=value`) in their environment.
pub fn marked(entry: &str) -> Vec<Process> {
    let has = |pid: u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|one| one == entry.as_bytes())
    };
    all().into_iter().filter(|one| has(one.pid)).collect()
}

/// Whether this process is running (a zombie is not).
pub fn is_running(pid: u32) -> bool {
    read(pid).is_some()
}

/// Sends a signal to one process.
///
/// # Errors
/// When there is no such process, or it may not be signalled.
pub fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // 0 and 1 are never a test's own: 0 would mean the whole group.
    let id = id.filter(|_| pid > 1);
    let id = id.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(kill_process(id, signal)?)
}

/// SIGKILL to one process.
///
/// # Errors
/// As [`signal`].
pub fn kill9(pid: u32) -> io::Result<()> {
    signal(pid, Signal::KILL)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::*;
    use crate::wait;

    #[test]
    fn finds_children_and_marked_ones_and_kills() {
        let mark = format!("OUTGROW_TESTKIT_MARK=self-{}", std::process::id());
        let (name, value) = mark.split_once('=').unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .env(name, value)
            .spawn()
            .unwrap();
        let soon = Duration::from_secs(10);
        let sleeper = wait::until("the shell's child", soon, || {
            under(shell.id())
                .into_iter()
                .find(|one| one.command == ["sleep", "60"])
        });
        let sleeper = sleeper.unwrap();
        assert_eq!(sleeper.parent, shell.id());
        assert!(
            under(std::process::id())
                .iter()
                .any(|one| one.pid == sleeper.pid)
        );
        let mut pids: Vec<u32> = marked(&mark).iter().map(|one| one.pid).collect();
        pids.sort_unstable();
        let mut expected = vec![shell.id(), sleeper.pid];
        expected.sort_unstable();
        assert_eq!(pids, expected);
        kill9(sleeper.pid).unwrap();
        shell.wait().unwrap();
        wait::until("both gone", soon, || marked(&mark).is_empty().then_some(())).unwrap();
        assert!(!is_running(sleeper.pid));
        assert!(kill9(0).is_err() && kill9(1).is_err());
    }
}
