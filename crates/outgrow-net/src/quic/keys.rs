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
