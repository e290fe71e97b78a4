//! Who listens on which channel, and what the shared connection is to say for that. Pure: asked by
//! clients, answered by whoever speaks to the server.
//!
//! A channel is said to the server once, whoever listens on it. What is said goes out in batches, one
//! after the other, so that what a channel is on the server is always known.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Most channels in one batch, so that none takes a server long.
const BATCH: usize = 200;

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
}

impl Batch {
    /// Notifies as well. What is notified needs no escaping.
    pub(super) fn notify(&mut self, channel: &[u8], word: &[u8]) {
        say("NOTIFY ", channel, &mut self.sql);
        // Before the semicolon.
        self.sql.pop();
        self.sql.extend_from_slice(b",'");
        self.sql.extend_from_slice(word);
        self.sql.extend_from_slice(b"';");
    }
}

/// The channels; `E` stands for a client.
#[derive(Debug)]
pub(super) struct Board<E> {
    channels: HashMap<Name, Channel<E>>,
    /// Names that something may be to be said of.
    todo: VecDeque<Name>,
}

impl<E> Default for Board<E> {
    fn default() -> Self {
        Self {
            channels: HashMap::new(),
            todo: VecDeque::new(),
        }
    }
}

impl<E: Clone> Board<E> {
    /// Client `number` wants to hear what is notified on a channel.
    pub(super) fn ask(&mut self, name: &Name, number: u64, ear: &E, most: usize) -> Asked {
        let count = self.channels.len();
        let Some(channel) = self.channels.get_mut(name) else {
            if count >= most {
                return Asked::Full;
            }
            let channel = Channel {
                state: State::Wanted,
                ears: vec![(number, ear.clone())],
            };
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
                (State::Wanted, true) => {
                    self.channels.remove(&name);
                }
                (State::Heard, true) => {
                    // Who asks for it from now on does so behind this.
                    self.channels.remove(&name);
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
                self.channels.remove(&name);
                continue;
            }
            channel.state = State::Heard;
            if channel.ears.is_empty() {
                self.todo.push_back(name);
            }
        }
        told
    }

    /// Those who listen on a channel.
    pub(super) fn ears(&self, name: &[u8]) -> impl Iterator<Item = &E> {
        let channel = self.channels.get(name).into_iter();
        channel.flat_map(|channel| channel.ears.iter().map(|(_, ear)| ear))
    }

    /// Forgets everything; gives everybody who listened, each once.
    pub(super) fn clear(&mut self) -> Vec<E> {
        self.todo.clear();
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
mod tests {
    use super::*;

    const MOST: usize = 4;

    /// Steps: `+c1` client 1 asks for c, `-c1` leaves it, `>` a batch is said, `!` it is answered, `x`
    /// it fails, `?c` who listens. What each says is joined.
    fn check(steps: &[(&str, &str)]) {
        let mut board: Board<char> = Board::default();
        let mut said = None;
        for (step, expected) in steps {
            let mut letters = step.chars();
            let verb = letters.next().expect("a verb");
            let letters: Vec<char> = letters.collect();
            let name: Name = letters.first().map_or_else(
                || Name::from(&b""[..]),
                |name| name.to_string().into_bytes().into(),
            );
            let client = letters.get(1).copied().unwrap_or('0');
            let number = u64::from(client);
            let result = match verb {
                '+' => format!("{:?}", board.ask(&name, number, &client, MOST)),
                '-' => {
                    board.leave(&name, number);
                    String::new()
                }
                '>' => {
                    let batch = board.next_batch();
                    let sql = String::from_utf8_lossy(&batch.sql).into_owned();
                    said = Some(batch);
                    sql
                }
                '!' | 'x' => {
                    let batch = said.take().expect("a batch");
                    let told = board.answered(batch, verb == '!');
                    let told = told.iter().map(|(name, ear)| {
                        let name = String::from_utf8_lossy(name).into_owned();
                        format!("{name}{ear}")
                    });
                    told.collect::<Vec<_>>().join(" ")
                }
                _ => board.ears(&name).collect(),
            };
            assert_eq!(result, *expected, "{step} of {steps:?}");
        }
    }

    #[test]
    fn a_channel_is_said_once() {
        check(&[
            ("+a1", "Later"),
            ("+a2", "Later"),
            ("+b2", "Later"),
            (">", "LISTEN \"a\";LISTEN \"b\";"),
            ("+a3", "Later"),
            ("!", "a1 a2 a3 b2"),
            ("+a4", "Heard"),
            ("+a4", "Heard"),
            ("?a", "1234"),
            ("?c", ""),
            (">", ""),
        ]);
    }

    #[test]
    fn nobody_is_nobody() {
        check(&[
            ("+a1", "Later"),
            ("-a1", ""),
            (">", ""),
            ("!", ""),
            ("+a1", "Later"),
            (">", "LISTEN \"a\";"),
            ("-a1", ""),
            ("!", ""),
            (">", "UNLISTEN \"a\";"),
            // Behind the one that is under way.
            ("+a2", "Later"),
            ("!", ""),
            (">", "LISTEN \"a\";"),
            ("!", "a2"),
            ("-a2", ""),
            ("+a3", "Heard"),
            (">", ""),
            ("?a", "3"),
        ]);
    }

    #[test]
    fn what_fails_is_forgotten() {
        check(&[
            ("+a1", "Later"),
            (">", "LISTEN \"a\";"),
            ("x", "a1"),
            ("?a", ""),
            ("+a1", "Later"),
            (">", "LISTEN \"a\";"),
            ("!", "a1"),
        ]);
    }

    #[test]
    fn names_are_quoted_and_counted() {
        check(&[
            ("+\"1", "Later"),
            ("+b1", "Later"),
            ("+c1", "Later"),
            ("+d1", "Later"),
            ("+e1", "Full"),
            (
                ">",
                "LISTEN \"\"\"\";LISTEN \"b\";LISTEN \"c\";LISTEN \"d\";",
            ),
            ("!", "\"1 b1 c1 d1"),
            ("-b1", ""),
            (">", "UNLISTEN \"b\";"),
            ("+e1", "Later"),
        ]);
    }

    #[test]
    fn everybody_is_told_once() {
        let mut board: Board<char> = Board::default();
        for (name, number) in [("a", 1), ("a", 2), ("b", 1)] {
            let ear = if number == 1 { 'x' } else { 'y' };
            board.ask(&name.as_bytes().into(), number, &ear, MOST);
        }
        assert_eq!((board.channels(), board.listeners()), (2, 2));
        let mut told = board.clear();
        told.sort_unstable();
        assert_eq!(told, ['x', 'y']);
        assert!(!board.has_more() && board.channels() == 0);
    }
}
