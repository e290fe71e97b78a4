//! Maglev hashing (Eisenbud et al., NSDI 2016) without its disruption: a table of a prime number of
//! slots, a pick is one look at it.
//!
//! As in Maglev each endpoint has a permutation of the slots and asks for them in its order, all at
//! the same time. There it takes the next free slot in each turn; so when one endpoint leaves, all
//! later turns change, and those that stay exchange keys: of 200 endpoints and 65,537 slots 2.5/N
//! of all keys move instead of 1/N (the test `plain_maglev_moves_more`). Here who asked first for a
//! slot has it, and a turn that came too late is lost: nobody else's coming or going changes who of
//! two was first. The price is balance: shares deviate a little, where those of Maglev do not.

use std::cmp::Ordering;

use outgrow_core::Random;

use super::keyed::{Keyed, scale};
use super::{Bound, Candidates, Member};
use crate::hash::{combine, mix};

/// The knobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Slots, 1021 to 5,000,011, rounded up to a prime; default 65,537 (256 KiB). At least 300 for
    /// each endpoint keep its share within a fifth of its due.
    pub size: u32,
    /// The most that one endpoint may have; default none.
    pub bound: Option<Bound>,
}

/// The sizes, both of them primes.
const SIZES: std::ops::RangeInclusive<u32> = 1_021..=5_000_011;

impl Default for Settings {
    fn default() -> Self {
        Self {
            size: 65_537,
            bound: None,
        }
    }
}

/// The slots of a set of endpoints.
#[derive(Clone, Debug)]
pub struct Table {
    keyed: Keyed,
    /// The owner of each slot.
    slots: Box<[u32]>,
}

impl Table {
    /// The table for these endpoints. O(size x log size), however many endpoints there are.
    pub fn new(settings: Settings, members: &[Member]) -> Self {
        let keyed = Keyed::new(members, settings.bound);
        let slots = fill(prime_from(settings.size), &keyed);
        Self { keyed, slots }
    }

    /// The endpoint for a key; `None` when none is available.
    #[inline]
    pub fn pick(
        &self,
        random: &mut Random,
        key: Option<u64>,
        candidates: &impl Candidates,
    ) -> Option<usize> {
        self.keyed.pick(random, key, candidates, |place| {
            self.slots[scale(place, self.slots.len())] as usize
        })
    }

    /// The owner of each slot.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }
}

/// Where an endpoint is in its permutation.
struct Walk {
    slot: u64,
    skip: u64,
    /// Slots that it has not asked for.
    left: u64,
    /// When it asks for the slot.
    time: f64,
}

impl Walk {
    fn new(identity: u64, weight: u32, size: u64) -> Self {
        let mut walk = Self {
            slot: mix(identity) % size,
            skip: combine(identity, 1) % (size - 1) + 1,
            left: size,
            time: 0.0,
        };
        walk.wait(weight);
        walk
    }

    /// The times of asking are those at which the 1st, 2nd, ... of `size` exponential clocks is
    /// due in the mean (Renyi): a race of such clocks is won in exact proportion to the weights.
    /// With turns at equal distances a light endpoint among few would get half of its due.
    fn wait(&mut self, weight: u32) {
        self.time += 1.0 / (self.left as f64 * f64::from(weight));
    }

    fn advance(&mut self, weight: u32, size: u64) {
        self.slot = (self.slot + self.skip) % size;
        self.left -= 1;
        if self.left > 0 {
            self.wait(weight);
        }
    }
}

/// The first who asked for a slot.
#[derive(Clone, Copy)]
struct Request {
    owner: u32,
    /// Infinite while nobody asked.
    time: f64,
}

/// Time passes in steps: within each, every endpoint asks for what is due in it. A slot that
/// somebody asked for in an earlier step may still be asked for in a later one, in vain.
fn fill(size: u64, keyed: &Keyed) -> Box<[u32]> {
    let weights = keyed.weights();
    if weights.is_empty() {
        return Box::default();
    }
    let mut walks: Vec<Walk> = keyed
        .identities()
        .iter()
        .zip(weights)
        .map(|(&identity, &weight)| Walk::new(identity, weight, size))
        .collect();
    let nobody = Request {
        owner: 0,
        time: f64::INFINITY,
    };
    let mut requests = vec![nobody; size as usize];
    let mut free = size;
    let mut step = 0.0;
    while free > 0 {
        step += 1.0;
        // In the first step as many ask as half of the slots are; all are taken after about 25.
        let end = step / (2.0 * keyed.total_weight() as f64);
        for (index, walk) in walks.iter_mut().enumerate() {
            while walk.left > 0 && walk.time <= end {
                let request = &mut requests[walk.slot as usize];
                free -= u64::from(request.time.is_infinite());
                let new = Request {
                    owner: index as u32,
                    time: walk.time,
                };
                if is_earlier(new, *request, walk.slot, keyed) {
                    *request = new;
                }
                walk.advance(weights[index], size);
            }
        }
    }
    requests.iter().map(|request| request.owner).collect()
}

/// A tie goes by a hash of both the endpoint and the slot, so that nobody wins all of them.
fn is_earlier(one: Request, other: Request, slot: u64, keyed: &Keyed) -> bool {
    let rank = |request: Request| {
        let identity = keyed.identities()[request.owner as usize];
        (combine(identity, slot), identity)
    };
    match one.time.total_cmp(&other.time) {
        Ordering::Less => true,
        Ordering::Equal => rank(one) < rank(other),
        Ordering::Greater => false,
    }
}

/// The least prime from the size on, within the limits.
fn prime_from(size: u32) -> u64 {
    let size = u64::from(size.clamp(*SIZES.start(), *SIZES.end()));
    (size..=u64::from(*SIZES.end()))
        .find(|&candidate| is_prime(candidate))
        .unwrap_or(u64::from(*SIZES.end()))
}

fn is_prime(number: u64) -> bool {
    (2..=number.isqrt()).all(|divisor| !number.is_multiple_of(divisor))
}
