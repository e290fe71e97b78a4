//! The groups of one instance: made, written, entered for the moment in which the command is
//! started, read, removed. The shim does all this but the reading, which is the data process's; the
//! keeper removes.
//!
//! A process is put into its group by its parent being there: the shim enters, starts the command,
//! and leaves. So nothing of the instance ever runs outside, and no code runs between fork and exec.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use outgrow_core::settings::{ByteSize, Decimal};

use super::house::{pids, write};
use super::parse;
use crate::protocol::limits::{Controller, Grant, Limits, Place, Version};

/// The period of the processor quota in microseconds, the kernel's default.
const PERIOD_MICROSECONDS: u64 = 100_000;
/// How often processes are looked for again that fork while they are moved.
const ADOPT_ROUNDS: usize = 16;

/// What came of writing limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) in_force: Limits,
    pub(crate) problems: Vec<String>,
}

/// Makes the groups that are wanted and writes the limits. `before`: what is in force.
pub(crate) fn apply(grant: &Grant, wanted: Limits, before: Limits) -> Outcome {
    let mut outcome = Outcome {
        in_force: Limits {
            required: wanted.required,
            ..before
        },
        problems: Vec::new(),
    };
    for controller in Controller::ALL {
        if !wanted.wants(controller) && !before.wants(controller) {
            continue;
        }
        let written = match grant.of(controller) {
            Ok(place) => set(place, controller, wanted, before),
            Err(problem) => Err(problem.clone()),
        };
        match written {
            Ok(()) => copy(controller, wanted, &mut outcome.in_force),
            Err(problem) => outcome.problems.push(format!("{controller}: {problem}")),
        }
    }
    outcome
}

fn copy(controller: Controller, from: Limits, to: &mut Limits) {
    match controller {
        Controller::Cpu => to.cpu_thousandths = from.cpu_thousandths,
        Controller::Memory => to.memory_bytes = from.memory_bytes,
        Controller::Processes => to.processes = from.processes,
    }
}

fn set(
    place: &Place,
    controller: Controller,
    wanted: Limits,
    before: Limits,
) -> Result<(), String> {
    let directory = &place.directory;
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(format!("{} cannot be made: {error}", directory.display()));
        }
        _ => {}
    }
    let put = |file: &str, text: &str| write(&directory.join(file), text);
    match (controller, place.version) {
        (Controller::Cpu, version) => {
            let text = wanted.cpu_thousandths.map(cpu_text).unwrap_or_default();
            let written = match version {
                Version::V1 => {
                    put("cpu.cfs_period_us", &PERIOD_MICROSECONDS.to_string()).and_then(|()| {
                        let none = "-1".to_owned();
                        put("cpu.cfs_quota_us", text.quota.as_ref().unwrap_or(&none))
                    })
                }
                Version::V2 => {
                    let quota = text.quota.as_deref().unwrap_or("max");
                    put("cpu.max", &format!("{quota} {PERIOD_MICROSECONDS}"))
                }
            };
            written.map_err(|error| refused(place, &text.shown, &error))
        }
        (Controller::Memory, Version::V1) => {
            let text = wanted
                .memory_bytes
                .map_or("-1".to_owned(), |b| b.to_string());
            put("memory.limit_in_bytes", &text).map_err(|error| match error.raw_os_error() {
                Some(16) => in_use(place, wanted, before),
                _ => refused(place, &shown_memory(wanted), &error),
            })
        }
        (Controller::Memory, Version::V2) => {
            // v1 refuses what is in use; v2 would kill for it.
            let kept = unreclaimable(directory);
            if wanted.memory_bytes.is_some_and(|limit| limit < kept) {
                return Err(in_use(place, wanted, before));
            }
            let text = wanted
                .memory_bytes
                .map_or("max".to_owned(), |b| b.to_string());
            put("memory.max", &text).map_err(|error| refused(place, &shown_memory(wanted), &error))
        }
        (Controller::Processes, _) => {
            let text = wanted.processes.map_or("max".to_owned(), |n| n.to_string());
            put("pids.max", &text).map_err(|error| refused(place, &text, &error))
        }
    }
}

/// A processor limit as the kernel wants it and as people do.
#[derive(Default)]
struct CpuText {
    quota: Option<String>,
    shown: String,
}

fn cpu_text(thousandths: u32) -> CpuText {
    let quota = u64::from(thousandths) * PERIOD_MICROSECONDS / 1_000;
    CpuText {
        quota: Some(quota.to_string()),
        shown: format!("{} cores", Decimal::thousandths(thousandths)),
    }
}

fn shown_memory(limits: Limits) -> String {
    shown_bytes(limits.memory_bytes)
}

fn shown_bytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "no limit".to_owned(), people_bytes)
}

/// Bytes as people write them: as in a file where that is short, else rounded to a tenth.
pub fn people_bytes(bytes: u64) -> String {
    const SHORT_DIGITS: usize = 4;
    let whole = ByteSize(bytes).to_string();
    let digits = whole.bytes().take_while(u8::is_ascii_digit).count();
    let has_unit = digits < whole.len();
    if digits <= SHORT_DIGITS && (has_unit || bytes < 1 << 10) {
        return whole;
    }
    let units = [
        ("TiB", 1_u64 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    let (unit, size) = units
        .into_iter()
        .find(|(_, size)| bytes >= *size)
        .unwrap_or(("KiB", 1 << 10));
    format!("{:.1}{unit}", bytes as f64 / size as f64)
}

fn in_use(place: &Place, wanted: Limits, before: Limits) -> String {
    let used = usage_of(place, Controller::Memory).map_or(String::new(), |used| {
        format!(" ({} now)", people_bytes(used))
    });
    format!(
        "it uses more than {}{used} and that cannot be taken back: {} stays in force, and the new \
         limit holds from its next start (outgrow deploy replaces it)",
        shown_memory(wanted),
        shown_bytes(before.memory_bytes)
    )
}

fn refused(place: &Place, value: &str, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::InvalidInput => "; a group around outgrow may allow less",
        _ => "",
    };
    format!(
        "{value} cannot be set in {}: {error}{hint}",
        place.directory.display()
    )
}

/// What cannot be given up without killing, in bytes.
fn unreclaimable(directory: &Path) -> u64 {
    let text = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
    ["anon", "unevictable", "shmem", "kernel_stack", "pagetables"]
        .iter()
        .filter_map(|key| parse::keyed(&text, key))
        .fold(0, u64::saturating_add)
}

/// Runs `start` with this process in the instance's groups, and comes back out of them. `start`
/// is told why it could not enter them all.
pub(crate) fn within<T>(grant: &Grant, start: impl FnOnce(&[String]) -> T) -> (T, Vec<String>) {
    let mut problems = Vec::new();
    let mut entered = Vec::new();
    for place in made(grant) {
        match enter(&place.directory) {
            Ok(()) => entered.push(place),
            Err(error) => problems.push(format!(
                "{} cannot be entered: {error}",
                place.directory.display()
            )),
        }
    }
    let started = start(&problems);
    for place in entered {
        if let Err(error) = enter(&place.outside) {
            problems.push(format!(
                "the shim cannot leave {}: {error}",
                place.directory.display()
            ));
        }
    }
    (started, problems)
}

/// The groups that there are.
fn made(grant: &Grant) -> Vec<&Place> {
    let mut places = grant.places();
    places.retain(|place| place.directory.is_dir());
    places
}

fn enter(directory: &Path) -> io::Result<()> {
    write(
        &directory.join("cgroup.procs"),
        &std::process::id().to_string(),
    )
}

/// Brings processes that run into the groups. `of_instance` gives their pids; asked again until
/// all are there, since they may fork meanwhile.
pub(crate) fn adopt(grant: &Grant, of_instance: &dyn Fn() -> io::Result<Vec<u32>>) -> Vec<String> {
    let mut problems = Vec::new();
    for place in made(grant) {
        if let Err(problem) = adopt_in(place, of_instance) {
            problems.push(problem);
        }
    }
    problems
}

fn adopt_in(place: &Place, of_instance: &dyn Fn() -> io::Result<Vec<u32>>) -> Result<(), String> {
    let failed = |error: io::Error| {
        format!(
            "its processes cannot be moved to {}: {error}",
            place.directory.display()
        )
    };
    for _ in 0..ADOPT_ROUNDS {
        let inside = pids(&place.directory).map_err(failed)?;
        let mut moved = false;
        for pid in of_instance().map_err(failed)? {
            if inside.contains(&pid) {
                continue;
            }
            match write(&place.directory.join("cgroup.procs"), &pid.to_string()) {
                Ok(()) => moved = true,
                // It has ended.
                Err(error) if error.raw_os_error() == Some(3) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if !moved {
            return Ok(());
        }
    }
    Err(failed(io::Error::other("they fork too fast")))
}

/// Removes the groups. One that still holds a process stays.
pub(crate) fn remove(grant: &Grant) {
    for place in grant.places() {
        let _ = fs::remove_dir(&place.directory);
    }
}

/// Removes the groups, and the one that they are in if it was the last.
pub(crate) fn remove_with_parents(grant: &Grant) {
    remove(grant);
    for parent in grant
        .places()
        .iter()
        .filter_map(|place| place.directory.parent())
    {
        let _ = fs::remove_dir(parent);
    }
}

/// What the kernel counts for an instance with limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How long it was held back at its processor limit since its start, summed over processors.
    pub throttled: Option<Duration>,
    /// How many of its processes were killed at its memory limit.
    pub oom_kills: Option<u64>,
    /// Memory that counts for its limit, with the files that the kernel keeps for it.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// Reads what there is.
pub fn usage(grant: &Grant) -> Usage {
    let place = |controller| grant.of(controller).as_ref().ok();
    Usage {
        throttled: place(Controller::Cpu).and_then(throttled),
        oom_kills: place(Controller::Memory).and_then(oom_kills),
        memory_bytes: place(Controller::Memory)
            .and_then(|place| usage_of(place, Controller::Memory)),
        processes: place(Controller::Processes)
            .and_then(|place| usage_of(place, Controller::Processes)),
    }
}

fn read(place: &Place, file: &str) -> Option<String> {
    fs::read_to_string(place.directory.join(file)).ok()
}

fn throttled(place: &Place) -> Option<Duration> {
    let text = read(place, "cpu.stat")?;
    match place.version {
        Version::V1 => parse::keyed(&text, "throttled_time").map(Duration::from_nanos),
        Version::V2 => parse::keyed(&text, "throttled_usec").map(Duration::from_micros),
    }
}

/// How many processes were killed at the memory limit.
pub(crate) fn oom_kills(place: &Place) -> Option<u64> {
    let file = match place.version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    parse::keyed(&read(place, file)?, "oom_kill")
}

fn usage_of(place: &Place, controller: Controller) -> Option<u64> {
    let file = match (controller, place.version) {
        (Controller::Memory, Version::V1) => "memory.usage_in_bytes",
        (Controller::Memory, Version::V2) => "memory.current",
        (Controller::Processes, _) => "pids.current",
        (Controller::Cpu, _) => return None,
    };
    parse::limit(&read(place, file)?)
}
