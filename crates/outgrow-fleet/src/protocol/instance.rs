//! What is said about instances: how to run one (`InstanceSpec`), how it is
//! (`InstanceState`, `InstanceReport`), how it ended (`Exit`). Which instances
//! should exist is deliberately not here: see `supervise`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits::{Limits, LimitsReport};

/// Names one instance for its whole life, restarts included. Chosen by the
/// data process; never used again for another specification.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct InstanceId(pub u64);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Command {
    /// Run by `/bin/sh -c`.
    Shell(String),
    /// Executed directly: the program and its arguments.
    Words(Vec<String>),
}

/// How the instance is told where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Listen {
    /// `PORT` holds a TCP port of 127.0.0.1.
    #[default]
    Port,
    /// `SOCKET` and `PORT` hold the path of a Unix socket.
    Socket,
}

/// When and how often an instance that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// The first delay in milliseconds; doubled by each early exit. Default 250.
    pub first_ms: u64,
    /// The longest delay in milliseconds. Default 30,000.
    pub max_ms: u64,
    /// How many early exits in a row make a crash loop. Default 5; 0 = never.
    pub crash_loop: u32,
    /// An exit sooner than this after the start is early. Default 60,000.
    pub crash_loop_window_ms: u64,
    /// The first early exit is followed by a start without delay. Default false.
    pub first_at_once: bool,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            first_ms: 250,
            max_ms: 30_000,
            crash_loop: 5,
            crash_loop_window_ms: 60_000,
            first_at_once: false,
        }
    }
}

/// Everything the keeper needs to run one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Its identity.
    pub id: InstanceId,
    /// What people call it, such as `web.1`; the prefix of its output.
    pub name: String,
    /// The service that it belongs to.
    pub service: String,
    /// Its number within the service, from 1.
    #[serde(default)]
    pub slot: u32,
    /// A hash of the settings that it was made from; opaque to the keeper.
    #[serde(default)]
    pub hash: u64,
    /// What to run. `{port}` and `{socket}` are replaced.
    pub command: Command,
    /// Where to run it. Default: where the keeper runs.
    #[serde(default)]
    pub directory: Option<String>,
    /// Added to the keeper's environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// How it is told where to listen.
    #[serde(default)]
    pub listen: Listen,
    /// A fixed port; 0 = the keeper chooses one at each start.
    #[serde(default)]
    pub port: u16,
    /// From SIGTERM to SIGKILL, in milliseconds. Default 10,000.
    #[serde(default = "default_stop_grace_ms")]
    pub stop_grace_ms: u64,
    /// When it is started again after an exit.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// What it may use at most.
    #[serde(default)]
    pub limits: Limits,
}

const fn default_stop_grace_ms() -> u64 {
    10_000
}

impl InstanceSpec {
    /// From SIGTERM to SIGKILL.
    pub fn stop_grace(&self) -> Duration {
        Duration::from_millis(self.stop_grace_ms)
    }
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Exit {
    /// It exited by itself.
    Code {
        /// The exit code.
        code: i32,
    },
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// It could not be started at all.
    SpawnFailed {
        /// What is wrong and what to do.
        message: String,
    },
    /// Its shim was killed; what was left of it has been killed as well.
    ShimLost,
}

impl Exit {
    /// Whether the command was not there or could not be executed: the same start will hardly do
    /// better a moment later.
    pub fn is_no_start(&self) -> bool {
        matches!(
            self,
            Self::SpawnFailed { .. } | Self::Code { code: 126 | 127 }
        )
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { code: 126 } => f.write_str(
                "exit code 126 (the shell found the command but could not execute it: is it executable?)",
            ),
            Self::Code { code: 127 } => f.write_str(
                "exit code 127 (the shell did not find the command: is it installed and in PATH?)",
            ),
            Self::Code { code } => write!(f, "exit code {code}"),
            Self::Signal { signal: 9 } => {
                f.write_str("killed by signal 9 (SIGKILL; out of memory is a usual cause)")
            }
            Self::Signal { signal } => {
                let name = match signal {
                    1 => " (SIGHUP)",
                    2 => " (SIGINT)",
                    3 => " (SIGQUIT)",
                    4 => " (SIGILL)",
                    6 => " (SIGABRT)",
                    7 => " (SIGBUS)",
                    8 => " (SIGFPE)",
                    11 => " (SIGSEGV)",
                    13 => " (SIGPIPE)",
                    15 => " (SIGTERM)",
                    _ => "",
                };
                write!(f, "killed by signal {signal}{name}")
            }
            Self::SpawnFailed { message } => f.write_str(message),
            Self::ShimLost => f.write_str("its shim was killed"),
        }
    }
}

/// What an instance is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum InstanceState {
    /// Its shim has been told to start it.
    Starting,
    /// It runs. Whether it is ready is for the data process's checks to say.
    Running,
    /// It has been told to end, for a stop or a restart.
    Stopping,
    /// It has ended; what is left of its process group is being cleared away.
    Exited {
        /// How it ended.
        exit: Exit,
    },
    /// It will be started again after a delay.
    Backoff {
        /// The delay, in milliseconds from this report.
        delay_ms: u64,
    },
    /// It ended early so often that it is tried at the longest delay only.
    CrashLoop {
        /// The delay, in milliseconds from this report.
        delay_ms: u64,
    },
    /// It has been stopped for good, and the keeper has forgotten it.
    Stopped,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

/// One instance and how it is. Sent at each change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// What it was started from.
    pub spec: InstanceSpec,
    /// What it is doing.
    pub state: InstanceState,
    /// How often it was started again.
    pub restarts: u32,
    /// The pid of the command (which is its process group as well), while it lives.
    pub pid: Option<u32>,
    /// The pid of its shim: every process of the instance descends from it.
    pub shim: Option<u32>,
    /// Where it should listen: `127.0.0.1:PORT` or `unix:/path`. Changes with each start.
    pub address: Option<String>,
    /// How it ended the last time, in words.
    pub last_exit: Option<String>,
    /// What came of its limits; `None` where it has none, and until its shim has said so.
    #[serde(default)]
    pub limits: Option<LimitsReport>,
    /// The value of `OUTGROW_KEY` of this run: every process of it has it in its environment, unless
    /// it threw it away. `None` from a keeper that does not tell it, and before the first run.
    #[serde(default)]
    pub key: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_needs_only_its_identity_and_command() {
        let spec: InstanceSpec = serde_json::from_str(
            r#"{"id":1,"name":"web.1","service":"web","command":"node server.js"}"#,
        )
        .unwrap();
        assert_eq!(spec.command, Command::Shell("node server.js".into()));
        assert_eq!(spec.restart, RestartPolicy::default());
        assert_eq!(spec.stop_grace(), Duration::from_secs(10));
    }

    #[test]
    fn an_unknown_state_is_no_error() {
        let state: InstanceState = serde_json::from_str(r#"{"state":"hibernating"}"#).unwrap();
        assert_eq!(state, InstanceState::Unknown);
    }
}
