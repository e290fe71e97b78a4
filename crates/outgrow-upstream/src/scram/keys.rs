//! The keys that stand for a password (RFC 5802 section 3).

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};

use super::prepare;

/// Bytes of a key, a signature and a proof.
pub const KEY_BYTES: usize = 32;

/// What is mixed into a password: the same for everybody who derives the same keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salt {
    /// Random bytes that the verifier was made with. Not a secret.
    pub bytes: Vec<u8>,
    /// How often the hash is taken. Postgres has 4096.
    pub iterations: NonZeroU32,
}

/// What one needs to log in, and to know the server again, without the password.
#[derive(Clone)]
pub struct Keys {
    client: [u8; KEY_BYTES],
    server: [u8; KEY_BYTES],
}

impl Keys {
    /// Derives them from a password. Takes about half a microsecond for each iteration.
    pub fn derive(password: &[u8], salt: &Salt) -> Self {
        let mut salted = [0; KEY_BYTES];
        let way = pbkdf2::PBKDF2_HMAC_SHA256;
        let password = prepare(password);
        pbkdf2::derive(way, salt.iterations, &salt.bytes, &password, &mut salted);
        Self {
            client: sign(&salted, &[b"Client Key"]),
            server: sign(&salted, &[b"Server Key"]),
        }
    }

    /// The keys themselves: what a client has proven to know, and what a verifier holds.
    pub fn new(client: [u8; KEY_BYTES], server: [u8; KEY_BYTES]) -> Self {
        Self { client, server }
    }

    /// The key of which a client proves that it has it. As good as a password at servers whose
    /// verifier has the same salt.
    pub fn client(&self) -> &[u8; KEY_BYTES] {
        &self.client
    }

    /// The key by which a server proves that it has the verifier.
    pub fn server(&self) -> &[u8; KEY_BYTES] {
        &self.server
    }

    /// What a verifier holds of the client's key: its hash.
    pub fn stored(&self) -> [u8; KEY_BYTES] {
        stored(&self.client)
    }
}

impl PartialEq for Keys {
    /// In a time that does not depend on where they differ.
    fn eq(&self, other: &Self) -> bool {
        let is_same = |a, b| constant_time::verify_slices_are_equal(a, b).is_ok();
        is_same(&self.client, &other.client) & is_same(&self.server, &other.server)
    }
}

impl Eq for Keys {}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Keys(***)")
    }
}

/// The hash of a client's key.
pub(super) fn stored(client: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key.copy_from_slice(digest::digest(&digest::SHA256, client).as_ref());
    key
}

/// HMAC-SHA-256 over the parts, one after the other.
pub fn sign(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; KEY_BYTES] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    let mut signature = [0; KEY_BYTES];
    signature.copy_from_slice(context.sign().as_ref());
    signature
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_core::base64;

    /// The example of RFC 7677 section 3, whose user has a name.
    #[test]
    fn the_example_of_the_rfc() {
        let salt = Salt {
            bytes: base64::decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
            iterations: NonZeroU32::new(4_096).unwrap(),
        };
        let keys = Keys::derive(b"pencil", &salt);
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signed = format!(
            "n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,\
             r={nonce}"
        );
        let server = sign(keys.server(), &[signed.as_bytes()]);
        assert_eq!(
            base64::encode(&server),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
        let client = sign(&keys.stored(), &[signed.as_bytes()]);
        let proof: Vec<u8> = (0..KEY_BYTES)
            .map(|at| client[at] ^ keys.client()[at])
            .collect();
        assert_eq!(
            base64::encode(&proof),
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
    }

    #[test]
    fn keys_are_not_shown() {
        let keys = Keys::new([7; 32], [8; 32]);
        assert_eq!(format!("{keys:?}"), "Keys(***)");
        assert_eq!(keys, keys.clone());
        assert_ne!(keys, Keys::new([7; 32], [9; 32]));
        assert_ne!(keys, Keys::new([6; 32], [8; 32]));
    }
}
