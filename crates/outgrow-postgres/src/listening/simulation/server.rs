//! A server as far as notifications go: one log, in which every session reads at its own pace.

use std::collections::{HashSet, VecDeque};

use outgrow_core::Random;

use super::super::Hub;
use super::super::board::{Batch, Name};
use super::LIMIT;

/// What was committed, in order: channel and payload.
#[derive(Default)]
pub(super) struct Log {
    pub(super) all: Vec<(Name, String)>,
}

impl Log {
    pub(super) fn notify(&mut self, channel: &str) {
        let payload = self.all.len().to_string();
        self.all.push((channel.as_bytes().into(), payload));
    }

    /// On the channel of a marker, without its word.
    pub(super) fn forge(&mut self, channel: &Name) {
        self.all.push((channel.clone(), "forged".to_owned()));
    }
}

/// What a session says to us.
enum Output {
    /// With its place in the log.
    Notification(Name, String, usize),
    /// Whether it was done.
    Answer(Batch, bool),
}

/// A shared connection.
#[derive(Default)]
pub(super) struct Connection {
    listens: HashSet<Name>,
    /// How far in the log it is.
    at: usize,
    /// What was said to the server and is not done.
    said: Option<Batch>,
    is_busy: bool,
    out: VecDeque<Output>,
    /// Up to where in the log was told to those who listen.
    pub(super) heard: usize,
    /// Batches that failed.
    pub(super) failed: usize,
}

impl Connection {
    pub(super) fn end(&mut self) {
        *self = Self {
            failed: self.failed,
            ..Self::default()
        };
    }

    pub(super) fn step(&mut self, hub: &Hub, log: &mut Log, random: &mut Random, fails: bool) {
        match random.below(4) {
            0 if !self.is_busy => {
                self.said = hub.next().map(|(batch, _)| batch);
                self.is_busy = self.said.is_some();
            }
            1 => self.execute(log, fails && random.below(20) == 0),
            2 => self.read(log),
            _ => self.hear(hub),
        }
    }

    /// The session does what it was told, all of it or nothing.
    fn execute(&mut self, log: &mut Log, fails: bool) {
        let Some(batch) = self.said.take() else {
            return;
        };
        if fails {
            self.failed += 1;
            self.out.push_back(Output::Answer(batch, false));
            return;
        }
        let text = String::from_utf8(batch.sql.clone()).expect("a text");
        let mut notified = Vec::new();
        for statement in text.split_terminator(';') {
            let (verb, rest) = statement.split_once(' ').expect("a statement");
            let (name, word) = rest.split_once(',').unwrap_or((rest, ""));
            let name: Name = name.trim_matches('"').as_bytes().into();
            match verb {
                "LISTEN" => {
                    if self.listens.is_empty() {
                        // It hears nothing of before.
                        self.at = log.all.len();
                    }
                    self.listens.insert(name);
                }
                "UNLISTEN" => {
                    self.listens.remove(&name);
                }
                "SET" => {}
                "NOTIFY" => notified.push((name, word.trim_matches('\'').to_owned())),
                other => panic!("{other}"),
            }
        }
        log.all.append(&mut notified);
        self.out.push_back(Output::Answer(batch, true));
    }

    /// The session reads on in the log.
    fn read(&mut self, log: &Log) {
        let Some((channel, payload)) = log.all.get(self.at) else {
            return;
        };
        self.at += 1;
        if self.listens.contains(channel) {
            let told = Output::Notification(channel.clone(), payload.clone(), self.at);
            self.out.push_back(told);
        }
    }

    /// We read what it says.
    fn hear(&mut self, hub: &Hub) {
        match self.out.pop_front() {
            Some(Output::Notification(channel, payload, at)) => {
                self.heard = at;
                hub.deliver(7, &channel, payload.as_bytes(), LIMIT);
            }
            Some(Output::Answer(batch, is_done)) => {
                self.is_busy = false;
                hub.answered(batch, is_done);
            }
            None => {}
        }
    }

    /// Whether it has nothing to say any more.
    pub(super) fn is_quiet(&self, log: &Log) -> bool {
        self.at >= log.all.len() && self.out.is_empty() && !self.is_busy
    }
}
