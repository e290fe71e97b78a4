//! Making connections: which server, by its role, with what login, within which budgets.

use std::sync::{Arc, PoisonError};

use outgrow_core::{Cause, Fault, Phase, Sent, Ticks};
use outgrow_upstream::service::{Unavailable, Wish};
use outgrow_upstream::{Endpoint, EndpointId, Outcome, Permit, Service};

use crate::plan::{Hosts, PoolPlan};
use crate::pool::Pool;
use crate::seats::wait;
use crate::seen::ServerEntry;
use crate::server::Server;
use crate::server::open::{self, Failure, Making};
use crate::standing::{Report, Role, monitor};
use crate::variables::Welcome;
use crate::worker::{Worker, credential};

/// Makes a connection for a pool.
pub(crate) async fn make(worker: Arc<Worker>, pool: Arc<Pool>) {
    // Before the plan: what is made by an old one is never taken for new.
    let generation = pool.generation();
    let plan = pool.plan();
    let attempt = attempt(&worker, &pool, (&plan, generation), None).await;
    let now = worker.now();
    match attempt {
        Ok(Some((mut server, welcome))) => {
            server.idle_since = now;
            pool.arrive(server, welcome);
        }
        Ok(None) => pool.postpone(),
        Err(failure) => pool.fail(failure, now),
    }
}

/// Makes a connection for one client alone, with these parameters at its start.
pub(crate) async fn make_own(
    worker: &Arc<Worker>,
    pool: &Arc<Pool>,
    parameters: Vec<(String, String)>,
) -> Result<(Box<Server>, Welcome), Failure> {
    let generation = pool.generation();
    let plan = pool.plan();
    let made = attempt(worker, pool, (&plan, generation), Some(parameters)).await?;
    made.ok_or(Failure::Broken("there is no room for a connection"))
}

fn timed_out() -> Fault {
    Fault::upstream(Phase::Connect, Cause::ConnectTimeout, Sent::None)
}

type Made = Option<(Box<Server>, Welcome)>;

/// One connection, to a server of the role that the pool is for; with parameters it is one for a
/// client alone. None when there is no room for it at the moment, or no such server. What it takes
/// besides the wait for a seat is bounded.
async fn attempt(
    worker: &Arc<Worker>,
    pool: &Arc<Pool>,
    (plan, generation): (&PoolPlan, u64),
    parameters: Option<Vec<(String, String)>>,
) -> Result<Made, Failure> {
    let is_own = parameters.is_some();
    let parameters = parameters.unwrap_or_default();
    let mut left = plan.limits.connect;
    let asks = parameters.iter().find(|(name, _)| name == "replication");
    let replication = asks.map(|(_, value)| value.clone());
    let service = &plan.database.service;
    let set = service.endpoints().load();
    let mut refused = Vec::new();
    loop {
        let Some(shares) = worker.take_shares(plan, pool) else {
            return Ok(None);
        };
        let Some(permit) = choose(worker, pool, service, &set.all, &refused)? else {
            return Ok(None);
        };
        let endpoint = Arc::clone(permit.endpoint());
        let seating = worker.shared.seats.of(endpoint.label());
        let Some(seat) = wait::seat(worker, pool, plan, &seating, is_own).await else {
            return Ok(None);
        };
        let making = Making {
            entry: ServerEntry::new(
                &worker.shared,
                &pool.database,
                &pool.user,
                replication.clone(),
            ),
            plan,
            credential: credential(plan, pool),
            permit,
            shares,
            seat: Some(if is_own { seat.apart() } else { seat }),
            generation,
            worker: worker.index,
            standing: worker.shared.standings.of(&endpoint),
            parameters: plan
                .database
                .parameters
                .iter()
                .chain(&parameters)
                .cloned()
                .collect(),
            now: worker.now(),
        };
        let asked = worker.now();
        let opened = async {
            let (mut server, welcome) = open::open(making).await?;
            endpoint.report(Outcome::Success, worker.now());
            if !is_own {
                let learned = wait::learn(worker, plan, &seating, &mut server).await;
                learned.map_err(|_| Failure::Broken("the server ended the connection"))?;
            }
            if set.all.len() > 1 && plan.database.hosts == Hosts::ByRole {
                let role = learn_role(worker, &mut server, &welcome, &set.all, asked).await?;
                return Ok((server, welcome, pool.takes(role, endpoint.id())));
            }
            Ok((server, welcome, true))
        };
        let opened = tokio::time::timeout(left, opened).await;
        left = left.saturating_sub(worker.now().since(asked));
        match opened.unwrap_or_else(|_| Err(Failure::Connect(timed_out()))) {
            Ok((server, welcome, true)) => return Ok(Some((Box::new(server), welcome))),
            Ok(_) => refused.push(endpoint.id()),
            Err(failure) if left.is_zero() => return Err(failure),
            // Another one may have TLS as it should.
            Err(failure @ (Failure::Connect(_) | Failure::Tls(_))) => {
                let fault = match &failure {
                    Failure::Connect(fault) => *fault,
                    _ => Fault::upstream(Phase::Connect, Cause::ConnectFailed, Sent::None),
                };
                endpoint.report(Outcome::Fault(fault), worker.now());
                refused.push(endpoint.id());
                pool.note_bad_host();
                if plan.house.connects_singly || refused.len() >= set.usable.len() {
                    return Err(failure);
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// A permit of a server that may have the role that the pool is for.
fn choose(
    worker: &Worker,
    pool: &Pool,
    service: &Arc<Service>,
    all: &[Arc<Endpoint>],
    refused: &[EndpointId],
) -> Result<Option<Permit>, Failure> {
    let no_endpoint =
        || Failure::Connect(Fault::upstream(Phase::Admit, Cause::NoEndpoint, Sent::None));
    if let Some(own) = pool.endpoint {
        let endpoint = all
            .iter()
            .find(|one| one.id() == own && !refused.contains(&own));
        return Ok(endpoint.ok_or_else(no_endpoint)?.permit());
    }
    let hosts = pool.plan().database.hosts;
    if all.len() > 1 && hosts != Hosts::ByRole {
        let place = pool.next_host(hosts == Hosts::InTurn) % all.len();
        return Ok(all[place].permit());
    }
    if all.len() > 1 {
        let role = |endpoint: &Arc<Endpoint>| worker.shared.standings.of(endpoint).role();
        let usable = || {
            let mut usable = all.iter().filter(|one| one.is_usable());
            usable
                .by_ref()
                .filter(|one| !refused.contains(&one.id()))
                .collect::<Vec<_>>()
        };
        let known = usable()
            .into_iter()
            .find(|one| role(one) == Some(Role::Primary));
        let unknown = || usable().into_iter().find(|one| role(one).is_none());
        // What was a replica when it was asked last may be the primary by now.
        let replica = || {
            usable()
                .into_iter()
                .find(|one| role(one) == Some(Role::Replica))
        };
        let chosen = known.or_else(unknown).or_else(replica);
        return Ok(chosen.and_then(Endpoint::permit));
    }
    let mut view = service.view(0);
    let mut random = worker.random.lock().unwrap_or_else(PoisonError::into_inner);
    match service.choose(&mut view, worker.now(), &mut random, Wish::default()) {
        Ok(permit) => Ok(Some(permit)),
        Err(Unavailable::NoEndpoint) => Err(no_endpoint()),
        Err(Unavailable::Busy | Unavailable::Full(_)) => Ok(None),
    }
}

/// What a server is that was just connected to.
async fn learn_role(
    worker: &Worker,
    server: &mut Server,
    welcome: &Welcome,
    all: &[Arc<Endpoint>],
    asked: Ticks,
) -> Result<Role, Failure> {
    let endpoint = Arc::clone(server.endpoint());
    let standing = worker.shared.standings.of(&endpoint);
    match (welcome.get("in_hot_standby"), standing.role()) {
        // Reported since version 14; a primary may still be one that was replaced.
        (Some("on"), Some(Role::Replica)) => return Ok(Role::Replica),
        (Some("off"), Some(Role::Primary)) => return Ok(Role::Primary),
        _ => {}
    }
    let report: Report = monitor::ask(server)
        .await
        .map_err(|_| Failure::Broken("the server does not say whether it is the primary"))?;
    worker.shared.note_report(&endpoint, all, report, asked);
    Ok(standing.role().unwrap_or(Role::Fenced))
}
