//! What a server stores of a password for SCRAM (RFC 5803, in Postgres' spelling).

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, hmac};
use outgrow_core::base64;
use outgrow_upstream::scram::{KEY_BYTES, Keys, NAME, Salt};

/// Longest salt in bytes. Postgres makes 16.
const LONGEST_SALT: usize = 1024;

/// Bytes of a salt that we make, as many as Postgres takes.
const SALT_BYTES: usize = 16;

/// Most iterations, as in Postgres.
const MOST_ITERATIONS: u32 = i32::MAX as u32;

/// A verifier: enough to know who has the password, not enough to be them.
#[derive(Clone)]
pub struct Verifier {
    salt: Salt,
    stored: [u8; KEY_BYTES],
    server: [u8; KEY_BYTES],
}

impl Verifier {
    /// That of a password, by the keys derived from it with this salt.
    pub fn of(keys: &Keys, salt: Salt) -> Self {
        Self {
            salt,
            stored: keys.stored(),
            server: *keys.server(),
        }
    }

    /// One that nobody can satisfy, for those who are not to learn that there is no user: the
    /// exchange with it is the same, its end is failure whatever comes.
    pub fn mock(salt: Salt) -> Self {
        Self {
            salt,
            stored: [0; KEY_BYTES],
            server: [0; KEY_BYTES],
        }
    }

    /// Whether a text begins as one.
    pub fn is_meant(text: &[u8]) -> bool {
        let rest = text.strip_prefix(NAME.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"$"))
    }

    /// Reads `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`.
    pub fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(NAME)?.strip_prefix('$')?;
        let (mixed, keys) = rest.split_once('$')?;
        let (iterations, salt) = mixed.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        if !iterations.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let iterations: NonZeroU32 = iterations.parse().ok()?;
        let salt = base64::decode(salt)?;
        let is_salt = (1..=LONGEST_SALT).contains(&salt.len());
        if !is_salt || iterations.get() > MOST_ITERATIONS {
            return None;
        }
        let key = |text| <[u8; KEY_BYTES]>::try_from(base64::decode(text)?).ok();
        Some(Self {
            salt: Salt {
                bytes: salt,
                iterations,
            },
            stored: key(stored)?,
            server: key(server)?,
        })
    }

    /// Its text, as [`Verifier::read`] reads it. For writing a list of users only.
    pub fn text(&self) -> String {
        let encode = base64::encode;
        format!(
            "{NAME}${}:{}${}:{}",
            self.salt.iterations,
            encode(&self.salt.bytes),
            encode(&self.stored),
            encode(&self.server)
        )
    }

    /// What the password is mixed with.
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// The key by which we prove to a client that we have the verifier.
    pub fn server_key(&self) -> &[u8; KEY_BYTES] {
        &self.server
    }

    /// The hash of the key that a client must have.
    pub fn stored_key(&self) -> &[u8; KEY_BYTES] {
        &self.stored
    }

    /// Whether these keys are those of its password, in a time that does not depend on where they
    /// differ.
    pub fn accepts(&self, keys: &Keys) -> bool {
        let is_same = |a: &[u8], b: &[u8]| constant_time::verify_slices_are_equal(a, b).is_ok();
        is_same(&keys.stored(), &self.stored) & is_same(keys.server(), &self.server)
    }
}

impl PartialEq for Verifier {
    /// In a time that does not depend on where the keys differ.
    fn eq(&self, other: &Self) -> bool {
        let is_same = |a: &[u8], b: &[u8]| constant_time::verify_slices_are_equal(a, b).is_ok();
        self.salt == other.salt
            && (is_same(&self.stored, &other.stored) & is_same(&self.server, &other.server))
    }
}

impl Eq for Verifier {}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Verifier(***)")
    }
}

/// The salt for a user of whom there is no verifier: always the same one for a name, and nobody
/// without the secret can tell it from one that was drawn. Whether the user is unknown or has a
/// plain password here makes no difference, so it tells nothing.
pub fn mock_salt(secret: &[u8; 32], user: &str, iterations: NonZeroU32) -> Salt {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, user.as_bytes());
    Salt {
        bytes: tag.as_ref()[..SALT_BYTES].to_vec(),
        iterations,
    }
}
