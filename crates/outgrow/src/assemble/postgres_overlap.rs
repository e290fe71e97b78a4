//! Connections to Postgres while two data processes run: together they have no more than one may.
//!
//! A process that leaves after an upgrade closes what is idle, says at each change how many it has
//! left, and never has more than it said. The next one makes none until it has heard that, and then
//! what is left. Words go through the keeper, which also holds them for a process that replaces one
//! that died. Which connections there are is in `outgrow_postgres::seats`.

use std::collections::BTreeMap;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_fleet::protocol::{DataMessage, Hello};
use outgrow_postgres::Shared;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::command::Group;
use super::log;

/// As which a leaving process says what it has, and the serving one what it has heard.
pub(super) const KEY: &str = "postgres_connections";
/// How long the process before this one may take to say it, once this one serves: one of a version
/// that says nothing is not to keep everybody waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a process has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    process: Group,
    /// Connections, by the server's address.
    connections: BTreeMap<String, u32>,
}

/// What is known of other processes, and what they were told.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    others: Vec<Word>,
    is_new: bool,
    /// Whether the process before this one has still to say what it has.
    awaits: bool,
    /// Until when that is waited for.
    until: Option<Ticks>,
    said: Option<Word>,
    /// What the keeper holds.
    kept: Vec<Word>,
}

impl Overlap {
    /// With what the keeper knows.
    pub(super) fn from_keeper(hello: &Hello) -> Self {
        let kept = hello.kept.get(KEY).cloned();
        let others = kept.and_then(|value| serde_json::from_value(value).ok());
        let others: Vec<Word> = others.unwrap_or_default();
        Self {
            kept: others.clone(),
            others,
            is_new: true,
            awaits: hello.upgrade,
            ..Self::default()
        }
    }

    /// Before anything is connected to.
    pub(super) fn begin(&self, shared: Option<&Shared>) {
        if let Some(shared) = shared {
            self.tell(shared);
        }
    }

    fn tell(&self, shared: &Shared) {
        if self.awaits {
            shared.await_connections_elsewhere();
            return;
        }
        let mut all = BTreeMap::new();
        for (address, count) in self.others.iter().flat_map(|word| &word.connections) {
            let sum: &mut u32 = all.entry(address.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        shared.set_connections_elsewhere(all);
    }

    /// Another process says what it has.
    pub(super) fn hear(&mut self, key: &str, value: Value) {
        if key != KEY {
            return;
        }
        let Ok(word) = serde_json::from_value::<Word>(value) else {
            return;
        };
        self.others.retain(|other| other.process != word.process);
        if !word.connections.is_empty() {
            self.others.push(word);
        }
        (self.awaits, self.is_new) = (false, true);
    }

    /// What follows, a few times a second, while this process serves; gives what the keeper is to
    /// hold.
    pub(super) fn step(&mut self, shared: Option<&Shared>, now: Ticks) -> Option<DataMessage> {
        if self.awaits && now >= *self.until.get_or_insert(now + PATIENCE) {
            if shared.is_some() {
                log::warn(
                    "postgres: the data process before this one does not say how many connections \
                     it has: for a while there may be more than max_server_connections",
                );
            }
            (self.awaits, self.is_new) = (false, true);
        }
        let known = self.others.len();
        self.others.retain(|word| word.process.is_there());
        self.is_new |= self.others.len() != known;
        if !std::mem::take(&mut self.is_new) {
            return None;
        }
        if let Some(shared) = shared {
            self.tell(shared);
        }
        if self.kept == self.others {
            return None;
        }
        self.kept.clone_from(&self.others);
        let value = serde_json::to_value(&self.others).unwrap_or_default();
        Some(message(value))
    }

    /// The same while it leaves after an upgrade: what the next one is to be told.
    pub(super) fn leave(&mut self, shared: Option<&Shared>) -> Option<DataMessage> {
        let word = Word {
            process: Group::own()?,
            connections: shared.map(Shared::leave_connections).unwrap_or_default(),
        };
        if self.said.as_ref() == Some(&word) {
            return None;
        }
        let value = serde_json::to_value(&word).unwrap_or_default();
        self.said = Some(word);
        Some(message(value))
    }
}

fn message(value: Value) -> DataMessage {
    DataMessage::Keep {
        key: KEY.to_owned(),
        value,
    }
}
