//! Quantities with a unit: durations, sizes, percentages.

use std::fmt;
use std::time::Duration;

use crate::settings::scalar::read_integer;
use crate::settings::{Kind, Node, Reader, Setting, Value};

const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

const SIZE_UNITS: [(&str, u64); 8] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Splits `10s` into its number and its unit.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim_start()))
}

/// Reads `250ms`, `10s`, `5m`, `1h` or `2d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let (_, millis) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

/// Writes a duration with the largest unit that keeps it whole; below a millisecond is lost.
pub fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let fits = |(_, size): &&(&str, u64)| millis.is_multiple_of(*size);
    match DURATION_UNITS[..4].iter().rev().find(fits) {
        Some((unit, size)) => format!("{}{unit}", millis / size),
        None => format!("{millis}ms"),
    }
}

impl Setting for Duration {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if let Value::Integer(number) = node.value {
            let hint = format!("add the unit: \"{number}s\" or \"{number}ms\"");
            reader.error_with_hint(node.span, "expected a duration, found a number", hint);
            return None;
        }
        let text = reader.string(node, "a duration", "\"10s\"")?;
        let duration = parse_duration(text);
        if duration.is_none() {
            let hint = "a whole number and one of ms, s, m, h, d: \"250ms\", \"10s\", \"5m\"";
            reader.wrong_value(node, text, "is not a duration", hint.to_owned());
        }
        duration
    }

    fn kind() -> Kind {
        Kind::Duration
    }

    fn text(&self) -> Option<String> {
        Some(format!("\"{}\"", duration_text(*self)))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many times 1024 bytes.
    pub const fn kib(number: u64) -> Self {
        Self(number << 10)
    }

    /// So many times 1024 * 1024 bytes.
    pub const fn mib(number: u64) -> Self {
        Self(number << 20)
    }

    /// So many times 1024 * 1024 * 1024 bytes.
    pub const fn gib(number: u64) -> Self {
        Self(number << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory.
    pub fn length(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// For limits where zero means that there is none.
    pub const fn limit(self) -> Option<u64> {
        if self.0 == 0 { None } else { Some(self.0) }
    }

    /// Reads `512`, `512B`, `16KiB`, `1MiB`, `1GiB`, `1TiB` or the decimal `KB`, `MB`, `GB`.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let size = match unit {
            "" => 1,
            unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1,
        };
        number.checked_mul(size).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, size): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*size);
        match SIZE_UNITS[1..5].iter().rev().find(fits) {
            Some((unit, size)) => write!(formatter, "{}{unit}", self.0 / size),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl Setting for ByteSize {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let size = match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok().map(Self),
            _ => Self::parse(reader.string(node, "a size", "\"16KiB\"")?),
        };
        if size.is_none() {
            let hint = "a whole number of bytes, or one with KiB, MiB, GiB: \"16KiB\"";
            let text = match &node.value {
                Value::String { text, .. } => text.clone(),
                Value::Integer(number) => number.to_string(),
                _ => String::new(),
            };
            reader.wrong_value(node, &text, "is not a size", hint.to_owned());
        }
        size
    }

    fn kind() -> Kind {
        Kind::Size
    }

    fn text(&self) -> Option<String> {
        Some(format!("\"{self}\""))
    }
}

/// A whole number from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Percent(u8);

impl Percent {
    /// So many hundredths; more than 100 are 100.
    pub const fn new(percent: u8) -> Self {
        Self(if percent > 100 { 100 } else { percent })
    }

    /// The number, 0..=100.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Setting for Percent {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let number = read_integer(node, reader, "50")?;
        match u8::try_from(number) {
            Ok(percent @ 0..=100) => Some(Self(percent)),
            _ => {
                let message = format!("{number} is outside of what is possible: 0 to 100");
                reader.error_with_hint(node.span, message, "percent: a whole number, 0 to 100");
                None
            }
        }
    }

    fn kind() -> Kind {
        Kind::Percent
    }

    fn text(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}
