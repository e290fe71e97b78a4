//! A worker's socket as its endpoint sees it: what is another's is handed on, what others hand over
//! comes as if it had been received here.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::{AsyncUdpSocket, UdpPoller};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef};
use tokio::io::Interest;

use super::dispatch::Dispatch;
use super::inbox::Inbox;
use super::kernel::{Kernel, Memory, Received};
use super::route::Whose;
use crate::Datagrams;

/// How often a further socket is looked at that is not read for now.
const LOOK: Duration = Duration::from_millis(250);

/// A socket of a group, as the endpoint of its worker sees it.
pub struct QuicSocket {
    socket: Kernel,
    /// What it received, until the endpoint takes it: nobody else asks.
    received: Mutex<Memory>,
    place: Place,
    inbox: Arc<Inbox>,
    /// The kernel is asked before the inbox this time: neither may keep the other from being read.
    kernel_first: AtomicBool,
}

/// Whose socket it is.
#[derive(Clone)]
struct Place {
    dispatch: Arc<Dispatch>,
    key: Arc<str>,
    worker: usize,
}

impl fmt::Debug for QuicSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "QuicSocket({}, {})",
            self.place.key, self.place.worker
        )
    }
}

impl Place {
    /// Receives, and hands on what is another's.
    fn poll_receive(&self, cx: &mut Context<'_>, socket: &Kernel, memory: &mut Memory) -> Poll<()> {
        loop {
            match ready!(socket.poll_receive(cx, memory)) {
                Received::Groups(count) => {
                    memory.filled(count);
                    for (meta, bytes) in memory.groups() {
                        meta.len = self.sort(bytes, meta);
                    }
                    return Poll::Ready(());
                }
                // It is looked at again when it has rested.
                Received::Rests => {
                    let errors = &self.dispatch.counts.socket_errors;
                    errors.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Hands on what is another's of the datagrams in `buffer`; how many bytes, moved to its
    /// beginning, are left.
    fn sort(&self, buffer: &mut [u8], meta: &RecvMeta) -> usize {
        let (length, stride) = (meta.len, meta.stride.max(1));
        let mut router = self.dispatch.router(self.worker);
        let mut kept = 0;
        let mut start = 0;
        while start < length {
            let whose = router.whose(&buffer[start..length.min(start + stride)]);
            let mut end = length.min(start + stride);
            // Those that follow and go the same way go with it.
            while end < length && router.whose(&buffer[end..length.min(end + stride)]) == whose {
                end = length.min(end + stride);
            }
            let mut part = *meta;
            part.len = end - start;
            let is_ours = match whose {
                Whose::Own => true,
                Whose::Worker(worker) => {
                    let dispatch = &self.dispatch;
                    dispatch.to_worker(&self.key, worker, part, &buffer[start..end]);
                    false
                }
                Whose::Process(origin) => {
                    let bytes = &buffer[start..end];
                    // Of one that is gone its client is to hear that it is.
                    !self
                        .dispatch
                        .to_process(&self.key, origin.generation, &part, bytes)
                }
            };
            if is_ours {
                buffer.copy_within(start..end, kept);
                kept += end - start;
            }
            start = end;
        }
        kept
    }
}

impl QuicSocket {
    /// The socket for the endpoint of `worker` at the listener that is called `key`.
    ///
    /// # Errors
    /// The socket is given back when that worker has an endpoint there already: see [`feed`]. Else
    /// the kernel's.
    pub fn new(
        socket: Datagrams,
        dispatch: &Arc<Dispatch>,
        key: &Arc<str>,
        worker: usize,
    ) -> io::Result<Result<Arc<Self>, Datagrams>> {
        let Some(inbox) = dispatch.claim(key, worker) else {
            return Ok(Err(socket));
        };
        Ok(Ok(Arc::new(Self {
            socket: Kernel::new(socket)?,
            received: Mutex::new(Memory::new()),
            place: Place {
                dispatch: Arc::clone(dispatch),
                key: Arc::clone(key),
                worker,
            },
            inbox,
            kernel_first: AtomicBool::new(false),
        })))
    }

    /// Says whether its endpoint, whose listener is gone, has no connections; whether that is so of all
    /// workers' at this listener. As long as it is not, each turns away who comes to its socket.
    pub fn set_idle(&self, is_idle: bool) -> bool {
        self.inbox.is_idle.store(is_idle, Ordering::Relaxed);
        self.place.dispatch.is_idle(&self.place.key)
    }

    /// Its endpoint, which has no connections, is about to go: the same worker may have another one.
    /// QUIC lets go of the socket some time later.
    pub fn release(&self) {
        let Place {
            dispatch,
            key,
            worker,
        } = &self.place;
        dispatch.release(key, *worker, &self.inbox);
    }

    /// Says whether what the kernel has is taken, also from the worker's further sockets ([`feed`]). Where
    /// another process takes it, that one hands over what is ours.
    pub fn set_reading(&self, is_reading: bool) {
        self.inbox.set_reading(is_reading);
    }

    /// Whether the process that follows this one takes what comes to this listener; none as long as it
    /// has not said.
    pub fn is_read_by_next(&self) -> Option<bool> {
        self.place.dispatch.is_read_by_next(&self.place.key)
    }
}

impl QuicSocket {
    fn poll_kernel(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        if received.is_empty() {
            if !self.inbox.is_reading() {
                return Poll::Pending;
            }
            ready!(self.place.poll_receive(cx, &self.socket, &mut received));
        }
        let given = received.give(buffers, metas);
        if let (0, Some(meta)) = (given, metas.first_mut()) {
            // All of it was another's. Nothing at all would look like no work to the endpoint, which
            // has its time by that; an empty datagram is passed over.
            *meta = RecvMeta::default();
            return Poll::Ready(Ok(1));
        }
        Poll::Ready(Ok(given))
    }
}

impl AsyncUdpSocket for QuicSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller {
            socket: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Kernel { io, state, .. } = &self.socket;
        io.try_io(Interest::WRITABLE, || {
            state.send(UdpSockRef::from(io), transmit)
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let kernel_first = self.kernel_first.fetch_xor(true, Ordering::Relaxed);
        if kernel_first && let Poll::Ready(received) = self.poll_kernel(cx, buffers, metas) {
            return Poll::Ready(received);
        }
        let handed = self.inbox.take(cx, buffers, metas);
        if handed > 0 {
            return Poll::Ready(Ok(handed));
        }
        match kernel_first {
            true => Poll::Pending,
            false => self.poll_kernel(cx, buffers, metas),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        // Of what comes as a group each datagram is given by itself: see [`Memory`].
        1
    }

    fn may_fragment(&self) -> bool {
        self.socket.state.may_fragment()
    }
}

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits for room in the kernel; each connection has its own.
struct Poller {
    socket: Arc<QuicSocket>,
    waiting: Option<Writable>,
}

impl fmt::Debug for Poller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Poller")
    }
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Arc::clone(&self.socket);
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(async move { socket.socket.io.writable().await }));
        let writable = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(writable)
    }
}

/// Takes from a further socket of a worker that has an endpoint, for as long as it is polled: there may
/// be more sockets than workers, and each gets its part of what comes.
pub async fn feed(socket: Datagrams, dispatch: Arc<Dispatch>, key: Arc<str>, worker: usize) {
    let Ok(socket) = Kernel::new(socket) else {
        return;
    };
    let place = Place {
        dispatch,
        key,
        worker,
    };
    let mut memory = Memory::new();
    let is_reading = || {
        let inbox = place.dispatch.place(&place.key, place.worker as u8);
        inbox.is_none_or(|inbox| inbox.is_reading())
    };
    loop {
        let received = std::future::poll_fn(|cx| match is_reading() {
            true => place.poll_receive(cx, &socket, &mut memory).map(|()| true),
            false => Poll::Ready(false),
        });
        if !received.await {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        for (meta, bytes) in memory.groups().filter(|(meta, _)| meta.len > 0) {
            let (worker, bytes) = (place.worker as u8, &bytes[..meta.len]);
            place.dispatch.to_worker(&place.key, worker, *meta, bytes);
        }
        tokio::task::yield_now().await;
    }
}
