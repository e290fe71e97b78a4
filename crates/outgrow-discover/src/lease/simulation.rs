//! Boxes, a registry and a network with faults, in simulated time: at no moment do two boxes
//! believe that they hold the lease. The seed is told with what is wrong.

use std::time::Duration;

use outgrow_core::Random;

use super::holder::Holder;
use super::time::BootTime;

/// Milliseconds.
type Time = u64;

const TTL: Time = 3_000;
const STEP: Time = 5;
const FAULTS_END: Time = 60_000;
const END: Time = FAULTS_END + 4 * TTL;
const BOXES: usize = 3;
/// How much clocks differ in speed, at most: more than any that work.
const DRIFT: f64 = 0.02;

/// How belief is counted; the wrong ways must be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    /// From the question.
    Right,
    /// From the answer.
    FromAnswer,
}

/// A question on its way.
struct Message {
    owner: usize,
    identity: u64,
    process: u64,
    sent: BootTime,
    gives_back: bool,
    arrives: Time,
    /// When the answer comes; `None`: it is lost.
    answered: Option<Time>,
    /// What the registry said.
    verdict: Option<Result<(), u64>>,
}

struct Process {
    number: u64,
    holder: Holder,
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

    fn believes(&self, now: Time) -> bool {
        let now = self.clock(now);
        self.processes.iter().any(|one| one.holder.believes(now))
    }
}

struct Simulation {
    random: Random,
    counting: Counting,
    machines: Vec<Machine>,
    messages: Vec<Message>,
    /// Who has it until when.
    registry: Option<(u64, Time)>,
    numbers: u64,
    /// How often another box came to believe.
    changes: u32,
    last: Option<usize>,
}

impl Simulation {
    fn new(seed: u64, counting: Counting) -> Self {
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
            counting,
            machines,
            messages: Vec::new(),
            registry: None,
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

    fn send(&mut self, owner: usize, process: u64, now: Time, gives_back: bool) {
        let is_faulty = now < FAULTS_END;
        let delay = |simulation: &mut Self| -> Time {
            let long = is_faulty && simulation.chance(10);
            let most = if long { 3 * TTL } else { 50 };
            simulation.random.below(most as usize) as Time
        };
        let arrives = now + delay(self);
        let answered = arrives + delay(self);
        let is_lost = is_faulty && self.chance(10);
        self.messages.push(Message {
            owner,
            identity: self.machines[owner].identity,
            process,
            sent: self.machines[owner].clock(now),
            gives_back,
            arrives,
            answered: (!is_lost).then_some(answered),
            verdict: None,
        });
    }

    fn ask(&mut self, now: Time) {
        for owner in 0..BOXES {
            let local = self.machines[owner].clock(now);
            let mut asking = Vec::new();
            for process in &mut self.machines[owner].processes {
                let is_due = process.holder.due() <= local && process.waits_until <= local;
                if process.is_old || process.stopped_until > now || !is_due {
                    continue;
                }
                if process.waits_until != BootTime::default() {
                    // The last question was not answered in time.
                    process.holder.failed(local);
                    process.waits_until = BootTime::default();
                    continue;
                }
                process.waits_until = local + process.holder.patience();
                asking.push(process.number);
            }
            for number in asking {
                self.send(owner, number, now, false);
            }
        }
    }

    fn deliver(&mut self, now: Time) {
        let mut messages = std::mem::take(&mut self.messages);
        messages.sort_by_key(|message| message.arrives);
        for message in &mut messages {
            if message.verdict.is_none() && message.arrives <= now {
                message.verdict = Some(self.judge(message.identity, message.gives_back, now));
            }
        }
        messages.retain(|message| {
            let Some(verdict) = &message.verdict else {
                return true;
            };
            let Some(answered) = message.answered else {
                return false;
            };
            let machine = &mut self.machines[message.owner];
            let local = machine.clock(now);
            let mut processes = machine.processes.iter_mut();
            let Some(process) = processes.find(|one| one.number == message.process) else {
                return false;
            };
            if answered > now || process.stopped_until > now {
                return true;
            }
            // Also what comes long after nobody waits for it any more.
            process.waits_until = BootTime::default();
            let sent = match self.counting {
                Counting::Right => message.sent,
                Counting::FromAnswer => local,
            };
            match verdict {
                Ok(()) => process.holder.confirmed("us", sent),
                Err(_) => process.holder.refused("others", local),
            }
            false
        });
        self.messages.extend(messages);
    }

    fn judge(&mut self, identity: u64, gives_back: bool, now: Time) -> Result<(), u64> {
        let holder = self.registry.filter(|(_, until)| *until > now);
        match holder {
            Some((other, _)) if other != identity => Err(other),
            Some(_) if gives_back => {
                self.registry = None;
                Ok(())
            }
            None if gives_back => Ok(()),
            _ => {
                self.registry = Some((identity, now + TTL));
                Ok(())
            }
        }
    }
}

#[test]
fn at_no_moment_do_two_boxes_believe() {
    let mut changes = 0;
    for seed in 0..300 {
        let mut simulation = Simulation::new(seed, Counting::Right);
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
fn the_simulation_finds_out_who_counts_from_the_answer() {
    let found = (0..300).find(|seed| Simulation::new(*seed, Counting::FromAnswer).run().is_err());
    assert!(found.is_some(), "no seed shows it");
}
