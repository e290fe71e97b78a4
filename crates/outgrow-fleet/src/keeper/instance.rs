//! One instance as the keeper sees it: what was asked for, what it is doing,
//! and how that is reported. Serialisable as it is, for the successor.
//! What happens when is in `instances`.

use serde::{Deserialize, Serialize};

use super::launch::Spawned;
use super::limits;
use crate::moment::Moment;
use crate::protocol::limits::{Grant, LimitsReport};
use crate::protocol::{Exit, InstanceReport, InstanceSpec, InstanceState};
use crate::supervise::backoff::Backoff;

/// What the data process wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Wanted {
    /// To run, and to be started again after an exit.
    Run,
    /// To end and to be started again, as after an exit of its own.
    Restart,
    /// To end.
    Stop,
}

/// What it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// The shim has its orders.
    Starting { give_up: Moment },
    /// The command runs.
    Running,
    /// The shim was told to end it; it is killed itself when it takes too long.
    Stopping { kill_at: Moment },
    /// The command has ended; the shim clears away what is left.
    Exited { kill_at: Moment },
    /// The shim was lost; the keeper clears away what is left.
    Clearing { next: Moment, give_up: Moment },
    /// To be started again.
    Waiting { until: Moment, crash_loop: bool },
}

/// Everything about one instance except the channel to its shim.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) spec: InstanceSpec,
    pub(super) phase: Phase,
    pub(super) wanted: Wanted,
    /// Counts starts, over the keeper's life.
    pub(super) run: u64,
    pub(super) restarts: u32,
    pub(super) backoff: Backoff,
    pub(super) started: Moment,
    /// The command's pid and group, while it lives.
    pub(super) pid: Option<u32>,
    pub(super) address: Option<String>,
    /// `OUTGROW_KEY` of this run.
    pub(super) key: String,
    /// How this run ended, once it has.
    pub(super) exit: Option<Exit>,
    pub(super) last_exit: Option<String>,
    /// The shim said that no process is left.
    pub(super) ended: bool,
    /// This run is ended since it never got ready.
    #[serde(default)]
    pub(super) never_ready: bool,
    /// The control groups of this run.
    #[serde(default)]
    pub(super) grant: Option<Grant>,
    /// What came of its limits.
    #[serde(default)]
    pub(super) limited: Option<LimitsReport>,
    /// The memory limit at which this run was killed.
    #[serde(default)]
    pub(super) over_memory: Option<u64>,
    /// What a shell said of the command that it could not run.
    #[serde(default)]
    pub(super) said: Option<String>,
}

impl Record {
    pub(super) fn new(spec: InstanceSpec, now: Moment) -> Self {
        Self {
            spec,
            phase: Phase::Waiting {
                until: now,
                crash_loop: false,
            },
            wanted: Wanted::Run,
            run: 0,
            restarts: 0,
            backoff: Backoff::default(),
            started: now,
            pid: None,
            address: None,
            key: String::new(),
            exit: None,
            last_exit: None,
            ended: false,
            never_ready: false,
            grant: None,
            limited: None,
            over_memory: None,
            said: None,
        }
    }

    /// How this run ended, in words.
    pub(super) fn how_it_ended(&self) -> Option<String> {
        let exit = self.exit.as_ref()?;
        Some(match (self.over_memory, &self.said) {
            (Some(limit), _) => limits::killed_for_memory(limit),
            (None, Some(said)) => format!("{exit}: {said}"),
            (None, None) => exit.to_string(),
        })
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Moment> {
        match self.phase {
            Phase::Running => None,
            Phase::Starting { give_up } => Some(give_up),
            Phase::Stopping { kill_at } | Phase::Exited { kill_at } => Some(kill_at),
            Phase::Clearing { next, .. } => Some(next),
            Phase::Waiting { until, .. } => Some(until),
        }
    }

    pub(super) fn state(&self, now: Moment) -> InstanceState {
        let exit = || self.exit.clone().unwrap_or(Exit::ShimLost);
        match self.phase {
            Phase::Starting { .. } => InstanceState::Starting,
            Phase::Running => InstanceState::Running,
            Phase::Stopping { .. } => InstanceState::Stopping,
            Phase::Exited { .. } | Phase::Clearing { .. } => InstanceState::Exited { exit: exit() },
            Phase::Waiting { until, crash_loop } => {
                let delay_ms = until.since(now).as_millis() as u64;
                if crash_loop {
                    InstanceState::CrashLoop { delay_ms }
                } else {
                    InstanceState::Backoff { delay_ms }
                }
            }
        }
    }

    pub(super) fn report(&self, shim: Option<&Spawned>, now: Moment) -> InstanceReport {
        InstanceReport {
            spec: self.spec.clone(),
            state: self.state(now),
            restarts: self.restarts,
            pid: self.pid,
            shim: shim.map(|shim| shim.pid),
            address: self.address.clone(),
            last_exit: self.last_exit.clone(),
            limits: self.limited.clone().map(|limited| LimitsReport {
                grant: self.grant.clone(),
                ..limited
            }),
            key: (!self.key.is_empty()).then(|| self.key.clone()),
        }
    }
}
