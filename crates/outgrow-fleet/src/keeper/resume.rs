//! The keeper becomes a newer binary without ending: exec keeps pid and
//! children, and everything else goes through a channel whose far end is the
//! new program's standard input: one record with the state, all descriptors
//! attached. Nothing else survives an exec, for every descriptor is closed on
//! it; so a record that is not understood cannot leak one either.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::sys::signal::SigSet;
use serde::{Deserialize, Serialize};

use super::KeeperError;
use super::data::{DataProcess, SavedData};
use super::facts::Facts;
use super::instance::Record;
use super::instances::Instances;
use super::launch::RuntimeDirectory;
use super::listeners::{Listeners, SavedListener};
use super::notify;
use super::passed::{PassedSockets, SavedPassed};
use super::run::Keeper;
use crate::privileges;
use crate::protocol::KEEPER_STATE_VERSION;
use crate::protocol::channel::{self, Channel, Received, take_stdin};

/// Set for the new binary alone; no child inherits it.
pub(super) const RESUME_VARIABLE: &str = "OUTGROW_KEEPER_RESUME";

#[derive(Serialize)]
struct Saving<'a> {
    state_version: u32,
    pid: u32,
    token: &'a str,
    directory: &'a RuntimeDirectory,
    facts: &'a Facts,
    listeners: Vec<SavedListener>,
    data: Vec<SavedData>,
    runs: u64,
    instances: Vec<(&'a Record, Option<u32>)>,
    passed: Vec<SavedPassed>,
}

#[derive(Deserialize)]
struct Saved {
    state_version: u32,
    pid: u32,
    token: String,
    directory: RuntimeDirectory,
    facts: Facts,
    listeners: Vec<SavedListener>,
    data: Vec<SavedData>,
    runs: u64,
    instances: Vec<(Record, Option<u32>)>,
    #[serde(default)]
    passed: Vec<SavedPassed>,
}

/// Everything that a keeper has.
#[derive(Debug)]
pub(super) struct Possessions {
    pub(super) token: String,
    pub(super) directory: RuntimeDirectory,
    pub(super) facts: Facts,
    pub(super) listeners: Listeners,
    pub(super) data: Vec<DataProcess>,
    pub(super) instances: Instances,
}

impl Possessions {
    pub(super) fn of_a_first_keeper(passed: PassedSockets) -> io::Result<Self> {
        Ok(Self {
            token: super::token()?,
            directory: RuntimeDirectory::default(),
            facts: Facts::of_a_first_keeper(),
            listeners: Listeners::with_passed(passed),
            data: Vec::new(),
            instances: Instances::default(),
        })
    }
}

impl Keeper {
    /// Executes `program` in place of this keeper. Returns only if that cannot
    /// be: with the reason if it failed, with nothing if a signal has to be
    /// taken first.
    pub(super) fn re_execute(&mut self, program: &Path) -> Option<String> {
        let failed = |error: &dyn Display| Some(format!("{}: {error}", program.display()));
        // A signal that comes before the new program has its handlers would end
        // it: a SIGHUP in the wrong millisecond would end everything. Blocked
        // signals stay blocked over an exec, and wait. (std's exec unblocks
        // them, therefore it is not std's.)
        let signals = SigSet::all();
        if let Err(error) = signals.thread_block() {
            return failed(&error);
        }
        // One that came before that is in our pipes, which end with us.
        let reason = if self.signals.any_waits() {
            None
        } else {
            let executed = privileges::pass_low_ports_on()
                .map_err(|error| error.to_string())
                .and_then(|()| self.hand_over().map_err(|error| error.to_string()))
                .and_then(|far| execute(program, &far).map_err(|error| error.to_string()));
            privileges::keep_low_ports_to_ourselves();
            match executed {
                Ok(never) => match never {},
                Err(error) => failed(&error),
            }
        };
        let unblocked = signals.thread_unblock().map_err(io::Error::from);
        let restored =
            unblocked.and_then(|()| Ok(rustix::stdio::dup2_stdin(File::open("/dev/null")?)?));
        if let Err(error) = restored {
            self.log
                .error(&format!("not all is as before the upgrade: {error}"));
        }
        reason
    }

    /// Puts everything into a channel and gives its far end.
    fn hand_over(&self) -> Result<OwnedFd, channel::ChannelError> {
        let (near, far) = channel::pair()?;
        let (runs, instances) = self.instances.save();
        let saving = Saving {
            state_version: KEEPER_STATE_VERSION,
            pid: std::process::id(),
            token: &self.launcher.token,
            directory: &self.launcher.directory,
            facts: &self.facts,
            listeners: self.listeners.save(),
            data: self.data.iter().map(DataProcess::save).collect(),
            runs,
            instances,
            passed: self.listeners.save_passed(),
        };
        let mut descriptors: Vec<BorrowedFd<'_>> = self.listeners.descriptors();
        descriptors.extend(self.data.iter().map(|data| data.channel.as_fd()));
        descriptors.extend(
            self.instances
                .channels()
                .map(|(_, channel)| channel.as_fd()),
        );
        // Last: a binary that knows nothing of them closes them.
        descriptors.extend(self.listeners.passed_descriptors());
        let mut channel = Channel::new(near);
        channel.send(&saving, &descriptors)?;
        if channel.has_outgoing() {
            return Err(channel::ChannelError::Protocol(
                "the state does not fit into a channel",
            ));
        }
        Ok(far)
    }
}

/// Replaces this process by `program`, with the same arguments and `stdin`.
fn execute(program: &Path, stdin: &OwnedFd) -> io::Result<Infallible> {
    let text = |text: OsString| Ok::<_, io::Error>(CString::new(text.into_vec())?);
    let path = text(program.as_os_str().to_owned())?;
    let mut arguments = vec![path.clone()];
    for argument in std::env::args_os().skip(1) {
        arguments.push(text(argument)?);
    }
    let mut environment = vec![text(format!("{RESUME_VARIABLE}=1").into())?];
    for (name, value) in std::env::vars_os() {
        // What was passed is in the channel.
        let is_passed = name.as_encoded_bytes().starts_with(b"LISTEN_");
        if name == RESUME_VARIABLE
            || (is_passed && notify::VARIABLES.iter().any(|one| name == *one))
        {
            continue;
        }
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        environment.push(text(entry)?);
    }
    rustix::stdio::dup2_stdin(stdin)?;
    Ok(nix::unistd::execve(&path, &arguments, &environment)?)
}

/// Takes over from the keeper that this process was before, if there was one.
pub(super) fn take_over() -> Result<Option<Possessions>, KeeperError> {
    if !super::is_resuming() {
        return Ok(None);
    }
    let failed = |error: &dyn Display| KeeperError::Resume(error.to_string());
    let mut channel = Channel::new(take_stdin().map_err(|error| failed(&error))?);
    let record = match channel.receive().map_err(|error| failed(&error))? {
        Received::Record(record) => record,
        Received::Empty | Received::Closed => return Err(failed(&"nothing was handed over")),
    };
    let saved: Saved = serde_json::from_slice(&record.bytes).map_err(|error| failed(&error))?;
    if saved.state_version != KEEPER_STATE_VERSION {
        return Err(failed(&format!("it has version {}", saved.state_version)));
    }
    if saved.pid != std::process::id() {
        return Err(failed(&format!("it is of process {}", saved.pid)));
    }
    let mut descriptors = record.descriptors.into_iter();
    restore(saved, &mut descriptors)
        .ok_or_else(|| failed(&"descriptors are missing"))
        .map(Some)
}

fn restore(saved: Saved, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Option<Possessions> {
    let mut listeners = Listeners::restore(saved.listeners, descriptors)?;
    let mut data = Vec::new();
    for one in saved.data {
        data.push(DataProcess::restore(one, descriptors.next()?));
    }
    let instances = Instances::restore(saved.runs, saved.instances, descriptors)?;
    listeners.set_passed(PassedSockets::restore(saved.passed, descriptors)?);
    let Saved {
        token,
        directory,
        facts,
        ..
    } = saved;
    Some(Possessions {
        token,
        directory,
        facts,
        listeners,
        data,
        instances,
    })
}
