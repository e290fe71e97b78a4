//! What is stored of a user: a password, or a verifier of it.

use std::fmt;

use std::sync::Arc;

use aws_lc_rs::constant_time;
use outgrow_upstream::scram::{Memory, NAME};

use super::md5;
use super::scram::Verifier;

/// Longest password in bytes: what fits into the longest message of a login that Postgres reads.
pub const LONGEST_PASSWORD: usize = 65_535;

/// What is stored of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// The password itself. Good for every kind of login, at both sides.
    Plain(Arc<Password>),
    /// An MD5 verifier. Servers that have the same one take it from us.
    Md5(md5::Hash),
    /// A SCRAM verifier. It alone is of no use at servers: see
    /// [`Credential::Scram`](super::Credential::Scram).
    Scram(Arc<Verifier>),
}

impl Secret {
    /// Reads a stored text, told apart as Postgres does. An empty one is none: its user cannot log
    /// in with a password.
    pub fn read(text: &[u8]) -> Result<Option<Self>, SecretProblem> {
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(hash) = md5::Hash::read(text) {
            return Ok(Some(Self::Md5(hash)));
        }
        if Verifier::is_meant(text) {
            let verifier = std::str::from_utf8(text).ok().and_then(Verifier::read);
            let verifier = verifier.ok_or(SecretProblem::BadVerifier)?;
            return Ok(Some(Self::Scram(Arc::new(verifier))));
        }
        Password::new(text).map(|password| Some(Self::Plain(Arc::new(password))))
    }

    /// Its text, as [`Secret::read`] reads it. For writing a list of users only.
    pub fn text(&self) -> Vec<u8> {
        match self {
            Self::Plain(password) => password.expose().to_vec(),
            Self::Md5(hash) => hash.text().to_vec(),
            Self::Scram(verifier) => verifier.text().into_bytes(),
        }
    }
}

/// A password, with what was derived from it for the next time.
pub struct Password {
    bytes: Vec<u8>,
    pub(super) memory: Memory,
}

impl Password {
    /// Takes it: 1 to [`LONGEST_PASSWORD`] bytes in any encoding, without NUL, which ends texts in
    /// Postgres' protocol.
    pub fn new(bytes: &[u8]) -> Result<Self, SecretProblem> {
        if bytes.is_empty() {
            return Err(SecretProblem::Empty);
        }
        if bytes.len() > LONGEST_PASSWORD {
            return Err(SecretProblem::TooLong(bytes.len()));
        }
        if bytes.contains(&0) {
            return Err(SecretProblem::Nul);
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            memory: Memory::default(),
        })
    }

    /// The password itself, for comparing and sending only.
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }
}

impl PartialEq for Password {
    /// In a time that depends on the lengths only.
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.bytes, &other.bytes).is_ok()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(***)")
    }
}

/// Why a text cannot be a stored secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    /// Nothing in it.
    #[error("the password is empty")]
    Empty,
    /// It does not fit into a message.
    #[error("the password has {0} bytes, more than {LONGEST_PASSWORD}")]
    TooLong(usize),
    /// It cannot be sent.
    #[error("the password holds a NUL byte, which cannot be sent")]
    Nul,
    /// It begins like a SCRAM verifier and is none. Postgres would take it for a password, which
    /// nobody means.
    #[error("not a SCRAM verifier: expected `{NAME}$ITERATIONS:SALT$STOREDKEY:SERVERKEY`")]
    BadVerifier,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_apart_as_postgres_does() {
        let check = |text: &str, expected: &str| {
            let kind = match Secret::read(text.as_bytes()) {
                Ok(None) => "none".to_owned(),
                Ok(Some(secret)) => {
                    assert_eq!(secret.text(), text.as_bytes());
                    assert!(format!("{secret:?}").contains("***"), "{secret:?}");
                    match secret {
                        Secret::Plain(_) => "plain".to_owned(),
                        Secret::Md5(_) => "md5".to_owned(),
                        Secret::Scram(_) => "scram".to_owned(),
                    }
                }
                Err(problem) => problem.to_string(),
            };
            assert_eq!(kind, expected, "{text}");
        };
        check("", "none");
        check("foo", "plain");
        check("md5", "plain");
        check("md545f2603610af569b6155c45067268c6b", "md5");
        check("md545F2603610AF569B6155C45067268C6B", "plain");
        let key = "RukL0Xo3Ql/2F9FsD7mcQ3GATG2fD3PA71qY1JagGDs=";
        let scram = format!("SCRAM-SHA-256$4096:D76gvGUVj9Z4DNiGoabOBg==${key}:{key}");
        check(&scram, "scram");
        let bad = "not a SCRAM verifier: expected \
                   `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`";
        check(&scram[..scram.len() - 1], bad);
        check("SCRAM-SHA-256$", bad);
        check("SCRAM-SHA-256", "plain");
        check(
            "a\0b",
            "the password holds a NUL byte, which cannot be sent",
        );
        check(&"a".repeat(LONGEST_PASSWORD), "plain");
        let long = "the password has 65536 bytes, more than 65535";
        check(&"a".repeat(LONGEST_PASSWORD + 1), long);
    }

    #[test]
    fn passwords_in_other_encodings_are_taken() {
        let secret = Secret::read(b"caf\xe9").unwrap().unwrap();
        assert_eq!(secret.text(), b"caf\xe9");
    }
}
