//! The algorithms side by side on the same requests: an open loop, whose clients do not wait for
//! answers before they come. Writes docs/balance.md and docs/balance-p99.svg.
//!
//! Basic arithmetic only, so that the figures are the same on every machine.

mod document;
mod plot;
mod queues;

use std::fs;
use std::path::Path;

use super::*;
use queues::{Figures, Scenario, simulate};

/// Compared, in the order of the columns.
const COMPARED: [(Algorithm, &str); 5] = [
    (Algorithm::Random, "random"),
    (Algorithm::RoundRobin, "round robin"),
    (Algorithm::PowerOfTwo, "power of two"),
    (Algorithm::LeastTime, "least time"),
    (Algorithm::LeastConnections, "least connections"),
];

/// Load in percent of what all endpoints together can do.
const LOADS: [u32; 4] = [30, 50, 70, 90];

/// What is not shown exactly: the queue of some endpoint grows for as long as the load lasts.
const SHOWN_MS: f64 = 2_000.0;

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "equal endpoints",
        about: "8 endpoints, 10 ms each, exponential",
        service_ms: [10.0; 8],
        is_fixed: false,
        stalls: false,
    },
    Scenario {
        name: "equal endpoints, equal requests",
        about: "8 endpoints, 10 ms each, every request alike",
        service_ms: [10.0; 8],
        is_fixed: true,
        stalls: false,
    },
    Scenario {
        name: "half of them 4 times slower",
        about: "4 endpoints of 5 ms, 4 of 20 ms, exponential; equal weights",
        service_ms: [5.0, 20.0, 5.0, 20.0, 5.0, 20.0, 5.0, 20.0],
        is_fixed: false,
        stalls: false,
    },
    Scenario {
        name: "one that stalls",
        about: "8 endpoints, 10 ms each, exponential; one stands still for 1 s of every 10 s",
        service_ms: [10.0; 8],
        is_fixed: false,
        stalls: true,
    },
];

/// By scenario, load and algorithm.
type Results = Vec<Vec<Vec<Figures>>>;

fn results() -> Results {
    let of_load = |scenario: &Scenario, load: u32| {
        let run = |(algorithm, _): &(Algorithm, &str)| simulate(*algorithm, scenario, load);
        COMPARED.iter().map(run).collect()
    };
    let of_scenario = |scenario| LOADS.iter().map(|&load| of_load(scenario, load)).collect();
    SCENARIOS.iter().map(of_scenario).collect()
}

/// Compares with a file in `docs/`; with `OUTGROW_GOLDEN=write` writes it.
#[track_caller]
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    if std::env::var("OUTGROW_GOLDEN").is_ok_and(|word| word == "write") {
        fs::write(&path, text).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == text,
        "docs/{name} differs from what is generated: run `cargo xtask docs`"
    );
}

#[test]
fn golden_comparison_is_in_docs() {
    let results = results();
    // Before the files, so that what they say in words is true of the figures.
    expectations(&results);
    golden("balance-p99.svg", &plot::svg(&results));
    golden("balance.md", &document::markdown(&results));
}

/// What the document says in words.
fn expectations(results: &Results) {
    for (load, &percent) in LOADS.iter().enumerate() {
        let p99 = |scenario: usize| -> [f64; 5] {
            std::array::from_fn(|algorithm| results[scenario][load][algorithm].p99_ms)
        };
        let [
            random,
            round_robin,
            power_of_two,
            least_time,
            least_connections,
        ] = p99(0);
        assert!(least_connections < round_robin.min(power_of_two).min(least_time));
        assert!(round_robin < random && (least_time / power_of_two - 1.0).abs() < 0.1);
        assert!(percent < 50 || power_of_two < round_robin);
        // Random arrivals at each endpoint: M/M/1, whose times are exponential with the mean
        // service / (1 - load). ln 100 = 4.605. At 90 % the run is too short to be that exact.
        let exact = 10.0 * 4.605 / (1.0 - f64::from(percent) / 100.0);
        assert!(percent > 70 || (random / exact - 1.0).abs() < 0.15);

        let [
            random,
            round_robin,
            power_of_two,
            least_time,
            least_connections,
        ] = p99(1);
        let others = random.min(power_of_two).min(least_time);
        assert!(round_robin < others && round_robin <= least_connections);

        let [
            random,
            round_robin,
            power_of_two,
            least_time,
            least_connections,
        ] = p99(2);
        assert!(least_time < power_of_two);
        assert!(power_of_two.max(least_connections) < 0.5 * random.min(round_robin));
        assert!(percent < 50 || least_connections < least_time);
        assert!(percent < 90 || least_connections * 3.0 < least_time);

        let [
            random,
            round_robin,
            power_of_two,
            least_time,
            least_connections,
        ] = p99(3);
        assert!(least_connections < power_of_two && power_of_two < least_time);
        assert!(least_time < 0.2 * random.min(round_robin));
    }
}

#[test]
fn simulations_are_reproducible() {
    let scenario = &SCENARIOS[3];
    let once = simulate(Algorithm::LeastTime, scenario, 70);
    assert_eq!(once, simulate(Algorithm::LeastTime, scenario, 70));
}
