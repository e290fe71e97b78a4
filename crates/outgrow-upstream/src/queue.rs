//! The line of requests that wait for a permit: one per service, first come first served, bounded.
//!
//! How long a request waits is the caller's to decide: a dropped [`Wait`] leaves the line.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use outgrow_core::Cause;
use tokio::sync::oneshot;

use crate::permit::Permit;

type Answer = Result<Permit, Cause>;

/// The line of one service.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// As many as there are entries; read by every request without the lock.
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    last_ticket: u64,
    /// In the order of their tickets.
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    ticket: u64,
    answer: oneshot::Sender<Answer>,
}

impl Queue {
    /// Whether somebody stands in line.
    #[inline]
    pub(crate) fn has_waiters(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) != 0
    }

    /// How many stand in line.
    pub(crate) fn length(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Joins the end of the line, of at most `limit`.
    pub(crate) fn enter(self: &Arc<Self>, limit: usize) -> Result<Wait, Cause> {
        let (answer, receiver) = oneshot::channel();
        let mut line = self.lock();
        if line.entries.len() >= limit {
            return Err(Cause::QueueFull);
        }
        line.last_ticket += 1;
        let ticket = line.last_ticket;
        line.entries.push_back(Entry { ticket, answer });
        self.count(&line);
        drop(line);
        Ok(Wait {
            queue: Arc::clone(self),
            ticket,
            receiver,
            answered: false,
        })
    }

    /// Gives the permit to the first in line; gives it back when nobody is there.
    pub(crate) fn grant(&self, permit: Permit) -> Result<(), Permit> {
        let mut answer = Ok(permit);
        loop {
            let mut line = self.lock();
            let first = line.entries.pop_front();
            self.count(&line);
            drop(line);
            let Some(entry) = first else { break };
            match entry.answer.send(answer) {
                Ok(()) => return Ok(()),
                // That one left at this moment: the next.
                Err(back) => answer = back,
            }
        }
        match answer {
            Ok(permit) => Err(permit),
            Err(_) => Ok(()),
        }
    }

    /// Sends everybody away.
    pub(crate) fn refuse_all(&self, cause: Cause) {
        let mut line = self.lock();
        let entries = std::mem::take(&mut line.entries);
        self.count(&line);
        drop(line);
        for entry in entries {
            // Who left at this moment needs no answer.
            let _ = entry.answer.send(Err(cause));
        }
    }

    fn leave(&self, ticket: u64) {
        let mut line = self.lock();
        let left = match line
            .entries
            .binary_search_by_key(&ticket, |entry| entry.ticket)
        {
            Ok(place) => line.entries.remove(place),
            Err(_) => None,
        };
        self.count(&line);
        drop(line);
        drop(left);
    }

    fn count(&self, line: &Line) {
        self.waiting.store(line.entries.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line of a service. Resolves to a permit, or to [`Cause::NoEndpoint`] when the
/// service lost the last endpoint that could have come. Dropping it leaves the line; a permit
/// that was handed over at that moment goes to the next.
#[derive(Debug)]
#[must_use = "a dropped place is given up"]
pub struct Wait {
    queue: Arc<Queue>,
    ticket: u64,
    receiver: oneshot::Receiver<Answer>,
    answered: bool,
}

impl Future for Wait {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = ready!(Pin::new(&mut self.receiver).poll(cx));
        self.answered = true;
        Poll::Ready(answer.unwrap_or(Err(Cause::NoEndpoint)))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if !self.answered {
            self.queue.leave(self.ticket);
        }
    }
}
