//! The simulation: Poisson arrivals, one balancer, a first come first served queue per endpoint.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use outgrow_core::{Random, Ticks};

use crate::algorithm::{Algorithm, Candidates, Cursor, Table};
use crate::peak_ewma::PeakEwma;

/// Requests of a run, and how many of the first are not counted.
const REQUESTS: usize = 30_000;
const WARM_UP: usize = 3_000;
const SEED: u64 = 20_261_122;
const MILLISECOND: f64 = 1e6;
const SECOND: u64 = 1_000_000_000;

/// Endpoints and what happens to them.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// The mean time of a request at each endpoint.
    pub(super) service_ms: [f64; 8],
    pub(super) is_fixed: bool,
    /// Whether the first endpoint stands still for the sixth of every ten seconds.
    pub(super) stalls: bool,
}

/// Times from arrival to answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

struct Endpoint {
    active: u32,
    /// When it has done all that waits there.
    free_at: u64,
    average: PeakEwma,
}

struct Endpoints {
    list: Vec<Endpoint>,
    now: u64,
}

impl Candidates for Endpoints {
    fn active(&self, index: usize) -> u32 {
        self.list[index].active
    }

    fn available(&self, _index: usize) -> bool {
        true
    }

    fn latency(&self, index: usize) -> f64 {
        self.list[index].average.read(Ticks(self.now))
    }
}

/// Runs a scenario at a load in percent. All algorithms get the same requests at the same times.
pub(super) fn simulate(algorithm: Algorithm, scenario: &Scenario, load_percent: u32) -> Figures {
    let members = super::super::members(&[1; 8]);
    let table = Table::new(&algorithm, &members);
    let mut picks = Random::from_seed(SEED + 1);
    let mut requests = Random::from_seed(SEED);
    let mut cursor = Cursor::new(0, 1);
    let capacity_per_ms: f64 = scenario.service_ms.iter().map(|mean| 1.0 / mean).sum();
    let distance = 100.0 * MILLISECOND / (capacity_per_ms * f64::from(load_percent));
    let fresh = || Endpoint {
        active: 0,
        free_at: 0,
        average: PeakEwma::new(Ticks::ZERO),
    };
    let mut endpoints = Endpoints {
        list: scenario.service_ms.iter().map(|_| fresh()).collect(),
        now: 0,
    };
    // (when, where, arrived) of the answers to come.
    let mut answers: BinaryHeap<Reverse<(u64, usize, u64)>> = BinaryHeap::new();
    let mut times = Vec::with_capacity(REQUESTS);
    let mut arrival = 0;
    for request in 0..REQUESTS {
        arrival += (exponential(&mut requests) * distance) as u64;
        while let Some(&Reverse((at, index, arrived))) = answers.peek()
            && at <= arrival
        {
            answers.pop();
            let endpoint = &mut endpoints.list[index];
            endpoint.active -= 1;
            let took = Duration::from_nanos(at - arrived);
            endpoint.average.observe(took, Ticks(at));
        }
        endpoints.now = arrival;
        let index = table
            .pick(&mut cursor, &mut picks, None, &endpoints)
            .expect("all are available");
        let drawn = exponential(&mut requests);
        let size = if scenario.is_fixed { 1.0 } else { drawn };
        let work = (size * scenario.service_ms[index] * MILLISECOND) as u64;
        let endpoint = &mut endpoints.list[index];
        let start = endpoint.free_at.max(arrival);
        endpoint.free_at = if scenario.stalls && index == 0 {
            end_with_stalls(start, work)
        } else {
            start + work
        };
        endpoint.active += 1;
        answers.push(Reverse((endpoint.free_at, index, arrival)));
        if request >= WARM_UP {
            times.push(endpoint.free_at - arrival);
        }
    }
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100] as f64 / MILLISECOND;
    Figures {
        p50_ms: at(50),
        p99_ms: at(99),
    }
}

/// When work is done that is begun at `start`, with nothing done in the sixth of ten seconds.
fn end_with_stalls(mut start: u64, mut work: u64) -> u64 {
    loop {
        let decade = start / (10 * SECOND) * (10 * SECOND);
        let (stall, end) = (decade + 5 * SECOND, decade + 6 * SECOND);
        if (stall..end).contains(&start) {
            start = end;
        }
        let next = if start < stall {
            stall
        } else {
            stall + 10 * SECOND
        };
        if start + work <= next {
            return start + work;
        }
        work -= next - start;
        start = next;
    }
}

/// An exponential number of mean 1.
fn exponential(random: &mut Random) -> f64 {
    -ln(1.0 - random.unit())
}

/// The natural logarithm of a positive, normal number in basic arithmetic: 2 artanh of the mantissa
/// in [0.7, 1.4), whose series is exact to 1e-12 with 8 terms.
pub(super) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = f64::from((bits >> 52) as u32) - 1023.0;
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let mut sum = 0.0;
    for odd in (1..=15_u32).rev().step_by(2) {
        sum = sum * square + 1.0 / f64::from(odd);
    }
    2.0 * z * sum + exponent * std::f64::consts::LN_2
}

#[test]
fn the_logarithm_is_right() {
    for step in 1..10_000_u32 {
        let x = f64::from(step) * 0.001;
        assert!((ln(x) - x.ln()).abs() < 1e-12, "{x}");
    }
}

#[test]
fn a_stall_puts_work_off() {
    let check = |start: u64, work: u64, expected: u64| {
        assert_eq!(
            end_with_stalls(start * SECOND / 10, work * SECOND / 10),
            expected * SECOND / 10
        );
    };
    check(0, 50, 50);
    check(0, 51, 61);
    check(55, 1, 61);
    check(60, 90, 150);
    check(60, 91, 161);
    check(49, 101, 170);
}
