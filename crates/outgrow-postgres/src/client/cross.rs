//! A client that listens leaves for the next process: both listen for it before it goes, and it goes at
//! a marker in what is notified ([`crate::listening::crossing`]).
//!
//! It is served as ever while that is prepared. Then, at rest, it is told what came before the marker,
//! and offered as others are ([`super::depart`]). Whatever does not work ends in that it stays, hears
//! here what it would have heard there, and, when it has nowhere to go, is told to reconnect.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use outgrow_core::random::system_bytes;
use tokio::task::AbortHandle;

use super::Client;
use super::depart::proof;
use super::listen::Listening;
use crate::handover::state::ClientState;
use crate::handover::{Stayed, Traveller, Way, prepare};
use crate::listening::crossing::{MARKER_BYTES, Marker, Standing};
use crate::problem::Refusal;
use crate::shared::{Drain, Shared};

/// How long a client at rest waits until it was told everything that comes before the marker.
const MARK_LIMIT: Duration = Duration::from_secs(5);
/// How long a client that is to be ended is told what was kept for it, while it does not read.
const KEPT_LIMIT: Duration = Duration::from_secs(1);
/// How often it is tried to have a client cross.
const MOST_TRIES: u8 = 5;

/// How far a client is on its way.
#[derive(Debug, Default)]
pub(super) struct Crossing {
    /// By what the next process expects it.
    ticket: u64,
    /// What prepares it, and keeps what is prepared.
    task: Option<AbortHandle>,
    tries: u8,
}

impl Drop for Crossing {
    fn drop(&mut self) {
        self.end();
    }
}

impl Crossing {
    fn end(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Listening {
    /// Has both processes listen for a client that is this.
    fn begin_crossing(&mut self, shared: &Arc<Shared>, state: ClientState) {
        if self.way.tries >= MOST_TRIES {
            return;
        }
        let mut random = [0; MARKER_BYTES];
        system_bytes(&mut random);
        let marker = Marker::new(&random);
        let Some(channels) = self.ear.begin_leaving(marker.clone()) else {
            return;
        };
        self.way.tries += 1;
        let ticket = shared.handover.next_number();
        let traveller = Traveller {
            ticket,
            hub: Arc::clone(&self.pool.hub),
            ear: Arc::clone(&self.ear),
            marker,
            encoding: self.encoding.to_string(),
            state: ClientState {
                channels: channels.iter().map(|name| name.to_vec()).collect(),
                ..state
            },
        };
        let task = tokio::spawn(prepare(Arc::clone(shared), traveller));
        self.way.ticket = ticket;
        self.way.task = Some(task.abort_handle());
    }

    /// It stays, for now.
    pub(super) fn end_crossing(&mut self) {
        self.way.end();
        if let Some(marker) = self.ear.end_leaving() {
            let names = std::slice::from_ref(&marker);
            self.pool.hub.leave(names, &self.ear);
        }
    }

    /// By what the next process expects it, and what it listens on.
    pub(super) fn luggage(&self) -> (Option<u64>, Vec<Vec<u8>>) {
        let ticket = (self.ear.standing() == Standing::Crossed).then_some(self.way.ticket);
        let channels = self.ear.listened().unwrap_or_default();
        let channels = channels.iter().map(|name| name.to_vec());
        (ticket, channels.collect())
    }
}

impl Client {
    /// What a client that listens does at rest, while the next process takes clients or not.
    pub(super) fn way_of_listener(&self, way: Way) -> (Way, Stayed) {
        let Some(listening) = &self.listening else {
            return (Way::Tell, Stayed::Listens);
        };
        let way = match (way, listening.ear.standing()) {
            (Way::Tell, _) => Way::Tell,
            // It hears what is notified, and so it is served.
            (Way::Hold | Way::Serve, _) => Way::Serve,
            (Way::Offer, _) if !self.worker.shared.handover.takes_listeners() => Way::Tell,
            (Way::Offer, Standing::Refused) => Way::Tell,
            (Way::Offer, Standing::Stays) if listening.way.tries >= MOST_TRIES => Way::Tell,
            (Way::Offer, Standing::Stays | Standing::Waits | Standing::Lost) => Way::Serve,
            (Way::Offer, Standing::Ready | Standing::Crosses | Standing::Crossed) => Way::Offer,
        };
        (way, Stayed::Listens)
    }

    /// Has both processes listen for a client at rest that is to leave, if that was not begun.
    #[inline]
    pub(super) fn begin_crossing(&mut self) {
        if self.listening.is_some() && self.worker.shared.drain() == Drain::Gently {
            self.try_crossing();
        }
    }

    #[cold]
    fn try_crossing(&mut self) {
        let handover = &self.worker.shared.handover;
        let Some(listening) = &self.listening else {
            return;
        };
        let standing = listening.ear.standing();
        let is_begun = !matches!(standing, Standing::Stays | Standing::Lost);
        if is_begun || handover.way() != Way::Offer || !handover.takes_listeners() {
            return;
        }
        if standing == Standing::Lost {
            self.give_up_crossing();
        }
        if !self.is_at_rest() || self.stays_because().is_some() {
            return;
        }
        let state = ClientState {
            database: self.identity.database.to_string(),
            user: self.identity.user.to_string(),
            process: self.cancel.key.process,
            secret: self.cancel.secret(),
            proof: proof(&self.identity.credential),
            ..ClientState::default()
        };
        if let Some(listening) = &mut self.listening {
            listening.begin_crossing(&self.worker.shared, state);
        }
    }

    /// Has the marker notified and tells the client what comes before it; false when it does not go
    /// now. To be called while nobody listens to the client.
    pub(super) async fn cross(&mut self) -> Result<bool, Option<Refusal>> {
        let Some(listening) = &self.listening else {
            return Ok(true);
        };
        let Some(marker) = listening.ear.ask_for_mark() else {
            self.give_up_crossing();
            return Ok(false);
        };
        listening.pool.hub.mark(marker);
        let mut limit = pin!(tokio::time::sleep(MARK_LIMIT));
        let crossed = poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll_crossed(cx) {
                return Poll::Ready(end);
            }
            limit.as_mut().poll(cx).map(|()| Ok(false))
        });
        let crossed = crossed.await;
        if !matches!(crossed, Ok(true)) {
            self.give_up_crossing();
        }
        crossed
    }

    fn poll_crossed(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Option<Refusal>>> {
        loop {
            if let Some(refusal) = self.deaf() {
                return Poll::Ready(Err(Some(refusal)));
            }
            if self.tail.is_pending() {
                match self.tail.poll_write(cx, &mut self.socket) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(None)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            let standing = self.listening.as_ref().map(|one| one.ear.standing());
            self.hear_alone();
            if self.tail.is_pending() {
                continue;
            }
            return match standing {
                Some(Standing::Crosses) => Poll::Pending,
                Some(Standing::Crossed) => Poll::Ready(Ok(true)),
                _ => Poll::Ready(Ok(false)),
            };
        }
    }

    /// Whether a client that was to cross has not, or not any more: then it stays.
    pub(super) fn has_not_crossed(&mut self) -> bool {
        let listening = self.listening.as_ref();
        let stays = listening.is_some_and(|one| one.ear.standing() != Standing::Crossed);
        if stays {
            self.give_up_crossing();
        }
        stays
    }

    /// Tells a client that is to be ended what came after the marker, as far as it reads that.
    pub(super) async fn tell_kept(&mut self) {
        self.give_up_crossing();
        let mut limit = pin!(tokio::time::sleep(KEPT_LIMIT));
        let told = poll_fn(|cx| {
            loop {
                self.hear_alone();
                if !self.tail.is_pending() {
                    return Poll::Ready(());
                }
                match self.tail.poll_write(cx, &mut self.socket) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return limit.as_mut().poll(cx),
                }
            }
        });
        told.await;
    }

    /// The client stays, for now.
    pub(super) fn give_up_crossing(&mut self) {
        if let Some(listening) = &mut self.listening {
            listening.end_crossing();
        }
    }
}
