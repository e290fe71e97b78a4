//! What can be told about the pools, for people and programs.

use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;

use crate::control::Counted;
use crate::numbers::Numbers;
use crate::pool::{Load, Pool};
use crate::settings::PoolMode;
use crate::shared::Shared;
use crate::standing::{Lsn, Role};

/// One pool.
#[derive(Clone, Debug)]
pub struct PoolState {
    /// The database, as clients call it.
    pub database: String,
    /// The user on the server.
    pub user: String,
    /// The replica that it is for; none: the primary.
    pub replica: Option<String>,
    /// How connections are lent.
    pub mode: PoolMode,
    /// Most connections.
    pub size: u32,
    /// Clients that are logged in.
    pub clients: u32,
    /// Connections that nobody uses.
    pub idle: u32,
    /// Connections that are lent.
    pub lent: u32,
    /// Connections that are being made.
    pub coming: u32,
    /// Clients that wait for one.
    pub waiting: u32,
    /// How long the first of them has waited.
    pub waits_since: Duration,
    /// Clients that listen on the shared connection.
    pub listeners: u32,
    /// The channels on which it listens.
    pub channels: u32,
    /// Its lanes, one at least, the first one first.
    pub lanes: Vec<LaneState>,
    /// Connections that went from one lane to another.
    pub moved_connections: u64,
    /// Clients that did.
    pub moved_clients: u64,
    numbers: Counted,
}

/// One lane of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneState {
    /// The worker that has it.
    pub worker: usize,
    /// Clients that are logged in.
    pub clients: u32,
    /// Clients that wait for a connection.
    pub waiting: u32,
    /// Connections that nobody uses.
    pub idle: u32,
    /// Connections that are lent.
    pub lent: u32,
    /// Connections that are being made.
    pub coming: u32,
}

impl LaneState {
    fn of(lane: &Pool) -> (Self, Load) {
        let load = lane.load();
        let state = Self {
            worker: lane.worker,
            clients: load.clients,
            waiting: load.waiting,
            idle: load.idle,
            lent: load.lent,
            coming: load.coming,
        };
        (state, load)
    }
}

impl PoolState {
    /// What is counted.
    pub fn numbers(&self) -> &Numbers {
        self.numbers.get()
    }
}

/// One server of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// Its service.
    pub service: String,
    /// Its address.
    pub address: String,
    /// What it is; none while it is not known.
    pub role: Option<Role>,
    /// How far it has come.
    pub lsn: Lsn,
    /// The timeline that it writes or follows.
    pub timeline: u32,
    /// How long ago the primary was where it is now.
    pub lag: Option<Duration>,
}

impl Shared {
    /// The pools, by database and user.
    pub fn pool_states(&self, now: Ticks) -> Vec<PoolState> {
        let pools = self.pools_with_lanes().into_iter();
        let states = pools.filter_map(|lanes| state(&lanes, now));
        let mut states: Vec<PoolState> = states.collect();
        states.sort_by(|one, other| {
            let key = |state: &PoolState| {
                (
                    state.database.clone(),
                    state.user.clone(),
                    state.replica.clone(),
                )
            };
            key(one).cmp(&key(other))
        });
        states
    }

    /// The servers of services that have several.
    pub fn servers(&self, now: Ticks) -> Vec<ServerState> {
        let plan = self.plan.load();
        let mut states = Vec::new();
        for service in plan.services(|_| true) {
            let set = service.endpoints().load();
            if set.all.len() < 2 {
                continue;
            }
            let known = set
                .all
                .iter()
                .map(|endpoint| (endpoint, self.standings.of(endpoint)));
            let known: Vec<_> = known.collect();
            let primary = known
                .iter()
                .find(|(_, standing)| standing.role() == Some(Role::Primary));
            for (endpoint, standing) in &known {
                let lag = primary.map(|(_, primary)| primary.lag_of(standing.lsn(), now));
                states.push(ServerState {
                    service: service.name().to_owned(),
                    address: endpoint.label().to_owned(),
                    role: standing.role(),
                    lsn: standing.lsn(),
                    timeline: standing.timeline(),
                    lag: lag.filter(|_| standing.role() == Some(Role::Replica)),
                });
            }
        }
        states
    }
}

fn state(lanes: &[Arc<Pool>], now: Ticks) -> Option<PoolState> {
    let numbers = Counted::of(lanes)?;
    let pool = lanes.first()?;
    let home = pool.lanes.home;
    let (mut all, loads): (Vec<_>, Vec<_>) = lanes.iter().map(|lane| LaneState::of(lane)).unzip();
    all.sort_by_key(|lane| (lane.worker != home, lane.worker));
    let load = loads.into_iter().fold(Load::default(), Load::with);
    let plan = pool.plan();
    let listening = pool.hub.counts();
    let endpoints = plan.database.service.endpoints().load();
    let replica = pool.endpoint.map(|own| {
        let endpoint = endpoints.all.iter().find(|one| one.id() == own);
        endpoint.map_or_else(|| "gone".to_owned(), |one| one.label().to_owned())
    });
    Some(PoolState {
        database: pool.database.to_string(),
        user: pool.user.to_string(),
        replica,
        mode: plan.mode,
        size: plan.limits.size,
        clients: load.clients,
        idle: load.idle,
        lent: load.lent,
        coming: load.coming,
        waiting: load.waiting,
        waits_since: load
            .waiting_since
            .map_or(Duration::ZERO, |since| now.since(since)),
        listeners: listening.listeners as u32,
        channels: listening.channels as u32,
        lanes: all,
        moved_connections: pool.lanes.moved_connections.get(),
        moved_clients: pool.lanes.moved_clients.get(),
        numbers,
    })
}
