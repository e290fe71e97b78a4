//! What the keeper knows besides its tables: it goes to a successor as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

use super::reload::Reloading;
use crate::cgroup::House;
use crate::moment::Moment;
use crate::processes::Processes;
use crate::supervise::backoff::Backoff;

/// How long data processes may live after `Drain`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Limits {
    pub(super) stop_drain: Duration,
    pub(super) upgrade_drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stop_drain: Duration::from_secs(30),
            upgrade_drain: Duration::from_secs(3600),
        }
    }
}

/// What a successor takes over, besides tables that have descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Counts data processes.
    pub(super) generation: u64,
    /// The soft limit of open files before the keeper raised its own.
    #[serde(default)]
    pub(super) open_files: Option<u64>,
    /// Whether an unknown child can only be an orphan of an instance.
    pub(super) adopt: bool,
    /// How often a data process died unasked.
    pub(super) data_restarts: u32,
    /// Whether a data process has ever served.
    pub(super) ever_ready: bool,
    pub(super) data_backoff: Backoff,
    /// When the next data process is started, while there is none.
    pub(super) start_data_at: Option<Moment>,
    pub(super) kept: BTreeMap<String, serde_json::Value>,
    /// How many bytes each of them takes; 0: it found no room.
    #[serde(skip)]
    pub(super) kept_sizes: BTreeMap<String, usize>,
    pub(super) limits: Limits,
    /// The control groups, once an instance had a limit.
    #[serde(default)]
    pub(super) house: Option<House>,
    /// Counts reloads that were asked for by signal.
    #[serde(default)]
    pub(super) reloads: u64,
    /// The one under way.
    #[serde(default)]
    pub(super) reload: Option<Reloading>,
    /// Why the last reload was refused, if it was.
    #[serde(default)]
    pub(super) refused: Option<String>,
    /// It is in force but for that.
    #[serde(default)]
    pub(super) in_part: bool,
}

impl Facts {
    pub(super) fn of_a_first_keeper() -> Self {
        Self {
            generation: 0,
            open_files: rustix::process::getrlimit(Resource::Nofile).current,
            adopt: std::process::id() != 1 && has_no_children(),
            data_restarts: 0,
            ever_ready: false,
            data_backoff: Backoff::default(),
            start_data_at: Some(Moment::now()),
            kept: BTreeMap::new(),
            kept_sizes: BTreeMap::new(),
            limits: Limits::default(),
            house: None,
            reloads: 0,
            reload: None,
            refused: None,
            in_part: false,
        }
    }
}

/// A shell that executed the keeper in its place may have left it children.
fn has_no_children() -> bool {
    Processes::scan().is_ok_and(|all| all.children(std::process::id()).is_empty())
}

/// Every worker has its own socket of every listener, and the data processes
/// hold more than the keeper: they inherit this limit, instances do not.
pub(super) fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Without it all is as the user has set it.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}
