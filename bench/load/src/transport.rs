//! A non-blocking connection, plain or TLS, behind the same two calls.
//!
//! Deliberately not here: what is said over it. Used by the generator (client side) and by the floor
//! program (server side).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;

/// The name the bench's certificate is made for.
pub(crate) const SERVER_NAME: &str = "bench.example";

/// What a read brought.
pub(crate) enum Got {
    /// Some bytes. `drained` says that the socket had no more, so that the next read may wait for
    /// the next event: it saves the read that would only say EAGAIN.
    Bytes { count: usize, drained: bool },
    /// Nothing now.
    Later,
    /// The end of the stream.
    End,
}

/// A non-blocking connection.
pub(crate) struct Transport {
    stream: TcpStream,
    session: Option<Box<Connection>>,
}

impl Transport {
    /// Connects; on loopback this is decided at once, so that a blocking connect costs no time.
    pub(crate) fn connect(
        address: SocketAddr,
        client: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        let session = client
            .map(|config| {
                let name = ServerName::try_from(SERVER_NAME)
                    .map_err(|error| io::Error::other(error.to_string()))?;
                ClientConnection::new(Arc::clone(config), name)
                    .map(|session| Box::new(Connection::Client(session)))
                    .map_err(io::Error::other)
            })
            .transpose()?;
        Self::new(stream, session)
    }

    /// Takes an accepted connection.
    pub(crate) fn accepted(
        stream: TcpStream,
        server: Option<&Arc<ServerConfig>>,
    ) -> io::Result<Self> {
        let session = server
            .map(|config| {
                ServerConnection::new(Arc::clone(config))
                    .map(|session| Box::new(Connection::Server(session)))
                    .map_err(io::Error::other)
            })
            .transpose()?;
        Self::new(stream, session)
    }

    fn new(stream: TcpStream, session: Option<Box<Connection>>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, session })
    }

    /// Takes what has come, at most the length of `into`.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<Got> {
        let Some(session) = &mut self.session else {
            return match self.stream.read(into) {
                Ok(0) => Ok(Got::End),
                Ok(count) => Ok(Got::Bytes {
                    count,
                    drained: count < into.len(),
                }),
                Err(error) => later(error),
            };
        };
        loop {
            match session.reader().read(into) {
                Ok(0) => return Ok(Got::End),
                Ok(count) => {
                    return Ok(Got::Bytes {
                        count,
                        drained: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match session.read_tls(&mut self.stream) {
                Ok(0) => return Ok(Got::End),
                Ok(_) => {
                    session.process_new_packets().map_err(io::Error::other)?;
                    flush(session, &mut self.stream)?;
                }
                Err(error) => return later(error),
            }
        }
    }

    /// Sends what the socket takes; 0 when it takes nothing now.
    pub(crate) fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else {
            return match self.stream.write(from) {
                Ok(count) => Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                Err(error) => Err(error),
            };
        };
        if session.is_handshaking() {
            flush(session, &mut self.stream)?;
            return Ok(0);
        }
        let count = session.writer().write(from)?;
        flush(session, &mut self.stream)?;
        Ok(count)
    }

    /// Sends records that are made but not yet taken by the socket.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.session {
            Some(session) => flush(session, &mut self.stream),
            None => Ok(()),
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn flush(session: &mut Connection, stream: &mut TcpStream) -> io::Result<()> {
    while session.wants_write() {
        match session.write_tls(stream) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn later(error: io::Error) -> io::Result<Got> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(Got::Later),
        _ => Err(error),
    }
}
