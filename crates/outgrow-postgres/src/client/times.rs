//! How long things may take while a client has a connection.

use std::task::{Context, Poll};

use outgrow_core::Ticks;

use super::relay::{End, Relay};
use crate::problem::{CANCELLED, IDLE_SESSION, IDLE_TRANSACTION, Refusal};
use crate::sql::facts::Pin;

impl Relay<'_> {
    /// Whether something has taken too long; else sets the timer for what would next.
    pub(super) fn poll_timeouts(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.client.session.pins().contains(Pin::Sequence) {
            self.poll_kept(cx);
        }
        let mut again = std::mem::replace(&mut self.again, Ticks::NEVER);
        let is_ours = self.server.answers.is_ours() || self.ours_since.is_some();
        if is_ours || self.overtime.is_some() {
            match self.overdue(self.client.worker.now()) {
                Ok(until) => again = again.min(until),
                Err(end) => return Poll::Ready(end),
            }
        }
        if !self.has_timeouts {
            let timer = &mut self.client.timer;
            let deadline = timer.deadline().min(again);
            if deadline == Ticks::NEVER {
                return Poll::Pending;
            }
            timer.set(deadline);
            if timer.poll(cx, self.client.worker.now()).is_ready() {
                timer.set(Ticks::NEVER);
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let after = |since: Option<Ticks>, limit: std::time::Duration| match since {
            Some(since) if !limit.is_zero() => since + limit,
            _ => Ticks::NEVER,
        };
        let is_idle_inside = self.query_began.is_none() && self.transaction_began.is_some();
        let is_idle_outside = self.query_began.is_none() && self.transaction_began.is_none();
        let idle = is_idle_inside.then_some(self.last_word);
        let outside = is_idle_outside.then_some(self.last_word);
        // One that is being ended already has its time.
        let query = self.query_began.filter(|_| self.overtime.is_none());
        let query = after(query, self.times.query);
        let deadlines = [
            (query, "query timeout", CANCELLED),
            (
                after(idle, self.times.idle_transaction),
                "idle transaction timeout",
                IDLE_TRANSACTION,
            ),
            (
                after(self.transaction_began, self.times.transaction),
                "transaction timeout",
                CANCELLED,
            ),
            (
                after(outside, self.times.client_idle),
                "client_idle_timeout",
                IDLE_SESSION,
            ),
        ];
        let Some((first, message, code)) = deadlines.into_iter().min_by_key(|one| one.0) else {
            return Poll::Pending;
        };
        let timer = &mut self.client.timer;
        timer.set(first.min(again));
        let now = self.client.worker.now();
        if timer.poll(cx, now).is_ready() {
            timer.set(Ticks::NEVER);
            if first <= now && first == query {
                return self.end_query(cx);
            }
            if first <= now {
                if self.query_began.is_some() {
                    // What is under way does not run on.
                    drop(self.cancel_at_server());
                }
                return Poll::Ready(End::Refused(Refusal::new(code, message)));
            }
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
