//! What an outgrow leaves behind when all of it is killed: its control groups. The next one that is
//! started in the same group removes them. The name of a keeper's group tells whose it is; a group
//! that still holds a process is never removed, since the kernel refuses, and nothing else is ever
//! touched.

use std::fs;
use std::path::{Path, PathBuf};

use crate::processes::start_of;
use crate::protocol::limits::Controller;

/// What the names of our groups begin with.
const PREFIX: &str = "outgrow-";
/// The most groups that are looked at.
const SWEEP_LIMIT: usize = 10_000;

/// The name of this keeper's group: its pid namespace, pid and time of start, which an exec does not
/// change.
pub(super) fn own_name() -> Option<String> {
    let pid = std::process::id();
    Some(format!(
        "{PREFIX}{}-{pid}-{}",
        pid_namespace()?,
        start_of(pid)?
    ))
}

/// The number of our pid namespace: pids of another one say nothing here.
fn pid_namespace() -> Option<u64> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    let text = link.to_str()?;
    text.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// Removes what outgrows that are gone have left in our group; how many groups went.
pub(crate) fn sweep() -> usize {
    let (Ok(layout), Some(namespace)) = (super::layout(), pid_namespace()) else {
        return 0;
    };
    let mut bases: Vec<&Path> = Vec::new();
    for base in Controller::ALL
        .iter()
        .filter_map(|controller| layout.of(*controller).as_ref().ok())
    {
        if !bases.contains(&base.directory.as_path()) {
            bases.push(&base.directory);
        }
    }
    bases
        .into_iter()
        .map(|base| sweep_in(base, &|name| is_dead(name, namespace, &|pid| start_of(pid))))
        .sum()
}

pub(super) fn sweep_in(base: &Path, is_dead: &dyn Fn(&str) -> bool) -> usize {
    let mut removed = 0;
    for directory in subdirectories(base) {
        let name = directory.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(is_dead) {
            continue;
        }
        for group in subdirectories(&directory) {
            removed += usize::from(fs::remove_dir(group).is_ok());
        }
        removed += usize::from(fs::remove_dir(directory).is_ok());
    }
    removed
}

/// Whether it is the name of a group whose keeper is gone. `start_of` tells when a process was
/// started.
pub(super) fn is_dead(name: &str, namespace: u64, start_of: &dyn Fn(u32) -> Option<u64>) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let parts: Vec<Option<u64>> = rest.split('-').map(|part| part.parse().ok()).collect();
    let [Some(of), Some(pid), Some(start)] = parts[..] else {
        return false;
    };
    let Ok(pid) = u32::try_from(pid) else {
        return false;
    };
    of == namespace && start_of(pid) != Some(start)
}

pub(super) fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .take(SWEEP_LIMIT)
        .filter_map(|entry| {
            let entry = entry.ok()?;
            entry.file_type().ok()?.is_dir().then(|| entry.path())
        })
        .collect()
}
