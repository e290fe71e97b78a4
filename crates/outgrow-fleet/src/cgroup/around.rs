//! What the groups around outgrow allow it: the smallest limits from its own group up to where it
//! can see. In a container they are the machine that it has.

use std::fs;
use std::path::Path;

use super::layout::{Base, Layout};
use super::parse;
use crate::protocol::limits::{Controller, Version};

/// How many groups above each other are looked at.
const DEPTH_LIMIT: usize = 64;

/// The smallest limits, and what is used of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Processor time, in thousandths of a core.
    pub cpu_thousandths: Option<u32>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// What is left of the scarcest memory limit; files that can be dropped count as left.
    pub memory_left_bytes: Option<u64>,
}

/// What is allowed to this process. Nothing where there are no control groups.
pub fn allowance() -> Allowance {
    super::layout().map_or_else(|_| Allowance::default(), |layout| of_layout(&layout))
}

pub(super) fn of_layout(layout: &Layout) -> Allowance {
    let base = |controller| layout.of(controller).as_ref().ok();
    let mut allowance = Allowance::default();
    for_each(base(Controller::Cpu), |directory, version| {
        let limit = cpu(directory, version);
        allowance.cpu_thousandths = least(allowance.cpu_thousandths, limit);
    });
    for_each(base(Controller::Memory), |directory, version| {
        let Some((limit, used)) = memory(directory, version) else {
            return;
        };
        let left = Some(limit.saturating_sub(used));
        allowance.memory_bytes = least(allowance.memory_bytes, Some(limit));
        allowance.memory_left_bytes = least(allowance.memory_left_bytes, left);
    });
    allowance
}

fn least<T: Ord + Copy>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn for_each(base: Option<&Base>, mut look: impl FnMut(&Path, Version)) {
    let Some(base) = base else { return };
    for directory in base.directory.ancestors().take(DEPTH_LIMIT) {
        look(directory, base.version);
        if directory == base.top {
            return;
        }
    }
}

fn read(directory: &Path, file: &str) -> Option<String> {
    fs::read_to_string(directory.join(file)).ok()
}

fn cpu(directory: &Path, version: Version) -> Option<u32> {
    match version {
        Version::V1 => {
            let number = |file| read(directory, file)?.trim().parse().ok();
            parse::thousandths(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
        }
        Version::V2 => parse::cpu_max(&read(directory, "cpu.max")?),
    }
}

/// The limit, and what is used without the files that can be dropped.
fn memory(directory: &Path, version: Version) -> Option<(u64, u64)> {
    let (limit, used, droppable) = match version {
        Version::V1 => (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
        Version::V2 => ("memory.max", "memory.current", "inactive_file"),
    };
    let limit = parse::limit(&read(directory, limit)?)?;
    let used = parse::limit(&read(directory, used)?)?;
    let files = read(directory, "memory.stat").and_then(|text| parse::keyed(&text, droppable));
    Some((limit, used.saturating_sub(files.unwrap_or(0))))
}
