//! The leader lease brought together with what follows from it: `gained` and `lost` are run so that
//! what they do agrees with who holds the lease, and the keeper holds how far that is for the next
//! data process.
//!
//! Whether the lease is held is asked with the time of the moment, at each step and by whoever reads
//! the state: never taken from what was true a moment ago.

mod kept;
mod phase;
mod view;

use std::time::Duration;

use outgrow_core::{Clock, WallTime};
use outgrow_discover::lease::{LeaseSettings, News, Standing};
use outgrow_discover::{BootTime, Leadership, Surroundings};
use outgrow_fleet::protocol::{DataMessage, Hello};
use serde_json::Value;

use self::kept::{KEY, Kept};
use self::phase::{Phase, Situation, Step};
pub(super) use self::view::LeaderView;
use super::command::Running;
use super::{boxes, discover, log};
use crate::config::{self, Config};

/// How long the giving back may take beyond the command before nobody waits for it any more.
const GIVE_BACK: Duration = Duration::from_secs(3);
/// How long the last word of the process before this one is waited for, and no longer than a sixth of
/// the lease: meanwhile nobody renews it.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What begins with the last word of the process before this one, or without it.
#[derive(Debug, Default)]
struct Awaited {
    wanted: Option<config::Leader>,
    /// Until when it is waited for, once this process is the one that serves.
    until: Option<BootTime>,
}

/// The lease and what was done about it.
#[derive(Debug)]
pub(super) struct Leader {
    box_name: String,
    surroundings: Surroundings,
    /// Until the process before this one has said how far it is: between the greeting of this one
    /// and its own end it may have gained the lease or lost it.
    predecessor: Option<Awaited>,
    /// Whether another data process may have renewed the lease since the keeper told of it.
    is_upgrade: bool,
    /// What the next data process is to be told at the end of this one's time.
    last_word: Option<DataMessage>,
    table: Option<config::Leader>,
    /// What a reload wants once the lease that was is given back.
    next: Option<config::Leader>,
    leadership: Option<Leadership>,
    kept: Kept,
    told: Option<Kept>,
    /// Until when the first answer is waited for before what was gained is taken for lost.
    wait_until: BootTime,
    running: Option<Running>,
    /// What was known last of a lease that is not asked for any more.
    last: Standing,
    /// Whether it is to be given back.
    leaving: bool,
    /// Whether everything stops.
    is_stopping: bool,
    changes: u64,
}

impl Leader {
    /// Nothing is asked for yet; with what the process before this one knew, which is told until
    /// then.
    pub(super) fn from_keeper(
        hello: &Hello,
        config: &Config,
        box_name: &str,
        clock: Clock,
    ) -> Self {
        let kept = hello.kept.get(KEY).cloned().and_then(Kept::read);
        let kept = kept.unwrap_or_default();
        let table = config.leader.clone();
        let is_same = table.as_ref().is_some_and(|table| kept.is_of(&table.lease));
        let until = kept.until.filter(|_| is_same);
        Self {
            box_name: box_name.to_owned(),
            surroundings: discover::surroundings(clock),
            predecessor: hello.upgrade.then(Awaited::default),
            last_word: None,
            is_upgrade: hello.upgrade,
            table,
            next: None,
            leadership: None,
            kept,
            told: None,
            wait_until: BootTime::default(),
            running: None,
            last: Standing {
                until: until.map(BootTime),
                ..Standing::default()
            },
            leaving: false,
            is_stopping: false,
            changes: 0,
        }
    }

    /// Brings it to what a configuration says. A lease that is not wanted any more, or is another
    /// one, is given back first. The same one under other conditions is held on to.
    pub(super) fn configure(&mut self, wanted: Option<&config::Leader>) {
        if let Some(awaited) = &mut self.predecessor {
            let ttl = wanted.map_or(Duration::MAX, |wanted| wanted.lease.ttl);
            let until = boxes::boot_clock() + LAST_WORD.min(ttl / 6);
            awaited.until.get_or_insert(until);
            awaited.wanted = wanted.cloned();
            return;
        }
        if self.leadership.is_none()
            && let Some(group) = self.kept.command.take()
        {
            // The process that started it is gone. What it does now would undo what we do.
            group.end();
        }
        match (&self.leadership, wanted) {
            (None, None) => {}
            (None, Some(wanted)) => self.begin(wanted.clone()),
            (Some(running), Some(wanted)) if self.kept.is_of(&wanted.lease) && !self.leaving => {
                if *running.settings() != wanted.lease {
                    self.kept.until = running.standing().until.map(|until| until.0);
                    self.ask(&wanted.lease);
                }
                self.table = Some(wanted.clone());
            }
            _ => {
                self.next = wanted.cloned();
                self.leaving = true;
            }
        }
    }

    /// Takes over what the process before this one says at its end.
    pub(super) fn hear(&mut self, key: &str, value: Value) {
        let kept = Kept::read(value).filter(|kept| kept.is_last && key == KEY);
        if let Some(kept) = kept
            && self.predecessor.is_some()
        {
            self.last.until = kept.until.map(BootTime);
            self.kept = Kept {
                is_last: false,
                ..kept
            };
            self.is_upgrade = false;
            self.go_on();
        }
    }

    /// Without that: it may have been done, or not, or half.
    fn go_on_without(&mut self) {
        self.kept.phase = Phase::Unknown;
        self.go_on();
    }

    fn go_on(&mut self) {
        if let Some(awaited) = self.predecessor.take() {
            self.configure(awaited.wanted.as_ref());
        }
    }

    fn begin(&mut self, table: config::Leader) {
        let now = boxes::boot_clock();
        if !self.kept.is_of(&table.lease) {
            self.kept = Kept {
                identity: self.new_identity(),
                ..Kept::default()
            };
        }
        // What was under way may have been done, or not, or half.
        self.kept.phase = self.kept.phase.recalled();
        if self.is_upgrade {
            self.wait_until = now + table.lease.ttl / 3;
        }
        self.ask(&table.lease);
        self.table = Some(table);
        self.leaving = false;
    }

    /// Asks for the lease from now on, with what is known of it.
    fn ask(&mut self, lease: &LeaseSettings) {
        (self.kept.lease, self.kept.places) = (lease.registry(), lease.places());
        let until = self.kept.until.map(BootTime);
        self.leadership = Leadership::start(
            lease,
            &self.kept.identity,
            until,
            boxes::boot_clock,
            self.surroundings,
        );
    }

    /// What follows from how it is now. To be called a few times a second; gives what the keeper is
    /// to be told.
    pub(super) fn step(&mut self) -> Option<DataMessage> {
        if let Some(message) = self.last_word.take() {
            return Some(message);
        }
        let now = boxes::boot_clock();
        let until = self.predecessor.as_ref().and_then(|one| one.until);
        if until.is_some_and(|until| now >= until) {
            if !self.kept.lease.is_empty() {
                log::warn(
                    "leader: the data process before this one does not say how far it is: what \
                     follows from the lease is run again",
                );
            }
            self.go_on_without();
        }
        let leadership = self.leadership.as_mut()?;
        let name = leadership.settings().registry();
        match leadership.news() {
            Some(News::Fails(problem)) => log::warn(&format!("leader: {name}: {problem}")),
            Some(News::Answers) => log::info(&format!("leader: {name} answers again")),
            None => {}
        }
        let standing = leadership.standing();
        let is_held = !self.leaving && leadership.is_held(now);
        let has_answered = standing.answered.is_some() || standing.failures > 0;
        let situation = Situation {
            is_held,
            is_known: self.leaving || has_answered || now >= self.wait_until,
            // That a fresh box does not hold it is nothing to act upon before it has asked.
            is_asked: has_answered || self.leaving,
        };
        self.finish_command();
        self.follow(situation, standing.holder.as_deref());
        if self.leaving && self.kept.phase == Phase::Lost {
            self.give_back();
        }
        self.kept.until = match self.leaving {
            true => None,
            false => standing.until.map(|until| until.0),
        };
        self.message()
    }

    fn follow(&mut self, situation: Situation, holder: Option<&str>) {
        let Some(step) = self.kept.phase.step(situation) else {
            return;
        };
        let name = self.kept.lease.clone();
        let commands = self.table.as_ref().map(|table| table.commands.clone());
        let commands = commands.unwrap_or_default();
        // One that is still running undoes nothing by going on.
        self.running = None;
        let (command, word) = match step {
            Step::Gain => {
                self.changes += 1;
                self.kept.since_ms = Some(WallTime::now().0 / 1_000_000);
                log::info(&format!("leader: this box holds {name} now"));
                self.kept.phase = Phase::Gaining;
                (commands.gained, "gained")
            }
            Step::Lose => {
                if self.kept.since_ms.take().is_some() {
                    self.changes += 1;
                    let why = match holder {
                        _ if self.leaving => "it is given back".to_owned(),
                        Some(holder) if holder != self.kept.identity => {
                            format!("{holder} holds it")
                        }
                        _ => "it could not be renewed in time".to_owned(),
                    };
                    log::warn(&format!("leader: this box holds {name} no more: {why}"));
                }
                self.kept.phase = Phase::Losing;
                (commands.lost, "lost")
            }
        };
        let lease = self.table.as_ref().map_or("", |table| &table.lease.name);
        let environment = [("OUTGROW_LEADER", lease), ("OUTGROW_BOX", &self.box_name)];
        let about = format!("leader: {word}");
        self.running = command.map(|command| {
            Running::start(&about, &command, &environment, commands.command_timeout)
        });
        self.kept.command = self.running.as_ref().and_then(Running::group);
        self.finish_command();
    }

    /// Takes note of a command that has ended; without one what it was for is done at once.
    fn finish_command(&mut self) {
        if self.running.as_ref().is_none_or(Running::is_over) {
            self.running = None;
            self.kept.command = None;
            self.kept.phase = self.kept.phase.done();
        }
    }

    fn give_back(&mut self) {
        let Some(leadership) = &self.leadership else {
            return;
        };
        leadership.give_back();
        if !leadership.standing().is_given_back {
            return;
        }
        self.last = leadership.standing();
        self.leadership = None;
        if !self.is_stopping {
            self.table = None;
        }
        // What was asked to be given back may still be on its way: the next one is another.
        self.kept = Kept::default();
        if let Some(next) = self.next.take() {
            self.begin(next);
        }
    }

    /// For the keeper, when something is new.
    fn message(&mut self) -> Option<DataMessage> {
        if self.told.as_ref() == Some(&self.kept) {
            return None;
        }
        self.told = Some(self.kept.clone());
        Some(self.kept.message())
    }

    /// Whether this box holds the lease at this moment; none: there is none.
    pub(super) fn is_held(&self) -> Option<bool> {
        self.table.as_ref()?;
        let now = boxes::boot_clock();
        let holds = |leadership: &Leadership| !self.leaving && leadership.is_held(now);
        Some(self.leadership.as_ref().is_some_and(holds))
    }

    /// Everything stops: `lost` is run, then the lease is given back.
    pub(super) fn stop(&mut self) {
        if self.predecessor.is_some() {
            self.go_on_without();
        }
        self.next = None;
        self.leaving = true;
        self.is_stopping = true;
    }

    /// Whether it is given back, or there is none.
    pub(super) fn is_given_back(&self) -> bool {
        self.leadership.is_none()
    }

    /// How long that may take.
    pub(super) fn patience(config: Option<&config::Leader>) -> Duration {
        config.map_or(Duration::ZERO, |leader| {
            leader.commands.command_timeout + GIVE_BACK
        })
    }

    /// Leaves it to the next data process, which holds on under the same identity. It is told how far
    /// this one is, with the next step.
    pub(super) fn leave(&mut self) {
        // Before it hears of it: what is killed after that could undo what it does.
        self.running = None;
        self.kept.command = None;
        if let Some(leadership) = self.leadership.take() {
            self.last = leadership.standing();
            self.kept.until = self.last.until.map(|until| until.0);
        }
        if self.leaving {
            // The giving back may be under way, and would free what is taken under this identity.
            self.kept.until = None;
            self.kept.identity = self.new_identity();
        }
        // One that was told nothing itself says nothing: it is not known how far it is.
        if self.predecessor.take().is_none() {
            let kept = Kept {
                is_last: true,
                ..self.kept.clone()
            };
            self.last_word = Some(kept.message());
        }
    }

    fn new_identity(&self) -> String {
        format!("{}/{}", self.box_name, boxes::random_part())
    }

    /// For the state.
    pub(super) fn view(&self) -> Option<LeaderView> {
        let table = self.table.as_ref()?;
        let standing = match &self.leadership {
            Some(leadership) => leadership.standing(),
            None => self.last.clone(),
        };
        Some(LeaderView {
            lease: table.lease.registry(),
            identity: self.kept.identity.clone(),
            until: standing.until.filter(|_| !self.leaving),
            holder: standing.holder,
            since_ms: self.kept.since_ms,
            phase: self.kept.phase,
            answered: standing.answered,
            problem: standing.problem,
            failures: standing.failures,
            changes: self.changes,
        })
    }
}
