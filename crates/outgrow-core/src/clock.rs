//! Time as two distinct types: [`Ticks`] for durations and deadlines, [`WallTime`] for records.
//!
//! Pure rooms take `now: Ticks` as an argument; only the outermost loops hold a [`Clock`].

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic nanoseconds since the clock's start. Never goes back; says nothing about the date.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticks(pub u64);

impl Ticks {
    /// The clock's start.
    pub const ZERO: Self = Self(0);
    /// A moment that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    #[inline]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole microseconds from `earlier` to `self`; zero when `earlier` is later.
    #[inline]
    pub fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }
}

impl Add<Duration> for Ticks {
    type Output = Self;
    #[inline]
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub<Duration> for Ticks {
    type Output = Self;
    #[inline]
    fn sub(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", Duration::from_nanos(self.0))
    }
}

/// Nanoseconds since the Unix epoch, for records and dates only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct WallTime(pub u64);

impl WallTime {
    /// The system's time now; zero when the system's clock is before 1970.
    pub fn now() -> Self {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |duration| duration.as_nanos());
        Self(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Milliseconds within the second, 0..=999.
    pub fn millis_of_second(self) -> u64 {
        self.0 / 1_000_000 % 1_000
    }

    /// Microseconds within the second, 0..=999999.
    pub fn micros_of_second(self) -> u64 {
        self.0 / 1_000 % 1_000_000
    }

    /// Writes `2026-11-22T03:11:58.123Z` (RFC 3339, UTC).
    pub fn write_rfc3339(self, out: &mut Vec<u8>) {
        self.write_rfc3339_second(out);
        out.push(b'.');
        push_padded(out, self.millis_of_second(), 3);
        out.push(b'Z');
    }

    /// Writes `2026-11-22T03:11:58.123456Z` (RFC 3339, UTC; the `MicroTime` of Kubernetes' API).
    pub fn write_rfc3339_micros(self, out: &mut Vec<u8>) {
        self.write_rfc3339_second(out);
        out.push(b'.');
        push_padded(out, self.micros_of_second(), 6);
        out.push(b'Z');
    }

    /// Writes `2026-11-22T03:11:58`.
    fn write_rfc3339_second(self, out: &mut Vec<u8>) {
        let date = Civil::from_unix_days(self.seconds() / 86_400);
        push_padded(out, date.year, 4);
        out.push(b'-');
        push_padded(out, date.month, 2);
        out.push(b'-');
        push_padded(out, date.day, 2);
        out.push(b'T');
        push_time_of_day(out, self.seconds());
    }

    /// Writes `Sun, 22 Nov 2026 03:11:58 GMT` (IMF-fixdate, RFC 9110 section 5.6.7).
    pub fn write_http_date(self, out: &mut Vec<u8>) {
        const DAYS: [&[u8]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
        const MONTHS: [&[u8]; 12] = [
            b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
            b"Dec",
        ];
        let days = self.seconds() / 86_400;
        let date = Civil::from_unix_days(days);
        out.extend_from_slice(DAYS[(days % 7) as usize]);
        out.extend_from_slice(b", ");
        push_padded(out, date.day, 2);
        out.push(b' ');
        out.extend_from_slice(MONTHS[(date.month as usize).clamp(1, 12) - 1]);
        out.push(b' ');
        push_padded(out, date.year, 4);
        out.push(b' ');
        push_time_of_day(out, self.seconds());
        out.extend_from_slice(b" GMT");
    }
}

/// A date of the proleptic Gregorian calendar.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
}

impl Civil {
    /// Howard Hinnant's `civil_from_days`, for days since 1970-01-01.
    fn from_unix_days(days: u64) -> Self {
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        Self { year, month, day }
    }
}

/// Writes `HH:MM:SS`.
fn push_time_of_day(out: &mut Vec<u8>, seconds: u64) {
    let second_of_day = seconds % 86_400;
    push_padded(out, second_of_day / 3_600, 2);
    out.push(b':');
    push_padded(out, second_of_day / 60 % 60, 2);
    out.push(b':');
    push_padded(out, second_of_day % 60, 2);
}

fn push_padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut rest = value;
    let mut at = digits.len();
    while rest > 0 && at > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let start = at.min(digits.len() - width);
    out.extend_from_slice(&digits[start..]);
}

/// The source of time of a process. Copies share the same start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose zero is now.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Monotonic time since the start. One `clock_gettime` through the vDSO.
    #[inline]
    pub fn now(&self) -> Ticks {
        Ticks(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The `Instant` that stands for `ticks`, for handing deadlines to a runtime's timers.
    pub fn instant(&self, ticks: Ticks) -> Instant {
        self.start + Duration::from_nanos(ticks.0.min(u64::MAX / 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let check = |seconds: u64, rfc3339: &str, http: &str| {
            let mut out = Vec::new();
            WallTime(seconds * 1_000_000_000 + 7_000_000).write_rfc3339(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), rfc3339);
            out.clear();
            WallTime(seconds * 1_000_000_000 + 7_089_999).write_rfc3339_micros(&mut out);
            let micros = rfc3339.replace(".007Z", ".007089Z");
            assert_eq!(String::from_utf8_lossy(&out), micros);
            out.clear();
            WallTime(seconds * 1_000_000_000).write_http_date(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), http);
        };
        check(
            0,
            "1970-01-01T00:00:00.007Z",
            "Thu, 01 Jan 1970 00:00:00 GMT",
        );
        check(
            784_111_777,
            "1994-11-06T08:49:37.007Z",
            "Sun, 06 Nov 1994 08:49:37 GMT",
        );
        check(
            1_709_210_096,
            "2024-02-29T12:34:56.007Z",
            "Thu, 29 Feb 2024 12:34:56 GMT",
        );
        check(
            4_102_444_799,
            "2099-12-31T23:59:59.007Z",
            "Thu, 31 Dec 2099 23:59:59 GMT",
        );
    }

    #[test]
    fn ticks_saturate() {
        assert_eq!(Ticks(5).since(Ticks(9)), Duration::ZERO);
        assert_eq!(Ticks(1) + Duration::MAX, Ticks::NEVER);
        assert_eq!(Ticks(1) - Duration::from_secs(1), Ticks::ZERO);
    }
}
