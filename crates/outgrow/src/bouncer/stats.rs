//! Counters over time: `SHOW STATS`, and the line of each period.

use std::collections::BTreeMap;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_postgres::control::PoolView;
use outgrow_postgres::numbers::Numbers;
use outgrow_postgres::pgbouncer::console::stats::Counters;

/// The counters of all databases, by name.
pub(super) type All = BTreeMap<String, Counters>;

/// The counters at the ends of the last two periods.
#[derive(Debug, Default)]
pub(super) struct Periods {
    last: (Ticks, All),
    last_but_one: (Ticks, All),
}

impl Periods {
    /// Ends a period.
    pub(super) fn end(&mut self, now: Ticks, all: All) {
        self.last_but_one = std::mem::replace(&mut self.last, (now, all));
    }

    /// Since when the period runs.
    pub(super) fn since(&self) -> Ticks {
        self.last.0
    }

    /// The averages of a database over the time since the last but one period began.
    pub(super) fn averages(&self, name: &str, counters: &Counters, now: Ticks) -> Counters {
        let (at, all) = &self.last_but_one;
        let older = all.get(name).copied().unwrap_or_default();
        counters.averages(&older, now.since(*at))
    }

    /// What the last period came to, all databases together, for the log.
    pub(super) fn line(&self) -> String {
        let sum = |all: &All| {
            let mut values = all.values();
            values
                .by_ref()
                .fold(Counters::default(), |sum, one| sum.plus(one))
        };
        let elapsed: Duration = self.last.0.since(self.last_but_one.0);
        let averages = sum(&self.last.1).averages(&sum(&self.last_but_one.1), elapsed);
        averages.log_line()
    }
}

/// The counters of the pools, by database.
pub(super) fn by_database(pools: &[PoolView]) -> All {
    let mut all = All::new();
    for pool in pools {
        let sum = all.entry(pool.database().to_owned()).or_default();
        *sum = sum.plus(&counters(pool.numbers()));
    }
    all
}

fn counters(numbers: &Numbers) -> Counters {
    Counters {
        server_assignment_count: numbers.assignments.get(),
        xact_count: numbers.transactions.get(),
        query_count: numbers.queries.get(),
        received: numbers.received_bytes.get(),
        sent: numbers.sent_bytes.get(),
        xact_time: numbers.transaction_micros.get(),
        query_time: numbers.query_micros.get(),
        wait_time: numbers.wait_micros.get(),
        client_parse_count: numbers.client_parses.get(),
        server_parse_count: numbers.server_parses.get(),
        bind_count: numbers.binds.get(),
        client_login_count: numbers.logins.get(),
    }
}
