//! A client leaves for the next process: when, and what it takes along.
//!
//! It leaves when nothing of it is under way here: it has no connection to a server, everything that
//! it was to be told is with the kernel, and of what it sent nothing has begun. Whether it waits for
//! something to say or for a connection makes no difference: what it said goes along.

use std::os::fd::AsFd;

use super::Client;
use super::judge::is_amid_message;
use crate::handover::state::{ClientState, Prepared, Proof};
use crate::handover::{Answer, Stayed, Way};
use crate::login::Credential;
use crate::problem::{Refusal, SHUTDOWN};
use crate::seen::ClientState as Doing;
use crate::shared::Drain;
use crate::socket::Socket;

/// Most bytes that a client has sent and that go along with it. With more it is served here first.
const MOST_INPUT: usize = 64 * 1024;

impl Client {
    /// What is to become of it at rest, while this process leaves; none: it goes on.
    fn way_out(&self) -> Option<(Way, Stayed)> {
        if self.worker.shared.drain() != Drain::Gently {
            return None;
        }
        let way = self.worker.shared.handover.way();
        if way == Way::Tell {
            return Some((Way::Tell, Stayed::NoSuccessor));
        }
        Some(match self.stays_because() {
            Some(reason) => (Way::Tell, reason),
            None if self.listens() => self.way_of_listener(way),
            None => (way, Stayed::NoSuccessor),
        })
    }

    /// Why it cannot be handed over, whatever it does.
    pub(super) fn stays_because(&self) -> Option<Stayed> {
        if !matches!(self.socket, Socket::Plain(_)) {
            Some(Stayed::Tls)
        } else if self.session.is_portable() && !self.identity.is_replicating {
            None
        } else if self.listens() {
            Some(Stayed::Listens)
        } else {
            Some(Stayed::Session)
        }
    }

    /// Whether nothing of it is under way, so that it can change its process at this moment.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.tail.is_pending()
            && !self.up.is_pending()
            && !self.up.is_amid()
            && self.up.unread().len() <= MOST_INPUT
            && self.repeat.is_none()
            && !self.skips
    }

    /// Whether it is about to leave for another process, or waits for one: nobody listens to it then.
    #[inline]
    pub(super) fn is_leaving(&self) -> bool {
        self.worker.shared.drain() == Drain::Gently
            && matches!(self.way_out(), Some((Way::Offer | Way::Hold, _)))
            && self.is_at_rest()
    }

    /// Whether it leaves for another process at this moment; then [`Client::depart`] is what follows.
    pub(super) fn departs_now(&mut self) -> bool {
        self.begin_crossing();
        self.departs = self.is_leaving() && matches!(self.way_out(), Some((Way::Offer, _)));
        self.departs
    }

    /// Ends the wait of a client at rest that is to leave: for another process or lane, or with this word.
    pub(super) fn leave(&mut self) -> Result<(), Option<Refusal>> {
        if self.departs_now() || self.changes_lane() {
            return Err(None);
        }
        match self.way_out() {
            Some((Way::Tell, reason)) if !is_amid_message(&self.up) => {
                Err(Some(self.sent_away(reason)))
            }
            _ => Ok(()),
        }
    }

    /// What a client that listens is told while it waits for a connection here and cannot go to the
    /// next process, which has the connections now.
    pub(super) fn is_told_waiting(&self) -> Option<Refusal> {
        self.listening.as_ref()?;
        if self.worker.shared.drain() != Drain::Gently || !self.worker.shared.has_successor() {
            return None;
        }
        match self.way_out() {
            Some((Way::Tell, reason)) if self.is_at_rest() => Some(self.sent_away(reason)),
            _ => None,
        }
    }

    fn sent_away(&self, reason: Stayed) -> Refusal {
        self.worker.shared.handover.note_told(reason);
        Refusal::new(SHUTDOWN, "server shutting down")
    }

    /// Leaves for the next process. Ends well when that does not work and nobody knows why: then the
    /// client is as before.
    pub(super) async fn depart(&mut self) -> Result<(), Option<Refusal>> {
        self.departs = false;
        let worker = std::sync::Arc::clone(&self.worker);
        let handover = &worker.shared.handover;
        // Without a turn: it may take its time, and others are not to wait for that.
        if !self.is_leaving() || !self.cross().await? {
            return Ok(());
        }
        // One that listens has its place among those that cross; how long the next process takes to hear its
        // marker is not to keep others waiting.
        let turn = match self.listening {
            Some(_) => None,
            None => match handover.turn().await {
                None => return Ok(()),
                turn => turn,
            },
        };
        // Things may have changed meanwhile.
        if let Some(refusal) = self.deaf() {
            return Err(Some(refusal));
        }
        if self.has_not_crossed() {
            return Ok(());
        }
        if !self.is_leaving() || handover.way() != Way::Offer {
            self.give_up_crossing();
            return Ok(());
        }
        let state = self.state();
        let ticket = state.ticket;
        let Some(state) = state.encode() else {
            self.tell_kept().await;
            return Err(Some(self.sent_away(Stayed::TooLarge)));
        };
        let Socket::Plain(stream) = &self.socket else {
            return Ok(());
        };
        let Ok(copy) = stream.as_fd().try_clone_to_owned() else {
            self.tell_kept().await;
            return Err(Some(self.sent_away(Stayed::Refused)));
        };
        let seen = std::sync::Arc::clone(&self.identity.entry.seen);
        seen.set_on_its_way(true);
        let answer = handover.offer(state, copy, ticket).await;
        drop(turn);
        match answer {
            Answer::Taken => {
                handover.counts.given.add_shared(1);
                self.identity.entry.reason = Some("it was handed to the next process".into());
                Err(None)
            }
            Answer::Refused(told) => {
                seen.set_on_its_way(false);
                self.tell_kept().await;
                let refusal = self.sent_away(Stayed::Refused);
                Err(Some(told.unwrap_or(refusal)))
            }
            Answer::Lost => {
                seen.set_on_its_way(false);
                seen.set_state(Doing::Active);
                self.give_up_crossing();
                // Others are to learn of it before it is tried again.
                tokio::task::yield_now().await;
                Ok(())
            }
        }
    }

    /// What it takes along.
    fn state(&self) -> ClientState {
        let seen = &self.identity.entry.seen;
        let luggage = self.listening.as_ref().map(|one| one.luggage());
        let (ticket, channels) = luggage.unwrap_or_default();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let prepared = self.names.iter().map(|(name, statement)| Prepared {
            name: name.to_vec(),
            query: statement.query.to_vec(),
            types: statement.types.to_vec(),
        });
        let unnamed = self
            .unnamed_statement
            .text()
            .map(|(query, types)| Prepared {
                name: Vec::new(),
                query: query.to_vec(),
                types: types.to_vec(),
            });
        ClientState {
            database: self.identity.database.to_string(),
            user: self.identity.user.to_string(),
            minor: self.identity.minor,
            process: self.cancel.key.process,
            secret: self.cancel.secret(),
            start: self.identity.variables.iter().map(owned).collect(),
            variables: self.variables.iter().map(owned).collect(),
            settings: self.session.settings().pairs(),
            prepared: prepared.collect(),
            unnamed,
            proof: proof(&self.identity.credential),
            floor: self.writes.floor(),
            input: self.up.unread().to_vec(),
            proxied: seen.proxied().map(|address| address.to_string()),
            connected: seen.connected.0,
            port: seen.port(),
            channels,
            ticket,
        }
    }
}

/// What was proven, in a form for the way.
pub(super) fn proof(credential: &Credential) -> Option<Proof> {
    Some(match credential {
        Credential::None => return None,
        Credential::Locked => Proof::Locked,
        Credential::Password(password) => Proof::Password(password.expose().to_vec()),
        Credential::Md5(hash) => Proof::Md5(hash.text().to_vec()),
        Credential::Scram(passed) => Proof::Scram {
            client: *passed.keys.client(),
            server: *passed.keys.server(),
            salt: passed.salt.bytes.clone(),
            iterations: passed.salt.iterations.get(),
        },
    })
}

/// What was proven, by its form; none when it is none.
pub(super) fn credential(proof: Option<Proof>) -> Option<Credential> {
    use crate::login::{PassedKeys, Password, md5};
    use outgrow_upstream::scram::{Keys, Salt};
    Some(match proof {
        None => Credential::None,
        Some(Proof::Locked) => Credential::Locked,
        Some(Proof::Password(bytes)) => Credential::Password(Password::new(&bytes).ok()?.into()),
        Some(Proof::Md5(text)) => Credential::Md5(md5::Hash::read(&text)?),
        Some(Proof::Scram {
            client,
            server,
            salt,
            iterations,
        }) => {
            let keys = Keys::new(client, server);
            let salt = Salt {
                bytes: salt,
                iterations: iterations.try_into().ok()?,
            };
            Credential::Scram(PassedKeys { keys, salt }.into())
        }
    })
}

#[cfg(test)]
mod tests {
    use outgrow_upstream::scram::{Keys, Salt};

    use super::*;
    use crate::login::{PassedKeys, Password, md5};

    #[test]
    fn what_was_proven_is_the_same_in_the_next_process() {
        let password = Password::new(b"geheim").expect("a password");
        let salt = Salt {
            bytes: vec![1, 2, 3],
            iterations: 4096.try_into().expect("not zero"),
        };
        let keys = PassedKeys {
            keys: Keys::new([1; 32], [2; 32]),
            salt,
        };
        for one in [
            Credential::None,
            Credential::Locked,
            Credential::Password(password.into()),
            Credential::Md5(md5::Hash::of(b"geheim", "user")),
            Credential::Scram(keys.into()),
        ] {
            assert_eq!(credential(proof(&one)).as_ref(), Some(&one));
        }
        for nonsense in [
            Proof::Password(Vec::new()),
            Proof::Md5(b"md5nothing".to_vec()),
            Proof::Scram {
                client: [0; 32],
                server: [0; 32],
                salt: Vec::new(),
                iterations: 0,
            },
        ] {
            assert_eq!(credential(Some(nonsense)), None);
        }
    }
}
