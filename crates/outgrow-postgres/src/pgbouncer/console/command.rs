//! The commands of the console.
//!
//! A query is one command: a word and at most one argument, or a `SET`. Names may stand in double
//! quotes, values in single ones. Deliberately not here: what a command does.

use super::{ConsoleError, Role};

/// Words of commands are shorter than this in bytes, as in PgBouncer.
const COMMAND_LIMIT: usize = 16;
/// Names of databases and settings are shorter than this in bytes, as in PgBouncer.
const NAME_LIMIT: usize = 64;
/// Values of `SET` are shorter than this in bytes; PgBouncer takes 255, which some paths exceed.
const VALUE_LIMIT: usize = 4096;

/// What an administrator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `SHOW …`, also as `SELECT …`.
    Show(Show),
    /// `SHOW` of a parameter of databases that drivers ask for without need.
    ShowParameter(Parameter),
    /// `SET` of such a one: nothing happens.
    SetParameter(Parameter),
    /// `SET key = value`.
    Set {
        /// The name of the setting.
        key: String,
        /// What it is to be.
        value: String,
    },
    /// `RELOAD`.
    Reload,
    /// `PAUSE`, of one database or of all; answered when it is done.
    Pause(Option<String>),
    /// `RESUME`, of one database or of all.
    Resume(Option<String>),
    /// `SUSPEND`; answered when it is done.
    Suspend,
    /// `DISABLE db`: no new clients.
    Disable(String),
    /// `ENABLE db`.
    Enable(String),
    /// `RECONNECT`, of one database or of all.
    Reconnect(Option<String>),
    /// `KILL`, of one database or of all: their clients and servers are disconnected.
    Kill(Option<String>),
    /// `KILL_CLIENT id`.
    KillClient(u64),
    /// `WAIT_CLOSE`, of one database or of all; answered when it is done.
    WaitClose(Option<String>),
    /// `SHUTDOWN …`.
    Shutdown(Shutdown),
    /// `HANDOVER pid`, no command of PgBouncer's: the process of that number takes over the sockets
    /// and clients. What `-R` says.
    HandOver(u32),
}

/// How to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// At once; there is no answer.
    Immediate,
    /// When no client is left.
    WaitForClients,
    /// When no server connection is in use; nobody gets one any more.
    WaitForServers,
}

macro_rules! show {
    ($( $(#[$meta:meta])+ $variant:ident = $word:literal, )+) => {
        /// What `SHOW` can show.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Show {
            $( $(#[$meta])+ $variant, )+
        }

        impl Show {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its word in the command.
            pub const fn word(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                }
            }
        }
    };
}

show! {
    /// [`rows::SocketRow`](super::rows::SocketRow) of clients.
    Clients = "clients",
    /// [`ConfigRow`](crate::pgbouncer::ini::ConfigRow).
    Config = "config",
    /// [`rows::DatabaseRow`](super::rows::DatabaseRow), the console's among them.
    Databases = "databases",
    /// [`rows::FileRow`](super::rows::FileRow), each with its descriptor for a process of our own.
    Files = "fds",
    /// [`answer::help`](super::answer::help).
    Help = "help",
    /// [`rows::Lists`](super::rows::Lists).
    Lists = "lists",
    /// [`rows::PeerRow`](super::rows::PeerRow).
    Peers = "peers",
    /// [`rows::PeerPoolRow`](super::rows::PeerPoolRow).
    PeerPools = "peer_pools",
    /// [`rows::PoolRow`](super::rows::PoolRow), the console's among them.
    Pools = "pools",
    /// [`rows::SocketRow`](super::rows::SocketRow) of servers.
    Servers = "servers",
    /// [`rows::DetailedSocketRow`](super::rows::DetailedSocketRow) of all.
    Sockets = "sockets",
    /// [`rows::DetailedSocketRow`](super::rows::DetailedSocketRow) of those with bytes in a buffer.
    ActiveSockets = "active_sockets",
    /// [`stats::StatsRow`](super::stats::StatsRow).
    Stats = "stats",
    /// [`stats::TotalsRow`](super::stats::TotalsRow).
    StatsTotals = "stats_totals",
    /// [`stats::AveragesRow`](super::stats::AveragesRow).
    StatsAverages = "stats_averages",
    /// [`rows::UserRow`](super::rows::UserRow).
    Users = "users",
    /// [`rows::VersionRow`](super::rows::VersionRow).
    Version = "version",
    /// [`stats::SumRow`](super::stats::SumRow).
    Totals = "totals",
    /// [`rows::MemoryRow`](super::rows::MemoryRow).
    Memory = "mem",
    /// [`rows::HostRow`](super::rows::HostRow).
    DnsHosts = "dns_hosts",
    /// [`rows::ZoneRow`](super::rows::ZoneRow).
    DnsZones = "dns_zones",
    /// [`rows::StateRow`](super::rows::StateRow).
    State = "state",
}

/// A parameter that databases have and the console only pretends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// client_encoding
    ClientEncoding,
    /// default_transaction_isolation
    DefaultTransactionIsolation,
    /// standard_conforming_strings
    StandardConformingStrings,
    /// datestyle
    DateStyle,
    /// timezone
    TimeZone,
}

impl Parameter {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientEncoding => "client_encoding",
            Self::DefaultTransactionIsolation => "default_transaction_isolation",
            Self::StandardConformingStrings => "standard_conforming_strings",
            Self::DateStyle => "datestyle",
            Self::TimeZone => "timezone",
        }
    }

    /// What is said of it, always.
    pub const fn value(self) -> &'static str {
        match self {
            Self::ClientEncoding => "UTF-8",
            Self::DefaultTransactionIsolation => "read committed",
            Self::StandardConformingStrings => "on",
            Self::DateStyle => "ISO",
            Self::TimeZone => "GMT",
        }
    }

    fn find(name: &str) -> Option<Self> {
        let all = [
            Self::ClientEncoding,
            Self::DefaultTransactionIsolation,
            Self::StandardConformingStrings,
            Self::DateStyle,
            Self::TimeZone,
        ];
        all.into_iter()
            .find(|parameter| parameter.name().eq_ignore_ascii_case(name))
    }
}

impl Command {
    /// What `query` means, when somebody of that role says it.
    ///
    /// # Errors
    /// It is no command, or the role does not allow it.
    pub fn parse(query: &str, role: Role) -> Result<Self, ConsoleError> {
        let syntax = || ConsoleError::Syntax(query.to_owned());
        match words(query).ok_or_else(syntax)? {
            Words::Plain { command, argument } => {
                if command.len() >= COMMAND_LIMIT || argument.len() >= NAME_LIMIT {
                    return Err(ConsoleError::Arguments);
                }
                plain(&command, argument, role, syntax)
            }
            Words::Set { key, value } => {
                if key.is_empty() || key.len() >= NAME_LIMIT || value.len() >= VALUE_LIMIT {
                    return Err(ConsoleError::Arguments);
                }
                match (Parameter::find(&key), role) {
                    (Some(parameter), _) => Ok(Self::SetParameter(parameter)),
                    (None, Role::Stats) => Err(ConsoleError::AdminNeeded),
                    (None, Role::Admin) => Ok(Self::Set { key, value }),
                }
            }
        }
    }
}

fn plain(
    word: &str,
    argument: String,
    role: Role,
    syntax: impl Fn() -> ConsoleError,
) -> Result<Command, ConsoleError> {
    let lower = word.to_ascii_lowercase();
    if lower == "show" || lower == "select" {
        return show(&argument, role).ok_or_else(syntax)?;
    }
    // What takes no argument, or only some, is looked at before the role, as in PgBouncer.
    let command = match (lower.as_str(), argument.as_str()) {
        ("reload", "") => Command::Reload,
        ("suspend", "") => Command::Suspend,
        ("shutdown", argument) => match argument.to_ascii_lowercase().as_str() {
            "" => Command::Shutdown(Shutdown::Immediate),
            "wait_for_clients" => Command::Shutdown(Shutdown::WaitForClients),
            "wait_for_servers" => Command::Shutdown(Shutdown::WaitForServers),
            _ => return Err(syntax()),
        },
        ("reload" | "suspend", _) => return Err(syntax()),
        (
            "pause" | "resume" | "disable" | "enable" | "reconnect" | "kill" | "kill_client"
            | "wait_close" | "handover",
            _,
        ) if role == Role::Stats => return Err(ConsoleError::AdminNeeded),
        ("disable" | "enable", "") => return Err(ConsoleError::DatabaseRequired),
        ("disable", _) => Command::Disable(argument),
        ("enable", _) => Command::Enable(argument),
        ("pause", _) => Command::Pause(database(argument)),
        ("resume", _) => Command::Resume(database(argument)),
        ("reconnect", _) => Command::Reconnect(database(argument)),
        ("kill", _) => Command::Kill(database(argument)),
        ("wait_close", _) => Command::WaitClose(database(argument)),
        ("handover", pid) => Command::HandOver(pid.parse().map_err(|_| syntax())?),
        ("kill_client", id) => Command::KillClient(id.parse().map_err(|_| ConsoleError::ClientId)?),
        _ => return Err(syntax()),
    };
    match role {
        Role::Admin => Ok(command),
        Role::Stats => Err(ConsoleError::AdminNeeded),
    }
}

/// None when there is nothing of that name.
fn show(name: &str, role: Role) -> Option<Result<Command, ConsoleError>> {
    if let Some(parameter) = Parameter::find(name) {
        return Some(Ok(Command::ShowParameter(parameter)));
    }
    let show = Show::ALL
        .iter()
        .find(|show| show.word().eq_ignore_ascii_case(name))?;
    // Descriptors come with cancel keys and secrets.
    let is_allowed = role == Role::Admin || *show != Show::Files;
    Some(if is_allowed {
        Ok(Command::Show(*show))
    } else {
        Err(ConsoleError::AdminNeeded)
    })
}

fn database(argument: String) -> Option<String> {
    (!argument.is_empty()).then_some(argument)
}

/// A query by its words.
enum Words {
    Plain { command: String, argument: String },
    Set { key: String, value: String },
}

/// None when it is not like any command.
fn words(query: &str) -> Option<Words> {
    let (command, rest) = word(query.trim_start_matches(is_blank))?;
    if command.eq_ignore_ascii_case("set")
        && let Some((key, value)) = assignment(rest)
    {
        return Some(Words::Set { key, value });
    }
    if is_end(rest) {
        let argument = String::new();
        return Some(Words::Plain { command, argument });
    }
    let (argument, rest) = word(after_blank(rest)?)?;
    is_end(rest).then_some(Words::Plain { command, argument })
}

/// `key = value` or `key TO value` after `SET`.
fn assignment(text: &str) -> Option<(String, String)> {
    let (key, rest) = word(after_blank(text)?)?;
    let trimmed = rest.trim_start_matches(is_blank);
    let rest = match trimmed.strip_prefix('=') {
        Some(rest) => rest,
        None => {
            let rest = after_blank(rest)?;
            let is_to = rest.get(..2)?.eq_ignore_ascii_case("to");
            is_to.then(|| after_blank(&rest[2..]))??
        }
    };
    let rest = rest.trim_start_matches(is_blank);
    let (value, rest) = match rest.strip_prefix('\'') {
        Some(quoted) => unquoted(quoted, '\'')?,
        None => word(rest)?,
    };
    is_end(rest).then_some((key, value))
}

/// The word at the start of `text`, quoted or of letters, digits and `_`, and what follows it.
fn word(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        return unquoted(quoted, '"');
    }
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let end = text.find(|letter| !is_letter(letter)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (end > 0).then(|| (word.to_owned(), rest))
}

/// What stands before the closing quote, with two of them for one, and what follows it.
fn unquoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once(quote)?;
        value.push_str(part);
        let Some(again) = after.strip_prefix(quote) else {
            return Some((value, after));
        };
        value.push(quote);
        rest = again;
    }
}

/// What follows at least one blank.
fn after_blank(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(is_blank);
    (rest.len() < text.len()).then_some(rest)
}

/// Whether nothing but blanks and a semicolon is left.
fn is_end(text: &str) -> bool {
    let rest = text.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(';').unwrap_or(rest);
    rest.chars().all(is_blank)
}

fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r')
}
