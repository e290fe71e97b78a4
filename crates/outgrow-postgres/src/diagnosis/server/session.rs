//! Sessions of a server, as `pg_stat_activity` and `pg_locks` tell them, and our clients behind them.

use std::sync::Arc;
use std::time::Duration;

use crate::diagnosis::{Origin, Text};
use crate::sql::fingerprint::{fingerprint, normalised};
use crate::sql::lexer::Lexing;

/// Most bytes of a statement that are shown.
const MOST_SHOWN: usize = 500;
/// What stands for a text that the asking user may not see.
const HIDDEN: &str = "<insufficient privilege>";

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The server's process; 0 for a prepared transaction, which has none.
    pub process: i32,
    /// Its user.
    pub user: String,
    /// What its application calls itself.
    pub application: String,
    /// Where it comes from; empty for a Unix socket.
    pub address: String,
    /// The port there; 0 for a Unix socket.
    pub port: u16,
    /// `client backend`, `autovacuum worker`, …; empty where the asking user may not see it.
    pub kind: String,
    /// `active`, `idle in transaction`, …; empty where the asking user may not see it.
    pub state: String,
    /// Since when its transaction is open.
    pub transaction: Option<Duration>,
    /// Since when its last statement runs, or ran.
    pub statement: Option<Duration>,
    /// Since when it is in its state.
    pub changed: Option<Duration>,
    /// Transactions that have begun since its snapshot was taken: what they leave behind cannot be
    /// cleaned up.
    pub snapshot_age: Option<u64>,
    /// The text of its last statement, as far as the server keeps it.
    pub text: String,
    /// Whom it waits for.
    pub blocked_by: Vec<i32>,
    /// Whether it is a connection of ours.
    pub is_ours: bool,
    /// Our client that has it.
    pub client: Option<OurClient>,
}

/// A client of ours that has a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OurClient {
    /// Its number, as the console and the records tell it.
    pub number: u64,
    /// Its address.
    pub address: String,
    /// The user it logged in as.
    pub user: String,
    /// What its application calls itself.
    pub application: String,
    /// The statement that it executes, or executed last, as we know it.
    pub statement: Option<Text>,
    /// Where in the application its transaction comes from.
    pub told: Origin,
}

/// A lock that a session has or waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Whose it is.
    pub process: i32,
    /// `relation`, `tuple`, `transactionid`, `advisory`, …
    pub kind: String,
    /// `RowExclusiveLock`, …
    pub mode: String,
    /// Whether it is held.
    pub is_granted: bool,
    /// What is locked, where it has a name.
    pub target: String,
    /// For how long it is waited for, where the server tells (since 14).
    pub waited: Option<Duration>,
}

impl Session {
    /// Whether it does nothing in an open transaction.
    pub fn is_idle_in_transaction(&self) -> bool {
        self.state.starts_with("idle in transaction")
    }

    /// Its last statement without values; none where it cannot be seen.
    pub fn shown(&self) -> Option<Text> {
        let ours = self.client.as_ref();
        if let Some(statement) = ours.and_then(|client| client.statement.as_ref()) {
            return Some(statement.clone());
        }
        let text = self.text.trim();
        if text.is_empty() || text == HIDDEN {
            return None;
        }
        let lexing = Lexing::default();
        Some(Text {
            fingerprint: fingerprint(text.as_bytes(), lexing),
            normalised: normalised(text.as_bytes(), lexing, MOST_SHOWN).into(),
        })
    }

    /// Who it is, for people.
    pub fn who(&self) -> String {
        let mut who = format!("process {} (user {}", self.process, or_unknown(&self.user));
        if !self.application.is_empty() {
            who.push_str(&format!(", application {}", self.application));
        }
        match (self.address.as_str(), self.kind.as_str()) {
            ("", "client backend") => who.push_str(", local"),
            ("", "") => {}
            ("", kind) => who.push_str(&format!(", {kind}")),
            (address, _) => who.push_str(&format!(", from {address}")),
        }
        who.push(')');
        who
    }

    /// What it does, for people.
    pub fn doing(&self) -> String {
        let state = match self.state.as_str() {
            "" => "in a state that the asking user may not see",
            state => state,
        };
        let since = match self.state.as_str() {
            "active" => self.statement,
            _ => self.changed,
        };
        since.map_or_else(
            || state.to_owned(),
            |since| format!("{state} for {}", seconds(since)),
        )
    }

    /// Whose it is in the application.
    pub fn origin(&self) -> Origin {
        let client = self.client.as_ref();
        let (application, address) = match client {
            Some(client) => (&client.application, &client.address),
            None => (&self.application, &self.address),
        };
        let named = |name: &String| (!name.is_empty()).then(|| Arc::from(name.as_str()));
        Origin {
            application: named(application),
            client: named(address),
            ..client.map(|client| client.told.clone()).unwrap_or_default()
        }
    }
}

impl OurClient {
    /// Who it is, for people.
    pub fn who(&self) -> String {
        let mut who = format!("client {} at {}", self.number, self.address);
        who.push_str(&format!(", user {}", self.user));
        if !self.application.is_empty() {
            who.push_str(&format!(", application {}", self.application));
        }
        who
    }
}

fn or_unknown(name: &str) -> &str {
    if name.is_empty() { "unknown" } else { name }
}

/// A time for people.
pub(super) fn seconds(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    if tenths < 10 * 60 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else if tenths < 10 * 3600 {
        format!("{} min", tenths / 600)
    } else {
        format!("{} h {} min", tenths / 36_000, tenths / 600 % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people() {
        let check = |millis, expected: &str| {
            assert_eq!(seconds(Duration::from_millis(millis)), expected);
        };
        check(0, "0.0 s");
        check(12_340, "12.3 s");
        check(59_999, "59.9 s");
        check(60_000, "1 min");
        check(3_599_999, "59 min");
        check(3_600_000, "1 h 0 min");
        check(9_000_000, "2 h 30 min");
    }

    #[test]
    fn statements_are_shown_without_values() {
        let check = |text: &str, expected: Option<&str>| {
            let session = Session {
                text: text.to_owned(),
                ..Session::default()
            };
            let shown = session.shown();
            assert_eq!(shown.as_ref().map(|text| &*text.normalised), expected);
        };
        check(
            "UPDATE t SET secret = 'x' WHERE id = 7",
            Some("UPDATE t SET secret = $1 WHERE id = $2"),
        );
        check("", None);
        check(HIDDEN, None);
    }

    #[test]
    fn who_and_what_is_said_as_far_as_it_is_seen() {
        let session = Session {
            process: 7,
            user: "app".to_owned(),
            kind: "client backend".to_owned(),
            state: "idle in transaction".to_owned(),
            changed: Some(Duration::from_secs(3)),
            ..Session::default()
        };
        assert_eq!(session.who(), "process 7 (user app, local)");
        assert_eq!(session.doing(), "idle in transaction for 3.0 s");
        let hidden = Session {
            process: 8,
            ..Session::default()
        };
        assert_eq!(hidden.who(), "process 8 (user unknown)");
        assert!(hidden.doing().contains("may not see"));
    }
}
