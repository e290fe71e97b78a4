//! Frames: the tag and the length before each message's body.

/// Bytes of a tag and a length.
pub const HEADER_BYTES: usize = 5;

/// The longest body that Postgres itself takes: a gibibyte, less what palloc needs.
pub const BODY_LIMIT: u32 = 0x3fff_ffff;

/// A message's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What kind of message it is; see [`super::message`].
    pub tag: u8,
    /// Bytes of the body, without the length itself.
    pub body: u32,
}

impl Header {
    /// Bytes of the whole message.
    pub fn whole(self) -> usize {
        HEADER_BYTES + self.body as usize
    }
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of kind {tag:?} has an impossible length")]
pub struct HeaderError {
    /// The tag before the length.
    pub tag: char,
}

/// A message at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Too few bytes for a header.
    NoHeader,
    /// A header, and some of the body.
    Partial(Header),
    /// A whole message.
    Whole(Header),
}

/// Looks at the message that `bytes` begin with.
///
/// # Errors
/// A length below that of itself, or above [`BODY_LIMIT`].
#[inline]
pub fn look(bytes: &[u8]) -> Result<Frame, HeaderError> {
    let Some((&[tag, a, b, c, d], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(Frame::NoHeader);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    let error = HeaderError { tag: tag.into() };
    let body = length.checked_sub(4).ok_or(error)?;
    if body > BODY_LIMIT {
        return Err(error);
    }
    let header = Header { tag, body };
    if rest.len() >= body as usize {
        Ok(Frame::Whole(header))
    } else {
        Ok(Frame::Partial(header))
    }
}

/// The header of the message that `bytes` begin with, and whether all of it is there; none while
/// there are too few bytes for a header.
///
/// # Errors
/// As of [`look`].
#[inline]
pub fn begun(bytes: &[u8]) -> Result<Option<(Header, bool)>, HeaderError> {
    Ok(match look(bytes)? {
        Frame::NoHeader => None,
        Frame::Partial(header) => Some((header, false)),
        Frame::Whole(header) => Some((header, true)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_looked_at() {
        let check = |bytes: &[u8], expected| assert_eq!(look(bytes), expected, "{bytes:?}");
        let header = |tag, body| Header { tag, body };
        check(b"", Ok(Frame::NoHeader));
        check(b"Q\0\0\0", Ok(Frame::NoHeader));
        check(b"S\0\0\0\x04", Ok(Frame::Whole(header(b'S', 0))));
        check(b"S\0\0\0\x04X", Ok(Frame::Whole(header(b'S', 0))));
        check(b"Q\0\0\0\x06;", Ok(Frame::Partial(header(b'Q', 2))));
        check(b"Q\0\0\0\x06;\0", Ok(Frame::Whole(header(b'Q', 2))));
        check(b"Q\0\0\0\x03", Err(HeaderError { tag: 'Q' }));
        check(b"Q\xff\xff\xff\xff", Err(HeaderError { tag: 'Q' }));
        check(
            b"d\x40\0\0\x03",
            Ok(Frame::Partial(header(b'd', BODY_LIMIT))),
        );
        check(b"d\x40\0\0\x04", Err(HeaderError { tag: 'd' }));
    }
}
