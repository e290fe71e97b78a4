//! The data process's end of the conversation with the keeper, for tokio.
//!
//! Typical use: [`Client::from_stdin`] as the first thing, [`Client::watch_keeper`],
//! then `split` inside a runtime.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram as StdSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::UnixDatagram as Socket;

use crate::events::{pass_over_the_keepers, timespec};
use crate::orphans::Orphans;
use crate::protocol::channel::{
    ChannelError, PacketReader, Received, encode, send_packet, take_stdin,
};
use crate::protocol::{DataMessage, Decoded, KeeperMessage, decode};

/// Why the keeper cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The process was not started by a keeper.
    #[error("this command is started by `outgrow run`, not by hand")]
    NotAChannel,
    /// The keeper is gone. Whoever sees this should drain and exit.
    #[error("the keeper is gone")]
    Gone,
    /// The channel failed.
    #[error(transparent)]
    Channel(ChannelError),
}

impl From<ChannelError> for ClientError {
    fn from(error: ChannelError) -> Self {
        let gone = |error: &io::Error| {
            matches!(
                Errno::from_io_error(error),
                Some(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN)
            )
        };
        match error {
            ChannelError::NotAChannel => Self::NotAChannel,
            ChannelError::Io(error) if gone(&error) => Self::Gone,
            error => Self::Channel(error),
        }
    }
}

/// The channel, taken from standard input.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    orphans: Orphans,
}

impl Client {
    /// Takes standard input over; `/dev/null` is there afterwards. SIGHUP and SIGUSR2 do nothing to
    /// this process from then on.
    pub fn from_stdin() -> Result<Self, ClientError> {
        pass_over_the_keepers().map_err(ChannelError::from)?;
        Ok(Self::new(take_stdin()?))
    }

    /// One end of [`crate::protocol::channel::pair`]; for tests that play the keeper.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            orphans: Orphans::default(),
        }
    }

    /// Ends this process some time after the keeper is gone, whatever the rest
    /// of it is doing: a thread of its own waits for that, so that a data
    /// process that hangs is not orphaned. Within `limit` the process should
    /// have drained and exited by itself, and called [`KeeperWatch::finish`]
    /// before.
    pub fn watch_keeper(&self, limit: Duration) -> Result<KeeperWatch, ClientError> {
        let clone = || self.socket.try_clone().map_err(ChannelError::from);
        let (socket, watched) = (clone()?, clone()?);
        let orphans = self.orphans.clone();
        std::thread::Builder::new()
            .name("outgrow-orphan".to_owned())
            .spawn(move || {
                wait_for_hangup(socket.as_fd(), None);
                let began = Instant::now();
                orphans.end();
                std::thread::sleep(limit.saturating_sub(began.elapsed()));
                std::process::exit(1);
            })
            .map_err(ChannelError::from)?;
        Ok(KeeperWatch {
            socket: watched,
            orphans: self.orphans.clone(),
        })
    }

    /// The two directions. To be called inside a tokio runtime with io enabled.
    pub fn split(self) -> Result<(Sender, Receiver), ClientError> {
        // tokio's safe way to wait for a descriptor of ours. That the packets
        // are SEQPACKET ones makes no difference to it: it only waits, the
        // channel's own functions read and write.
        let socket = StdSocket::from(self.socket);
        socket.set_nonblocking(true).map_err(ChannelError::from)?;
        let socket = Arc::new(Socket::from_std(socket).map_err(ChannelError::from)?);
        let receiver = Receiver {
            socket: Arc::clone(&socket),
            reader: PacketReader::default(),
            orphans: self.orphans,
        };
        Ok((Sender { socket }, receiver))
    }
}

/// Waits for the other end to go; whether it did in time.
fn wait_for_hangup(socket: BorrowedFd<'_>, limit: Option<Duration>) -> bool {
    let limit = limit.map(timespec);
    loop {
        // Without any flag only the end is reported: packets stay for the reader.
        let mut poll = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
        match rustix::event::poll(&mut poll, limit.as_ref()) {
            Ok(0) if limit.is_some() => return false,
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

/// Knows whether the keeper is gone, and what to do then.
#[derive(Debug)]
pub struct KeeperWatch {
    socket: OwnedFd,
    orphans: Orphans,
}

impl KeeperWatch {
    /// To be called at the end of the process. If the keeper is gone, ends the
    /// instances whose shims are gone too; else there is nothing to do.
    pub fn finish(self) {
        if wait_for_hangup(self.socket.as_fd(), Some(Duration::ZERO)) {
            self.orphans.end();
        }
    }
}

/// Sends to the keeper. Clones share the channel.
#[derive(Clone, Debug)]
pub struct Sender {
    socket: Arc<Socket>,
}

impl Sender {
    /// Sends one message; waits while the keeper has no room. Cancelling the
    /// future sends all of it or nothing.
    pub async fn send(&self, message: &DataMessage) -> Result<(), ClientError> {
        for packet in encode(message, &[])? {
            loop {
                self.socket.writable().await.map_err(ChannelError::from)?;
                let sent = self.socket.try_io(Interest::WRITABLE, || {
                    match send_packet(self.socket.as_fd(), &packet) {
                        Ok(false) => Err(io::ErrorKind::WouldBlock.into()),
                        sent => Ok(sent),
                    }
                });
                match sent {
                    Ok(sent) => {
                        sent?;
                        break;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(ChannelError::from(error).into()),
                }
            }
        }
        Ok(())
    }
}

/// What the keeper says.
#[derive(Debug)]
pub struct Receiver {
    socket: Arc<Socket>,
    reader: PacketReader,
    orphans: Orphans,
}

/// One thing that the keeper said.
#[derive(Debug)]
pub enum FromKeeper {
    /// A message with its descriptors; none where one of them was lost.
    Message(KeeperMessage, Vec<OwnedFd>),
    /// Something that this version does not know, or that was lost: to be logged, no more.
    Ignored(String),
}

impl Receiver {
    /// The next thing. [`ClientError::Gone`] when the keeper is gone. Safe to
    /// cancel: nothing is lost.
    pub async fn receive(&mut self) -> Result<FromKeeper, ClientError> {
        loop {
            self.socket.readable().await.map_err(ChannelError::from)?;
            let (socket, reader) = (&self.socket, &mut self.reader);
            let received = socket.try_io(Interest::READABLE, || {
                match reader.receive(socket.as_fd()) {
                    Ok(Received::Empty) => Err(io::ErrorKind::WouldBlock.into()),
                    received => Ok(received),
                }
            });
            let record = match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(ChannelError::from(error).into()),
                Ok(Ok(Received::Record(record))) => record,
                Ok(Ok(Received::Closed)) => return Err(ClientError::Gone),
                Ok(Ok(Received::Empty)) => continue,
                // The keeper is there, and what it says next can be read.
                Ok(Err(error @ ChannelError::Protocol(_))) => {
                    return Ok(FromKeeper::Ignored(error.to_string()));
                }
                Ok(Err(error)) => return Err(error.into()),
            };
            let unknown = |message: &KeeperMessage| matches!(message, KeeperMessage::Unknown);
            return Ok(match decode(&record.bytes, unknown) {
                Decoded::Message(message) => {
                    self.orphans.hear(&message);
                    FromKeeper::Message(message, record.descriptors)
                }
                Decoded::Ignored(line) => FromKeeper::Ignored(line),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::protocol::channel::{Channel, pair};

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap()
            .block_on(test);
    }

    #[test]
    fn both_directions_and_the_end() {
        run(async {
            let (near, far) = pair().unwrap();
            let mut keeper = Channel::new(near);
            let (sender, mut receiver) = Client::new(far).split().unwrap();
            sender.send(&DataMessage::Drained {}).await.unwrap();
            let Received::Record(record) = keeper.receive().unwrap() else {
                panic!("nothing came");
            };
            assert_eq!(record.bytes, br#"{"type":"drained"}"#);
            let (one, _other) = UnixStream::pair().unwrap();
            keeper
                .send(&KeeperMessage::Reload { number: 0 }, &[one.as_fd()])
                .unwrap();
            keeper
                .send(&serde_json::json!({"type": "sing"}), &[])
                .unwrap();
            let first = receiver.receive().await.unwrap();
            let FromKeeper::Message(KeeperMessage::Reload { .. }, descriptors) = first else {
                panic!("{first:?}");
            };
            assert_eq!(descriptors.len(), 1);
            let second = receiver.receive().await.unwrap();
            assert!(matches!(&second, FromKeeper::Ignored(line) if line.contains("sing")));
            drop(keeper);
            assert!(matches!(receiver.receive().await, Err(ClientError::Gone)));
            let sent = sender.send(&DataMessage::Drained {}).await;
            assert!(matches!(sent, Err(ClientError::Gone)), "{sent:?}");
        });
    }

    #[test]
    fn a_full_channel_waits_and_loses_nothing() {
        run(async {
            let (near, far) = pair().unwrap();
            let mut keeper = Channel::new(near);
            let (sender, _receiver) = Client::new(far).split().unwrap();
            let count = 2_000;
            let sending = tokio::spawn(async move {
                for number in 0..count {
                    let value = serde_json::json!(number);
                    let key = "x".repeat(1_000);
                    sender
                        .send(&DataMessage::Keep { key, value })
                        .await
                        .unwrap();
                }
            });
            let mut read = 0;
            while read < count {
                match keeper.receive().unwrap() {
                    Received::Record(_) => read += 1,
                    Received::Empty => tokio::task::yield_now().await,
                    Received::Closed => panic!("closed after {read}"),
                }
            }
            sending.await.unwrap();
        });
    }

    #[test]
    fn the_watch_sees_the_end_and_takes_no_packet() {
        let (near, far) = pair().unwrap();
        let mut keeper = Channel::new(near);
        keeper
            .send(&KeeperMessage::Reload { number: 0 }, &[])
            .unwrap();
        let watched = far.try_clone().unwrap();
        let watch = std::thread::spawn(move || wait_for_hangup(watched.as_fd(), None));
        drop(keeper);
        assert!(watch.join().unwrap());
        let mut reader = PacketReader::default();
        assert!(matches!(
            reader.receive(far.as_fd()).unwrap(),
            Received::Record(_)
        ));
    }
}
