//! A program under the bench: pinned to cores, its output in a file, ended with all its children.
//! Unpinned, the outgrow of `conform` as well.
//!
//! Deliberately not here: what is started; see `contestant.rs`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::cpu;

/// How long a contestant may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to end after SIGTERM; then SIGKILL.
const STOP_LIMIT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);
const EXCHANGE_LIMIT: Duration = Duration::from_secs(5);
/// Lines of its output that an error shows.
const SHOWN_LINES: usize = 12;

/// A running program.
pub(crate) struct Running {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Running {
    /// Starts `command` on `cores` (a list as taskset takes it). Standard output goes to `stdout`
    /// when given, else with standard error to `output`.
    pub(crate) fn start(
        name: &str,
        cores: &str,
        command: &[String],
        output: &Path,
        stdout: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut pinned = Command::new("taskset");
        pinned
            .args(["-c", cores])
            .args(command)
            // Go's share of the workers; the others have it in their configuration.
            .env("GOMAXPROCS", cores.split(',').count().to_string());
        Self::spawn(name, pinned, output, stdout)
    }

    /// Starts `command` as it is, with its output as in [`Running::start`].
    pub(crate) fn spawn(
        name: &str,
        mut command: Command,
        output: &Path,
        stdout: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("cannot open {}", path.display()))
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(open(stdout.unwrap_or(output))?)
            .stderr(open(output)?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            output: output.to_owned(),
        })
    }

    /// The process at the top; taskset has become the program itself.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `address` accepts.
    pub(crate) fn wait_for(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        self.wait_until(&format!("accept at {address}"), || {
            TcpStream::connect_timeout(&address, EXCHANGE_LIMIT).is_ok()
        })
    }

    /// Waits until a GET of `path` at `address` is answered with 200, and returns the body.
    pub(crate) fn wait_for_answer(
        &mut self,
        address: SocketAddr,
        path: &str,
    ) -> anyhow::Result<String> {
        let mut body = String::new();
        self.wait_until(&format!("answer GET {path} at {address}"), || {
            let Ok(answer) = get(address, path) else {
                return false;
            };
            let Some((head, rest)) = answer.split_once("\r\n\r\n") else {
                return false;
            };
            rest.clone_into(&mut body);
            head.starts_with("HTTP/1.1 200")
        })?;
        Ok(body)
    }

    /// Waits until `is_so`; `what` is what it should do.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        mut is_so: impl FnMut() -> bool,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + START_LIMIT;
        while !is_so() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}):\n{}", self.name, self.last_lines());
            }
            if Instant::now() > until {
                bail!("{} did not {what}:\n{}", self.name, self.last_lines());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// What it said last.
    pub(crate) fn last_lines(&self) -> String {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    fn signal(name: &str, processes: &[u32]) {
        // A process that has ended meanwhile is no error.
        let _ = Command::new("kill")
            .arg(format!("-{name}"))
            .args(processes.iter().map(u32::to_string))
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let tree = cpu::tree(self.id()).unwrap_or_default();
        if matches!(self.child.try_wait(), Ok(None)) {
            Self::signal("TERM", &[self.id()]);
        }
        let until = Instant::now() + STOP_LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(POLL);
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            Self::signal("KILL", &tree);
            let _ = self.child.wait();
        }
    }
}

/// What is answered to a GET, with its head.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, EXCHANGE_LIMIT)?;
    stream.set_read_timeout(Some(EXCHANGE_LIMIT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    // Behind a proxy of layer 4 nobody closes: the backend does not, as it has no need to in the bench.
    while !is_whole(&answer) {
        match stream.read(&mut piece)? {
            0 => break,
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether an answer says its length and is that long.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.eq_ignore_ascii_case("content-length");
        named.then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len() >= length)
}
