//! Session tickets under keys that outlive a data process: whoever keeps the secrets (the keeper)
//! gives them to each new one, so that clients resume over an upgrade or a crash.
//!
//! A ticket is `name (16) | nonce (12) | AES-256-GCM-SIV of the session | tag (16)`; name and key
//! are derived from the secret by HKDF. Keys are forgotten by [`TicketKeys::rotate`], which is
//! what ends the life of a ticket.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use outgrow_core::Snapshot;
use outgrow_net::key_material::fill;
use rustls::server::ProducesTickets;

use crate::problem::TlsProblem;

const NAME_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
/// Sessions without client certificates take some hundred bytes; a longer ticket is not ours.
const TICKET_BYTES: usize = 4 * 1024;
/// The most secrets that are tried: the newest, the one before, and what a slow rotation leaves.
const SECRETS: usize = 4;

/// Random bytes from which the keys of tickets are derived. To be kept in memory only.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketSecret([u8; 32]);

impl TicketSecret {
    /// The secret that the bytes are; they must be of a cryptographic random generator.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret that a text in the configuration is.
    pub fn of_text(text: &str) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// A new secret of the system's random generator.
    pub fn random() -> Result<Self, TlsProblem> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TlsProblem::Unusable {
            detail: "the system gives no random bytes".to_owned(),
        })?;
        Ok(Self(bytes))
    }

    /// The bytes, for handing the secret on to another process of ours.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TicketSecret(..)")
    }
}

/// The keys that tickets are made and read with; shared by all listeners of a process.
#[derive(Debug)]
pub struct TicketKeys {
    /// Newest first.
    keys: Snapshot<Vec<TicketKey>>,
    lifetime_seconds: u32,
}

impl TicketKeys {
    /// Keys of `secrets`, newest first: the first makes tickets, all read them (four at most).
    /// With none, no tickets are given and no session is resumed.
    ///
    /// `lifetime` is what clients are told (capped at the 7 days of RFC 8446 section 4.6.1):
    /// how long a secret stays in the list after it was the first.
    pub fn new(secrets: &[TicketSecret], lifetime: Duration) -> Result<Arc<Self>, TlsProblem> {
        const WEEK_SECONDS: u64 = 7 * 24 * 3600;
        Ok(Arc::new(Self {
            keys: Snapshot::new(derive_all(secrets)?),
            lifetime_seconds: lifetime.as_secs().min(WEEK_SECONDS) as u32,
        }))
    }

    /// Replaces the secrets; tickets under a secret that is no longer there are worthless from
    /// now on, and their clients do a full handshake.
    pub fn rotate(&self, secrets: &[TicketSecret]) -> Result<(), TlsProblem> {
        self.keys.publish(Arc::new(derive_all(secrets)?));
        Ok(())
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        !self.keys.load().is_empty()
    }

    fn lifetime(&self) -> u32 {
        self.lifetime_seconds
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.load().first()?.seal(plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES {
            return None;
        }
        let (name, rest) = ticket.split_at_checked(NAME_BYTES)?;
        let keys = self.keys.load();
        keys.iter().find(|key| key.name == name)?.open(rest)
    }
}

struct TicketKey {
    name: [u8; NAME_BYTES],
    key: RandomizedNonceKey,
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TicketKey(..)")
    }
}

impl TicketKey {
    fn derive(secret: &TicketSecret) -> Option<Self> {
        let material = hkdf::Salt::new(hkdf::HKDF_SHA256, b"outgrow ticket").extract(&secret.0);
        let mut name = [0; NAME_BYTES];
        let mut key = [0; KEY_BYTES];
        fill(&material, b"name", &mut name)?;
        fill(&material, b"key", &mut key)?;
        Some(Self {
            name,
            key: RandomizedNonceKey::new(&AES_256_GCM_SIV, &key).ok()?,
        })
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(&self.name), &mut sealed)
            .ok()?;
        let mut ticket = Vec::with_capacity(NAME_BYTES + NONCE_LEN + sealed.len());
        ticket.extend_from_slice(&self.name);
        ticket.extend_from_slice(nonce.as_ref());
        ticket.extend_from_slice(&sealed);
        (ticket.len() <= TICKET_BYTES).then_some(ticket)
    }

    fn open(&self, rest: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let length = self
            .key
            .open_in_place(nonce, Aad::from(&self.name), &mut plain)
            .ok()?
            .len();
        plain.truncate(length);
        Some(plain)
    }
}

fn derive_all(secrets: &[TicketSecret]) -> Result<Vec<TicketKey>, TlsProblem> {
    secrets
        .iter()
        .take(SECRETS)
        .map(|secret| {
            TicketKey::derive(secret).ok_or_else(|| TlsProblem::Unusable {
                detail: "no key can be derived for session tickets".to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Arc<TicketKeys> {
        let secrets: Vec<_> = bytes.iter().map(|&b| TicketSecret::new([b; 32])).collect();
        TicketKeys::new(&secrets, Duration::from_secs(3600)).expect("keys")
    }

    #[test]
    fn a_ticket_is_read_as_long_as_its_secret_is_there() {
        let old = keys(&[1]);
        let ticket = old.encrypt(b"session").expect("sealed");
        assert_eq!(
            keys(&[2, 1]).decrypt(&ticket).as_deref(),
            Some(&b"session"[..])
        );
        assert_eq!(keys(&[2]).decrypt(&ticket), None);
        old.rotate(&[TicketSecret::new([3; 32])]).expect("rotated");
        assert_eq!(old.decrypt(&ticket), None);
        assert!(!keys(&[]).enabled());
    }

    #[test]
    fn nothing_but_a_ticket_of_ours_is_read() {
        let keys = keys(&[1]);
        let ticket = keys.encrypt(b"session").expect("sealed");
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(keys.decrypt(&forged), None, "byte {at}");
            assert_eq!(keys.decrypt(&ticket[..at]), None, "cut at {at}");
        }
        assert_eq!(keys.decrypt(&vec![0; TICKET_BYTES + 1]), None);
    }
}
