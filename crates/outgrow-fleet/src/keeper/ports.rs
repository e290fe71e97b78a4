//! Chooses ports for instances. Never one of the range from which the kernel
//! takes the near ends of outgoing connections: the proxy itself makes many,
//! and one of them could sit on an instance's port when it starts.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

/// The lowest port that is given; below are the usual services.
const LOWEST: u16 = 10_000;

/// Gives ports in turn, so that one is not used again soon.
#[derive(Debug)]
pub(super) struct Ports {
    candidates: Vec<u16>,
    next: usize,
}

impl Ports {
    /// `seed` decides where the turn begins: two Outgrows begin at different ports.
    pub(super) fn new(seed: u64) -> Self {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let candidates = candidates(parse_range(range.as_deref().unwrap_or("")));
        let next = usize::try_from(seed).unwrap_or(0) % candidates.len();
        Self { candidates, next }
    }

    /// A port on which nobody listens, and none of `taken`.
    pub(super) fn choose(&mut self, taken: &HashSet<u16>) -> Option<u16> {
        for _ in 0..self.candidates.len() {
            let port = self.candidates[self.next];
            self.next = (self.next + 1) % self.candidates.len();
            if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(port);
            }
        }
        None
    }
}

fn parse_range(text: &str) -> RangeInclusive<u16> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(low)), Some(Ok(high))) => low..=high,
        // The kernel's default.
        _ => 32_768..=60_999,
    }
}

/// Ports outside of the range; when it leaves none, all from [`LOWEST`].
fn candidates(ephemeral: RangeInclusive<u16>) -> Vec<u16> {
    let outside: Vec<u16> = (LOWEST..=u16::MAX)
        .filter(|port| !ephemeral.contains(port))
        .collect();
    if outside.len() >= 100 {
        outside
    } else {
        (LOWEST..=u16::MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_outside_of_the_ephemeral_range() {
        let check = |text, expected_first, expected_count| {
            let candidates = candidates(parse_range(text));
            assert_eq!(
                (candidates[0], candidates.len()),
                (expected_first, expected_count)
            );
        };
        check("32768\t60999\n", 10_000, 22_768 + 4_536);
        check("10000 60000", 60_001, 5_535);
        check("1024 65535", 10_000, 55_536);
        check("nonsense", 10_000, 22_768 + 4_536);
    }

    #[test]
    fn a_taken_port_is_not_chosen() {
        let mut ports = Ports::new(7);
        let first = ports.choose(&HashSet::new()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        ports.next = ports
            .candidates
            .iter()
            .position(|port| *port == first)
            .unwrap();
        let second = ports.choose(&HashSet::new()).unwrap();
        assert_ne!(first, second);
        drop(listener);
        ports.next = ports
            .candidates
            .iter()
            .position(|port| *port == first)
            .unwrap();
        assert_ne!(ports.choose(&HashSet::from([first])), Some(first));
    }
}
