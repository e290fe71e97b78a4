//! The command line's side: one request to the admin listener of a process that runs. Blocking.

mod response;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use outgrow_core::settings::{Address, Secret};

/// For a connection to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// For the whole answer to something that is looked at.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);
/// For the whole answer to an action: an upgrade waits for the new process to be ready.
const ACT_PATIENCE: Duration = Duration::from_secs(300);

/// What to do at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Look at it.
    Get,
    /// Have it done.
    Post,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's sentence is its text")]
pub enum ClientProblem {
    #[error(
        "nothing listens at {0}: is outgrow running? Its admin listener is where [admin] listen \
         says"
    )]
    NothingListens(Address),
    #[error("no permission to connect to {0}: use the account that runs outgrow")]
    Forbidden(Address),
    #[error("the host of {0} has no address: use its IP address")]
    Unresolved(Address),
    #[error("{address} did not answer within {} s; is it the admin listener?", .patience.as_secs())]
    Timeout {
        address: Address,
        patience: Duration,
    },
    #[error("what answers at {address} is not an admin listener: {detail}")]
    NotAdmin {
        address: Address,
        detail: &'static str,
    },
    #[error("{0} closed the connection before its answer was whole: it may have been stopped")]
    Truncated(Address),
    #[error("the answer of {0} is larger than 64 MiB")]
    TooLarge(Address),
    #[error("the connection to {address} failed: {error}")]
    Io { address: Address, error: io::Error },
    #[error("the token has a character that cannot be sent: use visible ASCII characters")]
    BadToken,
    #[error("{0:?} is not a path to ask for: it begins with / and has visible ASCII characters")]
    BadPath(String),
}

/// Asks the admin listener at `address` (one that listens everywhere is asked by loopback) and
/// gives the status and the body of its answer. An empty token is not sent, nor is the body of a
/// GET.
///
/// Waits 2 s for a connection, and for the whole answer 10 s, or 5 minutes when it is an action.
pub fn request(
    address: &Address,
    token: &Secret,
    verb: Verb,
    path: &str,
    body: &[u8],
) -> Result<(u16, Vec<u8>), ClientProblem> {
    let body = match verb {
        Verb::Get => &[],
        Verb::Post => body,
    };
    let head = head(address, token, verb, path, body.len())?;
    let patience = match verb {
        Verb::Get => LOOK_PATIENCE,
        Verb::Post => ACT_PATIENCE,
    };
    let call = Call {
        address,
        patience,
        deadline: Instant::now() + patience,
    };
    let mut wire = call.connect()?;
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    call.send(&mut wire, &bytes)?;
    call.receive(&mut wire)
}

fn head(
    address: &Address,
    token: &Secret,
    verb: Verb,
    path: &str,
    length: usize,
) -> Result<String, ClientProblem> {
    let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !path.starts_with('/') || !is_visible(path) {
        return Err(ClientProblem::BadPath(path.to_owned()));
    }
    if !is_visible(token.expose()) {
        return Err(ClientProblem::BadToken);
    }
    let method = match verb {
        Verb::Get => "GET",
        Verb::Post => "POST",
    };
    let host = match address {
        Address::Tcp { .. } => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    if !token.is_empty() {
        head.push_str("Authorization: Bearer ");
        head.push_str(token.expose());
        head.push_str("\r\n");
    }
    if length > 0 {
        head.push_str("Content-Type: application/json\r\n");
    }
    if verb == Verb::Post {
        head.push_str("Content-Length: ");
        head.push_str(&length.to_string());
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    Ok(head)
}

/// One request under way.
struct Call<'a> {
    address: &'a Address,
    patience: Duration,
    deadline: Instant,
}

enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Call<'_> {
    fn connect(&self) -> Result<Wire, ClientProblem> {
        match self.address {
            Address::Unix(path) => self.connect_unix(path),
            Address::Tcp { host, port } => {
                let addresses = (host.as_str(), *port).to_socket_addrs();
                let mut last = None;
                for address in addresses.into_iter().flatten() {
                    match TcpStream::connect_timeout(&reachable(address), CONNECT_PATIENCE) {
                        Ok(stream) => return Ok(Wire::Tcp(stream)),
                        Err(error) => last = Some(error),
                    }
                }
                match last {
                    Some(error) => Err(self.unconnected(error)),
                    None => Err(ClientProblem::Unresolved(self.address.clone())),
                }
            }
        }
    }

    fn connect_unix(&self, path: &Path) -> Result<Wire, ClientProblem> {
        // Waits only while more connections wait than the listener's queue holds.
        UnixStream::connect(path)
            .map(Wire::Unix)
            .map_err(|error| self.unconnected(error))
    }

    fn unconnected(&self, error: io::Error) -> ClientProblem {
        let address = self.address.clone();
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                ClientProblem::NothingListens(address)
            }
            io::ErrorKind::PermissionDenied => ClientProblem::Forbidden(address),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ClientProblem::Timeout {
                address,
                patience: CONNECT_PATIENCE,
            },
            _ => ClientProblem::Io { address, error },
        }
    }

    fn send(&self, wire: &mut Wire, bytes: &[u8]) -> Result<(), ClientProblem> {
        wire.set_write_timeout(self.left()?)
            .map_err(|error| self.broken(error))?;
        match wire.write_all(bytes) {
            Ok(()) => Ok(()),
            // A refusal may have been sent before the request was taken: read it.
            Err(error) if is_broken_pipe(&error) => Ok(()),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn receive(&self, wire: &mut Wire) -> Result<(u16, Vec<u8>), ClientProblem> {
        let mut reader = response::Reader::default();
        let mut piece = [0; 16 * 1024];
        loop {
            wire.set_read_timeout(self.left()?)
                .map_err(|error| self.broken(error))?;
            let step = match wire.read(&mut piece) {
                Ok(0) => reader.end(),
                Ok(count) => reader.take(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(error)),
            };
            match step {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(problem) => return Err(self.unreadable(problem)),
            }
        }
    }

    /// The time that is left; never zero, which would mean for ever.
    fn left(&self) -> Result<Duration, ClientProblem> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.too_late());
        }
        Ok(left)
    }

    fn too_late(&self) -> ClientProblem {
        ClientProblem::Timeout {
            address: self.address.clone(),
            patience: self.patience,
        }
    }

    fn broken(&self, error: io::Error) -> ClientProblem {
        let address = self.address.clone();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.too_late(),
            _ if is_broken_pipe(&error) => ClientProblem::Truncated(address),
            _ => ClientProblem::Io { address, error },
        }
    }

    fn unreadable(&self, problem: response::Problem) -> ClientProblem {
        let address = self.address.clone();
        match problem {
            response::Problem::Malformed(detail) => ClientProblem::NotAdmin { address, detail },
            response::Problem::Truncated => ClientProblem::Truncated(address),
            response::Problem::TooLarge => ClientProblem::TooLarge(address),
        }
    }
}

fn is_broken_pipe(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// Where a listener at `address` can be connected to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl Wire {
    fn set_read_timeout(&self, left: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(left)),
            Self::Unix(stream) => stream.set_read_timeout(Some(left)),
        }
    }

    fn set_write_timeout(&self, left: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(left)),
            Self::Unix(stream) => stream.set_write_timeout(Some(left)),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
