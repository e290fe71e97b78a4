//! Sets of statuses, as text and as what checks ask.

use std::fmt;
use std::str::FromStr;

/// A set of statuses: `200-399`, or `200,204,300-399`; at most 16 ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusSet {
    ranges: [(u16, u16); Self::MOST],
    count: usize,
}

/// Why a text is not a set of statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusSetError {
    /// Something in it is not a status.
    #[error("a status is a number, 100 to 599")]
    Status,
    /// A range ends before it starts.
    #[error("a range ends before it starts")]
    Order,
    /// More than 16 parts.
    #[error("it has more than 16 parts")]
    Length,
}

impl StatusSet {
    /// Most parts that a set can have.
    const MOST: usize = 16;

    /// `200-399`
    pub const SUCCESS_AND_REDIRECT: Self = {
        let mut ranges = [(0, 0); Self::MOST];
        ranges[0] = (200, 399);
        Self { ranges, count: 1 }
    };

    /// Whether the status is in the set.
    pub fn contains(&self, status: u16) -> bool {
        self.ranges()
            .any(|(first, last)| (first..=last).contains(&status))
    }

    fn ranges(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        self.ranges.iter().take(self.count).copied()
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            if first == last {
                write!(formatter, "{first}")?;
            } else {
                write!(formatter, "{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for StatusSet {
    type Err = StatusSetError;

    fn from_str(text: &str) -> Result<Self, StatusSetError> {
        let status = |text: &str| match text.trim().parse() {
            Ok(status @ 100..=599) => Ok(status),
            _ => Err(StatusSetError::Status),
        };
        let mut set = Self {
            ranges: [(0, 0); Self::MOST],
            count: 0,
        };
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u16, u16) = (status(first)?, status(last)?);
            if first > last {
                return Err(StatusSetError::Order);
            }
            let slot = set
                .ranges
                .get_mut(set.count)
                .ok_or(StatusSetError::Length)?;
            *slot = (first, last);
            set.count += 1;
        }
        Ok(set)
    }
}

outgrow_core::text_setting!(StatusSet, "a set of statuses", ["200-399", "200,204"]);
