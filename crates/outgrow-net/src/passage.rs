//! A way between two processes of ours on which packets go with descriptors ([`crate::packets`]), for
//! tasks of a runtime. What is said on it is its users' business.
//!
//! Not here: how the keeper speaks with its children (`outgrow-fleet`), which needs no runtime.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram as StdSocket;

use rustix::net::SocketType;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::packets::{self, Packet};

/// The longest packet in bytes: a few fit into the buffer that the kernel gives a socket.
pub const PACKET_BYTES: usize = 32 * 1024;
/// Most descriptors in one packet.
pub const PACKET_DESCRIPTORS: usize = 128;

/// One end.
#[derive(Debug)]
pub struct Passage {
    /// Only waited with; that its packets are of another kind makes no difference to that.
    socket: UnixDatagram,
}

impl Passage {
    /// Takes an end over. To be called within a runtime.
    ///
    /// # Errors
    /// It is no such socket, or the runtime cannot wait for it.
    pub fn new(end: OwnedFd) -> io::Result<Self> {
        if rustix::net::sockopt::socket_type(&end)? != SocketType::SEQPACKET {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let socket = StdSocket::from(end);
        socket.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(socket)?;
        Ok(Self { socket })
    }

    /// Sends a packet, all of it or nothing; waits while the other side has no room.
    ///
    /// # Errors
    /// The other side is gone, or it is too much for a packet.
    pub async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.is_empty() || bytes.len() > PACKET_BYTES || descriptors.len() > PACKET_DESCRIPTORS
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        loop {
            self.socket.writable().await?;
            let send = || packets::send(self.socket.as_fd(), bytes, descriptors);
            match self.socket.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
        }
    }

    /// The next packet, into `buffer`, which is made large enough; none when the other side is
    /// gone. Safe to cancel.
    ///
    /// # Errors
    /// A packet is too long.
    pub async fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<Option<Packet>> {
        buffer.resize(PACKET_BYTES, 0);
        loop {
            self.socket.readable().await?;
            let socket = self.socket.as_fd();
            let receive = || packets::receive(socket, buffer);
            match self.socket.try_io(Interest::READABLE, receive) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(Some(packet)) if packet.is_cut => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                received => return received,
            }
        }
    }

    /// The end again, for another runtime or none.
    ///
    /// # Errors
    /// The runtime does not let it go.
    pub fn into_end(self) -> io::Result<OwnedFd> {
        Ok(self.socket.into_std()?.into())
    }

    /// Neither side can send any more; what was sent before can still be received.
    pub fn shut(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::packets::pair;
    use crate::stream::Detached;

    fn passages() -> (Passage, Passage) {
        let (one, other) = pair().expect("a pair");
        let take = |end| Passage::new(end).expect("taken over");
        (take(one), take(other))
    }

    #[tokio::test]
    async fn packets_go_with_their_descriptors() {
        let (one, other) = passages();
        let mut buffer = Vec::new();
        let (mut near, far) = UnixStream::pair().expect("a pair");
        one.send(b"first", &[far.as_fd()]).await.expect("sent");
        one.send(b"second", &[]).await.expect("sent");
        drop(far);
        let first = other.receive(&mut buffer).await.expect("received");
        let first = first.expect("a packet");
        assert_eq!(&buffer[..first.length], b"first");
        assert!(!first.has_lost);
        let passed = first.descriptors.into_iter().next().expect("one");
        near.write_all(b"hello").expect("written");
        let Ok(Detached::Unix(mut passed)) = Detached::passed_on(passed) else {
            panic!("it is a stream of a Unix socket");
        };
        let mut bytes = [0; 5];
        passed.read_exact(&mut bytes).expect("read");
        assert_eq!(&bytes, b"hello");
        // What was said before the end is heard, and then the end.
        one.shut();
        assert!(other.send(b"late", &[]).await.is_err());
        let second = other.receive(&mut buffer).await.expect("received");
        assert_eq!(second.map(|packet| packet.length), Some(6));
        assert!(other.receive(&mut buffer).await.expect("the end").is_none());
    }

    #[tokio::test]
    async fn what_is_said_before_a_shutdown_is_heard_by_who_shut() {
        let (one, other) = passages();
        let mut buffer = Vec::new();
        other.send(b"just in time", &[]).await.expect("sent");
        one.shut();
        assert!(other.send(b"late", &[]).await.is_err());
        let heard = one.receive(&mut buffer).await.expect("received");
        assert_eq!(heard.map(|packet| packet.length), Some(12));
        assert!(one.receive(&mut buffer).await.expect("the end").is_none());
    }

    #[tokio::test]
    async fn what_is_no_stream_is_not_taken_for_one() {
        let (one, _other) = pair().expect("a pair");
        assert!(Detached::passed_on(one).is_err(), "packets");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        assert!(Detached::passed_on(listener.into()).is_err(), "a listener");
        let file = std::fs::File::open("/dev/null").expect("opened");
        assert!(Detached::passed_on(file.into()).is_err(), "a file");
        let (stream, _) = UnixStream::pair().expect("a pair");
        assert!(Passage::new(stream.into()).is_err(), "no packets");
    }
}
