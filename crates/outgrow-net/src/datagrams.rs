//! A UDP socket: datagrams in batches, with the address that they were sent to, in groups of equal
//! ones where the kernel puts them together and takes them so (GRO, GSO).
//!
//! Large datagrams may be fragmented: what is in them is others' business, and so is their size.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv6DontFrag, UdpGroSegment};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Groups that are received with one system call.
const BATCH: usize = 8;
/// Longest group; no datagram is longer.
const LONGEST: usize = 64 * 1024;

/// Where a worker receives: 512 KiB, made when the first datagram comes.
#[derive(Debug, Default)]
pub struct Scratch {
    buffers: Option<Box<[[u8; LONGEST]; BATCH]>>,
}

/// Datagrams that came together: of one source, all but the last one of one length.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Where they come from.
    pub source: SocketAddr,
    /// The address of ours that they were sent to.
    pub asked: Option<IpAddr>,
    /// Their bytes together.
    pub length: usize,
    /// The length of each but the last one.
    pub stride: usize,
    place: usize,
}

/// What was received at once.
#[derive(Debug)]
pub struct Received {
    metas: [RecvMeta; BATCH],
    next: usize,
    count: usize,
}

impl Iterator for Received {
    type Item = Group;

    fn next(&mut self) -> Option<Group> {
        let place = self.next;
        if place >= self.count {
            return None;
        }
        self.next += 1;
        let meta = &self.metas[place];
        Some(Group {
            source: meta.addr,
            asked: meta.dst_ip,
            length: meta.len,
            stride: meta.stride,
            place,
        })
    }
}

impl Scratch {
    /// The buffer that a group is in; its bytes are the first ones.
    pub fn bytes(&self, group: &Group) -> &[u8] {
        match &self.buffers {
            Some(buffers) => &buffers[group.place],
            None => &[],
        }
    }
}

/// A UDP socket, registered with the runtime of the thread that made it.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    /// What the kernel can do; found out with sockets of its own, so only once.
    state: Arc<UdpSocketState>,
    /// Where it is connected to.
    peer: Option<SocketAddr>,
}

impl Datagrams {
    /// Takes over a bound socket.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = std::net::UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Self::with(socket, Arc::new(state))
    }

    fn with(socket: std::net::UdpSocket, state: Arc<UdpSocketState>) -> io::Result<Self> {
        // The default of the kernel and of QUIC's library is to forbid fragments.
        let _ = sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT);
        if socket.local_addr()?.is_ipv6() {
            let _ = sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT);
            let _ = setsockopt(&socket, Ipv6DontFrag, &false);
        }
        let socket = UdpSocket::from_std(socket)?;
        let peer = socket.peer_addr().ok();
        Ok(Self {
            socket,
            state,
            peer,
        })
    }

    /// The socket itself.
    #[cfg(feature = "http3")]
    pub(crate) fn into_inner(self) -> UdpSocket {
        self.socket
    }

    /// Another socket, connected to `address`: what comes from elsewhere is not received, and what its
    /// machine says of datagrams is.
    pub fn connected(&self, address: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        // Where the kernel cannot, datagrams come one by one.
        let _ = setsockopt(&socket, UdpGroSegment, &true);
        Self::with(socket, Arc::clone(&self.state))
    }

    /// What has come.
    pub fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<Received>> {
        loop {
            ready!(self.socket.poll_recv_ready(cx))?;
            match self.try_receive(scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received),
            }
        }
    }

    /// Waits until something has come, or the peer's machine has said something (ICMP), which
    /// [`Datagrams::poll_receive`] does not wait for.
    ///
    /// # Errors
    /// The runtime ends.
    pub async fn heard(&self) -> io::Result<()> {
        let heard = Interest::READABLE | Interest::ERROR;
        self.socket.ready(heard).await.map(|_| ())
    }

    /// What has come, if anything has.
    ///
    /// # Errors
    /// Of kind `WouldBlock` when nothing has; else what the peer's machine has said.
    pub fn try_receive(&self, scratch: &mut Scratch) -> io::Result<Received> {
        // The runtime knows one of them at a time only.
        let came = self
            .socket
            .try_io(Interest::READABLE, || self.receive(scratch));
        match came {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self
                .socket
                .try_io(Interest::ERROR, || self.receive(scratch)),
            came => came,
        }
    }

    fn receive(&self, scratch: &mut Scratch) -> io::Result<Received> {
        let make = || {
            let bytes = vec![[0; LONGEST]; BATCH].into_boxed_slice();
            // It has as many as it was made with.
            bytes.try_into().ok()
        };
        if scratch.buffers.is_none() {
            scratch.buffers = make();
        }
        let Some(buffers) = &mut scratch.buffers else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut metas = [RecvMeta::default(); BATCH];
        let socket = UdpSockRef::from(&self.socket);
        let count = self.state.recv(socket, &mut slices, &mut metas)?;
        Ok(Received {
            metas,
            next: 0,
            count,
        })
    }

    /// Sends datagrams of `stride` bytes, the last one of what is left, to `destination`, from an
    /// address of ours.
    ///
    /// # Errors
    /// The kernel does not take them: its buffer is full, or the peer's machine has said something.
    pub fn send(
        &self,
        destination: SocketAddr,
        from: Option<IpAddr>,
        bytes: &[u8],
        stride: usize,
    ) -> io::Result<()> {
        self.send_all(destination, from, bytes, stride)
    }

    /// The same to the peer of a connected socket.
    ///
    /// # Errors
    /// As [`Datagrams::send`].
    pub fn send_on(&self, bytes: &[u8], stride: usize) -> io::Result<()> {
        let peer = self.peer.ok_or(io::ErrorKind::NotConnected)?;
        self.send_all(peer, None, bytes, stride)
    }

    fn send_all(
        &self,
        destination: SocketAddr,
        from: Option<IpAddr>,
        bytes: &[u8],
        stride: usize,
    ) -> io::Result<()> {
        let transmit = |contents, segment_size| {
            let transmit = Transmit {
                destination,
                ecn: None,
                contents,
                segment_size,
                src_ip: from,
            };
            // Without asking the runtime, which has not heard yet that a new socket can be written.
            self.state
                .try_send(UdpSockRef::from(&self.socket), &transmit)
        };
        if stride == 0 || bytes.len() <= stride {
            return transmit(bytes, None);
        }
        if bytes.len().div_ceil(stride) <= self.state.max_gso_segments() {
            match transmit(bytes, Some(stride)) {
                Ok(()) => return Ok(()),
                // What was said of datagrams before is told once only.
                Err(error) if is_of_peer(&error) => return Err(error),
                // Longer than the interface takes in one piece, or not at all: one by one.
                Err(_) => {}
            }
        }
        bytes.chunks(stride).try_for_each(|one| transmit(one, None))
    }
}

/// Whether sending one by one would help nothing.
fn is_of_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, WouldBlock};
    matches!(error.kind(), WouldBlock | ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn receive(socket: &Datagrams, scratch: &mut Scratch) -> Vec<(Vec<u8>, Group)> {
        let received = poll_fn(|cx| socket.poll_receive(cx, scratch)).await;
        let received = received.expect("received");
        let told = |group: Group| {
            let bytes = scratch.bytes(&group)[..group.length].to_vec();
            (bytes, group)
        };
        received.map(told).collect()
    }

    #[tokio::test]
    async fn datagrams_come_and_go_with_their_addresses() {
        let any = std::net::UdpSocket::bind("0.0.0.0:0").expect("bound");
        let port = any.local_addr().expect("one").port();
        let any = Datagrams::new(any.into()).expect("taken over");
        let mut scratch = Scratch::default();
        // Of a machine with several addresses the one that was asked answers.
        let asked: SocketAddr = format!("127.0.0.7:{port}").parse().expect("one");
        let client = any.connected(asked).expect("connected");
        client.send_on(b"hello", 5).expect("sent");
        let came = receive(&any, &mut scratch).await;
        assert_eq!(
            (&came[0].0[..], came[0].1.asked),
            (&b"hello"[..], Some(asked.ip()))
        );
        any.send(came[0].1.source, came[0].1.asked, b"aabbc", 2)
            .expect("sent");
        let mut all = Vec::new();
        while all.len() < 5 {
            for (bytes, group) in receive(&client, &mut scratch).await {
                assert_eq!(group.source, asked);
                all.extend(bytes);
            }
        }
        assert_eq!(all, b"aabbc");
    }

    #[tokio::test]
    async fn large_ones_and_nobody() {
        let server = std::net::UdpSocket::bind("[::1]:0").expect("bound");
        let address = server.local_addr().expect("one");
        let other = std::net::UdpSocket::bind("[::1]:0").expect("bound");
        let other = Datagrams::new(other.into()).expect("taken over");
        let client = other.connected(address).expect("connected");
        let large = vec![7; 60_000];
        client.send_on(&large, large.len()).expect("sent");
        let mut bytes = vec![0; LONGEST];
        let (length, _) = server.recv_from(&mut bytes).expect("received");
        assert_eq!(length, large.len());
        drop(server);
        client.send_on(b"anybody?", 8).expect("sent");
        let mut scratch = Scratch::default();
        let said = loop {
            client.heard().await.expect("heard");
            match client.try_receive(&mut scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                said => break said,
            }
        };
        let said = said.map(|_| ()).map_err(|error| error.kind());
        assert_eq!(said, Err(io::ErrorKind::ConnectionRefused));
    }
}
