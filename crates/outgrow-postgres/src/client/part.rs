//! A server that ends its connection in the moment in which the client is done with it: what it says of
//! that comes right behind the answer, and is not for a client that gets another connection next time.

use super::relay::{End, Relay};
use crate::server::transaction;
use crate::settings::PoolMode;
use crate::sql::facts::Pin;
use crate::wire::backend;

impl Relay<'_> {
    /// Whether a query or a transaction is under way.
    pub(super) fn has_begun_something(&self) -> bool {
        self.query_began.is_some() || self.transaction_began.is_some()
    }

    /// Whether the client needs nothing more of this connection. That it could ask for what its
    /// sequences gave keeps nobody from going on elsewhere.
    pub(super) fn needs_nothing(&mut self) -> bool {
        let is_done = self.plan.mode != PoolMode::Session
            && self.server.answers.is_empty()
            && self.server.transaction == transaction::NONE
            && !self.client.up.is_pending()
            && !self.client.up.is_amid()
            && !self.has_begun_something();
        if is_done {
            self.client.session.unpin(Pin::Sequence);
        }
        is_done && self.client.session.pins().is_empty()
    }

    /// What the client's lending ends with when the server says an error that nobody asked for, and the
    /// client needs nothing more of this connection.
    #[inline(never)]
    pub(super) fn parts(&mut self, tag: u8) -> Option<End> {
        if tag != backend::ERROR_RESPONSE || !self.needs_nothing() {
            return None;
        }
        let unread = self.server.down.unread().len();
        self.server.down.leave_out(unread);
        self.client.tail = std::mem::take(&mut self.server.down);
        self.server.entry.reason = "server conn crashed?".into();
        Some(End::Done)
    }
}
