//! A replica that is behind: by how much, why, and what that costs the primary.

use std::sync::Arc;
use std::time::Duration;

use super::session::{Session, seconds};
use crate::diagnosis::{Finding, Kind, Severity};
use crate::standing::Lsn;

/// From so many times the limit on users notice.
const CRITICAL_TIMES: u32 = 6;

/// How far a replica may be behind; zero is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In time.
    pub lag: Duration,
    /// In bytes of the log.
    pub lag_bytes: u64,
}

/// A replica, by the primary's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// How long ago the primary was where it is.
    pub lag: Duration,
    /// Bytes of the log that it has not replayed.
    pub bytes: u64,
    /// Where the primary is.
    pub primary: Lsn,
}

impl Behind {
    /// Whether it is further behind than it may be.
    pub fn is_over(&self, limits: Limits) -> bool {
        (!limits.lag.is_zero() && self.lag > limits.lag)
            || (limits.lag_bytes > 0 && self.bytes > limits.lag_bytes)
    }
}

/// What a replica says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Own {
    /// Whether its replay is paused.
    pub is_paused: bool,
    /// How long it is told to wait before it replays (`recovery_min_apply_delay`).
    pub delay: Duration,
    /// Whether it receives from a primary at present.
    pub is_receiving: bool,
    /// What it has received.
    pub received: Option<Lsn>,
    /// How long its replay may wait for a query (`max_standby_streaming_delay`); none: for ever.
    pub waits_for_queries: Option<Duration>,
    /// The session there whose statement runs for longest.
    pub longest: Option<Session>,
}

/// What the primary says of a connection to a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// Where the replica connects from.
    pub address: String,
    /// `streaming`, `catchup`, …
    pub state: String,
    /// Until the replica had written, flushed and replayed what was sent.
    pub lags: [Option<Duration>; 3],
}

/// Reads that could have gone to replicas, since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Those that did.
    pub on_replicas: u64,
    /// Those that the primary executed, since no replica was near enough.
    pub kept: u64,
}

/// Why a replica is behind.
#[derive(Clone, Debug, PartialEq)]
enum Cause<'a> {
    Paused,
    Delayed,
    Cut,
    Network,
    Query(&'a Session),
    Replay,
    Unknown,
}

fn cause<'a>(behind: &Behind, own: Option<&'a Own>) -> Cause<'a> {
    let Some(own) = own else {
        return Cause::Unknown;
    };
    if own.is_paused {
        return Cause::Paused;
    }
    if !own.delay.is_zero() {
        return Cause::Delayed;
    }
    if !own.is_receiving {
        return Cause::Cut;
    }
    let missing = own.received.map(|received| behind.primary.since(received));
    if missing.is_some_and(|missing| missing > behind.bytes / 2) {
        return Cause::Network;
    }
    let waits = own.waits_for_queries.is_none_or(|limit| !limit.is_zero());
    let old = own.longest.as_ref().filter(|session| {
        let runs = session.statement.max(session.transaction);
        waits && runs.is_some_and(|runs| runs >= behind.lag / 2)
    });
    old.map_or(Cause::Replay, Cause::Query)
}

/// The finding about a replica that is further behind than it may be.
pub fn finding(
    server: &Arc<str>,
    behind: &Behind,
    limits: Limits,
    own: Option<&Own>,
    sender: Option<&Sender>,
    traffic: Traffic,
) -> Finding {
    let cause = cause(behind, own);
    let mut evidence = vec![format!(
        "it is {} behind the primary, {} bytes of its log",
        seconds(behind.lag),
        behind.bytes
    )];
    evidence.extend(own.and_then(|own| own.received).map(|received| {
        let missing = behind.primary.since(received).min(behind.bytes);
        format!(
            "{missing} of these bytes have not arrived there, {} wait to be replayed",
            behind.bytes - missing
        )
    }));
    if let Some(sender) = sender {
        let lag = |lag: Option<Duration>| lag.map_or("unknown".to_owned(), seconds);
        let [write, flush, replay] = sender.lags.map(lag);
        evidence.push(format!(
            "the primary says: {}, write lag {write}, flush lag {flush}, replay lag {replay}",
            sender.state
        ));
    }
    evidence.push(reason(&cause));
    if traffic.kept > 0 {
        let all = traffic.kept + traffic.on_replicas;
        evidence.push(format!(
            "{} of {all} reads since the last look went to the primary, since no replica was near \
             enough",
            traffic.kept
        ));
    }
    let is_critical = !limits.lag.is_zero() && behind.lag >= limits.lag * CRITICAL_TIMES;
    let session = match cause {
        Cause::Query(session) => Some(session),
        _ => None,
    };
    Finding {
        kind: Kind::ReplicaLag,
        severity: match (is_critical, &cause) {
            (_, Cause::Delayed) => Severity::Notice,
            (true, _) => Severity::Critical,
            (false, _) => Severity::Warning,
        },
        database: "".into(),
        user: None,
        server: Some(Arc::clone(server)),
        statement: session.and_then(Session::shown),
        origin: session.map(Session::origin),
        evidence,
        remedy: remedy(&cause, own),
    }
}

fn reason(cause: &Cause<'_>) -> String {
    match cause {
        Cause::Paused => "its replay is paused (pg_is_wal_replay_paused)".to_owned(),
        Cause::Delayed => "it is told to replay late (recovery_min_apply_delay)".to_owned(),
        Cause::Cut => "it receives nothing from the primary at present".to_owned(),
        Cause::Network => "the log arrives late: between the servers, or at their disks".to_owned(),
        Cause::Query(session) => format!(
            "its replay waits for a query: {} is {}",
            session.who(),
            session.doing()
        ),
        Cause::Replay => "it has the log and does not come along replaying it".to_owned(),
        Cause::Unknown => "it could not be asked why".to_owned(),
    }
}

fn remedy(cause: &Cause<'_>, own: Option<&Own>) -> String {
    match cause {
        Cause::Paused => "At the replica: SELECT pg_wal_replay_resume(). Somebody, or a \
             recovery target, has paused it."
            .to_owned(),
        Cause::Delayed => {
            let delay = own.map(|own| seconds(own.delay)).unwrap_or_default();
            format!(
                "It is {delay} behind on purpose: take it out of the service, or let reads be as \
                 old as that (max_lag in [postgres.replicas])."
            )
        }
        Cause::Cut => "See the replica's log: primary_conninfo, a password, a pg_hba.conf, or log \
             that the primary has removed (then it must be made anew; a replication slot keeps \
             what is needed)."
            .to_owned(),
        Cause::Network => "See the network between the servers and the replica's disk: write and \
             flush lag tell which; wal_compression makes less of it."
            .to_owned(),
        Cause::Query(session) => format!(
            "At the replica: SELECT pg_cancel_backend({}). A smaller max_standby_streaming_delay \
             lets replay go first, a statement_timeout there bounds such queries, or give long \
             ones a replica of their own.",
            session.process
        ),
        Cause::Replay => "Replay is one process: see its disk and processor (recovery_prefetch \
             since 15 helps with disks), write in smaller bursts, and look for tables without a \
             primary key that are changed much."
            .to_owned(),
        Cause::Unknown => {
            "See the replica's log, and pg_stat_replication at the primary.".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        lag: Duration::from_secs(10),
        lag_bytes: 1_000_000,
    };

    fn behind(seconds: u64, bytes: u64) -> Behind {
        Behind {
            lag: Duration::from_secs(seconds),
            bytes,
            primary: Lsn(5_000_000),
        }
    }

    #[test]
    fn limits_are_of_time_and_bytes() {
        let check = |behind: Behind, limits, expected| {
            assert_eq!(behind.is_over(limits), expected, "{behind:?}");
        };
        check(behind(10, 1_000_000), LIMITS, false);
        check(behind(11, 0), LIMITS, true);
        check(behind(0, 1_000_001), LIMITS, true);
        let none = Limits {
            lag: Duration::ZERO,
            lag_bytes: 0,
        };
        check(behind(1_000, u64::MAX), none, false);
    }

    #[test]
    fn the_cause_is_named_with_its_remedy() {
        let good = || Own {
            is_receiving: true,
            received: Some(Lsn(5_000_000)),
            waits_for_queries: Some(Duration::from_secs(30)),
            ..Own::default()
        };
        let check = |own: Option<Own>, reason: &str, remedy: &str| {
            let behind = behind(20, 2_000_000);
            let found = finding(
                &Arc::from("db-2:5432"),
                &behind,
                LIMITS,
                own.as_ref(),
                None,
                Traffic::default(),
            );
            let told = found.evidence.join("\n");
            assert!(told.contains(reason), "{told}");
            assert!(found.remedy.contains(remedy), "{}", found.remedy);
        };
        check(None, "could not be asked", "log");
        check(Some(good()), "does not come along", "one process");
        let own = Own {
            is_paused: true,
            ..good()
        };
        check(Some(own), "paused", "pg_wal_replay_resume()");
        let own = Own {
            delay: Duration::from_secs(3_600),
            ..good()
        };
        check(
            Some(own),
            "told to replay late",
            "1 h 0 min behind on purpose",
        );
        let own = Own {
            is_receiving: false,
            ..good()
        };
        check(Some(own), "receives nothing", "primary_conninfo");
        let own = Own {
            received: Some(Lsn(3_500_000)),
            ..good()
        };
        check(Some(own), "arrives late", "network");
        let session = Session {
            process: 7,
            state: "active".to_owned(),
            statement: Some(Duration::from_secs(25)),
            ..Session::default()
        };
        let own = Own {
            longest: Some(session.clone()),
            ..good()
        };
        check(
            Some(own),
            "waits for a query: process 7",
            "pg_cancel_backend(7)",
        );
        let own = Own {
            longest: Some(session),
            waits_for_queries: Some(Duration::ZERO),
            ..good()
        };
        check(Some(own), "does not come along", "one process");
    }

    #[test]
    fn what_it_costs_the_primary_is_told() {
        let sender = Sender {
            state: "streaming".to_owned(),
            lags: [
                Some(Duration::from_millis(20)),
                None,
                Some(Duration::from_secs(90)),
            ],
            ..Sender::default()
        };
        let traffic = Traffic {
            on_replicas: 10,
            kept: 90,
        };
        let server = Arc::from("db-2:5432");
        let behind = behind(70, 2_000_000);
        let found = finding(&server, &behind, LIMITS, None, Some(&sender), traffic);
        assert_eq!(found.severity, Severity::Critical);
        assert_eq!(
            found.evidence,
            [
                "it is 1 min behind the primary, 2000000 bytes of its log",
                "the primary says: streaming, write lag 0.0 s, flush lag unknown, replay lag 1 min",
                "it could not be asked why",
                "90 of 100 reads since the last look went to the primary, since no replica was \
                 near enough",
            ]
        );
    }
}
