//! What is told by cases, and by a simulated instance of which it is known whose statements are whose.

use outgrow_core::Random;
use outgrow_core::serving::{Floors, InFlight};

use super::*;

const HALF: fn(u32) -> f64 = |_| 0.5;

/// Samples as words of digits (`12 1 -`: two, one, none), and what is told of them.
#[track_caller]
fn check(samples: &str, share: impl Fn(u32) -> f64, expected: Option<(&[u32], Ground)>) {
    let sample = |word: &str| Sample::of(word.chars().filter_map(|one| one.to_digit(10)));
    let samples: Vec<Sample> = samples.split_whitespace().map(sample).collect();
    let judged = judge(&samples, share, None);
    let told = judged.as_ref().map(|one| (&one.routes[..], one.ground));
    assert_eq!(told, expected);
}

#[test]
fn what_is_alone_in_flight_is_it() {
    check("1", HALF, Some((&[1], Ground::Alone)));
    check("1 1 1 12", HALF, Some((&[1], Ground::Alone)));
    check("", HALF, None);
    check("- - -", HALF, None);
    check("1 - - -", HALF, None);
    // One of many is missing: the statement came after the response.
    check(
        &"1 ".repeat(20).replacen('1', "2", 1),
        HALF,
        Some((&[1], Ground::Alone)),
    );
}

#[test]
fn what_is_always_in_flight_is_it_and_not_what_is_so_by_chance() {
    check(
        "12 13 12 14 13 12 15 12",
        HALF,
        Some((&[1], Ground::Statistics)),
    );
    // 2 is in flight at all times anyway.
    let share = |number| if number == 2 { 1.0 } else { 0.2 };
    check(&"12 ".repeat(12), share, Some((&[1], Ground::Statistics)));
    check("2 12 2 2 12 2 2 12 2 2", share, Some((&[2], Ground::Alone)));
}

#[test]
fn what_cannot_be_told_is_said() {
    check("12", HALF, Some((&[1, 2], Ground::OneOf)));
    check("12 12 12 12", HALF, Some((&[1, 2], Ground::OneOf)));
    check("1 2", HALF, Some((&[1, 2], Ground::OneOf)));
    let both = "1 2 1 2 12 1 2 1 2 2 1 2";
    let rare = |_| 0.3;
    check(both, rare, Some((&[2, 1], Ground::Several)));
    // In flight as often as anyway: it is of no route in particular.
    check(both, HALF, None);
}

#[test]
fn a_closer_look_is_among_those_that_may_be_it() {
    let samples = [Sample::of([1, 2, 3]), Sample::of([1, 2])];
    let judged = judge(&samples, HALF, Some(&Sample::of([2, 7])));
    let only = judged.expect("one that may be it");
    assert_eq!(only.routes, [2]);
    assert_eq!(judge(&samples, HALF, Some(&Sample::of([7]))), None);
}

#[test]
fn samples_are_taken_apart_from_each_other_and_reach_back() {
    let samples = Samples::default();
    assert!(samples.is_due(Ticks(0)) && samples.all().is_empty());
    let mut now = Ticks(0);
    for turn in 1..=1000_u32 {
        samples.put(&Sample::of([turn]), now);
        assert!(!samples.is_due(now) && samples.is_due(now + APART));
        now = now + APART;
    }
    let all = samples.all();
    assert_eq!(all.len(), MOST_SAMPLES);
    let old = all.iter().filter(|one| one.routes()[0] < 960).count();
    assert!(
        (2..MOST_SAMPLES - 2).contains(&old),
        "{old} of them are old"
    );
}

/// A route of the simulation.
struct Simulated {
    /// How long one of its requests takes, how often one comes, in turns.
    lasts: usize,
    every: usize,
    /// The statements that it executes at random turns.
    statements: &'static [usize],
}

const ROUTES: [Simulated; 5] = [
    Simulated {
        lasts: 20,
        every: 25,
        statements: &[0, 1, 2],
    },
    Simulated {
        lasts: 3,
        every: 12,
        statements: &[0, 3],
    },
    // Slow, and nearly always in flight.
    Simulated {
        lasts: 200,
        every: 220,
        statements: &[0, 4],
    },
    // Without statements.
    Simulated {
        lasts: 10,
        every: 15,
        statements: &[],
    },
    Simulated {
        lasts: 8,
        every: 70,
        statements: &[5, 3],
    },
];
/// Whose each statement is.
const OWNERS: [&[u32]; 6] = [&[1, 2, 3], &[1], &[1], &[2, 5], &[3], &[5]];

/// An instance that serves several requests at a time; what is told of each statement.
fn simulate(seed: u64) -> Vec<Option<Judged>> {
    let mut random = Random::from_seed(seed);
    let servings = Servings::default();
    let serving = servings.of(1);
    let names: Vec<_> = (0..ROUTES.len())
        .map(|of| servings.route(&of.to_string()))
        .collect();
    let samples: Vec<Samples> = OWNERS.iter().map(|_| Samples::default()).collect();
    let mut flying: Vec<(u64, &Simulated, InFlight)> = Vec::new();
    for turn in 0..40_000_u64 {
        let now = Ticks(0) + Duration::from_millis(20 * turn);
        flying.retain(|(until, ..)| *until > turn);
        for (route, name) in ROUTES.iter().zip(&names) {
            if random.below(route.every) == 0 {
                let lasts = 1 + random.below(2 * route.lasts) as u64;
                let guard = serving.begin(name, now, Floors::default());
                flying.push((turn + lasts, route, guard));
            }
        }
        for (_, route, _) in &flying {
            for &statement in route.statements {
                if random.below(10) == 0 && samples[statement].is_due(now) {
                    samples[statement].put(&serving.sample(), now);
                }
            }
        }
    }
    let shares = Shares::new(samples.iter().map(Samples::all));
    let share = |number| shares.of(number);
    samples
        .iter()
        .map(|one| judge(&one.all(), share, None))
        .collect()
}

#[test]
fn under_load_no_wrong_route_is_told_as_certain() {
    let (mut certain, mut wrong, mut of_one) = (0, 0, 0);
    for seed in 0..60 {
        for (statement, judged) in simulate(seed).into_iter().enumerate() {
            let owners = OWNERS[statement];
            let Some(judged) = judged else { continue };
            if owners.len() > 1 {
                // Of a statement of several routes no other one is told.
                let first = judged.routes[0];
                wrong += usize::from(!owners.contains(&first));
                continue;
            }
            of_one += 1;
            assert!(
                judged.is_open() || judged.routes == owners || {
                    wrong += 1;
                    true
                },
                "seed {seed}"
            );
            certain += usize::from(judged.routes == owners);
        }
    }
    assert!(wrong <= 3, "{wrong} wrong ones");
    assert!(certain * 10 >= of_one * 8, "{certain} of {of_one}");
}
