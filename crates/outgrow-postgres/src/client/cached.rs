//! What clients have to do with the query cache: reads that are answered from it, answers that are kept in
//! it, writes that make answers worthless.
//!
//! A read is looked for when it is there as a whole, outside of transactions, from a client that is not tied
//! to a connection: one simple query, or one Bind and Execute of a statement without a name or of one that is
//! prepared already. An answer is kept when it came as a whole and holds nothing but rows. A write counts
//! when it is sent and when it is over, before its client hears of it.

use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;
use tokio::sync::futures::OwnedNotified;

use super::Client;
use super::relay::Relay;
use crate::answers::Fate;
use crate::plan::{CachePlan, PoolPlan};
use crate::prepared::Statement;
use crate::result_cache::{Domain, FILL_PATIENCE, Fill, Found, Touch, says_a_time};
use crate::server::{Server, transaction};
use crate::settings::PoolMode;
use crate::wire::frame::{self, Frame, HEADER_BYTES, Header};
use crate::wire::{backend, frontend, read};

/// What a client has to do with the query cache.
#[derive(Debug)]
pub(super) struct Caching {
    domain: Arc<Domain>,
    /// What executing the unnamed statement may write.
    unnamed: Writes,
    /// Writes that were begun and are not known to be over.
    pending: Writes,
    /// The answer that is to be kept.
    fill: Option<Fill>,
    key: Vec<u8>,
}

/// What a text may write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes {
    pub(crate) touch: Touch,
    /// Whether it defines something.
    pub(crate) defines: bool,
}

impl Writes {
    /// Of what nobody has read.
    pub(crate) fn unknown() -> Self {
        Self {
            touch: Touch::Everything,
            defines: false,
        }
    }

    fn is_nothing(&self) -> bool {
        self.touch.is_nothing() && !self.defines
    }
}

impl Caching {
    /// A write begins.
    fn begin(&mut self, writes: &Writes, now: Ticks) {
        self.count(writes, now);
        self.pending.touch.add(&writes.touch);
        self.pending.defines |= writes.defines;
    }

    fn count(&self, writes: &Writes, now: Ticks) {
        self.domain.touch(&writes.touch, now);
        if writes.defines {
            self.domain.define();
        }
    }
}

/// A read that could be answered from memory.
struct Request {
    length: usize,
    statement: Option<Arc<Statement>>,
    /// Where its text stands among what came, when it is of no prepared statement.
    text: std::ops::Range<usize>,
    /// Whether its parameters may say a time.
    tells_the_time: bool,
}

/// What is to be done for what the client wants.
pub(super) enum Answered {
    /// Nothing: it has its answer.
    Yes,
    /// A server is to be asked.
    No,
    /// Somebody else has asked the same: that answer is worth a moment.
    Soon(OwnedNotified),
}

/// Adds a part of a key that no other parts can be taken for.
fn part(key: &mut Vec<u8>, bytes: &[u8]) {
    key.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    key.extend_from_slice(bytes);
}

impl Client {
    /// What it has to do with the query cache, where there is one.
    pub(super) fn caching(&self) -> Option<Box<Caching>> {
        let plan = self.pool.plan();
        let is_on = self.worker.keeps_answers(&plan);
        is_on.then(|| {
            Box::new(Caching {
                domain: self.worker.domain(&plan),
                unnamed: Writes::unknown(),
                pending: Writes::default(),
                fill: None,
                key: Vec::new(),
            })
        })
    }

    /// Answers what the client wants from memory, if that is possible. True: it is done with.
    pub(super) async fn answer_from_memory(&mut self) -> bool {
        let mut may_wait = true;
        loop {
            match self.try_memory(may_wait) {
                Answered::Yes => return true,
                Answered::No => return false,
                Answered::Soon(answer) => {
                    // In memory of its own: few wait, and not for long.
                    Box::pin(wait_for(answer)).await;
                    may_wait = false;
                }
            }
        }
    }

    fn try_memory(&mut self, may_wait: bool) -> Answered {
        let plan = self.pool.plan();
        let (Some(mut caching), Some(cache)) = (self.caching.take(), plan.house.cache) else {
            return Answered::No;
        };
        let answered = self.look(&mut caching, &plan, cache, may_wait);
        self.caching = Some(caching);
        answered.unwrap_or(Answered::No)
    }

    fn look(
        &mut self,
        caching: &mut Caching,
        plan: &PoolPlan,
        cache: CachePlan,
        may_wait: bool,
    ) -> Option<Answered> {
        caching.fill = None;
        let is_free = plan.mode != PoolMode::Session
            && self.session.pins().is_empty()
            // Its notifications come between the parts of an answer.
            && !self.listens()
            && !self.session.settings().decide_transactions()
            && self.repeat.is_none();
        let reads = self.reads.as_ref().filter(|_| is_free)?;
        let definitions = caching.domain.definitions();
        caching.key.clear();
        let request = self.request(&mut caching.key)?;
        let text = match &request.statement {
            Some(statement) => &*statement.query,
            None => &self.up.unread()[request.text.clone()],
        };
        let ttl = reads.keeps(text, self.lexing, cache, definitions)?;
        self.write_key(plan, &mut caching.key);
        let now = self.worker.now();
        let results = &self.worker.shared.results;
        match results.find(&caching.key, &caching.domain, now, may_wait) {
            Found::Answer(answer) => {
                self.up.leave_out(request.length);
                self.tail.put(|out| out.extend_from_slice(&answer));
                return Some(Answered::Yes);
            }
            Found::Wait(answer) => return Some(Answered::Soon(answer)),
            Found::Fill => {}
        }
        let reading = reads.reading(text, self.lexing);
        let is_lasting = |one: &crate::result_cache::Reading| {
            ttl.is_marked || (one.is_lasting && !request.tells_the_time)
        };
        let depends = reading.filter(is_lasting).map(|one| one.depends);
        let stamp = depends.and_then(|depends| caching.domain.stamp(&depends, now));
        let Some(stamp) = stamp.filter(|_| definitions == caching.domain.definitions()) else {
            results.forget_fill(&caching.key);
            return None;
        };
        // A replica must have all that was written when it was asked for.
        if let Some(wrote) = caching.domain.wrote() {
            self.see_until(wrote);
        }
        caching.fill = Some(Fill {
            key: caching.key.as_slice().into(),
            stamp,
            ttl: ttl.time,
        });
        Some(Answered::No)
    }

    /// The read that has come, if it is one that could be answered from memory; what it says goes to
    /// the key.
    fn request(&self, key: &mut Vec<u8>) -> Option<Request> {
        let unread = self.up.unread();
        let mut at = 0;
        let (mut statement, mut text) = (None, None);
        let (mut is_bound, mut is_executed, mut tells_the_time) = (false, false, false);
        loop {
            let Ok(Frame::Whole(header)) = frame::look(&unread[at..]) else {
                return None;
            };
            let body_at = at + HEADER_BYTES;
            let body = &unread[body_at..at + header.whole()];
            let is_first = at == 0;
            at += header.whole();
            key.push(header.tag);
            match header.tag {
                frontend::QUERY if is_first => {
                    let length = body.strip_suffix(b"\0")?.len();
                    part(key, &body[..length]);
                    return Some(Request {
                        length: at,
                        statement: None,
                        text: body_at..body_at + length,
                        tells_the_time: false,
                    });
                }
                frontend::PARSE if is_first => {
                    let parse = read::Parse::read(body).filter(|parse| parse.name.is_empty())?;
                    part(key, parse.query);
                    part(key, parse.types);
                    text = Some(body_at + 1..body_at + 1 + parse.query.len());
                }
                frontend::BIND if !is_bound => {
                    let (portal, name, length) = read::bind(body)?;
                    if !portal.is_empty() {
                        return None;
                    }
                    if name.is_empty() {
                        text.as_ref()?;
                    } else {
                        let known = self.names.get(name)?;
                        // Its number stands for its text and for what its columns were.
                        part(key, &(self.worker.index as u64).to_be_bytes());
                        part(key, &known.number.to_be_bytes());
                        statement = Some(Arc::clone(known));
                    }
                    let values = body.get(length..)?;
                    tells_the_time = says_a_time(values);
                    part(key, values);
                    is_bound = true;
                }
                frontend::DESCRIBE if is_bound && read::target(body)? == (b'P', &b""[..]) => {}
                frontend::EXECUTE if is_bound && !is_executed && body == b"\0\0\0\0\0" => {
                    is_executed = true;
                }
                frontend::SYNC if is_executed => {
                    return Some(Request {
                        length: at,
                        statement,
                        text: text.unwrap_or(0..0),
                        tells_the_time,
                    });
                }
                _ => return None,
            }
        }
    }

    /// Who asks, and with which settings.
    fn write_key(&self, plan: &PoolPlan, key: &mut Vec<u8>) {
        part(key, self.pool.database.as_bytes());
        part(key, plan.server_database.as_bytes());
        part(key, plan.database.service.name().as_bytes());
        part(key, plan.server_user.as_bytes());
        for (name, value) in self.variables.iter() {
            part(key, name.as_bytes());
            part(key, value.as_bytes());
        }
        key.push(0);
        self.session
            .settings()
            .write_key(&mut |bytes| part(key, bytes));
    }

    /// Takes note of a message to the server that may begin a write.
    pub(super) fn watch(&mut self, header: Header, is_whole: bool) {
        let Some(mut caching) = self.caching.take() else {
            return;
        };
        let body = self.up.unread().get(HEADER_BYTES..header.whole());
        let body = body.filter(|_| is_whole);
        let writes = match header.tag {
            frontend::QUERY => {
                let text = body.and_then(|body| body.strip_suffix(b"\0"));
                self.writes_of(text)
            }
            frontend::PARSE => {
                let parse = body.and_then(read::Parse::read);
                if parse.is_none_or(|parse| parse.name.is_empty()) {
                    caching.unnamed = self.writes_of(parse.map(|parse| parse.query));
                }
                Writes::default()
            }
            frontend::BIND => {
                let unread = self.up.unread();
                let part = &unread[HEADER_BYTES..unread.len().min(header.whole())];
                match read::bind(part) {
                    Some((_, b"", _)) => caching.unnamed.clone(),
                    Some((_, name, _)) => {
                        self.writes_of(self.names.get(name).map(|known| &*known.query))
                    }
                    None => Writes::unknown(),
                }
            }
            frontend::FUNCTION_CALL => Writes::unknown(),
            _ => Writes::default(),
        };
        if !writes.is_nothing() {
            caching.begin(&writes, self.worker.now());
        }
        self.caching = Some(caching);
    }

    fn writes_of(&self, text: Option<&[u8]>) -> Writes {
        match (text, &self.reads) {
            (Some(text), Some(reads)) => reads.writes(text, self.lexing),
            _ => Writes::unknown(),
        }
    }

    /// The lending begins: an answer that is to be kept is recorded.
    pub(super) fn record_answer(&mut self, server: &mut Server, plan: &PoolPlan) {
        let fill = self.caching.as_ref().and_then(|one| one.fill.as_ref());
        if let (Some(_), Some(cache)) = (fill, plan.house.cache) {
            server.down.record(cache.largest);
        }
    }

    /// What the client wanted is not asked after all.
    pub(super) fn forget_filling(&mut self) {
        let fill = self.caching.as_mut().and_then(|one| one.fill.take());
        if let Some(fill) = fill {
            self.worker.shared.results.give_up(&fill);
        }
    }

    /// The lending is over: what has not ended by now ends some time, or never.
    #[inline]
    pub(super) fn stop_recording(&mut self, server: &mut Server) {
        server.down.recorded();
        if self.caching.is_some() {
            self.doubt_pending();
        }
    }

    #[inline(never)]
    fn doubt_pending(&mut self) {
        let Some(caching) = &mut self.caching else {
            return;
        };
        if let Some(fill) = caching.fill.take() {
            self.worker.shared.results.give_up(&fill);
        }
        let pending = std::mem::take(&mut caching.pending);
        if !pending.is_nothing() {
            let now = self.worker.now();
            caching.domain.doubt(&pending.touch, now);
            caching.count(&pending, now);
        }
    }
}

/// Waits for somebody else's answer, for a moment.
async fn wait_for(answer: OwnedNotified) {
    let _ = tokio::time::timeout(FILL_PATIENCE, answer).await;
}

impl Relay<'_> {
    /// Takes note of a message of the server's that has the fate `fate`.
    #[inline(never)]
    pub(super) fn note_cached(&mut self, tag: u8, fate: Fate) {
        let Some(caching) = &mut self.client.caching else {
            return;
        };
        let is_over = tag == backend::COMMAND_COMPLETE;
        if is_over && !caching.pending.is_nothing() {
            caching.count(&caching.pending.clone(), self.client.worker.now());
        }
        let is_plain = matches!(
            tag,
            backend::PARSE_COMPLETE
                | backend::BIND_COMPLETE
                | backend::ROW_DESCRIPTION
                | backend::DATA_ROW
                | backend::COMMAND_COMPLETE
                | backend::READY_FOR_QUERY
        );
        if fate == Fate::Pass
            && !is_plain
            && let Some(fill) = caching.fill.take()
        {
            self.client.worker.shared.results.give_up(&fill);
            self.server.down.recorded();
        }
    }

    /// Takes note that the server is ready, before the client hears of it.
    #[inline(never)]
    pub(super) fn end_cached(&mut self) {
        let Some(caching) = &mut self.client.caching else {
            return;
        };
        let now = self.client.worker.now();
        let is_outside = self.server.transaction == transaction::NONE;
        if is_outside && !caching.pending.is_nothing() {
            caching.count(&caching.pending.clone(), now);
            if self.server.answers.is_empty() {
                caching.pending = Writes::default();
            }
        }
        let Some(fill) = caching.fill.take() else {
            return;
        };
        let results = &self.client.worker.shared.results;
        match (self.server.down.recorded(), self.plan.house.cache) {
            (Some(answer), Some(cache)) if is_outside => {
                results.fill(fill, answer, &caching.domain, cache.size, now);
            }
            _ => results.give_up(&fill),
        }
    }
}

/// For how long an answer may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ttl {
    pub(crate) time: Duration,
    /// Whether its text says so.
    pub(crate) is_marked: bool,
}
