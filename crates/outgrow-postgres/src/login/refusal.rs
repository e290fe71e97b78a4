//! Why a login was refused, in Postgres' words: what the client is told is another thing than what
//! the log says.

use super::facts::{Facts, Replication};

/// Longest name in a line of the log.
const LONGEST_SHOWN: usize = 64;

/// What kind of refusal it is, for counting and for the throttle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A wrong password, or a user who has none or is unknown: the client cannot tell.
    Password,
    /// A certificate or a system's user that is not that of the user.
    Identity,
    /// A rule, or that there is none.
    Rule,
    /// The user is unknown, and is told so.
    NoSuchUser,
    /// What the client sent is no answer to what it was asked.
    Protocol,
    /// There are too many clients already.
    Full,
    /// Too many failures shortly before.
    Throttled,
    /// Something of ours: a server or the configuration.
    Ours,
}

impl Cause {
    /// Whether somebody may be trying passwords.
    pub fn is_an_attempt(self) -> bool {
        matches!(
            self,
            Self::Password | Self::Identity | Self::NoSuchUser | Self::Protocol
        )
    }
}

/// The end of a login that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What kind it is.
    pub cause: Cause,
    /// The SQLSTATE for the client.
    pub sqlstate: &'static str,
    /// The text for the client, as Postgres words it.
    pub text: String,
    /// The detail for the client, where Postgres gives one.
    pub detail: Option<String>,
    /// What happened, for the log only: one line, without secrets.
    pub reason: String,
    /// The secret came from a cache and may be an old one: it is to be forgotten, so that the next
    /// login asks anew.
    pub is_stale: bool,
}

impl Refusal {
    pub(super) fn new(
        cause: Cause,
        sqlstate: &'static str,
        text: String,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            cause,
            sqlstate,
            text,
            detail: None,
            reason: reason.into(),
            is_stale: false,
        }
    }

    /// A wrong password, as far as the client is told.
    pub(super) fn password(user: &str, reason: &str) -> Self {
        let text = format!("password authentication failed for user \"{user}\"");
        let reason = format!("user \"{}\": {reason}", shown(user));
        Self::new(Cause::Password, "28P01", text, reason)
    }

    /// A message that does not belong here.
    pub(super) fn protocol(text: &str) -> Self {
        Self::new(Cause::Protocol, "08P01", text.to_owned(), text)
    }

    /// The user is unknown, and there is nothing to hide it behind.
    pub(super) fn no_role(user: &str) -> Self {
        let text = format!("role \"{user}\" does not exist");
        let reason = format!("role \"{}\" does not exist", shown(user));
        Self::new(Cause::NoSuchUser, "28000", text, reason)
    }

    /// The same in PgBouncer's words.
    pub(super) fn no_such_user(user: &str) -> Self {
        let reason = format!("no such user: {}", shown(user));
        Self::new(
            Cause::NoSuchUser,
            "28000",
            "no such user".to_owned(),
            reason,
        )
    }

    /// A certificate or a peer that is not the user's. `way` is Postgres' word for it.
    pub(super) fn identity(way: &str, user: &str, reason: &str) -> Self {
        let text = format!("{way} authentication failed for user \"{user}\"");
        let reason = format!("user \"{}\": {reason}", shown(user));
        Self::new(Cause::Identity, "28000", text, reason)
    }

    /// A rule that says `reject`.
    pub fn rejected(facts: &Facts<'_>) -> Self {
        let of_what = match facts.replication {
            Replication::Physical => " replication",
            Replication::None | Replication::Logical => "",
        };
        let text = format!(
            "pg_hba.conf rejects{of_what} connection for {}",
            about(facts)
        );
        Self::new(Cause::Rule, "28000", text.clone(), text)
    }

    /// No rule that fits.
    pub fn no_rule(facts: &Facts<'_>) -> Self {
        let of_what = match facts.replication {
            Replication::Physical => " for replication connection from",
            Replication::None | Replication::Logical => " for",
        };
        let text = format!("no pg_hba.conf entry{of_what} {}", about(facts));
        Self::new(Cause::Rule, "28000", text.clone(), text)
    }
}

fn about(facts: &Facts<'_>) -> String {
    let host = facts.source.text();
    let database = match facts.replication {
        Replication::Physical => String::new(),
        Replication::None | Replication::Logical => {
            format!("database \"{}\", ", facts.database)
        }
    };
    let encryption = match facts.tls {
        Some(_) => "SSL encryption",
        None => "no encryption",
    };
    format!(
        "host \"{host}\", user \"{}\", {database}{encryption}",
        facts.user
    )
}

/// A name of the network as it may stand in a log.
pub(super) fn shown(name: &str) -> String {
    let is_shown = |character: &char| !character.is_control();
    name.chars().filter(is_shown).take(LONGEST_SHOWN).collect()
}
