//! The client's two messages (RFC 5802 section 7), read as Postgres reads them: strictly, with
//! optional extensions ignored and mandatory ones refused.

use outgrow_core::base64;
use outgrow_upstream::scram::{END_POINT, KEY_BYTES};

use super::server::Problem;

/// What the client says about the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// `n`: it cannot bind.
    Unsupported,
    /// `y`: it could, and believes that we cannot.
    NotOffered,
    /// `p`: it binds to our certificate.
    EndPoint,
}

/// The client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct First {
    /// What counts as its header, which the last message repeats.
    pub(super) header: Vec<u8>,
    /// The rest, which is signed.
    pub(super) bare: Vec<u8>,
    pub(super) nonce: Vec<u8>,
}

/// The client's last message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Last<'a> {
    pub(super) channel: &'a [u8],
    pub(super) nonce: &'a [u8],
    /// What is signed.
    pub(super) without_proof: &'a [u8],
    pub(super) proof: [u8; KEY_BYTES],
}

impl First {
    /// Reads it. Which flags are right is not decided here, but in the moment when it is read:
    /// Postgres complains of the first thing that is wrong.
    pub(super) fn read(
        message: &[u8],
        check: impl Fn(Flag) -> Result<(), Problem>,
    ) -> Result<Self, Problem> {
        let mut rest = Rest(message);
        let flag = match rest.peek() {
            Some(b'n') => rest.skip(Flag::Unsupported),
            Some(b'y') => rest.skip(Flag::NotOffered),
            Some(b'p') => {
                check(Flag::EndPoint)?;
                let kind = rest.value(b'p')?;
                if kind != END_POINT.as_bytes() {
                    return Err(Problem::unknown_binding(kind));
                }
                // The comma after it is taken by `value`, and put back for the common path.
                rest.0 = &message[2 + kind.len()..];
                Flag::EndPoint
            }
            other => {
                let detail = format!("Unexpected channel-binding flag \"{}\".", shown(other));
                return Err(Problem::malformed(detail));
            }
        };
        check(flag)?;
        rest.comma()?;
        if rest.peek() == Some(b'a') {
            let text = "client uses authorization identity, but it is not supported";
            return Err(Problem::unsupported(text));
        }
        if rest.peek() != Some(b',') {
            let detail = format!(
                "Unexpected attribute \"{}\" in client-first-message.",
                shown(rest.peek())
            );
            return Err(Problem::malformed(detail));
        }
        rest.skip(());
        let bare = rest.0;
        if rest.peek() == Some(b'm') {
            let text = "client requires an unsupported SCRAM extension";
            return Err(Problem::unsupported(text));
        }
        // The name: that of the session counts.
        rest.value(b'n')?;
        let nonce = rest.value(b'r')?;
        if !nonce.iter().all(u8::is_ascii_graphic) {
            return Err(Problem::protocol("non-printable characters in SCRAM nonce"));
        }
        while rest.peek().is_some() {
            rest.any_value()?;
        }
        Ok(Self {
            header: message[..message.len() - bare.len()].to_vec(),
            bare: bare.to_vec(),
            nonce: nonce.to_vec(),
        })
    }
}

impl<'a> Last<'a> {
    /// Reads it.
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Problem> {
        let mut rest = Rest(message);
        let channel = rest.value(b'c')?;
        let nonce = rest.value(b'r')?;
        loop {
            let before = message.len() - rest.0.len();
            let (name, value) = rest.any_value()?;
            if name != b'p' {
                continue;
            }
            let proof = std::str::from_utf8(value)
                .ok()
                .and_then(base64::decode)
                .and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
            let Some(proof) = proof else {
                let detail = "Malformed proof in client-final-message.";
                return Err(Problem::malformed(detail.to_owned()));
            };
            // Postgres lets a last comma pass. It would be the one thing in a login that somebody
            // could put in unnoticed.
            if rest.peek().is_some() || message.ends_with(b",") {
                let detail = "Garbage found at the end of client-final-message.";
                return Err(Problem::malformed(detail.to_owned()));
            }
            return Ok(Self {
                channel,
                nonce,
                // Without the comma before the proof.
                without_proof: &message[..before - 1],
                proof,
            });
        }
    }
}

/// What was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn skip<T>(&mut self, value: T) -> T {
        self.0 = self.0.get(1..).unwrap_or_default();
        value
    }

    fn comma(&mut self) -> Result<(), Problem> {
        if self.peek() != Some(b',') {
            let found = shown(self.peek());
            let detail = format!("Comma expected, but found character \"{found}\".");
            return Err(Problem::malformed(detail));
        }
        self.skip(());
        Ok(())
    }

    /// The value of the attribute that must come next, and the comma after it.
    fn value(&mut self, name: u8) -> Result<&'a [u8], Problem> {
        if self.peek() != Some(name) {
            let (wanted, found) = (char::from(name), shown(self.peek()));
            let detail = format!("Expected attribute \"{wanted}\" but found \"{found}\".");
            return Err(Problem::malformed(detail));
        }
        Ok(self.any_value()?.1)
    }

    /// The next attribute with its value, and the comma after it.
    fn any_value(&mut self) -> Result<(u8, &'a [u8]), Problem> {
        let name = match self.peek() {
            Some(name) if name.is_ascii_alphabetic() => name,
            None => {
                let detail = "Attribute expected, but found end of string.";
                return Err(Problem::malformed(detail.to_owned()));
            }
            other => {
                let found = shown(other);
                let detail =
                    format!("Attribute expected, but found invalid character \"{found}\".");
                return Err(Problem::malformed(detail));
            }
        };
        self.skip(());
        if self.peek() != Some(b'=') {
            let name = char::from(name);
            let detail = format!("Expected character \"=\" for attribute \"{name}\".");
            return Err(Problem::malformed(detail));
        }
        self.skip(());
        let end = self.0.iter().position(|&byte| byte == b',');
        let (value, rest) = match end {
            None => (self.0, &[][..]),
            Some(end) => (&self.0[..end], &self.0[end + 1..]),
        };
        self.0 = rest;
        Ok((name, value))
    }
}

/// A byte as Postgres shows it.
fn shown(byte: Option<u8>) -> String {
    match byte {
        Some(byte) if byte.is_ascii_graphic() => format!("'{}'", char::from(byte)),
        other => format!("0x{:02x}", other.unwrap_or(0)),
    }
}
