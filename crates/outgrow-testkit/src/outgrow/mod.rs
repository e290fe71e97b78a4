//! The real `outgrow` binary, started for one test with its whole tree of
//! processes: keeper, data process, shims, instances. It is spoken to as people
//! speak to it: command line, file, signals, admin listener.
//!
//! Not here: what an answer of the admin listener means.

mod launch;

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    folder::Folder,
    http::{self, HttpError, Response},
    processes::{self, Process},
    wait::{self, WaitedInVain},
};

pub use launch::{Launch, binary};

/// How long stopping may take before a test fails.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How long processes that were told to end may still be seen.
const GONE_LIMIT: Duration = Duration::from_secs(5);
/// How long what is written may take to get through the processes and pipes of a busy machine.
const TOLD_LIMIT: Duration = Duration::from_secs(10);

/// How long a new data process may take to be ready.
const UPGRADE_LIMIT: Duration = Duration::from_secs(30);

/// What went wrong with the outgrow of a test.
#[derive(Debug, thiserror::Error)]
pub enum OutgrowError {
    /// There is no binary to start.
    #[error(
        "there is no outgrow binary at {tried:?}: build it with `cargo build -p outgrow` or set \
         OUTGROW_BIN to its path"
    )]
    NoBinary {
        /// The paths at which it was looked for.
        tried: Vec<PathBuf>,
    },
    /// The system did not let it start, be signalled or be written for.
    #[error("outgrow cannot be {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It exited instead of becoming ready.
    #[error("outgrow exited with {status} before it was ready; it wrote:\n{stderr}")]
    Exited {
        /// How it exited.
        status: ExitStatus,
        /// Its standard error, whole.
        stderr: String,
    },
    /// It did not come to what was waited for.
    #[error("{waited}; outgrow wrote:\n{stderr}")]
    Waited {
        /// What, and how long.
        waited: WaitedInVain,
        /// Its standard error so far.
        stderr: String,
    },
    /// The admin listener was not reached.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The admin listener refused.
    #[error("{method} {path} was answered with {status}: {body}")]
    Refused {
        /// The method.
        method: &'static str,
        /// The path.
        path: &'static str,
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
    /// This outgrow was started without an admin listener of the test's.
    #[error("this outgrow has no admin listener: write listen = \"%admin%\" in [admin]")]
    NoAdmin,
    /// Processes were left after the stop.
    #[error("outgrow has stopped, but these processes are left: {left:?}")]
    Left {
        /// The processes.
        left: Vec<Process>,
    },
}

/// The processes of one outgrow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pids {
    /// What `outgrow run` is.
    pub keeper: u32,
    /// Data processes; two while an upgrade drains the old one. Oldest first
    /// as far as process ids tell.
    pub data: Vec<u32>,
    /// Shims, one for each instance.
    pub shims: Vec<u32>,
    /// Children of the shims.
    pub instances: Vec<u32>,
    /// Others below the keeper, such as children of instances.
    pub others: Vec<u32>,
}

/// An outgrow that runs until [`Outgrow::stop`]; dropping it kills the whole
/// tree.
#[derive(Debug)]
pub struct Outgrow {
    child: Child,
    folder: Folder,
    addresses: BTreeMap<String, SocketAddr>,
    /// `NAME=value` in the environment of all its processes.
    mark: String,
}

impl Outgrow {
    /// Starts it with this configuration; see [`Launch`] for the words in it
    /// that are replaced.
    ///
    /// # Errors
    /// When it does not become ready; says what it wrote.
    pub fn start(config: &str) -> Result<Self, OutgrowError> {
        Launch::config(config).start()
    }

    /// The address that took the place of `%name%`.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.get(name).copied()
    }

    /// `http://` and the address of `%name%` and this path, for [`crate::http`].
    pub fn url(&self, name: &str, path: &str) -> String {
        let address = self.address(name).map(|address| address.to_string());
        format!(
            "http://{}{path}",
            address.unwrap_or_else(|| format!("%{name}%"))
        )
    }

    /// The folder of this test: holds the configuration and what was written.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.folder.path().join(launch::STDOUT))
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.folder.path().join(launch::STDERR))
    }

    /// GET a path of the admin listener.
    ///
    /// # Errors
    /// When there is none or it does not answer.
    pub fn admin_get(&self, path: &str) -> Result<Response, OutgrowError> {
        let admin = self.address("admin").ok_or(OutgrowError::NoAdmin)?;
        Ok(http::get(&format!("http://{admin}{path}"))?)
    }

    /// POST to a path of the admin listener.
    ///
    /// # Errors
    /// When there is none or it does not answer.
    pub fn admin_post(&self, path: &str, body: &str) -> Result<Response, OutgrowError> {
        let admin = self.address("admin").ok_or(OutgrowError::NoAdmin)?;
        let url = format!("http://{admin}{path}");
        Ok(http::request("POST", &url, &[], body.as_bytes())?)
    }

    /// Writes another configuration (in one step, so that no half file is ever
    /// seen) and does no more; outgrow sees the change by itself.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_config(&mut self, config: &str) -> Result<(), OutgrowError> {
        let text = launch::fill(config, &mut self.addresses).map_err(system("given addresses"))?;
        let text = launch::with_admin(&text, &self.addresses);
        let written = self.folder.write("next.toml", text);
        let path = self.folder.path().join(launch::CONFIG);
        written
            .and_then(|next| fs::rename(next, path))
            .map_err(system("given another configuration"))
    }

    /// Writes another configuration and asks the admin listener to reload.
    ///
    /// # Errors
    /// [`OutgrowError::Refused`] when it was not taken.
    pub fn reload(&mut self, config: &str) -> Result<Response, OutgrowError> {
        self.write_config(config)?;
        self.ask("/reload", "")
    }

    /// Has the data process replaced, by `binary` or by the one that runs, and
    /// waits until the new one is there and the admin listener says ready.
    ///
    /// # Errors
    /// When it was refused or takes more than 30 seconds.
    pub fn upgrade(&self, binary: Option<&Path>) -> Result<u32, OutgrowError> {
        let before = self.pids().data;
        let body = binary.map(|path| serde_json::json!({ "binary": path }).to_string());
        self.ask("/upgrade", &body.unwrap_or_default())?;
        self.wait("another data process", UPGRADE_LIMIT, |outgrow| {
            let now = outgrow.pids().data;
            now.into_iter()
                .find(|pid| !before.contains(pid))
                .filter(|_| outgrow.is_ready())
        })
    }

    fn ask(&self, path: &'static str, body: &str) -> Result<Response, OutgrowError> {
        let response = self.admin_post(path, body)?;
        if (200..300).contains(&response.status) {
            return Ok(response);
        }
        Err(OutgrowError::Refused {
            method: "POST",
            path,
            status: response.status,
            body: response.text(),
        })
    }

    /// Whether the admin listener's `/readyz` says 200.
    pub fn is_ready(&self) -> bool {
        self.admin_get("/readyz")
            .is_ok_and(|response| response.status == 200)
    }

    /// Waits until `look` gives something.
    ///
    /// # Errors
    /// When the time is over; says what outgrow wrote.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, OutgrowError> {
        wait::until(what, limit, || look(self)).map_err(|waited| OutgrowError::Waited {
            waited,
            stderr: self.stderr(),
        })
    }

    /// Waits until it has written these words to standard error, and returns all that it has
    /// written: what it says of a thing comes a moment after the thing.
    ///
    /// # Errors
    /// When it does not say so within ten seconds.
    pub fn wait_told(&self, words: &str) -> Result<String, OutgrowError> {
        let told = |outgrow: &Self| Some(outgrow.stderr()).filter(|text| text.contains(words));
        self.wait(&format!("the words {words:?}"), TOLD_LIMIT, told)
    }

    /// Its processes at this moment.
    pub fn pids(&self) -> Pids {
        sort(self.child.id(), processes::under(self.child.id()))
    }

    /// Every process that it or anything under it has started and that is
    /// running, also such that left its tree.
    pub fn all_processes(&self) -> Vec<Process> {
        processes::marked(&self.mark)
    }

    /// Sends a signal to the keeper.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<(), OutgrowError> {
        processes::signal(self.child.id(), signal).map_err(system("signalled"))
    }

    /// SIGKILL to one of its processes. Refuses any other.
    ///
    /// # Errors
    /// When it is gone, or none of this outgrow's.
    pub fn kill9(&self, pid: u32) -> Result<(), OutgrowError> {
        let own = self
            .all_processes()
            .iter()
            .any(|process| process.pid == pid);
        let checked = if own {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        };
        checked
            .and_then(|()| processes::kill9(pid))
            .map_err(system("killed"))
    }

    /// SIGTERM; waits until it has exited and makes sure that no process is left.
    ///
    /// # Errors
    /// When it does not exit within a minute, or something is left.
    pub fn stop(mut self) -> Result<ExitStatus, OutgrowError> {
        self.signal(Signal::TERM)?;
        self.wait_exit(STOP_LIMIT)
    }

    /// Waits until it has exited by itself and makes sure that no process is left.
    ///
    /// # Errors
    /// When it has not exited after `limit`, or something is left.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus, OutgrowError> {
        let child = &mut self.child;
        let exited = wait::until("outgrow exits", limit, || child.try_wait().transpose());
        let status = exited
            .map_err(|waited| OutgrowError::Waited {
                waited,
                stderr: self.stderr(),
            })?
            .map_err(system("waited for"))?;
        let gone = || self.all_processes().is_empty().then_some(());
        match wait::until("no process is left", GONE_LIMIT, gone) {
            Ok(()) => Ok(status),
            Err(_) => Err(OutgrowError::Left {
                left: self.all_processes(),
            }),
        }
    }
}

impl Drop for Outgrow {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        // Again and again, since a process may start another before it ends.
        let _left = wait::until("no process is left", GONE_LIMIT, || {
            let left = self.all_processes();
            for process in &left {
                let _gone = processes::kill9(process.pid);
            }
            left.is_empty().then_some(())
        });
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> OutgrowError {
    move |source| OutgrowError::System { what, source }
}

fn read_lossy(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Tells processes below a keeper apart by their first argument and parent.
fn sort(keeper: u32, mut below: Vec<Process>) -> Pids {
    below.sort_by_key(|process| process.pid);
    let mut pids = Pids {
        keeper,
        data: Vec::new(),
        shims: Vec::new(),
        instances: Vec::new(),
        others: Vec::new(),
    };
    let role = |process: &Process| process.command.get(1).cloned().unwrap_or_default();
    for process in &below {
        if process.parent == keeper && role(process) == "shim" {
            pids.shims.push(process.pid);
        }
    }
    for process in below.iter().filter(|one| !pids.shims.contains(&one.pid)) {
        let list = if process.parent == keeper && role(process) == "data" {
            &mut pids.data
        } else if pids.shims.contains(&process.parent) {
            &mut pids.instances
        } else {
            &mut pids.others
        };
        list.push(process.pid);
    }
    pids
}

#[cfg(test)]
mod tests;
