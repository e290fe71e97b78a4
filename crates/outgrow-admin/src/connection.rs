//! One connection to the listener: a request, its answer, the next one.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase, Snapshot};
use outgrow_http::conn::ServerConnection;
use outgrow_http::conn::server::NoRequest;
use outgrow_http::downstream::Downstream;
use outgrow_http::h1::{Limits, Reject};
use outgrow_http::status;
use outgrow_message::{Blocks, BodyLength, BodySource, Method, RequestHead, ResponseHead};
use outgrow_net::Transport;
use tokio::time::timeout;

use crate::answer::Answer;
use crate::endpoints::{self, What};
use crate::guard;
use crate::peer::Peer;
use crate::plan::AdminPlan;
use crate::slots::Slot;
use crate::source::Source;

/// From the first byte of a head to its last.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// From the head to the last byte of the body.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Without any byte of a next request.
const IDLE_PATIENCE: Duration = Duration::from_secs(5);
/// For all of an answer to be taken.
const SEND_PATIENCE: Duration = Duration::from_secs(30);
/// For the caller to read the last answer before the connection is closed under it.
const LINGER_PATIENCE: Duration = Duration::from_secs(2);
/// The largest body that is taken.
const BODY_BYTES: usize = 64 * 1024;

/// What all connections of a listener share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) plan: Arc<Snapshot<AdminPlan>>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) blocks: Arc<Blocks>,
}

/// A connection while it is served.
struct Conversation<T> {
    shared: Shared,
    connection: ServerConnection<T>,
    peer: Peer,
    request: RequestHead,
    response: ResponseHead,
}

/// Serves a connection until it ends.
pub(crate) async fn serve<T: Transport>(shared: Shared, io: T, peer: Peer, slot: Slot) {
    let blocks = Arc::clone(&shared.blocks);
    let mut conversation = Conversation {
        shared,
        connection: ServerConnection::new(io, blocks, Limits::default()),
        peer,
        request: RequestHead::default(),
        response: ResponseHead::default(),
    };
    loop {
        if !conversation.is_asked(&slot).await {
            return;
        }
        // Until its head is whole a connection can be ended for another one: whoever sends a byte
        // of it and no more must not keep the probes out.
        let Some(head) = conversation.read_head(&slot).await else {
            return;
        };
        if !slot.wake() || !conversation.exchange(head, &slot).await {
            return;
        }
        conversation.connection.rest();
        if !slot.rest() {
            return;
        }
    }
}

impl<T: Transport> Conversation<T> {
    /// Waits for the first byte of a request; false when there will be none.
    async fn is_asked(&mut self, slot: &Slot) -> bool {
        let mut ended = pin!(slot.ended());
        let asked = poll_fn(|cx| {
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            self.connection.poll_readable(cx)
        });
        matches!(timeout(IDLE_PATIENCE, asked).await, Ok(true))
    }

    /// One request and its answer; whether another one may follow.
    async fn exchange(&mut self, head: Result<(), NoRequest>, slot: &Slot) -> bool {
        let answer = match head {
            Ok(()) => self.handle().await,
            Err(NoRequest::Reject(reject)) => {
                self.request.clear();
                self.connection.close_after();
                Some(refusal(reject))
            }
            Err(NoRequest::Closed | NoRequest::Gone) => None,
        };
        let Some(answer) = answer else {
            return false;
        };
        if slot.is_unwelcome() {
            self.connection.close_after();
        }
        let sent = timeout(SEND_PATIENCE, self.send(answer)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return false;
        }
        if self.connection.can_continue() {
            return true;
        }
        self.linger(slot).await;
        false
    }

    /// Lets the caller read the answer before the connection is closed under it. The place can be
    /// taken meanwhile.
    async fn linger(&mut self, slot: &Slot) {
        slot.rest();
        let mut ended = pin!(slot.ended());
        let mut shut = false;
        let linger = poll_fn(|cx| {
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            self.connection.poll_linger(cx, &mut shut)
        });
        // Whoever has not read it by the end of this will not.
        let _ = timeout(LINGER_PATIENCE, linger).await;
    }

    /// Reads the head; none when the connection was chosen to end.
    async fn read_head(&mut self, slot: &Slot) -> Option<Result<(), NoRequest>> {
        let mut ended = pin!(slot.ended());
        let head = poll_fn(|cx| {
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            self.connection.poll_head(cx, &mut self.request).map(Some)
        });
        match timeout(HEAD_PATIENCE, head).await {
            Ok(result) => result,
            Err(_) => Some(Err(NoRequest::Reject(Reject {
                cause: Cause::HeadTimeout,
                detail: "the head did not arrive in time",
            }))),
        }
    }

    /// The answer to a request; none when the caller has gone.
    async fn handle(&mut self) -> Option<Answer> {
        let plan = self.shared.plan.load();
        let found = match endpoints::find(&plan, &self.request, self.peer.is_tcp()) {
            Ok(what) if what.is_action() => {
                let may = guard::check_user(&plan, self.peer).await;
                may.map(|()| what)
            }
            found => found,
        };
        let what = match found {
            Ok(what) => what,
            Err(answer) => {
                self.pass_over_body().await;
                return Some(answer);
            }
        };
        if what == What::Live {
            self.pass_over_body().await;
            return Some(endpoints::answer(&*self.shared.source, what, b"/livez", &[]).await);
        }
        match timeout(BODY_PATIENCE, self.read_body()).await {
            Ok(Ok(body)) => {
                let path = self.request.path();
                Some(endpoints::answer(&*self.shared.source, what, path, &body).await)
            }
            Ok(Err(fault)) => {
                self.connection.close_after();
                let status = status::of(fault)?;
                let detail = self.connection.detail();
                Some(Answer::problem(status, fault.cause.text(), detail))
            }
            Err(_) => {
                self.connection.close_after();
                Some(Answer::problem(408, Cause::BodyTimeout.text(), ""))
            }
        }
    }

    /// Reads the whole body of the request.
    async fn read_body(&mut self) -> Result<Vec<u8>, Fault> {
        let too_large = Fault::client(Phase::RequestBody, Cause::BodyTooLarge);
        if matches!(self.request.length, BodyLength::Known(bytes) if bytes > BODY_BYTES as u64) {
            return Err(too_large);
        }
        if self.request.expects_continue && !self.request.length.is_empty() {
            self.response.clear();
            self.response.status = 100;
            self.connection.interim(&self.response)?;
            poll_fn(|cx| self.connection.poll_flush(cx)).await?;
        }
        let mut body = Vec::new();
        poll_fn(|cx| {
            while ready!(self.connection.poll_data(cx))? {
                let data = self.connection.data();
                if body.len() + data.len() > BODY_BYTES {
                    return Poll::Ready(Err(too_large));
                }
                body.extend_from_slice(data);
                let count = data.len();
                self.connection.consume(count);
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        Ok(body)
    }

    /// Passes over what has arrived of a body that nobody reads; when more would come, the
    /// connection ends after the answer.
    async fn pass_over_body(&mut self) {
        let is_whole = poll_fn(|cx| {
            loop {
                match self.connection.poll_data(cx) {
                    Poll::Ready(Ok(true)) => {
                        let count = self.connection.data().len();
                        self.connection.consume(count);
                    }
                    Poll::Ready(Ok(false)) => return Poll::Ready(true),
                    Poll::Ready(Err(_)) | Poll::Pending => return Poll::Ready(false),
                }
            }
        });
        if !is_whole.await {
            self.connection.close_after();
        }
    }

    async fn send(&mut self, answer: Answer) -> Result<(), Fault> {
        let method = self.request.method;
        answer.write_head(method, &mut self.response);
        let (length, body) = match method {
            Method::Head => (BodyLength::Empty, &[][..]),
            _ => (BodyLength::Known(answer.body.len() as u64), &*answer.body),
        };
        self.connection.respond(&self.response, length, method)?;
        let mut sent = 0;
        poll_fn(|cx| self.poll_push_all(cx, body, &mut sent)).await?;
        self.connection.finish(None)?;
        poll_fn(|cx| self.connection.poll_flush(cx)).await
    }

    fn poll_push_all(
        &mut self,
        cx: &mut Context<'_>,
        body: &[u8],
        sent: &mut usize,
    ) -> Poll<Result<(), Fault>> {
        while *sent < body.len() {
            *sent += ready!(self.connection.poll_push(cx, &body[*sent..]))?;
        }
        Poll::Ready(Ok(()))
    }
}

/// The answer to bytes that are no acceptable request.
fn refusal(reject: Reject) -> Answer {
    let fault = Fault::client(Phase::RequestHead, reject.cause);
    let status = status::of(fault).unwrap_or(400);
    Answer::problem(status, reject.cause.text(), reject.detail)
}

#[cfg(test)]
mod tests;
