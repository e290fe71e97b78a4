//! A socket of the kernel's: what it has received, and what becomes of its errors.

use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::Sleep;

use crate::Datagrams;

/// Bytes that the kernel may hold for us, as far as the system lets us.
const RECEIVE_BYTES: usize = 2 * 1024 * 1024;
/// Longest group of datagrams that is received at once.
const LONGEST: usize = 64 * 1024;
/// Groups that are received at once.
const GROUPS: usize = 16;
/// So many errors one after the other are of one client each, who cannot be reached (ICMP); more are the
/// socket's.
const ERRORS: u32 = 64;
/// For how long a socket rests that has nothing but errors.
const REST: Duration = Duration::from_millis(250);

/// A socket, and what is known of it.
pub(super) struct Kernel {
    pub(super) io: UdpSocket,
    pub(super) state: UdpSocketState,
    trouble: Mutex<Trouble>,
}

/// Errors without anything in between.
#[derive(Default)]
struct Trouble {
    errors: u32,
    resting: Option<Pin<Box<Sleep>>>,
}

/// How receiving ended.
#[derive(Debug)]
pub(super) enum Received {
    /// So many groups are in the buffers.
    Groups(usize),
    /// There are nothing but errors. It rests.
    Rests,
}

impl Kernel {
    pub(super) fn new(socket: Datagrams) -> io::Result<Self> {
        let io = socket.into_inner();
        // Unlike other datagrams those of QUIC are never to be fragmented: this says so.
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&io), RECEIVE_BYTES);
        Ok(Self {
            io,
            state,
            trouble: Mutex::default(),
        })
    }

    /// Receives groups of datagrams, of one source and one length each.
    pub(super) fn poll_receive(&self, cx: &mut Context<'_>, memory: &mut Memory) -> Poll<Received> {
        loop {
            ready!(self.poll_rested(cx));
            let received = ready!(self.io.poll_recv_ready(cx)).and_then(|()| {
                self.io.try_io(Interest::READABLE, || {
                    let (mut buffers, metas) = memory.places();
                    let socket = UdpSockRef::from(&self.io);
                    self.state.recv(socket, &mut buffers, metas)
                })
            });
            if let Some(received) = self.judge(received) {
                return Poll::Ready(received);
            }
        }
    }

    /// What is to be done with what the kernel said; nothing: it is to be asked again.
    fn judge(&self, received: io::Result<usize>) -> Option<Received> {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match received {
            Ok(count) => {
                trouble.errors = 0;
                Some(Received::Groups(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                trouble.errors = 0;
                None
            }
            Err(_) => {
                trouble.errors += 1;
                if trouble.errors < ERRORS {
                    return None;
                }
                trouble.errors = 0;
                trouble.resting = Some(Box::pin(tokio::time::sleep(REST)));
                Some(Received::Rests)
            }
        }
    }

    fn poll_rested(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resting) = &mut trouble.resting {
            ready!(resting.as_mut().poll(cx));
            trouble.resting = None;
        }
        Poll::Ready(())
    }
}

/// Where groups are received into. What is kept of a datagram is copied out of it, so that nothing that
/// anybody keeps holds more than its datagram.
pub(super) struct Memory {
    bytes: Box<[u8]>,
    pub(super) metas: [RecvMeta; GROUPS],
    /// Groups that are here, and what has been taken of them: whole groups, and bytes of the next.
    count: usize,
    taken: usize,
    offset: usize,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; GROUPS * LONGEST].into(),
            metas: [RecvMeta::default(); GROUPS],
            count: 0,
            taken: 0,
            offset: 0,
        }
    }

    fn places(&mut self) -> ([IoSliceMut<'_>; GROUPS], &mut [RecvMeta]) {
        let mut parts = self.bytes.chunks_mut(LONGEST);
        let part = |_| IoSliceMut::new(parts.next().unwrap_or_default());
        (std::array::from_fn(part), &mut self.metas)
    }

    /// So many groups have been received.
    pub(super) fn filled(&mut self, count: usize) {
        self.count = count.min(GROUPS);
        (self.taken, self.offset) = (0, 0);
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.taken == self.count
    }

    /// The groups that are here.
    pub(super) fn groups(&mut self) -> impl Iterator<Item = (&mut RecvMeta, &mut [u8])> {
        let parts = self.bytes.chunks_mut(LONGEST);
        self.metas.iter_mut().zip(parts).take(self.count)
    }

    /// Copies datagrams out, each by itself; how many.
    pub(super) fn give(&mut self, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let mut given = 0;
        while given < buffers.len().min(metas.len()) && !self.is_empty() {
            let meta = &self.metas[self.taken];
            let from = self.taken * LONGEST;
            let group = &self.bytes[from..from + meta.len.min(LONGEST)];
            given += usize::from(one(
                meta,
                group,
                &mut self.offset,
                &mut buffers[given],
                &mut metas[given],
            ));
            if self.offset >= group.len() {
                (self.taken, self.offset) = (self.taken + 1, 0);
            }
        }
        given
    }
}

/// Copies the datagram at `offset` of a group out; false when there is none, or none that could be for
/// us: nobody is told that we take longer ones than the buffer.
pub(super) fn one(
    meta: &RecvMeta,
    group: &[u8],
    offset: &mut usize,
    buffer: &mut [u8],
    place: &mut RecvMeta,
) -> bool {
    let end = group.len().min(offset.saturating_add(meta.stride.max(1)));
    let datagram = group.get(*offset..end).unwrap_or_default();
    *offset = end;
    let Some(to) = buffer.get_mut(..datagram.len()) else {
        return false;
    };
    to.copy_from_slice(datagram);
    *place = *meta;
    (place.len, place.stride) = (datagram.len(), datagram.len());
    !datagram.is_empty()
}

const _: () = assert!(GROUPS <= BATCH_SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Kernel {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        Kernel::new(Datagrams::new(socket.into()).expect("a socket")).expect("a socket")
    }

    #[tokio::test]
    async fn nothing_but_errors_is_told_and_rests() {
        let kernel = kernel();
        let error = || Err(io::ErrorKind::NetworkDown.into());
        let asked = (1..).take_while(|_| kernel.judge(error()).is_none());
        assert_eq!(asked.count(), ERRORS as usize - 1);
        let before = std::time::Instant::now();
        std::future::poll_fn(|cx| kernel.poll_rested(cx)).await;
        assert!(before.elapsed() >= REST);
        // One that comes between others is nobody's.
        for _ in 0..10 * ERRORS {
            assert!(kernel.judge(error()).is_none());
            assert!(matches!(kernel.judge(Ok(1)), Some(Received::Groups(1))));
        }
    }

    #[test]
    fn each_datagram_is_given_by_itself() {
        let mut memory = Memory::new();
        for (at, text) in [b"aaabbbcc".to_vec(), vec![b'x'; 2_000], b"dd".to_vec()]
            .into_iter()
            .enumerate()
        {
            memory.bytes[at * LONGEST..][..text.len()].copy_from_slice(&text);
            memory.metas[at].len = text.len();
            memory.metas[at].stride = if at == 0 { 3 } else { text.len() };
        }
        memory.filled(3);
        let mut told = Vec::new();
        while !memory.is_empty() {
            let mut places = [[0; 1_472]; 2];
            let mut metas = [RecvMeta::default(); 2];
            let mut buffers = places.each_mut().map(|one| IoSliceMut::new(one));
            let count = memory.give(&mut buffers, &mut metas);
            for (meta, place) in metas.iter().zip(&places).take(count) {
                assert_eq!(meta.len, meta.stride);
                told.push(String::from_utf8_lossy(&place[..meta.len]).into_owned());
            }
        }
        // The long one is none of ours.
        assert_eq!(told, ["aaa", "bbb", "cc", "dd"]);
    }
}
