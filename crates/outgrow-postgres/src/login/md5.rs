//! The MD5 login: md5(password, user) is stored, md5(that, salt) is sent.
//!
//! What is stored is enough to log in with, at every server that stores the same: so it is passed
//! on, and is kept like a password. Servers warn of it since version 18.

use std::fmt;

use aws_lc_rs::constant_time;
use md5::{Digest, Md5};

/// Random bytes in a server's question.
pub const SALT_BYTES: usize = 4;

/// Characters of a stored verifier and of an answer: `md5` and 32 digits.
pub const TEXT_BYTES: usize = 35;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// What is stored for a user: 32 digits.
#[derive(Clone)]
pub struct Hash([u8; 32]);

impl Hash {
    /// That of a password. The user's name is mixed in: a renamed user cannot log in any more.
    pub fn of(password: &[u8], user: &str) -> Self {
        Self(digits(&[password, user.as_bytes()]))
    }

    /// Reads a stored verifier: `md5` and 32 digits in lower case, as Postgres takes them.
    pub fn read(text: &[u8]) -> Option<Self> {
        let digits: [u8; 32] = text.strip_prefix(b"md5")?.try_into().ok()?;
        let is_digit = |digit: &u8| DIGITS.contains(digit);
        digits.iter().all(is_digit).then_some(Self(digits))
    }

    /// The verifier as it is stored.
    pub fn text(&self) -> [u8; TEXT_BYTES] {
        with_name(&self.0)
    }

    /// The answer to a server's question.
    pub fn answer(&self, salt: [u8; SALT_BYTES]) -> [u8; TEXT_BYTES] {
        with_name(&digits(&[&self.0, &salt]))
    }

    /// Whether this is the right answer to that question.
    pub fn accepts(&self, answer: &[u8], salt: [u8; SALT_BYTES]) -> bool {
        constant_time::verify_slices_are_equal(&self.answer(salt), answer).is_ok()
    }
}

impl PartialEq for Hash {
    /// In a time that does not depend on where they differ.
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Hash {}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hash(***)")
    }
}

fn digits(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    let mut digits = [0; 32];
    for (two, byte) in digits.chunks_exact_mut(2).zip(digest.finalize()) {
        two[0] = DIGITS[usize::from(byte >> 4)];
        two[1] = DIGITS[usize::from(byte & 15)];
    }
    digits
}

fn with_name(digits: &[u8; 32]) -> [u8; TEXT_BYTES] {
    let mut text = *b"md5                                ";
    text[3..].copy_from_slice(digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_postgres() {
        // The example of PgBouncer's manual, and what `md5sum` makes of its digits and the salt.
        let hash = Hash::of(b"1234", "admin");
        let text = b"md545f2603610af569b6155c45067268c6b";
        assert_eq!(&hash.text(), text);
        assert_eq!(Hash::read(text), Some(hash.clone()));
        let answer = hash.answer(*b"salt");
        assert_eq!(&answer, b"md5926bd9fd46d83f4c49abd41206a8e515");
        assert!(hash.accepts(&answer, *b"salt"));
        assert!(!hash.accepts(&answer, *b"salu"));
        assert!(!hash.accepts(&answer[..34], *b"salt"));
        assert!(!hash.accepts(b"", *b"salt"));
        assert_eq!(format!("{hash:?}"), "Hash(***)");
    }

    #[test]
    fn what_is_no_verifier_is_not_read() {
        for odd in [
            "",
            "md5",
            "md545f2603610af569b6155c45067268c6",
            "md545f2603610af569b6155c45067268c6bb",
            "md545F2603610AF569B6155C45067268C6B",
            "md545f2603610af569b6155c45067268c6g",
            "MD545f2603610af569b6155c45067268c6b",
        ] {
            assert_eq!(Hash::read(odd.as_bytes()), None, "{odd}");
        }
    }
}
