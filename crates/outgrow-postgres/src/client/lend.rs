//! Getting a connection: a free one, or the next after those who came before; one that works, where
//! connections are checked.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use outgrow_core::Ticks;

use super::Client;
use crate::events::{Level, Topic};
use crate::flow::Read;
use crate::lease::Lease;
use crate::plan::{Manner, PoolPlan};
use crate::pool::Pool;
use crate::problem::{PROTOCOL, Refusal, SHUTDOWN};
use crate::seen::{ClientState, ServerState};
use crate::sequences::Custom;
use crate::server::Server;
use crate::shared::Drain;
use crate::wire::{frontend, write};

/// How long the check of a connection may take.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

impl Client {
    /// Whether the next message is a simple query.
    pub(super) fn says_query(&self) -> bool {
        self.up.unread().first() == Some(&frontend::QUERY)
    }

    /// What a client is told that may not say them.
    pub(super) fn no_queries(&self) -> Refusal {
        self.identity.entry.say(Level::Error, Topic::Other, || {
            "client used \"Query\" packet type".to_owned()
        });
        Refusal::new(PROTOCOL, "PQexec disallowed")
    }

    /// A connection to the primary that is free now, where it need not be checked; the plan otherwise,
    /// for [`Client::lend`].
    #[inline]
    pub(super) fn lend_at_once(&self, plan: Arc<PoolPlan>) -> Result<Lease, Arc<PoolPlan>> {
        if plan.house.check_query.is_some() || self.worker.shared.drain() == Drain::NoMore {
            return Err(plan);
        }
        let began = self.worker.now();
        let Some(server) = self.take_free(&self.pool, began) else {
            return Err(plan);
        };
        self.pool.numbers.assignments.add(1);
        self.identity.entry.seen.set_requested(began);
        server.entry.seen.set_requested(began);
        let pool = Arc::clone(&self.pool);
        Ok(Lease::new(server, pool, &self.worker, plan, began))
    }

    /// A connection of `pool` that is free now.
    #[inline]
    fn take_free(&self, pool: &Pool, began: Ticks) -> Option<Box<Server>> {
        let asks = pool.sequences.custom() == Custom::Afterwards;
        let server = pool.try_lend(began, asks.then_some(self.stay))?;
        self.pool.numbers.waits.record(0);
        Some(server)
    }

    /// Gets a connection, to a replica or to the primary. None: what the client wants was cancelled.
    pub(super) async fn lend(
        &mut self,
        replica: Option<&Arc<Pool>>,
        plan: &Arc<PoolPlan>,
        is_logged_in: bool,
    ) -> Result<Option<Lease>, Option<Refusal>> {
        loop {
            let pool = Arc::clone(replica.unwrap_or(&self.pool));
            let seen = &self.identity.entry.seen;
            let began = self.worker.now();
            seen.set_requested(began);
            seen.set_state(ClientState::Waiting);
            let lent = self.lend_any(pool, plan, began, is_logged_in).await;
            // Whether or not there was one: it waits no more.
            if is_logged_in {
                self.identity.entry.seen.set_state(ClientState::Active);
            }
            let Some(mut lease) = lent? else {
                return Ok(None);
            };
            let now = lease.since;
            let Some(server) = lease.server() else {
                return Err(None);
            };
            server.entry.seen.set_requested(now);
            let Some(query) = plan.house.check_query.as_deref() else {
                return Ok(Some(lease));
            };
            if server.is_fresh || now.since(server.idle_since) < plan.house.check_after {
                return Ok(Some(lease));
            }
            server.entry.seen.set_state(ServerState::Tested);
            // In memory of its own: its buffer is not to be a part of every idle client.
            let run = Box::pin(server.run(query.as_bytes()));
            let done = tokio::time::timeout(CHECK_LIMIT, run).await;
            if matches!(done, Ok(Ok(()))) {
                lease.since = self.worker.now();
                return Ok(Some(lease));
            }
        }
    }

    /// Gets a connection: a free one, or the next after those who came before.
    async fn lend_any(
        &mut self,
        pool: Arc<Pool>,
        plan: &Arc<PoolPlan>,
        began: Ticks,
        is_logged_in: bool,
    ) -> Result<Option<Lease>, Option<Refusal>> {
        if self.worker.shared.drain() == Drain::NoMore {
            return Err(Some(shutting_down()));
        }
        // Who takes PgBouncer's place sends away at once whom it cannot serve.
        if plan.house.manner == Manner::PgBouncer
            && let Some(refusal) = pool.refuses_at_once()
        {
            self.worker.try_again(&pool);
            return Err(Some(refusal));
        }
        self.pool.numbers.assignments.add(u64::from(is_logged_in));
        if let Some(server) = self.take_free(&pool, began) {
            let plan = Arc::clone(plan);
            let lease = Lease::new(server, pool, &self.worker, plan, began);
            return Ok(Some(lease));
        }
        let mut place = pool.enter(began);
        if is_logged_in {
            self.cancel.wait();
        }
        self.worker.grow(&pool);
        let after = |limit: Duration| match limit {
            Duration::ZERO => Ticks::NEVER,
            limit => began + limit,
        };
        let times = self.times.or(&plan.limits);
        // A query that waits runs, by PgBouncer's account.
        let query = match plan.house.manner {
            Manner::Postgres => Ticks::NEVER,
            Manner::PgBouncer => after(times.query),
        };
        let deadline = after(times.wait).min(query);
        let mut notice = match is_logged_in {
            true => after(plan.house.wait_notice),
            false => Ticks::NEVER,
        };
        let never = Ticks(u64::MAX - 1);
        self.timer.set(deadline.min(notice).min(never));
        let lent = poll_fn(|cx| {
            if let Poll::Ready(answer) = std::pin::Pin::new(&mut place.answer).poll(cx) {
                let answer = answer.unwrap_or_else(|_| Err(shutting_down()));
                return Poll::Ready(answer.map(Some).map_err(Some));
            }
            if is_logged_in && self.cancel.poll_cancelled(cx) {
                return Poll::Ready(Ok(None));
            }
            // A client that goes away gives up its place. What it says meanwhile waits.
            if self.up.has_room_to_read() {
                match self.up.poll_read(cx, &mut self.socket, &self.worker.blocks) {
                    Poll::Ready(Ok(Read::End) | Err(_)) => return Poll::Ready(Err(None)),
                    Poll::Ready(Ok(Read::Some)) => cx.waker().wake_by_ref(),
                    Poll::Ready(Ok(Read::NoMemory)) | Poll::Pending => {}
                }
            }
            if let Some(refusal) = self.deaf() {
                return Poll::Ready(Err(Some(refusal)));
            }
            self.hear_alone();
            if self.tail.is_pending()
                && let Poll::Ready(Err(_)) = self.tail.poll_write(cx, &mut self.socket)
            {
                return Poll::Ready(Err(None));
            }
            if self.worker.shared.drain() == Drain::NoMore {
                return Poll::Ready(Err(Some(shutting_down())));
            }
            // It is as well served by the next process, which has more connections to lend.
            if is_logged_in && self.departs_now() {
                return Poll::Ready(Err(None));
            }
            if is_logged_in && let Some(refusal) = self.is_told_waiting() {
                return Poll::Ready(Err(Some(refusal)));
            }
            let now = self.worker.now();
            if self.timer.poll(cx, now).is_ready() {
                if deadline <= now {
                    let refusal = waited_out(&pool, plan.house.manner, query <= now);
                    return Poll::Ready(Err(Some(refusal)));
                }
                if notice <= now {
                    notice = Ticks::NEVER;
                    self.tail.put(write_wait_notice);
                }
                self.timer.set(deadline.min(notice).min(never));
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        });
        let lent = lent.await;
        let is_cancelled = self.cancel.end_waiting();
        if is_cancelled && self.departs {
            self.departs = false;
            return Ok(None);
        }
        let Some(server) = lent? else {
            return Ok(None);
        };
        let now = self.worker.now();
        // It may be another one by now.
        let plan = self.pool.plan();
        let lease = Lease::new(server, pool, &self.worker, plan, now);
        if is_cancelled {
            // The one and the other at once.
            lease.give_back();
            return Ok(None);
        }
        let waited = now.micros_since(began);
        self.pool.numbers.wait_micros.add(waited);
        self.pool.numbers.waits.record(waited);
        Ok(Some(lease))
    }
}

fn shutting_down() -> Refusal {
    Refusal::new(SHUTDOWN, "server shutting down")
}

/// What a client is told that has waited for as long as it may.
fn waited_out(pool: &Pool, manner: Manner, is_query: bool) -> Refusal {
    let message = if is_query {
        "query_timeout"
    } else {
        "query_wait_timeout"
    };
    let why = match manner {
        Manner::Postgres => pool.why_failed(),
        Manner::PgBouncer => None,
    };
    why.unwrap_or_else(|| Refusal::new(PROTOCOL, message))
}

/// Writes what a client is told that waits.
fn write_wait_notice(out: &mut Vec<u8>) {
    let notice = write::Problem {
        severity: "NOTICE",
        code: "00000",
        message: "No server connection available in postgres backend, client being queued",
        hint: "",
    };
    write::notice(out, notice);
}
