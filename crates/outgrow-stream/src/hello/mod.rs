//! What the first message of TLS says in the clear: the ClientHello (RFC 8446 section 4.1.2), from
//! the records that it comes in. Pure: bytes in, names out; nothing is decrypted and nothing is
//! changed.
//!
//! Strict: what a TLS server would refuse anyway is refused here, so that no two parties can read
//! one ClientHello differently. Bounded: [`LONGEST`] bytes in all. Values that are there to keep
//! others honest (GREASE, RFC 8701) are values that nobody knows, and are passed over.

mod extensions;
mod routes;
#[cfg(test)]
mod tests;

pub use routes::{Asked, Routes};

/// Most bytes of records with a ClientHello; browsers send some 2 KiB with post-quantum keys.
pub const LONGEST: usize = 16 * 1024;

/// The type of a handshake record.
const HANDSHAKE: u8 = 22;
/// Type, version and length of a record.
const RECORD_HEAD: usize = 5;
/// Most bytes in a record (RFC 8446 section 5.1).
const LONGEST_RECORD: usize = 1 << 14;
/// The type of a ClientHello among handshake messages.
const CLIENT_HELLO: u8 = 1;
/// Type and length of a handshake message.
const MESSAGE_HEAD: usize = 4;

/// What a ClientHello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name (SNI), in lower case; none when there is none, or an address, which is none
    /// (RFC 6066 section 3). With Encrypted ClientHello it is the outer one.
    pub server_name: Option<String>,
    /// The application protocols that the client offers (ALPN), each with its length before it.
    protocols: Vec<u8>,
    /// Whether the real one is within, encrypted (ECH).
    pub is_outer: bool,
}

/// Why bytes are no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// They begin with something else.
    #[error("it does not begin with TLS")]
    NotTls,
    /// It is longer than is taken.
    #[error("the ClientHello is longer than {LONGEST} bytes")]
    TooLong,
    /// It begins with another message.
    #[error("the first message of TLS is no ClientHello")]
    NotHello,
    /// A length or a value is one that there cannot be.
    #[error("the ClientHello is malformed: {0}")]
    Malformed(&'static str),
}

impl ClientHello {
    /// One that asks for this name and offers these protocols, of 255 bytes each at most.
    pub fn asking(server_name: Option<&str>, protocols: &[&str]) -> Self {
        let offer = |protocol: &&str| {
            let protocol = &protocol.as_bytes()[..protocol.len().min(255)];
            [&[protocol.len() as u8][..], protocol].concat()
        };
        Self {
            server_name: server_name.map(str::to_ascii_lowercase),
            protocols: protocols.iter().flat_map(offer).collect(),
            is_outer: false,
        }
    }

    /// Reads the ClientHello at the start of `input`; none while more bytes are needed, never with
    /// [`LONGEST`] of them.
    ///
    /// # Errors
    /// What begins there is none. It is told as soon as it is known.
    pub fn read(input: &[u8]) -> Result<Option<Self>, HelloError> {
        let message = match message(input)? {
            Some(message) => message,
            None if input.len() >= LONGEST => return Err(HelloError::TooLong),
            None => return Ok(None),
        };
        body(&message[MESSAGE_HEAD..]).map(Some)
    }

    /// The protocols that the client offers.
    pub fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.protocols[..];
        std::iter::from_fn(move || {
            let (&length, after) = rest.split_first()?;
            let (protocol, after) = after.split_at_checked(usize::from(length))?;
            rest = after;
            Some(protocol)
        })
    }
}

/// The first handshake message, put together from its records.
fn message(input: &[u8]) -> Result<Option<Vec<u8>>, HelloError> {
    let mut message = Vec::new();
    let mut rest = input;
    loop {
        let wanted = wanted(&message)?;
        if wanted.is_some_and(|wanted| message.len() >= wanted) {
            // Whoever says more before it was answered is no client of TLS.
            let more = wanted.is_some_and(|wanted| message.len() > wanted);
            return match more {
                true => Err(HelloError::Malformed("bytes behind its end")),
                false => Ok(Some(message)),
            };
        }
        match rest {
            [kind, ..] if *kind != HANDSHAKE => return Err(HelloError::NotTls),
            [_, major, ..] if *major != 3 => return Err(HelloError::NotTls),
            _ => {}
        }
        let Some((&[_, _, minor, high, low], after)) = rest.split_first_chunk::<RECORD_HEAD>()
        else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if minor > 4 {
            return Err(HelloError::NotTls);
        }
        if length == 0 || length > LONGEST_RECORD {
            return Err(HelloError::Malformed("the length of a record"));
        }
        let here = &after[..length.min(after.len())];
        message.extend_from_slice(here);
        if here.len() < length {
            // What is known of an unfinished record may be wrong already.
            self::wanted(&message)?;
            return Ok(None);
        }
        rest = &after[length..];
    }
}

/// The length of the message that begins so, once it is known.
fn wanted(message: &[u8]) -> Result<Option<usize>, HelloError> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloError::NotHello);
    }
    let Some(&[_, high, middle, low]) = message.first_chunk::<MESSAGE_HEAD>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if length > LONGEST - RECORD_HEAD - MESSAGE_HEAD {
        return Err(HelloError::TooLong);
    }
    Ok(Some(MESSAGE_HEAD + length))
}

/// The message without its head.
fn body(bytes: &[u8]) -> Result<ClientHello, HelloError> {
    let mut reader = Reader(bytes);
    let version = reader.take(2, "the version")?;
    if version[0] != 3 {
        return Err(HelloError::Malformed("the version"));
    }
    reader.take(32, "the random")?;
    if reader.vector8("the session id")?.len() > 32 {
        return Err(HelloError::Malformed("the session id"));
    }
    let suites = reader.vector16("the cipher suites")?;
    if suites.is_empty() || suites.len() % 2 != 0 {
        return Err(HelloError::Malformed("the cipher suites"));
    }
    if reader.vector8("the compression methods")?.is_empty() {
        return Err(HelloError::Malformed("the compression methods"));
    }
    let mut hello = ClientHello::default();
    // TLS 1.2 and before may say nothing more.
    if !reader.0.is_empty() {
        let all = reader.vector16("the extensions")?;
        if !reader.0.is_empty() {
            return Err(HelloError::Malformed("bytes behind the extensions"));
        }
        extensions::read(all, &mut hello)?;
    }
    Ok(hello)
}

/// Bytes that are taken from the front.
#[derive(Clone, Copy, Debug)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], HelloError> {
        let split = self.0.split_at_checked(length);
        let (taken, rest) = split.ok_or(HelloError::Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number16(&mut self, what: &'static str) -> Result<u16, HelloError> {
        let bytes = self.take(2, what)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self, what: &'static str) -> Result<&'a [u8], HelloError> {
        let length = self.take(1, what)?[0];
        self.take(usize::from(length), what)
    }

    fn vector16(&mut self, what: &'static str) -> Result<&'a [u8], HelloError> {
        let length = self.number16(what)?;
        self.take(usize::from(length), what)
    }
}
