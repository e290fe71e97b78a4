//! What comes first on a connection: a request for encryption, to cancel, or the startup message.

use super::read::text;

/// The longest startup packet that Postgres takes, in bytes (`MAX_STARTUP_PACKET_LENGTH`).
pub const LIMIT: usize = 10_000;

/// The code of an SSLRequest.
pub const SSL_REQUEST: u32 = code(1234, 5679);
/// The code of a GSSENCRequest.
pub const GSS_REQUEST: u32 = code(1234, 5680);
/// The code of a CancelRequest.
pub const CANCEL_REQUEST: u32 = code(1234, 5678);
/// Protocol version 3.0.
pub const VERSION_3_0: u32 = code(3, 0);
/// Protocol version 3.2 (Postgres 18): longer keys to cancel with.
pub const VERSION_3_2: u32 = code(3, 2);

/// The newest minor version that is spoken.
pub const NEWEST_MINOR: u16 = 2;

/// The longest secret of a cancel request, in bytes (version 3.2).
const SECRET_LIMIT: usize = 256;

const fn code(major: u32, minor: u32) -> u32 {
    (major << 16) | minor
}

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The client wants TLS: one byte is the answer, `S` or `N`.
    Ssl,
    /// The client wants GSSAPI encryption.
    Gss,
    /// Somebody wants what runs under this key to be cancelled.
    Cancel {
        /// The process that BackendKeyData named.
        process: u32,
        /// The secret that it named.
        secret: Vec<u8>,
    },
    /// A session begins.
    Session(Startup),
}

/// A startup message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The minor version that was asked for; the major one is 3.
    pub minor: u16,
    /// The parameters, in their order.
    pub parameters: Parameters,
}

/// Names and values of a startup message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The value of `name`; the last one where there are several, as in Postgres.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut with_name = self.0.iter().rev().filter(|(known, _)| known == name);
        with_name.next().map(|(_, value)| value.as_str())
    }

    /// All, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Options of the protocol itself (`_pq_.…`) that were asked for.
    pub fn protocol_options(&self) -> impl Iterator<Item = &str> {
        self.iter()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("_pq_."))
    }
}

impl FromIterator<(String, String)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// Why a first packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length is impossible: this is another protocol, or nonsense.
    #[error("invalid length of startup packet")]
    Length,
    /// A version that is not spoken, major and minor.
    #[error("unsupported frontend protocol {0}.{1}: server supports 3.0 to 3.2")]
    Version(u16, u16),
    /// The parameters are not pairs of texts with an end.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// A text is not UTF-8: such names exist in no catalogue that we could look them up in.
    #[error("startup packet is not in UTF-8")]
    Encoding,
}

/// The first packet at the start of `bytes` and its length; none while it is not complete.
///
/// # Errors
/// [`StartupError`], as soon as it is certain.
pub fn look(bytes: &[u8]) -> Result<Option<(Opening, usize)>, StartupError> {
    let Some((length, rest)) = number(bytes) else {
        return Ok(None);
    };
    let length = length as usize;
    if !(8..=LIMIT).contains(&length) {
        return Err(StartupError::Length);
    }
    let Some(packet) = rest.get(..length - 4) else {
        return Ok(None);
    };
    let (version, body) = number(packet).ok_or(StartupError::Length)?;
    let opening = match version {
        SSL_REQUEST if body.is_empty() => Opening::Ssl,
        GSS_REQUEST if body.is_empty() => Opening::Gss,
        CANCEL_REQUEST => cancel(body)?,
        SSL_REQUEST | GSS_REQUEST => return Err(StartupError::Length),
        _ => Opening::Session(session(version, body)?),
    };
    Ok(Some((opening, length)))
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number), rest))
}

fn cancel(body: &[u8]) -> Result<Opening, StartupError> {
    let (process, secret) = number(body).ok_or(StartupError::Length)?;
    if secret.is_empty() || secret.len() > SECRET_LIMIT {
        return Err(StartupError::Length);
    }
    Ok(Opening::Cancel {
        process,
        secret: secret.to_vec(),
    })
}

fn session(version: u32, body: &[u8]) -> Result<Startup, StartupError> {
    let (major, minor) = ((version >> 16) as u16, version as u16);
    if major != 3 {
        return Err(StartupError::Version(major, minor));
    }
    let mut parameters = Vec::new();
    let mut rest = body;
    loop {
        let (name, after) = text(rest).ok_or(StartupError::Layout)?;
        if name.is_empty() {
            // What follows the end is as much nonsense as no end.
            return if after.is_empty() {
                Ok(Startup {
                    minor,
                    parameters: Parameters(parameters),
                })
            } else {
                Err(StartupError::Layout)
            };
        }
        let (value, after) = text(after).ok_or(StartupError::Layout)?;
        let owned = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).map_err(|_| StartupError::Encoding)?;
            Ok(text.to_owned())
        };
        parameters.push((owned(name)?, owned(value)?));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = (8 + body.len() as u32).to_be_bytes().to_vec();
        bytes.extend(version.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn first_packets_are_told_apart() {
        let check = |bytes: &[u8], expected: Result<Opening, StartupError>| {
            let found = look(bytes).map(|found| found.expect("complete"));
            assert_eq!(found, expected.map(|one| (one, bytes.len())), "{bytes:?}");
            for cut in 0..bytes.len() {
                let early = look(&bytes[..cut]);
                assert!(matches!(early, Ok(None) | Err(_)), "{cut} of {bytes:?}");
            }
        };
        let session = |minor, pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(a, b)| ((*a).into(), (*b).into()));
            Ok(Opening::Session(Startup {
                minor,
                parameters: pairs.collect(),
            }))
        };
        check(&packet(SSL_REQUEST, b""), Ok(Opening::Ssl));
        check(&packet(GSS_REQUEST, b""), Ok(Opening::Gss));
        check(&packet(SSL_REQUEST, b"x"), Err(StartupError::Length));
        let cancel = |process, secret: &[u8]| {
            let secret = secret.to_vec();
            Ok(Opening::Cancel { process, secret })
        };
        check(
            &packet(CANCEL_REQUEST, b"\0\0\x01\x02abcd"),
            cancel(258, b"abcd"),
        );
        check(
            &packet(CANCEL_REQUEST, b"\0\0\x01\x02"),
            Err(StartupError::Length),
        );
        check(&packet(VERSION_3_0, b"\0"), session(0, &[]));
        check(
            &packet(VERSION_3_2, b"user\0a\0database\0b\0user\0c\0\0"),
            session(2, &[("user", "a"), ("database", "b"), ("user", "c")]),
        );
        check(&packet(VERSION_3_0, b""), Err(StartupError::Layout));
        check(
            &packet(VERSION_3_0, b"user\0a\0"),
            Err(StartupError::Layout),
        );
        check(
            &packet(VERSION_3_0, b"user\0\0\0x"),
            Err(StartupError::Layout),
        );
        check(
            &packet(VERSION_3_0, b"user\0\xff\0\0"),
            Err(StartupError::Encoding),
        );
        check(&packet(code(2, 0), b""), Err(StartupError::Version(2, 0)));
        check(&packet(code(4, 1), b"\0"), Err(StartupError::Version(4, 1)));
        check(b"GET / HTTP/1.1\r\n\r\n", Err(StartupError::Length));
        check(&[0, 0, 0, 7, 0, 0, 0], Err(StartupError::Length));
    }

    #[test]
    fn the_last_of_equal_names_counts() {
        let bytes = packet(VERSION_3_0, b"user\0a\0_pq_.x\0yes\0user\0c\0\0");
        let Ok(Some((Opening::Session(startup), _))) = look(&bytes) else {
            panic!("a session");
        };
        assert_eq!(startup.parameters.get("user"), Some("c"));
        assert_eq!(startup.parameters.get("database"), None);
        let options: Vec<_> = startup.parameters.protocol_options().collect();
        assert_eq!(options, ["_pq_.x"]);
    }
}
