//! A client's HTTP/2 connection: streams come out of it as they open. Whoever holds it polls it
//! all the time: reading and writing for all of its streams happens there.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use outgrow_core::{Cause, Fault, Phase};
use outgrow_message::{Blocks, Version};
use outgrow_net::Transport;

use super::Settings;
use super::bridge::{Bridge, Wire};
use super::piece::Piece;
use super::request::RequestParts;
use super::stream::H2Stream;
use super::window::{LARGEST_BYTES, Window};
use crate::h1::Limits;

/// Streams reset by us for malformed frames, after which the connection is closed.
const MALFORMED_STREAMS: usize = 256;
/// Streams that a client resets before they could even be taken, after which it is closed.
const RESETS_BEFORE_ACCEPT: usize = 20;

/// What a connection and its streams tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Streams that are at work.
    pub(super) open: AtomicUsize,
    /// Streams that a client reset before they were answered.
    pub(super) resets: AtomicU64,
    /// Streams with data that nobody takes for now.
    pub(super) stalled: AtomicUsize,
    /// Whoever polls the connection.
    waker: Mutex<Option<Waker>>,
    /// Bytes of bodies that are held until they are written.
    pub(super) held: AtomicUsize,
    /// Bytes that came from the transport.
    pub(super) received: AtomicU64,
    /// Bytes that the transport took.
    pub(super) written: AtomicU64,
    /// Whether the transport took nothing when it was last given something.
    pub(super) blocked: AtomicBool,
}

impl Shared {
    /// A stream has data that nobody takes for now: the connection's window may have to grow for it.
    pub(super) fn stall(&self) {
        self.stalled.fetch_add(1, Ordering::Relaxed);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = &*waker {
            waker.wake_by_ref();
        }
    }

    fn is_polled_by(&self, waker: &Waker) {
        let mut known = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }
}

/// A connection after its preface.
#[derive(Debug)]
pub struct Connection<T> {
    inner: ::h2::server::Connection<Bridge<T>, Piece>,
    wire: Arc<Wire<T>>,
    blocks: Arc<Blocks>,
    limits: Limits,
    settings: Settings,
    shared: Arc<Shared>,
    window: Window,
    accepted: u64,
    flooded: bool,
    fault: Option<Fault>,
}

/// Waits for the client's preface on `io` (after what has `arrived` already) and sends our
/// settings. To be bounded in time by the caller.
///
/// # Errors
/// [`Cause::BadRequest`] when something else comes than the preface, [`Cause::ClientGone`] when
/// the client goes away.
pub async fn serve<T: Transport>(
    io: T,
    arrived: Vec<u8>,
    blocks: Arc<Blocks>,
    limits: Limits,
    settings: Settings,
) -> Result<Connection<T>, Fault> {
    let shared: Arc<Shared> = Arc::default();
    let wire = Wire::new(io, arrived, Arc::clone(&blocks), Arc::clone(&shared));
    let handshake = builder(&limits, &settings).handshake(Bridge(Arc::clone(&wire)));
    let inner = handshake.await.map_err(|error| {
        let cause = if error.is_io() {
            Cause::ClientGone
        } else {
            Cause::BadRequest
        };
        Fault::client(Phase::RequestHead, cause)
    })?;
    wire.gather();
    Ok(Connection {
        inner,
        wire,
        blocks,
        limits,
        settings,
        shared,
        window: Window::default(),
        accepted: 0,
        flooded: false,
        fault: None,
    })
}

fn builder(limits: &Limits, settings: &Settings) -> ::h2::server::Builder {
    /// What HPACK counts beside name and value of a field (RFC 7541 section 4.1).
    const FIELD_BYTES: usize = 32;
    /// Pseudo-header fields.
    const PSEUDO_FIELDS: usize = 5;
    // A head somewhat above our own limits must get through, so that it is answered and recorded
    // by us; one far above it is answered with 431 by the crate.
    let list = limits.head_bytes + (limits.fields + PSEUDO_FIELDS + 1) * FIELD_BYTES;
    let mut builder = ::h2::server::Builder::new();
    builder
        .max_concurrent_streams(settings.streams)
        .initial_window_size(settings.stream_window_bytes.min(LARGEST_BYTES))
        .initial_connection_window_size(settings.connection_window_bytes.min(LARGEST_BYTES))
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .max_send_buffer_size(settings.send_buffer_bytes.min(LARGEST_BYTES as usize))
        .max_local_error_reset_streams(Some(MALFORMED_STREAMS))
        .max_pending_accept_reset_streams(RESETS_BEFORE_ACCEPT)
        .enable_connect_protocol();
    builder
}

impl<T: Transport> Connection<T> {
    /// Waits for the next stream; none when the connection has ended: see
    /// [`Connection::fault`]. Dropping the future loses nothing.
    pub async fn accept(&mut self) -> Option<(RequestParts, H2Stream)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The same as a poll function. It moves all streams' bytes as well.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<(RequestParts, H2Stream)>> {
        self.shared.is_polled_by(cx.waker());
        self.fit_window();
        loop {
            self.check_flood();
            let accepted = self.inner.poll_accept(cx);
            if !matches!(accepted, Poll::Ready(Some(Ok(_)))) {
                self.wire.poll_hand_on(cx);
            }
            match ready!(accepted) {
                None => return Poll::Ready(None),
                Some(Err(error)) => {
                    self.fault = self.fault.or(self.fault_of(&error));
                    return Poll::Ready(None);
                }
                // What was on its way when the connection was condemned: dropped, so reset.
                Some(Ok(_)) if self.flooded => {}
                Some(Ok((request, respond))) => {
                    self.accepted += 1;
                    let (parts, body) = request.into_parts();
                    let parts =
                        RequestParts::new(parts, body.is_end_stream(), self.limits, Version::Http2);
                    let (blocks, shared) = (Arc::clone(&self.blocks), Arc::clone(&self.shared));
                    let held = self.settings.held_bytes;
                    let mut stream = H2Stream::new(body, respond, blocks, shared, held);
                    if parts.is_tunnel() {
                        stream.be_tunnel();
                    }
                    return Poll::Ready(Some((parts, stream)));
                }
            }
        }
    }

    fn fit_window(&mut self) {
        let stalled = self.shared.stalled.load(Ordering::Relaxed);
        let ledger = self.blocks.ledger();
        if let Some(bytes) = self.window.fit(stalled, &self.settings, ledger) {
            self.inner.set_target_window_size(bytes);
        }
    }

    /// A client that opens streams only to reset them makes us work for nothing.
    fn check_flood(&mut self) {
        let resets = self.shared.resets.load(Ordering::Relaxed);
        let many = resets > self.settings.premature_resets && resets * 2 > self.accepted;
        if many && !self.flooded {
            self.flooded = true;
            self.fault = Some(Fault::client(Phase::RequestHead, Cause::ResetFlood));
            self.inner.abrupt_shutdown(::h2::Reason::ENHANCE_YOUR_CALM);
        }
    }

    fn fault_of(&self, error: &::h2::Error) -> Option<Fault> {
        let cause = if error.is_io() || error.is_remote() {
            if self.open_streams() == 0 {
                return None;
            }
            Cause::ClientGone
        } else {
            Cause::BadRequest
        };
        Some(Fault::client(Phase::RequestHead, cause))
    }

    /// Why the connection ended before its time; none when it ended in order.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Says that no further streams are taken (GOAWAY). Those that are open, or on their way,
    /// are still served; then [`Connection::accept`] gives none.
    pub fn drain(&mut self) {
        self.inner.graceful_shutdown();
    }

    /// Ends the connection without regard for its streams, as soon as it is polled again:
    /// GOAWAY with NO_ERROR, then the end.
    pub fn close(&mut self) {
        self.inner.abrupt_shutdown(::h2::Reason::NO_ERROR);
    }

    /// How many streams are at work.
    pub fn open_streams(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// How many streams there have been: by this an idle timer sees that something happened.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many bytes the transport took, ever.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Whether something waits that the transport does not take: the client does not read. While
    /// this is so, [`Connection::written`] tells whether anything moves.
    pub fn is_blocked(&self) -> bool {
        self.shared.blocked.load(Ordering::Relaxed)
    }

    /// Whether no stream is at work, and no byte of an answer waits.
    pub fn is_idle(&self) -> bool {
        self.open_streams() == 0 && !self.inner.has_streams() && !self.is_blocked()
    }
}
