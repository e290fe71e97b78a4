//! The suspected pairs of a worker, its samples, and what becomes of both.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_core::serving::Sample as Routes;

use super::MOST_FIRST;
use super::batch::batched;
use super::sample::{Judged, Met, Sample};
use super::values::{Hashes, MOST_VALUES};
use crate::diagnosis::finding::{Finding, Kind, Origin, Severity};
use crate::diagnosis::holders::{Shown, shorten};
use crate::diagnosis::statements::Record;

/// Most pairs that are suspected at a time.
const MOST_PAIRS: usize = 64;
/// Most results that are sampled at a time.
const MOST_SAMPLES: usize = 8;
/// A sample is given up after so long.
const SAMPLE_LASTS: Duration = Duration::from_secs(10);
/// Between two samples of a pair that is not judged yet.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// Between two samples of one that is known for N+1, until there are [`MOST_ROUTES`].
const MEANWHILE_EVERY: Duration = Duration::from_secs(1);
/// And then.
const AGAIN_EVERY: Duration = Duration::from_secs(15);
/// Times at which the values were those of the rows, before it is told.
const CONFIRMED: u32 = 2;
/// Executions with values of no row, before that counts as a time at which they were not.
const UNMET: u32 = 5;
/// Such times, before a pair is suspected no more for a while.
const REFUTED: u32 = 4;
/// How long that is, and how long a pair is kept that does not come again.
const KEPT: Duration = Duration::from_secs(600);

/// Times at which it was confirmed of which it is known what was in flight.
const MOST_ROUTES: usize = 16;

/// What is found, and what tells to which requests it belongs.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) finding: Finding,
    /// The routes that were in flight from the first query to the repeated ones.
    pub(crate) routes: Vec<Routes>,
    /// The first query and the one for each row.
    pub(crate) records: [Arc<Record>; 2],
}

/// Two queries of which the second may be executed for each row of the first.
#[derive(Debug)]
struct Pair {
    parent: Arc<Record>,
    child: Arc<Record>,
    confirmed: u32,
    refuted: u32,
    sampled: Option<Ticks>,
    used: Ticks,
    /// Calls of both when it was suspected first.
    calls: [u64; 2],
    /// The routes that were in flight all the while, at the times at which it was confirmed.
    routes: VecDeque<Routes>,
}

/// A sample that a client has; out of date when another one took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    slot: u8,
    number: u32,
}

#[derive(Debug)]
struct Slot {
    number: u32,
    began: Ticks,
    until: Ticks,
    sample: Sample,
}

/// Pairs and samples of a worker.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    pairs: Vec<Pair>,
    slots: [Option<Slot>; MOST_SAMPLES],
    last: u32,
}

impl Suspects {
    /// Takes note of a query that was repeated after others. `find` finds a record by the lower half
    /// of its number.
    pub(crate) fn suspect(
        &mut self,
        child: &Arc<Record>,
        first: [u32; MOST_FIRST],
        find: impl Fn(u32) -> Option<Arc<Record>>,
        now: Ticks,
    ) {
        for number in first.into_iter().filter(|&number| number != 0) {
            let is_known = |pair: &&mut Pair| {
                pair.parent.number as u32 == number && pair.child.number == child.number
            };
            if let Some(pair) = self.pairs.iter_mut().find(is_known) {
                pair.used = now;
                continue;
            }
            let Some(parent) = find(number) else {
                continue;
            };
            self.forget(now);
            parent.suspect(true);
            self.pairs.push(Pair {
                confirmed: 0,
                refuted: 0,
                sampled: None,
                used: now,
                calls: [parent.calls.get(), child.calls.get()],
                routes: VecDeque::new(),
                parent,
                child: Arc::clone(child),
            });
        }
    }

    /// Forgets pairs that are not seen any more, and one that was not for longest if there are too many.
    fn forget(&mut self, now: Ticks) {
        self.pairs.retain(|pair| now.since(pair.used) < KEPT);
        if self.pairs.len() >= MOST_PAIRS {
            let oldest = self
                .pairs
                .iter()
                .enumerate()
                .min_by_key(|(_, pair)| pair.used);
            if let Some((oldest, _)) = oldest {
                let pair = self.pairs.swap_remove(oldest);
                let is_still = |other: &Pair| other.parent.number == pair.parent.number;
                if !self.pairs.iter().any(is_still) {
                    pair.parent.suspect(false);
                }
            }
        }
    }

    /// A query is executed that may be the first of a pair: whether its result is to be looked at.
    pub(crate) fn begin(&mut self, parent: u64, now: Ticks) -> Option<Ticket> {
        let is_due = |pair: &Pair| {
            let every = match pair {
                Pair {
                    confirmed, refuted, ..
                } if *confirmed >= CONFIRMED && confirmed > refuted => match pair.routes.len() {
                    few if few < MOST_ROUTES => MEANWHILE_EVERY,
                    _ => AGAIN_EVERY,
                },
                Pair { refuted, .. } if *refuted >= REFUTED => KEPT,
                _ => SAMPLE_EVERY,
            };
            pair.sampled
                .is_none_or(|sampled| now.since(sampled) >= every)
        };
        let mut children = Vec::new();
        for pair in &mut self.pairs {
            if pair.parent.number == parent && is_due(pair) {
                pair.sampled = Some(now);
                children.push(pair.child.number);
            }
        }
        if children.is_empty() {
            return None;
        }
        let is_free = |slot: &Option<Slot>| slot.as_ref().is_none_or(|slot| slot.until <= now);
        let place = self.slots.iter().position(is_free)?;
        self.close(place);
        self.last = self.last.wrapping_add(1);
        self.slots[place] = Some(Slot {
            number: self.last,
            began: now,
            until: now + SAMPLE_LASTS,
            sample: Sample::new(parent, children.into_iter()),
        });
        Some(Ticket {
            slot: place as u8,
            number: self.last,
        })
    }

    /// The sample of a ticket, as long as it is its.
    pub(crate) fn sample(&mut self, ticket: Ticket) -> Option<&mut Sample> {
        let slot = self.slots.get_mut(usize::from(ticket.slot))?.as_mut()?;
        (slot.number == ticket.number).then_some(&mut slot.sample)
    }

    /// Ends a sample: the client does something else.
    pub(crate) fn end(&mut self, ticket: Ticket) {
        if self.sample(ticket).is_some() {
            self.close(usize::from(ticket.slot));
        }
    }

    fn close(&mut self, place: usize) {
        let Some(slot) = self.slots[place].take() else {
            return;
        };
        let unmet: Vec<u64> = slot.sample.unmet(UNMET).collect();
        for child in unmet {
            self.judge(slot.sample.parent, child, false);
        }
    }

    fn judge(&mut self, parent: u64, child: u64, is_met: bool) -> Option<&mut Pair> {
        let is_it = |pair: &&mut Pair| pair.parent.number == parent && pair.child.number == child;
        let pair = self.pairs.iter_mut().find(is_it)?;
        if is_met {
            pair.confirmed += 1;
        } else {
            pair.refuted += 1;
        }
        Some(pair)
    }

    /// A statement is executed after a sampled result. Gives what is wrong, once it is certain.
    /// `routes` tells the routes of requests that have been in flight since then.
    pub(crate) fn execute(
        &mut self,
        ticket: Ticket,
        (child, values): (u64, [Hashes; MOST_VALUES]),
        repeats: u32,
        now: Ticks,
        routes: impl FnOnce(Ticks) -> Option<Routes>,
    ) -> Option<Found> {
        let slot = self.slots.get(usize::from(ticket.slot))?.as_ref()?;
        let began = slot.began;
        let sample = self.sample(ticket)?;
        let parent = sample.parent;
        let judged = sample.execute(child, values, repeats);
        if sample.is_over() {
            self.slots[usize::from(ticket.slot)] = None;
        }
        match judged {
            Judged::Open => None,
            Judged::Other => {
                self.judge(parent, child, false);
                None
            }
            Judged::Met(met) => {
                let pair = self.judge(parent, child, true)?;
                pair.used = now;
                if pair.routes.len() == MOST_ROUTES {
                    pair.routes.pop_front();
                }
                pair.routes.extend(routes(began));
                // Its text is to be rewritten.
                pair.child.repeat();
                let is_certain = pair.confirmed >= CONFIRMED && pair.confirmed >= 4 * pair.refuted;
                if !is_certain {
                    return None;
                }
                Some(Found {
                    finding: finding(pair, &met)?,
                    routes: pair.routes.iter().copied().collect(),
                    records: [Arc::clone(&pair.parent), Arc::clone(&pair.child)],
                })
            }
        }
    }
}

fn finding(pair: &Pair, met: &Met) -> Option<Finding> {
    let (parent, child) = (pair.parent.state(), pair.child.state());
    let number = met.value + 1;
    let batch = batched(pair.child.sql(), number)?;
    let [first, each] = [&parent, &child];
    let since = [
        first.calls - pair.calls[0].min(first.calls),
        each.calls - pair.calls[1].min(each.calls),
    ];
    let times = since[1] as f64 / since[0].max(1) as f64;
    let mean = Duration::from_micros(each.execute_micros / each.calls.max(1));
    let evidence = vec![
        format!(
            "it is executed for row after row of {}: its value ${number} is the row's column {} (seen {} \
             times, otherwise {} times)",
            shorten(&first.text.normalised),
            met.column,
            pair.confirmed,
            pair.refuted,
        ),
        format!(
            "since then {} executions of it for {} of the other: about {times:.0} for each, of {} on average: {} \
             one after the other, and as many ways to the server and back",
            since[1],
            since[0],
            Shown(mean),
            Shown(mean.mul_f64(times)),
        ),
    ];
    let divided = match &batch.column {
        Some(column) => {
            format!("an array of the values as ${number}, and divide the rows by {column}")
        }
        None => {
            format!("an array of the values as ${number}; each row has the value that it is for")
        }
    };
    let remedy = format!(
        "one query for all rows: {} with {divided}; or join it to the first query. With an ORM: load \
         what belongs to the rows eagerly (Django select_related and prefetch_related, Rails includes, \
         SQLAlchemy selectinload, Hibernate JOIN FETCH)",
        batch.sql
    );
    Some(Finding {
        kind: Kind::NPlusOne,
        severity: Severity::Warning,
        database: child.database,
        user: Some(child.user),
        server: None,
        statement: Some(child.text),
        origin: child.origin.or(parent.origin).or(Some(Origin::default())),
        evidence,
        remedy,
    })
}
