//! The real thing: `outgrow run` as a child process on free ports, with the shop as its
//! application. What is done to it is in `play`.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::admin::Admin;
use super::config::{DemoConfig, text_of};
use super::folder::Folder;
use super::interrupt::Interrupt;

/// For all instances to be ready.
const START_LIMIT: Duration = Duration::from_secs(60);
/// From SIGTERM to SIGKILL. The configuration's drain timeout and grace add up to 10 s.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Between two looks at whether something has come about.
const LOOK: Duration = Duration::from_millis(20);
/// Free ports may be taken by others before they are used: so often it is tried anew.
const PORT_TRIES: u32 = 3;
/// Lines of the log that are shown when it did not start.
const LOG_LINES: usize = 12;

/// The running Outgrow.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) config: DemoConfig,
    pub(super) admin: Admin,
    folder: Folder,
    child: Child,
}

/// Why it did not come up.
enum Failure {
    PortTaken,
    Interrupted,
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl Stage {
    /// Starts it and waits until all instances are ready. `None` when interrupted.
    pub(super) async fn start(instances: u16, interrupt: &mut Interrupt) -> Result<Option<Self>> {
        let binary = own_binary()?;
        for _ in 0..PORT_TRIES {
            match Self::try_start(&binary, instances, interrupt).await {
                Ok(stage) => return Ok(Some(stage)),
                Err(Failure::Interrupted) => return Ok(None),
                Err(Failure::PortTaken) => {}
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        bail!(
            "free ports of 127.0.0.1 were taken by others {PORT_TRIES} times before outgrow could \
             listen at them: try again when less is started on this machine"
        )
    }

    async fn try_start(
        binary: &Path,
        instances: u16,
        interrupt: &mut Interrupt,
    ) -> Result<Self, Failure> {
        let folder = Folder::create()?;
        let [public, admin] = free_addresses()?;
        let config = DemoConfig {
            public,
            admin,
            binary: text_of(binary)?,
            access: text_of(&folder.path().join("access.log"))?,
            instances,
            round: 0,
        };
        let file = folder.path().join("outgrow.toml");
        let written = std::fs::write(&file, config.text());
        written.with_context(|| format!("{} cannot be written", file.display()))?;
        let child = spawn(binary, &file, folder.path())?;
        let mut stage = Self {
            config,
            admin: Admin::new(admin),
            folder,
            child,
        };
        let begun = Instant::now();
        loop {
            if let Some(status) = stage.ended() {
                return Err(stage.explain_end(status));
            }
            if let Ok(state) = stage.admin.state().await
                && state.ready() >= usize::from(instances)
            {
                return Ok(stage);
            }
            if begun.elapsed() > START_LIMIT {
                let seconds = START_LIMIT.as_secs();
                let what = format!("the shop was not ready within {seconds} s");
                return Err(stage.with_log(&what).into());
            }
            tokio::select! {
                () = interrupt.wait() => {
                    stage.stop(interrupt).await;
                    return Err(Failure::Interrupted);
                }
                () = tokio::time::sleep(LOOK * 2) => {}
            }
        }
    }

    fn explain_end(&mut self, status: ExitStatus) -> Failure {
        let log = self.log_end();
        if log.contains("cannot listen at") {
            return Failure::PortTaken;
        }
        Failure::Other(self.with_log(&format!("outgrow ended while it started ({})", how(status))))
    }

    fn with_log(&mut self, what: &str) -> anyhow::Error {
        self.folder.keep();
        let log = self.log_end();
        anyhow::anyhow!("{what}; the end of {}:\n{log}", self.log_path().display())
    }

    fn log_end(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("outgrow.log")
    }

    /// The file that is reloaded.
    pub(super) fn config_path(&self) -> PathBuf {
        self.folder.path().join("outgrow.toml")
    }

    /// The access record.
    pub(super) fn access_path(&self) -> PathBuf {
        PathBuf::from(&self.config.access)
    }

    /// The keeper's process id, which stays the same through upgrades.
    pub(super) fn keeper(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Keeps the logs; says where they are.
    pub(super) fn keep_logs(&mut self) -> PathBuf {
        self.folder.keep();
        self.folder.path().to_owned()
    }

    /// Stops it as a service manager would: SIGTERM, and SIGKILL when it takes too long or
    /// somebody is in a hurry. False when it had to be killed.
    pub(super) async fn stop(&mut self, interrupt: &mut Interrupt) -> bool {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            // An error means that it has ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        let begun = Instant::now();
        while begun.elapsed() < STOP_LIMIT {
            if self.ended().is_some() {
                return true;
            }
            tokio::select! {
                () = interrupt.wait() => break,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        self.kill();
        false
    }

    /// The instances' shims see the keeper's end and end theirs.
    fn kill(&mut self) {
        // Errors mean that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
    }
}

/// An exit status in words.
pub(super) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn own_binary() -> Result<PathBuf> {
    let binary = std::env::current_exe().context("the path of this program is not known")?;
    if !binary.exists() {
        bail!(
            "{} is not there any more (was it built anew?): start the demo again",
            binary.display()
        );
    }
    Ok(binary)
}

fn free_addresses() -> Result<[SocketAddr; 2]> {
    let listen = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        listener.context("no port of 127.0.0.1 can be had: is the loopback interface up?")
    };
    // Both are held until both are known, so that they differ.
    let listeners = [listen()?, listen()?];
    Ok([listeners[0].local_addr()?, listeners[1].local_addr()?])
}

fn spawn(binary: &Path, config: &Path, folder: &Path) -> Result<Child> {
    let path = folder.join("outgrow.log");
    let log = File::create(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    let mut command = Command::new(binary);
    command
        .args(["run", "--config"])
        .arg(config)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A Ctrl-C of the terminal is for the demo, which stops it in order.
        .process_group(0);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        // What the shop would read that was meant for something else.
        if text.starts_with("SHOP_") || text == "SOCKET" {
            command.env_remove(&name);
        }
    }
    command
        .spawn()
        .with_context(|| format!("{} cannot be started", binary.display()))
}
