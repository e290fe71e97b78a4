//! When a client that has a connection to a server hears what is notified: as from Postgres, when it
//! is in no transaction, and what it notified itself before it is told that it was done.

use super::relay::Relay;
use crate::answers::Fate;
use crate::problem::Refusal;
use crate::server::transaction;
use crate::settings::PoolMode;
use crate::wire::frame::{HEADER_BYTES, Header};

impl Relay<'_> {
    /// While nothing is under way; gives why the client is ended. What it is without its connection is
    /// seen to elsewhere.
    #[inline(never)]
    pub(super) fn hear_at_rest(&mut self) -> Option<Refusal> {
        let is_pinned = || self.client.is_pinned() && !self.server.down.is_pending();
        if !self.client.listens() || !is_pinned() || !self.is_between() {
            return None;
        }
        let deaf = self.client.deaf();
        if deaf.is_none() {
            self.client.hear(&mut self.server.down);
        }
        deaf
    }

    /// Whether a ReadyForQuery is to wait until the client has heard what it notified.
    #[inline(never)]
    pub(super) fn must_wait(&mut self, header: Header, was_ours: bool) -> bool {
        if was_ours || !self.client.listens() {
            return false;
        }
        let unread = self.server.down.unread();
        let ends = unread.get(HEADER_BYTES..header.whole()) == Some(&[transaction::NONE]);
        self.waits_for_own =
            ends && self.server.answers.has_one_series() && self.client.waits_for_own();
        self.waits_for_own
    }

    /// What the client is to hear before it is told that the server waits for what comes next.
    #[inline(never)]
    pub(super) fn hear_before_ready(&mut self) {
        if self.server.transaction != transaction::NONE {
            return;
        }
        let answers = &self.server.answers;
        self.client.end_transaction(answers.has_failed());
        self.client.settle_listening(answers.is_empty());
        self.client.hear(&mut self.server.down);
    }

    /// What becomes of a notification of the server that is lent.
    #[inline(never)]
    pub(super) fn judge_notification(&mut self, header: Header) -> Fate {
        if self.plan.mode == PoolMode::Session {
            return Fate::Pass;
        }
        let unread = self.server.down.unread();
        let body = unread.get(HEADER_BYTES..header.whole()).unwrap_or_default();
        let (fate, is_foreign) = self.client.judge_notification(body);
        self.server.is_tainted |= is_foreign;
        fate
    }

    /// Whether nothing of the client's is under way; what we ask ourselves may be.
    fn is_between(&self) -> bool {
        self.query_began.is_none()
            && self.transaction_began.is_none()
            && self.server.transaction == transaction::NONE
            && self.server.answers.are_ours()
            && !self.server.down.is_amid()
    }
}
