//! Why a session must keep its server connection, and what ends that.
//!
//! A reason counts once the server has completed the statement: one that failed has done nothing.
//! What happens inside of functions is not seen, except in `DO`, whose text is at hand: a function
//! that takes a session's advisory lock or makes a temporary table does so unnoticed. The questions
//! ([`Pin::question`]) find it out.

use std::fmt;

/// A reason why what a session does next must reach the same server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Pin {
    /// It may have a temporary table, view, sequence or function.
    Temporary,
    /// It has a cursor that outlives its transaction.
    HoldCursor,
    /// It may hold an advisory lock of the session, or have asked for one.
    AdvisoryLock,
    /// It has loaded a library, which stays until the connection ends.
    Load,
    /// It has changed a setting in a way that cannot be repeated elsewhere: with `set_config` and values
    /// that are not in the text, through `pg_settings`, inside of `DO`.
    Setting,
    /// It has a prepared statement made by SQL (`PREPARE`).
    Prepared,
    /// It listens for notifications.
    Listening,
    /// It has seeded the random numbers of this session.
    Seed,
    /// It has a connection to another database, with a name.
    Dblink,
    /// It may have got a value of a sequence, in a pool whose clients ask for that afterwards.
    Sequence,
    /// It was not understood what the statement does: its encoding is not safe to read, a setting that
    /// decides how it reads is not known, it is too long, or its first word is unknown.
    Unread,
}

impl Pin {
    /// All reasons, in the order of their bits.
    pub const ALL: [Self; 11] = [
        Self::Temporary,
        Self::HoldCursor,
        Self::AdvisoryLock,
        Self::Load,
        Self::Setting,
        Self::Prepared,
        Self::Listening,
        Self::Seed,
        Self::Dblink,
        Self::Sequence,
        Self::Unread,
    ];

    /// What it is called in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Temporary => "temporary_object",
            Self::HoldCursor => "hold_cursor",
            Self::AdvisoryLock => "advisory_lock",
            Self::Load => "load",
            Self::Setting => "untracked_setting",
            Self::Prepared => "sql_prepared_statement",
            Self::Listening => "listen",
            Self::Seed => "random_seed",
            Self::Dblink => "dblink_connection",
            Self::Sequence => "sequence",
            Self::Unread => "not_understood",
        }
    }

    /// A statement after which the reason is gone, for a session that has ended or that wants it;
    /// `None` when nothing but the connection's end helps.
    pub fn cleaning(self) -> Option<&'static str> {
        match self {
            Self::Temporary => Some("DISCARD TEMP"),
            Self::HoldCursor => Some("CLOSE ALL"),
            Self::AdvisoryLock => Some("SELECT pg_catalog.pg_advisory_unlock_all()"),
            Self::Setting | Self::Unread => Some("DISCARD ALL"),
            Self::Prepared => Some("DEALLOCATE ALL"),
            Self::Listening => Some("UNLISTEN *"),
            Self::Sequence => Some("DISCARD SEQUENCES"),
            Self::Load | Self::Seed | Self::Dblink => None,
        }
    }

    /// A query whose one value says whether the reason still holds, asked outside of a transaction;
    /// `None` where the server cannot tell.
    pub fn question(self) -> Option<&'static str> {
        match self {
            // Whatever lies in a schema depends on it: tables, functions, types, statistics, all.
            Self::Temporary => Some(
                "SELECT pg_catalog.pg_my_temp_schema() <> 0 AND EXISTS (\
                 SELECT FROM pg_catalog.pg_depend \
                 WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass \
                 AND refobjid = pg_catalog.pg_my_temp_schema())",
            ),
            Self::HoldCursor => {
                Some("SELECT EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)")
            }
            Self::AdvisoryLock => Some(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' \
                 AND pid = pg_catalog.pg_backend_pid())",
            ),
            Self::Prepared => {
                Some("SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)")
            }
            Self::Listening => Some("SELECT EXISTS (SELECT pg_catalog.pg_listening_channels())"),
            Self::Load
            | Self::Setting
            | Self::Seed
            | Self::Dblink
            | Self::Sequence
            | Self::Unread => None,
        }
    }
}

/// Some reasons.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Pins(u16);

impl Pins {
    /// What `DISCARD ALL` ends.
    pub(crate) const DISCARDED: Self = Self(
        1 << Pin::Temporary as u16
            | 1 << Pin::HoldCursor as u16
            | 1 << Pin::AdvisoryLock as u16
            | 1 << Pin::Setting as u16
            | 1 << Pin::Prepared as u16
            | 1 << Pin::Listening as u16
            | 1 << Pin::Sequence as u16,
    );

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is among them.
    pub fn contains(self, pin: Pin) -> bool {
        self.0 & 1 << pin as u16 != 0
    }

    /// Adds one.
    pub fn insert(&mut self, pin: Pin) {
        self.0 |= 1 << pin as u16;
    }

    /// Adds those of another.
    pub fn extend(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// Takes those of another out.
    pub fn remove(&mut self, others: Self) {
        self.0 &= !others.0;
    }

    /// As a number, to be kept in a cell.
    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    /// Those of that number.
    pub(crate) fn of_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Pin> {
        Pin::ALL.into_iter().filter(move |&pin| self.contains(pin))
    }
}

impl From<Pin> for Pins {
    fn from(pin: Pin) -> Self {
        Self(1 << pin as u16)
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}
