//! What becomes of each message that a client sends.

use std::sync::Arc;

use super::Client;
use super::watch::Watchable;
use crate::answers::{Due, Effect, Local};
use crate::diagnosis::repeats::values;
use crate::diagnosis::statements::Class;
use crate::events::{Level, Topic};
use crate::flow::{Flow, LARGEST};
use crate::plan::PoolPlan;
use crate::prepared::{Found, Statement};
use crate::problem::{NO_MEMORY, PROTOCOL, Refusal};
use crate::sequences::Uses;
use crate::server::{Server, transaction};
use crate::settings::PoolMode;
use crate::sql::facts::{Facts, Kind, Pin, Statements};
use crate::wire::frame::{self, Frame, HEADER_BYTES, Header};
use crate::wire::{frontend, read, write};

/// Most portals that change the session, at a time.
const MOST_PORTALS: usize = 64;

/// Where judging ended.
#[derive(Debug)]
pub(super) enum Judged {
    /// More has to come from the client, or what is judged has to be written first.
    Blocked,
    /// What the next message needs besides is not there yet: the client is woken when it is.
    Waits,
    /// The next message needs a connection to the server.
    NeedsServer,
    /// The client says goodbye.
    Leaves,
    /// The client cannot be served on.
    Refused(Refusal),
}

/// How statements that clients prepare are followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Following<'h> {
    /// Most statements on a connection; 0: none are followed.
    pub(super) limit: usize,
    /// How their names begin.
    pub(super) prefix: &'h str,
    /// Whether what follows a series waits until that is answered: it may have to go elsewhere.
    pub(super) one_series: bool,
    /// Whether what statements do to the session is followed.
    pub(super) is_on: bool,
    /// Whether what statements cost is watched.
    pub(super) watches: bool,
}

impl<'h> Following<'h> {
    /// As a pool's plan says.
    #[inline]
    pub(super) fn by(plan: &'h PoolPlan, one_series: bool) -> Self {
        let house = &plan.house;
        let is_on = plan.mode != PoolMode::Session;
        Self {
            limit: if is_on { house.max_prepared } else { 0 },
            prefix: &house.prepared_prefix,
            one_series,
            is_on,
            watches: house.diagnosis.is_some(),
        }
    }
}

impl Client {
    /// Judges what has come while the client has no connection to the server.
    pub(super) fn judge_alone(&mut self) -> Judged {
        loop {
            if !self.up.go_on() {
                return Judged::Blocked;
            }
            let (header, is_whole) = match frame::begun(self.up.unread()) {
                Err(_) => return bad_header(),
                Ok(None) => return Judged::Blocked,
                Ok(Some(begun)) => begun,
            };
            match header.tag {
                frontend::TERMINATE => return Judged::Leaves,
                frontend::SYNC if header.body == 0 => {
                    self.up.leave_out(header.whole());
                    self.tail.put(|out| write::ready(out, b'I'));
                    return Judged::Blocked;
                }
                frontend::FLUSH if header.body == 0 => self.up.leave_out(header.whole()),
                // The rest of a COPY that the server has given up: a server ignores it too.
                frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => {
                    self.up.leave_out_message(header.whole());
                }
                // Who is slow to say what it wants keeps no connection from others.
                tag if is_known(tag) && !is_whole && header.whole() <= LARGEST => {
                    self.up.want(header.whole());
                    return Judged::Blocked;
                }
                tag if is_known(tag) => return Judged::NeedsServer,
                _ => return unknown(),
            }
        }
    }

    /// Judges what has come, for `server`.
    #[inline]
    pub(super) fn judge(&mut self, server: &mut Server, following: Following<'_>) -> Judged {
        loop {
            if !self.up.go_on() || !self.up.has_room() {
                return Judged::Blocked;
            }
            let answers = &server.answers;
            // What we have said ourselves in front of a series belongs to it.
            if following.one_series && answers.ends_series() && !answers.are_ours() {
                return Judged::Blocked;
            }
            let (header, is_whole) = match frame::begun(self.up.unread()) {
                Err(_) => return bad_header(),
                Ok(None) => return Judged::Blocked,
                Ok(Some(begun)) => begun,
            };
            if !is_whole && must_be_whole(header) {
                self.up.want(header.whole());
                return Judged::Blocked;
            }
            if self.caching.is_some() {
                self.watch(header, is_whole);
            }
            match header.tag {
                frontend::QUERY => {
                    if self.judge_query(server, header, is_whole, following) {
                        return Judged::Waits;
                    }
                }
                frontend::SYNC => {
                    server.answers.push(Due::Sync);
                    server.watch.end_series();
                    self.up.pass(header.whole());
                }
                frontend::EXECUTE => {
                    let effect = self.effect_of_portal(header);
                    if let Some(effect) = &effect
                        && self.waits_to_listen(effect, server)
                    {
                        return Judged::Waits;
                    }
                    server.answers.push(Due::Execute(effect));
                    self.watch_execute(server, header);
                    self.up.pass_message(header.whole());
                }
                frontend::FUNCTION_CALL => {
                    if following.is_on {
                        let Some(uses) = self.uses_of_call(header) else {
                            self.up.want(HEADER_BYTES + 4);
                            return Judged::Blocked;
                        };
                        if uses.is_some() && self.use_sequences(server, uses) {
                            return Judged::Waits;
                        }
                    }
                    server.answers.push(Due::Function);
                    server.watch.end_series();
                    self.up.pass_message(header.whole());
                }
                frontend::FLUSH => self.up.pass_message(header.whole()),
                frontend::COPY_DATA => self.up.pass_message(header.whole()),
                frontend::COPY_DONE | frontend::COPY_FAIL => {
                    server.answers.push(Due::CopyEnd);
                    self.up.pass_message(header.whole());
                }
                frontend::PARSE => {
                    if self.judge_parse(server, header, following) {
                        return Judged::Waits;
                    }
                }
                frontend::BIND => {
                    if let Some(judged) = self.judge_bind(server, header, following) {
                        return judged;
                    }
                }
                frontend::DESCRIBE | frontend::CLOSE => {
                    if let Some(refusal) = self.judge_target(server, header, following) {
                        return Judged::Refused(refusal);
                    }
                }
                frontend::TERMINATE => return Judged::Leaves,
                _ => return unknown(),
            }
        }
    }

    /// True when it has to wait.
    fn judge_query(
        &mut self,
        server: &mut Server,
        header: Header,
        is_whole: bool,
        following: Following<'_>,
    ) -> bool {
        let whole = header.whole();
        self.end_unnamed(server);
        let body = self.up.unread().get(HEADER_BYTES..whole);
        let text = body.and_then(|body| body.strip_suffix(b"\0"));
        let Some(mut text) = text.filter(|_| is_whole) else {
            if following.is_on && self.bring_sequences(server) {
                return true;
            }
            // Too long to be looked at: nobody knows what the session is after it.
            server.is_tainted |= following.is_on;
            server.answers.push(Due::Query(None));
            server.watch.end_series();
            self.up.pass_message(whole);
            return false;
        };
        if !following.is_on && !following.watches {
            server.answers.push(Due::Query(None));
            self.up.pass(whole);
            return false;
        }
        let known = self.worker.know(text, self.lexing);
        let uses = Uses::of(&known.facts);
        if uses.is_some() && following.is_on {
            if self.use_sequences(server, uses) {
                return true;
            }
            let body = self.up.unread().get(HEADER_BYTES..whole);
            text = body
                .and_then(|body| body.strip_suffix(b"\0"))
                .unwrap_or_default();
        }
        let record = if following.watches {
            self.record_of(Watchable::new(text, &known))
        } else {
            None
        };
        let is_sampled = record.as_ref().is_some_and(|record| {
            let seen = &self.identity.entry.seen;
            let values = || values::of_text(text, self.lexing);
            self.watched
                .follow(&self.worker, seen, record, text, values)
        });
        if !following.is_on {
            server.watch.ask_alone(record, is_sampled);
            server.answers.push(Due::Query(None));
            self.up.pass(whole);
            return false;
        }
        let facts = known.facts;
        let effect = self.effect(text, &facts);
        if let Some(effect) = &effect
            && facts.kind == Kind::Deallocate
            && facts.statements == 1
            && following.limit > 0
            && server.transaction != transaction::FAILED
            && self.deallocates(effect)
        {
            self.up.leave_out(whole);
            server.answers.push(Due::Local(Local::Deallocated));
            return false;
        }
        if let Some(effect) = &effect
            && self.waits_to_listen(effect, server)
        {
            return true;
        }
        server.watch.ask_alone(record, is_sampled);
        server.answers.push(Due::Query(effect));
        self.up.pass(whole);
        false
    }

    /// What a text does that is followed here, if anything.
    fn effect(&self, text: &[u8], facts: &Facts) -> Option<Arc<Effect>> {
        let is_followed = facts.needs_reading() || facts.defines || facts.notifies;
        is_followed.then(|| {
            Arc::new(Effect {
                text: text.into(),
                lexing: self.lexing,
                defines: facts.defines,
                listens: facts.listens,
                notifies: facts.notifies,
            })
        })
    }

    /// What is to be known of a text that is prepared.
    pub(super) fn find(&self, text: &[u8]) -> Found {
        let known = self.worker.know(text, self.lexing);
        Found {
            effect: self.effect(text, &known.facts),
            fingerprint: known.fingerprint,
            class: Class::of(&known.facts),
            uses: Uses::of(&known.facts),
        }
    }

    /// Whether a `DEALLOCATE name` is about a statement that was prepared by the protocol, whose name
    /// only we know; it is forgotten then.
    fn deallocates(&mut self, effect: &Effect) -> bool {
        let mut statements = Statements::new(&effect.text, effect.lexing);
        let name = statements.next().and_then(|statement| statement.name);
        let name = name.map(|name| name.folded().into_owned());
        name.is_some_and(|name| self.names.remove(&name).is_some())
    }

    fn effect_of_portal(&self, header: Header) -> Option<Arc<Effect>> {
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

    /// What a function call has to do with sequences; none while its number has not come.
    fn uses_of_call(&self, header: Header) -> Option<Uses> {
        let number = match header.body {
            // The server says what is wrong with it.
            0..4 => 0,
            _ => {
                let body = self.up.unread().get(HEADER_BYTES..)?;
                u32::from_be_bytes(*body.first_chunk()?)
            }
        };
        Some(Uses::of_function(number))
    }

    /// True when it has to wait.
    fn judge_parse(
        &mut self,
        server: &mut Server,
        header: Header,
        following: Following<'_>,
    ) -> bool {
        let whole = header.whole();
        let body = self.up.unread().get(HEADER_BYTES..whole);
        let mut parsed = body.and_then(read::Parse::read);
        let is_looked_at = following.is_on || following.watches;
        let found = parsed
            .filter(|parse| is_looked_at && parse.name.is_empty())
            .map(|parse| self.find(parse.query));
        if let Some(found) = &found
            && found.uses.asks
            && following.is_on
        {
            if self.ask_sequences(server, found.uses) {
                return true;
            }
            let body = self.up.unread().get(HEADER_BYTES..whole);
            parsed = body.and_then(read::Parse::read);
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
        if statement.uses.asks && following.is_on && self.ask_sequences(server, statement.uses) {
            return true;
        }
        self.pool.numbers.client_parses.add(1);
        self.names.insert(&name, Arc::clone(&statement));
        if server.prepared.uses(&statement) {
            self.up.leave_out(whole);
            server.answers.push(Due::Local(Local::Parsed));
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

    fn judge_bind(
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
        } else {
            if is_unnamed && following.is_on {
                self.bring_unnamed(server);
            }
            // A name that only we do not know is one that the server refuses (26000).
            self.up.pass_message(whole);
        }
        server.answers.push(Due::Bind);
        None
    }

    /// Describe and Close.
    fn judge_target(
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
            server.answers.push(Due::Local(Local::Closed));
            return None;
        }
        match self.names.get(name).cloned() {
            Some(statement) => {
                self.prepare(server, &statement, following);
                self.up
                    .replace(whole, |_, out| write::describe(out, b'S', &statement.name));
            }
            None => self.up.pass(whole),
        }
        server.answers.push(due);
        None
    }
}

/// Messages of which more than the header is looked at, as long as they fit into a block.
fn must_be_whole(header: Header) -> bool {
    matches!(
        header.tag,
        frontend::QUERY
            | frontend::EXECUTE
            | frontend::PARSE
            | frontend::DESCRIBE
            | frontend::CLOSE
            | frontend::SYNC
    ) && header.whole() <= LARGEST
}

fn is_known(tag: u8) -> bool {
    matches!(
        tag,
        frontend::QUERY
            | frontend::PARSE
            | frontend::BIND
            | frontend::DESCRIBE
            | frontend::EXECUTE
            | frontend::CLOSE
            | frontend::FUNCTION_CALL
            | frontend::SYNC
            | frontend::FLUSH
    )
}

fn bad_header() -> Judged {
    Judged::Refused(Refusal::new(PROTOCOL, "bad packet header"))
}

fn unknown() -> Judged {
    Judged::Refused(Refusal::new(PROTOCOL, "unknown pkt"))
}

fn too_large() -> Judged {
    let message = "names of a Bind message are longer than 256 KiB";
    Judged::Refused(Refusal::new(NO_MEMORY, message))
}

/// Whether a message has begun for which a connection is needed before it is whole.
pub(super) fn has_begun_large(flow: &Flow) -> bool {
    matches!(frame::look(flow.unread()), Ok(Frame::Partial(header)) if header.whole() > LARGEST)
}

/// Whether a flow has the start of a message that is not whole.
pub(super) fn is_amid_message(flow: &Flow) -> bool {
    flow.is_amid() || !flow.unread().is_empty()
}
