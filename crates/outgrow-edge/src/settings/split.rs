//! How a route shares its requests among services.

use std::fmt;
use std::str::FromStr;

use outgrow_core::settings::{MapKey, Name};

use super::{FieldName, KeyName, ServiceName};

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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SplitBy {
    /// Each request for itself.
    Random,
    /// The client's address.
    Address,
    /// The value of a header field.
    Header(FieldName),
    /// The value of a cookie.
    Cookie(KeyName),
    /// The value of a key of the query.
    Query(KeyName),
}

impl fmt::Display for SplitBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => formatter.write_str("random"),
            Self::Address => formatter.write_str("address"),
            Self::Header(name) => write!(formatter, "header:{}", name.as_str()),
            Self::Cookie(name) => write!(formatter, "cookie:{}", name.as_str()),
            Self::Query(name) => write!(formatter, "query:{}", name.as_str()),
        }
    }
}

impl FromStr for SplitBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key =
            |name: &str| KeyName::from_key(name).map_err(|reason| format!("{name:?} {reason}"));
        match text.split_once(':') {
            None if text == "random" => Ok(Self::Random),
            None if text == "address" => Ok(Self::Address),
            Some(("header", name)) => {
                let name = FieldName::from_key(name);
                name.map(Self::Header)
                    .map_err(|reason| format!("it {reason}"))
            }
            Some(("cookie", name)) => key(name).map(Self::Cookie),
            Some(("query", name)) => key(name).map(Self::Query),
            _ => Err(
                "it is neither random nor address nor header:NAME nor cookie:NAME nor query:NAME"
                    .to_owned(),
            ),
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
            "cookie:a:b",
            "query:u",
        ] {
            assert_eq!(text.parse::<SplitBy>().unwrap().to_string(), text);
        }
        for text in ["", "ip", "header:", "header:a b", "cookie:", "path:x"] {
            assert!(text.parse::<SplitBy>().is_err(), "{text}");
        }
    }
}
