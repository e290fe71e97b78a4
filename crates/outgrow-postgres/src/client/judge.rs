//! What becomes of each message that a client sends.

use std::sync::Arc;

use super::Client;
use super::watch::Watchable;
use crate::answers::{Due, Effect, Local};
use crate::diagnosis::repeats::values;
use crate::diagnosis::statements::Class;
use crate::flow::{Flow, LARGEST};
use crate::plan::PoolPlan;
use crate::prepared::Found;
use crate::problem::{PROTOCOL, Refusal};
use crate::sequences::Uses;
use crate::server::{Server, transaction};
use crate::settings::PoolMode;
use crate::sql::facts::{Facts, Kind, Statements};
use crate::wire::frame::{self, Frame, HEADER_BYTES, Header};
use crate::wire::{frontend, write};

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
                    self.skips = false;
                    self.up.leave_out(header.whole());
                    self.tail.put(|out| write::ready(out, b'I'));
                    return Judged::Blocked;
                }
                frontend::FLUSH if header.body == 0 => self.up.leave_out(header.whole()),
                // The rest of a COPY that the server has given up: a server ignores it too.
                frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => {
                    self.up.leave_out_message(header.whole());
                }
                tag if self.skips && is_known(tag) => self.up.leave_out_message(header.whole()),
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
            let answers = &server.answers;
            if !self.up.go_on() || !self.up.has_room() || !answers.has_room() {
                return Judged::Blocked;
            }
            // What we have said ourselves in front of a series belongs to it.
            if following.one_series && answers.ends_series() && !answers.are_ours() {
                return Judged::Blocked;
            }
            let (header, is_whole) = match frame::begun(self.up.unread()) {
                Err(_) => return bad_header(),
                Ok(None) => return Judged::Blocked,
                Ok(Some(begun)) => begun,
            };
            // The server would read it and do nothing.
            if answers.skips() && is_skipped(header.tag) {
                self.up.leave_out_message(header.whole());
                continue;
            }
            if !is_whole && must_be_whole(header) {
                self.up.want(header.whole());
                return Judged::Blocked;
            }
            // Without the settings that we bring, or with what others left, it could be another statement.
            if server.answers.is_ours() {
                return Judged::Waits;
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
        if known.facts.names_prepared && following.limit > 0 {
            if self.change_own_names(header, false, following.prefix) {
                return self.judge_query(server, header, is_whole, following);
            }
            text = query_text(&self.up, whole);
        }
        let uses = Uses::of(&known.facts);
        if uses.is_some() && following.is_on {
            if self.use_sequences(server, uses) {
                return true;
            }
            text = query_text(&self.up, whole);
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
            server.answers.push(Due::Local(Local::Deallocated, None));
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
            names_prepared: known.facts.names_prepared,
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
}

/// The text of the query that comes next, which is there as a whole.
fn query_text(up: &Flow, whole: usize) -> &[u8] {
    let body = up.unread().get(HEADER_BYTES..whole);
    let text = body.and_then(|body| body.strip_suffix(b"\0"));
    text.unwrap_or_default()
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

/// Whether a server that waits for a Sync ignores the message.
fn is_skipped(tag: u8) -> bool {
    let is_data = matches!(
        tag,
        frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL
    );
    tag != frontend::SYNC && (is_data || is_known(tag))
}

fn bad_header() -> Judged {
    Judged::Refused(Refusal::new(PROTOCOL, "bad packet header"))
}

fn unknown() -> Judged {
    Judged::Refused(Refusal::new(PROTOCOL, "unknown pkt"))
}

/// Whether a message has begun for which a connection is needed before it is whole.
pub(super) fn has_begun_large(flow: &Flow) -> bool {
    matches!(frame::look(flow.unread()), Ok(Frame::Partial(header)) if header.whole() > LARGEST)
}

/// Whether a flow has the start of a message that is not whole.
pub(super) fn is_amid_message(flow: &Flow) -> bool {
    flow.is_amid() || !flow.unread().is_empty()
}
