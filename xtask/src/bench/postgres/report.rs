//! What the Postgres bench prints: medians of paired rounds, as a table or as JSON lines.
//!
//! Deliberately not here: thresholds. The table says what is; who reads it judges.

use super::scenario::{Scenario, What};
use crate::bench::report::{Line, Measure, median};

/// Ours against one peer in one scenario and unit: medians.
#[derive(Debug)]
pub(crate) struct Row {
    scenario: String,
    peer: String,
    peer_version: String,
    unit: &'static str,
    ours: f64,
    theirs: f64,
    ratio: f64,
    /// Queries per second, theirs after ours; information only.
    rates: Option<[f64; 2]>,
    /// 99th percentiles in microseconds, in the same way.
    slow: Option<[f64; 2]>,
}

/// What is counted of a round.
type Of = fn(&Measure) -> f64;

/// The units of a scenario.
fn units(what: What) -> Vec<(&'static str, Of)> {
    let cpu: (&'static str, Of) = ("cpu_us_per_query", |one| one.cpu_micros);
    match what {
        What::Work { .. } => vec![cpu],
        What::Wait => vec![
            cpu,
            ("p50_us", |one| one.p50_micros),
            ("p99_us", |one| one.p99_micros),
        ],
        What::Idle => vec![("bytes_per_client", |one| one.cpu_micros)],
    }
}

/// A round that counts bytes.
pub(crate) fn bytes(bytes: f64) -> Measure {
    Measure {
        cpu_micros: bytes,
        rate: 0.0,
        p50_micros: 0.0,
        p99_micros: 0.0,
    }
}

impl Row {
    /// Pairs the rounds, for each unit of the scenario; none when there is no round.
    pub(crate) fn all(
        scenario: &Scenario,
        peer: &str,
        peer_version: &str,
        ours: &[Measure],
        theirs: &[Measure],
    ) -> Vec<Self> {
        let both = |of: Of| {
            let middle = |all: &[Measure]| median(all.iter().map(of));
            Some([middle(ours)?, middle(theirs)?])
        };
        let has_rates = scenario.what != What::Idle;
        let row = |(unit, of): (&'static str, Of)| {
            let pairs = ours.iter().zip(theirs);
            let ratio = median(pairs.map(|(ours, theirs)| of(ours) / of(theirs)))?;
            let [ours, theirs] = both(of)?;
            Some(Self {
                scenario: scenario.name.clone(),
                peer: peer.to_owned(),
                peer_version: peer_version.to_owned(),
                unit,
                ours,
                theirs,
                ratio,
                rates: both(|one| one.rate).filter(|_| has_rates),
                slow: both(|one| one.p99_micros).filter(|_| has_rates),
            })
        };
        units(scenario.what).into_iter().filter_map(row).collect()
    }

    /// As [`Line::json`] gives it.
    pub(crate) fn json(&self, bench: &str) -> serde_json::Value {
        Line {
            bench,
            scenario: &self.scenario,
            peer: &self.peer,
            peer_version: &self.peer_version,
            unit: self.unit,
            ours: self.ours,
            theirs: self.theirs,
            ratio: self.ratio,
        }
        .json()
    }
}

/// The table, its heading first.
pub(crate) fn table(rows: &[Row], ours: &str) -> String {
    let mut text = format!(
        "{:<20} {:<10} {:<17} {:>10} {:>10} {:>6}   {:>9} {:>9}   {:>9} {:>9}\n",
        "scenario",
        "peer",
        "unit",
        "ours",
        "theirs",
        "ratio",
        "ours q/s",
        "their q/s",
        "ours p99",
        "p99 us"
    );
    for row in rows {
        let pair = |pair: Option<[f64; 2]>| match pair {
            Some([ours, theirs]) => format!("{ours:>9.0} {theirs:>9.0}"),
            None => String::new(),
        };
        let line = format!(
            "{:<20} {:<10} {:<17} {:>10.1} {:>10.1} {:>6.2}   {}   {}",
            row.scenario,
            row.peer,
            row.unit,
            row.ours,
            row.theirs,
            row.ratio,
            pair(row.rates),
            pair(row.slow)
        );
        text += line.trim_end();
        text.push('\n');
    }
    text + &format!("medians of the rounds; ours: {ours}\n")
}

/// What is alike and what is not.
pub(crate) const NOTES: &str = "\
Fairness
- All: one Postgres on the same cores, 20 connections to it, shared by transaction; logins by trust,
  TCP without TLS, nothing logged of queries or logins; started anew for each scenario, warmed up in
  each round. CPU time is of the whole process tree, per statement that pgbench sends (tpcb-like: seven).
- Ours is built as packages build it: profile-guided, unless --plain or --binary said otherwise.
- Ours has one worker and does what is on by default besides: reads statements, follows settings and
  prepared statements, counts in histograms. PgBouncer has one thread.
- Pgpool-II shares no connections: it has a process and a connection to the server for each client, in
  every row (raw mode, in which it parses nothing). So it is not asked for ten thousand idle clients,
  and with a thousand clients it is Postgres where they wait.
- Rates and latencies are of a closed loop that shares the cores with contestant and server.
- pgbench has one thread; in tpcb-prepared one for each client, as its prepared mode waits for a Parse
  with the whole thread, for ever where the thread's other clients hold all connections of a pool.
- idle: proportional set size of the process tree, each client having done one query.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::postgres::scenario;

    fn measures(values: &[f64]) -> Vec<Measure> {
        let measure = |&value: &f64| Measure {
            cpu_micros: value,
            rate: 1.0,
            p50_micros: 2.0 * value,
            p99_micros: 3.0 * value,
        };
        values.iter().map(measure).collect()
    }

    #[test]
    fn each_unit_has_a_row() {
        let all = scenario::all();
        let rows = |place: usize| {
            let ours = measures(&[10.0, 30.0, 12.0]);
            let theirs = measures(&[20.0, 40.0, 15.0]);
            Row::all(&all[place], "pgbouncer", "1.18.0", &ours, &theirs)
        };
        let work = rows(0);
        assert_eq!(work.len(), 1);
        let json = work[0].json("postgres");
        assert_eq!(json["unit"], "cpu_us_per_query");
        assert_eq!(json["ours"], 12.0);
        assert_eq!(json["ratio"], 0.75);
        let waiting: Vec<_> = rows(18).iter().map(|row| row.unit).collect();
        assert_eq!(waiting, ["cpu_us_per_query", "p50_us", "p99_us"]);
        assert_eq!(rows(19)[0].unit, "bytes_per_client");
        assert!(Row::all(&all[0], "pgpool", "4", &[], &measures(&[1.0])).is_empty());
        assert_eq!(table(&rows(18), "outgrow").lines().count(), 5);
    }
}
