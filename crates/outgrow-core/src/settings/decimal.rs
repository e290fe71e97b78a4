//! Numbers that may have a fraction, of which three digits count: amounts such as 1.5 processors.
//! They are kept as thousandths, so that what is written and what is shown are the same.
//!
//! Deliberately not here: numbers with units, see `quantity`.

use std::fmt;

use crate::settings::{Kind, Node, Reader, Setting, Value};

/// A number from 0 with at most three digits after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal(u32);

impl Decimal {
    /// So many thousandths.
    pub const fn thousandths(number: u32) -> Self {
        Self(number)
    }

    /// The number in thousandths.
    pub const fn as_thousandths(self) -> u32 {
        self.0
    }

    /// Reads `2`, `1.5` or `0.125`.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) => (whole, fraction),
            None => (text, "0"),
        };
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return None;
        }
        // Noughts at the end say nothing.
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 3 {
            return None;
        }
        let thousandths: u32 = format!("{fraction:0<3}").parse().ok()?;
        let whole: u32 = whole.parse().ok()?;
        whole.checked_mul(1_000)?.checked_add(thousandths).map(Self)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000, self.0 % 1_000);
        if fraction == 0 {
            return write!(formatter, "{whole}");
        }
        let digits = format!("{fraction:03}");
        write!(formatter, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl Setting for Decimal {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let text = match &node.value {
            Value::Integer(number) => number.to_string(),
            Value::Float(text) => text.replace('_', ""),
            Value::String {
                text,
                from_environment: true,
            } => text.trim().to_owned(),
            _ => {
                reader.wrong_type(node, "a number", "1.5");
                return None;
            }
        };
        let number = Self::parse(&text);
        if number.is_none() {
            let reason = "is not a number from 0 with at most three digits after the point";
            reader.wrong_value(node, &text, reason, "write for example 1.5".to_owned());
        }
        number
    }

    fn kind() -> Kind {
        Kind::Decimal
    }

    fn text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_shown() {
        let check = |text: &str, thousandths: u32, shown: &str| {
            let number = Decimal::parse(text).unwrap();
            assert_eq!(number.as_thousandths(), thousandths, "{text}");
            assert_eq!(number.to_string(), shown);
            assert_eq!(Decimal::parse(shown), Some(number));
        };
        check("0", 0, "0");
        check("2", 2_000, "2");
        check("1.5", 1_500, "1.5");
        check("0.125", 125, "0.125");
        check("1.050000", 1_050, "1.05");
        check("3.0", 3_000, "3");
        for text in [
            "", ".", "1.", ".5", "-1", "+1", "1e3", "nan", "inf", "0.0001", "1.2.3", " 1",
            "5000000", "1,5",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }
}
