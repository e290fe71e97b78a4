//! Carries records over a `SOCK_SEQPACKET` socketpair: one record per packet,
//! descriptors as ancillary data, never blocking.
//!
//! A packet is at most [`PACKET_LIMIT`] bytes and carries at most
//! [`PACKET_DESCRIPTORS`] descriptors. What is more goes in front of the record
//! in packets of their own: `attached` ones carry more descriptors, a
//! `carried` one stands for a record that lies in an attached memory file.
//! Readers see whole records only.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use outgrow_net::packets;
pub use outgrow_net::packets::pair;
use rustix::io::Errno;
use rustix::net::SocketType;
use serde::Serialize;

/// The longest packet in bytes.
pub const PACKET_LIMIT: usize = 64 * 1024;
/// The most descriptors in one packet; the kernel's limit is 253.
pub const PACKET_DESCRIPTORS: usize = 200;
/// The longest record in bytes, carried in a memory file.
pub const RECORD_LIMIT: u64 = 16 * 1024 * 1024;
/// The most descriptors of one record.
pub const RECORD_DESCRIPTORS: usize = 16 * 1024;
/// The most packets that wait for a peer that does not read.
pub const QUEUE_LIMIT: usize = 8 * 1024;

/// What to say of a record whose descriptors are missing.
pub const LOST: &str = "descriptors were lost: is the limit of open files (ulimit -n) reached?";

const ATTACHED: &[u8] = br#"{"type":"attached"}"#;
const CARRIED: &[u8] = br#"{"type":"carried"}"#;

/// Why a channel is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The operating system refused.
    #[error("the channel failed: {0}")]
    Io(#[from] io::Error),
    /// The record cannot be written as JSON.
    #[error("a record cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// The peer does not read.
    #[error("the peer has not read {QUEUE_LIMIT} packets: it hangs")]
    QueueFull,
    /// The process was not started by the keeper.
    #[error("standard input is not a channel to a keeper")]
    NotAChannel,
    /// The peer does not keep to the limits.
    #[error("the peer breaks the protocol: {0}")]
    Protocol(&'static str),
}

impl From<Errno> for ChannelError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// A record as it arrives.
#[derive(Debug)]
pub struct Record {
    /// Its JSON.
    pub bytes: Vec<u8>,
    /// Its descriptors; none where one of them was lost on the way, since this process may have no
    /// more.
    pub descriptors: Vec<OwnedFd>,
}

/// What a read gave.
#[derive(Debug)]
pub enum Received {
    /// A whole record.
    Record(Record),
    /// Nothing more for now.
    Empty,
    /// The peer is gone.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Packet {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// Takes the channel that this process was given as standard input, and puts
/// `/dev/null` in its place so that no child inherits it.
pub fn take_stdin() -> Result<OwnedFd, ChannelError> {
    let stdin = rustix::stdio::stdin();
    if !matches!(
        rustix::net::sockopt::socket_type(stdin),
        Ok(SocketType::SEQPACKET)
    ) {
        return Err(ChannelError::NotAChannel);
    }
    let socket = rustix::io::fcntl_dupfd_cloexec(stdin, 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

/// One end of a channel with what waits to be sent.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    outgoing: VecDeque<Packet>,
    reader: PacketReader,
    open: bool,
}

impl Channel {
    /// Takes one end over. Reads and writes never block, whatever the socket's flags.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            outgoing: VecDeque::new(),
            reader: PacketReader::default(),
            open: true,
        }
    }

    /// Queues a record and sends as much as the peer takes.
    pub fn send<T: Serialize>(
        &mut self,
        record: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let packets = encode(record, descriptors)?;
        if self.outgoing.len() + packets.len() > QUEUE_LIMIT {
            return Err(ChannelError::QueueFull);
        }
        self.outgoing.extend(packets);
        self.flush()
    }

    /// Sends what waits, as far as the peer takes it.
    pub fn flush(&mut self) -> Result<(), ChannelError> {
        while let Some(packet) = self.outgoing.front() {
            if !send_packet(self.socket.as_fd(), packet)? {
                break;
            }
            self.outgoing.pop_front();
        }
        Ok(())
    }

    /// Whether something waits to be sent.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// The next whole record, if there is one.
    pub fn receive(&mut self) -> Result<Received, ChannelError> {
        let received = self.reader.receive(self.socket.as_fd());
        self.open = matches!(received, Ok(Received::Record(_) | Received::Empty));
        received
    }

    /// Whether the last read found the peer there. A channel that is not open
    /// must not be polled: it would be readable for ever.
    pub fn is_open(&self) -> bool {
        self.open
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Puts packets together to records.
#[derive(Debug, Default)]
pub(crate) struct PacketReader {
    buffer: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    /// Of the record that is being read, a descriptor was lost.
    has_lost: bool,
}

impl PacketReader {
    /// After [`ChannelError::Protocol`] a record is lost, and the next ones can be read.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> Result<Received, ChannelError> {
        let received = self.next(socket);
        if received.is_err() {
            // The next record shall not have them.
            self.descriptors.clear();
            self.has_lost = false;
        }
        received
    }

    fn next(&mut self, socket: BorrowedFd<'_>) -> Result<Received, ChannelError> {
        self.buffer.resize(PACKET_LIMIT, 0);
        loop {
            let packet = match packets::receive(socket, &mut self.buffer) {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(Received::Closed),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Received::Empty);
                }
                Err(error) => return Err(error.into()),
            };
            self.descriptors.extend(packet.descriptors);
            if packet.is_cut {
                return Err(ChannelError::Protocol("a packet is longer than 64 KiB"));
            }
            self.has_lost |= packet.has_lost;
            if self.has_lost {
                self.descriptors.clear();
            }
            if self.descriptors.len() > RECORD_DESCRIPTORS {
                return Err(ChannelError::Protocol("too many descriptors in one record"));
            }
            match &self.buffer[..packet.length] {
                ATTACHED => {}
                CARRIED => return self.carried().map(Received::Record),
                bytes => {
                    self.has_lost = false;
                    return Ok(Received::Record(Record {
                        bytes: bytes.to_vec(),
                        descriptors: std::mem::take(&mut self.descriptors),
                    }));
                }
            }
        }
    }

    fn carried(&mut self) -> Result<Record, ChannelError> {
        if self.has_lost {
            return Err(ChannelError::Protocol(LOST));
        }
        let mut descriptors = std::mem::take(&mut self.descriptors);
        let file = descriptors
            .pop()
            .map(File::from)
            .ok_or(ChannelError::Protocol("a carried record without its file"))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > RECORD_LIMIT {
            return Err(ChannelError::Protocol("a record is longer than 16 MiB"));
        }
        let mut bytes = vec![0; usize::try_from(metadata.len()).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Record { bytes, descriptors })
    }
}

/// Turns a record into its packets.
pub(crate) fn encode<T: Serialize>(
    record: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<VecDeque<Packet>, ChannelError> {
    let mut bytes = serde_json::to_vec(record)?;
    let mut owned = descriptors
        .iter()
        .map(|descriptor| descriptor.try_clone_to_owned())
        .collect::<io::Result<Vec<_>>>()?;
    if bytes.len() > PACKET_LIMIT {
        if bytes.len() as u64 > RECORD_LIMIT {
            return Err(ChannelError::Protocol("a record is longer than 16 MiB"));
        }
        let file = File::from(rustix::fs::memfd_create(
            c"outgrow-record",
            rustix::fs::MemfdFlags::CLOEXEC,
        )?);
        file.write_all_at(&bytes, 0)?;
        owned.push(file.into());
        bytes = CARRIED.to_vec();
    }
    let mut packets = VecDeque::new();
    while owned.len() > PACKET_DESCRIPTORS {
        let rest = owned.split_off(PACKET_DESCRIPTORS);
        packets.push_back(Packet {
            bytes: ATTACHED.to_vec(),
            descriptors: owned,
        });
        owned = rest;
    }
    packets.push_back(Packet {
        bytes,
        descriptors: owned,
    });
    Ok(packets)
}

/// Sends one packet; `false` when the peer has no room.
pub(crate) fn send_packet(socket: BorrowedFd<'_>, packet: &Packet) -> Result<bool, ChannelError> {
    let borrowed: Vec<BorrowedFd<'_>> = packet.descriptors.iter().map(AsFd::as_fd).collect();
    match packets::send(socket, &packet.bytes, &borrowed) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Err(ChannelError::Protocol("too many descriptors in one packet"))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
