//! A primary and replicas in a world where machines die, networks flap, fences hang, promotions are
//! lost or never end, and the lease goes to another box: over many seeds, what must never happen does
//! not, and what can go on does.

use std::time::Duration;

use outgrow_core::{Random, Ticks};

use super::{Fencing, Leading, Machine, Seen, Sight, Step, Terms, Upstream, Wish, Work};
use crate::standing::{Lsn, Role};

const TICK: Duration = Duration::from_millis(100);
const LOOK_EVERY: u64 = 5;
/// For how long faults happen, and for how long there are none afterwards, in ticks.
const FAULTY: u64 = 1_200;
const CALM: u64 = 1_500;

fn terms() -> Terms {
    Terms {
        is_automatic: true,
        fencing: Fencing::Command,
        after: Duration::from_secs(5),
        min_replicas: None,
        max_lag: 1_000_000,
        promote_timeout: Duration::from_secs(15),
        hold: Duration::from_secs(5),
        min_interval: Duration::from_secs(20),
    }
}

struct Box {
    is_alive: bool,
    /// Fenced machines stay down.
    is_fenced: bool,
    is_primary: bool,
    timeline: u32,
    lsn: u64,
    /// Whether we reach it.
    is_reached: bool,
    /// Whether it reaches the primary.
    is_fed: bool,
    /// When it begins to be a primary.
    turns: Option<u64>,
    /// Since when it was heard by us and fed without a break.
    witnesses_since: u64,
    seen: Seen,
}

enum Doing {
    Fence {
        server: usize,
        end: u64,
        is_good: bool,
    },
    Promote {
        server: usize,
        end: u64,
        is_good: bool,
        turns: Option<u64>,
    },
    Other {
        end: u64,
    },
}

struct World {
    random: Random,
    now: u64,
    boxes: Vec<Box>,
    is_synchronous: bool,
    acknowledged: u64,
    doing: Option<Doing>,
    done: Option<Result<(), String>>,
    is_held: bool,
    leads: bool,
    /// What the operation under way was asked for.
    wish: Option<Wish>,
    promotions: u32,
}

fn address(index: usize) -> String {
    format!("db{index}:5432")
}

fn index(address: &str) -> usize {
    address[2..3].parse().expect("of a name of ours")
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::from_seed(seed);
        let count = 2 + random.below(3);
        let one = |index: usize| Box {
            is_alive: true,
            is_fenced: false,
            is_primary: index == 0,
            timeline: 1,
            lsn: 100,
            is_reached: true,
            is_fed: true,
            turns: None,
            witnesses_since: 0,
            seen: Seen {
                address: address(index),
                ..Seen::default()
            },
        };
        Self {
            now: 0,
            boxes: (0..count).map(one).collect(),
            is_synchronous: random.below(2) == 0,
            random,
            acknowledged: 100,
            doing: None,
            done: None,
            is_held: false,
            leads: true,
            wish: None,
            promotions: 0,
        }
    }

    fn ticks(&self) -> Ticks {
        Ticks(1_000_000_000) + TICK * u32::try_from(self.now).expect("small")
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.random.below(one_in) == 0
    }

    fn primary(&self) -> Option<usize> {
        let is_it = |one: &Box| one.is_alive && one.is_primary;
        self.boxes.iter().position(is_it)
    }

    fn happen(&mut self, is_calm: bool) {
        for index in 0..self.boxes.len() {
            if is_calm {
                self.boxes[index].is_reached = true;
                self.boxes[index].is_fed = true;
                continue;
            }
            if self.chance(400) {
                self.boxes[index].is_alive = false;
            }
            if self.chance(100) && !self.boxes[index].is_fenced {
                self.boxes[index].is_alive = true;
            }
            if self.chance(60) {
                self.boxes[index].is_reached = !self.boxes[index].is_reached;
            }
            if self.chance(60) {
                self.boxes[index].is_fed = !self.boxes[index].is_fed;
            }
        }
        if is_calm {
            self.leads = true;
        } else if self.chance(150) {
            self.leads = !self.leads;
        }
        for one in &mut self.boxes {
            if one.turns.is_some_and(|at| at <= self.now) {
                one.turns = None;
                if one.is_alive && !one.is_primary {
                    one.is_primary = true;
                    one.timeline += 1;
                    // What it lacks was checked when it was told.
                    self.acknowledged = self.acknowledged.min(one.lsn);
                }
            }
        }
        self.write();
    }

    fn write(&mut self) {
        let Some(primary) = self.primary() else {
            for one in &mut self.boxes {
                one.witnesses_since = self.now + 1;
            }
            return;
        };
        if !self.is_held {
            self.boxes[primary].lsn += self.random.below(50) as u64;
        }
        let (lsn, timeline) = (self.boxes[primary].lsn, self.boxes[primary].timeline);
        let mut furthest = 0;
        for index in 0..self.boxes.len() {
            let is_late = self.random.below(4) == 0;
            let one = &mut self.boxes[index];
            let streams = one.is_alive && one.is_fed && index != primary && !one.is_primary;
            // One that is not ahead of where the new primary begins can follow it.
            if streams && (one.timeline == timeline || one.lsn <= lsn) {
                one.timeline = timeline;
                if !is_late {
                    one.lsn = one.lsn.max(lsn);
                }
                furthest = furthest.max(one.lsn);
            }
            if !(streams && one.is_reached) {
                one.witnesses_since = self.now + 1;
            }
        }
        self.acknowledged = match self.is_synchronous {
            true => self.acknowledged.max(furthest.min(lsn)),
            false => self.acknowledged,
        };
    }

    fn look(&mut self) {
        let now = self.ticks();
        let primary = self.primary();
        let newest = self.boxes.iter().filter(|one| one.is_primary);
        let newest = newest.map(|one| one.timeline).max().unwrap_or(0);
        for (index, one) in self.boxes.iter_mut().enumerate() {
            if !(one.is_alive && one.is_reached) {
                one.seen.failing.get_or_insert(now);
                continue;
            }
            let role = match one.is_primary {
                true if one.timeline < newest => Role::Fenced,
                true => Role::Primary,
                false => Role::Replica,
            };
            let streams = !one.is_primary && one.is_fed && primary.is_some_and(|at| at != index);
            let upstream = streams.then(|| Upstream {
                from: primary.map(address),
                silent: Some(Duration::ZERO),
                timeout: Duration::from_secs(60),
            });
            one.seen = Seen {
                address: address(index),
                role: Some(role),
                timeline: one.timeline,
                received: Lsn(one.lsn),
                replayed: Lsn(one.lsn),
                heard: Some(now),
                failing: None,
                ended: 0,
                refuses: None,
                synchronous: u32::from(self.is_synchronous && one.is_primary),
                upstream,
            };
        }
        // What is known of a primary that was replaced.
        for one in &mut self.boxes {
            if one.seen.role == Some(Role::Primary) && one.seen.timeline < newest {
                let is_seen = one.seen.failing.is_some();
                one.seen.role = if is_seen {
                    Some(Role::Fenced)
                } else {
                    one.seen.role
                };
            }
        }
    }

    fn work(&mut self) -> Work {
        if let Some(result) = self.done.take() {
            return Work::Done(result);
        }
        let Some(doing) = &self.doing else {
            return Work::None;
        };
        let (Doing::Fence { end, .. } | Doing::Promote { end, .. } | Doing::Other { end }) = doing;
        if *end > self.now {
            return Work::Running;
        }
        let result = match self.doing.take() {
            Some(Doing::Fence {
                server, is_good, ..
            }) => {
                let one = &mut self.boxes[server];
                one.is_alive &= !is_good;
                one.is_fenced |= is_good;
                one.turns = if is_good { None } else { one.turns };
                is_good
            }
            Some(Doing::Promote {
                server,
                is_good,
                turns,
                ..
            }) => {
                if self.boxes[server].is_alive && turns.is_some() {
                    self.boxes[server].turns = turns;
                }
                is_good
            }
            _ => true,
        };
        Work::Done(if result {
            Ok(())
        } else {
            Err("it failed".to_owned())
        })
    }

    fn take(&mut self, step: Step, is_calm: bool) {
        let end = self.now + 2 + self.random.below(20) as u64;
        match step {
            Step::Checkpoint { .. } => self.doing = Some(Doing::Other { end }),
            Step::Hold => self.is_held = true,
            Step::Release => self.is_held = false,
            Step::Kill => {
                // What was asked of a replica may have reached it all the same.
                if let Some(Doing::Promote { server, turns, .. }) = self.doing.take()
                    && self.random.below(2) == 0
                {
                    self.boxes[server].turns = turns;
                }
            }
            Step::Fence { server } => {
                assert!(self.leads, "a fence without the lease");
                assert!(self.doing.is_none(), "two things at once");
                if self.wish.is_none() {
                    let witness = self.witness();
                    assert!(
                        witness.is_none(),
                        "{server} is fenced, and db{witness:?} hears it"
                    );
                }
                let is_good = is_calm || self.random.below(3) > 0;
                let end = if !is_good && self.random.below(2) == 0 {
                    self.now + 100
                } else {
                    end
                };
                let server = index(&server);
                self.doing = Some(Doing::Fence {
                    server,
                    end,
                    is_good,
                });
            }
            Step::Promote { server, .. } => self.promote(index(&server), end, is_calm),
        }
    }

    /// A replica that has heard a living primary, and was heard by us, for a second.
    fn witness(&self) -> Option<usize> {
        self.primary()?;
        let is_one = |one: &Box| {
            one.is_alive && !one.is_primary && self.now.saturating_sub(one.witnesses_since) > 10
        };
        self.boxes.iter().position(is_one)
    }

    fn promote(&mut self, server: usize, end: u64, is_calm: bool) {
        assert!(self.leads, "a promotion without the lease");
        assert!(self.doing.is_none(), "two things at once");
        let wish = self.wish.clone().unwrap_or_default();
        for (other, one) in self.boxes.iter().enumerate() {
            let is_one = one.is_alive && (one.is_primary || one.turns.is_some());
            assert!(
                other == server || !is_one || wish.without_fence,
                "db{server} is promoted beside db{other}"
            );
        }
        if self.is_synchronous && !wish.accepts_loss && !wish.without_fence {
            let (has, needs) = (self.boxes[server].lsn, self.acknowledged);
            assert!(
                has >= needs,
                "db{server} has {has} of {needs} that were acknowledged"
            );
        }
        let mut is_good = true;
        let mut turns = Some(end + self.random.below(15) as u64);
        if !is_calm {
            match self.random.below(6) {
                0 => (is_good, turns) = (false, None),
                1 => is_good = false,
                2 => turns = None,
                3 => self.boxes[server].is_alive = false,
                _ => {}
            }
        }
        self.promotions += 1;
        self.doing = Some(Doing::Promote {
            server,
            end,
            is_good,
            turns,
        });
    }

    fn ask(&mut self, machine: &mut Machine, terms: &Terms, sight: &Sight, work: &Work) {
        let to = (self.random.below(2) == 0).then(|| address(self.random.below(self.boxes.len())));
        let wish = Wish {
            to,
            without_fence: false,
            accepts_loss: self.random.below(3) == 0,
        };
        let leading = self.leading();
        let asked = machine.ask(self.ticks(), terms, (sight, leading), (wish.clone(), work));
        if let Ok(steps) = asked {
            self.wish = Some(wish);
            for step in steps {
                self.take(step, false);
            }
        }
    }

    fn leading(&self) -> Leading {
        if self.leads {
            Leading::Held
        } else {
            Leading::NotHeld
        }
    }
}

/// Gives how many replicas were promoted.
fn run(seed: u64) -> u32 {
    let mut world = World::new(seed);
    let terms = terms();
    let mut machine = Machine::default();
    let asks = seed.is_multiple_of(3);
    for now in 0..FAULTY + CALM {
        let is_calm = now >= FAULTY;
        world.now = now;
        // A process that stands still now and then.
        let stands_still = !is_calm && now % 400 > 360 && seed % 4 == 1;
        world.happen(is_calm);
        if now % LOOK_EVERY == 0 && !stands_still {
            world.look();
        }
        if stands_still {
            continue;
        }
        let sight = Sight {
            servers: world.boxes.iter().map(|one| one.seen.clone()).collect(),
            is_quiet: world.is_held,
        };
        let work = world.work();
        if asks && !is_calm && world.chance(200) && !matches!(work, Work::Done(_)) {
            world.ask(&mut machine, &terms, &sight, &work);
            continue;
        }
        if !machine.is_busy() {
            world.wish = None;
        }
        let (at, leading) = (world.ticks(), world.leading());
        for step in machine.step(at, &terms, &sight, leading, work) {
            world.take(step, is_calm);
        }
        for line in machine.take_lines() {
            // Shown when it fails.
            println!("{at:?} {}", line.text);
        }
    }
    let told = machine.told(world.ticks());
    let is_well = world
        .primary()
        .is_some_and(|one| world.boxes[one].is_reached);
    assert!(
        is_well || told.problem.is_some(),
        "nobody takes writes, and nothing is told: {told:?}"
    );
    assert!(
        !world.is_held || machine.is_busy(),
        "queries are held for ever"
    );
    world.promotions
}

#[test]
fn whatever_happens_there_are_never_two_primaries() {
    let mut promotions = 0;
    for seed in 0..400 {
        let ran = std::panic::catch_unwind(|| run(seed));
        match ran {
            Ok(count) => promotions += count,
            Err(problem) => {
                println!("seed {seed}");
                std::panic::resume_unwind(problem);
            }
        }
    }
    // The faults are not all that happens.
    assert!(promotions > 100, "{promotions} promotions");
}
