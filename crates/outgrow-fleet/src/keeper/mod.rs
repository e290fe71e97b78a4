//! The keeper: what `outgrow run` starts. It owns what must outlive a data
//! process, the listening sockets and the instances, and starts data processes
//! that do the work. Single-threaded, no runtime, and it never reads the
//! configuration: what to bind and what to run is told by the data process.
//!
//! It is a subreaper and may be pid 1: whatever is orphaned below it becomes
//! its child and is reaped.

mod binding;
mod commands;
mod data;
mod facts;
mod instance;
mod instances;
mod launch;
mod lifecycle;
mod limits;
mod listeners;
mod notify;
mod passed;
mod ports;
mod reload;
mod resume;
mod run;
mod signals;
mod stop;
mod strays;
mod upgrade;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::LogFormat;

/// How to run the keeper.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    /// The binary of data process and shim: this one. Default: the file that
    /// this process was started from.
    pub program: Option<PathBuf>,
    /// The arguments that make the binary a data process, such as `data` and
    /// those of `run`.
    pub data_arguments: Vec<OsString>,
    /// The arguments that make the binary a shim, such as `shim`.
    pub shim_arguments: Vec<OsString>,
    /// How the keeper's own lines and the instances' output are written.
    pub log_format: LogFormat,
    /// The version of this binary, for people.
    pub version: String,
    /// How long a data process may take from its start to `Ready`; then it is
    /// killed, and an upgrade is called off. Default 30 s.
    pub ready_timeout: Duration,
    /// How long a data process may live beyond the time that it was given to
    /// drain. Default 5 s.
    pub drain_margin: Duration,
}

impl KeeperOptions {
    /// The defaults for a binary with these arguments.
    pub fn new(data_arguments: Vec<OsString>, shim_arguments: Vec<OsString>) -> Self {
        Self {
            program: None,
            data_arguments,
            shim_arguments,
            log_format: LogFormat::Text,
            version: String::new(),
            ready_timeout: Duration::from_secs(30),
            drain_margin: Duration::from_secs(5),
        }
    }
}

/// Why the keeper could not start.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The own binary is unknown.
    #[error("the path of this program cannot be found: {0}; is /proc mounted?")]
    Program(#[source] io::Error),
    /// A system call that must work did not.
    #[error("the keeper cannot be set up: {0}")]
    Setup(#[from] io::Error),
    /// The sockets that the keeper was started with cannot be used.
    #[error("{0}")]
    Passed(String),
    /// The state of the keeper before the upgrade is unreadable.
    #[error("the state of the keeper before the upgrade cannot be taken over: {0}")]
    Resume(String),
}

/// Runs until everything has ended. 0 after a graceful stop, 1 when the first
/// data process could not start, 128 + signal when a second signal cut the
/// stop short. To be called before any other thread is started.
pub fn run(options: KeeperOptions) -> Result<ExitCode, KeeperError> {
    run::Keeper::begin(options)?.run().map(ExitCode::from)
}

/// Whether this process is a keeper that was upgraded: everything that runs is
/// handed to it by its predecessor, and ends if it does not call [`run`].
pub fn is_resuming() -> bool {
    std::env::var_os(resume::RESUME_VARIABLE).is_some()
}

/// The file that this process was started from; still so when it was replaced
/// on disk since.
fn own_program() -> io::Result<PathBuf> {
    Ok(without_deleted(&std::env::current_exe()?))
}

fn without_deleted(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    text.strip_suffix(" (deleted)")
        .map_or_else(|| path.to_path_buf(), PathBuf::from)
}

/// Sixteen random hexadecimal digits.
fn token() -> io::Result<String> {
    let mut bytes = [0; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_binary_is_found_by_its_name() {
        let check = |path: &str, expected: &str| {
            assert_eq!(without_deleted(Path::new(path)), Path::new(expected));
        };
        check("/usr/bin/outgrow", "/usr/bin/outgrow");
        check("/usr/bin/outgrow (deleted)", "/usr/bin/outgrow");
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(token().unwrap(), token().unwrap());
    }
}
