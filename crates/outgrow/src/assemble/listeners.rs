//! The listening sockets: the keeper owns them, the workers accept from them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use outgrow_core::Snapshot;
use outgrow_edge::{Edge, ListenerPlan, ListenerSlot};

/// Sockets by key, as they came from the keeper.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    held: BTreeMap<String, Vec<OwnedFd>>,
}

impl Sockets {
    /// Puts sockets in.
    pub(super) fn put(&mut self, key: String, sockets: Vec<OwnedFd>) {
        self.held.insert(key, sockets);
    }

    /// Whether there are sockets of that key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.held.contains_key(key)
    }

    /// Copies of the sockets; the originals stay for later.
    pub(super) fn copies(&self, key: &str) -> std::io::Result<Vec<OwnedFd>> {
        self.held
            .get(key)
            .into_iter()
            .flatten()
            .map(OwnedFd::try_clone)
            .collect()
    }

    /// Forgets sockets.
    pub(super) fn remove(&mut self, key: &str) {
        self.held.remove(key);
    }

    /// All keys.
    pub(super) fn keys(&self) -> Vec<String> {
        self.held.keys().cloned().collect()
    }
}

/// The key of a listener's sockets. The address alone: a listener that gets another name keeps
/// its sockets.
pub(super) fn key(address: &str) -> String {
    format!("listener {address}")
}

/// The key of the sockets of a Postgres listener.
pub(super) fn postgres_key(address: &str) -> String {
    format!("postgres {address}")
}

/// The key of the sockets of a listener whose protocol is not looked into.
pub(super) fn tcp_key(address: &str) -> String {
    format!("tcp {address}")
}

/// The key of the sockets of a listener of datagrams.
pub(super) fn udp_key(address: &str) -> String {
    format!("udp {address}")
}

/// The key of the admin listener's sockets.
pub(super) fn admin_key(address: &str) -> String {
    format!("admin {address}")
}

/// Whether the key is one of an admin listener.
pub(super) fn is_admin(key: &str) -> bool {
    key.starts_with("admin ")
}

/// The listeners that the workers accept from.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    slots: BTreeMap<String, ListenerSlot>,
}

impl Listeners {
    /// Brings the workers to accept for exactly `plans` (by key); returns the keys that are not
    /// needed any more.
    pub(super) async fn apply(
        &mut self,
        edge: &Edge,
        sockets: &Sockets,
        plans: BTreeMap<String, ListenerPlan>,
    ) -> Result<Vec<String>, String> {
        let mut gone: Vec<String> = Vec::new();
        for key in self.slots.keys().filter(|key| !plans.contains_key(*key)) {
            gone.push(key.clone());
        }
        for (key, plan) in plans {
            if let Some(slot) = self.slots.get(&key) {
                slot.publish(Arc::new(plan));
                continue;
            }
            let slot = Arc::new(Snapshot::new(plan));
            let copies = sockets
                .copies(&key)
                .map_err(|error| format!("{key}: {error}"))?;
            edge.listen(&key, copies, &slot).await;
            self.slots.insert(key, slot);
        }
        for key in &gone {
            edge.unlisten(key).await;
            self.slots.remove(key);
        }
        Ok(gone)
    }
}
