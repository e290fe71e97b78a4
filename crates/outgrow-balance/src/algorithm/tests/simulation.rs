//! Simulations of the algorithms: proportions of idle services, and closed loops of busy ones.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

/// Those under which weights that are speeds balance a closed loop.
const BY_LOAD: [Algorithm; 3] = [
    Algorithm::PowerOfTwo,
    Algorithm::RoundRobin,
    Algorithm::LeastConnections,
];

/// Tables of hashes take longer to compile, and their proportions have a test of their own.
fn seeds_of(algorithm: Algorithm) -> u64 {
    if algorithm.uses_key() { 5 } else { 100 }
}

/// An idle service (no request in flight at the time of a pick) is used by weight.
#[test]
fn idle_endpoints_are_used_by_weight() {
    for algorithm in BY_WEIGHT {
        for seed in 0..seeds_of(algorithm) {
            let mut random = Random::from_seed(seed);
            let count = 2 + random.below(8);
            let weights: Vec<u32> = (0..count).map(|_| 1 + random.below(10) as u32).collect();
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let table = compiled(algorithm, &weights);
            let picks = 20_000;
            let got = counts(&table, &Model::new(count), &mut random, picks, count);
            for index in 0..count {
                let probability = f64::from(weights[index]) / total;
                let wanted = probability * picks as f64;
                let deviation = (wanted * (1.0 - probability)).sqrt();
                // What the tables of hashes themselves deviate.
                let uneven = if algorithm.uses_key() { 0.2 } else { 0.0 };
                assert!(
                    (got[index] - wanted).abs() < 5.0 * deviation + uneven * wanted,
                    "{algorithm:?} seed {seed}: {got:?} for {weights:?}"
                );
            }
        }
    }
}

#[test]
fn an_endpoint_that_starts_slowly_gets_its_share() {
    for algorithm in BY_WEIGHT {
        for (share, weights) in [
            (0.1, [1, 1, 1, 1]),
            (0.5, [1, 1, 1, 1]),
            (0.25, [2, 1, 1, 4]),
        ] {
            let mut model = Model::new(4);
            model.shares = vec![share, 1.0, 1.0, 1.0];
            let table = compiled(algorithm, &weights);
            let got = counts(&table, &model, &mut Random::from_seed(5), 200_000, 4);
            let full = 200_000.0 * f64::from(weights[0]) / f64::from(weights.iter().sum::<u32>());
            let ratio = got[0] / full;
            assert!(
                (ratio - share).abs() < 0.35 * share + 0.02,
                "{algorithm:?}: {ratio} of its weight with share {share}"
            );
        }
        // All of them at the start: the shares cancel out.
        let mut model = Model::new(4);
        model.shares = vec![0.1; 4];
        let table = compiled(algorithm, &[1; 4]);
        let got = counts(&table, &model, &mut Random::from_seed(6), 40_000, 4);
        assert!(
            got.iter().all(|count| (8_500.0..11_500.0).contains(count)),
            "{got:?}"
        );
    }
}

/// The turn of an endpoint that is not available is spread over all the others.
#[test]
fn round_robin_spreads_the_turns_of_one_that_is_out() {
    let table = compiled(Algorithm::RoundRobin, &[1; 10]);
    let mut model = Model::new(10);
    model.unavailable = vec![3];
    let got = counts(&table, &model, &mut Random::from_seed(1), 9_000, 10);
    for (index, count) in got.iter().enumerate() {
        let wanted = if index == 3 { 0.0..1.0 } else { 990.0..1_011.0 };
        assert!(wanted.contains(count), "{got:?}");
    }
}

/// Workers walk the same cycle from evenly spread places, and keep their place when the table
/// changes: at every moment the counts of all of them together differ by little.
#[test]
fn workers_do_not_march_in_step() {
    let table = compiled(Algorithm::RoundRobin, &[1; 8]);
    let model = Model::new(8);
    let mut random = Random::from_seed(1);
    let mut cursors: Vec<Cursor> = (0..4).map(|worker| Cursor::new(worker, 4)).collect();
    let first: Vec<usize> = cursors
        .iter_mut()
        .map(|cursor| table.pick(cursor, &mut random, None, &model).unwrap())
        .collect();
    assert_eq!(first, [0, 2, 4, 6]);
    let smaller = compiled(Algorithm::RoundRobin, &[1; 4]);
    let second: Vec<usize> = cursors
        .iter_mut()
        .map(|cursor| {
            smaller
                .pick(cursor, &mut random, None, &Model::new(4))
                .unwrap()
        })
        .collect();
    assert_eq!(second, [0, 1, 2, 3]);
}

/// A closed loop: `clients` requests are always in flight, each endpoint serves its requests in a
/// row at its own speed. Returns the requests that each served, and the share of the work that
/// the endpoints together did of what they could have done.
fn closed_loop(
    algorithm: Algorithm,
    speeds: &[f64],
    weights: &[u32],
    seed: u64,
) -> (Vec<f64>, f64) {
    let mut random = Random::from_seed(seed);
    let table = compiled(algorithm, weights);
    let model = Model::new(speeds.len());
    let mut cursor = Cursor::new(0, 1);
    let clients = speeds.len() * 4;
    let mut free_at = vec![0_u64; speeds.len()];
    let mut done = BinaryHeap::new();
    let mut served = vec![0.0; speeds.len()];
    let mut now = 0;
    for request in 0..40_000 {
        if request >= clients {
            let Reverse((time, index)): Reverse<(u64, usize)> = done.pop().unwrap();
            now = time;
            model.active.borrow_mut()[index] -= 1;
            served[index] += 1.0;
        }
        let index = table.pick(&mut cursor, &mut random, None, &model).unwrap();
        model.active.borrow_mut()[index] += 1;
        let service_time = -(1.0 - random.unit()).ln() * 1_000_000.0 / speeds[index];
        free_at[index] = free_at[index].max(now) + service_time as u64;
        done.push(Reverse((free_at[index], index)));
    }
    let possible = speeds.iter().sum::<f64>() * now as f64 / 1_000_000.0;
    let sum = served.iter().sum::<f64>();
    (served, sum / possible)
}

/// Endpoints of which half are four times as fast, unknown to the weights: power of two sends the
/// fast ones what they can take, round robin is held up by the slow ones.
#[test]
fn power_of_two_balances_what_weights_do_not_know() {
    let speeds = [4.0, 1.0, 4.0, 1.0, 4.0, 1.0, 4.0, 1.0];
    for seed in 0..20 {
        let (served, utilisation) = closed_loop(Algorithm::PowerOfTwo, &speeds, &[1; 8], seed);
        let (_, of_round_robin) = closed_loop(Algorithm::RoundRobin, &speeds, &[1; 8], seed);
        let fast: f64 = served.iter().step_by(2).sum();
        let share = fast / served.iter().sum::<f64>();
        assert!(
            (0.7..0.85).contains(&share),
            "seed {seed}: the fast ones got {share}"
        );
        assert!(utilisation > 0.78, "seed {seed}: {utilisation}");
        assert!(
            utilisation > 1.5 * of_round_robin,
            "seed {seed}: {of_round_robin}"
        );
    }
}

/// Weights that tell the truth about speeds are met by both under full load.
#[test]
fn weights_that_are_speeds_balance_under_load() {
    let speeds = [1.0, 2.0, 3.0, 6.0];
    for algorithm in BY_LOAD {
        for seed in 0..20 {
            let (served, _) = closed_loop(algorithm, &speeds, &[1, 2, 3, 6], seed);
            let total: f64 = served.iter().sum();
            for (count, speed) in served.iter().zip(speeds) {
                let share = count / total;
                assert!(
                    (share - speed / 12.0).abs() < 0.035,
                    "{algorithm:?} seed {seed}: {served:?}"
                );
            }
        }
    }
}
