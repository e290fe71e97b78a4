//! The ends of what may be given: no endpoints, one, a thousand, none available, hostile weights.

use super::*;

fn all() -> impl Iterator<Item = Algorithm> {
    let bound = Some(Bound::new(125));
    let small = ring_hash::Settings {
        points: 1,
        maximum_size: 0,
        bound,
    };
    let large = ring_hash::Settings {
        points: 0,
        ..ring_hash::Settings::default()
    };
    let tiny = maglev::Settings { size: 0, bound };
    BY_WEIGHT.into_iter().chain([
        Algorithm::First,
        Algorithm::RingHash(small),
        Algorithm::RingHash(large),
        Algorithm::Maglev(tiny),
    ])
}

#[test]
fn none_one_and_only_one_available() {
    for algorithm in all() {
        let mut random = Random::from_seed(1);
        let mut cursor = Cursor::new(0, 2);
        let none = compiled(algorithm, &[]);
        for key in [None, Some(7)] {
            let got = none.pick(&mut cursor, &mut random, key, &Model::new(0));
            assert_eq!(got, None);
        }
        for weights in [vec![1; 9], (0..9).collect::<Vec<u32>>(), vec![3]] {
            let count = weights.len();
            let table = compiled(algorithm, &weights);
            let mut model = Model::new(count);
            for left in 0..count {
                model.unavailable = (0..count).filter(|index| *index != left).collect();
                for key in 0..20 {
                    let key = (key % 3 > 0).then_some(key);
                    let got = table.pick(&mut cursor, &mut random, key, &model);
                    assert_eq!(got, Some(left), "{algorithm:?}");
                }
            }
            model.unavailable = (0..count).collect();
            let got = table.pick(&mut cursor, &mut random, Some(1), &model);
            assert_eq!(got, None, "{algorithm:?}");
        }
    }
}

#[test]
fn a_thousand_endpoints_and_hostile_weights() {
    for algorithm in all() {
        let hostile: [&[u32]; 5] = [
            &[0; 1_000],
            &[u32::MAX; 3],
            &[u32::MAX, 1],
            &[1, u32::MAX, 0, u32::MAX],
            &[0, 0],
        ];
        for weights in hostile {
            let table = compiled(algorithm, weights);
            let model = Model::new(weights.len());
            *model.active.borrow_mut() = vec![u32::MAX; weights.len()];
            let mut random = Random::from_seed(3);
            let mut cursor = Cursor::new(3, 4);
            for key in 0..500 {
                let key = (key % 2 == 0).then_some(key * 77_777);
                let got = table.pick(&mut cursor, &mut random, key, &model);
                assert!(got.unwrap() < weights.len(), "{algorithm:?}");
            }
        }
    }
}

/// A weight of 0 is one of 1, by all that use weights.
#[test]
fn weight_0_counts_as_1() {
    for algorithm in BY_WEIGHT {
        let picks = |weights: &[u32]| {
            let mut random = Random::from_seed(9);
            counts(
                &compiled(algorithm, weights),
                &Model::new(3),
                &mut random,
                300,
                3,
            )
        };
        assert_eq!(picks(&[0, 2, 0]), picks(&[1, 2, 1]), "{algorithm:?}");
    }
}

/// Endpoints that were given the same identity all get something.
#[test]
fn equal_identities_share() {
    for algorithm in [RING, MAGLEV] {
        let mut same = members(&[1, 1, 1, 2]);
        for member in &mut same[..3] {
            member.identity = 5;
        }
        let table = Table::new(&algorithm, &same);
        let got = counts(&table, &Model::new(4), &mut Random::from_seed(2), 50_000, 4);
        for (count, wanted) in got.iter().zip([10_000.0, 10_000.0, 10_000.0, 20_000.0]) {
            assert!((count / wanted - 1.0).abs() < 0.2, "{got:?}");
        }
    }
}
