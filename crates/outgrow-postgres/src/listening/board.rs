//! Who listens on which channel, and what the shared connection is to say for that. Pure: asked by
//! clients, answered by whoever speaks to the server.
//!
//! A channel is said to the server once, whoever listens on it. What is said goes out in batches, one
//! after the other, so that what a channel is on the server is always known.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::crossing::Marker;

/// Most channels in one batch, so that none takes a server long.
const BATCH: usize = 200;

/// What is said before markers. Several statements that are said at once are one transaction, which
/// `SET LOCAL` is for; the time is less than the connection's limit for an answer.
const AT_MARKS: &[u8] = b"SET LOCAL synchronous_commit=off;SET LOCAL lock_timeout='2s';";

/// A channel's name, as the server knows it.
pub(super) type Name = Arc<[u8]>;

/// How far a channel has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is to be said.
    Wanted,
    /// It has been said, and is not answered.
    Asked,
    /// The server sends what is notified there.
    Heard,
}

#[derive(Debug)]
struct Channel<E> {
    state: State,
    /// It is that of a marker, not of a client.
    is_marker: bool,
    /// Those who listen, by number.
    ears: Vec<(u64, E)>,
}

/// What becomes of a client that asks for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The server sends what is notified there.
    Heard,
    /// It is told with the answer to a batch.
    Later,
    /// There are too many channels.
    Full,
}

/// What is said to the server at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// The statements.
    pub(super) sql: Vec<u8>,
    /// The channels that are heard once it is answered.
    names: Vec<Name>,
    /// The channels of markers that it notifies.
    marks: Vec<Name>,
}

impl Batch {
    /// Notifies markers, in a transaction of their own, which all of them are in.
    ///
    /// Its commit waits for nobody: not for the disk or another server, since a marker is of no use
    /// after a crash; and not for long for another one that notifies, since it is the batch that is to
    /// fail then, and not the connection.
    pub(super) fn of_marks(marks: impl Iterator<Item = Marker>) -> Self {
        let mut batch = Self::default();
        for one in marks {
            if batch.sql.is_empty() {
                batch.sql.extend_from_slice(AT_MARKS);
            }
            say("NOTIFY ", one.channel(), &mut batch.sql);
            // Before the semicolon.
            batch.sql.pop();
            batch.sql.extend_from_slice(b",'");
            batch.sql.extend_from_slice(one.word());
            batch.sql.extend_from_slice(b"';");
            batch.marks.push(Arc::clone(one.channel()));
        }
        batch
    }

    /// The channels of the markers that it notifies.
    pub(super) fn marks(&self) -> &[Name] {
        &self.marks
    }
}

/// The channels; `E` stands for a client.
#[derive(Debug)]
pub(super) struct Board<E> {
    channels: HashMap<Name, Channel<E>>,
    /// Those of them that are of markers.
    markers: usize,
    /// Names that something may be to be said of.
    todo: VecDeque<Name>,
}

impl<E> Default for Board<E> {
    fn default() -> Self {
        Self {
            channels: HashMap::new(),
            markers: 0,
            todo: VecDeque::new(),
        }
    }
}

impl<E: Clone> Board<E> {
    /// Client `number` wants to hear what is notified on a channel; clients may have `most`.
    pub(super) fn ask(&mut self, name: &Name, number: u64, ear: &E, most: usize) -> Asked {
        self.ask_for(name, (number, ear), false, most)
    }

    /// The same for the channel of its marker; there may be `most` of those.
    pub(super) fn ask_marker(&mut self, name: &Name, number: u64, ear: &E, most: usize) -> Asked {
        self.ask_for(name, (number, ear), true, most)
    }

    fn ask_for(
        &mut self,
        name: &Name,
        (number, ear): (u64, &E),
        is_marker: bool,
        most: usize,
    ) -> Asked {
        let of_clients = self.channels.len() - self.markers;
        let count = if is_marker { self.markers } else { of_clients };
        let Some(channel) = self.channels.get_mut(name) else {
            if count >= most {
                return Asked::Full;
            }
            let channel = Channel {
                state: State::Wanted,
                is_marker,
                ears: vec![(number, ear.clone())],
            };
            self.markers += usize::from(is_marker);
            self.channels.insert(Arc::clone(name), channel);
            self.todo.push_back(Arc::clone(name));
            return Asked::Later;
        };
        if channel.ears.iter().all(|(known, _)| *known != number) {
            channel.ears.push((number, ear.clone()));
        }
        if channel.state == State::Heard {
            Asked::Heard
        } else {
            Asked::Later
        }
    }

    /// It wants to no more.
    pub(super) fn leave(&mut self, name: &Name, number: u64) {
        let Some(channel) = self.channels.get_mut(name) else {
            return;
        };
        channel.ears.retain(|(known, _)| *known != number);
        if channel.ears.is_empty() {
            self.todo.push_back(Arc::clone(name));
        }
    }

    /// Whether something is to be said.
    pub(super) fn has_more(&self) -> bool {
        !self.todo.is_empty()
    }

    /// What is to be said next; to be asked once the last batch is answered.
    pub(super) fn next_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..BATCH {
            let Some(name) = self.todo.pop_front() else {
                break;
            };
            let Some(channel) = self.channels.get_mut(&name) else {
                continue;
            };
            match (channel.state, channel.ears.is_empty()) {
                (State::Wanted, false) => {
                    channel.state = State::Asked;
                    say("LISTEN ", &name, &mut batch.sql);
                    batch.names.push(name);
                }
                (State::Wanted, true) => self.remove(&name),
                (State::Heard, true) => {
                    // Who asks for it from now on does so behind this.
                    self.remove(&name);
                    say("UNLISTEN ", &name, &mut batch.sql);
                }
                (State::Asked | State::Heard, false) | (State::Asked, true) => {}
            }
        }
        batch
    }

    /// A batch was answered; gives whom to tell of which channel.
    pub(super) fn answered(&mut self, batch: Batch, is_done: bool) -> Vec<(Name, E)> {
        let mut told = Vec::new();
        for name in batch.names {
            let Some(channel) = self.channels.get_mut(&name) else {
                continue;
            };
            let ears = channel.ears.iter();
            told.extend(ears.map(|(_, ear)| (Arc::clone(&name), ear.clone())));
            if !is_done {
                self.remove(&name);
                continue;
            }
            channel.state = State::Heard;
            if channel.ears.is_empty() {
                self.todo.push_back(name);
            }
        }
        told
    }

    fn remove(&mut self, name: &Name) {
        if let Some(channel) = self.channels.remove(name) {
            self.markers -= usize::from(channel.is_marker);
        }
    }

    /// Those who listen on a channel.
    pub(super) fn ears(&self, name: &[u8]) -> impl Iterator<Item = &E> {
        let channel = self.channels.get(name).into_iter();
        channel.flat_map(|channel| channel.ears.iter().map(|(_, ear)| ear))
    }

    /// Forgets everything; gives everybody who listened, each once.
    pub(super) fn clear(&mut self) -> Vec<E> {
        self.todo.clear();
        self.markers = 0;
        let mut seen = HashSet::new();
        let channels = self.channels.drain();
        let ears = channels.flat_map(|(_, channel)| channel.ears);
        ears.filter(|(number, _)| seen.insert(*number))
            .map(|(_, ear)| ear)
            .collect()
    }

    /// How many channels there are.
    pub(super) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// How many clients listen.
    pub(super) fn listeners(&self) -> usize {
        let ears = self.channels.values().flat_map(|channel| &channel.ears);
        let numbers: HashSet<u64> = ears.map(|(number, _)| *number).collect();
        numbers.len()
    }
}

/// Writes a statement about a channel.
fn say(verb: &str, name: &[u8], sql: &mut Vec<u8>) {
    sql.extend_from_slice(verb.as_bytes());
    sql.push(b'"');
    for &byte in name {
        if byte == b'"' {
            sql.push(byte);
        }
        sql.push(byte);
    }
    sql.extend_from_slice(b"\";");
}

#[cfg(test)]
mod tests;
