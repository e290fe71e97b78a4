//! Tests of the algorithms over many seeds: each failure names its seed. Here what they share.

mod comparison;
mod hashing;
mod limits;
mod simulation;
mod single;

use std::cell::RefCell;

use super::*;
use crate::hash::hash;

/// Endpoints as plain numbers.
#[derive(Default)]
struct Model {
    active: RefCell<Vec<u32>>,
    unavailable: Vec<usize>,
    shares: Vec<f64>,
    latencies: RefCell<Vec<f64>>,
    /// How often the sum of all was asked for.
    totals: std::cell::Cell<usize>,
}

impl Model {
    fn new(count: usize) -> Self {
        Self {
            active: RefCell::new(vec![0; count]),
            ..Self::default()
        }
    }
}

impl Candidates for Model {
    fn active(&self, index: usize) -> u32 {
        self.active.borrow()[index]
    }

    fn available(&self, index: usize) -> bool {
        !self.unavailable.contains(&index)
    }

    fn share(&self, index: usize) -> f64 {
        self.shares.get(index).copied().unwrap_or(1.0)
    }

    fn latency(&self, index: usize) -> f64 {
        self.latencies.borrow().get(index).copied().unwrap_or(0.0)
    }

    fn total_active(&self, count: usize) -> u64 {
        assert_eq!(count, self.active.borrow().len());
        self.totals.set(self.totals.get() + 1);
        self.active.borrow().iter().map(|&one| u64::from(one)).sum()
    }
}

const RING: Algorithm = Algorithm::RingHash(ring_hash::Settings {
    points: 512,
    maximum_size: 1 << 20,
    bound: None,
});

const MAGLEV: Algorithm = Algorithm::Maglev(maglev::Settings {
    size: 65_537,
    bound: None,
});

/// All that use endpoints by weight.
const BY_WEIGHT: [Algorithm; 7] = [
    Algorithm::PowerOfTwo,
    Algorithm::RoundRobin,
    Algorithm::LeastConnections,
    Algorithm::Random,
    Algorithm::LeastTime,
    RING,
    MAGLEV,
];

/// Endpoints of these weights, at addresses of their own.
fn members(weights: &[u32]) -> Vec<Member> {
    let identity =
        |index: usize| hash(format!("10.0.{}.{}:80", index / 256, index % 256).as_bytes());
    weights
        .iter()
        .enumerate()
        .map(|(index, &weight)| Member {
            weight,
            identity: identity(index),
        })
        .collect()
}

fn compiled(algorithm: Algorithm, weights: &[u32]) -> Table {
    Table::new(&algorithm, &members(weights))
}

fn counts(
    table: &Table,
    model: &Model,
    random: &mut Random,
    picks: usize,
    endpoints: usize,
) -> Vec<f64> {
    let mut cursor = Cursor::new(0, 1);
    let mut counts = vec![0.0; endpoints];
    for _ in 0..picks {
        counts[table.pick(&mut cursor, random, None, model).unwrap()] += 1.0;
    }
    counts
}
