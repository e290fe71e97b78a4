//! A client that listens: what its statements need of the shared connection, and what it hears of
//! that.

use std::sync::Arc;

use super::Client;
use super::cross::Crossing;
use crate::answers::{Effect, Fate};
use crate::flow::Flow;
use crate::listening::landing::Landing;
use crate::listening::{self, Ear, Hearing, Held, Hub};
use crate::pool::Pool;
use crate::problem::Refusal;
use crate::server::Server;
use crate::sql::facts::{Kind, Statements};
use crate::wire::read;

/// What of notifications is written at a time.
const AT_ONCE: usize = 64 * 1024;
/// `untranslatable_character`.
const UNTRANSLATABLE: &str = "22P05";

/// How far it is known which notifications are the client's own.
#[derive(Debug)]
enum Own {
    /// It has sent none that it could hear.
    None,
    /// It is about to, once everything older is heard.
    Before(u64),
    /// It does: what its server process notifies is its own.
    Held(Held),
    /// It has, and all is heard soon.
    After(u64, #[expect(dead_code, reason = "held until then")] Held),
}

/// What a client that listens has for it.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) pool: Arc<Pool>,
    pub(super) ear: Arc<Ear>,
    /// The encoding in which it read texts when it began.
    pub(super) encoding: Box<str>,
    own: Own,
    /// How far it is on its way to another process.
    pub(super) way: Crossing,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.pool.hub.forget(&self.ear);
    }
}

impl Listening {
    /// What another process has begun, in the pool that the client is in here.
    pub(super) fn landed(landing: Landing, pool: &Arc<Pool>) -> Self {
        let encoding = landing.encoding().into();
        Self {
            ear: landing.into_ear(pool),
            pool: Arc::clone(pool),
            encoding,
            own: Own::None,
            way: Crossing::default(),
        }
    }

    /// The client is in another lane of its pool, which has the same shared connection.
    pub(super) fn move_to(&mut self, pool: &Arc<Pool>) {
        self.pool = Arc::clone(pool);
    }

    /// Waits until it is certain that what its server process notifies from now on is its own; true
    /// when that takes more time.
    fn holds_back(&mut self, process: u32, client: u32) -> bool {
        if !self.ear.has_any() {
            return false;
        }
        if matches!(self.own, Own::None) {
            self.own = Own::Before(self.pool.hub.fence(&self.ear));
        }
        match self.own {
            Own::Before(number) if self.ear.is_fenced(number) => {
                self.own = Own::Held(Hub::hold(&self.pool, process, client));
                false
            }
            Own::None | Own::Held(_) => false,
            Own::Before(_) | Own::After(..) => true,
        }
    }

    /// Waits until it has heard what it notified itself; true when that takes more time.
    fn waits_for_own(&mut self) -> bool {
        match std::mem::replace(&mut self.own, Own::None) {
            Own::Held(held) => {
                let number = self.pool.hub.fence(&self.ear);
                self.own = Own::After(number, held);
            }
            other => self.own = other,
        }
        match self.own {
            Own::After(number, _) if self.ear.is_fenced(number) => {
                self.own = Own::None;
                false
            }
            Own::After(..) => true,
            Own::None | Own::Before(_) | Own::Held(_) => false,
        }
    }

    /// A new series of messages is about to be sent to a server that is at rest.
    pub(super) fn begin(&self) {
        self.ear.drop_promised();
    }
}

impl Client {
    /// Whether a text has to wait until the shared connection has done what it needs.
    pub(super) fn waits_to_listen(&mut self, effect: &Effect, server: &Server) -> bool {
        if effect.listens {
            let mut waits = false;
            for statement in Statements::new(&effect.text, effect.lexing) {
                if statement.kind == Kind::Listen {
                    let name = statement.name.and_then(listening::channel_name);
                    waits |= self.is_asked(name.as_deref());
                }
            }
            if waits {
                return true;
            }
        }
        let (process, client) = (server.target.process, self.cancel.key.process);
        let listening = self.listening.as_mut().filter(|_| effect.notifies);
        listening.is_some_and(|listening| listening.holds_back(process, client))
    }

    /// Sees to it that the shared connection listens on a channel, or the client by itself; true while
    /// that is not known.
    fn is_asked(&mut self, name: Option<&[u8]>) -> bool {
        let Some(name) = name else {
            self.session.listen_alone();
            return false;
        };
        let encoding = self.variables.get("client_encoding").unwrap_or_default();
        let (pool, seen) = (&self.pool, &self.identity.entry.seen);
        let listening = self.listening.get_or_insert_with(|| {
            Box::new(Listening {
                pool: Arc::clone(pool),
                ear: Ear::new(seen),
                encoding: encoding.into(),
                own: Own::None,
                way: Crossing::default(),
            })
        });
        let ear = &listening.ear;
        let hearing = ear
            .hearing(name)
            .unwrap_or_else(|| listening::ask(&self.worker, pool, ear, name, encoding));
        match hearing {
            Hearing::Asked => true,
            Hearing::Promised | Hearing::Active => false,
            Hearing::Refused => {
                self.session.listen_alone();
                false
            }
        }
    }

    /// Whether it has to do with notifications.
    #[inline]
    pub(super) fn listens(&self) -> bool {
        self.listening.is_some() || self.session.has_heard()
    }

    /// Whether it keeps the connection that it has.
    pub(super) fn is_pinned(&self) -> bool {
        !self.session.pins().is_empty()
    }

    /// No transaction is open any more; `is_undone` when the last one came to nothing.
    pub(super) fn end_transaction(&mut self, is_undone: bool) {
        self.session.end_transaction(is_undone);
    }

    /// Whether the end of what the client did is to wait until it has heard what it notified.
    pub(super) fn waits_for_own(&mut self) -> bool {
        let listening = self.listening.as_mut();
        listening.is_some_and(|listening| listening.waits_for_own())
    }

    /// Takes note that no transaction is open any more, and of what is listened on since. With
    /// `is_quiet` nothing is under way that was not committed.
    pub(super) fn settle_listening(&mut self, is_quiet: bool) {
        let changes = self.session.take_heard();
        let Some(listening) = &self.listening else {
            return;
        };
        let (hub, ear) = (&listening.pool.hub, &listening.ear);
        if !changes.is_empty() {
            hub.leave(&ear.settle(&changes), ear);
        }
        if is_quiet {
            hub.leave(&ear.give_up(), ear);
            if !ear.has_any() && ear.over().is_none() {
                self.listening = None;
            }
        }
    }

    /// The server that was lent is of others from now on.
    pub(super) fn end_listening_there(&mut self) {
        if let Some(listening) = &mut self.listening {
            listening.own = Own::None;
        }
    }

    /// Why the client is to be ended, if what it listens on is not heard any more.
    pub(super) fn deaf(&self) -> Option<Refusal> {
        self.listening.as_ref()?.ear.over()
    }

    /// Writes what the client is to hear, between two messages.
    pub(super) fn hear(&self, flow: &mut Flow) {
        let Some(listening) = &self.listening else {
            return;
        };
        let encoding = self.variables.get("client_encoding");
        let is_same = encoding == Some(&*listening.encoding);
        let foreign = || {
            let message = "a notification cannot be told in the encoding that was set since LISTEN";
            Refusal::new(UNTRANSLATABLE, message)
        };
        let mut out = Vec::new();
        let count = listening.ear.take(&mut out, AT_ONCE, is_same, foreign);
        if count > 0 {
            self.pool.numbers.notifications.add(count);
            flow.put(|all| all.extend_from_slice(&out));
        }
    }

    /// The same while the client has no connection to a server.
    pub(super) fn hear_alone(&mut self) {
        if self.listening.is_some() && !self.tail.is_pending() {
            let mut tail = std::mem::take(&mut self.tail);
            self.hear(&mut tail);
            self.tail = tail;
        }
    }

    /// What becomes of a notification that comes from the server that is lent to the client. What the
    /// shared connection listens on is told by that; what nobody listens on here was left behind by
    /// somebody else.
    /// Whether it was is told as well.
    pub(super) fn judge_notification(&self, body: &[u8]) -> (Fate, bool) {
        let channel = read::number(body).and_then(|(_, rest)| read::text(rest));
        let Some((channel, _)) = channel else {
            return (Fate::Nonsense, false);
        };
        let hearing = self.listening.as_ref().map(|one| one.ear.hearing(channel));
        match hearing.flatten() {
            Some(Hearing::Asked | Hearing::Promised | Hearing::Active) => (Fate::LeaveOut, false),
            Some(Hearing::Refused) | None if self.session.listens_alone() => (Fate::Pass, false),
            Some(Hearing::Refused) | None => (Fate::LeaveOut, true),
        }
    }
}
