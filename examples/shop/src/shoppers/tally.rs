//! What the shoppers count. Lists are bounded; the counts are not lost when a
//! list is full. Not here: who counts (`shopper`, `web_sockets`).

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    time::Duration,
};

use super::histogram::Histogram;

/// Examples of what went wrong that are kept, the first ones.
pub const MOST_EXAMPLES: usize = 100;

/// Characters that are kept of an example's detail.
const LONGEST_DETAIL: usize = 300;

/// Why a request failed. A body that ended early is not here: it is counted
/// apart, as truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No connection could be made.
    Connect,
    /// The connection was closed or reset before the first byte of the answer,
    /// and the request could not be sent again.
    Unanswered,
    /// The answer has another status than the right one.
    Status(u16),
    /// The answer has another body than the right one.
    WrongBody,
    /// The answer is not HTTP/1.1, or was cut inside its head.
    Malformed,
    /// No whole answer came in time.
    TimedOut,
    /// Bytes came that nobody had asked for.
    Surplus,
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => out.write_str("cannot connect"),
            Self::Unanswered => out.write_str("closed before the answer"),
            Self::Status(status) => write!(out, "status {status}"),
            Self::WrongBody => out.write_str("wrong body"),
            Self::Malformed => out.write_str("malformed answer"),
            Self::TimedOut => out.write_str("timed out"),
            Self::Surplus => out.write_str("bytes nobody asked for"),
        }
    }
}

/// Something that went wrong, for a person to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Since the shoppers were started.
    pub at: Duration,
    /// The kind of request, or "web socket".
    pub kind: String,
    /// What happened.
    pub what: String,
    /// More about it, at most 300 characters.
    pub detail: String,
}

impl fmt::Display for Example {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at.as_secs_f64();
        write!(out, "{seconds:.3} s {}: {}", self.kind, self.what)?;
        if !self.detail.is_empty() {
            write!(out, " ({})", self.detail)?;
        }
        Ok(())
    }
}

/// What was counted of one kind of request. Each request is counted once as
/// ok, failed or truncated.
#[derive(Debug, Clone, Default)]
pub struct KindCounts {
    /// Requests that ended, well or not.
    pub requests: u64,
    /// With the right status and exactly the right body.
    pub ok: u64,
    /// Failed, for whatever reason.
    pub failed: u64,
    /// Of the failed ones, those that may be repeated: idempotent by method, or
    /// carrying an Idempotency-Key.
    pub failed_idempotent: u64,
    /// The body ended early; what had come of it was right.
    pub truncated: u64,
    /// Sent a second time because a kept connection was closed just then, as
    /// browsers do. Counted besides what became of the request.
    pub retried: u64,
    /// How long the ok ones took.
    pub latency: Histogram,
}

impl KindCounts {
    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.ok += other.ok;
        self.failed += other.failed;
        self.failed_idempotent += other.failed_idempotent;
        self.truncated += other.truncated;
        self.retried += other.retried;
        self.latency.merge(&other.latency);
    }
}

/// What was counted of WebSockets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebSocketCounts {
    /// Open now.
    pub open: u64,
    /// Opened so far.
    pub opened: u64,
    /// Could not be opened.
    pub refused: u64,
    /// Messages that came back right.
    pub echoes: u64,
    /// Messages that the shop sent of itself.
    pub ticks: u64,
    /// Broken: closed by the server with a close frame.
    pub closed: u64,
    /// Of these: with 1012 (Service Restart), which asks to come again.
    pub told: u64,
    /// Broken: reset.
    pub reset: u64,
    /// Broken: the connection ended without a close frame.
    pub ended: u64,
    /// Broken: no echo in time.
    pub silent: u64,
    /// Broken: another message came than the echo, or no valid frame.
    pub wrong: u64,
}

impl WebSocketCounts {
    /// All breaks, whatever their kind.
    pub fn broken(&self) -> u64 {
        self.closed + self.reset + self.ended + self.silent + self.wrong
    }
}

/// Everything counted since the start.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Time since the start.
    pub elapsed: Duration,
    /// By kind of request.
    pub kinds: BTreeMap<String, KindCounts>,
    /// Failed requests by reason.
    pub reasons: BTreeMap<Reason, u64>,
    /// Connections made.
    pub connects: u64,
    /// Of these, because a kept one had been closed between two requests.
    pub reconnects: u64,
    /// WebSockets.
    pub web_sockets: WebSocketCounts,
    /// The first things that went wrong, at most [`MOST_EXAMPLES`].
    pub examples: Vec<Example>,
}

impl Totals {
    /// All kinds of requests together.
    pub fn all(&self) -> KindCounts {
        let mut all = KindCounts::default();
        for counts in self.kinds.values() {
            all.merge(counts);
        }
        all
    }

    /// Requests in a second, over the whole time.
    pub fn rate(&self) -> f64 {
        self.all().requests as f64 / self.elapsed.as_secs_f64().max(0.001)
    }

    /// What a person wants to know when something failed: reasons and the
    /// first `most` examples, one a line. Empty when nothing failed.
    pub fn complaints(&self, most: usize) -> String {
        let mut text = String::new();
        for (reason, count) in &self.reasons {
            let _infallible = writeln!(text, "{count} x {reason}");
        }
        for example in self.examples.iter().take(most) {
            let _infallible = writeln!(text, "{example}");
        }
        text
    }
}

/// What was counted since the last look, for a live display.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Time since the last look.
    pub interval: Duration,
    /// All kinds of requests together, in this interval.
    pub counts: KindCounts,
    /// WebSockets, since the start.
    pub web_sockets: WebSocketCounts,
}

impl Stats {
    /// Requests in a second.
    pub fn rate(&self) -> f64 {
        self.counts.requests as f64 / self.interval.as_secs_f64().max(0.001)
    }
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Truncated(String),
    Failed(Reason, String),
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) totals: Totals,
    recent: KindCounts,
    looked_at: Duration,
}

impl Tally {
    /// Counts a request that has ended.
    pub(super) fn count(
        &mut self,
        kind: &str,
        outcome: &Outcome,
        idempotent: bool,
        retried: bool,
        took: Duration,
        at: Duration,
    ) {
        if !self.totals.kinds.contains_key(kind) {
            self.totals
                .kinds
                .insert(kind.to_owned(), KindCounts::default());
        }
        let of_kind = self.totals.kinds.get_mut(kind);
        for counts in of_kind.into_iter().chain([&mut self.recent]) {
            counts.requests += 1;
            counts.retried += u64::from(retried);
            match outcome {
                Outcome::Ok => {
                    counts.ok += 1;
                    counts.latency.record(took);
                }
                Outcome::Truncated(_) => counts.truncated += 1,
                Outcome::Failed(..) => {
                    counts.failed += 1;
                    counts.failed_idempotent += u64::from(idempotent);
                }
            }
        }
        match outcome {
            Outcome::Ok => {}
            Outcome::Truncated(detail) => self.example(at, kind, "truncated", detail),
            Outcome::Failed(reason, detail) => {
                *self.totals.reasons.entry(*reason).or_default() += 1;
                self.example(at, kind, &reason.to_string(), detail);
            }
        }
    }

    /// Keeps an example, if there is room.
    pub(super) fn example(&mut self, at: Duration, kind: &str, what: &str, detail: &str) {
        if self.totals.examples.len() < MOST_EXAMPLES {
            self.totals.examples.push(Example {
                at,
                kind: kind.to_owned(),
                what: what.to_owned(),
                detail: detail.chars().take(LONGEST_DETAIL).collect(),
            });
        }
    }

    /// What was counted since the last call of this.
    pub(super) fn look(&mut self, now: Duration) -> Stats {
        let interval = now.saturating_sub(self.looked_at);
        self.looked_at = now;
        Stats {
            interval,
            counts: std::mem::take(&mut self.recent),
            web_sockets: self.totals.web_sockets.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_once_and_lists_are_bounded() {
        let mut tally = Tally::default();
        let millisecond = Duration::from_millis(1);
        for place in 0..300 {
            let outcome = match place % 3 {
                0 => Outcome::Ok,
                1 => Outcome::Truncated("3 of 4".into()),
                _ => Outcome::Failed(Reason::Status(503), "x".repeat(1000)),
            };
            tally.count(
                "home",
                &outcome,
                place % 2 == 0,
                false,
                millisecond,
                millisecond,
            );
        }
        let all = tally.totals.all();
        assert_eq!(
            (all.requests, all.ok, all.failed, all.truncated),
            (300, 100, 100, 100)
        );
        assert_eq!(all.failed_idempotent, 50);
        assert_eq!(all.latency.count(), 100);
        assert_eq!(tally.totals.reasons[&Reason::Status(503)], 100);
        assert_eq!(tally.totals.examples.len(), MOST_EXAMPLES);
        assert_eq!(tally.totals.examples[1].detail.len(), LONGEST_DETAIL);
        let stats = tally.look(Duration::from_secs(2));
        assert_eq!((stats.counts.requests, stats.rate() as u64), (300, 150));
        assert_eq!(tally.look(Duration::from_secs(3)).counts.requests, 0);
    }
}
