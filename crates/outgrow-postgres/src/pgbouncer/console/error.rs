//! Why the console refuses a command, in PgBouncer's words.

use super::super::ini::CONSOLE;

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleError {
    /// No command is like this; the text is the query.
    #[error("invalid command '{0}', use SHOW HELP;")]
    Syntax(String),
    /// A word is longer than any that makes sense, or empty.
    #[error("bad arguments")]
    Arguments,
    /// The user may only look.
    #[error("admin access needed")]
    AdminNeeded,
    /// `ENABLE` and `DISABLE` are for one database.
    #[error("a database is required")]
    DatabaseRequired,
    /// The database is not known, nor is there a fallback.
    #[error("no such database: {0}")]
    NoSuchDatabase(String),
    /// `RESUME` of a database that is not paused.
    #[error("database {0} is not paused")]
    DatabaseNotPaused(String),
    /// `RESUME` although nothing is paused.
    #[error("pooler is not paused/suspended")]
    NotPaused,
    /// `RESUME` after `SHUTDOWN`.
    #[error("pooler is shutting down")]
    ShuttingDown,
    /// `PAUSE`, `SUSPEND` or `KILL` although all is paused.
    #[error("already suspended/paused")]
    AlreadyPaused,
    /// `SUSPEND` while a database is paused.
    #[error("cannot suspend with paused databases")]
    PausedDatabases,
    /// The command cannot be about the console; the word is what it would do (`pause`, `wait in`).
    #[error("cannot {0} admin db: {CONSOLE}")]
    Console(&'static str),
    /// `KILL_CLIENT` of something that is no number.
    #[error("invalid client pointer supplied")]
    ClientId,
    /// `KILL_CLIENT` of nobody.
    #[error("client not found")]
    NoSuchClient,
    /// `SET` of an unknown setting or to an impossible value; the log says which.
    #[error("SET failed")]
    Set,
    /// The file is refused; the log says why.
    #[error("RELOAD failed, see logs for additional details")]
    Reload,
    /// `HANDOVER` to a process that is not there; the log says more.
    #[error("HANDOVER failed, see logs for additional details")]
    HandOver,
    /// Parse, Bind or Execute.
    #[error("extended query protocol not supported by admin console")]
    ExtendedProtocol,
    /// Another message that is none of the console's.
    #[error("unsupported packet type for admin console: {0}")]
    Packet(u8),
}

impl ConsoleError {
    /// Its SQLSTATE.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            // config_file_error
            Self::Reload => "F0000",
            // protocol_violation, which PgBouncer says of all else.
            _ => "08P01",
        }
    }

    /// Whether the connection ends after it, with a second error that says `bad packet`.
    pub fn ends_connection(&self) -> bool {
        matches!(self, Self::ExtendedProtocol | Self::Packet(_))
    }
}
