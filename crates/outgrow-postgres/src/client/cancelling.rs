//! What a client wants that is cancelled while it waits in line for a server. Requests themselves are in
//! `cancel.rs`.

use super::Client;
use crate::problem::CANCELLED;
use crate::wire::frame::{self, Frame};
use crate::wire::{frontend, write};

impl Client {
    /// Drops what the client wants, which was cancelled before a server had it: a query, or a series of
    /// messages up to its Sync, most of which may not have come yet.
    pub(super) fn drop_cancelled(&mut self) {
        self.repeat = None;
        self.forget_filling();
        let Ok(Frame::Whole(header) | Frame::Partial(header)) = frame::look(self.up.unread())
        else {
            return;
        };
        let is_alone = matches!(header.tag, frontend::QUERY | frontend::FUNCTION_CALL);
        if is_alone {
            self.up.leave_out_message(header.whole());
        } else {
            self.skips = true;
        }
        self.tail.put(|out| {
            let message = "canceling statement due to user request";
            write::error(out, write::Problem::error(CANCELLED, message));
            if is_alone {
                write::ready(out, b'I');
            }
        });
    }
}
