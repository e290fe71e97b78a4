//! A command that is run once, with a limit: in a process group of its own, which is killed when the
//! time is over or nobody wants it any more; what it writes is logged.
//!
//! A child of the data process: when that is killed the command goes on by itself, until the next
//! data process ends it and runs it again.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outgrow_fleet::settings::Command;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command as Process};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::log;

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
pub(in super::super) struct Group {
    pid: i32,
    /// When its first process was started, in the kernel's units.
    started: u64,
}

impl Group {
    /// That of this process.
    pub(in super::super) fn own() -> Option<Self> {
        Self::of(rustix::process::getpid())
    }

    /// Whether its first process is still there.
    pub(in super::super) fn is_there(self) -> bool {
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

/// A command under way; dropping it kills it.
#[derive(Debug)]
pub(super) struct Running {
    task: Option<JoinHandle<()>>,
    group: Option<Pid>,
    is_reaped: Arc<AtomicBool>,
}

impl Running {
    /// Starts it. What cannot be started is told, and over.
    pub(super) fn start(
        word: &'static str,
        command: &Command,
        environment: &[(&str, &str)],
        limit: Duration,
    ) -> Self {
        let is_reaped = Arc::new(AtomicBool::new(false));
        let mut child = match spawn(command, environment) {
            Ok(child) => child,
            Err(error) => {
                log::warn(&format!("leader: {word} cannot be started: {error}"));
                return Self {
                    task: None,
                    group: None,
                    is_reaped,
                };
            }
        };
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let group = pid.and_then(Pid::from_raw);
        let reaped = Arc::clone(&is_reaped);
        let task = tokio::spawn(async move {
            let outputs = [
                child.stdout.take().map(|out| read(word, out)),
                child.stderr.take().map(|out| read(word, out)),
            ];
            let ended = timeout(limit, child.wait()).await;
            if ended.is_err() {
                kill(group);
                // It is dead: this takes no time.
                let _ = child.wait().await;
            }
            reaped.store(true, Ordering::Relaxed);
            tell(word, ended.ok().and_then(Result::ok), limit);
            for output in outputs.into_iter().flatten() {
                let end = output.abort_handle();
                if timeout(LAST_LINES, output).await.is_err() {
                    end.abort();
                }
            }
        });
        Self {
            task: Some(task),
            group,
            is_reaped,
        }
    }

    /// Its process group, if it could be started.
    pub(super) fn group(&self) -> Option<Group> {
        self.group.and_then(Group::of)
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.task.is_none() || self.is_reaped.load(Ordering::Relaxed)
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

fn tell(word: &str, status: Option<ExitStatus>, limit: Duration) {
    match status {
        Some(status) if status.success() => log::info(&format!("leader: {word} has run")),
        Some(status) => log::warn(&format!("leader: {word} failed: {status}")),
        None => log::warn(&format!(
            "leader: {word} was killed: it took longer than {limit:?} (command_timeout)"
        )),
    }
}

/// Logs what it writes, line by line.
fn read(word: &'static str, output: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut output = BufReader::new(output.take(OUTPUT));
        let mut line = Vec::new();
        while let Ok(1..) = output.read_until(b'\n', &mut line).await {
            line.truncate(LINE);
            let text = String::from_utf8_lossy(&line);
            log::info(&format!("leader: {word}: {}", text.trim_end()));
            line.clear();
        }
        let mut rest = output.into_inner().into_inner();
        let mut forgotten = vec![0; LINE];
        while let Ok(1..) = rest.read(&mut forgotten).await {}
    })
}
