//! A small HTTP/1.1 client for registries, and for others that are asked as seldom (certificate
//! authorities): one exchange on a connection of its own, with or without
//! TLS, read by the strict engine of `outgrow-http`, with a bound on everything. No redirects, no
//! connections kept: what is asked here is asked seldom, or answered for a long time.

mod lines;
mod server;
#[cfg(test)]
mod tests;
mod trust;

use std::io;
use std::time::Duration;

use outgrow_http::h1::chunk::Decoder;
use outgrow_http::h1::scan::Scan;
use outgrow_http::h1::{Limits, Parsed, response};
use outgrow_message::{BodyLength, Fields, Method, ResponseHead};
use outgrow_tls::Refusal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) use self::lines::Lines;
pub use self::server::{Server, ServerError};
pub use self::trust::RegistryTls;
use self::trust::Trust;
pub(crate) use self::trust::check_use;
use crate::discovery::Surroundings;

/// How long a connection and the sending of a question may take.
const CONNECT: Duration = Duration::from_secs(3);
/// What is read at a time.
const PIECE: usize = 16 * 1024;
/// Longest beginning of an answer that is kept in a problem.
const QUOTED: usize = 1_024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// TLS failed.
    #[error("{0}")]
    Tls(#[from] Refusal),
    /// It takes too long.
    #[error("no answer in time")]
    Time,
    /// What came is no HTTP to the letter.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
    /// The answer is longer than it may be.
    #[error("the answer is too long")]
    Length,
    /// Another status than 200 or 201.
    #[error("status {0}: {1}")]
    Status(u16, String),
    /// What came is not what was asked for.
    #[error("{0}")]
    Content(String),
}

impl From<tokio::time::error::Elapsed> for Problem {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::Time
    }
}

/// One question.
#[derive(Clone, Debug, Default)]
pub struct Question<'q> {
    /// Path and query, percent-encoded.
    pub target: &'q str,
    /// Field lines; those of the exchange itself are added.
    pub fields: &'q [(&'q str, &'q str)],
    /// What is sent.
    pub body: Option<&'q [u8]>,
    /// What that is, and what is wanted as an answer. Left out: JSON.
    pub media: Option<Media<'q>>,
    /// Left out: POST with a body, GET without one.
    pub method: Option<&'static str>,
}

/// Media types of a question and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Media<'q> {
    /// `Content-Type`
    pub sent: &'q str,
    /// `Accept`
    pub wanted: &'q str,
}

const JSON: Media<'static> = Media {
    sent: "application/json",
    wanted: "application/json",
};

/// What bytes come from and go to.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An answer whose head was read.
pub struct Answer {
    stream: Box<dyn Stream>,
    head: ResponseHead,
    bytes: Vec<u8>,
    decoder: Option<Decoder>,
    left: Option<u64>,
    ended: bool,
}

/// How the servers of a registry are spoken to.
#[derive(Debug)]
pub struct Client {
    trust: Trust,
}

impl Client {
    /// With what the registry's `tls` table says, if there is one.
    pub fn new(tls: Option<&RegistryTls>, surroundings: Surroundings) -> Self {
        let tls = tls.cloned().unwrap_or_default();
        Self {
            trust: Trust::new(tls, surroundings),
        }
    }

    /// Asks and reads the head of the answer, which may take as long as `patience` after the
    /// question was sent.
    pub async fn ask(
        &self,
        server: &Server,
        question: &Question<'_>,
        patience: Duration,
    ) -> Result<Answer, Problem> {
        let text = write(server, question)?;
        let exchange = async {
            let mut stream = timeout(CONNECT, self.connect(server)).await??;
            let sent = async {
                stream.write_all(&text).await?;
                stream.flush().await
            };
            timeout(CONNECT, sent).await??;
            let method = match question.method {
                Some("HEAD") => Method::Head,
                _ => Method::Get,
            };
            timeout(patience, Answer::begin(stream, method)).await?
        };
        exchange.await.map_err(|problem| match problem {
            Problem::Io(error) => self.explained(error, server),
            problem => problem,
        })
    }

    /// Asks and reads the whole answer, of at most `limit` bytes.
    pub(crate) async fn ask_whole(
        &self,
        server: &Server,
        question: &Question<'_>,
        patience: Duration,
        limit: usize,
    ) -> Result<(ResponseHead, Vec<u8>), Problem> {
        let mut answer = self.ask(server, question, patience).await?;
        answer.must_be_good().await?;
        let body = answer.whole(patience, limit).await?;
        Ok((answer.head, body))
    }

    async fn connect(&self, server: &Server) -> Result<Box<dyn Stream>, Problem> {
        // The files first: a connection that waits for a disk may be closed meanwhile.
        let tls = match server.is_encrypted() {
            true => Some(self.trust.load().await?),
            false => None,
        };
        let stream = TcpStream::connect((server.host(), server.port())).await?;
        stream.set_nodelay(true)?;
        Ok(match tls {
            Some(tls) => Box::new(tls.connect(stream, self.trust.name(server)).await?),
            None => Box::new(stream),
        })
    }

    /// What it may mean that a server ends the connection. One that refuses our certificate says
    /// so, but may close in the same moment, and then its last words are lost.
    fn explained(&self, error: io::Error, server: &Server) -> Problem {
        let is_cut = matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        );
        if !is_cut {
            return Problem::Io(error);
        }
        let guess = match (server.is_encrypted(), self.trust.has_identity()) {
            (false, _) => "perhaps it speaks TLS (https://)",
            (true, true) => "perhaps our certificate is not accepted",
            (true, false) => "perhaps a client certificate is wanted (tls.certificate, tls.key)",
        };
        Problem::Content(format!(
            "the server ended the connection without an answer: {guess}"
        ))
    }
}

fn write(server: &Server, question: &Question<'_>) -> Result<Vec<u8>, Problem> {
    let is_text = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ')
    };
    let by_body = if question.body.is_some() {
        "POST"
    } else {
        "GET"
    };
    let method = question.method.unwrap_or(by_body);
    let media = question.media.unwrap_or(JSON);
    let mut head = format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: outgrow/{}\r\nAccept: {}\r\n\
         Connection: close\r\n",
        question.target,
        server.authority(),
        env!("CARGO_PKG_VERSION"),
        media.wanted,
    );
    if question.target.contains(' ') || !is_text(question.target) {
        return Err(Problem::Malformed("the question's path"));
    }
    for (name, value) in question.fields {
        if !is_text(value) {
            return Err(Problem::Malformed("a field of the question"));
        }
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = question.body {
        head.push_str(&format!(
            "Content-Type: {}\r\nContent-Length: {}\r\n",
            media.sent,
            body.len()
        ));
    }
    head.push_str("\r\n");
    let mut text = head.into_bytes();
    text.extend(question.body.unwrap_or_default());
    Ok(text)
}

impl Answer {
    async fn begin(mut stream: Box<dyn Stream>, method: Method) -> Result<Self, Problem> {
        let limits = Limits::default();
        let mut scan = Scan::default();
        let mut head = ResponseHead::default();
        let mut bytes = Vec::new();
        loop {
            let parsed = response::parse(&bytes, &mut scan, &limits, method, &mut head);
            match parsed.map_err(|reject| Problem::Malformed(reject.detail))? {
                Parsed::Complete(length) if head.status >= 200 => {
                    bytes.drain(..length);
                    break;
                }
                // An interim answer: the real one follows.
                Parsed::Complete(length) => {
                    bytes.drain(..length);
                    scan = Scan::default();
                    continue;
                }
                Parsed::Incomplete => {}
            }
            if read_more(&mut *stream, &mut bytes).await? == 0 {
                if bytes.is_empty() {
                    return Err(Problem::Io(io::ErrorKind::UnexpectedEof.into()));
                }
                return Err(Problem::Malformed("it ends within its head"));
            }
        }
        let (decoder, left) = match head.length {
            BodyLength::Empty => (None, Some(0)),
            BodyLength::Known(length) => (None, Some(length)),
            BodyLength::Unknown if head.until_close => (None, None),
            BodyLength::Unknown => (Some(Decoder::default()), None),
        };
        Ok(Self {
            stream,
            head,
            bytes,
            decoder,
            left,
            ended: false,
        })
    }

    /// Its head.
    pub fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// The status and what the server says about it, unless it is 200, or 201 for what was made.
    pub(crate) async fn must_be_good(&mut self) -> Result<(), Problem> {
        if matches!(self.head.status, 200 | 201) {
            return Ok(());
        }
        let status = self.head.status;
        let mut text = Vec::new();
        let read = async {
            while let Ok(Some(piece)) = self.piece().await
                && text.len() < QUOTED
            {
                text.extend(piece);
            }
        };
        // What came until then is told.
        let _ = timeout(CONNECT, read).await;
        let text = String::from_utf8_lossy(&text);
        let text: String = text.trim().chars().take(QUOTED).collect();
        Err(Problem::Status(status, text))
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        loop {
            if let Some(piece) = self.take()? {
                return Ok(Some(piece));
            }
            if self.ended {
                return Ok(None);
            }
            if read_more(&mut *self.stream, &mut self.bytes).await? == 0 {
                if self.decoder.is_some() || self.left.is_some() {
                    return Err(Problem::Malformed("it is cut off"));
                }
                self.ended = true;
            }
        }
    }

    /// All of the body, of at most `limit` bytes.
    pub async fn whole(&mut self, patience: Duration, limit: usize) -> Result<Vec<u8>, Problem> {
        timeout(patience, self.rest(limit)).await?
    }

    /// All that is left of the body.
    async fn rest(&mut self, limit: usize) -> Result<Vec<u8>, Problem> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            if body.len() + piece.len() > limit {
                return Err(Problem::Length);
            }
            body.extend(piece);
        }
        Ok(body)
    }

    /// What of the body is at hand.
    fn take(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        let Some(decoder) = &mut self.decoder else {
            let count = self.left.map_or(self.bytes.len(), |left| {
                self.bytes
                    .len()
                    .min(usize::try_from(left).unwrap_or(usize::MAX))
            });
            if let Some(left) = &mut self.left {
                *left -= count as u64;
                self.ended = *left == 0;
            }
            let piece: Vec<u8> = self.bytes.drain(..count).collect();
            return Ok((!piece.is_empty()).then_some(piece));
        };
        let mut trailers = Fields::default();
        let step = decoder
            .step(&self.bytes, &mut trailers)
            .map_err(|reject| Problem::Malformed(reject.detail))?;
        self.ended = step.done;
        let end = step.skip + step.data;
        let piece = self.bytes[step.skip..end].to_vec();
        if step.data > 0 {
            decoder.took(step.data);
        }
        self.bytes.drain(..end);
        Ok((!piece.is_empty()).then_some(piece))
    }
}

async fn read_more(stream: &mut dyn Stream, bytes: &mut Vec<u8>) -> io::Result<usize> {
    bytes.reserve(PIECE);
    stream.read_buf(bytes).await
}

/// Percent-encoded but for what never needs it (RFC 3986 section 2.3).
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
