//! What the machine is and has left, from `/proc` and the control groups around outgrow: cores, load,
//! processor time, memory, pressure. In a container the limits around it count as the machine's.
//!
//! Deliberately not here: what instances use (`resources`), and how many more would fit
//! (`supervise::room`).

use std::fs;

use crate::cgroup::{Allowance, allowance};

/// One look at the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// Thousandths of a core that outgrow and what it runs may use.
    pub cpu_thousandths: u64,
    /// The load averages of 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Clock ticks of all processors since the machine was started: in use, and all.
    pub ticks: Option<(u64, u64)>,
    /// How many processors these ticks are of.
    pub processors: u64,
    /// Memory that there is, in bytes.
    pub memory_total_bytes: Option<u64>,
    /// Memory that can be had without swapping, in bytes.
    pub memory_available_bytes: Option<u64>,
    /// The share of the last ten seconds in which some process waited for it, 0 to 1.
    pub pressure: Pressure,
}

/// Pressure stall information, where the kernel has it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// For a processor.
    pub cpu: Option<f64>,
    /// For memory.
    pub memory: Option<f64>,
    /// For reading and writing.
    pub io: Option<f64>,
}

/// What the machine is, without what it does at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Thousandths of a core that can be used.
    pub cpu_thousandths: u64,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
}

/// Measures how large it is.
pub fn size() -> Size {
    let allowed = allowance();
    let memory = memory(&read("/proc/meminfo"), &allowed);
    Size {
        cpu_thousandths: cpu_thousandths(processors(), &allowed),
        memory_bytes: memory.0,
    }
}

/// Looks at it: a few small files, for a thread that may block.
pub fn look() -> Machine {
    let allowed = allowance();
    let (total, available) = memory(&read("/proc/meminfo"), &allowed);
    let stat = read("/proc/stat");
    let pressure = |what: &str| some_avg10(&read(&format!("/proc/pressure/{what}")));
    Machine {
        cpu_thousandths: cpu_thousandths(processors(), &allowed),
        load: load(&read("/proc/loadavg")),
        ticks: ticks(&stat),
        processors: count_processors(&stat),
        memory_total_bytes: total,
        memory_available_bytes: available,
        pressure: Pressure {
            cpu: pressure("cpu"),
            memory: pressure("memory"),
            io: pressure("io"),
        },
    }
}

/// The share of all processors that was in use between two looks, 0 to 1; `None` when there was no
/// time between them.
pub fn used_share(before: &Machine, now: &Machine) -> Option<f64> {
    let ((used_before, all_before), (used, all)) = (before.ticks?, now.ticks?);
    let all = all.checked_sub(all_before).filter(|all| *all > 0)?;
    Some((used.saturating_sub(used_before) as f64 / all as f64).clamp(0.0, 1.0))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The processors that this process may run on.
fn processors() -> u64 {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => u64::from(set.count()).max(1),
        Err(_) => 1,
    }
}

fn cpu_thousandths(processors: u64, allowed: &Allowance) -> u64 {
    let all = processors.saturating_mul(1_000);
    allowed
        .cpu_thousandths
        .map_or(all, |limit| all.min(limit.into()))
}

/// Total and available.
fn memory(meminfo: &str, allowed: &Allowance) -> (Option<u64>, Option<u64>) {
    let of = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        let number: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        number.checked_mul(1024)
    };
    let least = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    (
        least(of("MemTotal:"), allowed.memory_bytes),
        least(of("MemAvailable:"), allowed.memory_left_bytes),
    )
}

fn load(loadavg: &str) -> Option<[f64; 3]> {
    let mut numbers = loadavg
        .split_ascii_whitespace()
        .map_while(|word| word.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

/// In use, and all, from the first line of `/proc/stat`.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; guests are in user and nice already.
    let numbers: Vec<u64> = line
        .split_ascii_whitespace()
        .take(8)
        .map_while(|word| word.parse().ok())
        .collect();
    let idle = numbers.get(3)?.saturating_add(*numbers.get(4)?);
    let all = numbers
        .iter()
        .fold(0_u64, |sum, one| sum.saturating_add(*one));
    Some((all.saturating_sub(idle), all))
}

fn count_processors(stat: &str) -> u64 {
    let is_one = |line: &&str| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    stat.lines().filter(is_one).count() as u64
}

/// `avg10` of the line `some`, as a share.
fn some_avg10(pressure: &str) -> Option<f64> {
    let line = pressure
        .lines()
        .find_map(|line| line.strip_prefix("some "))?;
    let mut words = line.split_ascii_whitespace();
    let percent = words.find_map(|word| word.strip_prefix("avg10="))?;
    let percent: f64 = percent.parse().ok()?;
    Some(percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       24683048 kB\nMemFree:        20783636 kB\n\
                           MemAvailable:   24081668 kB\nBuffers:           68 kB\n";

    #[test]
    fn memory_is_the_machines_or_what_is_allowed() {
        let none = Allowance::default();
        assert_eq!(
            memory(MEMINFO, &none),
            (Some(24_683_048 << 10), Some(24_081_668 << 10))
        );
        let container = Allowance {
            cpu_thousandths: Some(1_500),
            memory_bytes: Some(512 << 20),
            memory_left_bytes: Some(100 << 20),
        };
        assert_eq!(
            memory(MEMINFO, &container),
            (Some(512 << 20), Some(100 << 20))
        );
        assert_eq!(memory("", &none), (None, None));
        assert_eq!(memory("MemTotal: many kB\n", &none), (None, None));
        assert_eq!(cpu_thousandths(4, &container), 1_500);
        assert_eq!(cpu_thousandths(1, &container), 1_000);
        assert_eq!(cpu_thousandths(4, &none), 4_000);
    }

    #[test]
    fn the_used_share_is_between_two_looks() {
        let look = |stat: &str| Machine {
            ticks: ticks(stat),
            ..Machine::default()
        };
        let before = look("cpu  100 10 50 800 40 0 0 0 30 0\ncpu0 100 10 50 800 40 0 0 0 30 0\n");
        assert_eq!(before.ticks, Some((160, 1_000)));
        let now = look("cpu  130 10 70 840 50 0 0 0 60 0\n");
        assert_eq!(used_share(&before, &now), Some(0.5));
        assert_eq!(used_share(&now, &now), None);
        assert_eq!(used_share(&now, &look("nonsense")), None);
        assert_eq!(ticks("cpu  1 2 3\n"), None);
    }

    #[test]
    fn load_and_pressure_are_read() {
        assert_eq!(
            load("3.17 1.74 1.61 9/153 17375\n"),
            Some([3.17, 1.74, 1.61])
        );
        assert_eq!(load("3.17\n"), None);
        let text = "some avg10=93.00 avg60=48.60 avg300=20.75 total=6282131903\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(some_avg10(text), Some(0.93));
        assert_eq!(some_avg10("full avg10=1.00\n"), None);
        let stat = "cpu  1 2 3 4 5\ncpu0 1 2\ncpu1 1 2\nintr 12 3\n";
        assert_eq!(count_processors(stat), 2);
    }

    #[test]
    fn this_machine_is_measured() {
        let now = look();
        assert!(now.cpu_thousandths >= 10 && now.processors >= 1, "{now:?}");
        assert!(now.ticks.is_some() && now.load.is_some(), "{now:?}");
        let (total, available) = (now.memory_total_bytes, now.memory_available_bytes);
        assert!(available.unwrap() <= total.unwrap(), "{now:?}");
        assert_eq!(size().memory_bytes, total);
    }
}
