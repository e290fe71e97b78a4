//! A minimal and strict HTTP/1.1 client connection: anything that RFC 9112
//! does not allow a server to send is a fault, so a proxy's mistake is seen and
//! not smoothed over. Not here: what a right body is (`visit`), counting.

use std::{io, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{self, Instant},
};

use super::answer::Intake;

/// What came back, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
    /// The connection cannot be used again.
    pub(super) closes: bool,
    /// The body ended with the connection, so nobody said that it was whole.
    pub(super) until_close: bool,
}

/// Why no whole answer came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WireFault {
    /// Closed or reset before the first byte of the answer.
    Unanswered(&'static str),
    /// The body ended early; these are its status and what came of it.
    Truncated {
        status: u16,
        body: Bytes,
        how: &'static str,
    },
    /// Something that HTTP/1.1 does not allow.
    Malformed(String),
    /// The time was over; with the status when a head had come.
    TimedOut(Option<u16>),
}

/// A connection that lies unused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Idle {
    Usable,
    Closed,
    /// The server sent bytes that nobody asked for.
    Surplus,
}

/// One connection to the server.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
    answered: bool,
}

impl Wire {
    pub(super) async fn connect(address: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = time::timeout(limit, TcpStream::connect(address))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "connecting took too long"))??;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::new(),
            answered: false,
        })
    }

    /// Whether a request was answered on it before.
    pub(super) fn answered(&self) -> bool {
        self.answered
    }

    /// Looks at a connection before it is used again, without waiting.
    pub(super) fn idle(&mut self) -> Idle {
        if !self.buffer.is_empty() {
            return Idle::Surplus;
        }
        let mut byte = [0_u8; 1];
        match self.stream.try_read(&mut byte) {
            Ok(0) => Idle::Closed,
            Ok(_) => Idle::Surplus,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Idle::Usable,
            Err(_) => Idle::Closed,
        }
    }

    /// Sends a whole request and receives the answer while sending, as an
    /// answer may come before the request is read.
    pub(super) async fn exchange(
        &mut self,
        request: &[u8],
        deadline: Instant,
    ) -> Result<Answer, WireFault> {
        let (reader, mut writer) = self.stream.split();
        let mut intake = Intake::new(reader, &mut self.buffer);
        let send = async { writer.write_all(request).await.is_ok() };
        let mut send = std::pin::pin!(send);
        let mut sent = None;
        let received = {
            let mut receive = std::pin::pin!(intake.answer());
            loop {
                tokio::select! {
                    biased;
                    // A send that failed is no fault yet: an answer may be there.
                    whole = &mut send, if sent.is_none() => sent = Some(whole),
                    answer = &mut receive => break Some(answer),
                    () = time::sleep_until(deadline) => break None,
                }
            }
        };
        let mut answer = match received {
            Some(answer) => answer?,
            None => return Err(WireFault::TimedOut(intake.status())),
        };
        self.answered = true;
        answer.closes |= sent != Some(true);
        Ok(answer)
    }
}
