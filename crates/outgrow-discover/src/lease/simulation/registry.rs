//! The simulated registries: one that counts the time of a lease itself, as etcd and Redis do, and one
//! that only compares versions, as Kubernetes does.

use super::Time;

/// What is said to a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// Take it if it is free, renew it if it is ours.
    Hold,
    /// Give it back if it is ours.
    GiveBack,
    /// How is it?
    Get,
    /// Write it if it still has this version, or is not there.
    Put {
        version: Option<u64>,
        holder: Option<u64>,
        /// By the writer's clock, in milliseconds.
        renewed: Time,
    },
}

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is done, and so written under this version.
    Done(Option<u64>),
    /// It is another one's.
    Others,
    /// It is so.
    Record(Option<Stored>),
    /// It is not as the writer saw it.
    Conflict,
}

/// A lease that nobody ends but those who want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) version: u64,
    pub(super) holder: Option<u64>,
    pub(super) renewed: Time,
}

/// What is known of the lease.
#[derive(Debug)]
pub(super) enum Registry {
    /// Who has it until when.
    Timed(Option<(u64, Time)>),
    /// What was written last, and whether anybody is refused.
    Versioned {
        stored: Option<Stored>,
        compares: bool,
    },
}

impl Registry {
    pub(super) fn judge(&mut self, identity: u64, words: Words, now: Time, ttl: Time) -> Said {
        match (self, words) {
            (Self::Timed(lease), words) => {
                let holder = lease.filter(|(_, until)| *until > now);
                match (holder, words) {
                    (Some((other, _)), _) if other != identity => Said::Others,
                    (_, Words::GiveBack) => {
                        *lease = None;
                        Said::Done(None)
                    }
                    _ => {
                        *lease = Some((identity, now + ttl));
                        Said::Done(None)
                    }
                }
            }
            (
                Self::Versioned { stored, compares },
                Words::Put {
                    version,
                    holder,
                    renewed,
                },
            ) => {
                let newest = stored.map(|one| one.version);
                if *compares && newest != version {
                    return Said::Conflict;
                }
                let version = newest.unwrap_or(0) + 1;
                *stored = Some(Stored {
                    version,
                    holder,
                    renewed,
                });
                Said::Done(Some(version))
            }
            (Self::Versioned { stored, .. }, _) => Said::Record(*stored),
        }
    }
}
