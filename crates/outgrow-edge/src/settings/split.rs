//! How a route shares its requests among services.

use std::fmt;
use std::str::FromStr;

use outgrow_core::settings::Name;

use super::{RequestKey, RequestKeyError, ServiceName};

/// Most services of one split.
pub const SPLIT_LIMIT: usize = 16;

outgrow_core::settings! {
    /// A service's part of a route's requests.
    pub struct ShareSettings {
        /// The service.
        pub service: ServiceName = ServiceName(Name::new("next").expect("it is a name")),
            required = true;
        /// Its part compared with the others': 95 and 5 are 95 and 5 percent. 0: no request.
        pub weight: u32 = 5, in 0..=1_000_000, required = true;
    }
}

/// By what a request's share is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitBy {
    /// Each request for itself.
    Random,
    /// The same for all requests in which this is the same.
    Key(RequestKey),
}

/// Why a text is not what a split can go by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitByError {
    /// It is none of the words.
    #[error("it is random, address, header:NAME, cookie:NAME or query:NAME")]
    Word,
    /// A name in it is none.
    #[error(transparent)]
    Key(RequestKeyError),
}

impl fmt::Display for SplitBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => formatter.write_str("random"),
            Self::Key(key) => key.fmt(formatter),
        }
    }
}

impl FromStr for SplitBy {
    type Err = SplitByError;

    fn from_str(text: &str) -> Result<Self, SplitByError> {
        if text == "random" {
            return Ok(Self::Random);
        }
        match text.parse() {
            // A path has no share: a split is of users.
            Ok(RequestKey::Path) | Err(RequestKeyError::Word) => Err(SplitByError::Word),
            Ok(key) => Ok(Self::Key(key)),
            Err(error) => Err(SplitByError::Key(error)),
        }
    }
}

outgrow_core::text_setting!(
    SplitBy,
    "a key of users",
    [
        "random",
        "address",
        "cookie:session",
        "header:X-User",
        "query:user"
    ]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_written() {
        for text in [
            "random",
            "address",
            "header:X-User",
            "cookie:a.b",
            "query:u",
        ] {
            assert_eq!(text.parse::<SplitBy>().unwrap().to_string(), text);
        }
        for text in ["", "ip", "header:", "header:a b", "cookie:", "path"] {
            assert!(text.parse::<SplitBy>().is_err(), "{text}");
        }
    }
}
