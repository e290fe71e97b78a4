//! Lanes under load, over many seeds: threads whose every step under a lock may come between any two
//! steps of another one. What is counted, shown and decided is the real thing; lines, connections and
//! locks are a model of `pool/`.

use std::collections::VecDeque;

use outgrow_core::{Clock, Random, Ticks};

use super::ledger::SLACK;
use super::{Lanes, Ledger, Shown, Wish};

const SIZE: u32 = 4;
const MILLI: u64 = 1_000_000;

/// A lane, as its lock guards it.
#[derive(Default)]
struct Lane {
    idle: u32,
    lent: u32,
    coming: u32,
    line: VecDeque<Ticks>,
    paused: bool,
    counted: Ledger,
    shown: Shown,
    /// Connections that clients have, and those that are in the hands of a thread.
    in_use: u32,
    in_hand: u32,
}

impl Lane {
    fn own(&self) -> Ledger {
        Ledger {
            standing: self.idle + self.lent,
            coming: self.coming,
        }
    }
}

/// What a thread does next, one step of it.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Looks whether something idle is for somebody who waits.
    Settle { rounds: u32 },
    /// Has a connection of the one lane in its hand, for the other one.
    Deliver { from: usize, to: usize, rounds: u32 },
    /// The other one took it.
    LetGo { from: usize, rounds: u32 },
    /// Nobody took it.
    TakeBack { from: usize, rounds: u32 },
}

struct World {
    lanes: Lanes,
    all: Vec<Lane>,
    /// What each has still to do, the next step last.
    threads: Vec<Vec<Step>>,
    now: Ticks,
    served: u64,
    moved: u64,
}

impl World {
    fn new(count: usize) -> Self {
        let lanes = Lanes::new(1, 0, count, Clock::start());
        let lanes = std::sync::Arc::into_inner(lanes).expect("nobody else has it");
        Self {
            lanes,
            all: (0..count).map(|_| Lane::default()).collect(),
            threads: vec![Vec::new(); count],
            now: Ticks(MILLI),
            served: 0,
            moved: 0,
        }
    }

    /// Gives up a lane's lock, as `Locked` does.
    fn unlock(&mut self, index: usize, thread: Option<usize>) {
        let lane = &mut self.all[index];
        let (now, shown) = (
            lane.own(),
            Shown {
                first: lane.line.front().copied(),
                is_spare: lane.idle > 0,
            },
        );
        if lane.counted != now {
            self.lanes.ledger().change(lane.counted, now);
            lane.counted = now;
        }
        if lane.shown != shown {
            self.lanes.show(index, lane.shown, shown);
            lane.shown = shown;
        }
        let is_due = !lane.paused && self.lanes.is_due(shown);
        if let Some(thread) = thread
            && is_due
        {
            self.threads[thread].push(Step::Settle { rounds: 64 });
        }
        self.check_limit();
    }

    fn check_limit(&self) {
        let all = self.all.iter();
        let real: u32 = all
            .map(|lane| lane.idle + lane.in_use + lane.in_hand + lane.coming)
            .sum();
        assert!(real <= SIZE, "{real} connections");
    }

    /// `Inner::hand_over`.
    fn hand_over(&mut self, index: usize) -> bool {
        let lane = &mut self.all[index];
        if lane.paused {
            return false;
        }
        let is_taken = lane.line.pop_front().is_some();
        if is_taken {
            lane.lent += 1;
            lane.in_use += 1;
            self.served += 1;
        }
        is_taken
    }

    /// A client wants a connection.
    fn want(&mut self, index: usize) {
        let lane = &mut self.all[index];
        if !lane.paused && lane.line.is_empty() && lane.idle > 0 {
            lane.idle -= 1;
            lane.lent += 1;
            lane.in_use += 1;
            self.served += 1;
            return self.unlock(index, Some(index));
        }
        lane.line.push_back(self.now);
        self.unlock(index, Some(index));
    }

    fn grow(&mut self, index: usize) {
        let lane = &mut self.all[index];
        if lane.paused {
            return;
        }
        let wish = Wish {
            lacking: (lane.line.len() as u32).saturating_sub(lane.coming),
            most: SIZE,
            ..Wish::default()
        };
        // `Inner::count`.
        let mut ledger = self.lanes.ledger();
        ledger.change(lane.counted, lane.own());
        let granted = ledger.grant(wish);
        drop(ledger);
        lane.counted = Ledger {
            coming: lane.coming + granted,
            ..lane.own()
        };
        lane.coming += granted;
        self.unlock(index, Some(index));
    }

    /// A connection is made, or is not.
    fn arrive(&mut self, index: usize, works: bool) {
        if self.all[index].coming == 0 {
            return;
        }
        self.all[index].coming -= 1;
        if works && !self.hand_over(index) {
            self.all[index].idle += 1;
        }
        self.unlock(index, Some(index));
    }

    /// A client gives its connection back, or it is lost.
    fn give_back(&mut self, index: usize, is_lost: bool) {
        if self.all[index].in_use == 0 {
            return;
        }
        let lane = &mut self.all[index];
        lane.in_use -= 1;
        lane.lent -= 1;
        if is_lost {
            return self.unlock(index, Some(index));
        }
        let others_wait = !lane.paused && self.lanes.others_wait(lane.shown);
        let to = others_wait.then(|| self.lanes.next(index)).flatten();
        self.check_order(index, to);
        let lane = &mut self.all[index];
        if let Some(to) = to {
            lane.lent += 1;
            lane.in_hand += 1;
            let (from, rounds) = (index, 0);
            self.threads[index].push(Step::Deliver { from, to, rounds });
        } else if !self.hand_over(index) {
            self.all[index].idle += 1;
        }
        self.unlock(index, Some(index));
    }

    /// Nobody is served before somebody who came more than the slack earlier.
    fn check_order(&self, own: usize, to: Option<usize>) {
        if self.all[own].paused {
            return;
        }
        let chosen = self.all[to.unwrap_or(own)].line.front();
        let first = self.all.iter().filter_map(|lane| lane.line.front()).min();
        if let (Some(chosen), Some(first)) = (chosen, first) {
            assert!(*chosen <= *first + SLACK, "{chosen:?} before {first:?}");
        } else {
            assert!(first.is_none(), "somebody waits elsewhere");
        }
    }

    /// One step of what a thread has begun.
    fn step(&mut self, thread: usize) {
        let Some(step) = self.threads[thread].pop() else {
            return;
        };
        match step {
            Step::Settle { rounds: 0 } => {}
            Step::Settle { rounds } => {
                let Some(to) = self.lanes.next(usize::MAX) else {
                    return;
                };
                let is_spare = |(index, lane): &(usize, &Lane)| {
                    *index != to && !lane.paused && lane.line.is_empty() && lane.idle > 0
                };
                let from = self.all.iter().enumerate().find(is_spare);
                let Some((from, _)) = from else { return };
                let lane = &mut self.all[from];
                lane.idle -= 1;
                lane.lent += 1;
                lane.in_hand += 1;
                self.unlock(from, None);
                self.threads[thread].push(Step::Deliver { from, to, rounds });
            }
            Step::Deliver { from, to, rounds } => {
                let is_taken = self.hand_over(to);
                if is_taken {
                    self.all[from].in_hand -= 1;
                    self.all[to].counted.standing += 1;
                    self.moved += 1;
                }
                self.unlock(to, None);
                self.threads[thread].push(match is_taken {
                    true => Step::LetGo { from, rounds },
                    false => Step::TakeBack { from, rounds },
                });
            }
            Step::LetGo { from, rounds } => {
                let lane = &mut self.all[from];
                lane.lent -= 1;
                lane.counted.standing -= 1;
                self.unlock(from, None);
                let rounds = rounds.saturating_sub(1);
                self.threads[thread].push(Step::Settle { rounds });
            }
            Step::TakeBack { from, rounds } => {
                let lane = &mut self.all[from];
                lane.lent -= 1;
                lane.in_hand -= 1;
                if !self.hand_over(from) {
                    self.all[from].idle += 1;
                }
                self.unlock(from, None);
                // `Lanes::hand_to` settles then, `Lanes::settle` goes on.
                let rounds = if rounds == 0 { 64 } else { rounds - 1 };
                self.threads[thread].push(Step::Settle { rounds });
            }
        }
    }

    fn is_still(&self) -> bool {
        self.threads.iter().all(Vec::is_empty)
    }

    /// What must hold while no thread is amid something.
    fn check_still(&self) {
        let sum = self.all.iter().fold(Ledger::default(), |sum, lane| Ledger {
            standing: sum.standing + lane.own().standing,
            coming: sum.coming + lane.coming,
        });
        assert_eq!(*self.lanes.ledger(), sum);
        for (index, lane) in self.all.iter().enumerate() {
            assert_eq!((lane.in_hand, lane.lent), (0, lane.in_use));
            let others = self
                .all
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index);
            let spare: u32 = others.map(|(_, other)| other.idle).sum();
            let waits = !lane.line.is_empty() && !lane.paused;
            assert!(
                !(waits && spare > 0),
                "somebody waits beside an idle connection"
            );
        }
    }

    /// Whether nothing is lent, asked lane by lane.
    fn is_quiet(&self) -> bool {
        self.all.iter().all(|lane| lane.lent == 0)
    }
}

fn simulate(seed: u64) -> (u64, u64) {
    let mut random = Random::from_seed(seed);
    let mut below = |limit: usize| random.below(limit);
    let count = 2 + below(3);
    let mut world = World::new(count);
    // How often something is wanted, over what is given back.
    let pressure = 1 + below(4);
    for _ in 0..400 {
        world.now = world.now + std::time::Duration::from_micros(below(1_000) as u64);
        let index = below(count);
        if !world.threads[index].is_empty() {
            world.step(index);
            continue;
        }
        match below(12 + pressure) {
            0 | 1 => world.arrive(index, below(8) > 0),
            2..=6 => world.give_back(index, below(20) == 0),
            7 => {
                // Somebody leaves the line.
                let lane = &mut world.all[index];
                let place = below(lane.line.len().max(1));
                lane.line.remove(place);
                world.unlock(index, Some(index));
            }
            8 => {
                // A connection's time is over.
                let lane = &mut world.all[index];
                lane.idle = lane.idle.saturating_sub(1);
                world.unlock(index, Some(index));
            }
            9 if below(10) == 0 => pause(&mut world, &mut below),
            _ => {
                world.want(index);
                world.grow(index);
            }
        }
        if world.is_still() {
            world.check_still();
        }
    }
    drain(&mut world);
    (world.served, world.moved)
}

/// Everything is paused, becomes quiet, and goes on.
fn pause(world: &mut World, below: &mut impl FnMut(usize) -> usize) {
    for index in 0..world.all.len() {
        world.all[index].paused = true;
        world.unlock(index, None);
        // Others go on meanwhile.
        world.step(below(world.threads.len()));
    }
    while !world.is_quiet() {
        let index = below(world.all.len());
        if !world.threads[index].is_empty() {
            world.step(index);
        } else {
            world.give_back(index, false);
        }
    }
    let held: u32 = world
        .all
        .iter()
        .map(|lane| lane.in_use + lane.in_hand)
        .sum();
    assert_eq!(held, 0, "it is quiet");
    for index in 0..world.all.len() {
        world.all[index].paused = false;
        // `Inner::serve`.
        while world.all[index].idle > 0 && world.hand_over(index) {
            world.all[index].idle -= 1;
        }
        world.unlock(index, Some(index));
    }
}

/// Nobody comes any more: everybody is served.
fn drain(world: &mut World) {
    for _ in 0..10_000 {
        for index in 0..world.all.len() {
            if world.threads[index].is_empty() {
                world.grow(index);
                world.arrive(index, true);
                world.give_back(index, false);
            } else {
                world.step(index);
            }
        }
        let waits = world.all.iter().any(|lane| !lane.line.is_empty());
        let is_held = world.all.iter().any(|lane| lane.in_use + lane.in_hand > 0);
        if world.is_still() && !waits && !is_held {
            return world.check_still();
        }
    }
    panic!("somebody is not served");
}

#[test]
fn lanes_share_what_there_is() {
    let (mut served, mut moved) = (0, 0);
    for seed in 0..8_000 {
        let told = std::panic::catch_unwind(|| simulate(seed));
        let (more, others) = told.unwrap_or_else(|_| panic!("seed {seed}"));
        served += more;
        moved += others;
    }
    assert!(
        served > 100_000 && moved > 10_000,
        "{served} served, {moved} moved"
    );
}
