//! Cancelling: the key that a client was given leads to whatever server works for it at the moment,
//! and that server is not lent to anybody else until the request has been dealt with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use outgrow_core::random::system_bytes;
use outgrow_upstream::Endpoint;

use crate::encryption::Encryption;

/// What a client must name to cancel: a process number and a secret of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) process: u32,
    pub(crate) secret: u32,
}

/// The server that works for a client.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) process: u32,
    pub(crate) secret: Arc<[u8]>,
    /// Requests that are under way for this server.
    pub(crate) under_way: Arc<()>,
    /// How its session is encrypted, if it is.
    pub(crate) encryption: Option<Arc<Encryption>>,
}

impl Target {
    /// Whether a cancel request for this server is under way: each one holds a copy. To be asked of
    /// the server's own, when no client has one any more.
    pub(crate) fn is_being_cancelled(&self) -> bool {
        Arc::strong_count(&self.under_way) > 1
    }
}

/// A client as cancel requests see it.
#[derive(Debug)]
pub(crate) struct Cancellable {
    pub(crate) key: Key,
    target: Mutex<Option<Target>>,
}

impl Cancellable {
    /// Says which server works for the client.
    #[inline]
    pub(crate) fn set(&self, target: Option<Target>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// The server that works for it now.
    pub(crate) fn target(&self) -> Option<Target> {
        self.target
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// All clients by their keys.
#[derive(Debug, Default)]
pub(crate) struct Cancels(Mutex<HashMap<Key, Weak<Cancellable>>>);

impl Cancels {
    /// A new client.
    pub(crate) fn add(self: &Arc<Self>) -> Arc<Cancellable> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut bytes = [0; 8];
            system_bytes(&mut bytes);
            let [a, b, c, d, secret @ ..] = bytes;
            let key = Key {
                // Some clients take it for a signed number, some treat 0 as none.
                process: (u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff).max(1),
                secret: u32::from_be_bytes(secret),
            };
            if clients.contains_key(&key) {
                continue;
            }
            let client = Arc::new(Cancellable {
                key,
                target: Mutex::default(),
            });
            clients.insert(key, Arc::downgrade(&client));
            return client;
        }
    }

    /// Forgets a client.
    pub(crate) fn remove(&self, key: Key) {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.remove(&key);
    }

    /// The client with that key.
    pub(crate) fn find(&self, process: u32, secret: &[u8]) -> Option<Arc<Cancellable>> {
        let secret = u32::from_be_bytes(secret.try_into().ok()?);
        let clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.get(&Key { process, secret })?.upgrade()
    }
}
