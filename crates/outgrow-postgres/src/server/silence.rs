//! How long a server's machine may leave what was sent to it unacknowledged.
//!
//! The system counts a machine whose window is full like one that is silent, although it answers:
//! and a server that waits for its client, for a lock or for its disk reads nothing. So the limit
//! is in force only while what is under way certainly finds place in the window. Deliberately not here:
//! connections on which nothing is under way; the system asks for signs of life there.

use std::time::Duration;

use outgrow_upstream::limit_silence;

use crate::socket::Socket;

/// What certainly finds place in a window, in bytes.
const CERTAIN: u64 = 16 * 1024;

/// The limit of a connection.
#[derive(Debug)]
pub(crate) struct Silence {
    /// Zero is the system's own time.
    limit: Duration,
    is_off: bool,
}

impl Silence {
    /// As it was when the connection was made.
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            is_off: false,
        }
    }

    /// Takes note that so many bytes are under way, which the server may not have read.
    #[inline]
    pub(crate) fn note(&mut self, under_way: u64, socket: &Socket) {
        let is_off = under_way > CERTAIN;
        if is_off != self.is_off {
            self.turn(is_off, socket);
        }
    }

    #[cold]
    fn turn(&mut self, is_off: bool, socket: &Socket) {
        self.is_off = is_off;
        if let Some(stream) = socket.to_server().filter(|_| !self.limit.is_zero()) {
            let limit = if is_off { Duration::ZERO } else { self.limit };
            limit_silence(stream, limit);
        }
    }
}
