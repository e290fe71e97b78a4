//! When to order: pure, with the time and the chance as arguments. Times are seconds since 1970,
//! since certificates are dated and records outlive processes; a clock that jumps can delay an
//! attempt by no more than [`LONGEST_HOLD`].

use outgrow_core::Random;

use crate::failure::{Blame, Failure};
use crate::record::{Record, Renewal};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The longest wait that an authority may ask for.
pub const LONGEST_HOLD: u64 = 7 * DAY;
/// Waits after failures in a row. Public authorities take five failed proofs of a name an hour.
const WAITS: [u64; 9] = [
    MINUTE,
    10 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    4 * HOUR,
    8 * HOUR,
    16 * HOUR,
    DAY,
];
/// The longest wait while the authority cannot be reached: nothing is counted there.
const OUTAGE: u64 = HOUR;
/// After a limit that says nothing about when to come again.
const LIMITED: u64 = HOUR;
/// How long after a failure somebody who reads the configuration again may have it tried at once.
const NUDGE: u64 = 15 * MINUTE;
/// How often at most and at least an authority is asked about a renewal (RFC 9773 section 4.3.3).
const ASK: (u64, u64) = (HOUR, DAY);
/// After the authority could not say anything.
const ASK_AGAIN: u64 = 6 * HOUR;

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its first second.
    pub from: u64,
    /// Its last second.
    pub until: u64,
}

/// What is to be done about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Order it.
    Order,
    /// Ask the authority when it should be renewed.
    AskRenewal,
    /// Nothing until then.
    Wait(u64),
}

/// What is to be done now. `chance` is the certificate's own, the same at each question.
pub fn step(
    record: &Record,
    life: Option<Life>,
    asks_renewal: bool,
    now: u64,
    chance: u64,
) -> Step {
    let order = next_attempt(record, life, now, chance);
    if order <= now {
        return Step::Order;
    }
    if asks_renewal && life.is_some() && record.begun.is_none() {
        if record.renewal.ask_at <= now {
            return Step::AskRenewal;
        }
        return Step::Wait(order.min(record.renewal.ask_at));
    }
    Step::Wait(order)
}

/// When it is ordered next.
pub fn next_attempt(record: &Record, life: Option<Life>, now: u64, chance: u64) -> u64 {
    let wanted = life.map_or(now, |life| renewal(life, &record.renewal, chance));
    let hold = match (record.begun, record.hold) {
        // The first time it goes on at once; after that something ends us in the middle of it.
        (Some(begun), _) => match record.cut_off {
            0 => 0,
            count => begun + wait(count),
        },
        (None, hold) => hold.unwrap_or(0),
    };
    wanted.max(hold.min(now + LONGEST_HOLD))
}

/// When a certificate is renewed: as the authority said, else at two thirds of its life, a little
/// earlier by chance so that not all that were got together are renewed together.
pub fn renewal(life: Life, told: &Renewal, chance: u64) -> u64 {
    let length = life.until.saturating_sub(life.from);
    match told.at {
        // However late that is: a day, or a tenth of its life, is left for failures.
        Some(at) => at.min(life.until.saturating_sub((length / 10).min(DAY))),
        None => {
            life.from + length / 3 * 2 - Random::from_seed(chance).next_u64() % (length / 30 + 1)
        }
    }
}

/// An attempt begins. To be written down before anything is asked.
pub fn begin(record: &mut Record, now: u64) {
    if record.begun.is_some() {
        record.cut_off = record.cut_off.saturating_add(1);
    }
    record.begun = Some(now);
}

/// The attempt was given up because this process has to: the next one goes on with it.
pub fn leave(record: &mut Record) {
    record.cut_off = record.cut_off.saturating_sub(1);
}

/// It has a certificate.
pub fn succeed(record: &mut Record, now: u64) {
    *record = Record {
        wanted: std::mem::take(&mut record.wanted),
        authority: std::mem::take(&mut record.authority),
        all_failures: record.all_failures,
        succeeded: Some(now),
        ..Record::default()
    };
}

/// It has none.
pub fn fail(record: &mut Record, failure: &Failure, now: u64, random: &mut Random) {
    record.failures = record.failures.saturating_add(1);
    record.all_failures = record.all_failures.saturating_add(1);
    record.begun = None;
    record.cut_off = 0;
    record.failed = Some(now);
    record.problem = Some(failure.text.clone());
    let wait = wait(record.failures);
    let wait = match failure.blame {
        Blame::Outage => wait.min(OUTAGE),
        Blame::RateLimited if failure.retry_after.is_none() => wait.max(LIMITED),
        Blame::RateLimited | Blame::Refused | Blame::Own => wait,
    };
    // Up to a fifth longer, so that not everybody who failed together comes again together.
    let wait = wait + random.below(wait as usize / 5 + 1) as u64;
    let told = failure.retry_after.map_or(0, |time| time.as_secs() + 1);
    record.is_limited = failure.blame == Blame::RateLimited || told > wait;
    record.hold = Some(now + wait.max(told).min(LONGEST_HOLD));
    if failure.blame == Blame::Refused {
        // What was refused is refused again.
        record.order = None;
    }
}

/// Somebody has looked at it (a reload): what failed is tried at once, unless that was just now or
/// the authority wants to be left alone.
pub fn nudge(record: &mut Record, now: u64) {
    let is_settled = record.failed.is_none_or(|failed| now >= failed + NUDGE);
    if is_settled && !record.is_limited && record.begun.is_none() {
        record.hold = None;
    }
}

/// The authority has said when it should be renewed. The moment within the window is chosen once.
pub fn take_window(
    record: &mut Record,
    certificate: &str,
    (window, explanation): ((u64, u64), Option<String>),
    again: u64,
    now: u64,
    random: &mut Random,
) {
    let told = &mut record.renewal;
    if told.certificate != certificate || told.window != window || told.at.is_none() {
        let (from, until) = window;
        let length = until.saturating_sub(from);
        told.at = Some(from + random.below(length as usize + 1) as u64);
    }
    certificate.clone_into(&mut told.certificate);
    told.window = window;
    told.explanation = explanation;
    told.ask_at = now + again.clamp(ASK.0, ASK.1);
}

/// The authority has said nothing about it: what it said before about this certificate goes on.
pub fn no_window(record: &mut Record, certificate: &str, now: u64) {
    if record.renewal.certificate != certificate {
        record.renewal = Renewal {
            certificate: certificate.to_owned(),
            ..Renewal::default()
        };
    }
    record.renewal.ask_at = now + ASK_AGAIN;
}

fn wait(failures: u32) -> u64 {
    let at = (failures.max(1) - 1) as usize;
    WAITS[at.min(WAITS.len() - 1)]
}

#[cfg(test)]
mod tests;
