//! The listening sockets: the keeper owns them, the workers accept from them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use outgrow_core::Snapshot;
use outgrow_edge::{AltSvc, Edge, ListenerPlan, ListenerSlot};

use super::alt_svc::CLEAR;

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
        let held = self.held.get(key);
        // Nobody would hear a listener without any.
        let held = held.ok_or_else(|| std::io::Error::other("there are no sockets"))?;
        held.iter().map(OwnedFd::try_clone).collect()
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

/// The key of the sockets of a listener's HTTP/3.
pub(super) fn quic_key(address: &str) -> String {
    format!("quic {address}")
}

/// The key of the admin listener's sockets.
pub(super) fn admin_key(address: &str) -> String {
    format!("admin {address}")
}

/// Whether the key is one of a listener's HTTP/3.
pub(super) fn is_quic(key: &str) -> bool {
    key.starts_with("quic ")
}

/// Whether the key is one of an admin listener.
pub(super) fn is_admin(key: &str) -> bool {
    key.starts_with("admin ")
}

/// The listeners that the workers accept from.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    slots: BTreeMap<String, ListenerSlot>,
    /// Those that speak HTTP/3, by the key of its sockets.
    quic: BTreeMap<String, ListenerSlot>,
    /// What connections of listeners that are gone tell of HTTP/3: the same address may come again.
    gone: BTreeMap<String, Arc<AltSvc>>,
}

/// What a listener is to do.
pub(super) struct Wanted {
    pub(super) plan: ListenerPlan,
    /// If it speaks HTTP/3.
    pub(super) quic: Option<WantedQuic>,
}

/// A listener's HTTP/3.
pub(super) struct WantedQuic {
    /// The key of its sockets.
    pub(super) key: String,
    /// What clients are told where the sockets cannot be had.
    pub(super) without: Option<Box<str>>,
}

impl Listeners {
    /// Whether workers accept from the sockets of this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.slots.contains_key(key) || self.quic.contains_key(key)
    }

    /// Whether HTTP/3 is spoken at the sockets of this key.
    pub(super) fn has_quic(&self, key: &str) -> bool {
        self.quic.contains_key(key)
    }

    /// Brings the workers to accept for exactly `plans` (by key), as far as sockets can be had; returns
    /// what cannot. It is tried again the next time.
    pub(super) async fn apply(
        &mut self,
        edge: &Edge,
        sockets: &Sockets,
        plans: BTreeMap<String, Wanted>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        let copies = |key: &str| {
            let copies = sockets.copies(key);
            copies.map_err(|error| format!("{key}: {error}"))
        };
        let mut gone: Vec<String> = Vec::new();
        for key in self.slots.keys().filter(|key| !plans.contains_key(*key)) {
            gone.push(key.clone());
        }
        let mut quic = BTreeMap::new();
        for (key, wanted) in plans {
            let (mut plan, wanted) = (wanted.plan, wanted.quic);
            // Before clients are told of it. No more are needed where it is heard already.
            let quic_copies = match &wanted {
                Some(wanted) if !self.quic.contains_key(&wanted.key) => copies(&wanted.key),
                _ => Ok(Vec::new()),
            };
            let wanted = match quic_copies {
                Ok(copies) => wanted.map(|wanted| (wanted.key, copies)),
                Err(problem) => {
                    problems.push(problem);
                    plan.alt_svc = AltSvc::new(wanted.and_then(|wanted| wanted.without));
                    None
                }
            };
            let slot = match self.slots.get(&key) {
                Some(slot) => {
                    plan.alt_svc = slot.load().alt_svc.replaced_by(plan.alt_svc);
                    slot.publish(Arc::new(plan));
                    Arc::clone(slot)
                }
                None => {
                    let copies = match copies(&key) {
                        Ok(copies) => copies,
                        Err(problem) => {
                            problems.push(problem);
                            continue;
                        }
                    };
                    if let Some(last) = self.gone.remove(&key) {
                        plan.alt_svc = last.replaced_by(plan.alt_svc);
                    }
                    let slot = Arc::new(Snapshot::new(plan));
                    edge.listen(&key, copies, &slot).await;
                    self.slots.insert(key, Arc::clone(&slot));
                    slot
                }
            };
            if let Some((quic_key, copies)) = wanted {
                edge.listen(&quic_key, copies, &slot).await;
                quic.insert(quic_key, slot);
            }
        }
        for key in self.quic.keys().filter(|key| !quic.contains_key(*key)) {
            edge.unlisten(key).await;
        }
        self.quic = quic;
        for key in &gone {
            edge.unlisten(key).await;
            if let Some(slot) = self.slots.remove(key) {
                // Its connections go on, and HTTP/3 is no longer there.
                let mut alt_svc = Arc::clone(&slot.load().alt_svc);
                if alt_svc.now().is_some() {
                    alt_svc = alt_svc.replaced_by(AltSvc::new(Some(CLEAR.into())));
                }
                self.gone.insert(key.clone(), alt_svc);
            }
        }
        // Of the others no connection is left.
        self.gone.retain(|_, last| Arc::strong_count(last) > 1);
        problems
    }
}

#[cfg(test)]
mod tests;
