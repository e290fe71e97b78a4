//! What a promotion looks at and does at servers and pools: the way from the machine to the world.
//! Not here: commands, which the binary runs.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use outgrow_upstream::{Endpoint, Service};
use tokio::time::timeout;

use super::{Seen, Sight};
use crate::inspect::connection::{self, Patience, Unmade};
use crate::login::Credential;
use crate::plan::PoolPlan;
use crate::pool::Pool;
use crate::server::Server;
use crate::shared::Shared;
use crate::standing::Role;
use crate::wire::{backend, read, write};

/// What the connection calls itself.
const APPLICATION: &str = "outgrow promotion";
/// How long the wait for room on a server may take.
const ROOM: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const ANSWER_LIMIT: usize = 16 * 1024;
/// How long a server may take to take the order to be the primary. To begin takes as long as it has
/// something to replay, and is not waited for.
const ORDER: Duration = Duration::from_secs(2);

/// An order to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Write down what is in memory; at most for so long.
    Checkpoint(Duration),
    /// Be the primary.
    Promote,
}

impl Shared {
    /// What is known of the servers of a service; none when nothing leads there.
    pub fn sight(&self, service: &str) -> Option<Sight> {
        let service = self.service(service)?;
        let set = service.endpoints().load();
        let servers = set.all.iter().map(|endpoint| self.seen_server(endpoint));
        let pools = self.pools_of_service(&service);
        Some(Sight {
            servers: servers.collect(),
            is_quiet: pools.iter().all(|pool| pool.load().lent == 0),
        })
    }

    fn service(&self, name: &str) -> Option<Arc<Service>> {
        let plan = self.plan.load();
        let mut services = plan.services(|_| true).into_iter();
        services.find(|service| service.name() == name).cloned()
    }

    fn seen_server(&self, endpoint: &Endpoint) -> Seen {
        let standing = self.standings.of(endpoint);
        let watched = standing.watched().clone();
        let role = standing.role();
        let lsn = standing.lsn();
        let (received, timeline) = match role {
            // What it replayed from an archive it has not received.
            Some(Role::Replica) => (watched.received.max(lsn), watched.timeline),
            _ => (lsn, standing.timeline()),
        };
        Seen {
            address: endpoint.label().to_owned(),
            role,
            timeline: timeline.max(standing.timeline()),
            received,
            replayed: lsn,
            heard: standing.asked(),
            failing: watched.failing,
            ended: standing.ended(),
            refuses: watched.refuses,
            synchronous: watched.synchronous,
            upstream: watched.upstream,
        }
    }

    fn pools_of_service(&self, service: &Arc<Service>) -> Vec<Arc<Pool>> {
        let mut pools = self.pools();
        pools.retain(|pool| Arc::ptr_eq(&pool.plan().database.service, service));
        pools
    }

    /// Has the servers of a service asked without a pause.
    pub fn look_soon(&self, service: &str) {
        let Some(service) = self.service(service) else {
            return;
        };
        for endpoint in &service.endpoints().load().all {
            self.standings.of(endpoint).alarm.ring();
        }
    }

    /// Lends no connections to the servers of a service until [`Shared::release`]: who wants one
    /// waits in line.
    pub fn hold(&self, service: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(service.to_owned());
        drop(held);
        let Some(service) = self.service(service) else {
            return;
        };
        for pool in self.pools_of_service(&service) {
            pool.pause();
        }
    }

    /// Lends them again, unless somebody else has paused the database.
    pub fn release(&self, service: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(service);
        drop(held);
        for pool in self.pools() {
            let is_of_it = pool.plan().database.service.name() == service;
            if is_of_it && !self.is_paused(&pool.database) {
                pool.resume();
            }
        }
    }

    /// Whether nothing is lent of a pool because the primary changes.
    pub(crate) fn is_held(&self, plan: &PoolPlan) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.contains(plan.database.service.name())
    }

    /// How the servers of a service are logged in to by who promotes.
    pub(crate) fn promotion_login(&self, service: &str) -> Option<(Arc<PoolPlan>, Credential)> {
        let plan = self.plan.load();
        let login = plan.promotions.get(service)?;
        Some((Arc::clone(&login.plan), login.credential.clone()))
    }

    /// Gives a server an order.
    ///
    /// # Errors
    /// What went wrong, for people. The order may have reached the server all the same.
    pub async fn order(&self, service: &str, address: &str, order: Order) -> Result<(), String> {
        let mut server = self.connect(service, address).await?;
        let (sql, limit) = match order {
            Order::Checkpoint(limit) => ("CHECKPOINT", limit),
            Order::Promote => ("SELECT pg_promote(false)", ORDER),
        };
        let mut out = Vec::new();
        write::query(&mut out, sql.as_bytes());
        let (mut refused, mut answer) = (None, None);
        let take = |tag, body: &[u8]| match tag {
            backend::ERROR_RESPONSE => {
                let problem = read::Problem::read(body);
                let text = String::from_utf8_lossy(problem.message).into_owned();
                refused.get_or_insert(text);
            }
            backend::DATA_ROW => {
                answer = read::columns::<1>(body).map(|[value]| value == Some(b"t"));
            }
            _ => {}
        };
        let said = timeout(limit, server.exchange(&out, ANSWER_LIMIT, take)).await;
        match said {
            Err(_) => return Err(format!("{sql}: no answer within {limit:?}")),
            Ok(Err(_)) => return Err(format!("{sql}: the connection was lost")),
            Ok(Ok(_)) => {}
        }
        match (refused, answer) {
            (Some(problem), _) => Err(format!("{sql}: {problem}")),
            (None, Some(false)) => Err(format!("{sql}: the server could not begin with it")),
            (None, _) => Ok(()),
        }
    }

    async fn connect(&self, service: &str, address: &str) -> Result<Server, String> {
        let login = self.promotion_login(service);
        let (plan, credential) = login.ok_or("there is no login for it")?;
        let set = plan.database.service.endpoints().load();
        let endpoint = set.all.iter().find(|one| one.label() == address).cloned();
        let endpoint = endpoint.ok_or_else(|| format!("there is no server {address} any more"))?;
        let worker = self.workers.get().and_then(|workers| workers.first());
        let worker = worker.ok_or("the workers have not started")?;
        let name = Some(APPLICATION);
        let made = connection::connect(worker, &plan, credential, &endpoint, name, Patience::Some);
        let made = timeout(ROOM + connection::CONNECT, made).await;
        made.unwrap_or(Err(Unmade::NoRoom))
            .map_err(|unmade| match unmade {
                Unmade::NoRoom => {
                    "there is no room for a connection (max_server_connections)".to_owned()
                }
                Unmade::Unusable => "its check fails".to_owned(),
                Unmade::Failed(failure) => format!("no connection: {}", failure.refusal().message),
            })
    }
}
