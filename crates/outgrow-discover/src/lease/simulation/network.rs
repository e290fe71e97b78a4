//! The simulated network: words arrive late or never, answers as well, and what comes to a process
//! that is stopped waits for it.

use std::time::Duration;

use super::registry::{Registry, Said, Stored, Words};
use super::{BOXES, FAULTS_END, Simulation, TTL, Time, Way};
use crate::lease::kubernetes::sight::{Record, Sight};
use crate::lease::time::BootTime;

/// How often one asks again because somebody else has written meanwhile.
const TURNS: u32 = 3;

/// A question on its way.
#[derive(Clone)]
pub(super) struct Message {
    owner: usize,
    identity: u64,
    process: u64,
    /// When the first word of it was sent.
    sent: BootTime,
    gives_back: bool,
    turns: u32,
    words: Words,
    pub(super) arrives: Time,
    /// When the answer comes; `None`: it is lost.
    answered: Option<Time>,
    /// What the registry said.
    said: Option<Said>,
}

impl Simulation {
    /// The first word of a question.
    pub(super) fn send(&mut self, owner: usize, process: u64, now: Time, gives_back: bool) {
        let machine = &mut self.machines[owner];
        let mut processes = machine.processes.iter_mut();
        let asking = processes.find(|one| one.number == process);
        let ours = asking.and_then(|process| process.ours.take());
        let words = match (&self.registry, gives_back) {
            (Registry::Timed(_), false) => Words::Hold,
            (Registry::Timed(_), true) => Words::GiveBack,
            (Registry::Versioned { .. }, _) if ours.is_some() => Words::Put {
                version: ours,
                holder: Some(machine.identity),
                renewed: machine.wall(now),
            },
            (Registry::Versioned { .. }, _) => Words::Get,
        };
        let message = Message {
            owner,
            identity: machine.identity,
            process,
            sent: machine.clock(now),
            gives_back,
            turns: 0,
            words,
            arrives: now,
            answered: None,
            said: None,
        };
        self.post(message, now);
    }

    /// Brings a word on its way.
    fn post(&mut self, message: Message, now: Time) {
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
            arrives,
            answered: (!is_lost).then_some(answered),
            said: None,
            ..message
        });
    }

    pub(super) fn ask(&mut self, now: Time) {
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

    pub(super) fn deliver(&mut self, now: Time) {
        let mut messages = std::mem::take(&mut self.messages);
        messages.sort_by_key(|message| message.arrives);
        for mut message in messages {
            if message.said.is_none() && message.arrives <= now {
                let (identity, words) = (message.identity, message.words);
                message.said = Some(self.registry.judge(identity, words, now, TTL));
            }
            let Some(said) = message.said else {
                self.messages.push(message);
                continue;
            };
            // An answer that is lost is waited for by nobody.
            let Some(answered) = message.answered else {
                continue;
            };
            let processes = &self.machines[message.owner].processes;
            let process = processes.iter().find(|one| one.number == message.process);
            let is_stopped = process.is_some_and(|process| process.stopped_until > now);
            if answered > now || is_stopped {
                self.messages.push(message);
            } else if message.gives_back {
                self.go_on_giving_back(message, said, now);
            } else if process.is_some() {
                self.take_answer(message, said, now);
            }
        }
    }

    /// Of a process that is gone, as far as others know.
    fn go_on_giving_back(&mut self, mut message: Message, said: Said, now: Time) {
        message.turns += 1;
        message.words = match said {
            Said::Record(Some(record)) if record.holder == Some(message.identity) => Words::Put {
                version: Some(record.version),
                holder: None,
                renewed: self.machines[message.owner].wall(now),
            },
            Said::Conflict if message.turns <= TURNS => Words::Get,
            _ => return,
        };
        self.post(message, now);
    }

    /// Also what comes long after nobody waits for it any more.
    fn take_answer(&mut self, mut message: Message, said: Said, now: Time) {
        let way = self.way;
        let machine = &mut self.machines[message.owner];
        let (local, wall) = (machine.clock(now), machine.wall(now));
        let mut processes = machine.processes.iter_mut();
        let Some(process) = processes.find(|one| one.number == message.process) else {
            return;
        };
        let next = match said {
            Said::Done(version) => {
                process.ours = version;
                let sent = if way.is_from_answer() {
                    local
                } else {
                    message.sent
                };
                process.holder.confirmed("us", sent);
                None
            }
            Said::Others => {
                process.holder.refused("others", local);
                None
            }
            Said::Record(record) => match way {
                Way::VersionedByTheirClock => record.is_none_or(|record| {
                    record.holder.is_none_or(|other| other == message.identity)
                        || wall >= record.renewed + TTL
                }),
                _ => may_take(&mut process.sight, record, message.identity, local),
            }
            .then_some(Words::Put {
                version: record.map(|record| record.version),
                holder: Some(message.identity),
                renewed: wall,
            })
            .or_else(|| {
                process.holder.refused("others", local);
                None
            }),
            Said::Conflict if message.turns < TURNS => {
                message.turns += 1;
                Some(Words::Get)
            }
            Said::Conflict => {
                process.holder.failed(local);
                None
            }
        };
        match next {
            Some(words) => self.post(Message { words, ..message }, now),
            None => process.waits_until = BootTime::default(),
        }
    }
}

/// By the rules for a registry that compares versions.
fn may_take(sight: &mut Sight, record: Option<Stored>, identity: u64, now: BootTime) -> bool {
    let text = |number: u64| number.to_string();
    let [version, renewed, holder] = match record {
        Some(record) => [
            text(record.version),
            text(record.renewed),
            record.holder.map(text).unwrap_or_default(),
        ],
        None => Default::default(),
    };
    let record = record.map(|_| Record {
        version: &version,
        holder: &holder,
        renewed: &renewed,
        lasts: Duration::from_millis(TTL),
    });
    sight.look(record, &text(identity), now).is_none()
}
