//! A worker's look at its pools and records, about once a second: gathers the facts that the pure
//! rooms beside it judge.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_core::metrics::Counter;

use super::finding::{Finding, Kind, Origin};
use super::holders::{self, Holder, PoolUse, Reasons};
use super::routes::Shares;
use super::slow;
use super::statements::{Record, StatementState};
use super::watch::Phase;
use crate::numbers::Numbers;
use crate::pool::{Load, Pool};
use crate::seen::{ClientSeen, ServerSeen, ServerState};
use crate::settings::PoolMode;
use crate::shared::Shared;
use crate::sql::facts::Pins;
use crate::worker::Worker;

/// Turns of the wheel between two looks: about a second.
const LOOK_TURNS: u32 = 30;
/// Looks between two at slow statements: about ten seconds.
const SLOW_LOOKS: u64 = 10;
/// Looks between two at how often routes are in flight.
const SHARE_LOOKS: u64 = 2;
/// How much a look counts for the average of those who wait.
const WEIGHT: f64 = 0.2;

/// What was seen at the last look at a pool.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    at: Ticks,
    transactions: u64,
    held_micros: u64,
    lendings: u64,
    waited_micros: u64,
    mean_waiting: f64,
}

/// What a worker remembers of its looks.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    count: u64,
    slow_at: Ticks,
    /// By the pool's place in memory: a pool that takes another one's place begins with its numbers
    /// for one look.
    readings: HashMap<usize, Reading>,
    /// Why their connections were not free.
    reasons: HashMap<usize, Reasons>,
}

impl Worker {
    /// Looks, if it is time to.
    pub(crate) fn look(&self, now: Ticks, turns: u32) {
        if !turns.is_multiple_of(LOOK_TURNS) {
            return;
        }
        let house = Arc::clone(&self.shared.plan.load().house);
        let Some(limits) = &house.diagnosis else {
            return;
        };
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.count += 1;
        let pools = self.pools();
        let servers = self.shared.seen.servers();
        let mut known = HashSet::new();
        for pool in &pools {
            // One lane looks for all.
            if pool.lanes.keeper() != self.index {
                continue;
            }
            let lanes = pool.lanes.all();
            let place = Arc::as_ptr(pool) as usize;
            known.insert(place);
            let load = lanes.iter().map(|lane| lane.load());
            let load = load.fold(Load::default(), Load::with);
            let reading = looks.readings.entry(place).or_default();
            let old = *reading;
            *reading = read(&lanes, &load, &old, now);
            // Most pools have nothing that could be told.
            if load.lent == 0 {
                continue;
            }
            let seen = pool_use(pool, &load, &old, reading, now);
            let holders = self.holders(pool, &pools, &servers, now);
            let reasons = looks.reasons.entry(place).or_default();
            if let Some(finding) = holders::exhaustion(&seen, &holders, reasons, limits) {
                self.shared.find(finding);
            }
            for finding in holders::long_transactions(&seen, &holders, limits) {
                // Who asks servers tells these, with those that did not come through us.
                let is_told = finding.kind == Kind::LongTransaction && house.inspect.is_some();
                if !is_told {
                    self.shared.find(finding);
                }
            }
        }
        looks.readings.retain(|place, _| known.contains(place));
        looks.reasons.retain(|place, _| known.contains(place));
        if house.tells_requests && looks.count.is_multiple_of(SHARE_LOOKS) {
            let records = self.all_records();
            let samples = records.iter().map(|record| record.samples());
            let shares = Arc::new(Shares::new(samples));
            *self.shares.lock().unwrap_or_else(PoisonError::into_inner) = shares;
        }
        if looks.count.is_multiple_of(SLOW_LOOKS) {
            let window = now.since(looks.slow_at);
            looks.slow_at = now;
            for record in self.all_records() {
                if let Some(finding) = slow::slow(&record, window, limits) {
                    let origin = self.shared.locate(finding.origin.clone(), &record);
                    self.shared.find(Finding { origin, ..finding });
                }
            }
        }
    }

    fn all_records(&self) -> Vec<Arc<Record>> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.all().cloned().collect()
    }

    /// Who has a pool's connections.
    fn holders(
        &self,
        pool: &Arc<Pool>,
        pools: &[Arc<Pool>],
        servers: &[Arc<ServerSeen>],
        now: Ticks,
    ) -> Vec<Holder> {
        let others: Vec<String> = pools.iter().filter_map(address).collect();
        let own = address(pool);
        let is_of_pool = |server: &&Arc<ServerSeen>| {
            let is_lent = server.state() == ServerState::Active && server.link() != 0;
            let far = server.ends().0.map(|far| far.to_string());
            let is_there = match &own {
                Some(own) => far.as_ref() == Some(own),
                None => far.is_none_or(|far| !others.contains(&far)),
            };
            is_lent
                && is_there
                && server.replication.is_none()
                && server.database == pool.database
                && server.user == pool.user
        };
        let of_pool = servers.iter().filter(is_of_pool);
        of_pool
            .filter_map(|server| self.holder(server, now))
            .collect()
    }

    fn holder(&self, server: &ServerSeen, now: Ticks) -> Option<Holder> {
        let client = self.shared.seen.client(server.link())?;
        let done = server.doing.read();
        let record = match done.record {
            0 => None,
            number => self.shared.record(number),
        };
        let mean = record.as_ref().map_or(0, |record| {
            record.execute_micros.get() / record.calls.get().max(1)
        });
        let is_executing = done.phase == Phase::Executing;
        let told = record.as_ref().and_then(|record| record.origin());
        let mut origin = origin(&client, told);
        let since = done.transaction.unwrap_or(done.since);
        let of = record.as_deref();
        self.shared.locate_since(&mut origin, &client, of, since);
        Some(Holder {
            phase: done.phase,
            for_time: now.since(done.since),
            transaction_for: done.transaction.map(|since| now.since(since)),
            mean: Duration::from_micros(if is_executing { mean } else { 0 }),
            pins: Pins::of_bits(done.pins),
            origin,
            statement: record.map(|record| record.shown()),
            process: server.process(),
        })
    }
}

/// The address of a replica's pool.
fn address(pool: &Arc<Pool>) -> Option<String> {
    let own = pool.endpoint?;
    let plan = pool.plan();
    let endpoints = plan.database.service.endpoints().load();
    let endpoint = endpoints.all.iter().find(|one| one.id() == own)?;
    Some(endpoint.label().to_owned())
}

/// Where a client's statement comes from: what its comments said, and who the client is.
pub(crate) fn origin(client: &ClientSeen, told: Option<Origin>) -> Origin {
    let mut origin = told.unwrap_or_default();
    let application = client.application();
    if !application.is_empty() {
        origin.application = Some(application);
    }
    origin.client = Some(client.far().to_string().into());
    origin
}

fn read(lanes: &[Arc<Pool>], load: &Load, old: &Reading, now: Ticks) -> Reading {
    let sum = |count: fn(&Numbers) -> &Counter| {
        let all = lanes.iter().map(|lane| count(&lane.numbers).get());
        all.sum::<u64>()
    };
    let waiting = f64::from(load.waiting);
    Reading {
        at: now,
        transactions: sum(|numbers| &numbers.transactions),
        held_micros: sum(|numbers| &numbers.transaction_micros),
        lendings: sum(|numbers| &numbers.assignments),
        waited_micros: sum(|numbers| &numbers.wait_micros),
        mean_waiting: old.mean_waiting + WEIGHT * (waiting - old.mean_waiting),
    }
}

fn pool_use(pool: &Arc<Pool>, load: &Load, old: &Reading, new: &Reading, now: Ticks) -> PoolUse {
    let since = |now: u64, then: u64| now.saturating_sub(then);
    PoolUse {
        database: Arc::clone(&pool.database),
        user: Arc::clone(&pool.user),
        server: address(pool).map(Into::into),
        is_session: pool.plan().mode == PoolMode::Session,
        lent: load.lent,
        idle: load.idle,
        coming: load.coming,
        waiting: load.waiting,
        first_waits: load
            .waiting_since
            .map_or(Duration::ZERO, |since| now.since(since)),
        window: new.at.since(old.at),
        transactions: since(new.transactions, old.transactions),
        held: Duration::from_micros(since(new.held_micros, old.held_micros)),
        lendings: since(new.lendings, old.lendings),
        waited: Duration::from_micros(since(new.waited_micros, old.waited_micros)),
        mean_waiting: new.mean_waiting,
    }
}

/// Each statement once, with what other lanes of its pool have of it.
fn together(all: Vec<Arc<Record>>) -> Vec<(Arc<Record>, Vec<Arc<Record>>)> {
    let mut each: Vec<(Arc<Record>, Vec<Arc<Record>>)> = Vec::new();
    let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
    for record in all {
        let same = places.entry(record.fingerprint).or_default();
        let known = same.iter().find(|place| each[**place].0.is_same(&record));
        if let Some(place) = known {
            each[*place].1.push(record);
        } else {
            same.push(each.len());
            each.push((record, Vec::new()));
        }
    }
    each
}

/// What is known of statements, for people and programs.
#[derive(Clone, Debug, Default)]
pub struct StatementsState {
    /// The costliest first, by the time that they kept connections: executing and silence.
    pub statements: Vec<StatementState>,
    /// How many are known.
    pub known: usize,
    /// How many made room for others.
    pub evicted: u64,
}

impl Shared {
    /// The costliest statements, `most` of them.
    pub fn statements(&self, most: usize) -> StatementsState {
        let mut state = StatementsState::default();
        let mut all: Vec<Arc<Record>> = Vec::new();
        for worker in self.workers.get().into_iter().flatten() {
            let records = worker
                .records
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            state.evicted += records.evicted();
            all.extend(records.all().cloned());
        }
        let mut all = together(all);
        state.known = all.len();
        if most > 0 {
            let cost = |one: &Arc<Record>| one.cost_micros();
            all.sort_by_cached_key(|(one, others)| {
                let others = others.iter().map(cost).sum::<u64>();
                std::cmp::Reverse(one.cost_micros() + others)
            });
            all.truncate(most);
            let state_of = |(record, others): &(Arc<Record>, Vec<Arc<Record>>)| StatementState {
                origin: self.locate(record.origin(), record),
                ..record.state_with(others)
            };
            state.statements = all.iter().map(state_of).collect();
        }
        state
    }

    /// How many findings of a kind hold.
    pub fn findings_of(&self, kind: Kind) -> usize {
        let findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        findings.count(kind, self.clock.now())
    }
}
