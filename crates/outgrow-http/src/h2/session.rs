//! A connection to an endpoint, shared by many exchanges at a time (RFC 9113, the client's side).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use ::h2::client::SendRequest;
use outgrow_core::{Cause, Fault, Phase, Sent};
use outgrow_message::{Blocks, BodyLength, RequestHead};
use outgrow_net::Transport;

use super::bridge::{Bridge, Wire};
use super::client_request;
use super::client_stream::ClientStream;
use super::connection::Shared;
use super::piece::Piece;
use crate::conn::client::RESPONSE_LIMITS;

/// The bounds of a connection to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// Exchanges at a time, if the endpoint takes as many. Default 100.
    pub streams: usize,
    /// Bytes of one response's body that may wait for us to take them. Default 128 KiB.
    pub stream_window_bytes: u32,
    /// Bytes of one request that may wait for the endpoint to take them. Default 64 KiB.
    pub send_buffer_bytes: usize,
    /// Bytes of all requests of a connection that may be held until the endpoint takes them;
    /// beyond that each stream has one piece of 16 KiB. Default 1 MiB.
    pub held_bytes: usize,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            streams: 100,
            stream_window_bytes: 128 * 1024,
            send_buffer_bytes: 64 * 1024,
            held_bytes: 1024 * 1024,
        }
    }
}

/// A connection on which exchanges can begin. Dropping it lets those that are under way go on, then
/// the connection ends.
#[derive(Debug)]
pub struct Session {
    send: Mutex<SendRequest<Piece>>,
    shared: Arc<Shared>,
    settings: SessionSettings,
}

/// Reads and writes for all exchanges of a connection: to be polled, as a task of its own, until it
/// ends. What ends it the exchanges learn.
#[derive(Debug)]
pub struct Driver<T: Transport> {
    inner: ::h2::client::Connection<Bridge<T>, Piece>,
    wire: Arc<Wire<T>>,
}

/// Says our preface and settings on `io` and waits for the endpoint's, by which it is known that it
/// speaks HTTP/2 and how many streams it takes. To be bounded in time by the caller.
///
/// # Errors
/// [`Cause::UpstreamBadResponse`] when something else comes than HTTP/2, else
/// [`Cause::UpstreamClosed`]; no request was sent.
pub async fn open<T: Transport>(
    io: T,
    blocks: Arc<Blocks>,
    settings: SessionSettings,
) -> Result<(Session, Driver<T>), Fault> {
    let shared: Arc<Shared> = Arc::default();
    let wire = Wire::new(io, Vec::new(), blocks, Arc::clone(&shared));
    let bridge = Bridge(Arc::clone(&wire));
    let handshake = builder(&settings).handshake::<_, Piece>(bridge).await;
    let (send, inner) = handshake.map_err(|error| refused(&error))?;
    wire.gather();
    let mut driver = Driver { inner, wire };
    poll_fn(|cx| driver.poll_settings(cx)).await?;
    let session = Session {
        send: Mutex::new(send),
        shared,
        settings,
    };
    Ok((session, driver))
}

fn builder(settings: &SessionSettings) -> ::h2::client::Builder {
    /// The largest window that the protocol knows (RFC 9113 section 6.9.1).
    const WINDOW_BYTES: u32 = (1 << 31) - 1;
    /// What the crate counts for a frame of a few bytes.
    const FRAME_BYTES: usize = 256;
    // As much as all streams together may have: whoever does not read keeps nobody else waiting.
    let window = u32::try_from(settings.streams)
        .unwrap_or(u32::MAX)
        .saturating_mul(settings.stream_window_bytes);
    let mut builder = ::h2::client::Builder::new();
    builder
        .enable_push(false)
        // Until the endpoint's settings say how many it takes.
        .initial_max_send_streams(0)
        .initial_window_size(settings.stream_window_bytes.min(WINDOW_BYTES))
        .initial_connection_window_size(window.min(WINDOW_BYTES))
        // Small messages are what endpoints send, and not against us: what they cost to keep is bounded
        // by the windows, with so much for each of the smallest frames.
        .data_frame_budget((window.min(WINDOW_BYTES) as usize).saturating_mul(FRAME_BYTES))
        // Requests that are given up come in bursts, with their clients.
        .max_concurrent_reset_streams(2 * settings.streams)
        .max_local_error_reset_streams(None)
        .max_header_list_size(RESPONSE_LIMITS.head_bytes as u32)
        .max_send_buffer_size(settings.send_buffer_bytes);
    builder
}

fn refused(error: &::h2::Error) -> Fault {
    let cause = match error.is_io() || error.is_remote() {
        true => Cause::UpstreamClosed,
        false => Cause::UpstreamBadResponse,
    };
    Fault::upstream(Phase::Connect, cause, Sent::None)
}

impl<T: Transport> Driver<T> {
    /// Reads and writes as far as it goes.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ::h2::Error>> {
        let polled = Pin::new(&mut self.inner).poll(cx);
        self.wire.poll_hand_on(cx);
        polled
    }

    fn poll_settings(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self.poll_all(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(Fault::upstream(
                Phase::Connect,
                Cause::UpstreamClosed,
                Sent::None,
            ))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(refused(&error))),
            Poll::Pending if self.inner.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: Transport> Future for Driver<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_all(cx).map(drop)
    }
}

impl Session {
    fn with_send<R>(&self, with: impl FnOnce(&mut SendRequest<Piece>) -> R) -> R {
        with(&mut self.send.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Exchanges that are under way.
    pub fn open_streams(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Bytes that came, ever.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Exchanges that can begin now.
    pub fn room(&self) -> usize {
        let limit = self.with_send(|send| send.current_max_send_streams());
        let limit = limit.min(self.settings.streams);
        limit.saturating_sub(self.open_streams())
    }

    /// Whether no further exchange can begin, ever: the endpoint said so, or the connection ended.
    pub fn is_over(&self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        self.with_send(|send| matches!(send.poll_ready(&mut nobody), Poll::Ready(Err(_))))
    }

    /// Begins an exchange: sends the head of `request`. `host_if_none` stands in for an authority;
    /// `secure`: the connection is encrypted.
    ///
    /// # Errors
    /// Nothing of it was sent: the connection takes no exchange any more, or the head has something
    /// that HTTP/2 has no form for.
    pub fn begin(
        &self,
        request: &RequestHead,
        host_if_none: &[u8],
        secure: bool,
        blocks: &Arc<Blocks>,
    ) -> Result<ClientStream, Fault> {
        let head = client_request::request(request, host_if_none, secure)?;
        let ends = matches!(request.length, BodyLength::Empty | BodyLength::Known(0));
        let begun = self.with_send(|send| send.clone().send_request(head, ends));
        let (response, stream) =
            begun.map_err(|_| Fault::upstream(Phase::Send, Cause::UpstreamClosed, Sent::None))?;
        let held = self.settings.held_bytes;
        let shared = Arc::clone(&self.shared);
        Ok(ClientStream::new(
            response, stream, ends, blocks, shared, held,
        ))
    }
}
