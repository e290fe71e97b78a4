//! Priorities, zones and backups: which part of a service's endpoints gets which part of the load.
//!
//! A level is the endpoints of one priority in our zone, or those in the others. The rule is Envoy's
//! (priority levels, overprovisioning factor 1.4) without its rounding to whole percents: a level of
//! which `healthy` are healthy takes min(1, 1.4 x healthy) of the load that comes to it and leaves
//! the rest to the next. So nothing leaves the first before 29 % of it are out, and then gradually.
//! When all together could not take everything, each takes in proportion. Within a priority our own
//! zone is first, by the same rule.
//!
//! A backup is an endpoint of a later priority. Deliberately not here: the panic threshold (the
//! caller says who is healthy), and how much load comes from which zone: where our zone has fewer
//! endpoints than load, the caller is to call no endpoint near.

use std::ops::Range;

use outgrow_core::Random;

use crate::hash::combine;

/// How much of a level must be out before its load goes elsewhere: it counts as 1.4 of what it is.
pub const OVERPROVISIONING: f64 = 1.4;

/// The whole load in the units of `Levels::ends`.
const WHOLE: u64 = 1 << 32;
/// Makes the choice of the level independent of the choice of the endpoint by the same key.
const SALT: u64 = 0x6c65_7665_6c73;

/// Where an endpoint belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// 0 is the first to be used.
    pub priority: u32,
    /// Whether it is in our own zone.
    pub is_near: bool,
    /// Whether it counts as healthy now.
    pub is_healthy: bool,
}

/// Endpoints of one priority, near or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// That of its endpoints.
    pub priority: u32,
    /// Whether they are in our own zone.
    pub is_near: bool,
    /// Its part of the load, 0 to 1; of all levels together 1.
    pub load: f64,
    /// The indexes of its endpoints, healthy or not, in their given order.
    pub members: Box<[usize]>,
}

/// The levels of a set of endpoints, in the order in which they are used.
#[derive(Clone, Debug)]
pub struct Levels {
    levels: Box<[Level]>,
    /// Where the part of each level ends, of [`WHOLE`].
    ends: Box<[u64]>,
}

impl Levels {
    /// The levels of these endpoints. With all of them at one place there is one, which costs
    /// nothing.
    pub fn new(places: &[Place]) -> Self {
        let mut levels = grouped(places);
        let health: Vec<f64> = levels
            .iter()
            .map(|level| {
                let healthy = |&&index: &&usize| places[index].is_healthy;
                let healthy = level.members.iter().filter(healthy).count();
                let share = healthy as f64 / level.members.len() as f64;
                (share * OVERPROVISIONING).min(1.0)
            })
            .collect();
        spread(&mut levels, places, &health);
        let mut sum = 0.0;
        let last = levels.iter().rposition(|level| level.load > 0.0);
        let ends = levels
            .iter()
            .enumerate()
            .map(|(place, level)| {
                sum += level.load;
                // The last that has load has all the rest: sums may be a little below 1.
                if last.is_some_and(|last| place >= last) {
                    WHOLE
                } else {
                    ((sum * WHOLE as f64) as u64).min(WHOLE)
                }
            })
            .collect();
        Self {
            levels: levels.into(),
            ends,
        }
    }

    /// All levels, in the order in which they are used.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The level for the next request, by the loads; by the key where there is one, so that a key
    /// changes its level only as far as the loads do. 0 also when there is none.
    #[inline]
    pub fn pick(&self, random: &mut Random, key: Option<u64>) -> usize {
        // All on the first, the usual case, needs no draw.
        if self.ends.first().is_none_or(|&end| end == WHOLE) {
            return 0;
        }
        let draw = match key {
            Some(key) => combine(key, SALT) >> 32,
            None => random.next_u64() >> 32,
        };
        self.ends.iter().position(|&end| draw < end).unwrap_or(0)
    }

    /// The levels to try when the one that was picked has none available: itself, then the others
    /// from the first on. So what the near ones cannot take now goes to the far ones, and to a
    /// backup at last, whatever the loads.
    #[inline]
    pub fn order(&self, picked: usize) -> impl Iterator<Item = usize> + use<> {
        let others = (0..self.levels.len()).filter(move |&level| level != picked);
        (picked..self.levels.len()).take(1).chain(others)
    }
}

fn grouped(places: &[Place]) -> Vec<Level> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|&index| (places[index].priority, !places[index].is_near));
    order
        .chunk_by(|&one, &other| {
            let (one, other) = (places[one], places[other]);
            one.priority == other.priority && one.is_near == other.is_near
        })
        .map(|members| Level {
            priority: places[members[0]].priority,
            is_near: places[members[0]].is_near,
            load: 0.0,
            members: members.into(),
        })
        .collect()
}

/// First between priorities, then between the near and the far ones of each.
fn spread(levels: &mut [Level], places: &[Place], health: &[f64]) {
    let mut priorities: Vec<Range<usize>> = Vec::new();
    for place in 0..levels.len() {
        match priorities.last_mut() {
            Some(range) if levels[range.start].priority == levels[place].priority => {
                range.end = place + 1;
            }
            _ => priorities.push(Range {
                start: place,
                end: place + 1,
            }),
        }
    }
    let of_priority = |range: &Range<usize>| {
        let members = || {
            levels[range.clone()]
                .iter()
                .flat_map(|level| &level.members)
        };
        let healthy = members().filter(|&&index| places[index].is_healthy).count();
        (healthy as f64 / members().count() as f64 * OVERPROVISIONING).min(1.0)
    };
    let healths: Vec<f64> = priorities.iter().map(of_priority).collect();
    for (range, load) in priorities.into_iter().zip(shares(&healths)) {
        let parts = shares(&health[range.clone()]);
        for (level, part) in levels[range].iter_mut().zip(parts) {
            level.load = load * part;
        }
    }
}

/// Each takes its health of what is left; in proportion where all together are below 1; all is on
/// the first where nobody is healthy.
fn shares(health: &[f64]) -> Vec<f64> {
    let total = health.iter().sum::<f64>().min(1.0);
    let mut left = 1.0_f64;
    if total <= 0.0 {
        return (0..health.len())
            .map(|place| f64::from(u8::from(place == 0)))
            .collect();
    }
    health
        .iter()
        .map(|health| {
            let share = (health / total).min(left);
            left -= share;
            share
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `counts`: priority, near, healthy, all.
    fn places(counts: &[(u32, bool, usize, usize)]) -> Vec<Place> {
        counts
            .iter()
            .flat_map(|&(priority, is_near, healthy, all)| {
                (0..all).map(move |index| Place {
                    priority,
                    is_near,
                    is_healthy: index < healthy,
                })
            })
            .collect()
    }

    #[test]
    fn loads_are_those_of_the_rule() {
        let check = |counts: &[(u32, bool, usize, usize)], expected: &[f64]| {
            let levels = Levels::new(&places(counts));
            let got: Vec<f64> = levels.levels().iter().map(|level| level.load).collect();
            let near = |(one, other): (&f64, &f64)| (one - other).abs() < 1e-9;
            assert!(
                got.len() == expected.len() && got.iter().zip(expected).all(near),
                "{got:?} for {counts:?}"
            );
        };
        check(&[], &[]);
        check(&[(0, false, 3, 3)], &[1.0]);
        check(&[(0, false, 0, 3)], &[1.0]);
        // Two and three priorities by Envoy's rule, without its rounding to whole percents.
        check(&[(0, false, 100, 100), (1, false, 100, 100)], &[1.0, 0.0]);
        check(&[(0, false, 72, 100), (1, false, 72, 100)], &[1.0, 0.0]);
        check(&[(0, false, 71, 100), (1, false, 71, 100)], &[0.994, 0.006]);
        check(&[(0, false, 50, 100), (1, false, 50, 100)], &[0.7, 0.3]);
        check(&[(0, false, 25, 100), (1, false, 100, 100)], &[0.35, 0.65]);
        check(&[(0, false, 25, 100), (1, false, 25, 100)], &[0.5, 0.5]);
        check(&[(0, false, 0, 100), (1, false, 100, 100)], &[0.0, 1.0]);
        check(
            &[
                (0, false, 25, 100),
                (1, false, 25, 100),
                (2, false, 20, 100),
            ],
            &[0.357_142_857, 0.357_142_857, 0.285_714_286],
        );
        // Our zone first, then the others, then the backup.
        check(&[(0, true, 4, 4), (0, false, 8, 8)], &[1.0, 0.0]);
        check(&[(0, true, 2, 4), (0, false, 8, 8)], &[0.7, 0.3]);
        check(
            &[(0, true, 0, 4), (0, false, 8, 8), (9, false, 1, 1)],
            &[0.0, 14.0 / 15.0, 1.0 / 15.0],
        );
        check(&[(0, true, 1, 4), (0, false, 2, 8)], &[0.5, 0.5]);
        check(
            &[(0, true, 0, 4), (0, false, 0, 8), (1, true, 1, 1)],
            &[0.0, 0.0, 1.0],
        );
        check(&[(7, true, 0, 1), (9, false, 0, 1)], &[1.0, 0.0]);
    }

    #[test]
    fn picks_follow_the_loads_and_keys_stay() {
        for seed in 0..50 {
            let mut random = Random::from_seed(seed);
            let counts: Vec<(u32, bool, usize, usize)> = (0..=random.below(4))
                .map(|level| (level as u32 / 2, level % 2 == 0, random.below(6), 6))
                .collect();
            let levels = Levels::new(&places(&counts));
            let mut by_key = vec![0.0; counts.len()];
            let mut by_chance = by_key.clone();
            for key in 0..10_000 {
                by_key[levels.pick(&mut random, Some(key))] += 1e-4;
                by_chance[levels.pick(&mut random, None)] += 1e-4;
            }
            for (place, level) in levels.levels().iter().enumerate() {
                for got in [by_key[place], by_chance[place]] {
                    assert!(
                        (got - level.load).abs() < 0.025,
                        "seed {seed}: {got} {level:?}"
                    );
                }
            }
        }
        let before = Levels::new(&places(&[(0, true, 5, 10), (1, false, 10, 10)]));
        let after = Levels::new(&places(&[(0, true, 4, 10), (1, false, 10, 10)]));
        let mut random = Random::from_seed(0);
        for key in 0..1_000 {
            let (one, other) = (
                before.pick(&mut random, Some(key)),
                after.pick(&mut random, Some(key)),
            );
            assert!(other >= one, "a key that spilled stays spilled");
        }
    }

    #[test]
    fn others_are_tried_from_the_first_on() {
        let levels = Levels::new(&places(&[
            (0, true, 1, 1),
            (0, false, 1, 1),
            (1, true, 1, 1),
        ]));
        let order = |picked| levels.order(picked).collect::<Vec<usize>>();
        assert_eq!(order(0), [0, 1, 2]);
        assert_eq!(order(2), [2, 0, 1]);
        let none = Levels::new(&[]);
        assert_eq!(none.pick(&mut Random::from_seed(0), None), 0);
        assert_eq!(none.order(0).count(), 0);
        let members: Vec<&[usize]> = levels.levels().iter().map(|one| &one.members[..]).collect();
        assert_eq!(members, [[0], [1], [2]]);
    }
}
