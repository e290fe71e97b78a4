//! What is known of a certificate beside itself, and kept over restarts: above all that an attempt
//! was begun, so that whoever starts again and again does not use the authority's limits up.

use serde::{Deserialize, Serialize};

/// What is known. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// What it is to be: names, key, authority. Another one begins anew.
    pub wanted: String,
    /// The account by which it is got.
    pub authority: String,
    /// Failures in a row.
    pub failures: u32,
    /// Failures altogether.
    pub all_failures: u64,
    /// Since when an attempt is under way, which nobody has ended yet.
    pub begun: Option<u64>,
    /// How often an attempt was begun that nobody ended, in a row.
    pub cut_off: u32,
    /// No attempt before this.
    pub hold: Option<u64>,
    /// Whether the authority asked for that.
    pub is_limited: bool,
    /// The last success.
    pub succeeded: Option<u64>,
    /// The last failure.
    pub failed: Option<u64>,
    /// What it was.
    pub problem: Option<String>,
    /// The URL of the order that is under way.
    pub order: Option<String>,
    /// What the authority says about the renewal.
    pub renewal: Renewal,
}

/// What the authority says about the renewal of a certificate (RFC 9773).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Renewal {
    /// Which certificate it is about.
    pub certificate: String,
    /// The moment within the window that was chosen.
    pub at: Option<u64>,
    /// The window it was chosen in.
    pub window: (u64, u64),
    /// When it is to be asked again.
    pub ask_at: u64,
    /// Why the window is as it is, for people.
    pub explanation: Option<String>,
}

impl Record {
    /// Reads what was kept; what cannot be read is nothing.
    pub fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// As it is kept.
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}
