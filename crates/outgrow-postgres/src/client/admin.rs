//! A client of the console: greeted, then answered, one order after the other.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use outgrow_net::Transport;

use super::login::Login;
use crate::cancel::Registered;
use crate::console::{Answer, Console, Reply};
use crate::pgbouncer::console::{Command, Request, Role, answer};
use crate::problem::{PROTOCOL, Refusal};
use crate::seen::ClientState;
use crate::wire::frame::{self, Frame, HEADER_BYTES};
use crate::wire::write;

/// The longest message that is taken, in bytes.
const MESSAGE_LIMIT: usize = 64 * 1024;

/// A client of the console.
struct Session<'l> {
    login: &'l mut Login,
    console: Arc<dyn Console>,
    role: Role,
    cancel: Registered,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.console.left(self.login.entry.seen.number);
    }
}

/// Serves a client of the console until it leaves. Ends with what it is to be told, if anything.
pub(super) async fn run(
    login: &mut Login,
    console: Arc<dyn Console>,
    role: Role,
) -> Option<Refusal> {
    let cancel = {
        let peer = login.worker.shared.plan.load().house.peer;
        login.worker.shared.cancels.add(peer, false)
    };
    login.entry.seen.set_state(ClientState::Active);
    login.entry.reason = Some("client unexpected eof".into());
    let mut session = Session {
        login,
        console,
        role,
        cancel,
    };
    session.live().await
}

impl Session<'_> {
    async fn live(&mut self) -> Option<Refusal> {
        let mut out = Vec::new();
        write::authentication_ok(&mut out);
        answer::welcome(&mut out, self.console.version());
        let key = self.cancel.key;
        write::backend_key(&mut out, key.process, &key.secret.to_be_bytes());
        write::ready(&mut out, b'I');
        loop {
            if self.login.send(&out).await.is_err() {
                return None;
            }
            out.clear();
            let (tag, body) = match self.receive().await {
                Ok(message) => message,
                Err(refusal) => return refusal,
            };
            match Request::read(tag, &body) {
                Request::Query(query) => match Command::parse(&query, self.role) {
                    Ok(command) => {
                        let number = self.login.entry.seen.number;
                        let answer = self.console.run(number, command);
                        match self.wait(answer).await {
                            Ok(Reply::Say(bytes)) => out = bytes,
                            Ok(Reply::End) => return None,
                            Err(refusal) => return refusal,
                        }
                    }
                    Err(error) => answer::error(&mut out, &error),
                },
                Request::Terminate => {
                    self.login.entry.reason = Some("client close request".into());
                    return None;
                }
                Request::Broken => return Some(Refusal::new(PROTOCOL, "incomplete query")),
                Request::Refused(error) => {
                    answer::error(&mut out, &error);
                    let _ = self.login.send(&out).await;
                    return None;
                }
            }
        }
    }

    /// The next message.
    async fn receive(&mut self) -> Result<(u8, Vec<u8>), Option<Refusal>> {
        loop {
            match frame::look(&self.login.input) {
                Ok(Frame::Whole(header)) => {
                    let body = self.login.input[HEADER_BYTES..header.whole()].to_vec();
                    self.login.input.drain(..header.whole());
                    return Ok((header.tag, body));
                }
                Ok(Frame::NoHeader) => {}
                Ok(Frame::Partial(header)) if header.whole() <= MESSAGE_LIMIT => {}
                _ => return Err(Some(Refusal::new(PROTOCOL, "bad packet header"))),
            }
            let login = &mut *self.login;
            poll_fn(|cx| poll_client(login, cx)).await?;
        }
    }

    /// Waits for an answer.
    ///
    /// # Errors
    /// The client has left, or is to leave.
    async fn wait(&mut self, mut answer: Answer) -> Result<Reply, Option<Refusal>> {
        let login = &mut *self.login;
        poll_fn(|cx| {
            if let Poll::Ready(reply) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(reply));
            }
            // What it says meanwhile waits, up to a limit; that it leaves is seen.
            while login.input.len() < MESSAGE_LIMIT {
                match poll_client(login, cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(refusal)) => return Poll::Ready(Err(refusal)),
                    Poll::Pending => break,
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Reads what the client has sent.
fn poll_client(login: &mut Login, cx: &mut Context<'_>) -> Poll<Result<(), Option<Refusal>>> {
    let seen = &login.entry.seen;
    seen.set_waker(cx.waker());
    if let Some(refusal) = seen.ordered_away() {
        return Poll::Ready(Err(Some(refusal)));
    }
    let mut buffer = [0; 4096];
    match login.socket.poll_read(cx, &mut buffer) {
        Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(None)),
        Poll::Ready(Ok(count)) => {
            login.input.extend_from_slice(&buffer[..count]);
            Poll::Ready(Ok(()))
        }
        Poll::Pending => Poll::Pending,
    }
}
