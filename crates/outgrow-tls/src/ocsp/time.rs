//! Moments in responses: `GeneralizedTime` as RFC 5280 section 4.1.2.5.2 wants it, `YYYYMMDDHHMMSSZ`.

use outgrow_core::WallTime;

/// Reads a moment from 1970 on.
pub(super) fn read(text: &[u8]) -> Option<WallTime> {
    let (digits, b"Z") = text.split_at_checked(14)? else {
        return None;
    };
    let number = |from: usize, to: usize| {
        digits[from..to].iter().try_fold(0_u64, |sum, byte| {
            byte.is_ascii_digit()
                .then(|| sum * 10 + u64::from(byte - b'0'))
        })
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let in_month = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let is_time = hour < 24 && minute < 60 && second <= 60;
    if year < 1970 || day == 0 || day > in_month || !is_time {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(WallTime(seconds.saturating_mul(1_000_000_000)))
}

/// Days since 1970-01-01, by counting years from the first of March (Howard Hinnant's
/// `days_from_civil`).
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        let check = |text: &str, seconds: Option<u64>| {
            let read = read(text.as_bytes()).map(WallTime::seconds);
            assert_eq!(read, seconds, "{text}");
        };
        check("19700101000000Z", Some(0));
        check("20000229235959Z", Some(951_868_799));
        check("20261129212800Z", Some(1_795_987_680));
        check("20240301000000Z", Some(1_709_251_200));
        check("20230229000000Z", None);
        check("21000229000000Z", None);
        check("19691231235959Z", None);
        check("20261301000000Z", None);
        check("20260100000000Z", None);
        check("20260101240000Z", None);
        check("20260101000000", None);
        check("20260101000000+0100", None);
        check("20260101000000.5Z", None);
        check("2026010100000xZ", None);
        check("", None);
    }
}
