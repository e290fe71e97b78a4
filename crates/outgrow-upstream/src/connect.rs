//! Connecting to an endpoint.
//!
//! A numeric address or a Unix socket is connected to directly. For a name the addresses that
//! [`resolve`](crate::resolve) keeps are tried in order; only before the first resolution is one
//! done here. No TLS is spoken.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use outgrow_core::settings::Address;
use outgrow_core::{Cause, Fault, Phase, Sent, Ticks};
use outgrow_net::Stream;
use tokio::net::{TcpStream, UnixStream};

use crate::endpoint::Endpoint;
use crate::pool::Connection;
use crate::resolve;

/// Pause before a Unix socket whose queue of connections is full is tried again.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(2);

/// Makes a connection that may take `timeout` to stand. It belongs to the calling runtime.
///
/// A failure is not counted here: the caller reports it like any other ([`Endpoint::report`]).
///
/// # Errors
/// [`Cause::ConnectRefused`] when nobody listens there, [`Cause::ConnectTimeout`], else
/// [`Cause::ConnectFailed`]; nothing was sent in any case.
pub async fn connect(
    endpoint: &Endpoint,
    timeout: Duration,
    now: Ticks,
) -> Result<Connection, Fault> {
    let cause = match tokio::time::timeout(timeout, open(endpoint)).await {
        Ok(Ok(stream)) => {
            endpoint.count_connect();
            return Ok(Connection {
                stream,
                requests: 0,
                created: now,
                endpoint: endpoint.id(),
            });
        }
        Ok(Err(error)) => cause_of(&error),
        Err(_) => Cause::ConnectTimeout,
    };
    Err(Fault::upstream(Phase::Connect, cause, Sent::None))
}

/// Connects to the endpoint's address, for as long as it takes.
pub(crate) async fn open(endpoint: &Endpoint) -> io::Result<Stream> {
    if let Address::Unix(path) = endpoint.address() {
        return open_unix(path).await;
    }
    let mut addresses = endpoint.socket_addresses();
    if addresses.is_empty() {
        addresses = resolve::look_up(endpoint.address()).await?;
        endpoint.set_socket_addresses(addresses.clone());
    }
    let mut failure = None;
    for (index, address) in addresses.into_iter().enumerate() {
        match open_tcp(address).await {
            Ok(stream) => {
                if index > 0 {
                    endpoint.prefer(address);
                }
                return Ok(stream);
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

async fn open_tcp(address: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}

async fn open_unix(path: &Path) -> io::Result<Stream> {
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(Stream::Unix(stream)),
            // The system does not tell when a full queue has room again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(FULL_QUEUE_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn cause_of(error: &io::Error) -> Cause {
    match error.kind() {
        // A Unix socket without a file is what a TCP port without a listener is.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Cause::ConnectRefused,
        io::ErrorKind::TimedOut => Cause::ConnectTimeout,
        _ => Cause::ConnectFailed,
    }
}
