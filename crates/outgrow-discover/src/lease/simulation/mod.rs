//! Boxes, a registry and a network with faults, in simulated time: at no moment do two boxes
//! believe that they hold the lease. The seed is told with what is wrong.

mod network;
mod registry;

use std::time::Duration;

use outgrow_core::Random;

use self::network::Message;
use self::registry::Registry;
use super::holder::Holder;
use super::kubernetes::sight::Sight;
use super::time::BootTime;

/// Milliseconds.
type Time = u64;

const TTL: Time = 3_000;
const STEP: Time = 5;
const FAULTS_END: Time = 60_000;
const END: Time = FAULTS_END + 6 * TTL;
const BOXES: usize = 3;
/// How much clocks differ in speed, at most: more than any that work.
const DRIFT: f64 = 0.02;

/// The kind of registry, and how belief is counted; the wrong ways must be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One that counts the time itself; belief from the question on.
    Timed,
    /// The same; belief from the answer on.
    TimedFromAnswer,
    /// One that compares versions.
    Versioned,
    /// The same; belief from the answer on.
    VersionedFromAnswer,
    /// The same; another one's is over by the time that it was written with.
    VersionedByTheirClock,
    /// The same; nothing is compared.
    Unversioned,
}

impl Way {
    fn registry(self) -> Registry {
        match self {
            Self::Timed | Self::TimedFromAnswer => Registry::Timed(None),
            _ => Registry::Versioned {
                stored: None,
                compares: self != Self::Unversioned,
            },
        }
    }

    fn is_from_answer(self) -> bool {
        matches!(self, Self::TimedFromAnswer | Self::VersionedFromAnswer)
    }
}

struct Process {
    number: u64,
    holder: Holder,
    /// Of a registry that compares versions.
    sight: Sight,
    /// Which version it has written last itself, unless it knows better.
    ours: Option<u64>,
    waits_until: BootTime,
    /// It draws no breath until then.
    stopped_until: Time,
    /// One of an upgrade that asks no more.
    is_old: bool,
}

struct Machine {
    processes: Vec<Process>,
    /// Of all processes until the lease was given back: then the next one has another, since the
    /// giving back may arrive late.
    identity: u64,
    offset: Time,
    speed: f64,
}

impl Machine {
    fn clock(&self, now: Time) -> BootTime {
        let millis = (now + self.offset) as f64 * self.speed;
        BootTime((millis * 1e6) as u64)
    }

    /// What time it is here, which is as far from that of others.
    fn wall(&self, now: Time) -> Time {
        self.clock(now).0 / 1_000_000
    }

    fn believes(&self, now: Time) -> bool {
        let now = self.clock(now);
        self.processes.iter().any(|one| one.holder.believes(now))
    }
}

struct Simulation {
    random: Random,
    way: Way,
    machines: Vec<Machine>,
    messages: Vec<Message>,
    registry: Registry,
    numbers: u64,
    /// How often another box came to believe.
    changes: u32,
    last: Option<usize>,
}

impl Simulation {
    fn new(seed: u64, way: Way) -> Self {
        let mut random = Random::from_seed(seed);
        let machine = |_| Machine {
            processes: Vec::new(),
            identity: 0,
            offset: random.below(1_000_000) as Time,
            speed: 1.0 + DRIFT * (random.unit() - 0.5),
        };
        let machines = (0..BOXES).map(machine).collect();
        let mut simulation = Self {
            random,
            way,
            machines,
            messages: Vec::new(),
            registry: way.registry(),
            numbers: 0,
            changes: 0,
            last: None,
        };
        for owner in 0..BOXES {
            simulation.machines[owner].identity = owner as u64;
            simulation.start(owner, None);
        }
        simulation
    }

    fn start(&mut self, owner: usize, until: Option<BootTime>) {
        self.numbers += 1;
        let (ttl, look) = (Duration::from_millis(TTL), Duration::from_millis(TTL / 4));
        self.machines[owner].processes.push(Process {
            number: self.numbers,
            holder: Holder::new(ttl, look, until),
            sight: Sight::default(),
            ours: None,
            waits_until: BootTime::default(),
            stopped_until: 0,
            is_old: false,
        });
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.random.below(one_in) == 0
    }

    /// Whether it went well: at no moment did two believe.
    fn run(&mut self) -> Result<(), Time> {
        for now in (0..END).step_by(STEP as usize) {
            if now < FAULTS_END {
                self.fault(now);
            }
            self.deliver(now);
            self.ask(now);
            let believers: Vec<usize> = (0..BOXES)
                .filter(|owner| self.machines[*owner].believes(now))
                .collect();
            match believers.as_slice() {
                [] => {}
                [one] if self.last == Some(*one) => {}
                [one] => (self.last, self.changes) = (Some(*one), self.changes + 1),
                _ => return Err(now),
            }
        }
        let holding = (0..BOXES).filter(|owner| self.machines[*owner].believes(END));
        assert_eq!(
            holding.count(),
            1,
            "in the end all is well, and one holds it"
        );
        Ok(())
    }

    fn fault(&mut self, now: Time) {
        if !self.chance(200) {
            return;
        }
        let owner = self.random.below(BOXES);
        match self.random.below(5) {
            // Stopped, or the machine sleeps: the clock goes on.
            0 => {
                let until = now + self.random.below(3 * TTL as usize) as Time;
                for process in &mut self.machines[owner].processes {
                    process.stopped_until = until;
                }
            }
            // Killed; the next one knows what the keeper was told.
            1 => {
                let known = self.machines[owner].processes.last();
                let until = known.and_then(|process| process.holder.until());
                self.machines[owner].processes.clear();
                self.start(owner, until);
                let pause = self.random.below(TTL as usize) as Time;
                if let Some(process) = self.machines[owner].processes.last_mut() {
                    process.stopped_until = now + pause;
                }
            }
            // Upgraded: the old one lives on for a while and asks no more.
            2 => {
                let machine = &mut self.machines[owner];
                machine.processes.truncate(2);
                for process in &mut machine.processes {
                    process.is_old = true;
                }
                let known = machine.processes.last();
                let until = known.and_then(|process| process.holder.until());
                self.start(owner, until);
            }
            // Stopped for good: believed no more, given back, and started anew.
            3 => {
                self.machines[owner].processes.clear();
                self.send(owner, 0, now, true);
                self.machines[owner].identity += BOXES as u64;
                self.start(owner, None);
            }
            // The registry forgets nothing, but nobody reaches it for a while.
            _ => {
                let lost = now + self.random.below(2 * TTL as usize) as Time;
                for message in &mut self.messages {
                    message.arrives = message.arrives.max(lost);
                }
            }
        }
    }
}

fn check(way: Way) {
    let mut changes = 0;
    for seed in 0..300 {
        let mut simulation = Simulation::new(seed, way);
        let went = simulation.run();
        assert_eq!(went, Ok(()), "seed {seed}");
        changes += simulation.changes;
    }
    assert!(
        changes > 1_000,
        "the lease went from box to box {changes} times only"
    );
}

#[test]
fn at_no_moment_do_two_boxes_believe() {
    check(Way::Timed);
}

#[test]
fn nor_where_the_registry_compares_versions_only() {
    check(Way::Versioned);
}

#[test]
fn the_simulation_finds_out_the_wrong_ways() {
    let wrong = [
        Way::TimedFromAnswer,
        Way::VersionedFromAnswer,
        Way::VersionedByTheirClock,
        Way::Unversioned,
    ];
    for way in wrong {
        let found = (0..300).find(|seed| Simulation::new(*seed, way).run().is_err());
        assert!(found.is_some(), "no seed shows {way:?}");
    }
}
