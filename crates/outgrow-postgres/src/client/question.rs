//! What the server is told and asked of ours while a client keeps it: whether the reason still holds,
//! settings that were reset.

use super::relay::Relay;
use super::{Client, Mark};
use crate::answers::Due;
use crate::server::{Server, transaction};
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::write;

impl Client {
    /// Says a query of ours to the server. As any simple query, it ends the unnamed statement there.
    pub(super) fn say_ours(&mut self, server: &mut Server, sql: &[u8]) {
        server.unnamed = Mark::default();
        server.answers.push(Due::OurQuery);
        self.up.put(|out| write::query(out, sql));
    }
}

impl Relay<'_> {
    /// Whether nothing keeps the client at this connection. Asks the server where that is not
    /// certain.
    #[inline]
    pub(super) fn is_free(&mut self) -> bool {
        if self.client.session.pins().is_empty() {
            return true;
        }
        if self.asked.is_none()
            && self.server.is_at_rest()
            && !self.client.up.is_pending()
            && self.client.up.unread().is_empty()
            && let Some((pin, question)) = self.client.session.next_question()
        {
            self.client.say_ours(self.server, question.as_bytes());
            self.asked = Some(pin);
        }
        false
    }

    /// Takes note of the server's answer to that.
    pub(super) fn note_answer(&mut self, header: Header) {
        let unread = self.server.down.unread();
        let body = unread.get(HEADER_BYTES..header.whole()).unwrap_or_default();
        if let Some(pin) = self.asked {
            // One column of one byte.
            let still_holds = body.last() != Some(&b'f');
            self.client.session.note_answer(pin, still_holds);
        }
    }

    /// Settings that the client has reset are what its start said, not what the server takes for the
    /// default: it is told so, and the server too, with its next connection or here if it stays.
    #[cold]
    pub(super) fn start_over(&mut self) {
        let places = self.client.session.take_resets();
        let start = &self.client.identity.variables;
        let down = &mut self.server.down;
        self.client
            .variables
            .start_over(start, places, |name, value| {
                down.put(|out| write::parameter_status(out, name.as_bytes(), value.as_bytes()));
            });
        self.client.note_lexing();
        self.has_started_over = true;
    }

    /// Brings what was reset to a server that the client keeps, as soon as nothing else is on its way.
    #[cold]
    pub(super) fn bring_start(&mut self) {
        if self.server.transaction == transaction::NONE && !self.client.is_pinned() {
            // Its next connection gets it.
            self.has_started_over = false;
            return;
        }
        let up = &self.client.up;
        let is_alone = self.server.answers.is_empty() && !up.is_pending() && up.unread().is_empty();
        if is_alone && self.server.transaction != transaction::FAILED {
            self.has_started_over = false;
            self.bring_settings();
        }
    }
}
