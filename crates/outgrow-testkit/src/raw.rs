//! A client that sends exactly the bytes it is given, in the pieces it is
//! given, and tells exactly what came back. It knows nothing of HTTP.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

/// Most bytes that are received.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// How a connection's other side ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It closed in order (FIN).
    Closed,
    /// It was reset (RST).
    Reset,
    /// It was still open when the time was over.
    Open,
}

/// Everything that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The bytes.
    pub received: Vec<u8>,
    /// How it ended.
    pub end: End,
}

impl Exchange {
    /// The bytes as text, for comparing and for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}

/// Sends `pieces` one after the other with `pause` between them, each as a
/// segment of its own, and receives at the same time, until the other side
/// closes or `limit` is over (counted from the connection).
///
/// # Errors
/// When no connection can be made, or more than 256 MiB come. That sending
/// breaks off is no error: the server may have answered and closed.
pub fn exchange(
    address: SocketAddr,
    pieces: &[&[u8]],
    pause: Duration,
    limit: Duration,
) -> io::Result<Exchange> {
    let mut client = match Client::connect(address) {
        // Accepted and reset before the system had told us of the first.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            return Ok(Exchange {
                received: Vec::new(),
                end: End::Reset,
            });
        }
        connected => connected?,
    };
    let mut writer = client.stream.try_clone()?;
    let deadline = Instant::now() + limit;
    thread::scope(|scope| {
        // Whether a write met the reset: the system tells of it once only.
        let writing = scope.spawn(move || {
            for (place, piece) in pieces.iter().enumerate() {
                if place > 0 && !pause.is_zero() {
                    thread::sleep(pause);
                }
                if Instant::now() >= deadline {
                    return false;
                }
                if let Err(error) = writer.write_all(piece) {
                    return error.kind() == io::ErrorKind::ConnectionReset;
                }
            }
            false
        });
        let mut exchanged =
            client.receive_to_end(deadline.saturating_duration_since(Instant::now()));
        // Wakes a writer that the other side does not read from.
        let _closed = client.stream.shutdown(Shutdown::Both);
        if let (Ok(true), Ok(exchange)) = (writing.join(), &mut exchanged) {
            exchange.end = End::Reset;
        }
        exchanged
    })
}

/// Cuts `bytes` into pieces of `size` (at least 1).
pub fn split_every(bytes: &[u8], size: usize) -> Vec<&[u8]> {
    bytes.chunks(size.max(1)).collect()
}

/// One connection, step by step.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    end: End,
}

impl Client {
    /// Connects, in at most 5 seconds.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            end: End::Open,
        })
    }

    /// The address that this side has.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// When the other side has gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent (FIN), and goes on receiving.
    ///
    /// # Errors
    /// When the other side has gone.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Ends the connection with a reset.
    ///
    /// # Errors
    /// What the system says.
    pub fn reset(self) -> io::Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }

    /// Everything received so far and not yet taken.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Takes what was received.
    pub fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }

    /// How the other side ended it, as far as seen.
    pub fn end(&self) -> End {
        self.end
    }

    /// Receives until the bytes received hold `wanted`, the other side ends or
    /// `limit` is over. True when they hold it.
    ///
    /// # Errors
    /// When more than 256 MiB come, or the system fails.
    pub fn receive_until(&mut self, wanted: &[u8], limit: Duration) -> io::Result<bool> {
        let holds = |received: &[u8]| received.windows(wanted.len().max(1)).any(|at| at == wanted);
        self.receive_while(limit, |received| !holds(received))?;
        Ok(holds(&self.received))
    }

    /// Receives until there are `count` bytes, the other side ends or `limit`
    /// is over. True when there are.
    ///
    /// # Errors
    /// As [`Client::receive_until`].
    pub fn receive_bytes(&mut self, count: usize, limit: Duration) -> io::Result<bool> {
        self.receive_while(limit, |received| received.len() < count)?;
        Ok(self.received.len() >= count)
    }

    /// Receives until the other side ends or `limit` is over, and takes it all.
    ///
    /// # Errors
    /// As [`Client::receive_until`].
    pub fn receive_to_end(&mut self, limit: Duration) -> io::Result<Exchange> {
        self.receive_while(limit, |_| true)?;
        Ok(Exchange {
            received: self.take_received(),
            end: self.end,
        })
    }

    /// Receives until what was received is `enough`, the other side ends or
    /// `limit` is over.
    ///
    /// # Errors
    /// As [`Client::receive_until`].
    pub fn receive_until_true(
        &mut self,
        limit: Duration,
        mut enough: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<()> {
        self.receive_while(limit, |received| !enough(received))
    }

    fn receive_while(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        let mut block = vec![0_u8; 64 * 1024];
        while self.end == End::Open && wanted(&self.received) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut block) {
                Ok(0) => self.end = End::Closed,
                Ok(count) => self.received.extend_from_slice(&block[..count]),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(()),
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset => self.end = End::Reset,
                    _ => return Err(error),
                },
            }
            if self.received.len() > MOST_BYTES {
                return Err(io::Error::other("more than 256 MiB came"));
            }
        }
        Ok(())
    }
}
