//! What a pool gives up of its connections when there are not enough for all pools of a server.

use std::sync::Arc;

use outgrow_core::Ticks;

use super::Pool;
use super::inner::Inner;
use crate::seats::{Holder, Seat, Seating};
use crate::server::Server;

impl Inner {
    /// Whether a connection that was given back is to be closed, since another pool is to have one.
    #[inline]
    pub(super) fn owes(&self, server: &mut Server, now: Ticks) -> bool {
        let is_idle = self.line.is_empty() && !self.others_wait();
        let age = now.since(server.created);
        let seat = server.seat.as_mut();
        seat.is_some_and(|seat| seat.is_owed(is_idle, age))
    }

    fn idle_at(&self, seating: &Arc<Seating>) -> Option<usize> {
        let is_there = |server: &Server| server.seat.as_ref().is_some_and(|one| one.is_of(seating));
        self.idle.iter().position(|server| is_there(server))
    }
}

impl Pool {
    /// As whom it has seats.
    pub(crate) fn holder(&self) -> Holder {
        (Arc::clone(&self.database), Arc::clone(&self.user))
    }

    /// Since when the connection to a server is idle that is idle for longest.
    pub(crate) fn oldest_idle_at(&self, seating: &Arc<Seating>) -> Option<Ticks> {
        let inner = self.lock();
        let place = inner.idle_at(seating)?;
        Some(inner.idle[place].idle_since)
    }

    /// Closes that one, if another pool is to have its seat.
    pub(crate) fn give_up_idle(&self, seating: &Arc<Seating>, now: Ticks) {
        let mut inner = self.lock();
        let Some(place) = inner.idle_at(seating) else {
            return;
        };
        let since = now.since(inner.idle[place].idle_since);
        let seat = inner.idle[place].seat.as_mut();
        if seat.is_some_and(|seat| Seat::is_owed(seat, true, since)) {
            let server = inner.idle.remove(place);
            drop(inner);
            if let Some(server) = server {
                server.close("evicted");
            }
        }
    }
}
