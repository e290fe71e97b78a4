//! What is told of the certificates that are got from an authority.

use outgrow_core::WallTime;
use serde_json::{Value, json};

/// One of them.
#[derive(Clone, Debug)]
pub(in super::super) struct CertificateView {
    pub(in super::super) id: String,
    pub(in super::super) names: Vec<String>,
    pub(in super::super) listeners: Vec<String>,
    pub(in super::super) challenge: &'static str,
    pub(in super::super) directory: String,
    /// `valid`, `missing` or `expired`.
    pub(in super::super) state: &'static str,
    /// Whether an attempt is under way in this process.
    pub(in super::super) is_under_way: bool,
    /// Whether this process orders.
    pub(in super::super) orders: bool,
    pub(in super::super) not_before: Option<u64>,
    pub(in super::super) not_after: Option<u64>,
    /// Of which kind the key of the one that is there is.
    pub(in super::super) key_kind: Option<&'static str>,
    pub(in super::super) next_attempt: Option<u64>,
    pub(in super::super) succeeded: Option<u64>,
    pub(in super::super) failed: Option<u64>,
    pub(in super::super) failures: u32,
    pub(in super::super) all_failures: u64,
    pub(in super::super) problem: Option<String>,
    pub(in super::super) renewal_explanation: Option<String>,
}

impl CertificateView {
    /// For people and programs.
    pub(in super::super) fn told(&self) -> Value {
        json!({
            "name": self.id,
            "names": self.names,
            "listeners": self.listeners,
            "source": "acme",
            "directory": self.directory,
            "challenge": self.challenge,
            "state": self.state,
            "under_way": self.is_under_way,
            "orders_here": self.orders,
            "not_before": self.not_before.map(date),
            "not_after": self.not_after.map(date),
            "key_kind": self.key_kind,
            "next_attempt": self.next_attempt.map(date),
            "last_success": self.succeeded.map(date),
            "last_failure": self.failed.map(date),
            "failures": self.failures,
            "problem": self.problem,
            "renewal_explanation": self.renewal_explanation,
        })
    }
}

/// A moment as people and programs read it.
pub(in super::super) fn date(seconds: u64) -> String {
    let mut text = Vec::new();
    WallTime(seconds.saturating_mul(1_000_000_000)).write_rfc3339(&mut text);
    let text = String::from_utf8_lossy(&text);
    // Whole seconds only.
    format!("{}Z", text.split('.').next().unwrap_or_default())
}

/// A length of time for people.
pub(super) fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
