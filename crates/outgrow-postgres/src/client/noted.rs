//! What few messages of a server say: settings, errors, and what was executed that changes the session.

use super::Mark;
use super::relay::Relay;
use crate::answers::Effect;
use crate::events::{Level, Topic};
use crate::server::transaction;
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::{backend, read};

impl Relay<'_> {
    /// Takes note of a setting or an error.
    #[inline(never)]
    pub(super) fn note_other(&mut self, header: Header, was_ours: bool) {
        let server = &mut *self.server;
        let body = &server.down.unread()[HEADER_BYTES..header.whole()];
        match header.tag {
            backend::PARAMETER_STATUS => {
                if let Some((name, value)) = read::setting(body) {
                    if name == "in_hot_standby" {
                        // Promoted, or the other way: its monitor finds out which.
                        server.standing.alarm.ring();
                    }
                    server.variables.set(name, value);
                    // Ours too: the server's way to write it is as good, and need not be set again.
                    self.client.variables.set(name, value);
                    self.client.variables.share(&server.variables);
                    self.client.note_lexing();
                }
            }
            backend::ERROR_RESPONSE => {
                let problem = read::Problem::read(body);
                if was_ours && problem.code == b"42602" {
                    for name in self.client.session.drop_unknown(problem.message) {
                        self.has_dropped = true;
                        let entry = &self.client.identity.entry;
                        entry.say(Level::Warning, Topic::Other, || {
                            let name = String::from_utf8_lossy(&name);
                            format!("a server has no setting {name}: an extension was loaded there")
                        });
                    }
                }
                self.server_said_why |= problem.is_fatal() && !was_ours;
                // "cached plan must not change result type"
                self.has_defined |= problem.code == b"0A000" && server.prepared.len() > 0;
                // Something that nobody sees has removed it, and others: the next client gets a
                // connection that is like new.
                server.is_tainted |= problem.code == b"26000" && server.answers.has_known_failed();
                if server.answers.take_lost_unnamed() {
                    server.unnamed = Mark::default();
                }
                while let Some((statement, name)) = server.answers.take_failed() {
                    if let Some(statement) = statement {
                        server.prepared.remove(statement.number);
                    }
                    if let Some(name) = name {
                        self.client.names.remove(&name);
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes note of what the server has executed.
    #[cold]
    #[inline(never)]
    pub(super) fn note_effect(&mut self, effect: &Effect) {
        let is_failed = self.server.transaction == transaction::FAILED;
        let followed = &self.plan.house.followed;
        self.has_defined |= effect.defines;
        self.client
            .session
            .note(&effect.text, effect.lexing, followed, is_failed);
    }
}
