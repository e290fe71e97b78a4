//! A command that is run once, with a limit: in a process group of its own, which is killed when the
//! time is over or nobody wants it any more; what it writes is logged.
//!
//! A child of the data process: when that is killed the command goes on by itself, until the next
//! data process ends it and runs it again. Whoever runs one keeps its [`Group`] with the keeper.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use outgrow_fleet::settings::Command;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command as Process};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::log;

/// Most bytes that are logged of one command's output; what follows is read and forgotten.
const OUTPUT: u64 = 64 * 1024;
/// Longest line.
const LINE: usize = 1_024;
/// How long what it wrote may take to arrive once it has ended: something that it started may hold
/// its output open.
const LAST_LINES: Duration = Duration::from_millis(200);

/// A command's process group, as the next data process finds it: its number alone may be another's
/// by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    pid: i32,
    /// When its first process was started, in the kernel's units.
    started: u64,
}

impl Group {
    /// That of this process.
    pub(super) fn own() -> Option<Self> {
        Self::of(rustix::process::getpid())
    }

    /// Whether its first process is still there.
    pub(super) fn is_there(self) -> bool {
        started(self.pid) == Some(self.started)
    }

    fn of(pid: Pid) -> Option<Self> {
        let pid = pid.as_raw_nonzero().get();
        let started = started(pid)?;
        Some(Self { pid, started })
    }

    /// Kills it, if its first process is still there. Without that the command was over.
    pub(super) fn end(self) {
        if self.is_there() {
            kill(Pid::from_raw(self.pid));
        }
    }
}

fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second word is a name in parentheses, which may have any in it; this is the 22nd.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

/// How a command ended; what became of one that failed, for people: it "failed: exit status: 1".
pub(super) type Outcome = Result<(), String>;

/// A command under way; dropping it kills it.
#[derive(Debug)]
pub(super) struct Running {
    group: Option<Pid>,
    outcome: Arc<OnceLock<Outcome>>,
}

impl Running {
    /// Starts it. What cannot be started is told, and over. `about` begins the lines of the log:
    /// whose command it is, and which.
    pub(super) fn start(
        about: &str,
        command: &Command,
        environment: &[(&str, &str)],
        limit: Duration,
    ) -> Self {
        let outcome = Arc::new(OnceLock::new());
        let mut child = match spawn(command, environment) {
            Ok(child) => child,
            Err(error) => {
                let problem = format!("cannot be started: {error}");
                log::warn(&format!("{about} {problem}"));
                let _ = outcome.set(Err(problem));
                return Self {
                    group: None,
                    outcome,
                };
            }
        };
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let group = pid.and_then(Pid::from_raw);
        let (reaped, about) = (Arc::clone(&outcome), about.to_owned());
        tokio::spawn(async move {
            let outputs = [
                child.stdout.take().map(|out| read(&about, out)),
                child.stderr.take().map(|out| read(&about, out)),
            ];
            let ended = timeout(limit, child.wait()).await;
            if ended.is_err() {
                kill(group);
                // It is dead: this takes no time.
                let _ = child.wait().await;
            }
            let ended = judge(ended.ok().and_then(Result::ok), limit);
            tell(&about, &ended);
            let _ = reaped.set(ended);
            for output in outputs.into_iter().flatten() {
                let end = output.abort_handle();
                if timeout(LAST_LINES, output).await.is_err() {
                    end.abort();
                }
            }
        });
        Self { group, outcome }
    }

    /// Its process group, if it could be started.
    pub(super) fn group(&self) -> Option<Group> {
        self.group.and_then(Group::of)
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// How it ended, once it has.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.outcome.get().cloned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over() {
            kill(self.group);
        }
    }
}

fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        // It may have ended by itself.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn spawn(command: &Command, environment: &[(&str, &str)]) -> std::io::Result<Child> {
    let mut process = match command {
        Command::Shell(line) => {
            let mut process = Process::new("/bin/sh");
            process.arg("-c").arg(line);
            process
        }
        Command::Program(words) => {
            let (program, arguments) = words
                .split_first()
                .ok_or(std::io::ErrorKind::InvalidInput)?;
            let mut process = Process::new(program);
            process.args(arguments);
            process
        }
    };
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"OUTGROW_ADMIN") {
            process.env_remove(name);
        }
    }
    process
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

fn judge(status: Option<ExitStatus>, limit: Duration) -> Outcome {
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("failed: {status}")),
        None => Err(format!(
            "was killed: it took longer than {limit:?} (command_timeout)"
        )),
    }
}

fn tell(about: &str, outcome: &Outcome) {
    match outcome {
        Ok(()) => log::info(&format!("{about} has run")),
        Err(problem) => log::warn(&format!("{about} {problem}")),
    }
}

/// Logs what it writes, line by line.
fn read(about: &str, output: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
    let about = about.to_owned();
    tokio::spawn(async move {
        let mut output = BufReader::new(output.take(OUTPUT));
        let mut line = Vec::new();
        while let Ok(1..) = output.read_until(b'\n', &mut line).await {
            line.truncate(LINE);
            let text = String::from_utf8_lossy(&line);
            log::info(&format!("{about}: {}", text.trim_end()));
            line.clear();
        }
        let mut rest = output.into_inner().into_inner();
        let mut forgotten = vec![0; LINE];
        while let Ok(1..) = rest.read(&mut forgotten).await {}
    })
}
