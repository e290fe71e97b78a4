//! Ranges of bytes (RFC 9110 section 14). Pure.
//!
//! One part is sent at a time. Several that lie one behind the other, or over each other, are one;
//! of others the whole file is sent, which the RFC lets us do: `multipart/byteranges` is asked for by
//! few, and was a means of attack (CVE-2011-3192).

use std::ops::Range;

/// The most ranges that are looked at.
const RANGES: usize = 16;

/// What a `Range` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything: nothing that we understand is asked for, or too much of it.
    Whole,
    /// These bytes.
    Bytes(Range<u64>),
    /// Nothing of what is asked for is there.
    Unsatisfiable,
}

/// What the value of `Range` means for a file of `length` bytes.
pub(super) fn part_of(value: &[u8], length: u64) -> Part {
    let Some((unit, set)) = split_at(value, b'=') else {
        return Part::Whole;
    };
    if !unit.trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return Part::Whole;
    }
    let mut found: Vec<Range<u64>> = Vec::new();
    let mut count = 0;
    for spec in set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        if spec.is_empty() {
            continue;
        }
        count += 1;
        let Some(range) = parse(spec, length) else {
            return Part::Whole;
        };
        if !range.is_empty() {
            found.push(range);
        }
        if count > RANGES {
            return Part::Whole;
        }
    }
    if count == 0 {
        return Part::Whole;
    }
    found.sort_by_key(|range| range.start);
    let mut found = found.into_iter();
    let Some(mut one) = found.next() else {
        return Part::Unsatisfiable;
    };
    for next in found {
        if next.start > one.end {
            return Part::Whole;
        }
        one.end = one.end.max(next.end);
    }
    Part::Bytes(one)
}

/// One `first-last`, `first-` or `-suffix`; empty when nothing of it is there, none when it is
/// malformed.
fn parse(spec: &[u8], length: u64) -> Option<Range<u64>> {
    let (first, last) = split_at(spec, b'-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(length.saturating_sub(suffix)..length);
    }
    let first = number(first)?;
    let end = match last {
        b"" => length,
        last => match number(last)? {
            last if last < first => return None,
            last => length.min(last.saturating_add(1)),
        },
    };
    Some(first.min(end)..end)
}

fn split_at(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|&one| one == byte)?;
    Some((&text[..place], &text[place + 1..]))
}

/// Digits; more than fit are the largest number.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = text.iter();
    Some(digits.fold(0_u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

#[cfg(test)]
mod tests {
    use outgrow_core::Random;

    use super::*;

    #[test]
    fn what_is_asked_for() {
        let table: &[(&str, u64, Part)] = &[
            ("bytes=0-0", 10, Part::Bytes(0..1)),
            ("bytes=0-9", 10, Part::Bytes(0..10)),
            ("bytes=2-100", 10, Part::Bytes(2..10)),
            ("bytes=9-", 10, Part::Bytes(9..10)),
            ("bytes=-3", 10, Part::Bytes(7..10)),
            ("bytes=-30", 10, Part::Bytes(0..10)),
            ("Bytes = 1-2", 10, Part::Bytes(1..3)),
            ("bytes=10-", 10, Part::Unsatisfiable),
            ("bytes=-0", 10, Part::Unsatisfiable),
            ("bytes=0-", 0, Part::Unsatisfiable),
            ("bytes=-5", 0, Part::Unsatisfiable),
            ("bytes=99999999999999999999-", 10, Part::Unsatisfiable),
            ("bytes=0-99999999999999999999", 10, Part::Bytes(0..10)),
            ("bytes=0-1,2-3", 10, Part::Bytes(0..4)),
            ("bytes=4-5, 0-6 ,", 10, Part::Bytes(0..7)),
            ("bytes=0-1,20-30", 10, Part::Bytes(0..2)),
            ("bytes=0-1,4-5", 10, Part::Whole),
            ("bytes=3-2", 10, Part::Whole),
            ("bytes=", 10, Part::Whole),
            ("bytes=-", 10, Part::Whole),
            ("bytes=a-", 10, Part::Whole),
            ("bytes=1 -2", 10, Part::Whole),
            ("bytes", 10, Part::Whole),
            ("items=0-1", 10, Part::Whole),
            ("", 10, Part::Whole),
        ];
        for (value, length, expected) in table {
            assert_eq!(part_of(value.as_bytes(), *length), *expected, "{value}");
        }
        let many = format!("bytes={}", "0-0,".repeat(17));
        assert_eq!(part_of(many.as_bytes(), 10), Part::Whole);
    }

    #[test]
    fn anything_may_come() {
        const PARTS: [&[u8]; 10] = [
            b"bytes=",
            b"-",
            b",",
            b"0",
            b"1",
            b"9",
            b" ",
            b"18446744073709551615",
            b"=",
            b"\xff",
        ];
        for seed in 0..50_000 {
            let mut random = Random::from_seed(seed);
            let mut value = b"bytes=".to_vec();
            for _ in 0..random.next_u64() % 14 {
                value.extend_from_slice(PARTS[(random.next_u64() % 10) as usize]);
            }
            let length = [0, 1, 10, u64::MAX][(random.next_u64() % 4) as usize];
            if let Part::Bytes(range) = part_of(&value, length) {
                let is_there = range.start < range.end && range.end <= length;
                assert!(
                    is_there,
                    "seed {seed}: {} of {length}",
                    value.escape_ascii()
                );
            }
        }
    }
}
