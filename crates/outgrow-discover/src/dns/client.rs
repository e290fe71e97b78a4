//! Asks servers: over UDP from a port of its own and with a random number for each question, over
//! TCP when that has no room or is full of forgeries; one server after the other.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use outgrow_core::random::system_bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use super::message::{self, Code, Kind, Refusal, Reply};

/// How often the list of servers is gone through.
const ROUNDS: usize = 2;
/// Answers to other questions that are passed over before TCP is used.
const FORGERIES: usize = 16;

/// Asks servers.
#[derive(Clone, Debug)]
pub(super) struct Client {
    servers: Vec<SocketAddr>,
    timeout: Duration,
    /// The one that answered last is asked first.
    first: usize,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer in time")]
    Time,
    #[error("{0}")]
    Refusal(#[from] Refusal),
    #[error("it says that it cannot (code {0})")]
    Code(u8),
}

impl From<tokio::time::error::Elapsed> for Failure {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::Time
    }
}

impl Client {
    /// Asks nobody yet.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            servers: Vec::new(),
            timeout,
            first: 0,
        }
    }

    pub(super) fn set_servers(&mut self, servers: Vec<SocketAddr>) {
        if self.servers != servers {
            self.servers = servers;
            self.first = 0;
        }
    }

    /// Whom to ask first from now on.
    pub(super) fn prefer(&mut self, server: usize) {
        self.first = server;
    }

    /// Asks until somebody answers, maybe that there is nothing; also gives the number of who did.
    pub(super) async fn ask(&self, name: &str, kind: Kind) -> Result<(Reply, usize), String> {
        let mut problem = "there is no server to ask".to_owned();
        for turn in 0..self.servers.len() * ROUNDS {
            let place = (self.first + turn) % self.servers.len();
            let server = self.servers[place];
            match self.ask_one(server, name, kind).await {
                Ok(reply) => return Ok((reply, place)),
                Err(failure) => problem = format!("{server}: {failure}"),
            }
        }
        Err(problem)
    }

    async fn ask_one(&self, server: SocketAddr, name: &str, kind: Kind) -> Result<Reply, Failure> {
        let until = Instant::now() + self.timeout;
        for with_options in [true, false] {
            let exchange = exchange(server, name, kind, with_options);
            let reply = timeout_at(until, exchange).await??;
            match reply.code {
                Code::Success | Code::NoName => return Ok(reply),
                // Old servers do not know the options.
                Code::Format if with_options => {}
                Code::Format => return Err(Failure::Code(1)),
                Code::Failure(code) => return Err(Failure::Code(code)),
            }
        }
        Err(Failure::Code(1))
    }
}

async fn exchange(
    server: SocketAddr,
    name: &str,
    kind: Kind,
    with_options: bool,
) -> Result<Reply, Failure> {
    let mut id = [0; 2];
    system_bytes(&mut id);
    let id = u16::from_be_bytes(id);
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "this is no name");
    let question = message::question(id, name, kind, with_options).ok_or_else(no_name)?;
    match over_udp(server, &question, id, name, kind).await? {
        Some(reply) if !reply.is_truncated => Ok(reply),
        _ => over_tcp(server, &question, id, name, kind).await,
    }
}

/// `None` when so many forgeries came that it is to be asked in another way.
async fn over_udp(
    server: SocketAddr,
    question: &[u8],
    id: u16,
    name: &str,
    kind: Kind,
) -> Result<Option<Reply>, Failure> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A port for each question; connected, so that the system drops what others send.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = [0; 4_096];
    for _ in 0..FORGERIES {
        let length = socket.recv(&mut answer).await?;
        match message::reply(&answer[..length], id, name, kind) {
            Ok(reply) => return Ok(Some(reply)),
            // Too short to say whose it is: it may be a forgery as well.
            Err(Refusal::NotOurs) => {}
            Err(Refusal::Malformed(_)) if length < 12 => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(None)
}

async fn over_tcp(
    server: SocketAddr,
    question: &[u8],
    id: u16,
    name: &str,
    kind: Kind,
) -> Result<Reply, Failure> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (question.len() as u16).to_be_bytes().to_vec();
    framed.extend(question);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    let reply = message::reply(&answer, id, name, kind)?;
    if reply.is_truncated {
        return Err(Refusal::Malformed("it is cut off over TCP as well").into());
    }
    Ok(reply)
}
