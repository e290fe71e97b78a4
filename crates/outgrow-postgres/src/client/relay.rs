//! A client and the connection that is lent to it: both directions in one poll function.

use std::sync::Arc;
use std::task::{Context, Poll};

use outgrow_core::Ticks;

use super::judge::{Following, Judged, has_begun_large, is_amid_message};
use super::overtime::Overtime;
use super::pinned::Pinned;
use super::trial::Trial;
use super::{Client, Settings};
use crate::answers::{Fate, Local};
use crate::flow::{LARGEST, Read, proceed};
use crate::plan::{ClientTimes, PoolPlan};
use crate::problem::{CONNECTION, PROTOCOL, Refusal, UNKNOWN_OUTCOME};
use crate::retry::Reason;
use crate::server::{Server, transaction};
use crate::settings::PoolMode;
use crate::sql::facts::Pin;
use crate::wire::frame::{self, HEADER_BYTES, Header};
use crate::wire::{backend, write};

/// What a turn of a relay costs in which bytes have moved: a read and up to two writes.
const UNITS: u32 = 3;

/// How a lending ended.
#[derive(Debug)]
pub(super) enum End {
    /// The client is done with the connection, which is at rest.
    Rest,
    /// The client has left; the connection is at rest.
    LeftAtRest,
    /// The client has left in the middle of something.
    LeftAmid,
    /// The connection to the server is of no use any more; the client is told why, unless the
    /// server did.
    ServerGone(Option<Refusal>),
    /// The client cannot be served on, nor the connection.
    Refused(Refusal),
    /// The client is done with the connection, which has ended.
    Done,
    /// The replica cannot answer, and the client does not know: another server is to be asked.
    Again(Reason),
}

/// One lending.
pub(super) struct Relay<'r> {
    pub(super) client: &'r mut Client,
    pub(super) server: &'r mut Server,
    pub(super) plan: &'r Arc<PoolPlan>,
    pub(super) times: ClientTimes,
    /// When the query under way began.
    pub(super) query_began: Option<Ticks>,
    /// When the transaction under way began.
    pub(super) transaction_began: Option<Ticks>,
    /// When something was last said.
    pub(super) last_word: Ticks,
    /// What the client had sent when the server had last read all of it.
    read_up_to: u64,
    client_left: bool,
    client_said_goodbye: bool,
    /// The server takes nothing any more; what it said before it ended is still read.
    server_is_deaf: bool,
    /// The server has told the client why it ends.
    pub(super) server_said_why: bool,
    pub(super) has_timeouts: bool,
    /// When the connection was lent, until something else happens.
    lent_at: Option<Ticks>,
    /// When to go on although nothing has come.
    pub(super) again: Ticks,
    /// Whether something was defined anew since the last transaction ended.
    pub(super) has_defined: bool,
    pub(super) pinned: Pinned,
    /// What the server was asked about.
    pub(super) asked: Option<Pin>,
    /// Since when the server has something of ours to do.
    pub(super) ours_since: Option<Ticks>,
    /// A query that has run for too long.
    pub(super) overtime: Option<Overtime>,
    /// The settings that the server had before the client's, until it says that it has those.
    pub(super) replaced: Option<Settings>,
    /// Whether some of these cannot be on the server, and are left out from now on.
    pub(super) has_dropped: bool,
    /// Whether settings were reset that the server is to be told of.
    pub(super) has_started_over: bool,
    /// Whether what the client said waits for something that this client is woken for.
    waits: bool,
    /// Whether the end of what the client did waits until it has heard what it notified.
    pub(super) waits_for_own: bool,
    /// Whether the connection leads to a replica.
    pub(super) on_replica: bool,
    /// The series that the replica is tried with.
    pub(super) trial: Option<Trial>,
}

impl<'r> Relay<'r> {
    pub(super) fn new(
        client: &'r mut Client,
        server: &'r mut Server,
        plan: &'r Arc<PoolPlan>,
        now: Ticks,
    ) -> Self {
        let times = client.times.or(&plan.limits);
        let has_timeouts = !(times.query.is_zero()
            && times.idle_transaction.is_zero()
            && times.transaction.is_zero()
            && (times.client_idle.is_zero() || plan.mode != PoolMode::Session));
        server.down.change_task();
        Self {
            times,
            read_up_to: client.up.bytes,
            client,
            server,
            plan,
            query_began: None,
            transaction_began: None,
            last_word: now,
            client_left: false,
            client_said_goodbye: false,
            server_is_deaf: false,
            server_said_why: false,
            has_timeouts,
            lent_at: Some(now),
            again: Ticks::NEVER,
            has_defined: false,
            pinned: Pinned::default(),
            asked: None,
            ours_since: None,
            replaced: None,
            has_dropped: false,
            overtime: None,
            has_started_over: false,
            waits: false,
            waits_for_own: false,
            on_replica: false,
            trial: None,
        }
    }

    /// Whether neither a query nor a transaction is under way.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.has_begun_something() && self.server.is_at_rest()
    }

    /// Whether the client has said that it leaves.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.client_said_goodbye
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        // What a single query needs costs one unit of a turn; who goes on moving pays for each read and
        // write, about as the runtime counts them.
        let mut units = 1;
        loop {
            let mut moved = false;
            if let Some(end) = self.poll_up(cx, &mut moved) {
                return Poll::Ready(end);
            }
            if let Some(end) = self.poll_down(cx, &mut moved) {
                return Poll::Ready(end);
            }
            if !moved {
                break;
            }
            // Limits of time are looked at all the same.
            if proceed(cx, units).is_pending() {
                break;
            }
            units = UNITS;
        }
        self.lent_at = None;
        self.poll_timeouts(cx)
    }

    /// From the client to the server.
    #[inline]
    fn poll_up(&mut self, cx: &mut Context<'_>, moved: &mut bool) -> Option<End> {
        self.waits = self.overtime.is_some() && self.waits_for_request(cx);
        let Self { client, server, .. } = self;
        if !self.waits && !client.up.is_pending() && !self.client_said_goodbye {
            if !client.up.unread().is_empty() {
                let following =
                    Following::by(self.plan, self.on_replica || client.writes.only_reads());
                match client.judge(server, following) {
                    Judged::Blocked | Judged::NeedsServer => {}
                    Judged::Waits => self.waits = true,
                    Judged::Leaves => self.client_said_goodbye = true,
                    Judged::Refused(refusal) => return Some(End::Refused(refusal)),
                }
            }
            answer_locally(server);
            if client.up.is_pending() && self.query_began.is_none() {
                if let Some(listening) = &client.listening {
                    listening.begin();
                }
                // Most begin with the lending.
                let now = self.lent_at.take().unwrap_or_else(|| client.worker.now());
                self.query_began = Some(now);
                server.watch.begin(now);
                client.note_requests(&server.watch, now);
                self.transaction_began.get_or_insert(now);
                self.last_word = now;
                self.pinned.end(&client.pool.numbers, || now);
            }
        }
        if client.up.is_pending() && !self.server_is_deaf {
            match client.up.poll_write(cx, &mut server.socket) {
                // What is there besides is to be judged; the rest comes with what is read.
                Poll::Ready(Ok(())) => *moved |= !client.up.unread().is_empty(),
                Poll::Ready(Err(_)) => self.server_is_deaf = true,
                Poll::Pending => {}
            }
            let under_way = client.up.bytes - self.read_up_to;
            server.silence.note(under_way, &server.socket);
        }
        let leaves = self.client_left || self.client_said_goodbye;
        // What waits for the end of a series takes no more than a block.
        let has_room = client.up.unread().len() < LARGEST && !self.waits;
        if !leaves && !client.up.is_pending() && has_room {
            match client
                .up
                .poll_read(cx, &mut client.socket, &client.worker.blocks)
            {
                Poll::Ready(Ok(Read::Some)) => *moved = true,
                Poll::Ready(Ok(Read::End) | Err(_)) => self.client_left = true,
                Poll::Ready(Ok(Read::NoMemory)) => self.wait_for_memory(),
                Poll::Pending => {}
            }
        }
        let leaves = self.client_left || self.client_said_goodbye;
        if leaves && !self.client.up.is_pending() {
            let is_amid = is_amid_message(&self.client.up) && !self.client_said_goodbye;
            if self.server.is_at_rest() && !is_amid {
                return Some(End::LeftAtRest);
            }
            // What we asked ourselves is soon answered, and the connection as good as before.
            let is_ours = self.asked.is_some() && self.server.answers.are_ours();
            // As from a server, a client that asks and says goodbye in one breath gets its answer.
            let answers = &self.server.answers;
            let is_owed = self.client_said_goodbye && answers.ends_series() && !answers.copies_in();
            if !(is_ours || is_owed) || is_amid || self.server_is_deaf {
                return Some(End::LeftAmid);
            }
        }
        None
    }

    /// From the server to the client: what is there, then what one read more brings.
    #[inline]
    fn poll_down(&mut self, cx: &mut Context<'_>, moved: &mut bool) -> Option<End> {
        if let Some(end) = self.pass_down(cx, moved) {
            return Some(end);
        }
        let is_blocked = self.server.down.is_pending() && !self.holds();
        if is_blocked || self.waits_for_own {
            return None;
        }
        let blocks = &self.client.worker.blocks;
        let server = &mut *self.server;
        match server.down.poll_read(cx, &mut server.socket, blocks) {
            Poll::Ready(Ok(Read::Some)) => {
                *moved = true;
                self.pass_down(cx, moved)
            }
            Poll::Ready(Ok(Read::End) | Err(_)) => Some(self.server_gone()),
            Poll::Ready(Ok(Read::NoMemory)) => {
                self.wait_for_memory();
                None
            }
            Poll::Pending => None,
        }
    }

    /// Judges what the server has said and lets it go on.
    #[inline]
    fn pass_down(&mut self, cx: &mut Context<'_>, moved: &mut bool) -> Option<End> {
        if self.client.listens()
            && let Some(refusal) = self.hear_at_rest()
        {
            return Some(End::Refused(refusal));
        }
        let was_unread = self.server.down.unread().len();
        if was_unread > 0
            && (!self.server.down.is_pending() || self.holds())
            && let Some(end) = self.judge_down()
        {
            return Some(end);
        }
        // What was left out may have been all that a client that has left was kept for.
        *moved |= self.server.down.unread().len() != was_unread;
        if self.server.down.is_pending() && !self.holds() {
            match self.server.down.poll_write(cx, &mut self.client.socket) {
                Poll::Ready(Ok(())) => *moved = true,
                Poll::Ready(Err(_)) => return Some(End::LeftAmid),
                Poll::Pending => {}
            }
        }
        let rests = self.rests();
        // To find that out the server may have to be asked.
        *moved |= self.client.up.is_pending() && self.asked.is_some();
        rests.then_some(End::Rest)
    }

    /// Whether the client is done with the connection; what it is still to be told is kept for it then.
    #[inline]
    fn rests(&mut self) -> bool {
        let is_over = self.query_began.is_none() && self.transaction_began.is_none();
        if !is_over || self.plan.mode == PoolMode::Session || self.waits {
            return false;
        }
        if !self.is_free() || !self.server.is_at_rest() {
            return false;
        }
        let up = &self.client.up;
        if up.is_pending() || up.is_amid() || has_begun_large(up) {
            return false;
        }
        if self.server.down.is_pending() {
            self.client.tail = std::mem::take(&mut self.server.down);
        }
        true
    }

    #[inline(never)]
    fn server_gone(&mut self) -> End {
        if let Some(end) = self.lost_trial() {
            return end;
        }
        if self.needs_nothing() {
            return End::Done;
        }
        if self.server_said_why {
            return End::ServerGone(None);
        }
        let is_inside = self.server.transaction != transaction::NONE;
        let refusal = if !self.on_replica && self.server.answers.may_commit(is_inside) {
            let message =
                "server conn crashed? Whether the last statement took effect is not known";
            Refusal::new(UNKNOWN_OUTCOME, message)
        } else {
            Refusal::new(CONNECTION, "server conn crashed?")
        };
        End::ServerGone(Some(refusal))
    }

    /// Judges what the server has said.
    fn judge_down(&mut self) -> Option<End> {
        loop {
            let server = &mut *self.server;
            if !server.down.go_on() || !server.down.has_room() {
                return None;
            }
            let (header, is_whole) = match frame::begun(server.down.unread()) {
                Err(_) => return Some(nonsense()),
                Ok(None) => return None,
                Ok(Some(begun)) => begun,
            };
            if !is_whole && must_be_whole(header) {
                server.down.want(header.whole());
                return None;
            }
            if matches!(header.tag, backend::DATA_ROW | backend::ROW_DESCRIPTION)
                && self.passes_rows()
            {
                self.server.down.pass_message(header.whole());
                continue;
            }
            if header.tag == backend::ERROR_RESPONSE
                && let Some(end) = self.parts(header.tag)
            {
                return Some(end);
            }
            let was_ours = self.server.answers.is_ours();
            if header.tag == backend::READY_FOR_QUERY
                && self.client.listens()
                && self.must_wait(header, was_ours)
            {
                return None;
            }
            let server = &mut *self.server;
            let mut fate = server.answers.judge(header.tag);
            if self.trial.is_some() {
                fate = self.try_message(header, was_ours, fate);
            }
            if self.client.caching.is_some() {
                self.note_cached(header.tag, fate);
            }
            while let Some(effect) = self.server.answers.take_done() {
                self.note_effect(&effect);
            }
            if was_ours && header.tag == backend::DATA_ROW && is_whole {
                self.note_answer(header);
            } else if self.server.watch.takes_rows() && is_whole {
                self.sample(header);
            }
            if is_whole
                && header.tag != backend::DATA_ROW
                && let Some(end) = self.note(header, was_ours)
            {
                return Some(end);
            }
            if fate == Fate::Pass && header.tag == backend::READY_FOR_QUERY && self.client.listens()
            {
                self.hear_before_ready();
            }
            if self.client.session.has_resets() && header.tag == backend::READY_FOR_QUERY {
                self.start_over();
            }
            if header.tag == backend::NOTIFICATION_RESPONSE && is_whole {
                fate = self.judge_notification(header);
            }
            if header.tag == backend::ERROR_RESPONSE
                && self.overtime.is_some()
                && self.tell_overtime(header, fate)
            {
                continue;
            }
            let server = &mut *self.server;
            match fate {
                Fate::Pass => server.down.pass_message(header.whole()),
                Fate::LeaveOut => server.down.leave_out_message(header.whole()),
                Fate::Nonsense => return Some(nonsense()),
            }
            answer_locally(server);
            if header.tag == backend::READY_FOR_QUERY {
                let end = match self.trial.is_some() && !was_ours {
                    true => self.end_trial(),
                    false => None,
                };
                if self.client.caching.is_some() && !was_ours {
                    self.end_cached();
                }
                if let Some(end) = end.or_else(|| self.note_ready(was_ours)) {
                    return Some(end);
                }
            }
        }
    }

    /// Whether nobody looks at what comes of rows, and they are the client's.
    #[inline]
    fn passes_rows(&self) -> bool {
        self.trial.is_none()
            && self.client.caching.is_none()
            && self.server.answers.takes_rows()
            && !self.server.watch.takes_rows()
    }

    /// Takes note of what a whole message says.
    #[inline]
    fn note(&mut self, header: Header, was_ours: bool) -> Option<End> {
        let server = &mut *self.server;
        let body = &server.down.unread()[HEADER_BYTES..header.whole()];
        if !was_ours {
            let worker = &self.client.worker;
            server.watch.hear(header.tag, body, || worker.now());
        }
        match header.tag {
            backend::READY_FOR_QUERY => server.transaction = *body.first()?,
            backend::PARAMETER_STATUS | backend::ERROR_RESPONSE => {
                self.note_other(header, was_ours);
            }
            backend::COMMAND_COMPLETE
                if matches!(body, b"DEALLOCATE ALL\0" | b"DISCARD ALL\0") && !was_ours =>
            {
                server.prepared.clear();
                self.client.names.clear();
            }
            _ => {}
        }
        None
    }

    /// Takes note that the server waits for what comes next.
    fn note_ready(&mut self, was_ours: bool) -> Option<End> {
        let server = &mut *self.server;
        if was_ours {
            return self.note_ours();
        }
        let has_failed = server.answers.take_has_failed();
        if server.transaction == transaction::NONE {
            if std::mem::take(&mut self.has_defined) {
                self.client.pool.renew_plans();
                if self.client.reads.is_some() {
                    self.client.worker.shared.forget_reads(&self.client.pool);
                }
            }
            self.client.session.end_transaction(has_failed);
            if self.client.session.settings() != &server.settings {
                server.settings.clone_from(self.client.session.settings());
            }
        }
        let now = self.client.worker.now();
        if server.transaction == transaction::NONE && !self.on_replica {
            let has_more = !server.answers.is_empty();
            self.client.note_end(self.query_began, has_more, now);
        }
        let server = &mut *self.server;
        let numbers = &self.client.pool.numbers;
        self.last_word = now;
        let is_inside = server.transaction != transaction::NONE;
        let is_last = server.answers.is_empty();
        if let Some(ended) = server.watch.ready(now, is_inside, is_last) {
            let worker = &self.client.worker;
            self.client.watched.ended(worker, &ended, now);
        }
        let pins = self.client.session.pins();
        server.entry.seen.doing.set_pins(pins.bits());
        if !is_inside && is_last && self.plan.mode != PoolMode::Session {
            self.pinned.begin(pins, now);
        }
        if is_last {
            self.read_up_to = self.client.up.bytes;
            server.silence.note(0, &server.socket);
        }
        if server.answers.is_empty()
            && let Some(began) = self.query_began.take()
        {
            let micros = now.micros_since(began);
            numbers.queries.add(1);
            numbers.query_micros.add(micros);
            numbers.query_times.record(micros);
        }
        self.end_overtime(now);
        let server = &mut *self.server;
        let numbers = &self.client.pool.numbers;
        if server.transaction == transaction::NONE
            && server.answers.is_empty()
            && let Some(began) = self.transaction_began.take()
        {
            let micros = now.micros_since(began);
            numbers.transactions.add(1);
            numbers.transaction_micros.add(micros);
            numbers.transaction_times.record(micros);
            if self.on_replica {
                numbers.on_replicas.add(1);
            } else {
                server.standing.count_ended();
            }
        }
        if self.plan.mode == PoolMode::Statement && server.transaction != transaction::NONE {
            let message = "transaction blocks not allowed in statement pooling mode";
            return Some(End::Refused(Refusal::new(PROTOCOL, message)));
        }
        if self.has_started_over {
            self.bring_start();
        }
        None
    }

    fn wait_for_memory(&mut self) {
        let soon = self.client.worker.now() + outgrow_net::wheel::SLOT;
        self.again = self.again.min(soon);
    }
}

/// Puts in what we answer ourselves, when it is its turn.
#[inline]
fn answer_locally(server: &mut Server) {
    while let Some(local) = server.answers.take_local() {
        let state = server.transaction;
        server.down.put(|out| match local {
            Local::Parsed => write::empty(out, backend::PARSE_COMPLETE),
            Local::Closed => write::empty(out, backend::CLOSE_COMPLETE),
            Local::Deallocated => {
                write::command_complete(out, "DEALLOCATE");
                write::ready(out, state);
            }
        });
    }
}

/// Messages that are looked at, as long as they fit into a block.
#[inline]
fn must_be_whole(header: Header) -> bool {
    matches!(
        header.tag,
        backend::READY_FOR_QUERY
            | backend::PARAMETER_STATUS
            | backend::ERROR_RESPONSE
            | backend::COMMAND_COMPLETE
            | backend::NOTIFICATION_RESPONSE
    ) && header.whole() <= LARGEST
}

fn nonsense() -> End {
    let refusal = Refusal::new(CONNECTION, "the server's answer makes no sense");
    End::ServerGone(Some(refusal))
}
