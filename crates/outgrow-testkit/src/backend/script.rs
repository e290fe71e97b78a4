//! What a recording backend does on its connections, step by step.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Makes an answer of a whole request.
pub type Reply = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// One thing that the backend does on a connection.
#[derive(Clone)]
#[non_exhaustive]
pub enum Step {
    /// Reads one request: the head to its empty line, then a body by
    /// Content-Length or chunked. Ends the script when the client closes.
    ReadRequest,
    /// Reads until so many bytes came beyond those of earlier steps.
    ReadBytes(usize),
    /// Reads until the client closes.
    ReadToEnd,
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes in pieces of that size, with a pause between them.
    SendSlowly {
        /// What is sent.
        bytes: Vec<u8>,
        /// Bytes of one piece.
        piece: usize,
        /// Time between two.
        pause: Duration,
    },
    /// Sends what the function makes of the last whole request.
    Reply(Reply),
    /// Does nothing for so long.
    Pause(Duration),
    /// Waits until the gate is opened, at most 60 s.
    Wait(Gate),
    /// Closes in order (FIN). The script ends.
    Close,
    /// Closes with a reset (RST). The script ends.
    Reset,
    /// Closes after so many further bytes were received, with a reset if bytes
    /// are left unread. The script ends.
    CloseAfter(usize),
    /// Sends nothing any more, records what comes, until the client closes.
    Silence,
    /// Goes back to the first step.
    Again,
}

impl fmt::Debug for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadRequest => out.write_str("ReadRequest"),
            Self::ReadBytes(count) => write!(out, "ReadBytes({count})"),
            Self::ReadToEnd => out.write_str("ReadToEnd"),
            Self::Send(bytes) => write!(out, "Send({} bytes)", bytes.len()),
            Self::SendSlowly { bytes, .. } => write!(out, "SendSlowly({} bytes)", bytes.len()),
            Self::Reply(_) => out.write_str("Reply"),
            Self::Pause(time) => write!(out, "Pause({time:?})"),
            Self::Wait(_) => out.write_str("Wait"),
            Self::Close => out.write_str("Close"),
            Self::Reset => out.write_str("Reset"),
            Self::CloseAfter(count) => write!(out, "CloseAfter({count})"),
            Self::Silence => out.write_str("Silence"),
            Self::Again => out.write_str("Again"),
        }
    }
}

/// The steps of each connection.
#[derive(Debug, Clone)]
pub struct Script {
    connections: Vec<Vec<Step>>,
}

impl Script {
    /// Every connection does these.
    pub fn every(steps: impl Into<Vec<Step>>) -> Self {
        Self {
            connections: vec![steps.into()],
        }
    }

    /// The first connection does the first ones, and so on; the last ones are
    /// done by all further connections too.
    pub fn in_turn(connections: impl Into<Vec<Vec<Step>>>) -> Self {
        Self {
            connections: connections.into(),
        }
    }

    /// Every request gets these bytes as its answer, on kept connections.
    pub fn answer(bytes: impl Into<Vec<u8>>) -> Self {
        Self::every([Step::ReadRequest, Step::Send(bytes.into()), Step::Again])
    }

    /// Every request gets what the function makes of it.
    pub fn reply(reply: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::every([Step::ReadRequest, Step::Reply(Arc::new(reply)), Step::Again])
    }

    /// Nothing is ever answered; everything is recorded.
    pub fn silence() -> Self {
        Self::every([Step::Silence])
    }

    pub(super) fn steps(&self, connection: usize) -> Vec<Step> {
        let steps = self.connections.get(connection);
        let steps = steps.or(self.connections.last());
        steps.cloned().unwrap_or_default()
    }
}

/// Bytes of a 200 with this body and Content-Length.
pub fn response(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Bytes of a 200 with these chunks.
pub fn response_chunked(chunks: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Something that a script waits for and the test opens.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    inner: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens it, for good.
    pub fn open(&self) {
        let (open, changed) = &*self.inner;
        *open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits until it is open, at most `limit`. True when it is.
    pub fn wait(&self, limit: Duration) -> bool {
        let (open, changed) = &*self.inner;
        let deadline = Instant::now() + limit;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = changed.wait_timeout(open, left);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
