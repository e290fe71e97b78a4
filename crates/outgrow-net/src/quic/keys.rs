//! The keys that all data processes of a keeper share: of connection ids, so that each knows whose a
//! datagram is; of stateless resets, so that a client learns at once that its process is gone
//! (RFC 9000 section 10.3); of tokens, so that an address that one has verified is believed by all
//! (section 8.1).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::{hkdf, hmac};
use quinn::crypto::{HandshakeTokenKey, HmacKey};

use super::ids::Ids;
use crate::key_material::fill;

/// The keys.
pub struct Keys {
    pub(super) ids: Arc<Ids>,
    resets: hmac::Key,
    /// Of tokens, for the configuration of servers.
    pub token: Arc<dyn HandshakeTokenKey>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Keys(..)")
    }
}

impl Keys {
    /// Those that follow from a secret of 32 random bytes; none where the library refuses.
    pub fn derive(secret: &[u8; 32]) -> Option<Self> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"outgrow quic");
        let material = salt.extract(secret);
        let mut ids = [0; 16];
        fill(&material, b"connection ids", &mut ids)?;
        let mut reset = [0; 32];
        fill(&material, b"stateless resets", &mut reset)?;
        let mut token = [0; 32];
        fill(&material, b"tokens", &mut token)?;
        Some(Self {
            ids: Ids::new(&ids)?,
            resets: hmac::Key::new(hmac::HMAC_SHA256, &reset),
            token: Arc::new(salt.extract(&token)),
        })
    }

    /// The key of a listener's stateless resets. Each has its own: else one would tell the token by which
    /// connections of another can be ended (RFC 9000 section 21.11).
    pub(super) fn reset(&self, listener: &str) -> Arc<dyn HmacKey> {
        let key = hmac::sign(&self.resets, listener.as_bytes());
        Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(keys: &Keys, listener: &str) -> Vec<u8> {
        let key = keys.reset(listener);
        let mut token = vec![0; key.signature_len()];
        key.sign(&[9; 16], &mut token);
        token
    }

    /// What one listener tells of an id of another's does not end that one's connection.
    #[test]
    fn each_listener_has_resets_of_its_own_and_all_processes_the_same() {
        let keys = Keys::derive(&[7; 32]).expect("keys");
        let one = token(&keys, "udp:127.0.0.1:443");
        assert_ne!(one[..16], token(&keys, "udp:127.0.0.1:8443")[..16]);
        let next = Keys::derive(&[7; 32]).expect("keys");
        assert_eq!(one, token(&next, "udp:127.0.0.1:443"));
        let other = Keys::derive(&[8; 32]).expect("keys");
        assert_ne!(one[..16], token(&other, "udp:127.0.0.1:443")[..16]);
    }
}
