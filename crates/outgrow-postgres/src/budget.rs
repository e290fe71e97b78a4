//! Budgets: limits over several pools and workers (connections of a database or user, clients).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Of {
    /// Connections to servers for a database.
    DatabaseServers(Box<str>),
    /// Connections to servers for a user.
    UserServers(Box<str>),
    /// Clients of a database.
    DatabaseClients(Box<str>),
    /// Clients of a user.
    UserClients(Box<str>),
    /// Clients from an address.
    AddressClients(IpAddr),
    /// All clients.
    Clients,
}

/// One count.
#[derive(Debug, Default)]
pub(crate) struct Budget(AtomicU32);

impl Budget {
    /// How much is used.
    pub(crate) fn used(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes one of `limit`; 0 is no limit.
    pub(crate) fn take(self: &Arc<Self>, limit: u32) -> Option<Share> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let share = Share(Arc::clone(self));
        (limit == 0 || before < limit).then_some(share)
    }
}

/// One that was taken; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share(Arc<Budget>);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All counts. Those that nobody uses are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Budgets(Mutex<HashMap<Of, Arc<Budget>>>);

/// How many counts there are before unused ones are looked for.
const SWEEP_ABOVE: usize = 1024;

impl Budgets {
    /// The count of something.
    pub(crate) fn of(&self, what: Of) -> Arc<Budget> {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if budgets.len() > SWEEP_ABOVE {
            budgets.retain(|_, budget| Arc::strong_count(budget) > 1);
        }
        Arc::clone(budgets.entry(what).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_holds() {
        let budgets = Budgets::default();
        let clients = budgets.of(Of::Clients);
        let one = clients.take(2);
        let two = clients.take(2);
        assert!(one.is_some() && two.is_some());
        assert!(budgets.of(Of::Clients).take(2).is_none());
        assert_eq!(clients.used(), 2, "a refusal leaves nothing behind");
        drop(one);
        assert!(clients.take(2).is_some());
        assert!(clients.take(0).is_some());
        drop(two);
        assert_eq!(clients.used(), 0);
    }
}
