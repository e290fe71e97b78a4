//! Packets that go with descriptors between two processes of ours: a `SOCK_SEQPACKET` socket pair,
//! without a runtime and without waiting.
//!
//! Not here: who waits for room or for a packet ([`crate::passage`] on a runtime, the keeper's channel
//! in `outgrow-fleet` on its own poll), and what is said.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Most descriptors that the kernel takes with one packet.
pub const MOST_DESCRIPTORS: usize = 253;

/// What came.
#[derive(Debug)]
pub struct Packet {
    /// How many bytes, at the start of the buffer.
    pub length: usize,
    /// In the order in which they were sent.
    pub descriptors: Vec<OwnedFd>,
    /// It was longer than the buffer: the rest is lost.
    pub is_cut: bool,
    /// Descriptors were lost on the way: this process may have no more of them.
    pub has_lost: bool,
}

/// Makes the two ends; both are closed on exec.
///
/// # Errors
/// The system has no more descriptors.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends a packet, all of it or nothing.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`]: the other side has no room. Others: it is gone, or there are more
/// than [`MOST_DESCRIPTORS`].
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    loop {
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes the next packet into `buffer`; none when the other side is gone. Descriptors are closed on
/// exec.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`]: nothing is there. Others: the socket is of no use.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(buffer)],
            &mut ancillary,
            RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
        );
        let message = match received {
            Ok(message) => message,
            Err(Errno::INTR) => continue,
            Err(Errno::CONNRESET | Errno::PIPE) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut descriptors = Vec::new();
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                descriptors.extend(rights);
            }
        }
        return Ok((message.bytes > 0).then(|| Packet {
            length: message.bytes,
            descriptors,
            is_cut: message.flags.contains(ReturnFlags::TRUNC),
            has_lost: message.flags.contains(ReturnFlags::CTRUNC),
        }));
    }
}
