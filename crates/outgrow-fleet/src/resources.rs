//! What instances use: processor time and memory, summed over all processes of
//! each, from one walk over `/proc`.

use std::io;
use std::time::Duration;

use crate::processes::Processes;

/// What one instance used and uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Processor time since its start, that of ended processes included. Goes
    /// down only when the instance is started anew (or a process ends whose
    /// parent ignores its death).
    pub cpu: Duration,
    /// Resident memory in bytes. Pages shared by several of its processes are
    /// counted for each.
    pub resident_bytes: u64,
    /// How many processes it has.
    pub processes: u32,
    /// How many threads they have together.
    pub threads: u64,
}

/// Samples instances by the pids of their shims (`InstanceReport::shim`), in
/// that order; `None` for one that is gone. One call walks over `/proc` once
/// (about a millisecond per hundred processes of the machine): it is for a
/// thread that may block, every second or so.
pub fn sample(shims: &[u32]) -> io::Result<Vec<Option<Resources>>> {
    let processes = Processes::scan()?;
    let units = Units::of_this_machine();
    Ok(shims
        .iter()
        .map(|shim| sum(&processes, *shim, units))
        .collect())
}

#[derive(Clone, Copy, Debug)]
struct Units {
    ticks_per_second: u64,
    page_bytes: u64,
}

impl Units {
    fn of_this_machine() -> Self {
        Self {
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            page_bytes: rustix::param::page_size() as u64,
        }
    }
}

fn sum(processes: &Processes, shim: u32, units: Units) -> Option<Resources> {
    let shim = processes.get(shim)?;
    // The shim itself is ours; but what it reaped was the instance's.
    let mut ticks = shim.reaped_ticks;
    let mut resources = Resources::default();
    for process in processes.descendants(shim.pid) {
        ticks = ticks
            .saturating_add(process.own_ticks)
            .saturating_add(process.reaped_ticks);
        if !process.is_dead() {
            resources.resident_bytes = resources
                .resident_bytes
                .saturating_add(process.resident_pages.saturating_mul(units.page_bytes));
            resources.processes += 1;
            resources.threads = resources.threads.saturating_add(process.threads);
        }
    }
    let milliseconds = ticks.saturating_mul(1000) / units.ticks_per_second.max(1);
    resources.cpu = Duration::from_millis(milliseconds);
    Some(resources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::Process;

    fn process(pid: u32, parent: u32, state: char) -> Process {
        Process {
            pid,
            parent,
            group: pid,
            state,
            own_ticks: 10,
            reaped_ticks: 100,
            threads: 2,
            start_ticks: 1,
            resident_pages: 5,
        }
    }

    #[test]
    fn an_instance_is_everything_below_its_shim() {
        let processes = Processes::from_list(vec![
            process(2, 1, 'S'),
            process(3, 2, 'S'),
            process(4, 3, 'R'),
            process(5, 3, 'Z'),
            process(9, 1, 'S'),
        ]);
        let units = Units {
            ticks_per_second: 100,
            page_bytes: 4096,
        };
        let resources = sum(&processes, 2, units).unwrap();
        let expected = Resources {
            // 100 reaped by the shim, 110 for each of three descendants.
            cpu: Duration::from_millis(4_300),
            resident_bytes: 2 * 5 * 4096,
            processes: 2,
            threads: 4,
        };
        assert_eq!(resources, expected);
        assert_eq!(sum(&processes, 77, units), None);
    }

    #[test]
    fn a_real_child_is_measured() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        // For a moment around its exec a process has no memory of its own.
        let limit = std::time::Instant::now() + Duration::from_secs(10);
        let resources = loop {
            let resources = sample(&[std::process::id(), u32::MAX]).unwrap();
            let measured = resources[0].is_some_and(|mine| mine.resident_bytes > 0);
            if measured || std::time::Instant::now() > limit {
                break resources;
            }
            std::thread::yield_now();
        };
        child.kill().unwrap();
        child.wait().unwrap();
        let mine = resources[0].unwrap();
        assert!(mine.processes >= 1 && mine.resident_bytes > 0, "{mine:?}");
        assert_eq!(resources[1], None);
    }
}
