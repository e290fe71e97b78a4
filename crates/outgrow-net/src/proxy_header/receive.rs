//! A header from a stream: exactly its bytes, so that whoever reads on finds what comes behind it.

use std::future::poll_fn;
use std::io;

use super::{LONGEST_BINARY, ProxyHeader, ProxyHeaderError};
use crate::Stream;

/// Bytes that are looked at at a time.
const LOOK_BYTES: usize = 512;

/// Why no header was received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// What came is none.
    #[error(transparent)]
    Header(#[from] ProxyHeaderError),
    /// The stream ended, or failed, before it was whole.
    #[error("the connection ended before a PROXY header was there: {0}")]
    Stream(#[from] io::Error),
}

/// Takes a header from the stream; its bytes, for the fields, are put into `bytes`. To be given a
/// time limit by who calls.
///
/// # Errors
/// There is none, or none that makes sense.
pub async fn receive(
    stream: &mut Stream,
    bytes: &mut Vec<u8>,
) -> Result<ProxyHeader, ReceiveError> {
    bytes.clear();
    let mut look = [0; LOOK_BYTES];
    loop {
        let seen = poll_fn(|cx| stream.poll_peek(cx, &mut look)).await?;
        if seen == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let before = bytes.len();
        bytes.extend_from_slice(&look[..seen]);
        let whole = ProxyHeader::read(bytes)?;
        let length = whole.as_ref().map_or(bytes.len(), |(_, length)| *length);
        bytes.truncate(length.min(LONGEST_BINARY));
        // What belongs to it is read; the rest is what follows.
        let mut left = bytes.len() - before;
        while left > 0 {
            let read = poll_fn(|cx| stream.poll_read(cx, &mut look[..left])).await?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            left -= read;
        }
        if let Some((header, _)) = whole {
            return Ok(header);
        }
    }
}
