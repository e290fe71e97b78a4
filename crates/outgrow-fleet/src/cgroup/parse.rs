//! What the kernel's files about control groups say: pure, from their text. Nothing is read or
//! written here.

use std::path::{Path, PathBuf};

use crate::protocol::limits::Version;

/// The most lines that are looked at in one file.
const LINES_LIMIT: usize = 10_000;

/// One line of `/proc/PID/cgroup`: in which group of one hierarchy a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    /// The controllers of a v1 hierarchy; none for v2.
    pub(super) controllers: Vec<String>,
    pub(super) version: Version,
    /// From the hierarchy's root, or from that of the process's cgroup namespace.
    pub(super) path: String,
}

/// Reads `/proc/PID/cgroup`.
pub(super) fn memberships(text: &str) -> Vec<Membership> {
    text.lines()
        .take(LINES_LIMIT)
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let version = if number == "0" && controllers.is_empty() {
                Version::V2
            } else {
                Version::V1
            };
            Some(Membership {
                controllers: controllers
                    .split(',')
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect(),
                version,
                path: path.to_owned(),
            })
        })
        .collect()
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) version: Version,
    /// The controllers of a v1 hierarchy.
    pub(super) controllers: Vec<String>,
    /// Which part of the hierarchy is mounted.
    pub(super) root: String,
    /// Where.
    pub(super) point: PathBuf,
    pub(super) read_only: bool,
}

/// Reads the hierarchies out of `/proc/self/mountinfo`.
pub(super) fn mounts(text: &str) -> Vec<Mount> {
    text.lines().take(LINES_LIMIT).filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    // 36 35 98:0 /root /point rw,noatime shared:1 - type source rw,options
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let version = match after.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let _source = after.next()?;
    let super_options = after.next().unwrap_or_default();
    let mut before = before.split(' ').skip(3);
    let (root, point, options) = (before.next()?, before.next()?, before.next()?);
    let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
    let controllers = match version {
        Version::V1 => super_options
            .split(',')
            .filter(|option| !option.is_empty() && *option != "rw" && *option != "ro")
            .map(str::to_owned)
            .collect(),
        Version::V2 => Vec::new(),
    };
    Some(Mount {
        version,
        controllers,
        root: unescape(root),
        point: PathBuf::from(unescape(point)),
        read_only: is_read_only(options) || is_read_only(super_options),
    })
}

/// Blanks and the like are written as `\040` there.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The directory of the group `path` below this mount; `None` when it is not in the part that is
/// mounted.
pub(super) fn directory(mount: &Mount, path: &str) -> Option<PathBuf> {
    // What is outside of a cgroup namespace is shown with `..`.
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    let below = Path::new(path).strip_prefix(&mount.root).ok()?;
    // An empty rest would leave a slash at the end.
    if below.as_os_str().is_empty() {
        return Some(mount.point.clone());
    }
    Some(mount.point.join(below))
}

/// A number of a file of one line; `max` and what is no limit in v1 are `None`.
pub(super) fn limit(text: &str) -> Option<u64> {
    /// v1 writes the largest multiple of a page for "no limit".
    const NO_LIMIT: u64 = 1 << 62;
    text.trim().parse().ok().filter(|number| *number < NO_LIMIT)
}

/// The quota of `cpu.max` in thousandths of a core; `None`: no limit.
pub(super) fn cpu_max(text: &str) -> Option<u32> {
    let (quota, period) = text.trim().split_once(' ')?;
    thousandths(quota.parse().ok()?, period.parse().ok()?)
}

/// A quota in a period as thousandths of a core; `None`: no limit.
pub(super) fn thousandths(quota: i64, period: i64) -> Option<u32> {
    let quota = u64::try_from(quota).ok()?;
    let period = u64::try_from(period).ok().filter(|period| *period > 0)?;
    u32::try_from(quota.saturating_mul(1_000) / period).ok()
}

/// The value of `key` in a file of `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().take(LINES_LIMIT).find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}
