//! A connection to a server, logged in, with what is known of its session.

pub(crate) mod encrypt;
pub(crate) mod open;
pub(crate) mod silence;

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;

use outgrow_core::Ticks;
use outgrow_net::Transport;
use outgrow_upstream::{Endpoint, Permit, Place};

use crate::answers::Answers;
use crate::budget::Share;
use crate::cancel::Target;
use crate::client::{Mark, Settings};
use crate::diagnosis::watch::Watch;
use crate::flow::Flow;
use crate::prepared::OnServer;
use crate::seats::{Seat, linger};
use crate::seen::ServerEntry;
use crate::sequences::Values;
use crate::socket::Socket;
use crate::standing::Standing;
use crate::variables::Variables;
use crate::wire::frame::{self, Frame, HEADER_BYTES};
use crate::wire::{backend, frontend, read, write};
use silence::Silence;

/// What the answer to a statement of ours may hold at a time.
const RUN_LIMIT: usize = 64 * 1024;

/// What a server is told that is left: then it does not log a connection that was lost.
pub(crate) const GOODBYE: &[u8] = &[frontend::TERMINATE, 0, 0, 0, 4];

/// A connection that cannot be used on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// Why an exchange of ours came to no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The connection ended, or what came makes no sense.
    Ended,
    /// More came than is taken.
    TooMuch,
}

impl From<Cut> for Broken {
    fn from(_: Cut) -> Self {
        Self
    }
}

/// The state of a session's transaction, as ReadyForQuery tells it.
pub(crate) mod transaction {
    /// None is open.
    pub(crate) const NONE: u8 = b'I';
    /// One is open and has failed.
    pub(crate) const FAILED: u8 = b'E';
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Server {
    /// What is seen of it.
    pub(crate) entry: ServerEntry,
    pub(crate) socket: Socket,
    /// Which of the addresses of its endpoint's name it is connected to.
    pub(crate) place: Place,
    /// What it sends.
    pub(crate) down: Flow,
    /// What it owes.
    pub(crate) answers: Answers,
    /// The statements that are under way.
    pub(crate) watch: Watch,
    /// The state of its transaction.
    pub(crate) transaction: u8,
    /// The settings that are on it.
    pub(crate) variables: Variables,
    pub(crate) prepared: OnServer,
    /// Whose values its sequences have.
    pub(crate) values: Values,
    /// Whose statement without a name it has.
    pub(crate) unnamed: Mark,
    /// The buffer of what it is asked, where that may be asked again elsewhere.
    pub(crate) series: Vec<u8>,
    /// The settings that were set on it by statements.
    pub(crate) settings: Settings,
    /// What is known of the server.
    pub(crate) standing: Arc<Standing>,
    /// How long its machine may be silent.
    pub(crate) silence: Silence,
    /// What a cancel request must name.
    pub(crate) target: Arc<Target>,
    pub(crate) created: Ticks,
    /// Since when nobody uses it.
    pub(crate) idle_since: Ticks,
    /// The worker that waits for what it says.
    pub(crate) worker: usize,
    /// The pool's generation in which it was made.
    pub(crate) generation: u64,
    /// Whether nobody has had it yet.
    pub(crate) is_fresh: bool,
    /// Whether it must be made like new before it is lent to another client.
    pub(crate) is_tainted: bool,
    /// The right to be connected to its endpoint.
    pub(crate) permit: Permit,
    /// What it takes of the budgets of its database and user.
    #[expect(dead_code, reason = "held for as long as it counts")]
    pub(crate) shares: Vec<Share>,
    /// What it takes of the connections to its server. After the socket: it is closed first.
    pub(crate) seat: Option<Seat>,
}

impl Server {
    /// The endpoint that it is connected to.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        self.permit.endpoint()
    }

    /// Closes it, for this reason.
    pub(crate) fn close(mut self: Box<Self>, reason: impl Into<Cow<'static, str>>) {
        self.entry.reason = reason.into();
        linger::close(self);
    }

    /// A worker has it from now on.
    #[cold]
    pub(crate) fn move_to(&mut self, worker: usize) {
        self.socket.move_here();
        self.worker = worker;
    }

    /// Whether it could be lent now: it said nothing since it became idle, and did not end.
    #[inline]
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.socket.is_quiet()
    }

    /// Runs a statement of ours and leaves out what it answers. To be bounded in time.
    ///
    /// # Errors
    /// The connection ended, or the statement failed: it is of no use any more in either case.
    pub(crate) async fn run(&mut self, sql: &[u8]) -> Result<(), Broken> {
        self.query(sql, |_| {}).await
    }

    /// Runs a statement of ours, and gives the bodies of its rows. To be bounded in time.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub(crate) async fn query(
        &mut self,
        sql: &[u8],
        mut row: impl FnMut(&[u8]),
    ) -> Result<(), Broken> {
        let mut out = Vec::new();
        write::query(&mut out, sql);
        let mut failed = false;
        let take = |tag, body: &[u8]| match tag {
            backend::DATA_ROW => row(body),
            backend::ERROR_RESPONSE => failed = true,
            _ => {}
        };
        let is_all = self.exchange(&out, RUN_LIMIT, take).await?;
        if failed || !is_all || self.transaction != transaction::NONE {
            return Err(Broken);
        }
        Ok(())
    }

    /// Sends messages of ours, and gives everything that is answered, by tag and body, until the
    /// server is ready; then whether nothing came behind that. Settings that it tells are noted.
    /// To be bounded in time.
    ///
    /// # Errors
    /// The connection ended, or more than `limit` bytes came that are no whole message.
    pub(crate) async fn exchange(
        &mut self,
        messages: &[u8],
        limit: usize,
        mut take: impl FnMut(u8, &[u8]),
    ) -> Result<bool, Cut> {
        let written = self.socket.write_all(messages).await;
        written.map_err(|_| Cut::Ended)?;
        let mut input: Vec<u8> = Vec::new();
        loop {
            let mut start = 0;
            while let Frame::Whole(header) = frame::look(&input[start..]).map_err(|_| Cut::Ended)? {
                let body = &input[start + HEADER_BYTES..start + header.whole()];
                start += header.whole();
                if header.tag == backend::PARAMETER_STATUS
                    && let Some((name, value)) = read::setting(body)
                {
                    self.variables.set(name, value);
                }
                take(header.tag, body);
                if header.tag == backend::READY_FOR_QUERY {
                    self.transaction = *body.first().ok_or(Cut::Ended)?;
                    return Ok(start == input.len());
                }
            }
            input.drain(..start);
            if input.len() > limit {
                return Err(Cut::TooMuch);
            }
            let mut buffer = [0; 8192];
            let read = poll_fn(|cx| self.socket.poll_read(cx, &mut buffer)).await;
            match read {
                Ok(0) | Err(_) => return Err(Cut::Ended),
                Ok(count) => input.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Whether a client could be done with it: nothing is due, no transaction is open, nothing of
    /// it is unread.
    #[inline]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.transaction == transaction::NONE
            && self.answers.is_empty()
            && !self.answers.copies_in()
            && self.down.unread().is_empty()
            && !self.down.is_amid()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_at_rest() {
            return;
        }
        // As far as it goes without waiting; it ends at the close all the same.
        self.socket.say_last(GOODBYE);
    }
}
