//! Which service of a split a request goes to.
//!
//! Every user is one fixed point among all 64-bit numbers, the same on every route and every edge;
//! the services' shares lie one behind the other in the order of their names. So a changed weight
//! moves borders, and with them only the users between the old border and the new one.

use std::net::IpAddr;

use outgrow_message::{Fields, Known, RequestHead};

use crate::identity::Peer;
use crate::plan::ListenerPlan;
use crate::router::{cookie_values, query_values, values};
use crate::settings::SplitBy;

/// Most proxies in front of this one that are looked at for the client's address.
const PROXY_LIMIT: usize = 32;

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
        let value = match &self.by {
            SplitBy::Random | SplitBy::Address => None,
            SplitBy::Header(name) => values(request, name).next(),
            SplitBy::Cookie(name) => cookie_values(request, name).next(),
            SplitBy::Query(name) => query_values(request, name).next(),
        };
        value.filter(|value| !value.is_empty()).map(point_of)
    }

    /// The point of a request; `random` where chance decides.
    pub(crate) fn point(
        &self,
        request: &RequestHead,
        peer: &Peer,
        listener: &ListenerPlan,
        random: u64,
    ) -> u64 {
        if self.by == SplitBy::Random {
            return random;
        }
        let of_key = self.key_point(request);
        of_key.unwrap_or_else(|| point_of(client_address(&request.fields, peer, listener)))
    }
}

/// The client's address as text: the peer's, or what trusted proxies say that it is.
fn client_address<'a>(fields: &'a Fields, peer: &'a Peer, listener: &ListenerPlan) -> &'a [u8] {
    if !peer.trusted {
        return peer.address();
    }
    let mut client = peer.address();
    let Some(line) = fields.values(Known::XForwardedFor).last() else {
        return client;
    };
    for member in line.rsplit(|&byte| byte == b',').take(PROXY_LIMIT) {
        let member = member.trim_ascii();
        let text = std::str::from_utf8(member).ok();
        let Some(address) = text.and_then(|text| text.parse::<IpAddr>().ok()) else {
            break;
        };
        client = member;
        if !listener.trusts(Some(address)) {
            break;
        }
    }
    client
}

/// The point of a text: its hash, the same for ever and everywhere.
pub fn point_of(text: &[u8]) -> u64 {
    const KEYS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(KEYS[1]);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let (words, rest) = text.as_chunks::<8>();
    let mut hash = KEYS[0] ^ text.len() as u64;
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word)).wrapping_add(KEYS[0]);
    }
    let last = rest
        .iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte));
    hash = mix(hash, last).wrapping_add(KEYS[0]);
    // A product mixes its high bits best: once more, with the halves exchanged (splitmix64).
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Vec<u64> {
        (0..100_000)
            .map(|user| point_of(format!("user-{user}").as_bytes()))
            .collect()
    }

    fn split(weights: &[u32]) -> Split {
        Split::new(SplitBy::Address, weights.iter().copied())
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

    /// One bit of the text changes about half of the point's bits, each of them about as often.
    #[test]
    fn points_are_well_mixed() {
        let mut flips = [0_u32; 64];
        let mut rounds = 0;
        for user in 0..2_000_u32 {
            let text = format!("10.0.{}.{}", user / 256, user % 256).into_bytes();
            for bit in 0..8 {
                let mut other = text.clone();
                let last = other.len() - 1;
                other[last] ^= 1 << bit;
                let differ = point_of(&text) ^ point_of(&other);
                rounds += 1;
                for (place, count) in flips.iter_mut().enumerate() {
                    *count += u32::from(differ >> place & 1 == 1);
                }
            }
        }
        for (place, count) in flips.iter().enumerate() {
            let share = f64::from(*count) / f64::from(rounds);
            assert!((0.47..0.53).contains(&share), "bit {place}: {share}");
        }
        // Fixed for ever: an upgrade moves nobody.
        assert_eq!(point_of(b"192.0.2.7"), KNOWN);
    }

    const KNOWN: u64 = 8_542_851_609_221_207_542;
}
