//! Consistent hashing on a ring (Karger; ketama): an endpoint has points on it in proportion to its
//! weight, and owns the keys before each of them.
//!
//! An endpoint's points do not depend on who else is there, so one that leaves moves its own keys
//! and no others. That is why there is no smallest size of the ring, which Envoy has: points added
//! to reach it when an endpoint leaves would move keys between those that stay.

use outgrow_core::Random;

use super::keyed::Keyed;
use super::{Bound, Candidates, Member};
use crate::hash::{combine, mix};

/// The knobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Points of an endpoint of weight 1, 1 to [`MOST_POINTS`]; default 512. The shares of equal
    /// endpoints deviate by 1/sqrt(points): 4.4 % with 512.
    pub points: u32,
    /// Most points of the ring, 1024 to 8 Mi; default 1 Mi, which takes 16 MiB. When the weights
    /// ask for more, all endpoints have a half, a quarter and so on of theirs, and an endpoint that
    /// comes or goes at that limit moves a part of all keys. With the defaults it is reached when
    /// the weights together are 2048 times their unit (the largest power of 16 that none is below):
    /// by 2048 endpoints of weight 1, 204 of weight 10, 17 of weights 1 to 240. Beyond, take
    /// [`maglev`](super::maglev), which has no such limit.
    pub maximum_size: u32,
    /// The most that one endpoint may have; default none.
    pub bound: Option<Bound>,
}

/// Most points of an endpoint of weight 1.
pub const MOST_POINTS: u32 = 65_536;
const SIZES: std::ops::RangeInclusive<u32> = 1_024..=8 << 20;

impl Default for Settings {
    fn default() -> Self {
        Self {
            points: 512,
            maximum_size: 1 << 20,
            bound: None,
        }
    }
}

/// The ring of a set of endpoints.
#[derive(Clone, Debug)]
pub struct Table {
    keyed: Keyed,
    /// In order.
    points: Box<[Point]>,
    /// The first point of each part of the ring; as many parts as points, rounded up to 2^n.
    parts: Box<[u32]>,
    /// 64 - n.
    part_shift: u32,
}

/// 32 bits of position are enough: of 1 Mi points 128 pairs share one, which costs nobody anything.
#[derive(Clone, Copy, Debug)]
struct Point {
    position: u32,
    owner: u32,
}

impl Table {
    /// The ring for these endpoints. O(points x log points).
    pub fn new(settings: Settings, members: &[Member]) -> Self {
        let keyed = Keyed::new(members, settings.bound);
        let identities = keyed.identities();
        let mut points = Vec::new();
        for (index, count) in counts(settings, keyed.weights()).into_iter().enumerate() {
            points.extend((0..count).map(|number| Point {
                position: (combine(identities[index], number) >> 32) as u32,
                owner: index as u32,
            }));
        }
        points.sort_unstable_by_key(|point| {
            let identity = identities[point.owner as usize];
            (
                point.position,
                mix(identity ^ u64::from(point.position)),
                identity,
            )
        });
        let bits = points.len().next_power_of_two().ilog2().max(1);
        let parts = (0..1_u32 << bits)
            .map(|part| {
                let start = part << (32 - bits);
                points.partition_point(|point| point.position < start) as u32
            })
            .collect();
        Self {
            keyed,
            points: points.into(),
            parts,
            part_shift: 64 - bits,
        }
    }

    /// The endpoint for a key; `None` when none is available.
    #[inline]
    pub fn pick(
        &self,
        random: &mut Random,
        key: Option<u64>,
        candidates: &impl Candidates,
    ) -> Option<usize> {
        self.keyed
            .pick(random, key, candidates, |place| self.owner(place))
    }

    /// The owner of the first point at or after the place.
    #[inline]
    fn owner(&self, place: u64) -> usize {
        let position = (place >> 32) as u32;
        let start = self.parts[(place >> self.part_shift) as usize] as usize;
        let after = self.points[start..]
            .iter()
            .find(|point| point.position >= position);
        after
            .or_else(|| self.points.first())
            .map_or(0, |point| point.owner as usize)
    }

    /// The part of all keys before each point, with the point's owner.
    #[cfg(test)]
    pub(super) fn arcs(&self) -> impl Iterator<Item = (usize, f64)> {
        let last = self.points.last().map_or(0, |point| point.position);
        let mut before = last;
        self.points.iter().map(move |point| {
            let length = point.position.wrapping_sub(before);
            before = point.position;
            (point.owner as usize, f64::from(length) / 4_294_967_296.0)
        })
    }

    /// Points of the ring.
    pub fn size(&self) -> usize {
        self.points.len()
    }
}

/// The points of each endpoint, in proportion to its weight and at least one.
///
/// Weights may be large and all alike (100, 100, 100): they count in units of the largest power of
/// 16 that no weight is below. The coarse steps make it rare that an endpoint which comes or goes
/// changes the unit.
fn counts(settings: Settings, weights: &[u32]) -> Vec<u64> {
    let least = weights.iter().copied().min().unwrap_or(1).max(1);
    let mut shift = least.ilog2() / 4 * 4;
    let of = |weight: u32, shift: u32| {
        let points = u64::from(settings.points.clamp(1, MOST_POINTS));
        ((points * u64::from(weight)) >> shift).max(1)
    };
    let most = u64::from(settings.maximum_size.clamp(*SIZES.start(), *SIZES.end()));
    let total = |shift| weights.iter().map(|&weight| of(weight, shift)).sum::<u64>();
    while total(shift) > most && shift < 48 {
        shift += 1;
    }
    weights.iter().map(|&weight| of(weight, shift)).collect()
}
