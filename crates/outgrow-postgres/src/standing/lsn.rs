//! Positions in the write-ahead log.

use std::fmt;

/// A position in the write-ahead log (`pg_lsn`): bytes since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Reads the form that Postgres writes: two hexadecimal numbers of at most eight digits.
    pub fn read(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let part = |text: &str| {
            let is_good =
                (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_good
                .then(|| u64::from_str_radix(text, 16).ok())
                .flatten()
        };
        Some(Self(part(high)? << 32 | part(low)?))
    }

    /// Bytes from `earlier` to here; 0 when it is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_and_written() {
        for (text, number) in [
            ("0/0", 0),
            ("16/B374D848", 0x16_B374_D848),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(Lsn::read(text), Some(Lsn(number)), "{text}");
            assert_eq!(Lsn(number).to_string(), text);
        }
        assert_eq!(Lsn::read("a/b"), Some(Lsn(0xA_0000_000B)));
        for bad in [
            "",
            "/",
            "1",
            "1/",
            "/1",
            "1/+1",
            "1/123456789",
            "g/1",
            "1/1/1",
        ] {
            assert_eq!(Lsn::read(bad), None, "{bad}");
        }
        assert_eq!(Lsn(5).since(Lsn(9)), 0);
    }
}
