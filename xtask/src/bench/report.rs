//! What the bench prints: medians of paired rounds, as a table or as JSON lines, and the notes on fairness.
//!
//! Deliberately not here: thresholds. The table says what is; who reads it judges.

use serde_json::json;

/// What is compared.
pub(crate) const UNIT: &str = "cpu_us_per_request";

/// What a line of JSON says: ours against one peer in one scenario and unit.
pub(crate) struct Line<'r> {
    pub(crate) bench: &'r str,
    pub(crate) scenario: &'r str,
    pub(crate) peer: &'r str,
    pub(crate) peer_version: &'r str,
    pub(crate) unit: &'r str,
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
    pub(crate) ratio: f64,
}

impl Line<'_> {
    /// The object that DESIGN.md promises.
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "bench": self.bench,
            "scenario": self.scenario,
            "peer": self.peer,
            "peer_version": self.peer_version,
            "unit": self.unit,
            "ours": rounded(self.ours),
            "theirs": rounded(self.theirs),
            "ratio": rounded(self.ratio),
        })
    }
}

/// One round of one contestant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// CPU microseconds per request.
    pub(crate) cpu_micros: f64,
    /// Requests per second.
    pub(crate) rate: f64,
    /// Median latency in microseconds.
    pub(crate) p50_micros: f64,
    /// 99th percentile of the latency in microseconds.
    pub(crate) p99_micros: f64,
}

/// Ours against one peer in one scenario: medians.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) peer: String,
    pub(crate) peer_version: String,
    ours: Measure,
    theirs: Measure,
    ratio: f64,
}

impl Row {
    /// Pairs the rounds; `None` when there is none.
    pub(crate) fn new(
        scenario: &'static str,
        (peer, peer_version): (&str, &str),
        ours: &[Measure],
        theirs: &[Measure],
    ) -> Option<Self> {
        let ratios = ours
            .iter()
            .zip(theirs)
            .map(|(ours, theirs)| ours.cpu_micros / theirs.cpu_micros);
        Some(Self {
            scenario,
            peer: peer.to_owned(),
            peer_version: peer_version.to_owned(),
            ours: medians(ours)?,
            theirs: medians(theirs)?,
            ratio: median(ratios)?,
        })
    }

    /// As [`Line::json`] gives it.
    pub(crate) fn json(&self, bench: &str) -> serde_json::Value {
        Line {
            bench,
            scenario: self.scenario,
            peer: &self.peer,
            peer_version: &self.peer_version,
            unit: UNIT,
            ours: self.ours.cpu_micros,
            theirs: self.theirs.cpu_micros,
            ratio: self.ratio,
        }
        .json()
    }
}

/// The table, its heading first.
pub(crate) fn table(rows: &[Row], ours: &str) -> String {
    let heading = format!(
        "{:<15} {:<9} {:>9} {:>9} {:>6}   {:>9} {:>9}   {:>8} {:>8}   {:>8} {:>8}\n",
        "scenario",
        "peer",
        "ours us",
        "theirs us",
        "ratio",
        "ours r/s",
        "their r/s",
        "ours p50",
        "p50 us",
        "ours p99",
        "p99 us"
    );
    let meaning =
        "us: CPU microseconds of the whole process tree per request, median of the rounds";
    let mut last = "";
    let mut lines = vec![heading];
    for row in rows {
        let scenario = if row.scenario == last {
            ""
        } else {
            row.scenario
        };
        last = row.scenario;
        lines.push(format_row(scenario, row));
    }
    lines.push(format!("{meaning}; ours: {ours}\n"));
    lines.concat()
}

fn format_row(scenario: &str, row: &Row) -> String {
    let (ours, theirs) = (&row.ours, &row.theirs);
    format!(
        "{scenario:<15} {:<9} {:>9.1} {:>9.1} {:>6.2}   {:>9.0} {:>9.0}   {:>8.0} {:>8.0}   {:>8.0} {:>8.0}\n",
        row.peer,
        ours.cpu_micros,
        theirs.cpu_micros,
        row.ratio,
        ours.rate,
        theirs.rate,
        ours.p50_micros,
        theirs.p50_micros,
        ours.p99_micros,
        theirs.p99_micros,
    )
}

/// What is alike and what is not.
pub(crate) const NOTES: &str = "\
Fairness
- All: same workers, same backend, same load, same cores; keep-alive to two backends in turn or by
  balance; X-Forwarded-For added (checked before each scenario); an access log line per request to a
  file (checked after each scenario); TLS 1.3 with AES-256-GCM and one P-256 key.
- Ours is built as packages build it: profile-guided (cargo xtask profiled), unless --plain or --binary
  said otherwise; peers are as their distributor built them.
- Ours besides: metrics, outlier detection, request id, a limit on everything: the defaults.
- nginx: log buffered by 64 KB or 1 s, no limit of requests per connection, SO_REUSEPORT, buffers of
  128 KB for 100 KB bodies and of 32 KB for 1 MB. HAProxy: http-reuse always, one log write per request
  (it has no buffered file log), tune.bufsize 64 KB for both. These sizes were the best of those tried.
  Envoy: request id on, buffered file log. Traefik: buffered file log, GOMAXPROCS as workers.
- Not used, because they are off by default: HAProxy's splice-response and nginx's proxy_buffering off,
  which bring their 1 MB rows to about 0.8 of what is shown.
- floor: the same syscalls without reading what is relayed, no log; not a proxy, the ground below all.
- Rates and latencies are of a closed loop that shares the cores with the contestant: information only.
";

fn medians(measures: &[Measure]) -> Option<Measure> {
    let of = |field: fn(&Measure) -> f64| median(measures.iter().map(field));
    Some(Measure {
        cpu_micros: of(|one| one.cpu_micros)?,
        rate: of(|one| one.rate)?,
        p50_micros: of(|one| one.p50_micros)?,
        p99_micros: of(|one| one.p99_micros)?,
    })
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 {
        upper
    } else {
        f64::midpoint(values[middle - 1], upper)
    })
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measures(cpu: &[f64]) -> Vec<Measure> {
        cpu.iter()
            .map(|&cpu_micros| Measure {
                cpu_micros,
                rate: 1.0,
                p50_micros: 1.0,
                p99_micros: 2.0,
            })
            .collect()
    }

    #[test]
    fn the_ratio_is_of_paired_rounds() {
        // A noisy round hits both of a pair; the medians alone would say 12/15.
        let ours = measures(&[10.0, 30.0, 12.0]);
        let theirs = measures(&[20.0, 40.0, 15.0]);
        let row = Row::new("get", ("nginx", "1"), &ours, &theirs).unwrap();
        let json = row.json("edge");
        assert_eq!(json["ours"], 12.0);
        assert_eq!(json["theirs"], 20.0);
        assert_eq!(json["ratio"], 0.75);
        assert_eq!(json["unit"], "cpu_us_per_request");
    }

    #[test]
    fn no_round_is_no_row() {
        assert!(Row::new("get", ("nginx", "1"), &[], &measures(&[1.0])).is_none());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median([4.0, 1.0, 3.0, 2.0].into_iter()), Some(2.5));
    }
}
