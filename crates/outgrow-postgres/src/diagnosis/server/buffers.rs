//! Cold memory: after a restart, or a failover to another server, pages come from disk that are
//! usually in the server's memory. Told only when statements are measurably slower for it, against
//! what was usual here before; without such a before nothing can be told.

use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;

use super::session::seconds;
use crate::diagnosis::{Finding, Kind, Severity};

/// Fewer pages than that between two looks tell nothing.
const FEW_PAGES: u64 = 1_000;
/// Fewer statements neither.
const FEW_QUERIES: u64 = 20;
/// Looks after which it is known what is usual, and how much each counts.
const USUAL_AFTER: u32 = 4;
const WEIGHT: f64 = 0.2;
/// For how long after a restart memory may be cold for it.
const COLD_FOR: Duration = Duration::from_secs(3_600);
/// By how much pages must come from disk more often, as a factor and as a share, and statements be
/// slower.
const MISS_FACTOR: f64 = 3.0;
const MISS_MORE: f64 = 0.05;
const SLOWER: f64 = 1.5;

/// What is counted of a database, since whenever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// When the server was started, in milliseconds of its own clock.
    pub started: i64,
    /// Pages that came from outside of its memory.
    pub reads: u64,
    /// Pages that were there.
    pub hits: u64,
    /// Queries through us.
    pub queries: u64,
    /// For how long they ran, in microseconds.
    pub query_micros: u64,
}

/// What was measured between two looks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Measure {
    /// The share of pages that came from outside of its memory.
    miss: f64,
    /// How long a query ran on average, in microseconds.
    micros: f64,
}

fn measure(now: &Reading, last: &Reading) -> Option<Measure> {
    let reads = now.reads.checked_sub(last.reads)?;
    let hits = now.hits.checked_sub(last.hits)?;
    let queries = now.queries.checked_sub(last.queries)?;
    let micros = now.query_micros.checked_sub(last.query_micros)?;
    if reads + hits < FEW_PAGES || queries < FEW_QUERIES {
        return None;
    }
    Some(Measure {
        miss: reads as f64 / (reads + hits) as f64,
        micros: micros as f64 / queries as f64,
    })
}

/// What is remembered of a database's memory from one look to the next.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    last: Option<(Arc<str>, Reading)>,
    usual: Option<Measure>,
    looks: u32,
    restarted: Option<Ticks>,
}

/// Memory that is cold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cold {
    now: Measure,
    usual: Measure,
    /// For how long the restart was seen.
    since: Duration,
}

/// A table or index that is used much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its name, as statements write it.
    pub name: String,
    /// Its size in bytes, by the server's estimate.
    pub bytes: u64,
}

impl Buffers {
    /// Takes note of what is counted at a server; tells when its memory is cold.
    pub fn note(&mut self, server: &Arc<str>, reading: Reading, now: Ticks) -> Option<Cold> {
        let (before, last) = self.last.replace((Arc::clone(server), reading))?;
        if before != *server || last.started != reading.started {
            self.restarted = Some(now);
            return None;
        }
        let measure = measure(&reading, &last)?;
        let usual = self.usual.filter(|_| self.looks >= USUAL_AFTER);
        let since = self.restarted.map(|at| now.since(at));
        if let (Some(usual), Some(since)) = (usual, since)
            && since < COLD_FOR
        {
            let is_cold =
                measure.miss >= usual.miss * MISS_FACTOR && measure.miss >= usual.miss + MISS_MORE;
            if is_cold {
                // What is not usual is not to become it.
                let is_slower = measure.micros >= usual.micros * SLOWER;
                return is_slower.then_some(Cold {
                    now: measure,
                    usual,
                    since,
                });
            }
        }
        self.restarted = None;
        self.looks += 1;
        let known = self.usual.get_or_insert(measure);
        known.miss += WEIGHT * (measure.miss - known.miss);
        known.micros += WEIGHT * (measure.micros - known.micros);
        None
    }
}

/// The finding; `hottest`: the tables and indexes that are used most.
pub fn finding(
    database: &Arc<str>,
    server: &Arc<str>,
    cold: &Cold,
    hottest: &[Relation],
) -> Finding {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let millis = |micros: f64| format!("{:.1} ms", micros / 1_000.0);
    let mut evidence = vec![
        format!(
            "since it was started, or became the primary, {} ago, {} of the pages that statements \
             want are not in its memory, usually {}",
            seconds(cold.since),
            percent(cold.now.miss),
            percent(cold.usual.miss),
        ),
        format!(
            "queries take {} on average, usually {}",
            millis(cold.now.micros),
            millis(cold.usual.micros),
        ),
    ];
    if !hottest.is_empty() {
        let size = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
        let all: Vec<String> = hottest
            .iter()
            .map(|one| format!("{} ({})", one.name, size(one.bytes)))
            .collect();
        evidence.push(format!("used most: {}", all.join(", ")));
    }
    let calls: Vec<String> = hottest
        .iter()
        .map(|one| format!("pg_prewarm('{}')", one.name.replace('\'', "''")))
        .collect();
    let warm = match calls.is_empty() {
        true => "pg_prewarm('TABLE') for what is used most".to_owned(),
        false => calls.join(", "),
    };
    Finding {
        kind: Kind::ColdCache,
        severity: Severity::Warning,
        database: Arc::clone(database),
        user: None,
        server: Some(Arc::clone(server)),
        statement: None,
        origin: None,
        evidence,
        remedy: format!(
            "It gets better by itself as pages are read. At once: CREATE EXTENSION IF NOT EXISTS \
             pg_prewarm; SELECT {warm}; as far as shared_buffers has room. With \
             shared_preload_libraries = 'pg_prewarm' a restart reads again what was in memory; \
             before a planned switchover warm the replica so."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a server half a minute apart.
    struct Looks {
        buffers: Buffers,
        reading: Reading,
        now: Ticks,
    }

    impl Looks {
        fn new() -> Self {
            Self {
                buffers: Buffers::default(),
                reading: Reading::default(),
                now: Ticks::ZERO,
            }
        }

        /// Whether it is told that memory is cold, after 10,000 pages of which so many were read
        /// and 100 queries of so many milliseconds.
        fn look(&mut self, server: &str, reads: u64, millis: u64) -> bool {
            self.now = self.now + Duration::from_secs(30);
            self.reading.reads += reads;
            self.reading.hits += 10_000 - reads;
            self.reading.queries += 100;
            self.reading.query_micros += 100 * millis * 1_000;
            let cold = self
                .buffers
                .note(&Arc::from(server), self.reading, self.now);
            cold.is_some()
        }

        fn warm_up(&mut self) {
            for _ in 0..8 {
                assert!(!self.look("a", 100, 2), "as usual");
            }
        }

        fn restart(&mut self) {
            self.reading.started += 1;
            self.reading.reads = 0;
            self.reading.hits = 0;
            self.look("a", 0, 2);
        }
    }

    #[test]
    fn cold_is_told_after_a_restart_until_it_is_warm() {
        let mut looks = Looks::new();
        looks.warm_up();
        looks.restart();
        assert!(looks.look("a", 4_000, 20));
        assert!(looks.look("a", 2_000, 8));
        assert!(!looks.look("a", 150, 2), "it is warm");
        assert!(
            !looks.look("a", 4_000, 20),
            "for another reason than the restart"
        );
    }

    #[test]
    fn another_server_is_measured_against_what_was_usual() {
        let mut looks = Looks::new();
        looks.warm_up();
        looks.look("b", 4_000, 20);
        assert!(looks.look("b", 4_000, 20));
        assert!(!looks.look("b", 4_000, 2), "nobody is slower for it");
    }

    #[test]
    fn without_a_before_nothing_is_told() {
        let mut looks = Looks::new();
        looks.look("a", 100, 2);
        looks.restart();
        assert!(!looks.look("a", 4_000, 20));
        // As usual, if much: nothing follows from a restart.
        let mut looks = Looks::new();
        for _ in 0..8 {
            looks.look("a", 5_000, 20);
        }
        looks.restart();
        assert!(!looks.look("a", 5_000, 20));
        // And after an hour it has other reasons.
        let mut looks = Looks::new();
        looks.warm_up();
        looks.restart();
        looks.now = looks.now + COLD_FOR;
        assert!(!looks.look("a", 4_000, 20));
    }

    #[test]
    fn the_finding_names_what_to_warm() {
        let cold = Cold {
            now: Measure {
                miss: 0.42,
                micros: 12_340.0,
            },
            usual: Measure {
                miss: 0.01,
                micros: 1_100.0,
            },
            since: Duration::from_secs(90),
        };
        let hottest = [Relation {
            name: "public.\"it's\"".to_owned(),
            bytes: 3 << 20,
        }];
        let found = finding(&Arc::from("shop"), &Arc::from("db:5432"), &cold, &hottest);
        assert_eq!(
            found.evidence,
            [
                "since it was started, or became the primary, 1 min ago, 42.0 % of the pages that \
                 statements want are not in its memory, usually 1.0 %",
                "queries take 12.3 ms on average, usually 1.1 ms",
                "used most: public.\"it's\" (3 MiB)",
            ]
        );
        assert!(
            found
                .remedy
                .contains("SELECT pg_prewarm('public.\"it''s\"');")
        );
    }
}
