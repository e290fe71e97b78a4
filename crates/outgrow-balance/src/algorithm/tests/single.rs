//! Each of the simple algorithms against its exact model.

use std::time::Duration;

use outgrow_core::Ticks;

use super::*;
use crate::peak_ewma::PeakEwma;

/// Whatever is in flight: the pick has the least load of all, and equals are taken by weight.
#[test]
fn least_connections_takes_the_least_of_all() {
    for seed in 0..500 {
        let mut random = Random::from_seed(seed);
        let count = 1 + random.below(least_connections::SCAN_LIMIT);
        let weights: Vec<u32> = (0..count).map(|_| 1 + random.below(4) as u32).collect();
        let mut model = Model::new(count);
        for active in model.active.borrow_mut().iter_mut() {
            *active = random.below(5) as u32;
        }
        model.unavailable = (0..count / 3).map(|_| random.below(count)).collect();
        let load = |index: usize| f64::from(model.active(index)) / f64::from(weights[index]);
        let least = (0..count)
            .filter(|&index| model.available(index))
            .map(load)
            .fold(f64::INFINITY, f64::min);
        let table = compiled(Algorithm::LeastConnections, &weights);
        for _ in 0..20 {
            let got = table.pick(&mut Cursor::new(0, 1), &mut random, None, &model);
            let got = got.expect("at least two thirds are available");
            assert!(model.available(got), "seed {seed}");
            assert!(load(got) <= least + 1e-9, "seed {seed}: {got}");
        }
    }
}

/// Above the limit of the scan: the picks by rank are those of the least of 16 draws. With all
/// loads different, the endpoint of rank r (of n, from 0) is picked with the probability
/// ((n - r) / n)^16 - ((n - r - 1) / n)^16.
#[test]
fn least_connections_samples_above_the_limit() {
    let count = 50;
    let model = Model::new(count);
    *model.active.borrow_mut() = (0..count as u32).collect();
    let table = compiled(Algorithm::LeastConnections, &vec![1; count]);
    let picks = 100_000;
    let got = counts(&table, &model, &mut Random::from_seed(4), picks, count);
    for (rank, got) in got.iter().enumerate() {
        let above = |rank: usize| ((count - rank) as f64 / count as f64).powi(16);
        let probability = above(rank) - above(rank + 1);
        let wanted = probability * picks as f64;
        let deviation = (wanted * (1.0 - probability)).sqrt();
        assert!(
            (got - wanted).abs() < 5.0 * deviation + 1.0,
            "{rank}: {got} {wanted}"
        );
    }
}

/// Also when most are out, so that the draws fail and all are looked at.
#[test]
fn random_is_by_weight_among_those_available() {
    for seed in 0..40 {
        let mut random = Random::from_seed(seed);
        let count = 20;
        let weights: Vec<u32> = (0..count).map(|_| 1 + random.below(50) as u32).collect();
        let mut model = Model::new(count);
        model.unavailable = (0..19).map(|_| random.below(count)).collect();
        let available = |index: &usize| model.available(*index);
        let total: f64 = (0..count)
            .filter(available)
            .map(|index| f64::from(weights[index]))
            .sum();
        let picks = 20_000;
        let table = compiled(Algorithm::Random, &weights);
        let got = counts(&table, &model, &mut random, picks, count);
        for index in 0..count {
            let part = if available(&index) {
                f64::from(weights[index]) / total
            } else {
                0.0
            };
            let wanted = part * picks as f64;
            let deviation = (wanted * (1.0 - part)).sqrt();
            assert!(
                (got[index] - wanted).abs() <= 5.0 * deviation,
                "seed {seed}: {got:?}"
            );
        }
    }
}

/// The load is on as few endpoints as it needs: with a limit of 4 and 10 in flight on three.
#[test]
fn first_fills_one_before_the_next() {
    let table = compiled(Algorithm::First, &[1; 6]);
    for seed in 0..50 {
        let mut random = Random::from_seed(seed);
        let mut model = Model::new(6);
        let mut held: Vec<usize> = Vec::new();
        for _ in 0..500 {
            if held.len() == 10 || (held.len() > 3 && random.below(2) == 0) {
                let index = held.swap_remove(random.below(held.len()));
                model.active.borrow_mut()[index] -= 1;
            }
            model.unavailable = (0..6).filter(|&index| model.active(index) == 4).collect();
            let got = table
                .pick(&mut Cursor::new(0, 1), &mut random, None, &model)
                .unwrap();
            let wanted = (0..6).find(|&index| model.active(index) < 4);
            assert_eq!(Some(got), wanted, "seed {seed}");
            assert!(got < 3);
            model.active.borrow_mut()[got] += 1;
            held.push(got);
        }
    }
}

/// The picks are those of drawing a pair and taking the cheaper, by its cost written out plainly.
#[test]
fn least_time_takes_the_cheaper_of_two() {
    let latencies = [0.010, 0.020, 0.005, 0.0];
    let active = [3, 0, 5, 1];
    let model = Model::new(4);
    *model.active.borrow_mut() = active.to_vec();
    *model.latencies.borrow_mut() = latencies.to_vec();
    // 0.040, 0.020, 0.030 and 0.060: the one not measured has 30 ms. Of 6 pairs the cheapest is in
    // 3, the next is the cheaper in 2, the third in 1.
    let table = compiled(Algorithm::LeastTime, &[1; 4]);
    let got = counts(&table, &model, &mut Random::from_seed(8), 60_000, 4);
    for (count, wanted) in got.iter().zip([10_000.0, 30_000.0, 20_000.0, 0.0]) {
        assert!((count - wanted).abs() < 500.0, "{got:?}");
    }
}

/// An endpoint that took 2 s per request for a while, then 10 ms as the others: it gets nearly
/// nothing while it is slow, and its full part within two minutes after (Traefik's least time gave
/// one that was once slow 5 of 1500).
#[test]
fn a_once_slow_endpoint_comes_back() {
    for seed in 0..20 {
        let mut random = Random::from_seed(seed);
        let model = Model::new(4);
        *model.latencies.borrow_mut() = vec![0.0; 4];
        let table = compiled(Algorithm::LeastTime, &[1; 4]);
        let mut cursor = Cursor::new(0, 1);
        let mut now = Ticks::ZERO + Duration::from_secs(1);
        let mut averages = [PeakEwma::new(now); 4];
        let mut picks_by_phase = [[0_u32; 4]; 3];
        // 100 requests a second: 60 s slow, 120 s to recover, 60 s measured.
        for request in 0..24_000 {
            now = now + Duration::from_millis(10);
            for (latency, average) in model.latencies.borrow_mut().iter_mut().zip(&averages) {
                *latency = average.read(now);
            }
            let picked = table.pick(&mut cursor, &mut random, None, &model).unwrap();
            let phase = [6_000, 18_000]
                .iter()
                .filter(|&&end| request >= end)
                .count();
            picks_by_phase[phase][picked] += 1;
            let is_slow = picked == 0 && phase == 0;
            let base = if is_slow { 2_000.0 } else { 10.0 };
            let took = Duration::from_secs_f64(base * (0.8 + 0.4 * random.unit()) / 1_000.0);
            averages[picked].observe(took, now);
        }
        let slow = picks_by_phase[0][0];
        assert!(
            (1..30).contains(&slow),
            "seed {seed}: {slow} of 6000 while slow"
        );
        let back = picks_by_phase[2][0];
        assert!(
            (1_000..2_200).contains(&back),
            "seed {seed}: {picks_by_phase:?}"
        );
    }
}
