//! What the server is told and asked of ours while a client has it: the client's settings, whether the
//! reason to keep it still holds, settings that were reset.

use super::relay::{End, Relay};
use super::{Client, Mark};
use crate::answers::Due;
use crate::events::{Level, Topic};
use crate::problem::{PROTOCOL, Refusal};
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
    /// Puts the client's settings on the connection, along with its first message.
    #[inline]
    pub(super) fn bring_settings(&mut self) {
        let (client, server) = (&self.client, &mut self.server);
        let are_equal = client.session.settings() == &server.settings;
        if !(client.variables.are_on(&server.variables) && are_equal) {
            self.set_settings(are_equal);
        }
    }

    #[inline(never)]
    fn set_settings(&mut self, are_equal: bool) {
        let (client, server) = (&self.client, &mut self.server);
        let mut sql = Vec::new();
        client
            .variables
            .write_difference(&server.variables, &mut sql);
        if !are_equal {
            let settings = client.session.settings();
            settings.write_difference(&server.settings, &mut sql);
            self.replaced = Some(std::mem::replace(&mut server.settings, settings.clone()));
        }
        if !sql.is_empty() {
            self.client
                .identity
                .entry
                .say(Level::Debug, Topic::Other, || {
                    format!("varcache_apply: {}", String::from_utf8_lossy(&sql))
                });
            self.client.say_ours(self.server, &sql);
        }
    }

    /// Takes note that the client's settings are on the connection, and of how the server writes them.
    fn note_settings(&mut self) {
        let entry = &self.client.identity.entry;
        let note = |name: &str, old: &str, new: &str| {
            entry.say(Level::Debug, Topic::Other, || {
                format!(
                    "varcache_set_canonical: setting {name} to its canonical version {old} -> {new}"
                )
            });
        };
        self.client.variables.adopt(&self.server.variables, note);
    }

    /// Takes note that the server has dealt with a query of ours.
    #[inline(never)]
    pub(super) fn note_ours(&mut self) -> Option<End> {
        let asked = self.asked.take();
        let has_failed = self.server.answers.take_failure();
        let replaced = self.replaced.take();
        if !has_failed {
            // What was reset is not on the server yet.
            if asked.is_none() && !self.has_started_over {
                self.note_settings();
            }
            return None;
        }
        if let Some(pin) = asked {
            // A cancel request that came late, for example: the reason holds for all we know.
            self.client.session.note_answer(pin, true);
            return None;
        }
        if std::mem::take(&mut self.has_dropped) {
            // They were one transaction: the server has what it had before.
            self.server.settings = replaced.unwrap_or_default();
            self.bring_settings();
            return None;
        }
        let refusal = Refusal::new(PROTOCOL, "invalid server parameter");
        Some(End::ServerGone(Some(refusal)))
    }

    /// Whether nothing keeps the client at this connection. Asks the server where that is not
    /// certain.
    #[inline]
    pub(super) fn is_free(&mut self) -> bool {
        self.client.session.pins().is_empty() || self.ask_whether_free()
    }

    #[inline(never)]
    fn ask_whether_free(&mut self) -> bool {
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
    #[inline(never)]
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
