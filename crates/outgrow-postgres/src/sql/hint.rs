//! What comments say about where a statement is to go.
//!
//! - `/*outgrow: primary*/`: to the primary, whatever can be proven. So does pgpool's
//!   `/*NO LOAD BALANCE*/`.
//! - `/*outgrow: replica*/`: to a replica, though it cannot be proven that it only reads; who writes it
//!   answers for it. A statement whose keywords say that it writes goes to the primary all the same.
//!
//! - `/*outgrow: cache=30s*/`: its answer may be kept for so long (`ms`, `s`, `m`, `h`), also where it is one
//!   of the moment; `cache=0s`: it may not.
//!
//! A hint is a whole comment, anywhere in the text: ORMs put comments at the end. Both at once mean
//! the primary.

/// The hints of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hints {
    /// Somebody wants it executed by the primary.
    pub primary: bool,
    /// Somebody wants it executed by a replica.
    pub replica: bool,
    /// For how many milliseconds its answer may be kept.
    pub cache: Option<u32>,
}

/// What our own hints begin with.
const OURS: &[u8] = b"outgrow:";
const PGPOOL: &[u8] = b"no load balance";

impl Hints {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Takes the hint that a comment is, if it is one.
    pub(crate) fn read(&mut self, comment: &[u8]) {
        let comment = comment.trim_ascii();
        if comment.len() > 32 {
            return;
        }
        if comment.eq_ignore_ascii_case(PGPOOL) {
            self.primary = true;
        }
        let Some((start, rest)) = comment.split_at_checked(OURS.len()) else {
            return;
        };
        if start.eq_ignore_ascii_case(OURS) {
            let target = rest.trim_ascii();
            self.primary |= target.eq_ignore_ascii_case(b"primary");
            self.replica |= target.eq_ignore_ascii_case(b"replica");
            if let Some((key, time)) = target.split_at_checked(CACHE.len())
                && key.eq_ignore_ascii_case(CACHE)
                && let Some(millis) = millis(time.trim_ascii_start())
            {
                // Of several the shortest.
                self.cache = Some(self.cache.map_or(millis, |known| known.min(millis)));
            }
        }
    }
}

const CACHE: &[u8] = b"cache";

/// The milliseconds of `=30s`, at most a day.
fn millis(written: &[u8]) -> Option<u32> {
    let written = written.strip_prefix(b"=")?.trim_ascii();
    let digits = written.iter().take_while(|byte| byte.is_ascii_digit());
    let (number, unit) = written.split_at(digits.count());
    let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let unit = match unit {
        b"ms" => 1,
        b"s" => 1_000,
        b"m" => 60_000,
        b"h" => 3_600_000,
        _ => return None,
    };
    Some(number.checked_mul(unit)?.min(86_400_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_comments_are_hints() {
        let check = |comment: &str, primary: bool, replica: bool| {
            let mut hints = Hints::default();
            hints.read(comment.as_bytes());
            let expected = Hints {
                primary,
                replica,
                cache: None,
            };
            assert_eq!(hints, expected, "{comment}");
        };
        check("outgrow: primary", true, false);
        check(" Outgrow:Replica ", false, true);
        check("NO LOAD BALANCE", true, false);
        check("outgrow: replica, please", false, false);
        check("outgrow:", false, false);
        check("outgrow", false, false);
        check("not outgrow: replica", false, false);
        check("", false, false);
    }

    #[test]
    fn times_to_live_are_read() {
        let check = |comment: &str, expected: Option<u32>| {
            let mut hints = Hints::default();
            hints.read(comment.as_bytes());
            assert_eq!(hints.cache, expected, "{comment}");
        };
        check("outgrow: cache=30s", Some(30_000));
        check(" Outgrow: Cache = 500ms ", Some(500));
        check("outgrow:cache=0s", Some(0));
        check("outgrow: cache=2h", Some(7_200_000));
        check("outgrow: cache=1000h", Some(86_400_000));
        for nothing in [
            "cache",
            "cache=",
            "cache=30",
            "cache=s",
            "cache=-1s",
            "cache=9999999999s",
        ] {
            check(&format!("outgrow: {nothing}"), None);
        }
    }
}
