//! A copy of a route's requests for a service whose answers nobody sees.

use std::fmt;
use std::str::FromStr;

use outgrow_core::settings::{ByteSize, Name};

use super::ServiceName;

outgrow_core::settings! {
    /// A copy of the route's requests goes to another service, whose answers are read and thrown
    /// away. Nobody waits for it: it is sent when the request was sent whole, at most once, and only
    /// when the service has room at once. The copy carries `X-Outgrow-Mirror: 1`. Upgrades
    /// (WebSocket) are not mirrored.
    pub struct MirrorSettings {
        /// The service that gets the copies.
        pub service: ServiceName = ServiceName(Name::new("shadow").expect("it is a name")),
            required = true;
        /// The part of the requests of which there is a copy, by chance.
        pub share: Share = Share::ALL;
        /// Size of a request's body of which a copy is kept. A request with a larger one is not
        /// mirrored and counted as dropped. 0: only requests without a body.
        pub body_limit: ByteSize = ByteSize::kib(64), in ByteSize(0)..=ByteSize::kib(256);
        /// Copies that are under way at a time, of each worker. Above it requests are not mirrored
        /// and counted as dropped.
        pub at_once: u32 = 64, in 1..=1_024;
    }
}

/// A part of a whole: `"10%"`, `"0.5%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share {
    /// In hundredths of a percent.
    parts: u32,
}

/// A text that is not a part of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a percentage from 0% to 100% with at most two places behind the point")]
pub struct ShareError;

impl Share {
    /// The whole.
    pub const ALL: Self = Self { parts: 10_000 };

    /// Whether a point of all 64-bit numbers is within the share.
    pub fn has(self, point: u64) -> bool {
        (u128::from(point) * 10_000) >> 64 < u128::from(self.parts)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.parts / 100, self.parts % 100);
        match rest {
            0 => write!(formatter, "{whole}%"),
            rest if rest % 10 == 0 => write!(formatter, "{whole}.{}%", rest / 10),
            rest => write!(formatter, "{whole}.{rest:02}%"),
        }
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let number = text.strip_suffix('%').ok_or(ShareError)?.trim_end();
        let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(rest) || rest.len() > 2 || whole.len() > 3 {
            return Err(ShareError);
        }
        let parts = format!("{whole}{rest:0<2}")
            .parse()
            .map_err(|_| ShareError)?;
        if parts > Self::ALL.parts {
            return Err(ShareError);
        }
        Ok(Self { parts })
    }
}

outgrow_core::text_setting!(Share, "a percentage", ["10%", "0.5%"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_written() {
        for text in ["0%", "100%", "10%", "0.5%", "0.05%", "33.33%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for text in [
            "10", "%", "101%", "100.01%", "1.234%", "-1%", "1.%", ".5%", "a%",
        ] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        let half: Share = "50%".parse().unwrap();
        assert!(half.has(0) && half.has(u64::MAX / 2 - 1));
        assert!(!half.has(u64::MAX / 2 + 1) && !half.has(u64::MAX));
        assert!(Share::ALL.has(u64::MAX) && !"0%".parse::<Share>().unwrap().has(0));
    }
}
