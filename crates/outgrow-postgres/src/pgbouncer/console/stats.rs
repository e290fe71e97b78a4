//! Counters over time: `SHOW STATS` and its relatives, and the line of the log.
//!
//! A database's counters are the sum over its pools. The averages are over the time since the last
//! but one period began (`stats_period`), as in PgBouncer. Deliberately not here: counting.

use std::time::Duration;

use super::cell::{CellWriter, Numeric, Row, column};
use crate::wire::write::Column;

/// What is counted of a pool, from its beginning. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// How often a client was given a server connection.
    pub server_assignment_count: u64,
    /// Transactions.
    pub xact_count: u64,
    /// Queries: from the first message to the answer of the last.
    pub query_count: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes from servers.
    pub sent: u64,
    /// In transactions.
    pub xact_time: u64,
    /// In queries.
    pub query_time: u64,
    /// Waited for a server connection.
    pub wait_time: u64,
    /// Named prepared statements that clients made.
    pub client_parse_count: u64,
    /// Named prepared statements that were made at servers.
    pub server_parse_count: u64,
    /// Uses of named prepared statements.
    pub bind_count: u64,
    /// Logins of clients that succeeded.
    pub client_login_count: u64,
}

impl Counters {
    fn values(&self) -> [u64; 12] {
        [
            self.server_assignment_count,
            self.xact_count,
            self.query_count,
            self.received,
            self.sent,
            self.xact_time,
            self.query_time,
            self.wait_time,
            self.client_parse_count,
            self.server_parse_count,
            self.bind_count,
            self.client_login_count,
        ]
    }

    fn from_values(values: [u64; 12]) -> Self {
        let [
            server_assignment_count,
            xact_count,
            query_count,
            received,
            sent,
            xact_time,
            query_time,
            wait_time,
            client_parse_count,
            server_parse_count,
            bind_count,
            client_login_count,
        ] = values;
        Self {
            server_assignment_count,
            xact_count,
            query_count,
            received,
            sent,
            xact_time,
            query_time,
            wait_time,
            client_parse_count,
            server_parse_count,
            bind_count,
            client_login_count,
        }
    }

    /// The counters of both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let other = other.values();
        let mut sums = self.values();
        for (sum, more) in sums.iter_mut().zip(other) {
            *sum = sum.saturating_add(more);
        }
        Self::from_values(sums)
    }

    /// Averages since `older` was taken, which is `elapsed` ago: counts and bytes for each second,
    /// times for each transaction, query and wait.
    #[must_use]
    pub fn averages(&self, older: &Self, elapsed: Duration) -> Self {
        let older = older.values();
        let mut grown = self.values();
        for (value, before) in grown.iter_mut().zip(older) {
            *value = value.saturating_sub(before);
        }
        let grown = Self::from_values(grown);
        let micros = elapsed.as_micros();
        if micros == 0 {
            return Self::default();
        }
        let each_second =
            |count: u64| u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX);
        let each = |time: u64, count: u64| time.checked_div(count).unwrap_or(0);
        Self {
            xact_time: each(grown.xact_time, grown.xact_count),
            query_time: each(grown.query_time, grown.query_count),
            wait_time: each(grown.wait_time, grown.server_assignment_count),
            ..Self::from_values(grown.values().map(each_second))
        }
    }

    /// What is logged of these averages at the end of each period.
    pub fn log_line(&self) -> String {
        format!(
            "stats: {} xacts/s, {} queries/s, {} client parses/s, {} server parses/s, {} binds/s, \
             {} client logins/s, in {} B/s, out {} B/s, xact {} us, query {} us, wait {} us",
            self.xact_count,
            self.query_count,
            self.client_parse_count,
            self.server_parse_count,
            self.bind_count,
            self.client_login_count,
            self.received,
            self.sent,
            self.xact_time,
            self.query_time,
            self.wait_time,
        )
    }
}

/// A database of `SHOW STATS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsRow {
    /// Its name.
    pub database: String,
    /// Its counters.
    pub totals: Counters,
    /// Their averages.
    pub averages: Counters,
}

/// A database of `SHOW STATS_TOTALS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TotalsRow {
    /// Its name.
    pub database: String,
    /// Its counters.
    pub totals: Counters,
}

/// A database of `SHOW STATS_AVERAGES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AveragesRow {
    /// Its name.
    pub database: String,
    /// Its averages.
    pub averages: Counters,
}

/// A line of `SHOW TOTALS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumRow {
    /// Of what.
    pub name: String,
    /// How many.
    pub value: u64,
}

const STATS: [&str; 24] = [
    "total_server_assignment_count",
    "total_xact_count",
    "total_query_count",
    "total_received",
    "total_sent",
    "total_xact_time",
    "total_query_time",
    "total_wait_time",
    "total_client_parse_count",
    "total_server_parse_count",
    "total_bind_count",
    "total_client_login_count",
    "avg_server_assignment_count",
    "avg_xact_count",
    "avg_query_count",
    "avg_recv",
    "avg_sent",
    "avg_xact_time",
    "avg_query_time",
    "avg_wait_time",
    "avg_client_parse_count",
    "avg_server_parse_count",
    "avg_bind_count",
    "avg_client_login_count",
];

const TOTALS: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "bytes_received",
    "bytes_sent",
    "xact_time",
    "query_time",
    "wait_time",
    "client_parse_count",
    "server_parse_count",
    "bind_count",
    "client_login_count",
];

const AVERAGES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "bytes_received",
    "bytes_sent",
    "xact_time",
    "query_time",
    "wait_time",
    "avg_client_parse_count",
    "avg_server_parse_count",
    "avg_bind_count",
    "avg_client_login_count",
];

/// What is behind `total_` and `avg_` in `SHOW TOTALS`.
const SUMS: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

/// The rows of `SHOW TOTALS`: the counters of all pools together and their averages.
pub fn sums(totals: &Counters, averages: &Counters) -> impl Iterator<Item = SumRow> {
    [("total", totals), ("avg", averages)]
        .map(|(kind, counters)| (kind, counters.values()))
        .into_iter()
        .flat_map(|(kind, values)| {
            SUMS.into_iter()
                .zip(values)
                .map(move |(name, value)| SumRow {
                    name: format!("{kind}_{name}"),
                    value,
                })
        })
}

fn with_database(names: &[&'static str]) -> Vec<Column<'static>> {
    let mut columns = vec![column::<String>("database")];
    columns.extend(names.iter().map(|name| column::<Numeric>(name)));
    columns
}

fn push(out: &mut CellWriter<'_>, counters: &Counters) {
    for value in counters.values() {
        out.push(&Numeric(value));
    }
}

impl Row for StatsRow {
    fn columns() -> Vec<Column<'static>> {
        with_database(&STATS)
    }

    fn cells(&self, out: &mut CellWriter<'_>) {
        out.push(&self.database);
        push(out, &self.totals);
        push(out, &self.averages);
    }
}

impl Row for TotalsRow {
    fn columns() -> Vec<Column<'static>> {
        with_database(&TOTALS)
    }

    fn cells(&self, out: &mut CellWriter<'_>) {
        out.push(&self.database);
        push(out, &self.totals);
    }
}

impl Row for AveragesRow {
    fn columns() -> Vec<Column<'static>> {
        with_database(&AVERAGES)
    }

    fn cells(&self, out: &mut CellWriter<'_>) {
        out.push(&self.database);
        push(out, &self.averages);
    }
}

impl Row for SumRow {
    fn columns() -> Vec<Column<'static>> {
        vec![column::<String>("name"), column::<Numeric>("value")]
    }

    fn cells(&self, out: &mut CellWriter<'_>) {
        out.push(&self.name);
        out.push(&Numeric(self.value));
    }
}
