//! A query that runs for longer than it may: the server is asked to cancel it, so that it does not run
//! on there, and the client gets an error and goes on, as with Postgres' own `statement_timeout`.
//!
//! A server that does not end it in time (it waits for a client that does not read, or for the data of
//! a COPY) is left, and its client is ended. As PgBouncer, who takes its place ends the client at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use outgrow_core::Ticks;
use tokio::task::JoinHandle;

use super::cancel::tell_server;
use super::relay::{End, Relay};
use crate::answers::Fate;
use crate::plan::Manner;
use crate::problem::{CANCELLED, CONNECTION, Refusal};
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::{read, write};

/// How long a server may take to end a query that it was asked to cancel.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a server may take for a query of ours.
const OURS_LIMIT: Duration = Duration::from_secs(10);

/// A query that has run for too long.
#[derive(Debug)]
pub(super) struct Overtime {
    /// Since when the server is asked to end it.
    since: Ticks,
    /// The request, until it has arrived.
    request: JoinHandle<()>,
    /// Whether the query has ended. What comes next waits for the request, which would hit it.
    has_ended: bool,
}

impl Relay<'_> {
    /// The query under way has run for too long.
    #[cold]
    pub(super) fn end_query(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let request = self.cancel_at_server();
        if self.plan.house.manner == Manner::PgBouncer {
            return Poll::Ready(End::Refused(Refusal::new(CANCELLED, "query timeout")));
        }
        let since = self.client.worker.now();
        self.overtime = Some(Overtime {
            since,
            request,
            has_ended: false,
        });
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Asks the server to cancel what it does. Until the request is over it is not lent to others.
    #[inline(never)]
    pub(super) fn cancel_at_server(&self) -> JoinHandle<()> {
        let target = Arc::clone(&self.server.target);
        let limit = self.plan.house.cancel;
        tokio::spawn(async move {
            let _ = tokio::time::timeout(limit, tell_server(&target, limit)).await;
        })
    }

    /// Whether what the client says next has to wait for a cancel request of ours.
    #[inline(never)]
    pub(super) fn waits_for_request(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(overtime) = &mut self.overtime else {
            return false;
        };
        if overtime.has_ended && Pin::new(&mut overtime.request).poll(cx).is_ready() {
            self.overtime = None;
            return false;
        }
        overtime.has_ended
    }

    /// Whether the server takes too long to end a query, or to answer us; until when it may.
    #[inline(never)]
    pub(super) fn overdue(&mut self, now: Ticks) -> Result<Ticks, End> {
        if self.server.answers.is_ours() {
            let since = *self.ours_since.get_or_insert(now);
            if since + OURS_LIMIT <= now {
                let message = "the server does not take the session's settings, nor say whether the \
                               session can move on";
                return Err(End::ServerGone(Some(Refusal::new(CONNECTION, message))));
            }
            return Ok(since + OURS_LIMIT);
        }
        self.ours_since = None;
        match &self.overtime {
            Some(overtime) if !overtime.has_ended => {
                if overtime.since + PATIENCE <= now {
                    let message = "query timeout, and the server has not ended the query";
                    return Err(End::Refused(Refusal::new(CANCELLED, message)));
                }
                Ok(overtime.since + PATIENCE)
            }
            _ => Ok(Ticks::NEVER),
        }
    }

    /// Takes note that the query has ended; the one behind it, if there is one, begins now.
    pub(super) fn end_overtime(&mut self, now: Ticks) {
        if let Some(overtime) = &mut self.overtime {
            overtime.has_ended = true;
            self.query_began = self.query_began.map(|_| now);
        }
    }

    /// Puts what happened in the place of the server's error, which only knows that somebody asked; true
    /// if so.
    #[inline(never)]
    pub(super) fn tell_overtime(&mut self, header: Header, fate: Fate) -> bool {
        if self.overtime.is_none() || fate != Fate::Pass {
            return false;
        }
        let unread = self.server.down.unread();
        let body = unread.get(HEADER_BYTES..header.whole()).unwrap_or_default();
        if read::Problem::read(body).code != CANCELLED.as_bytes() {
            return false;
        }
        self.server.down.replace(header.whole(), |_, out| {
            let problem = write::Problem {
                hint: "The limit is `timeouts.query` of the pool or the user.",
                ..write::Problem::error(CANCELLED, "canceling statement due to query timeout")
            };
            write::error(out, problem);
        });
        true
    }
}
