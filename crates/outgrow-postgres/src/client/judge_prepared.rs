//! What becomes of the messages that prepare, bind, describe and close statements and portals.

use std::sync::Arc;

use super::Client;
use super::judge::{Following, Judged};
use super::own_names::is_own;
use super::watch::Watchable;
use crate::answers::{Due, Effect, Local};
use crate::diagnosis::repeats::values;
use crate::events::{Level, Topic};
use crate::flow::{Flow, LARGEST};
use crate::prepared::Statement;
use crate::problem::{NO_MEMORY, Refusal};
use crate::sequences::Uses;
use crate::server::Server;
use crate::sql::facts::Pin;
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::{frontend, read, write};

/// Most portals that change the session, at a time.
const MOST_PORTALS: usize = 64;

impl Client {
    pub(super) fn effect_of_portal(&self, header: Header) -> Option<Arc<Effect>> {
        if self.portals.is_empty() {
            return None;
        }
        let body = self.up.unread().get(HEADER_BYTES..header.whole())?;
        let (name, _) = read::text(body)?;
        let known = self.portals.iter().find(|(known, _)| **known == *name);
        known.map(|(_, effect)| Arc::clone(effect))
    }

    /// Takes note of what executing a portal does, that is made of a statement.
    fn note_portal(&mut self, portal: &[u8], statement: &[u8], known: Option<&Arc<Statement>>) {
        let effect = match known {
            Some(statement) => statement.effect.clone(),
            None if statement.is_empty() => self.unnamed.clone(),
            None => None,
        };
        if !self.portals.is_empty() {
            self.portals.retain(|(known, _)| **known != *portal);
        }
        if let Some(effect) = effect {
            if self.portals.len() >= MOST_PORTALS {
                self.session.pin(Pin::Unread);
                self.portals.clear();
            }
            self.portals.push((portal.into(), effect));
        }
    }

    /// True when it has to wait.
    pub(super) fn judge_parse(
        &mut self,
        server: &mut Server,
        header: Header,
        following: Following<'_>,
    ) -> bool {
        let whole = header.whole();
        let mut parsed = parse_message(&self.up, whole);
        let is_looked_at = following.is_on || following.watches;
        let found = parsed
            .filter(|parse| is_looked_at && parse.name.is_empty())
            .map(|parse| self.find(parse.query));
        if found.as_ref().is_some_and(|found| found.names_prepared) && following.limit > 0 {
            if self.change_own_names(header, true, following.prefix) {
                return self.judge_parse(server, header, following);
            }
            parsed = parse_message(&self.up, whole);
        }
        if let Some(found) = &found
            && found.uses.asks
            && following.is_on
        {
            if self.ask_sequences(server, found.uses) {
                return true;
            }
            parsed = parse_message(&self.up, whole);
        }
        if parsed.is_none_or(|parse| parse.name.is_empty()) {
            let next = self.up.unread().get(whole);
            self.unnamed_statement.note(parsed, next, following.is_on);
            self.mark_unnamed(server);
        }
        match parsed {
            Some(parse) => {
                if let Some(found) = found {
                    if following.watches {
                        let record = self.record_of(Watchable::found(parse.query, &found));
                        self.watched.parse(record);
                    }
                    self.unnamed = found.effect.filter(|_| following.is_on);
                    self.unnamed_uses = found.uses;
                }
            }
            // As with a query that is too long.
            None => server.is_tainted |= following.is_on,
        }
        let followed = parsed
            .filter(|parse| following.limit > 0 && !parse.name.is_empty())
            .filter(|parse| self.names.get(parse.name).is_none());
        let Some(parse) = followed else {
            // The unnamed statement; what is too long to be kept; what the server is to refuse: a
            // name that is taken on our side is, or will be, taken on the server's.
            let taken = parsed.and_then(|parse| self.names.get(parse.name).cloned());
            let due = Due::Parse {
                ours: false,
                statement: None,
                name: None,
            };
            match taken {
                Some(statement) => {
                    let name = parsed.map(|parse| String::from_utf8_lossy(parse.name).into_owned());
                    self.identity.entry.say(Level::Error, Topic::Other, || {
                        let name = name.unwrap_or_default();
                        format!("prepared statement '{name}' was already prepared")
                    });
                    self.prepare(server, &statement, following);
                    self.up.replace(whole, |_, out| {
                        write::parse(out, &statement.name, &statement.query, &statement.types);
                    });
                }
                None => self.up.pass_message(whole),
            }
            server.answers.push(due);
            return false;
        };
        let plans = self.pool.plans();
        let find = || self.find(parse.query);
        let statements = &self.worker.statements;
        let statement = statements.of(parse.query, parse.types, plans, following.prefix, find);
        let name: Box<[u8]> = parse.name.into();
        if statement.names_prepared && self.change_own_names(header, true, following.prefix) {
            return self.judge_parse(server, header, following);
        }
        if statement.uses.asks && following.is_on && self.ask_sequences(server, statement.uses) {
            return true;
        }
        self.pool.numbers.client_parses.add(1);
        self.names.insert(&name, Arc::clone(&statement));
        if server.prepared.uses(&statement) {
            self.up.leave_out(whole);
            server.answers.push(Due::Local(Local::Parsed, Some(name)));
            return false;
        }
        self.make_room(server, &statement, following);
        self.pool.numbers.server_parses.add(1);
        self.up.replace(whole, |_, out| {
            write::parse(out, &statement.name, &statement.query, &statement.types);
        });
        server.answers.push(Due::Parse {
            ours: false,
            statement: Some(statement),
            name: Some(name),
        });
        false
    }

    /// Sees to it that the statement is prepared on the server's connection.
    fn prepare(
        &mut self,
        server: &mut Server,
        statement: &Arc<Statement>,
        following: Following<'_>,
    ) {
        if server.prepared.uses(statement) {
            return;
        }
        self.make_room(server, statement, following);
        self.pool.numbers.server_parses.add(1);
        self.up.put(|out| {
            write::parse(out, &statement.name, &statement.query, &statement.types);
        });
        server.answers.push(Due::Parse {
            ours: true,
            statement: Some(Arc::clone(statement)),
            name: None,
        });
    }

    fn make_room(
        &mut self,
        server: &mut Server,
        statement: &Arc<Statement>,
        following: Following<'_>,
    ) {
        server.prepared.insert(Arc::clone(statement));
        while let Some(oldest) = server.prepared.evict(following.limit) {
            self.up.put(|out| write::close(out, b'S', &oldest.name));
            server.answers.push(Due::Close { ours: true });
        }
    }

    pub(super) fn judge_bind(
        &mut self,
        server: &mut Server,
        header: Header,
        following: Following<'_>,
    ) -> Option<Judged> {
        let whole = header.whole();
        let unread = self.up.unread();
        let mut body = &unread[HEADER_BYTES..unread.len().min(whole)];
        let is_whole = unread.len() >= whole;
        let Some((mut portal, mut name, length)) = read::bind(body) else {
            if is_whole {
                // The server says what is wrong with it.
                server.answers.push(Due::Bind);
                self.up.pass(whole);
                return None;
            }
            if unread.len() >= LARGEST {
                return Some(too_large());
            }
            self.up.want(whole.min(LARGEST).max(unread.len() + 1));
            return Some(Judged::Blocked);
        };
        let known = self
            .names
            .get(name)
            .filter(|_| following.limit > 0)
            .cloned();
        let portal_bytes = portal.len();
        if known.is_none() && following.limit > 0 && is_own(name, following.prefix) {
            let start = HEADER_BYTES + portal.len() + 1;
            self.change_own_name(start, following.prefix);
            return self.judge_bind(server, header, following);
        }
        let is_unnamed = name.is_empty();
        let uses = match &known {
            Some(statement) => statement.uses,
            None if is_unnamed => self.unnamed_uses,
            None => Uses::default(),
        };
        if uses.is_some() && following.is_on {
            if self.use_sequences(server, uses) {
                return Some(Judged::Waits);
            }
            let unread = self.up.unread();
            body = &unread[HEADER_BYTES..unread.len().min(whole)];
            let Some(names) = read::bind(body) else {
                return Some(too_large());
            };
            (portal, name, _) = names;
        }
        if following.watches {
            let record = match &known {
                Some(statement) => self.record_of(Watchable::from(&**statement)),
                None if name.is_empty() => self.watched.unnamed(),
                None => None,
            };
            let is_sampled = record.as_ref().filter(|_| is_whole).is_some_and(|record| {
                let seen = &self.identity.entry.seen;
                let text = known.as_ref().map_or(&b""[..], |known| &known.query);
                let values = || values::of_bind(&body[length..]);
                self.watched
                    .follow(&self.worker, seen, record, text, values)
            });
            self.watched.bind(portal, record, is_sampled);
        }
        let changes_something = match &known {
            Some(statement) => statement.effect.is_some(),
            None => name.is_empty() && self.unnamed.is_some(),
        };
        if following.is_on && (changes_something || !self.portals.is_empty()) {
            let (portal, name): (Box<[u8]>, Box<[u8]>) = (portal.into(), name.into());
            self.note_portal(&portal, &name, known.as_ref());
        }
        if let Some(statement) = known {
            self.pool.numbers.binds.add(1);
            self.prepare(server, &statement, following);
            let rest = header.body as usize - length;
            self.up.replace(HEADER_BYTES + length, |old, out| {
                let portal = &old[HEADER_BYTES..HEADER_BYTES + portal_bytes];
                let length = 4 + portal.len() + 1 + statement.name.len() + 1 + rest;
                out.push(frontend::BIND);
                out.extend_from_slice(&(length as u32).to_be_bytes());
                write::text(out, portal);
                write::text(out, &statement.name);
            });
            self.up.pass_message(rest);
            server.answers.push(Due::BindKnown);
        } else {
            if is_unnamed && following.is_on {
                self.bring_unnamed(server);
            }
            // A name that only we do not know is one that the server refuses (26000).
            self.up.pass_message(whole);
            server.answers.push(Due::Bind);
        }
        None
    }

    /// Describe and Close.
    pub(super) fn judge_target(
        &mut self,
        server: &mut Server,
        header: Header,
        following: Following<'_>,
    ) -> Option<Refusal> {
        let whole = header.whole();
        let is_close = header.tag == frontend::CLOSE;
        let body = self.up.unread().get(HEADER_BYTES..whole);
        let target = body.and_then(read::target);
        let named =
            target.filter(|(kind, name)| *kind == b'S' && !name.is_empty() && following.limit > 0);
        let due = if is_close {
            Due::Close { ours: false }
        } else {
            Due::Describe
        };
        let Some((_, name)) = named else {
            if following.is_on && target == Some((b'S', &b""[..])) {
                match is_close {
                    true => self.end_unnamed(server),
                    false => self.bring_unnamed(server),
                }
            }
            self.up.pass_message(whole);
            server.answers.push(due);
            return None;
        };
        if is_close {
            let name: Box<[u8]> = name.into();
            self.names.remove(&name);
            self.up.leave_out(whole);
            server.answers.push(Due::Local(Local::Closed, None));
            return None;
        }
        match self.names.get(name).cloned() {
            Some(statement) => {
                self.prepare(server, &statement, following);
                self.up
                    .replace(whole, |_, out| write::describe(out, b'S', &statement.name));
            }
            None => {
                if is_own(name, following.prefix) {
                    self.change_own_name(HEADER_BYTES + 1, following.prefix);
                }
                self.up.pass(whole);
            }
        }
        server.answers.push(due);
        None
    }
}

/// The Parse message that comes next, if it is one and is there as a whole.
#[inline]
fn parse_message(up: &Flow, whole: usize) -> Option<read::Parse<'_>> {
    let body = up.unread().get(HEADER_BYTES..whole);
    body.and_then(read::Parse::read)
}

fn too_large() -> Judged {
    let message = "names of a Bind message are longer than 256 KiB";
    Judged::Refused(Refusal::new(NO_MEMORY, message))
}
