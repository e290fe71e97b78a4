//! The metrics and the state of the Postgres tier.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::{Counter, Histogram, HistogramTotal, names};
use outgrow_postgres::Shared;
use outgrow_postgres::numbers::Numbers as PoolNumbers;
use outgrow_postgres::origin::Origin;
use outgrow_postgres::retry::Reason;
use outgrow_postgres::settings::PoolMode;
use outgrow_postgres::sql::facts::Pin;
use outgrow_postgres::standing::Role;
use outgrow_postgres::state::{LaneState, PoolState};
use serde_json::{Value, json};

use super::{Numbers, diagnosis, failovers, handover, logins, seats};

/// Most clients that are listed because nobody knows which instance they are.
const MOST_UNPLACED: usize = 50;

type Read = fn(&PoolState) -> u32;
type Count = fn(&PoolNumbers) -> &Counter;
type Times = fn(&PoolNumbers) -> &Histogram;

/// What is measured of a pool: name, help, value.
const GAUGES: [(&str, &str, Read); 8] = [
    (
        names::POSTGRES_CLIENTS,
        "Clients that are logged in.",
        |pool| pool.clients,
    ),
    (
        names::POSTGRES_WAITING,
        "Clients that wait for a connection.",
        |pool| pool.waiting,
    ),
    (
        names::POSTGRES_IDLE,
        "Connections that nobody uses.",
        |pool| pool.idle,
    ),
    (names::POSTGRES_LENT, "Connections that are lent.", |pool| {
        pool.lent
    }),
    (names::POSTGRES_SIZE, "Most connections.", |pool| pool.size),
    (
        names::POSTGRES_LANES,
        "Workers that the pool is spread over.",
        |pool| pool.lanes.len() as u32,
    ),
    (
        names::POSTGRES_LISTENERS,
        "Clients that listen on the shared connection.",
        |pool| pool.listeners,
    ),
    (
        names::POSTGRES_CHANNELS,
        "Channels on which the shared connection listens.",
        |pool| pool.channels,
    ),
];

/// What is counted of a pool.
const COUNTERS: [(&str, &str, Count); 10] = [
    (names::POSTGRES_TRANSACTIONS, "Transactions.", |numbers| {
        &numbers.transactions
    }),
    (
        names::POSTGRES_QUERIES,
        "Queries: series up to ReadyForQuery.",
        |numbers| &numbers.queries,
    ),
    (
        names::POSTGRES_ON_REPLICAS,
        "Transactions that replicas executed.",
        |numbers| &numbers.on_replicas,
    ),
    (
        names::POSTGRES_NOTIFICATIONS,
        "Notifications that clients were sent.",
        |numbers| &numbers.notifications,
    ),
    (
        names::POSTGRES_NOTIFICATION_OVERFLOWS,
        "Clients that were ended because too many notifications waited for them.",
        |numbers| &numbers.notification_overflows,
    ),
    (
        names::POSTGRES_LISTENING_LOST,
        "Shared connections that were lost while clients listened.",
        |numbers| &numbers.listening_lost,
    ),
    (
        names::POSTGRES_LISTENS_ALONE,
        "Channels for which a client keeps a connection of its own.",
        |numbers| &numbers.listens_alone,
    ),
    (
        names::POSTGRES_CONNECTS,
        "Connections made to servers.",
        |numbers| &numbers.connects,
    ),
    (
        names::POSTGRES_CONNECT_FAILURES,
        "Connections to servers that failed.",
        |numbers| &numbers.connect_failures,
    ),
    (
        names::POSTGRES_LOGINS,
        "Clients that logged in.",
        |numbers| &numbers.logins,
    ),
];

/// What takes time.
const TIMES: [(&str, &str, Times); 3] = [
    (
        names::POSTGRES_WAIT_SECONDS,
        "Waits for a connection.",
        |numbers| &numbers.waits,
    ),
    (names::POSTGRES_QUERY_SECONDS, "Queries.", |numbers| {
        &numbers.query_times
    }),
    (
        names::POSTGRES_TRANSACTION_SECONDS,
        "Transactions.",
        |numbers| &numbers.transaction_times,
    ),
];

/// Which pool it is.
fn labels(pool: &PoolState) -> [(&'static str, &str); 3] {
    [
        ("database", &pool.database),
        ("user", &pool.user),
        ("server", pool.replica.as_deref().unwrap_or("primary")),
    ]
}

/// All metrics now; none while there is no such tier.
pub(super) fn families(shared: Option<&Shared>) -> Vec<MetricFamily> {
    let Some(shared) = shared else {
        return Vec::new();
    };
    let now = shared.clock.now();
    let pools = shared.pool_states(now);
    let mut families = Vec::new();
    for (name, help, read) in GAUGES {
        let numbers: Numbers = pools
            .iter()
            .map(|pool| Sample::number(&labels(pool), u64::from(read(pool))))
            .collect();
        families.push(MetricFamily::gauge(name, help, numbers));
    }
    for (name, help, count) in COUNTERS {
        let numbers = pools
            .iter()
            .map(|pool| Sample::number(&labels(pool), count(pool.numbers()).get()));
        families.push(MetricFamily::counter(
            name,
            help,
            numbers.collect::<Numbers>(),
        ));
    }
    families.push(reads_kept(&pools));
    for (name, help, times) in TIMES {
        let samples: Vec<_> = pools
            .iter()
            .map(|pool| {
                let mut total = HistogramTotal::default();
                times(pool.numbers()).add_to(&mut total);
                Sample::times(&labels(pool), total)
            })
            .collect();
        families.push(MetricFamily::histogram(name, help, samples));
    }
    families.push(lane_moves(&pools));
    families.push(retries(&pools));
    families.push(pinned(&pools));
    let mut lags = Numbers::new();
    for server in shared.servers(now) {
        if let Some(lag) = server.lag {
            let labels = [
                ("service", server.service.as_str()),
                ("server", &server.address),
            ];
            lags.push(Sample::number(&labels, lag.as_secs_f64()));
        }
    }
    let help = "Seconds since the primary was where a replica is now.";
    families.push(MetricFamily::gauge(names::POSTGRES_LAG, help, lags));
    families.extend(failovers::families(shared));
    families.extend(seats::families(shared));
    families.extend(logins::families(shared));
    families.push(handover::family(shared));
    families.extend(cache_families(shared));
    families.extend(diagnosis::families(shared));
    families
}

/// The query cache, where there is one.
fn cache_families(shared: &Shared) -> Vec<MetricFamily> {
    if shared.plan.load().house.cache.is_none() {
        return Vec::new();
    }
    let counts = shared.results.counts();
    let counter = |name, help, count: u64| {
        MetricFamily::counter(name, help, vec![Sample::number(&[], count)])
    };
    let gauge =
        |name, help, value: u64| MetricFamily::gauge(name, help, vec![Sample::number(&[], value)]);
    vec![
        counter(
            names::POSTGRES_CACHE_HITS,
            "Answers that were given from memory.",
            counts.hits,
        ),
        counter(
            names::POSTGRES_CACHE_MISSES,
            "Statements that could have been answered from memory and were not.",
            counts.misses,
        ),
        counter(
            names::POSTGRES_CACHE_FILLS,
            "Answers that were kept.",
            counts.fills,
        ),
        counter(
            names::POSTGRES_CACHE_INVALIDATIONS,
            "Beginnings and ends of writes that made answers worthless.",
            counts.invalidations,
        ),
        counter(
            names::POSTGRES_CACHE_EVICTIONS,
            "Answers that made room for others.",
            counts.evictions,
        ),
        gauge(
            names::POSTGRES_CACHE_BYTES,
            "Bytes of the answers that are kept.",
            counts.bytes,
        ),
    ]
}

/// The query cache for `/state`; null where there is none.
fn cache_state(shared: &Shared) -> Value {
    if shared.plan.load().house.cache.is_none() {
        return Value::Null;
    }
    let counts = shared.results.counts();
    json!({
        "hits": counts.hits,
        "misses": counts.misses,
        "fills": counts.fills,
        "invalidations": counts.invalidations,
        "evictions": counts.evictions,
        "entries": counts.entries,
        "bytes": counts.bytes,
        "waits_for_restart": shared.results.waits_for_restart(),
    })
}

/// For how long clients kept connections, of pools where some did.
fn pinned(pools: &[PoolState]) -> MetricFamily {
    let mut pinned = Numbers::new();
    for pool in pools {
        let [database, user, _] = labels(pool);
        for pin in Pin::ALL {
            let micros = pool.numbers().pinned_micros[pin as usize].get();
            if micros > 0 {
                let labels = [database, user, ("reason", pin.as_str())];
                pinned.push(Sample::number(&labels, micros as f64 / 1e6));
            }
        }
    }
    let help = "Time in which clients kept a connection although they were in no transaction.";
    MetricFamily::counter(names::POSTGRES_PINNED, help, pinned)
}

/// What went from one lane of a pool to another, of pools that have several.
fn lane_moves(pools: &[PoolState]) -> MetricFamily {
    let mut moves = Numbers::new();
    for pool in pools.iter().filter(|pool| pool.lanes.len() > 1) {
        let [database, user, server] = labels(pool);
        let kinds = [
            ("client", pool.moved_clients),
            ("connection", pool.moved_connections),
        ];
        for (kind, count) in kinds {
            moves.push(Sample::number(
                &[database, user, server, ("kind", kind)],
                count,
            ));
        }
    }
    let help = "Clients and connections that went from one worker's part of a pool to another's.";
    MetricFamily::counter(names::POSTGRES_LANE_MOVES, help, moves)
}

/// Reads that were asked again elsewhere, of pools that have some.
fn retries(pools: &[PoolState]) -> MetricFamily {
    let mut retries = Numbers::new();
    for pool in pools {
        let [database, user, _] = labels(pool);
        for reason in Reason::ALL {
            let count = pool.numbers().retries[reason as usize].get();
            if count > 0 {
                let labels = [database, user, ("reason", reason.as_str())];
                retries.push(Sample::number(&labels, count));
            }
        }
    }
    let help = "Reads that a replica could not answer and that were asked again elsewhere.";
    MetricFamily::counter(names::POSTGRES_RETRIES, help, retries)
}

/// Reads that replicas could have had, by why they did not.
fn reads_kept(pools: &[PoolState]) -> MetricFamily {
    let mut kept = Numbers::new();
    for pool in pools.iter().filter(|pool| pool.replica.is_none()) {
        let numbers = pool.numbers();
        let reasons = [
            ("behind", &numbers.kept_from_replicas),
            ("unplaced", &numbers.reads_unplaced),
        ];
        let [database, user, _] = labels(pool);
        for (reason, count) in reasons {
            kept.push(Sample::number(
                &[database, user, ("reason", reason)],
                count.get(),
            ));
        }
    }
    let help = "Reads on the primary because no replica had what they must see (behind), or because \
                nobody knows of which instance their client is (unplaced).";
    MetricFamily::counter(names::POSTGRES_READS_KEPT, help, kept)
}

/// The lanes of a pool, where it has several; null for one.
fn lanes(pool: &PoolState) -> Value {
    if pool.lanes.len() < 2 {
        return Value::Null;
    }
    let lane = |lane: &LaneState| {
        json!({
            "worker": lane.worker,
            "clients": lane.clients,
            "waiting": lane.waiting,
            "idle": lane.idle,
            "lent": lane.lent,
            "connecting": lane.coming,
        })
    };
    json!({
        "each": pool.lanes.iter().map(lane).collect::<Vec<_>>(),
        "moved_clients": pool.moved_clients,
        "moved_connections": pool.moved_connections,
    })
}

/// Clients of which nobody knows which instance they are.
fn unplaced(shared: &Shared) -> Value {
    let all = shared.unplaced(MOST_UNPLACED).into_iter();
    let one = |(origin, reason): (Arc<Origin>, &str)| {
        json!({
            "client": origin.far.to_string(),
            "application": &*origin.application,
            "reason": reason,
        })
    };
    all.map(one).collect()
}

/// The pools and servers for `/state`; null while there is no such tier.
pub(in crate::assemble) fn state(shared: Option<&Shared>) -> Value {
    let Some(shared) = shared else {
        return Value::Null;
    };
    let now = shared.clock.now();
    let millis = |time: Duration| time.as_millis() as u64;
    let pools: Vec<Value> = shared
        .pool_states(now)
        .iter()
        .map(|pool| {
            let numbers = pool.numbers();
            let quantiles = |histogram: &Histogram| {
                let mut total = HistogramTotal::default();
                histogram.add_to(&mut total);
                json!({
                    "count": total.count(),
                    "p50_us": total.quantile(0.5),
                    "p99_us": total.quantile(0.99),
                })
            };
            json!({
                "database": pool.database,
                "user": pool.user,
                "replica": pool.replica,
                "mode": match pool.mode {
                    PoolMode::Session => "session",
                    PoolMode::Transaction => "transaction",
                    PoolMode::Statement => "statement",
                },
                "size": pool.size,
                "clients": pool.clients,
                "waiting": pool.waiting,
                "first_waits_ms": millis(pool.waits_since),
                "idle": pool.idle,
                "lent": pool.lent,
                "connecting": pool.coming,
                "lanes": lanes(pool),
                "listeners": pool.listeners,
                "channels": pool.channels,
                "notifications": numbers.notifications.get(),
                "transactions": numbers.transactions.get(),
                "on_replicas": numbers.on_replicas.get(),
                "retries": Reason::ALL
                    .iter()
                    .map(|reason| (reason.as_str(), numbers.retries[*reason as usize].get()))
                    .filter(|(_, count)| *count > 0)
                    .collect::<BTreeMap<_, _>>(),
                "pinned_ms": Pin::ALL
                    .iter()
                    .map(|pin| (pin.as_str(), numbers.pinned_micros[*pin as usize].get() / 1000))
                    .filter(|(_, millis)| *millis > 0)
                    .collect::<BTreeMap<_, _>>(),
                "kept_from_replicas": numbers.kept_from_replicas.get(),
                "reads_unplaced": numbers.reads_unplaced.get(),
                "waits": quantiles(&numbers.waits),
                "queries": quantiles(&numbers.query_times),
                "transaction_times": quantiles(&numbers.transaction_times),
            })
        })
        .collect();
    let servers: Vec<Value> = shared
        .servers(now)
        .iter()
        .map(|server| {
            json!({
                "service": server.service,
                "address": server.address,
                "role": server.role.map(|role| match role {
                    Role::Primary => "primary",
                    Role::Replica => "replica",
                    Role::Fenced => "fenced",
                }),
                "lsn": server.lsn.to_string(),
                "timeline": server.timeline,
                "lag_ms": server.lag.map(millis),
            })
        })
        .collect();
    json!({
        "clients": shared.clients(),
        "pools": pools,
        "servers": servers,
        "failovers": failovers::state(shared, now),
        "connections": seats::state(shared),
        "logins": logins::state(shared),
        "handover": handover::state(shared),
        "unplaced": unplaced(shared),
        "cache": cache_state(shared),
        "findings": diagnosis::findings(shared, now),
        "statements": diagnosis::statements(shared, now),
    })
}
