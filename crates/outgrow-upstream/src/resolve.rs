//! Names of endpoints: looked up on the control runtime, again and again, so that no request has
//! to wait for it.
//!
//! The system's resolver does not tell how long an answer is good, so every name is asked for at
//! the same interval. Names with a TTL of their own are the discovery room's.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::settings::Address;

use crate::registry::Registry;

/// From one look-up of a name to the next.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Most addresses of a name that are kept: more than are tried, as those that are in use are to be found
/// in each answer, in whatever order it comes.
const ADDRESS_LIMIT: usize = 64;

/// Longest time of one look-up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Resolves the names of all endpoints, at once when endpoints were added and then every
/// [`INTERVAL`]. A name that cannot be resolved keeps the addresses that it had. Runs until it is
/// dropped.
pub async fn run(registry: Arc<Registry>) {
    let mut changes = registry.changes();
    loop {
        changes.mark_unchanged();
        resolve_all(&registry).await;
        // The registry lives in this task too, so changes cannot end.
        let _ = tokio::time::timeout(INTERVAL, changes.changed()).await;
    }
}

async fn resolve_all(registry: &Registry) {
    let mut names: BTreeMap<Address, Vec<_>> = BTreeMap::new();
    for service in registry.services() {
        for endpoint in &service.endpoints().load().all {
            let address = endpoint.address();
            if matches!(address, Address::Tcp { .. }) && address.socket_address().is_none() {
                names
                    .entry(address.clone())
                    .or_default()
                    .push(Arc::clone(endpoint));
            }
        }
    }
    for (name, endpoints) in names {
        let found = tokio::time::timeout(TIMEOUT, look_up(&name)).await;
        if let Ok(Ok(addresses)) = found {
            for endpoint in endpoints {
                endpoint.set_socket_addresses(addresses.clone());
            }
        }
    }
}

/// The addresses of a TCP address whose host may be a name.
pub(crate) async fn look_up(address: &Address) -> io::Result<Vec<SocketAddr>> {
    match address {
        Address::Tcp { host, port } => {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await?;
            Ok(found.take(ADDRESS_LIMIT).collect())
        }
        Address::Unix(_) => Ok(Vec::new()),
    }
}
