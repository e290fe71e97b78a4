//! The keeper becomes a newer binary without ending: exec keeps pid and
//! children, and everything else goes through a channel whose far end is the
//! new program's standard input: one record with the state, all descriptors
//! attached. Nothing else survives an exec, for every descriptor is closed on
//! it; so a record that is not understood cannot leak one either.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use serde::{Deserialize, Serialize};

use super::KeeperError;
use super::data::{DataProcess, SavedData};
use super::instance::Record;
use super::instances::Instances;
use super::launch::RuntimeDirectory;
use super::listeners::{Listeners, SavedListener};
use super::run::{Facts, Keeper};
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
}

/// What was taken over.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) token: String,
    pub(super) directory: RuntimeDirectory,
    pub(super) facts: Facts,
    pub(super) listeners: Listeners,
    pub(super) data: Vec<DataProcess>,
    pub(super) instances: Instances,
}

impl Keeper {
    /// Executes `program` in place of this keeper. Returns only the reason why
    /// that failed.
    pub(super) fn re_execute(&mut self, program: &Path) -> String {
        match self.hand_over() {
            Ok(far) => {
                let error = Process::new(program)
                    .args(std::env::args_os().skip(1))
                    .env(RESUME_VARIABLE, "1")
                    .stdin(Stdio::from(far))
                    .exec();
                format!("{} cannot be executed: {error}", program.display())
            }
            Err(error) => error.to_string(),
        }
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
        };
        let mut descriptors: Vec<BorrowedFd<'_>> = self.listeners.descriptors();
        descriptors.extend(self.data.iter().map(|data| data.channel.as_fd()));
        descriptors.extend(
            self.instances
                .channels()
                .map(|(_, channel)| channel.as_fd()),
        );
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

/// Takes over from the keeper that this process was before, if there was one.
pub(super) fn take_over() -> Result<Option<Resumed>, KeeperError> {
    if std::env::var_os(RESUME_VARIABLE).is_none() {
        return Ok(None);
    }
    let failed = |error: &dyn std::fmt::Display| KeeperError::Resume(error.to_string());
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

fn restore(saved: Saved, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Option<Resumed> {
    let listeners = Listeners::restore(saved.listeners, descriptors)?;
    let mut data = Vec::new();
    for one in saved.data {
        data.push(DataProcess::restore(one, descriptors.next()?));
    }
    let instances = Instances::restore(saved.runs, saved.instances, descriptors)?;
    let Saved {
        token,
        directory,
        facts,
        ..
    } = saved;
    Some(Resumed {
        token,
        directory,
        facts,
        listeners,
        data,
        instances,
    })
}
