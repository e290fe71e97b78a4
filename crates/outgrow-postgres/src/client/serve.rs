//! A client's life after its login: greeted, then served, one lending after the other.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_net::Transport;

use super::begin::{Comes, begin};
use super::judge::Judged;
use super::relay::{End, Relay};
use super::route::Route;
use super::trial::Trial;
use super::{Arrival, Client, Identity};
use crate::apart::apart;
use crate::flow::{Read, proceed};
use crate::lease::Lease;
use crate::plan::PoolPlan;
use crate::pool::Pool;
use crate::problem::{CONNECTION, IDLE_SESSION, PROTOCOL, Refusal, SHUTDOWN};
use crate::seen::{ClientState, ServerState};
use crate::server::Server;
use crate::settings::PoolMode;
use crate::socket::Socket;
use crate::sql::facts::Pin;
use crate::variables::Welcome;
use crate::wire::write;
use crate::worker::Worker;

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
        apart!(Box::pin(client.finish(&refusal)));
    } else if let Some(lane) = client.goes_to.take() {
        client.change_lane(&lane);
    }
}

impl Client {
    async fn serve(&mut self, comes: Comes) -> Result<(), Option<Refusal>> {
        match self.identity.replication.take() {
            // In memory of its own: what few need is not kept for all.
            Some(parameters) => apart!(Box::pin(self.replicate(parameters))),
            None => self.live(comes).await,
        }
    }

    /// Everything. Ends with what the client is to be told, if anything; without a word when it leaves
    /// or goes to another lane.
    async fn live(&mut self, comes: Comes) -> Result<(), Option<Refusal>> {
        match comes {
            Comes::FromLane => {}
            Comes::FromProcess => apart!(Box::pin(self.complete_variables()))?,
            Comes::New => apart!(Box::pin(self.be_welcome()))?,
        }
        self.note_start(comes);
        loop {
            match self.serve_next().await {
                // What it is about to say, or has said, is for the next process.
                Err(None) if self.departs => apart!(Box::pin(self.depart()))?,
                served => served?,
            }
        }
    }

    /// Greets it as soon as a server was reached.
    async fn be_welcome(&mut self) -> Result<(), Option<Refusal>> {
        let welcome = self.welcome().await?;
        self.greet(&welcome);
        self.pool.numbers.logins.add(1);
        Ok(())
    }

    /// Takes note that it is served from now on, with what that needs.
    #[inline(never)]
    fn note_start(&mut self, comes: Comes) {
        self.identity.entry.seen.set_state(ClientState::Active);
        self.reads = self.worker.reads(&self.pool);
        self.note_origin(&self.pool.plan());
        self.caching = self.caching();
        if comes == Comes::FromProcess {
            self.note_arrival();
        }
    }

    /// Waits for what the client wants, and does it.
    async fn serve_next(&mut self) -> Result<(), Option<Refusal>> {
        self.idle().await?;
        if self.caching.is_some() && apart!(self.answer_from_memory()) {
            return Ok(());
        }
        let plan = self.pool.plan();
        self.note_origin(&plan);
        self.note_only_reads(false);
        let replica = match self.reads.is_some() {
            true => apart!(self.choose_replica(&plan)),
            false => None,
        };
        let lease = match replica {
            None => self.lend_at_once(plan),
            Some(_) => Err(plan),
        };
        let (lease, on_replica) = match lease {
            Ok(lease) => (lease, false),
            Err(plan) => match apart!(self.lend_somewhere(replica.as_ref(), &plan))? {
                Some(lent) => lent,
                None => {
                    self.drop_cancelled();
                    return Ok(());
                }
            },
        };
        self.relay(lease, on_replica).await
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
        let (limit, refuses_queries) = self.pool.look_up(|plan| {
            let limit = self.times.or(&plan.limits).client_idle;
            (limit, plan.house.refuses_simple_queries)
        });
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
                        Poll::Ready(Ok(())) if proceed(cx, 1).is_ready() => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(None)),
                        // What follows is looked at also for who never waits.
                        Poll::Ready(Ok(())) | Poll::Pending => break,
                    }
                }
                // Nobody listens to who is about to leave for another process.
                self.begin_crossing();
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
                    Poll::Ready(Ok(Read::Some)) if proceed(cx, 1).is_ready() => {}
                    Poll::Ready(Ok(Read::Some)) => break,
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
        let (own, other) = (&self.identity.entry.seen, &server.entry.seen);
        own.set_link(other.number);
        other.set_link(own.number);
        other.set_state(ServerState::Active);
        let waited = other.requested().micros_since(own.requested());
        server.is_fresh = false;
        self.timer.set(Ticks::NEVER);
        self.cancel.set(Some(Arc::clone(&server.target)));
        let repeat = self.repeat.take();
        let trial = if on_replica && repeat.is_none() {
            self.try_series(std::mem::take(&mut server.series), now)
        } else {
            None
        };
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
                && relay.server.entry.seen.is_over()
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
            self.abandon(server, on_replica);
        }
        self.end_listening_there();
        self.stop_recording(server);
        self.count_bytes(server);
        self.cancel.set(None);
        self.identity.entry.seen.set_link(0);
        self.identity.entry.seen.set_prepared(self.names.len());
        server.entry.seen.set_prepared(server.prepared.len());
        if said_goodbye {
            self.identity.entry.reason = Some("client close request".into());
        }
        match end {
            End::Rest => {
                lease.give_back_at(last_word);
                Ok(())
            }
            End::Done => Ok(()),
            end => self.end_lending(end, lease, trial),
        }
    }

    /// Takes note that what was under way comes to no end.
    #[inline(never)]
    fn abandon(&mut self, server: &mut Server, on_replica: bool) {
        let now = self.worker.now();
        server.watch.abandon(now);
        if !on_replica {
            // What was under way may have taken effect.
            self.note_write(now, now);
        }
    }

    /// What a lending that did not end at rest means for the client and the connection.
    #[inline(never)]
    fn end_lending(
        &mut self,
        end: End,
        mut lease: Lease,
        trial: Option<Trial>,
    ) -> Result<(), Option<Refusal>> {
        let Some((server, plan)) = lease.parts() else {
            return Err(None);
        };
        let refusal = match end {
            End::Rest | End::Done => return Ok(()),
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
