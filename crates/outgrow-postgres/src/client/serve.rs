//! A client's life after its login: greeted, then served, one lending after the other.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_net::{Timer, Transport};

use super::arrive::{Carried, CarriedSession};
use super::change_lane::{Kept, KeptSession, Member};
use super::floor::Writes;
use super::judge::Judged;
use super::relay::{End, Relay};
use super::route::Route;
use super::session::Session;
use super::unnamed::Unnamed;
use super::watch::Watched;
use super::{Arrival, Client, Identity, login};
use crate::flow::{Flow, Read};
use crate::lease::Lease;
use crate::plan::PoolPlan;
use crate::pool::Pool;
use crate::prepared::OfClient;
use crate::problem::{CONNECTION, IDLE_SESSION, NO_DATABASE, PROTOCOL, Refusal, SHUTDOWN};
use crate::seen::{ClientState, ServerState};
use crate::sequences::{Stay, Uses};
use crate::server::Server;
use crate::settings::PoolMode;
use crate::socket::Socket;
use crate::sql::Lexing;
use crate::sql::facts::Pin;
use crate::variables::Welcome;
use crate::wire::write;
use crate::worker::Worker;

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// It is to be greeted.
    New,
    /// Another process has greeted it.
    FromProcess,
    /// It was in another lane.
    FromLane,
}

/// What it brings along.
enum Brought {
    Nothing,
    Process(CarriedSession),
    Lane(KeptSession),
}

/// Later than anything, but a deadline.
const END_OF_TIME: Ticks = Ticks(u64::MAX - 1);

/// Serves a client until it leaves. What has to be there for as long as it does is the client and its
/// life; all else is done before in functions that are over, since each idle client would keep it.
pub(super) async fn run(
    worker: Arc<Worker>,
    identity: Box<Identity>,
    socket: Socket,
    input: Vec<u8>,
    arrival: Arrival,
) {
    let Some((mut client, comes)) = begin(worker, identity, socket, &input, arrival) else {
        return;
    };
    drop(input);
    let seen = Arc::clone(&client.identity.entry.seen);
    let end = {
        let mut life = pin!(client.serve(comes));
        let mut has_waker = false;
        poll_fn(|cx| {
            if !has_waker {
                has_waker = true;
                seen.set_waker(cx.waker());
            }
            if let Some(refusal) = seen.ordered_away() {
                return Poll::Ready(Err(Some(refusal)));
            }
            life.as_mut().poll(cx)
        })
        .await
    };
    seen.set_link(0);
    if let Err(Some(refusal)) = end {
        client.finish(&refusal).await;
    } else if let Some(lane) = client.goes_to.take() {
        client.change_lane(&lane);
    }
}

/// The client as it begins to be served; none where there is no memory for what it said, or its database
/// is not there (any more), which it is told.
fn begin(
    worker: Arc<Worker>,
    mut identity: Box<Identity>,
    mut socket: Socket,
    input: &[u8],
    arrival: Arrival,
) -> Option<(Client, Comes)> {
    let plan = worker.shared.plan.load();
    let database = plan.database(&identity.database);
    let server_user = database.and_then(|database| database.user.as_deref());
    let server_user = server_user.map_or_else(|| Arc::clone(&identity.user), Arc::from);
    let Some(pool) = worker.pool(&identity.database, &server_user) else {
        let message = format!("no such database: {}", identity.database);
        let refusal = Refusal::new(NO_DATABASE, message);
        identity.entry.refused(&refusal);
        let manner = plan.house.manner;
        tokio::spawn(async move {
            let _identity = identity;
            login::tell(&mut socket, &refusal, manner).await;
        });
        return None;
    };
    worker.learn_credential(&pool, Some(&identity));
    identity
        .entry
        .seen
        .lane
        .set(pool.lanes.number, worker.index);
    let mut up = Flow::default();
    if !up.preload(input, &worker.blocks) {
        return None;
    }
    let variables = identity.variables.clone();
    let member = || Member::new(&pool, worker.shared.clock);
    let (cancel, member, session) = match arrival {
        Arrival::LoggedIn => {
            let is_long = identity.minor >= 2;
            let cancel = worker.shared.cancels.add(plan.house.peer, is_long);
            (cancel, member(), Brought::Nothing)
        }
        Arrival::Process(carried) => {
            let Carried { cancel, session } = *carried;
            (cancel, member(), Brought::Process(session))
        }
        Arrival::Lane(kept) => {
            let Kept {
                member,
                cancel,
                session,
            } = *kept;
            (cancel, member, Brought::Lane(session))
        }
    };
    let mut client = Client {
        cancel,
        timer: Timer::new(&worker.wheel),
        watched: Watched::new(&worker, &pool),
        pool,
        socket,
        up,
        tail: Flow::default(),
        variables,
        names: OfClient::default(),
        session: Session::default(),
        listening: None,
        writes: Writes::default(),
        repeat: None,
        caching: None,
        reads: None,
        lexing: Lexing::default(),
        unnamed_statement: Unnamed::default(),
        unnamed: None,
        unnamed_uses: Uses::default(),
        skips: false,
        stay: Stay::before(identity.entry.seen.number),
        times: plan
            .users
            .get(&*identity.user)
            .map(|user| user.times)
            .unwrap_or_default(),
        portals: Vec::new(),
        departs: false,
        goes_to: None,
        member,
        identity,
        worker,
    };
    drop(plan);
    let comes = match session {
        Brought::Nothing => Comes::New,
        Brought::Process(session) => {
            client.take_up(session);
            Comes::FromProcess
        }
        Brought::Lane(session) => {
            client.go_on(session);
            Comes::FromLane
        }
    };
    Some((client, comes))
}

impl Client {
    async fn serve(&mut self, comes: Comes) -> Result<(), Option<Refusal>> {
        match self.identity.replication.take() {
            // In memory of its own: what few need is not kept for all.
            Some(parameters) => Box::pin(self.replicate(parameters)).await,
            None => self.live(comes).await,
        }
    }

    /// Everything. Ends with what the client is to be told, if anything; without a word when it leaves
    /// or goes to another lane.
    async fn live(&mut self, comes: Comes) -> Result<(), Option<Refusal>> {
        match comes {
            Comes::FromLane => {}
            Comes::FromProcess => self.complete_variables().await?,
            Comes::New => {
                let welcome = self.welcome().await?;
                self.greet(&welcome);
                drop(welcome);
                self.pool.numbers.logins.add(1);
            }
        }
        self.identity.entry.seen.set_state(ClientState::Active);
        self.reads = self.worker.reads(&self.pool);
        self.note_origin(&self.pool.plan());
        self.caching = self.caching();
        if comes == Comes::FromProcess {
            self.note_arrival();
        }
        loop {
            match self.serve_next().await {
                // What it is about to say, or has said, is for the next process.
                Err(None) if self.departs => self.depart().await?,
                served => served?,
            }
        }
    }

    /// Waits for what the client wants, and does it.
    async fn serve_next(&mut self) -> Result<(), Option<Refusal>> {
        self.idle().await?;
        if self.caching.is_some() && self.answer_from_memory().await {
            return Ok(());
        }
        let plan = self.pool.plan();
        let replica = self.choose_replica(&plan).await;
        let lent = self.lend_somewhere(replica.as_ref(), &plan);
        match lent.await? {
            Some((lease, on_replica)) => self.relay(lease, on_replica).await,
            None => {
                self.drop_cancelled();
                Ok(())
            }
        }
    }

    /// What servers of the pool report, as soon as one was reached.
    pub(super) async fn welcome(&mut self) -> Result<Arc<Welcome>, Option<Refusal>> {
        loop {
            if let Some(welcome) = self.pool.welcome() {
                return Ok(welcome);
            }
            let plan = self.pool.plan();
            if let Some(lease) = self.lend(None, &plan, false).await? {
                lease.give_back();
            }
        }
    }

    pub(super) fn greet(&mut self, welcome: &Welcome) {
        self.variables.fill(&welcome.variables);
        self.note_lexing();
        let (process, secret) = (self.cancel.key.process, self.cancel.secret());
        let house = Arc::clone(&self.pool.plan().house);
        let variables = &self.variables;
        let name = variables.get("application_name").unwrap_or_default();
        self.identity.entry.seen.set_application(name);
        self.tail.put(|out| {
            write::authentication_ok(out);
            welcome.write(variables, out);
            write::backend_key(out, process, &secret);
            if !house.login_notice.is_empty() {
                let notice = write::Problem {
                    severity: "NOTICE",
                    code: "00000",
                    message: &house.login_notice,
                    hint: "",
                };
                write::notice(out, notice);
            }
            write::ready(out, b'I');
        });
    }

    /// Waits for the client to want something that needs a connection.
    pub(super) async fn idle(&mut self) -> Result<(), Option<Refusal>> {
        let plan = self.pool.plan();
        let limit = self.times.or(&plan.limits).client_idle;
        let refuses_queries = plan.house.refuses_simple_queries;
        drop(plan);
        let deadline = if limit.is_zero() {
            Ticks::NEVER
        } else {
            self.worker.now() + limit
        };
        // A deadline also lets the wheel wake this client when everything ends.
        self.timer.set(deadline.min(END_OF_TIME));
        poll_fn(|cx| {
            loop {
                if let Some(refusal) = self.deaf() {
                    return Poll::Ready(Err(Some(refusal)));
                }
                if self.tail.is_pending() {
                    match self.tail.poll_write(cx, &mut self.socket) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(None)),
                        Poll::Pending => break,
                    }
                }
                // Nobody listens to who is about to leave for another process.
                if self.is_leaving() {
                    break;
                }
                match self.judge_alone() {
                    Judged::NeedsServer if refuses_queries && self.says_query() => {
                        return Poll::Ready(Err(Some(self.no_queries())));
                    }
                    Judged::NeedsServer => return Poll::Ready(Ok(())),
                    Judged::Leaves => {
                        self.identity.entry.reason = Some("client close request".into());
                        return Poll::Ready(Err(None));
                    }
                    Judged::Refused(refusal) => return Poll::Ready(Err(Some(refusal))),
                    Judged::Blocked | Judged::Waits => {}
                }
                self.hear_alone();
                if self.tail.is_pending() {
                    continue;
                }
                match self.up.poll_read(cx, &mut self.socket, &self.worker.blocks) {
                    Poll::Ready(Ok(Read::Some)) => {}
                    Poll::Ready(Ok(Read::End) | Err(_)) => return Poll::Ready(Err(None)),
                    Poll::Ready(Ok(Read::NoMemory)) => {
                        let soon = self.worker.now() + outgrow_net::wheel::SLOT;
                        self.timer.set(soon.min(deadline));
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            if let Err(end) = self.leave() {
                return Poll::Ready(Err(end));
            }
            // Without a limit nothing needs the time.
            let is_timed = self.timer.deadline() < END_OF_TIME;
            let now = if is_timed {
                self.worker.now()
            } else {
                Ticks(0)
            };
            if self.timer.poll(cx, now).is_ready() {
                if deadline <= now {
                    let refusal = Refusal::new(IDLE_SESSION, "client_idle_timeout");
                    return Poll::Ready(Err(Some(refusal)));
                }
                self.timer.set(deadline.min(END_OF_TIME));
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// The pool of a replica for what the client wants, if it may go there.
    async fn choose_replica(&mut self, plan: &PoolPlan) -> Option<Arc<Pool>> {
        self.note_origin(plan);
        self.note_only_reads(false);
        let reads = Arc::clone(self.reads.as_ref()?);
        let reads_plan = plan.house.reads.as_ref()?;
        let needs_primary = self.repeat.as_ref().is_some_and(|one| one.needs_primary());
        if plan.mode == PoolMode::Session || needs_primary || self.route(&reads) == Route::Primary {
            return None;
        }
        let replica = self.replica(reads_plan).await;
        let is_kept = replica.is_none();
        if is_kept && !self.is_unplaced() {
            self.pool.numbers.kept_from_replicas.add(1);
        }
        self.note_only_reads(is_kept);
        replica
    }

    /// Lets the client work with the connection until it is done with it.
    async fn relay(&mut self, mut lease: Lease, on_replica: bool) -> Result<(), Option<Refusal>> {
        let now = lease.since;
        let Some((server, plan)) = lease.parts() else {
            return Err(None);
        };
        let (own, other) = (
            Arc::clone(&self.identity.entry.seen),
            Arc::clone(&server.entry.seen),
        );
        own.set_link(other.number);
        other.set_link(own.number);
        other.set_state(ServerState::Active);
        server.is_fresh = false;
        self.timer.set(Ticks::NEVER);
        self.cancel.set(Some(Arc::clone(&server.target)));
        let repeat = self.repeat.take();
        let trial = if on_replica && repeat.is_none() {
            self.try_series(std::mem::take(&mut server.series), now)
        } else {
            None
        };
        let waited = other.requested().micros_since(own.requested());
        server.watch.lend(waited, now);
        self.record_answer(server, plan);
        let mut relay = Relay::new(self, server, plan, now);
        relay.on_replica = on_replica;
        relay.trial = trial;
        if let Some(repeat) = repeat {
            relay.has_begun(repeat.began);
            relay.server.watch.begin(now);
        }
        relay.bring_settings();
        relay.begin_stay();
        let is_session = plan.mode == PoolMode::Session;
        let end = poll_fn(|cx| {
            if is_session
                && other.is_over()
                && relay.is_at_rest()
                && relay.client.pool.plan().house.closes_fast
            {
                let message = "database configuration changed";
                return Poll::Ready(End::Refused(Refusal::new(SHUTDOWN, message)));
            }
            relay.poll(cx)
        })
        .await;
        let (pool, worker) = (&relay.client.pool, &relay.client.worker);
        relay.pinned.end(&pool.numbers, || worker.now());
        let said_goodbye = relay.has_said_goodbye();
        let trial = relay.trial.take();
        let last_word = relay.last_word;
        if !matches!(end, End::Rest) {
            let now = self.worker.now();
            server.watch.abandon(now);
            if !on_replica {
                // What was under way may have taken effect.
                self.note_write(now, now);
            }
        }
        self.end_listening_there();
        self.stop_recording(server);
        self.count_bytes(server);
        self.cancel.set(None);
        own.set_link(0);
        own.set_prepared(self.names.len());
        other.set_prepared(server.prepared.len());
        if said_goodbye {
            self.identity.entry.reason = Some("client close request".into());
        }
        let refusal = match end {
            End::Rest => {
                lease.give_back_at(last_word);
                return Ok(());
            }
            End::Done => return Ok(()),
            End::LeftAtRest => {
                self.session.unpin(Pin::Sequence);
                let pins = self.session.pins();
                server.is_tainted |= plan.mode == PoolMode::Session || !pins.is_empty();
                // What no statement undoes ends with the connection.
                if pins.iter().all(|pin| pin.cleaning().is_some()) {
                    lease.give_back();
                }
                return Err(None);
            }
            End::LeftAmid => {
                server.entry.reason = "client disconnect while server was not ready".into();
                return Err(None);
            }
            End::Again(reason) => {
                let failed = server.endpoint().id();
                if trial.is_some_and(|trial| self.ask_again(&trial, reason, failed)) {
                    if server.is_at_rest() {
                        lease.give_back();
                    } else {
                        server.entry.reason = "server conn crashed?".into();
                    }
                    return Ok(());
                }
                Refusal::new(CONNECTION, "server conn crashed?")
            }
            End::ServerGone(refusal) => refusal.unwrap_or_else(nothing_more),
            End::Refused(refusal) => {
                server.entry.reason.clone_from(&refusal.message);
                refusal
            }
        };
        // What the server said last is to reach the client.
        self.tail = std::mem::take(&mut server.down);
        Err(Some(refusal))
    }

    /// Counts what was written to both sides since the last time.
    fn count_bytes(&mut self, server: &mut Server) {
        let numbers = &self.pool.numbers;
        numbers
            .received_bytes
            .add(std::mem::take(&mut self.up.bytes));
        let sent = std::mem::take(&mut server.down.bytes) + std::mem::take(&mut self.tail.bytes);
        numbers.sent_bytes.add(sent);
    }

    /// Tells the client why it ends, after what it is still to get.
    async fn finish(&mut self, refusal: &Refusal) {
        let manner = self.pool.plan().house.manner;
        if refusal.message.is_empty() {
            self.identity.entry.reason = Some("server conn crashed?".into());
        } else {
            self.identity.entry.refused(refusal);
            self.tail.put(|out| refusal.write(manner, out));
        }
        let told = async {
            let _ = poll_fn(|cx| self.tail.poll_write(cx, &mut self.socket)).await;
            let _ = poll_fn(|cx| self.socket.poll_shutdown(cx)).await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
    }
}

/// A refusal without words, when everything was said.
fn nothing_more() -> Refusal {
    Refusal::new(PROTOCOL, "")
}
