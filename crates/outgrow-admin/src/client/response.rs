//! Reads one response strictly: the head by the http room's parser, the body by Content-Length or
//! until the connection closes. Chunks, which the admin listener never sends, are refused.

use outgrow_http::h1::scan::Scan;
use outgrow_http::h1::{Limits, Parsed, response};
use outgrow_message::{BodyLength, Method, ResponseHead};

/// The largest body that is taken.
const BODY_BYTES: usize = 64 * 1024 * 1024;

/// Why what came is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Malformed(&'static str),
    Truncated,
    TooLarge,
}

/// What was read: the status and the body.
type Answer = (u16, Vec<u8>);

/// The response to a GET or POST as it comes in.
#[derive(Default)]
pub(super) struct Reader {
    scan: Scan,
    head: Option<ResponseHead>,
    bytes: Vec<u8>,
}

impl Reader {
    /// Takes what arrived; the answer when it is whole.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<Option<Answer>, Problem> {
        self.bytes.extend_from_slice(piece);
        if self.head.is_none() {
            self.read_head()?;
        }
        let Some(head) = &self.head else {
            return Ok(None);
        };
        if self.bytes.len() > BODY_BYTES {
            return Err(Problem::TooLarge);
        }
        match head.length {
            BodyLength::Empty => Ok(self.whole(0)),
            BodyLength::Known(length) => Ok(self.whole(length as usize)),
            BodyLength::Unknown => Ok(None),
        }
    }

    /// The connection was closed.
    pub(super) fn end(&mut self) -> Result<Option<Answer>, Problem> {
        match &self.head {
            Some(head) if head.until_close => {
                let status = head.status;
                Ok(Some((status, std::mem::take(&mut self.bytes))))
            }
            _ => Err(Problem::Truncated),
        }
    }

    fn read_head(&mut self) -> Result<(), Problem> {
        let mut head = ResponseHead::default();
        let limits = Limits::default();
        let parsed = response::parse(&self.bytes, &mut self.scan, &limits, Method::Get, &mut head);
        let Parsed::Complete(length) =
            parsed.map_err(|reject| Problem::Malformed(reject.detail))?
        else {
            return Ok(());
        };
        if head.status < 200 {
            return Err(Problem::Malformed("it sent an interim response"));
        }
        if head.length == BodyLength::Unknown && !head.until_close {
            return Err(Problem::Malformed("it sent chunks"));
        }
        if matches!(head.length, BodyLength::Known(bytes) if bytes > BODY_BYTES as u64) {
            return Err(Problem::TooLarge);
        }
        self.bytes.drain(..length);
        self.head = Some(head);
        Ok(())
    }

    fn whole(&mut self, length: usize) -> Option<Answer> {
        if self.bytes.len() < length {
            return None;
        }
        let mut body = std::mem::take(&mut self.bytes);
        body.truncate(length);
        self.head.as_ref().map(|head| (head.status, body))
    }
}
