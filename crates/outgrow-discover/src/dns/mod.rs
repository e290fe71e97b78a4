//! Names: A and AAAA, or SRV, asked for again when their time to live is over.
//!
//! An own stub resolver: the system's does not tell times to live, and the libraries that do bring
//! a tree of dependencies for recursion, caches and transports that nobody here needs. Pure parts:
//! `message` and `answer`. `client` asks servers, here is the driver.

mod answer;
mod client;
#[cfg(test)]
mod live;
mod lookup;
mod message;
mod servers;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use outgrow_core::Random;

use crate::backoff::Backoff;
use crate::discovery::{Reporter, Surroundings};
use crate::settings::{DiscoverSettings, Name};

use self::client::Client;
use self::lookup::{LookUp, LookedUp};

/// The system's list of servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Most bytes of it that are read.
const RESOLV_CONF_BYTES: usize = 64 * 1024;

/// Looks the name up until it is dropped.
pub(crate) async fn run(
    name: Name,
    settings: &DiscoverSettings,
    surroundings: Surroundings,
    reporter: Reporter,
) {
    let mut random = Random::from_system();
    let mut backoff = Backoff::default();
    let mut client = Client::new(settings.timeout);
    let mut look_up = LookUp::default();
    loop {
        let wait = match round(&name, settings, surroundings, &mut client, &mut look_up).await {
            Ok(answer) if reporter.answered(answer.discovered.clone()) => {
                backoff.succeeded();
                let ttl = Duration::from_secs(answer.ttl.unwrap_or(0).into());
                let wait = ttl.clamp(settings.ttl_min, settings.ttl_max);
                // Not all edges at the same moment.
                Some(wait.mul_f64(1.0 - random.unit() / 10.0))
            }
            Ok(_) => None,
            Err(problem) => {
                reporter.failed(&problem);
                None
            }
        };
        let wait = wait.unwrap_or_else(|| backoff.failed(&mut random).max(settings.ttl_min / 2));
        tokio::time::sleep(wait).await;
    }
}

async fn round(
    name: &Name,
    settings: &DiscoverSettings,
    surroundings: Surroundings,
    client: &mut Client,
    look_up: &mut LookUp,
) -> Result<LookedUp, String> {
    client.set_servers(servers(settings, surroundings).await?);
    look_up.ask(client, name).await
}

async fn servers(
    settings: &DiscoverSettings,
    surroundings: Surroundings,
) -> Result<Vec<std::net::SocketAddr>, String> {
    if !settings.nameservers.is_empty() {
        let addresses = settings.nameservers.iter();
        return Ok(addresses.filter_map(|one| one.socket_address()).collect());
    }
    // It changes with the network, so it is read each time.
    let text = surroundings
        .read(PathBuf::from(RESOLV_CONF), RESOLV_CONF_BYTES)
        .await
        .map_err(|error| format!("{RESOLV_CONF}: {error}"))?;
    let servers = servers::of_resolv_conf(&String::from_utf8_lossy(&text));
    if servers.is_empty() {
        return Err(format!("{RESOLV_CONF} names no server"));
    }
    Ok(servers)
}
