//! What instances and the machine use, looked at every two seconds on a thread that may block, and
//! remembered for ten: processor time is told as what was used in that window. How it is shown is in
//! [`super::resources`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use outgrow_fleet::cgroup::{self, Usage, people_bytes};
use outgrow_fleet::machine::{self, Machine, used_share};
use outgrow_fleet::protocol::limits::Grant;
use outgrow_fleet::resources::{self, Resources};

use super::log;
use super::view::View;

/// From one look to the next.
const SAMPLE: Duration = Duration::from_secs(2);
/// How many looks are remembered.
const LOOKS: usize = 6;

/// The looks that are remembered.
#[derive(Debug, Default)]
pub(super) struct Measurements {
    machine: VecDeque<Machine>,
    /// By the pid of their shim: a start that comes later has another one.
    instances: BTreeMap<u32, VecDeque<Look>>,
}

/// One look at an instance.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    resources: Resources,
    usage: Usage,
}

/// What an instance uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) resources: Resources,
    /// In the last seconds, in thousandths of a core.
    pub(super) cpu_thousandths: Option<u64>,
    /// What its control groups count.
    pub(super) usage: Usage,
}

/// What the machine does.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MachineUsed {
    pub(super) now: Machine,
    /// The share of all processors that was in use in the last seconds.
    pub(super) used_share: Option<f64>,
}

impl Measurements {
    /// Takes a look at an instance; how many more of its processes were killed for memory than at
    /// the one before. Those of one that is `inherited` may have been told of by who was before.
    fn note(&mut self, shim: u32, look: Look, inherited: bool) -> u64 {
        let looks = self.instances.entry(shim).or_default();
        let before = match looks.back() {
            Some(before) => before.usage.oom_kills,
            None if inherited => look.usage.oom_kills,
            None => Some(0),
        };
        push(looks, look);
        let more = look.usage.oom_kills.zip(before);
        more.map_or(0, |(now, before)| now.saturating_sub(before))
    }

    fn note_machine(&mut self, machine: Machine) {
        push(&mut self.machine, machine);
    }

    fn retain(&mut self, shims: &[u32]) {
        self.instances.retain(|shim, _| shims.contains(shim));
    }

    /// What the instance of this shim uses.
    pub(super) fn of(&self, shim: u32) -> Option<Used> {
        let looks = self.instances.get(&shim)?;
        let (first, last) = (looks.front()?, looks.back()?);
        let time = last.at.saturating_duration_since(first.at);
        let cpu = last.resources.cpu.saturating_sub(first.resources.cpu);
        let thousandths = cpu.as_millis() * 1_000 / time.as_millis().max(1);
        let is_measured = time >= SAMPLE / 2;
        Some(Used {
            resources: last.resources,
            cpu_thousandths: is_measured.then(|| u64::try_from(thousandths).unwrap_or(u64::MAX)),
            usage: last.usage,
        })
    }

    /// What the machine does.
    pub(super) fn machine(&self) -> Option<MachineUsed> {
        let (first, last) = (self.machine.front()?, self.machine.back()?);
        Some(MachineUsed {
            now: last.clone(),
            used_share: used_share(first, last),
        })
    }
}

fn push<T>(looks: &mut VecDeque<T>, look: T) {
    if looks.len() >= LOOKS {
        looks.pop_front();
    }
    looks.push_back(look);
}

/// An instance that is looked at.
#[derive(Clone)]
struct Subject {
    name: String,
    shim: u32,
    inherited: bool,
    grant: Option<Grant>,
    memory_limit: Option<u64>,
}

/// Looks, again and again.
pub(super) async fn measure(view: Arc<View>) {
    loop {
        let subjects: Vec<Subject> = view
            .instances()
            .iter()
            .filter_map(|view| {
                let report = &view.known.report;
                let limits = report.limits.as_ref();
                Some(Subject {
                    name: report.spec.name.clone(),
                    shim: report.shim?,
                    inherited: view.known.inherited_shim == report.shim,
                    grant: limits.and_then(|limits| limits.grant.clone()),
                    memory_limit: limits.and_then(|limits| limits.in_force.memory_bytes),
                })
            })
            .collect();
        let looked = tokio::task::spawn_blocking(move || look(subjects)).await;
        if let Ok((machine, looks)) = looked {
            take(&view, machine, looks);
        }
        tokio::time::sleep(SAMPLE).await;
    }
}

fn look(subjects: Vec<Subject>) -> (Machine, Vec<(Subject, Option<Look>)>) {
    let shims: Vec<u32> = subjects.iter().map(|subject| subject.shim).collect();
    // Without instances there is no need to walk over /proc.
    let samples = match shims.is_empty() {
        true => Vec::new(),
        false => resources::sample(&shims).unwrap_or_default(),
    };
    let mut samples = samples.into_iter();
    let looks = subjects.into_iter().map(|subject| {
        let usage = subject.grant.as_ref().map(cgroup::usage);
        let look = samples.next().flatten().map(|resources| Look {
            at: Instant::now(),
            resources,
            usage: usage.unwrap_or_default(),
        });
        (subject, look)
    });
    let looks = looks.collect();
    (machine::look(), looks)
}

fn take(view: &View, machine: Machine, looks: Vec<(Subject, Option<Look>)>) {
    let shims: Vec<u32> = looks.iter().map(|(subject, _)| subject.shim).collect();
    let mut killed = Vec::new();
    {
        let mut measured = view.measured.lock().unwrap_or_else(PoisonError::into_inner);
        measured.note_machine(machine);
        measured.retain(&shims);
        for (subject, look) in looks {
            let Some(look) = look else { continue };
            let more = measured.note(subject.shim, look, subject.inherited);
            if more > 0 {
                killed.push((subject, more));
            }
        }
    }
    for (subject, more) in killed {
        let limit = subject
            .memory_limit
            .map_or_else(String::new, |limit| format!(" of {}", people_bytes(limit)));
        log::warn(&format!(
            "{}: processes killed because it used more than its memory limit{limit} \
             (resources.memory): {more}",
            subject.name
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(begin: Instant, at_ms: u64, cpu_ms: u64, oom_kills: u64) -> Look {
        Look {
            at: begin + Duration::from_millis(at_ms),
            resources: Resources {
                cpu: Duration::from_millis(cpu_ms),
                ..Resources::default()
            },
            usage: Usage {
                oom_kills: Some(oom_kills),
                ..Usage::default()
            },
        }
    }

    #[test]
    fn processor_time_is_that_of_the_last_seconds() {
        let begin = Instant::now();
        let mut measured = Measurements::default();
        measured.note(7, look(begin, 0, 9_000, 0), false);
        let rate = |measured: &Measurements| measured.of(7).unwrap().cpu_thousandths;
        assert_eq!(rate(&measured), None, "one look is no time");
        measured.note(7, look(begin, 2_000, 10_000, 0), false);
        assert_eq!(rate(&measured), Some(500));
        for second in 2..8 {
            measured.note(7, look(begin, second * 2_000, 10_000, 0), false);
        }
        assert_eq!(rate(&measured), Some(0), "what was before is forgotten");
        measured.retain(&[8]);
        assert_eq!(measured.of(7), None);
    }

    #[test]
    fn processes_killed_since_the_last_look_are_counted() {
        let begin = Instant::now();
        let mut measured = Measurements::default();
        let mut more =
            |shim, at, kills, inherited| measured.note(shim, look(begin, at, 0, kills), inherited);
        assert_eq!(more(7, 0, 3, true), 0, "told by who was before");
        assert_eq!(more(7, 10, 3, true), 0);
        assert_eq!(more(7, 20, 5, true), 2);
        assert_eq!(more(8, 30, 1, false), 1, "before the first look");
    }
}
