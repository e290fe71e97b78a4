//! Which service of a split a request goes to.
//!
//! Every user is one fixed point among all 64-bit numbers, the same on every route and every edge;
//! the services' shares lie one behind the other in the order of their names. So a changed weight
//! moves borders, and with them only the users between the old border and the new one.

use std::net::IpAddr;

use outgrow_balance::hash::combine;
use outgrow_message::RequestHead;

use crate::identity::Peer;
use crate::request_key;
use crate::settings::{RequestKey, SplitBy};

/// The shares of a split.
#[derive(Clone, Debug)]
pub struct Split {
    by: SplitBy,
    /// The sums of the weights up to each service.
    ends: Box<[u64]>,
}

impl Split {
    /// Shares by weight; not all of them are 0.
    pub fn new(by: SplitBy, weights: impl IntoIterator<Item = u32>) -> Self {
        let mut sum = 0;
        let add = |weight| {
            sum += u64::from(weight);
            sum
        };
        let ends = weights.into_iter().map(add).collect();
        Self { by, ends }
    }

    /// The place of the service that has a point.
    #[inline]
    pub fn pick(&self, point: u64) -> usize {
        let total = self.ends.last().copied().unwrap_or(0);
        let at = ((u128::from(point) * u128::from(total)) >> 64) as u64;
        let index = self.ends.partition_point(|end| *end <= at);
        index.min(self.ends.len().saturating_sub(1))
    }

    /// The point of a request by its key; none when that is its address, or chance.
    pub fn key_point(&self, request: &RequestHead) -> Option<u64> {
        self.point_by_key(request, &Peer::new(None, false, false), |_| false)
    }

    fn point_by_key(
        &self,
        request: &RequestHead,
        peer: &Peer,
        trusts: impl Fn(IpAddr) -> bool,
    ) -> Option<u64> {
        let SplitBy::Key(key) = &self.by else {
            return None;
        };
        request_key::value_of(key, request, peer, trusts).map(point_of)
    }

    /// The point of a request: of its user, or of their address; `random` where there is neither.
    #[inline]
    pub(crate) fn point(
        &self,
        request: &RequestHead,
        peer: &Peer,
        trusts: impl Fn(IpAddr) -> bool,
        random: u64,
    ) -> u64 {
        if self.by == SplitBy::Random {
            return random;
        }
        let by_address = || request_key::value_of(&RequestKey::Address, request, peer, &trusts);
        let of_key = self.point_by_key(request, peer, &trusts);
        of_key
            .or_else(|| by_address().map(point_of))
            .unwrap_or(random)
    }
}

/// The point of a user, the same for ever and everywhere: another draw than the hash itself, by
/// which the services may choose among their endpoints. If it were the same, the users of a small
/// share would all be at a few endpoints.
fn point_of(hash: u64) -> u64 {
    const DRAW: u64 = 0x7370_6c69_7420_6279;
    combine(hash, DRAW)
}

#[cfg(test)]
mod tests {
    use outgrow_balance::hash::hash;

    use super::*;

    fn user(name: &str) -> u64 {
        point_of(hash(name.as_bytes()))
    }

    fn users() -> Vec<u64> {
        (0..100_000)
            .map(|number| user(&format!("user-{number}")))
            .collect()
    }

    fn split(weights: &[u32]) -> Split {
        Split::new(SplitBy::Key(RequestKey::Address), weights.iter().copied())
    }

    #[test]
    fn shares_are_as_large_as_their_weights() {
        let users = users();
        for weights in [&[95, 5][..], &[1, 0, 3], &[0, 1], &[7], &[1_000_000, 1]] {
            let split = split(weights);
            let mut counts = vec![0_u32; weights.len()];
            for user in &users {
                counts[split.pick(*user)] += 1;
            }
            let total: u32 = weights.iter().sum();
            for (weight, count) in weights.iter().zip(counts) {
                let expected = f64::from(*weight) / f64::from(total) * users.len() as f64;
                // Five standard deviations of a binomial distribution.
                let allowed =
                    5.0 * (expected * (1.0 - f64::from(*weight) / f64::from(total))).sqrt();
                assert!(
                    (f64::from(count) - expected).abs() <= allowed,
                    "{weights:?}: {count} for {weight}, expected {expected}"
                );
                assert!(*weight > 0 || count == 0);
            }
        }
        assert_eq!(split(&[1, 0]).pick(u64::MAX), 0);
        assert_eq!(split(&[0, 1]).pick(0), 1);
    }

    /// From 5 % to 10 % the canary gets 5 % more users, and nobody else changes.
    #[test]
    fn changed_weights_move_only_whom_they_must() {
        let (before, after) = (split(&[95, 5]), split(&[90, 10]));
        let users = users();
        let moved = users
            .iter()
            .filter(|user| before.pick(**user) != after.pick(**user));
        let moved: Vec<u64> = moved.copied().collect();
        assert!(moved.iter().all(|user| after.pick(*user) == 1));
        let share = moved.len() as f64 / users.len() as f64;
        assert!((0.046..0.054).contains(&share), "{share}");
        // The same shares in other numbers move nobody.
        let same = split(&[190, 10]);
        assert!(
            users
                .iter()
                .all(|user| before.pick(*user) == same.pick(*user))
        );
    }

    /// The users of a small share are spread over all hashes, by which endpoints are chosen.
    #[test]
    fn a_share_says_nothing_about_the_hash() {
        let split = split(&[95, 5]);
        let hashes = (0..100_000).map(|number| hash(format!("user-{number}").as_bytes()));
        let mut quarters = [0_u32; 4];
        for hash in hashes.filter(|hash| split.pick(point_of(*hash)) == 1) {
            quarters[(hash >> 62) as usize] += 1;
        }
        assert!(
            quarters.iter().all(|count| (1_080..1_420).contains(count)),
            "{quarters:?}"
        );
        // Fixed for ever: an upgrade moves nobody.
        assert_eq!(user("192.0.2.7"), KNOWN);
    }

    const KNOWN: u64 = 15_470_442_527_958_117_445;
}
