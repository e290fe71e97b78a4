//! The process among others: its file with its number, its user, its life in the background.
//!
//! Not here: the process that was there before (`takeover`).

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use outgrow_postgres::pgbouncer::ini::Settings;
use rustix::process::{Gid, Pid, Uid};

/// Set for the process that lives on in the background.
const BACKGROUND: &str = "OUTGROW_PGBOUNCER_BACKGROUND";

/// The file with our number, for as long as we are there.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes it. One of a process that is gone is replaced.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn write(path: &str) -> Result<Option<Self>, String> {
        if path.is_empty() {
            return Ok(None);
        }
        let problem = |error: std::io::Error| format!("could not open pidfile '{path}': {error}");
        if let Ok(text) = std::fs::read_to_string(path) {
            let running = text.trim().parse().ok().and_then(Pid::from_raw);
            let is_running =
                running.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
            if is_running && running != Some(rustix::process::getpid()) {
                return Err(format!(
                    "pidfile '{path}' exists, another instance running?"
                ));
            }
            std::fs::remove_file(path).map_err(problem)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(problem)?;
        writeln!(file, "{}", std::process::id()).map_err(problem)?;
        Ok(Some(Self(path.into())))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        forget(&self.0.to_string_lossy());
    }
}

/// Removes the file with our number, unless it has another one's by now.
pub(super) fn forget(path: &str) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if text.trim().parse() == Ok(std::process::id()) {
        let _ = std::fs::remove_file(path);
    }
}

/// Lives on in the background: the caller is to end when this is true.
///
/// # Errors
/// Why not.
pub(super) fn go_to_background(settings: &Settings) -> Result<bool, String> {
    if std::env::var_os(BACKGROUND).is_some() {
        // Where we lead the session already this fails, which is as good.
        let _ = rustix::process::setsid();
        return Ok(false);
    }
    if settings.pidfile.is_empty() {
        return Err("daemon needs pidfile configured".to_owned());
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
    command
        .args(std::env::args_os().skip(1))
        .env(BACKGROUND, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().map_err(|error| error.to_string())?;
    Ok(true)
}

/// Becomes another user of the system. To be called while there is one thread.
///
/// # Errors
/// Why not.
pub(super) fn become_user(name: &str) -> Result<(), String> {
    let users = std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let numbers = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        let user: u32 = fields.nth(1)?.parse().ok()?;
        let group: u32 = fields.next()?.parse().ok()?;
        is_it.then_some((Uid::from_raw(user), Gid::from_raw(group)))
    });
    let (user, group) = numbers.ok_or_else(|| format!("could not find user '{name}'"))?;
    if rustix::process::getuid() == user {
        return Ok(());
    }
    let problem = |error: rustix::io::Errno| format!("could not become user '{name}': {error}");
    // Threads that are started later inherit it.
    rustix::thread::set_thread_groups(&[group]).map_err(problem)?;
    rustix::thread::set_thread_gid(group).map_err(problem)?;
    rustix::thread::set_thread_uid(user).map_err(problem)
}
