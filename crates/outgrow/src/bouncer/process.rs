//! The process among others: its file with its number, its user, its life in the background, the
//! process that was there before.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use outgrow_postgres::pgbouncer::ini::{CONSOLE, Settings};
use outgrow_postgres::wire::write;
use rustix::process::{Gid, Pid, Uid};

use super::log::Log;

/// Set for the process that lives on in the background.
const BACKGROUND: &str = "OUTGROW_PGBOUNCER_BACKGROUND";
/// How long the process that was there before may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

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
        let _ = std::fs::remove_file(&self.0);
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

/// Ends the process that was there before, over its console. Its clients are disconnected: sockets
/// are not handed over.
pub(super) fn replace_old(settings: &Settings, log: &Log) {
    log.warning("Online restart is deprecated, use so_reuseport instead");
    let path =
        Path::new(&settings.unix_socket_dir).join(format!(".s.PGSQL.{}", settings.listen_port));
    let Ok(mut stream) = UnixStream::connect(&path) else {
        log.info("old process not found, try to continue normally");
        return;
    };
    let mut out = Vec::new();
    write::startup(
        &mut out,
        [("user", CONSOLE), ("database", CONSOLE)].into_iter(),
    );
    write::query(&mut out, b"SHUTDOWN;");
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let mut said = Vec::new();
    let done = stream
        .write_all(&out)
        .and_then(|()| stream.read_to_end(&mut said));
    match done {
        Ok(_) => log.info("old process has ended; its clients were disconnected"),
        Err(error) => log.warning(format_args!("old process does not end: {error}")),
    }
}
