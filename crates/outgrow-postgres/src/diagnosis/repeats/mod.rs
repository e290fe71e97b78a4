//! N+1: one statement for each row of another one's result. Pure.
//!
//! Found in two steps, so that what is healthy costs next to nothing. First, of each client it is known
//! which few queries it said lately and how often ([`Recent`]): one that is repeated after another one
//! that returned rows makes the two a suspected pair ([`suspects::Suspects`]). That alone is no finding: so
//! does an application that serves independent requests over one connection. Then, the next few times
//! that the first of a pair is executed, hashes of its rows' values are kept ([`sample::Sample`]) and
//! compared with the values of the statements that follow. It is N+1 when row after row, in the rows'
//! order, each value is another one's, and that at two times at least.
//!
//! Values are only ever kept as hashes, for a few results at a time, and nothing of them is told.

pub(crate) mod batch;
pub(crate) mod sample;
pub(crate) mod suspects;
pub(crate) mod values;

use std::time::Duration;

use outgrow_core::Ticks;

/// Queries of a client that are remembered.
const MOST: usize = 6;
/// A silence after which it does something else.
const GAP: Duration = Duration::from_millis(500);
/// Queries that are suspected of being the first of a pair, the last ones before the repeated one.
pub(crate) const MOST_FIRST: usize = 3;

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The lower half of the record's number.
    number: u32,
    times: u16,
    rows: u16,
}

/// What a client asked lately, in the order in which it began to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recent {
    seen: [Seen; MOST],
    last: Ticks,
}

impl Recent {
    /// Whether the client said nothing for so long that it does something else now.
    pub(crate) fn is_over(&self, now: Ticks) -> bool {
        now.since(self.last) > GAP
    }

    /// A query has returned so many rows. When it has been repeated `repeats` times now, gives those
    /// before it that returned as many rows at least, the last one first; 0 is none.
    pub(crate) fn note(
        &mut self,
        number: u64,
        rows: u64,
        repeats: u32,
        now: Ticks,
    ) -> Option<[u32; MOST_FIRST]> {
        let number = number as u32;
        let rows = u16::try_from(rows).unwrap_or(u16::MAX);
        let is_result = u32::from(rows) >= repeats;
        if self.is_over(now) {
            self.seen = [Seen::default(); MOST];
        }
        self.last = now;
        let Some(place) = self.seen.iter().position(|one| one.number == number) else {
            self.add(number, rows);
            return None;
        };
        let seen = &mut self.seen[place];
        seen.times = seen.times.saturating_add(1);
        seen.rows = seen.rows.max(rows);
        let is_repeated = u32::from(seen.times) == repeats;
        if is_result {
            // What follows now follows this result.
            for later in &mut self.seen[place + 1..] {
                *later = Seen::default();
            }
        }
        if !is_repeated {
            return None;
        }
        let mut first = [0; MOST_FIRST];
        let before = self.seen[..place].iter().rev();
        let results = before.filter(|one| u32::from(one.rows) >= repeats);
        for (first, one) in first.iter_mut().zip(results) {
            *first = one.number;
        }
        (first[0] != 0).then_some(first)
    }

    fn add(&mut self, number: u32, rows: u16) {
        let place = match self.seen.iter().position(|one| one.number == 0) {
            Some(free) => free,
            None => {
                self.seen.rotate_left(1);
                MOST - 1
            }
        };
        self.seen[place] = Seen {
            number,
            times: 1,
            rows,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queries by number, with how many rows each returns; `-` is a silence. Then the pairs that are
    /// suspected.
    fn check(script: &str, expected: &[(u32, u32)]) {
        let mut recent = Recent::default();
        let mut now = Ticks(0) + Duration::from_secs(10);
        let mut pairs = Vec::new();
        for word in script.split(' ') {
            now = now + Duration::from_millis(1);
            let Some((number, rows)) = word.split_once(':') else {
                now = now + Duration::from_secs(1);
                continue;
            };
            let number: u64 = number.parse().expect("a number");
            let rows = rows.parse().expect("a number");
            if let Some(first) = recent.note(number, rows, 5, now) {
                let of_pair = first.into_iter().filter(|&first| first != 0);
                pairs.extend(of_pair.map(|first| (first, number as u32)));
            }
        }
        assert_eq!(pairs, expected, "{script}");
    }

    #[test]
    fn what_is_repeated_after_a_result_is_suspected() {
        check("1:9 2:1 2:1 2:1 2:1 2:1", &[(1, 2)]);
        check("1:9 2:1 2:1 2:1 2:1", &[]);
        check("1:4 2:1 2:1 2:1 2:1 2:1", &[]);
        check("2:1 2:1 2:1 2:1 2:1 2:1", &[]);
        check("1:9 2:1 2:1 - 2:1 2:1 2:1", &[]);
        // Once for each result.
        check("1:9 2:1 2:1 2:1 2:1 2:1 2:1 2:1", &[(1, 2)]);
        // Two for each row.
        let two = "1:9 2:1 3:1 2:1 3:1 2:1 3:1 2:1 3:1 2:1 3:1";
        check(two, &[(1, 2), (1, 3)]);
        // Several results before it.
        check("1:9 2:7 3:1 3:1 3:1 3:1 3:1", &[(2, 3), (1, 3)]);
        // A result that comes again begins anew.
        check("1:9 2:1 2:1 1:9 2:1 2:1 1:9 2:1 2:1", &[]);
        let nested = "1:9 2:6 3:1 3:1 3:1 3:1 3:1 2:6 3:1 3:1 3:1 3:1 3:1";
        check(nested, &[(2, 3), (1, 3), (2, 3), (1, 3)]);
    }

    #[test]
    fn it_stays_as_small_as_it_is() {
        assert!(size_of::<Recent>() <= 56);
        check("1:9 2:1 3:1 4:1 5:1 6:1 7:1 7:1 7:1 7:1 7:1", &[]);
    }
}
