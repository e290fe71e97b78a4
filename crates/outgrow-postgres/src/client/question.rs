//! What the server is asked of ours while a client keeps it: whether the reason still holds.

use super::relay::Relay;
use crate::answers::Due;
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::write;

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
            let question = question.as_bytes();
            self.client.up.put(|out| write::query(out, question));
            self.server.answers.push(Due::OurQuery);
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
}
