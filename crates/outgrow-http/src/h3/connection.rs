//! A client's HTTP/3 connection: streams come out of it as they open. Unlike HTTP/2's it need not be
//! polled for its streams to move: QUIC does that.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use outgrow_core::{Cause, Fault, Phase};
use outgrow_message::Blocks;
use quinn::{ConnectionError, RecvStream, SendStream, StoppedError, VarInt};
use tokio::task::AbortHandle;

use super::account::Account;
use super::code::Code;
use super::shared::Shared;
use super::stream::H3Stream;
use super::{Settings, control, frame, shared, varint};
use crate::h1::Limits;

/// The type of a control stream.
const CONTROL: u64 = 0x0;
/// `SETTINGS_MAX_FIELD_SECTION_SIZE` (RFC 9114 section 7.2.4.1).
const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
/// `SETTINGS_ENABLE_CONNECT_PROTOCOL` (RFC 9220 section 5).
const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
/// The number of a request's stream and of the one after it differ by so much.
const STREAM_STEP: u64 = 4;

type Streams = (SendStream, RecvStream);
type Accepting = Pin<Box<dyn Future<Output = Result<Streams, ConnectionError>> + Send>>;
type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

/// A connection that has said its settings.
pub struct Connection {
    shared: Arc<Shared>,
    control: SendStream,
    /// Tells when the client does not want the control stream.
    stopped: Option<Stopped>,
    /// What the control stream has not taken yet.
    saying: Vec<u8>,
    accepting: Accepting,
    /// Reads the client's other streams.
    others: AbortHandle,
    blocks: Arc<Blocks>,
    limits: Limits,
    settings: Settings,
    accepted: u64,
    /// The number of the first stream that was not accepted.
    next_id: u64,
    /// From which number on streams are refused, once that was said.
    refused_from: Option<u64>,
    fault: Option<Fault>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Connection({} accepted)", self.accepted)
    }
}

/// Says our settings on a connection, whose transport [`Account::keep_with`] has seen. To be bounded in
/// time by the caller: a client may give no room for it, and what it sends meanwhile is counted.
///
/// # Errors
/// [`Cause::ClientGone`] when the connection has ended, [`Cause::MemoryLimit`] when there is no memory
/// to wait for it.
pub async fn serve(
    quic: quinn::Connection,
    account: Arc<Account>,
    blocks: Arc<Blocks>,
    limits: Limits,
    settings: Settings,
) -> Result<Connection, Fault> {
    let mut saying = Vec::new();
    varint::put(CONTROL, &mut saying);
    let mut payload = Vec::new();
    varint::put(MAX_FIELD_SECTION_SIZE, &mut payload);
    varint::put(advised_section(&limits), &mut payload);
    varint::put(ENABLE_CONNECT_PROTOCOL, &mut payload);
    varint::put(1, &mut payload);
    frame::put(frame::SETTINGS, &payload, &mut saying);
    let control = open_control(&quic, &account, &saying).await?;
    let shared = Arc::new(Shared::new(quic, account));
    let others = control::run(Arc::clone(&shared), settings.unknown_streams);
    Ok(Connection {
        accepting: accept(&shared),
        others: tokio::spawn(others).abort_handle(),
        shared,
        stopped: Some(Box::pin(control.stopped())),
        control,
        saying: Vec::new(),
        blocks,
        limits,
        settings,
        accepted: 0,
        next_id: 0,
        refused_from: None,
        fault: None,
    })
}

/// Opens the control stream with what is to be said first. Where it takes time, what QUIC may hold of
/// the client meanwhile is counted.
async fn open_control(
    quic: &quinn::Connection,
    account: &Arc<Account>,
    saying: &[u8],
) -> Result<SendStream, Fault> {
    let mut opening = pin!(async {
        let mut control = quic.open_uni().await.ok()?;
        // That it is to end must not wait behind what a client calls urgent.
        control.set_priority(i32::MAX).ok()?;
        control.write_all(saying).await.ok()?;
        Some(control)
    });
    let at_once = poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx))).await;
    let control = match at_once {
        Poll::Ready(control) => control,
        Poll::Pending => {
            let memory = || Fault::outgrow(Phase::RequestHead, Cause::MemoryLimit);
            let (_waits, wider) = account.unfinished().ok_or_else(memory)?;
            shared::widen(quic, wider);
            opening.await
        }
    };
    control.ok_or_else(|| Fault::client(Phase::RequestHead, Cause::ClientGone))
}

/// What a client is told of the size of heads (section 4.2.2), which counts more for each field than
/// we do.
fn advised_section(limits: &Limits) -> u64 {
    const FIELD_BYTES: usize = 32;
    (limits.head_bytes + limits.fields * FIELD_BYTES) as u64
}

fn accept(shared: &Arc<Shared>) -> Accepting {
    let quic = shared.quic.clone();
    Box::pin(async move { quic.accept_bi().await })
}

impl Connection {
    /// Waits for the next stream; none when the connection has ended: see [`Connection::fault`].
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<H3Stream>> {
        self.shared.sent.watch(cx);
        self.say(cx);
        self.watch_control(cx);
        loop {
            self.check_flood();
            let Poll::Ready(opened) = self.accepting.as_mut().poll(cx) else {
                return Poll::Pending;
            };
            let (send, receive) = match opened {
                Ok(streams) => streams,
                Err(error) => {
                    self.fault = self.fault.or(self.fault_of(&error));
                    self.shared.sent.wake_for_room();
                    return Poll::Ready(None);
                }
            };
            self.accepting = accept(&self.shared);
            self.accepted += 1;
            let id = VarInt::from(send.id()).into_inner();
            let (blocks, shared) = (Arc::clone(&self.blocks), Arc::clone(&self.shared));
            let stream = H3Stream::new((send, receive), blocks, self.limits, shared);
            if self.refused_from.is_some_and(|refused| id >= refused) {
                stream.reject();
                continue;
            }
            self.next_id = self.next_id.max(id + STREAM_STEP);
            return Poll::Ready(Some(stream));
        }
    }

    /// Who wants nothing of what we say of the connection has closed a stream that it needs (section
    /// 6.2.1).
    fn watch_control(&mut self, cx: &mut Context<'_>) {
        let Some(stopped) = &mut self.stopped else {
            return;
        };
        if let Poll::Ready(stopped) = stopped.as_mut().poll(cx) {
            self.stopped = None;
            if matches!(stopped, Ok(Some(_))) {
                let reason = "the control stream is not wanted";
                self.shared.break_off(Code::CLOSED_CRITICAL_STREAM, reason);
            }
        }
    }

    /// Gives the control stream what is to be said.
    fn say(&mut self, cx: &mut Context<'_>) {
        while !self.saying.is_empty() {
            let written = pin!(self.control.write(&self.saying)).poll(cx);
            match written {
                Poll::Ready(Ok(count)) => drop(self.saying.drain(..count)),
                // Whoever waits for a stream hears that the connection has ended.
                Poll::Ready(Err(_)) => self.saying.clear(),
                Poll::Pending => return,
            }
        }
    }

    /// A client that opens streams only to reset them makes us work for nothing.
    fn check_flood(&mut self) {
        let resets = self.shared.resets.load(Ordering::Relaxed);
        let many = resets > self.settings.premature_resets && resets * 2 > self.accepted;
        if many && self.fault.is_none() {
            self.fault = Some(Fault::client(Phase::RequestHead, Cause::ResetFlood));
            self.shared
                .break_off(Code::EXCESSIVE_LOAD, "too many resets");
        }
    }

    fn fault_of(&self, error: &ConnectionError) -> Option<Fault> {
        let cause = match error {
            ConnectionError::LocallyClosed if self.shared.is_broken() => Cause::BadRequest,
            ConnectionError::LocallyClosed => return None,
            ConnectionError::TransportError(_) => Cause::BadRequest,
            _ if self.open_streams() == 0 => return None,
            _ => Cause::ClientGone,
        };
        Some(Fault::client(Phase::RequestHead, cause))
    }

    /// Why the connection ended before its time; none when it ended in order.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Says that it will soon end (GOAWAY, section 5.2), so that no new requests come; those that come
    /// all the same, or are on their way, are still served.
    pub fn drain(&mut self) {
        self.go_away(varint::MAX - 3);
    }

    /// Says which was the last request that is served, and refuses the others, which the client may
    /// then send elsewhere.
    pub fn refuse_new(&mut self) {
        if self.refused_from.is_none() {
            self.refused_from = Some(self.next_id);
            self.go_away(self.next_id);
        }
    }

    fn go_away(&mut self, id: u64) {
        let mut payload = Vec::new();
        varint::put(id, &mut payload);
        frame::put(frame::GOAWAY, &payload, &mut self.saying);
    }

    /// Ends the connection without regard for its streams.
    pub fn close(&self) {
        self.shared.quic.close(Code::NO_ERROR.number(), b"");
    }

    /// How many streams are at work.
    pub fn open_streams(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Bytes that the client has not acknowledged.
    pub fn held_bytes(&self) -> usize {
        self.shared.sent.held()
    }

    /// Whether no stream is at work, and the client has all that was sent.
    pub fn is_idle(&self) -> bool {
        self.open_streams() == 0 && self.held_bytes() == 0
    }

    /// How long a packet takes to the client and back.
    pub fn round_trip(&self) -> std::time::Duration {
        self.shared.quic.rtt()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.others.abort();
        // Streams that are still at work would keep it open.
        self.close();
        self.shared.sent.wake_for_room();
    }
}
