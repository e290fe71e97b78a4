//! The words that keeper and shim say to each other, carried like those of the
//! data process. A shim may be older than the keeper by any number of
//! upgrades: the same rules for unknown records and fields hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::instance::{Command, Exit};
use super::limits::{Grant, Limits};
use crate::LogFormat;

/// Keeper to shim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToShim {
    /// The first record: run this.
    Start(Box<ShimSpec>),
    /// End the instance: SIGTERM, and SIGKILL after the grace.
    Stop {
        /// In milliseconds; 0 = SIGKILL at once.
        grace_ms: u64,
    },
    /// Change what the instance may use.
    Limit {
        /// From now on.
        limits: Limits,
        /// Where that is written.
        grant: Grant,
    },
    /// A message that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What a shim runs; everything is decided, nothing is replaced any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShimSpec {
    /// The instance's name: the prefix of each line of its output.
    pub name: String,
    /// What to run.
    pub command: Command,
    /// Where.
    pub directory: Option<String>,
    /// Added to the shim's environment.
    pub environment: BTreeMap<String, String>,
    /// How lines of output are written.
    pub log_format: LogFormat,
    /// From SIGTERM to SIGKILL when the shim itself is told to end by a
    /// signal, in milliseconds.
    pub stop_grace_ms: u64,
    /// From SIGTERM to SIGKILL when the keeper is gone, in milliseconds.
    pub orphan_grace_ms: u64,
    /// The soft limit of open files that the command gets; `None` leaves the
    /// shim's own.
    #[serde(default)]
    pub open_files: Option<u64>,
    /// The Unix socket that the instance makes: removed when it has ended.
    pub socket: Option<String>,
    /// What the instance may use at most.
    #[serde(default)]
    pub limits: Limits,
    /// Where that is written; `None` without limits.
    #[serde(default)]
    pub grant: Option<Grant>,
}

/// Shim to keeper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromShim {
    /// The command runs.
    Started {
        /// Its pid, which is its process group as well.
        pid: u32,
    },
    /// The command has ended. Others of its group may still live.
    Exited {
        /// How it ended.
        exit: Exit,
        /// The memory limit in bytes, when a process of it was killed for it.
        #[serde(default)]
        over_memory: Option<u64>,
        /// The last line that a shell wrote to standard error, when it says that there is no such
        /// command.
        #[serde(default)]
        said: Option<String>,
    },
    /// Limits have been written, as far as they could be.
    Limited {
        /// What holds now.
        in_force: Limits,
        /// Why not all holds.
        problems: Vec<String>,
    },
    /// No process of the instance is left; the shim exits now.
    Ended {},
    /// A message that this version does not know.
    #[serde(other)]
    Unknown,
}
