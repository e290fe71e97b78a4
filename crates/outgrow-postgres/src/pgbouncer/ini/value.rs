//! The kinds of values in a `pgbouncer.ini`: how they are read and how the console shows them.
//!
//! Deliberately not here: which setting is of which kind (`settings.rs`).

use std::time::Duration;

/// Why a value is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a whole number that fits: `0x…` is hexadecimal, `0…` octal.
    #[error("it must be a whole number")]
    Integer,
    /// Not seconds: zero or more, fractions allowed.
    #[error("it must be seconds, such as 10 or 0.5")]
    Seconds,
    /// None of these words.
    #[error("it must be one of {}", .0.join(", "))]
    Choice(&'static [&'static str]),
    /// The console is no database to look up passwords in.
    #[error("cannot use the reserved \"pgbouncer\" database as an auth_dbname")]
    ReservedDatabase,
    /// No port: 1 to 65535.
    #[error("invalid port")]
    Port,
}

/// A kind of value.
pub trait Value: Sized {
    /// Reads it.
    fn read(text: &str) -> Result<Self, ValueError>;

    /// As `SHOW CONFIG` shows it; none for a text that is not set.
    fn show(&self) -> Option<String>;
}

impl Value for String {
    fn read(text: &str) -> Result<Self, ValueError> {
        Ok(text.to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(self.clone())
    }
}

/// A text that may be not set, which differs from an empty one.
impl Value for Option<String> {
    fn read(text: &str) -> Result<Self, ValueError> {
        Ok(Some(text.to_owned()))
    }

    fn show(&self) -> Option<String> {
        self.clone()
    }
}

impl Value for i32 {
    fn read(text: &str) -> Result<Self, ValueError> {
        integer(text)
            .and_then(|number| Self::try_from(number).ok())
            .ok_or(ValueError::Integer)
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for u32 {
    fn read(text: &str) -> Result<Self, ValueError> {
        integer(text)
            .and_then(|number| Self::try_from(number).ok())
            .ok_or(ValueError::Integer)
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// On or off; PgBouncer takes any number, of which 0 is off.
impl Value for bool {
    fn read(text: &str) -> Result<Self, ValueError> {
        i32::read(text).map(|number| number != 0)
    }

    fn show(&self) -> Option<String> {
        i32::from(*self).show()
    }
}

/// Seconds with fractions.
impl Value for Duration {
    fn read(text: &str) -> Result<Self, ValueError> {
        let is_decimal = |byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
        if !text.bytes().all(is_decimal) {
            return Err(ValueError::Seconds);
        }
        let seconds: f64 = text.parse().map_err(|_| ValueError::Seconds)?;
        let micros = (seconds * 1e6).floor();
        if !(0.0..1e18).contains(&micros) {
            return Err(ValueError::Seconds);
        }
        Ok(Self::from_micros(micros as u64))
    }

    fn show(&self) -> Option<String> {
        Some(general(self.as_secs_f64()))
    }
}

/// The database in which passwords are looked up; never the console.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthDatabase(pub Option<String>);

impl Value for AuthDatabase {
    fn read(text: &str) -> Result<Self, ValueError> {
        if text == super::CONSOLE {
            return Err(ValueError::ReservedDatabase);
        }
        Ok(Self(Some(text.to_owned())))
    }

    fn show(&self) -> Option<String> {
        self.0.clone()
    }
}

/// As C's `strtol` with base 0: the whole text or nothing.
fn integer(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (digits, sign) = match text.strip_prefix('-') {
        Some(digits) => (digits, -1),
        None => (text.strip_prefix('+').unwrap_or(text), 1),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(hexadecimal), _) => (hexadecimal, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        _ => (lower.as_str(), 10),
    };
    // A second sign is one too many.
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    Some(sign * i64::from_str_radix(digits, radix).ok()?)
}

/// As C's `%g`: six digits, without zeros at the end.
fn general(value: f64) -> String {
    let scientific = format!("{value:.5e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..6).contains(&exponent) {
        let decimals = usize::try_from(5 - exponent).unwrap_or(0);
        return trimmed(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

/// Words without regard to case, of which one is to be chosen.
macro_rules! choice {
    ($(#[$meta:meta])+ $name:ident { $( $(#[$variant_meta:meta])+ $variant:ident = $word:literal, )+ }) => {
        $(#[$meta])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
        pub enum $name {
            $( $(#[$variant_meta])+ $variant, )+
        }

        impl $name {
            /// All words.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word in the file and on the console.
            pub const fn word(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                }
            }
        }

        impl Value for $name {
            fn read(text: &str) -> Result<Self, ValueError> {
                $(
                    if text.eq_ignore_ascii_case($word) {
                        return Ok(Self::$variant);
                    }
                )+
                Err(ValueError::Choice(Self::WORDS))
            }

            fn show(&self) -> Option<String> {
                Some(self.word().to_owned())
            }
        }
    };
}

choice! {
    /// How clients prove who they are. `ldap` and `pam`, which PgBouncer has in some builds, are not
    /// among them.
    AuthType {
        /// They do not; the user is the one that the database names.
        Any = "any",
        /// They do not, but the user must exist.
        Trust = "trust",
        /// A password in the clear.
        Plain = "plain",
        /// A password hashed with MD5, or SCRAM where the stored secret is one.
        #[default]
        Md5 = "md5",
        /// A client certificate.
        Cert = "cert",
        /// As the rules of `auth_hba_file` say.
        Hba = "hba",
        /// SCRAM-SHA-256.
        ScramSha256 = "scram-sha-256",
    }
}

choice! {
    /// For how long a client keeps a server connection.
    PoolMode {
        /// Until it disconnects.
        #[default]
        Session = "session",
        /// Until its transaction ends.
        Transaction = "transaction",
        /// Until its query ends.
        Statement = "statement",
    }
}

choice! {
    /// Whether a connection is encrypted and whose certificate is checked.
    TlsMode {
        /// Never.
        #[default]
        Disable = "disable",
        /// When the other side wants it.
        Allow = "allow",
        /// When the other side can.
        Prefer = "prefer",
        /// Always; certificates are not checked.
        Require = "require",
        /// Always; the certificate must be signed by a known authority.
        VerifyCa = "verify-ca",
        /// Always; besides, the certificate must be for the name that was connected to.
        VerifyFull = "verify-full",
    }
}

choice! {
    /// Which host of a list the next connection goes to.
    LoadBalanceHosts {
        /// The next one.
        #[default]
        RoundRobin = "round-robin",
        /// The same one until a connection to it fails.
        Disable = "disable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_as_c_does() {
        let check = |text: &str, expected: Option<i32>| {
            assert_eq!(i32::read(text).ok(), expected, "{text:?}");
        };
        check("0", Some(0));
        check("128", Some(128));
        check("-1", Some(-1));
        check("+7", Some(7));
        check(" 7", Some(7));
        check("0777", Some(511));
        check("0x1F", Some(31));
        check("2147483647", Some(i32::MAX));
        for wrong in [
            "",
            " ",
            "-",
            "7 ",
            "7x",
            "08",
            "0x",
            "1.5",
            "--1",
            "0-7",
            "0x-1",
            "yes",
            "2147483648",
        ] {
            check(wrong, None);
        }
        assert_eq!(u32::read("4294967295"), Ok(u32::MAX));
        assert_eq!(u32::read("-1"), Err(ValueError::Integer));
        assert_eq!(bool::read("2"), Ok(true));
        assert_eq!(bool::read("on"), Err(ValueError::Integer));
    }

    #[test]
    fn seconds_have_fractions() {
        let check = |text: &str, micros: Option<u64>, shown: &str| {
            let read = Duration::read(text).ok();
            assert_eq!(read, micros.map(Duration::from_micros), "{text:?}");
            let show = read.and_then(|duration| duration.show());
            assert_eq!(show.as_deref().unwrap_or_default(), shown, "{text:?}");
        };
        check("0", Some(0), "0");
        check("15", Some(15_000_000), "15");
        check("3600.0", Some(3_600_000_000), "3600");
        check(".5", Some(500_000), "0.5");
        check("1e3", Some(1_000_000_000), "1000");
        check("0.0000015", Some(1), "1e-06");
        check("123456.7", Some(123_456_700_000), "123457");
        check("1000000", Some(1_000_000_000_000), "1e+06");
        check("1234567", Some(1_234_567_000_000), "1.23457e+06");
        for wrong in ["", "-1", "1s", "inf", "nan", "1e30", "0x10", "1,5"] {
            check(wrong, None, "");
        }
    }

    #[test]
    fn words_are_read_without_regard_to_case() {
        assert_eq!(PoolMode::read("Transaction"), Ok(PoolMode::Transaction));
        assert_eq!(TlsMode::read("VERIFY-full"), Ok(TlsMode::VerifyFull));
        let refused = AuthType::read("ldap").unwrap_err().to_string();
        assert!(refused.contains("trust, plain, md5"), "{refused}");
        assert!(AuthDatabase::read("pgbouncer").is_err());
        assert!(AuthDatabase::read("PgBouncer").is_ok());
    }
}
