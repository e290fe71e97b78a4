//! One shopper: asks, checks, counts, waits, asks again. Not here: how an
//! answer is read (`wire`), what it must be (`visit`).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::{
    Floor, Pace,
    tally::{Outcome, Reason},
    told,
    visit::{Kind, Mismatch, Visit, visit},
    wire::{Answer, Idle, Wire, WireFault},
};
use crate::content::scatter;

/// Pause after a connection could not be made, so that a shop that is away is
/// not asked thousands of times a second.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// How long one of several addresses is tried before the next one.
const ATTEMPT: Duration = Duration::from_secs(1);

struct Shopper {
    floor: Arc<Floor>,
    wire: Option<Wire>,
    /// Had a connection before, which was closed between two requests.
    lost: bool,
    /// The place of the address that was reached last.
    reached: usize,
}

/// A request of the plan.
struct Turn {
    number: u64,
    planned: Instant,
}

/// Shops until the plan's end or until told to stop.
pub(super) async fn run(floor: Arc<Floor>, place: usize, mut stopped: watch::Receiver<bool>) {
    let mut shopper = Shopper {
        floor: Arc::clone(&floor),
        wire: None,
        lost: false,
        reached: place % (floor.plan.others.len() + 1),
    };
    let mut first = true;
    loop {
        let turn = tokio::select! {
            biased;
            () = told(&mut stopped) => return,
            turn = next_turn(&floor, place, first) => turn,
        };
        let Some(turn) = turn else { return };
        first = false;
        let seed = scatter(turn.number ^ 0x006d_6978);
        let kind = kind_of(&floor.plan.mix, seed);
        let number = (u64::from(floor.plan.seed) << 40) + turn.number;
        let visit = visit(kind, &floor.plan.host, number);
        let (outcome, retried) = shopper.perform(&visit).await;
        let took = turn.planned.elapsed();
        let at = floor.elapsed();
        floor
            .tally()
            .count(&kind.name(), &outcome, visit.idempotent, retried, took, at);
        if matches!(outcome, Outcome::Failed(Reason::Connect, _)) {
            time::sleep(CONNECT_PAUSE).await;
        }
    }
}

/// Waits for this shopper's next request; `None` at the plan's end.
async fn next_turn(floor: &Floor, place: usize, first: bool) -> Option<Turn> {
    let plan = &floor.plan;
    let end = plan.duration.map(|duration| floor.started + duration);
    let turn = match plan.pace {
        Pace::PerSecond(rate) => {
            let number = floor.take_number()?;
            let planned = floor.started + Duration::from_secs_f64(number as f64 / rate);
            if end.is_none_or(|end| planned < end) {
                time::sleep_until(planned).await;
            }
            Turn { number, planned }
        }
        Pace::Think(pause) => {
            if !pause.is_zero() {
                let asked = floor.next_number.load(std::sync::atomic::Ordering::Relaxed);
                let random = scatter(asked ^ ((place as u64) << 32)) % 1024;
                // The first pause spreads the shoppers, so it may be short.
                let share = random as f64 / 1024.0 + if first { 0.0 } else { 0.5 };
                time::sleep(pause.mul_f64(share)).await;
            }
            let number = floor.take_number()?;
            let planned = Instant::now();
            Turn { number, planned }
        }
    };
    end.is_none_or(|end| turn.planned < end).then_some(turn)
}

fn kind_of(mix: &[(Kind, u32)], seed: u64) -> &Kind {
    let all: u64 = mix.iter().map(|kind| u64::from(kind.1)).sum();
    let mut place = seed % all.max(1);
    for (kind, weight) in mix {
        match place.checked_sub(u64::from(*weight)) {
            None => return kind,
            Some(rest) => place = rest,
        }
    }
    &Kind::Home
}

impl Shopper {
    /// Asks once, or twice when a kept connection was closed on an idempotent
    /// request. Says what became of it, and whether it was asked twice.
    async fn perform(&mut self, visit: &Visit) -> (Outcome, bool) {
        let deadline = Instant::now() + self.floor.plan.time_limit;
        let mut retried = false;
        loop {
            let mut wire = match self.connected(deadline).await {
                Ok(wire) => wire,
                Err(outcome) => return (outcome, retried),
            };
            let again = wire.answered() && visit.idempotent && !retried;
            match wire.exchange(&visit.request, deadline).await {
                Ok(answer) => {
                    let outcome = judge(visit, &answer);
                    if !answer.closes {
                        self.wire = Some(wire);
                    }
                    return (outcome, retried);
                }
                Err(WireFault::Unanswered(_)) if again => retried = true,
                Err(fault) => return (judge_fault(visit, fault), retried),
            }
        }
    }

    /// The kept connection if it is still good, else a new one.
    async fn connected(&mut self, deadline: Instant) -> Result<Wire, Outcome> {
        if let Some(mut wire) = self.wire.take() {
            match wire.idle() {
                Idle::Usable => return Ok(wire),
                Idle::Closed => self.lost = true,
                Idle::Surplus => {
                    let detail = "on a connection between two requests".into();
                    return Err(Outcome::Failed(Reason::Surplus, detail));
                }
            }
        }
        let wire = self.connect(deadline).await?;
        let mut tally = self.floor.tally();
        tally.totals.connects += 1;
        tally.totals.reconnects += u64::from(std::mem::take(&mut self.lost));
        drop(tally);
        Ok(wire)
    }

    /// A connection to the first address that can be reached; the last one's error when none can.
    async fn connect(&mut self, deadline: Instant) -> Result<Wire, Outcome> {
        let plan = &self.floor.plan;
        let count = plan.others.len() + 1;
        let mut failure = Outcome::Failed(Reason::Connect, "no time left".into());
        for turn in 0..count {
            let place = (self.reached + turn) % count;
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = if count == 1 { left } else { left.min(ATTEMPT) };
            let address = match place.checked_sub(1) {
                Some(other) => plan.others[other],
                None => plan.address,
            };
            match Wire::connect(address, limit).await {
                Ok(wire) => {
                    self.reached = place;
                    return Ok(wire);
                }
                Err(error) => failure = Outcome::Failed(Reason::Connect, error.to_string()),
            }
        }
        Err(failure)
    }
}

fn judge(visit: &Visit, answer: &Answer) -> Outcome {
    if answer.status != visit.status {
        let detail = excerpt(&answer.body);
        return Outcome::Failed(Reason::Status(answer.status), detail);
    }
    match visit.expected.judge(&answer.body, !answer.until_close) {
        Ok(()) => Outcome::Ok,
        Err(Mismatch::Short) => Outcome::Truncated(format!("{} bytes came", answer.body.len())),
        Err(Mismatch::Wrong(what)) => Outcome::Failed(Reason::WrongBody, what),
    }
}

fn judge_fault(visit: &Visit, fault: WireFault) -> Outcome {
    match fault {
        WireFault::Unanswered(how) => Outcome::Failed(Reason::Unanswered, how.into()),
        WireFault::Malformed(what) => Outcome::Failed(Reason::Malformed, what),
        WireFault::TimedOut(status) => Outcome::Failed(
            Reason::TimedOut,
            status.map_or_else(|| "no head".into(), |status| format!("after a {status}")),
        ),
        WireFault::Truncated { status, body, .. } if status != visit.status => {
            Outcome::Failed(Reason::Status(status), excerpt(&body))
        }
        WireFault::Truncated { body, how, .. } => match visit.expected.judge(&body, false) {
            // The last chunk was missing, or the body is not known.
            Ok(()) | Err(Mismatch::Short) => {
                Outcome::Truncated(format!("{how} after {} bytes of body", body.len()))
            }
            Err(Mismatch::Wrong(what)) => Outcome::Failed(Reason::WrongBody, what),
        },
    }
}

fn excerpt(body: &Bytes) -> String {
    String::from_utf8_lossy(body).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_by_their_weight() {
        let mix = vec![(Kind::Home, 30), (Kind::Product, 0), (Kind::Report, 70)];
        let count = |kind: &Kind| (0..100).filter(|seed| kind_of(&mix, *seed) == kind).count();
        assert_eq!(count(&Kind::Home), 30);
        assert_eq!(count(&Kind::Product), 0);
        assert_eq!(count(&Kind::Report), 70);
    }
}
