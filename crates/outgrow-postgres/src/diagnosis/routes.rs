//! To which HTTP requests a statement belongs: by which routes its instance had in flight when it was
//! executed. Pure.
//!
//! An instance with requests of one route in flight at a statement says it outright. With several it is
//! a matter of statistics: the statement's own route is in flight whenever it is executed, another one
//! only as often as it is in flight anyway. So of each statement some samples are kept, not closer
//! together than [`APART`]; how often a route is in flight anyway is what it is at the samples of all
//! statements ([`Shares`]), which are of the same time. The route under which the samples are likeliest
//! is the statement's, if no other one is nearly as likely. Else it is said that it is one of them, or
//! that there are several.
//!
//! What an instance executes outside of requests, or after the end of the response, meets routes by
//! chance only, and belongs to none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_core::serving::{Sample, SampleCell, Servings};

/// Samples of a statement.
const MOST_SAMPLES: usize = 32;
/// Between two of them at least: those that are closer are of the same requests.
const APART: Duration = Duration::from_millis(100);
/// Most routes that are told of a statement.
const MOST_TOLD: usize = 4;
/// How often the statement's own route is not seen to be in flight although it is.
const MISSED: f64 = 0.03;
/// Shares of the time are reckoned with as at least and at most that.
const RARELY: f64 = 0.01;
const ALWAYS: f64 = 0.9;
/// So much likelier than another one is certain enough, as a logarithm: a thousand times, and the
/// square of that, since samples that follow each other may be of the same requests.
const CERTAIN: f64 = 14.0;
/// The part of the samples in which a route that is the only one is in flight.
const NEARLY_ALL: f64 = 0.9;
/// Several routes are told of a statement only with so many samples.
const ENOUGH: usize = 8;
/// And only if together they are in flight at that part of the samples: what is part of nearly every
/// request is of no route in particular.
const MOST_OF_THEM: f64 = 0.7;
/// How much more often than at any statement each of them must be in flight.
const MORE_OFTEN: f64 = 1.3;
/// Statements whose samples are looked at for how often routes are in flight.
const MOST_SHARING: usize = 256;

/// The samples of a statement. One writer.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    cells: [SampleCell; MOST_SAMPLES],
    taken: AtomicU32,
    /// When the next one is due.
    due: AtomicU64,
}

impl Samples {
    /// Whether it is time for another one.
    #[inline]
    pub(crate) fn is_due(&self, now: Ticks) -> bool {
        now.0 >= self.due.load(Ordering::Relaxed)
    }

    /// Keeps one. Once all places are taken it is a random one that is forgotten: so the samples
    /// reach back further than their number.
    pub(crate) fn put(&self, sample: &Sample, now: Ticks) {
        let taken = self.taken.load(Ordering::Relaxed);
        let place = match taken as usize {
            free if free < MOST_SAMPLES => free,
            // Fibonacci hashing: as good as random here.
            more => (more.wrapping_mul(0x9E37_79B9) >> 16) % MOST_SAMPLES,
        };
        self.cells[place].set(sample);
        // The number of samples does not begin anew.
        let taken = taken.checked_add(1).unwrap_or(MOST_SAMPLES as u32);
        self.taken.store(taken, Ordering::Relaxed);
        self.due.store((now + APART).0, Ordering::Relaxed);
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Sample> {
        let taken = self.taken.load(Ordering::Relaxed) as usize;
        let cells = self.cells.iter().take(taken);
        cells.map(SampleCell::get).collect()
    }
}

/// How often routes are in flight when anything is executed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shares {
    counts: HashMap<u32, u32>,
    samples: u32,
}

impl Shares {
    /// By the samples of statements, at most of [`MOST_SHARING`].
    pub(crate) fn new(statements: impl Iterator<Item = Vec<Sample>>) -> Self {
        let mut shares = Self::default();
        for sample in statements.take(MOST_SHARING).flatten() {
            shares.samples += u32::from(!sample.is_empty());
            for &number in sample.routes() {
                *shares.counts.entry(number).or_default() += 1;
            }
        }
        shares
    }

    /// The part of the samples at which a route is in flight; a half where nothing is known.
    pub(crate) fn of(&self, number: u32) -> f64 {
        let count = self.counts.get(&number).copied().unwrap_or_default();
        (f64::from(count) + 0.5) / (f64::from(self.samples) + 1.0)
    }
}

/// What the routes are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Mostly no other one was in flight.
    Alone,
    /// It was in flight whenever the statement was executed, others only by chance.
    Statistics,
    /// It is one of these; which one cannot be told.
    OneOf,
    /// The statement is part of all of these.
    Several,
}

impl Ground {
    /// Its name, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Statistics => "statistics",
            Self::OneOf => "one_of",
            Self::Several => "several",
        }
    }
}

/// The HTTP requests that a statement is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requests {
    /// Their routes (`GET /orders/{id}`), the likeliest first.
    pub routes: Vec<Arc<str>>,
    /// How it is known.
    pub ground: Ground,
}

impl Requests {
    /// The route, if it is a single one.
    pub fn only(&self) -> Option<&Arc<str>> {
        match (self.ground, &self.routes[..]) {
            (Ground::Alone | Ground::Statistics, [only]) => Some(only),
            _ => None,
        }
    }

    /// Takes over what is told of another one of the same statement.
    pub(crate) fn join(&mut self, other: &Self) {
        match (self.only().is_some(), other.only().is_some()) {
            (false, true) => *self = other.clone(),
            (true, true) if self.routes != other.routes => {
                self.routes.extend(other.routes.iter().cloned());
                self.ground = Ground::Several;
            }
            (false, false) if self.ground == Ground::Several => {
                let others = other.routes.iter();
                let new = others.filter(|one| !self.routes.contains(one));
                let new: Vec<_> = new.cloned().collect();
                self.routes.extend(new);
                self.routes.truncate(MOST_TOLD);
            }
            _ => {}
        }
    }

    /// For people.
    pub fn shown(&self) -> String {
        let names: Vec<&str> = self.routes.iter().map(|name| &**name).collect();
        let names = names.join(", ");
        match self.ground {
            Ground::OneOf => format!("one of {names}"),
            _ => names,
        }
    }
}

/// The routes of a statement, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) routes: Vec<u32>,
    pub(crate) ground: Ground,
}

impl Judged {
    /// With the names of those that still have one.
    pub(crate) fn named(&self, servings: &Servings) -> Option<Requests> {
        let names = servings.names(&self.routes).into_iter().flatten();
        let routes: Vec<_> = names.collect();
        let ground = self.ground;
        let is_known = !routes.is_empty();
        is_known.then_some(Requests { routes, ground })
    }

    /// Whether a closer look may tell more.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.ground, Ground::OneOf | Ground::Several)
    }
}

/// The routes of a statement by its samples; `share`: how often a route is in flight
/// anyway. With `among` only those may be it. None when it is part of no request.
pub(crate) fn judge(
    samples: &[Sample],
    share: impl Fn(u32) -> f64,
    among: Option<&Sample>,
) -> Option<Judged> {
    let inside: Vec<&Sample> = samples.iter().filter(|one| !one.is_empty()).collect();
    if inside.is_empty() || inside.len() * 2 < samples.len() {
        return None;
    }
    let mut routes: Vec<Candidate> = Vec::new();
    for sample in &inside {
        for &number in sample.routes() {
            let is_known = routes.iter().any(|one| one.number == number);
            if !is_known && among.is_none_or(|among| among.has(number)) {
                routes.push(Candidate::new(number, &inside, share(number)));
            }
        }
    }
    routes.sort_by(|one, other| other.score.total_cmp(&one.score));
    let best = routes.first()?;
    if !best.is_nearly_always() {
        return several(&inside, &routes);
    }
    let is_as_likely =
        |one: &&Candidate| one.is_nearly_always() && best.score - one.score < CERTAIN;
    let likely: Vec<&Candidate> = routes.iter().filter(is_as_likely).collect();
    if let [only] = likely[..] {
        let ground = match only.alone * 2 >= inside.len() {
            true => Ground::Alone,
            false => Ground::Statistics,
        };
        // Others may be in flight by chance only, this one not.
        let is_by_chance = ground == Ground::Statistics && only.score <= 0.0;
        let routes = vec![only.number];
        return (!is_by_chance || among.is_some()).then_some(Judged { routes, ground });
    }
    let numbers = likely.iter().take(MOST_TOLD).map(|one| one.number);
    Some(Judged {
        routes: numbers.collect(),
        ground: Ground::OneOf,
    })
}

/// The route of something that has gone on for a while, such as a transaction: one of those that have
/// been in flight for all the while, `among`, and of these the one that its statement is of.
pub(crate) fn judge_among(
    samples: &[Sample],
    share: impl Fn(u32) -> f64,
    among: &Sample,
) -> Option<Judged> {
    let routes = among.routes();
    let (first, rest) = routes.split_first()?;
    if rest.is_empty() && !among.has_others() {
        return Some(Judged {
            routes: vec![*first],
            ground: Ground::Alone,
        });
    }
    judge(samples, share, Some(among)).or_else(|| {
        let is_few = routes.len() <= MOST_TOLD && !among.has_others();
        is_few.then(|| Judged {
            routes: routes.to_vec(),
            ground: Ground::OneOf,
        })
    })
}

/// A route that was in flight at some of the samples.
struct Candidate {
    number: u32,
    /// At how many it was, and at how many it was not for certain.
    present: usize,
    absent: usize,
    /// At how many no other one was.
    alone: usize,
    share: f64,
    /// How much likelier the samples are if it is the statement's than if it is there by chance, as
    /// a logarithm.
    score: f64,
}

impl Candidate {
    fn new(number: u32, samples: &[&Sample], share: f64) -> Self {
        let has = |sample: &&&Sample| sample.has(number);
        let present = samples.iter().filter(has).count();
        let tells = |sample: &&&Sample| !has(sample) && !sample.has_others();
        let absent = samples.iter().filter(tells).count();
        let is_alone = |sample: &&&Sample| sample.routes() == [number] && !sample.has_others();
        let share = share.clamp(RARELY, ALWAYS);
        let score = present as f64 * ((1.0 - MISSED) / share).ln()
            + absent as f64 * (MISSED / (1.0 - share)).ln();
        Self {
            number,
            present,
            absent,
            alone: samples.iter().filter(is_alone).count(),
            share,
            score,
        }
    }

    fn is_nearly_always(&self) -> bool {
        self.present as f64 >= NEARLY_ALL * (self.present + self.absent) as f64
    }
}

/// Routes that together were in flight at nearly all samples: first the one that explains most of
/// them, then the one that explains most of what is left.
fn several(samples: &[&Sample], routes: &[Candidate]) -> Option<Judged> {
    let mut left: Vec<&Sample> = samples.to_vec();
    let mut told: Vec<u32> = Vec::new();
    // One that is in flight as often at any statement says nothing of this one.
    let tells = |candidate: &&Candidate| {
        let by_chance = candidate.share * samples.len() as f64;
        samples.len() < ENOUGH || candidate.present as f64 >= MORE_OFTEN * by_chance
    };
    while told.len() < MOST_TOLD && left.len() * 10 > samples.len() {
        // A sample with few routes says more of each, and so does a route that is rare otherwise.
        let weight = |candidate: &&Candidate| {
            let has = left.iter().filter(|sample| sample.has(candidate.number));
            let parts = has.map(|sample| 1.0 / sample.routes().len() as f64);
            parts.sum::<f64>() / candidate.share
        };
        let candidates = routes.iter().rev().filter(tells);
        let best = candidates.max_by(|one, other| weight(one).total_cmp(&weight(other)));
        let Some(best) = best else { break };
        let before = left.len();
        left.retain(|sample| !sample.has(best.number));
        if (before - left.len()) * 10 < samples.len() {
            break;
        }
        told.push(best.number);
    }
    let told_of = (samples.len() - left.len()) as f64;
    if told_of < MOST_OF_THEM * samples.len() as f64 {
        return None;
    }
    let ground = match (samples.len(), told.len()) {
        (few, _) if few < ENOUGH => Ground::OneOf,
        (_, 1) => Ground::Statistics,
        _ => Ground::Several,
    };
    (!told.is_empty()).then_some(Judged {
        routes: told,
        ground,
    })
}

#[cfg(test)]
mod tests;
