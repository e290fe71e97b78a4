//! What is known of the servers of a service at a moment, and until when somebody heard the primary.

use std::time::Duration;

use outgrow_core::Ticks;

use crate::standing::{Lsn, Role};

/// A replica asks its silent primary for a sign of life after half of `wal_receiver_timeout`; for so
/// long after that the answer may take.
const REPLY: Duration = Duration::from_secs(2);

/// All servers of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// In the order of the service.
    pub servers: Vec<Seen>,
    /// Whether no client of ours has a connection to any of them.
    pub is_quiet: bool,
}

/// What is known of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Where it is.
    pub address: String,
    /// What it said that it is.
    pub role: Option<Role>,
    /// The timeline that it writes or follows.
    pub timeline: u32,
    /// How far its log goes: of a replica what it has received, replayed or not.
    pub received: Lsn,
    /// How much of it a replica has replayed.
    pub replayed: Lsn,
    /// When it was asked that answered last.
    pub heard: Option<Ticks>,
    /// Since when every attempt to ask it has failed.
    pub failing: Option<Ticks>,
    /// Transactions that it has ended for our clients.
    pub ended: u64,
    /// What it says instead of letting us in.
    pub refuses: Option<String>,
    /// Of a primary: for how many standbys commits wait.
    pub synchronous: u32,
    /// Of a replica: whom it hears.
    pub upstream: Option<Upstream>,
}

/// Whom a replica receives the log from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// Where that is, as the replica calls it; none: it does not tell us.
    pub from: Option<String>,
    /// For how long nothing came from there when it was asked; none: it does not tell us.
    pub silent: Option<Duration>,
    /// `wal_receiver_timeout`; zero: it waits for ever.
    pub timeout: Duration,
}

impl Upstream {
    /// Whether it may still hear its upstream, for all that can be known: a silent one is asked for a
    /// sign of life after half of the timeout only.
    pub fn may_hear(&self) -> bool {
        let Some(silent) = self.silent else {
            return true;
        };
        self.timeout.is_zero() || silent <= self.timeout / 2 + REPLY
    }
}

/// What was known last of the primary that is to be replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Where it is.
    pub address: String,
    /// Its timeline.
    pub timeline: u32,
    /// How far its log went.
    pub lsn: Lsn,
    /// For how many standbys its commits waited.
    pub synchronous: u32,
}

impl Sight {
    /// The server at an address.
    pub fn at(&self, address: &str) -> Option<&Seen> {
        self.servers.iter().find(|seen| seen.address == address)
    }

    /// The server that takes writes, as far as it was heard.
    pub fn primary(&self) -> Option<&Seen> {
        let primary = |seen: &&Seen| seen.role == Some(Role::Primary);
        self.servers.iter().find(primary)
    }

    /// The servers that may be promoted or not, but are not the primary.
    pub fn others<'s>(&'s self, primary: Option<&'s str>) -> impl Iterator<Item = &'s Seen> {
        let is_other = move |seen: &&Seen| Some(seen.address.as_str()) != primary;
        self.servers.iter().filter(is_other)
    }

    /// Until when replicas may have heard the primary, and the one that did so last. One that
    /// follows another replica knows nothing of the primary; whom it follows that does not answer us
    /// may be a primary.
    pub fn witnessed(&self, primary: &str) -> Option<(Ticks, &Seen)> {
        let heard = |seen: &'_ Seen| {
            let (upstream, asked) = (seen.upstream.as_ref()?, seen.heard?);
            let from = upstream.from.as_deref();
            let answers = |one: &Seen| one.role == Some(Role::Replica) && one.failing.is_none();
            let of = from.filter(|from| *from != primary);
            let is_cascaded = of.and_then(|from| self.at(from)).is_some_and(answers);
            let is_replica = seen.role == Some(Role::Replica) && seen.address != primary;
            if is_cascaded || !is_replica {
                return None;
            }
            Some(match upstream.silent {
                Some(silent) if !upstream.may_hear() => asked - silent,
                _ => asked,
            })
        };
        let all = self.servers.iter();
        all.filter_map(|seen| Some((heard(seen)?, seen)))
            .max_by_key(|(at, _)| *at)
    }
}
