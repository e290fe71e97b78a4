//! Data processes: started, greeted, listened to, started again when they die.
//! At most one is active: only its commands count. During an upgrade there is
//! a candidate beside it, and after one any number that drain.

use std::collections::BTreeSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::process::{Signal, WaitStatus};
use serde::{Deserialize, Serialize};

use super::launch::{running_program, spawn};
use super::run::{Keeper, describe};
use super::stop::Stage;
use crate::moment::Moment;
use crate::processes::signal_process;
use crate::protocol::channel::{Channel, Received};
use crate::protocol::{
    DataMessage, Decoded, Hello, InstanceId, KeeperMessage, PROTOCOL_VERSION, RestartPolicy, decode,
};

/// A data process that dies is replaced at once; while it dies within 2 s of
/// its start, later and later. One that served for longer has earned a start
/// without delay: nobody is served meanwhile.
pub(super) const RESTART: RestartPolicy = RestartPolicy {
    first_ms: 100,
    max_ms: 5_000,
    crash_loop: 0,
    crash_loop_window_ms: 2_000,
    first_at_once: true,
};
/// So many deaths in a row before any data process ever served, and the keeper
/// gives up: somebody is waiting for the command to work or to fail.
const FIRST_START_ATTEMPTS: u32 = 5;
/// How many records of one data process are read in one turn.
const TURN_LIMIT: usize = 256;

/// What a data process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// The one whose commands count.
    Active,
    /// To be the active one as soon as it serves.
    Candidate,
    /// Finishes what it has in flight.
    Draining,
}

#[derive(Debug)]
pub(super) struct DataProcess {
    pub(super) generation: u64,
    pub(super) pid: u32,
    pub(super) channel: Channel,
    pub(super) role: Role,
    pub(super) ready: bool,
    pub(super) started: Moment,
    /// When it is killed.
    pub(super) deadline: Option<Moment>,
    /// Commands of a candidate, until it is the active one.
    pub(super) held: Vec<DataMessage>,
    /// Instances on which it still has requests, while it drains.
    pub(super) in_flight: Vec<InstanceId>,
    /// The keys that are there only because it asked, while it is a candidate.
    pub(super) bound: Vec<String>,
    /// Its pid may be anybody's by now.
    reaped: bool,
}

/// What a successor is told about a data process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedData {
    generation: u64,
    pid: u32,
    role: Role,
    ready: bool,
    started: Moment,
    deadline: Option<Moment>,
    #[serde(default)]
    in_flight: Vec<InstanceId>,
}

impl DataProcess {
    pub(super) fn save(&self) -> SavedData {
        let Self {
            generation,
            pid,
            role,
            ready,
            started,
            deadline,
            ..
        } = *self;
        let in_flight = self.in_flight.clone();
        SavedData {
            generation,
            pid,
            role,
            ready,
            started,
            deadline,
            in_flight,
        }
    }

    pub(super) fn restore(saved: SavedData, channel: OwnedFd) -> Self {
        let SavedData {
            generation,
            pid,
            role,
            ready,
            started,
            deadline,
            in_flight,
        } = saved;
        let channel = Channel::new(channel);
        Self {
            generation,
            pid,
            channel,
            role,
            ready,
            started,
            deadline,
            held: Vec::new(),
            in_flight,
            bound: Vec::new(),
            reaped: false,
        }
    }

    /// Its death is noticed as any other.
    pub(super) fn kill(&self) {
        if !self.reaped {
            signal_process(self.pid, Signal::KILL);
        }
    }
}

impl Keeper {
    /// Starts a data process and greets it with everything there is.
    pub(super) fn start_data(&mut self, role: Role, program: PathBuf) -> std::io::Result<()> {
        let spawned = spawn(&program, &self.options.data_arguments)?;
        let now = Moment::now();
        self.facts.generation += 1;
        let generation = self.facts.generation;
        let hello = Hello {
            generation,
            protocol: PROTOCOL_VERSION,
            version: self.options.version.clone(),
            keeper: std::process::id(),
            upgrade: role == Role::Candidate,
            data_restarts: self.facts.data_restarts,
            listeners: self.listeners.entries(),
            instances: self.instances.reports(now),
            kept: self.facts.kept.clone(),
            others: self.data.iter().map(|data| data.generation).collect(),
        };
        let mut data = DataProcess {
            generation,
            pid: spawned.pid,
            channel: spawned.channel,
            role,
            ready: false,
            started: now,
            deadline: Some(now.after(self.options.ready_timeout)),
            held: Vec::new(),
            in_flight: Vec::new(),
            bound: Vec::new(),
            reaped: false,
        };
        let hello = KeeperMessage::Hello(Box::new(hello));
        if let Err(error) = data.channel.send(&hello, &self.listeners.descriptors()) {
            self.log.error(&format!(
                "data process {generation} cannot be greeted: {error}"
            ));
            data.kill();
        }
        self.data.push(data);
        Ok(())
    }

    /// Starts the data process that is due, kills those whose time is over.
    pub(super) fn advance_data(&mut self) {
        let now = Moment::now();
        for index in 0..self.data.len() {
            let data = &mut self.data[index];
            if data.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            data.deadline = None;
            data.kill();
            let generation = data.generation;
            let reason = if data.role == Role::Draining || self.stage != Stage::Serving {
                "its time to drain is over"
            } else {
                "it was not ready in time"
            };
            self.log
                .warn(&format!("data process {generation} is killed: {reason}"));
        }
        if self.stage == Stage::Serving && self.facts.start_data_at.is_some_and(|at| at <= now) {
            self.facts.start_data_at = None;
            let program = match &self.data_program {
                Some(program) => program.clone(),
                None => running_program(&self.launcher.program),
            };
            if let Err(error) = self.start_data(Role::Active, program) {
                self.log
                    .error(&format!("the data process cannot be started: {error}"));
                self.start_data_again(now);
            }
        }
    }

    /// Reads what a data process says.
    pub(super) fn converse(&mut self, generation: u64) {
        for _ in 0..TURN_LIMIT {
            let Some(index) = self.index(generation) else {
                return;
            };
            let channel = &mut self.data[index].channel;
            match channel.flush().and_then(|()| channel.receive()) {
                Ok(Received::Record(record)) => {
                    let unknown = |message: &DataMessage| matches!(message, DataMessage::Unknown);
                    match decode::<DataMessage>(&record.bytes, unknown) {
                        Decoded::Message(message) => self.heard(generation, message),
                        Decoded::Ignored(line) => {
                            self.log
                                .warn(&format!("data process {generation} sent {line}"));
                        }
                    }
                }
                Ok(Received::Empty) => return,
                // Without its channel it is of no use.
                Ok(Received::Closed) => return self.data[index].kill(),
                Err(error) => {
                    self.log
                        .error(&format!("data process {generation} is killed: {error}"));
                    return self.data[index].kill();
                }
            }
        }
    }

    pub(super) fn is_ready(&mut self, index: usize, keeper_state: u32) {
        let data = &mut self.data[index];
        if data.ready || self.stage != Stage::Serving {
            return;
        }
        data.ready = true;
        data.deadline = None;
        let (generation, pid) = (data.generation, data.pid);
        let took = Moment::now().since(data.started).as_millis();
        self.facts.ever_ready = true;
        self.log.info(&format!(
            "data process {generation} serves (pid {pid}, after {took} ms)"
        ));
        self.serves(index);
        match self.data[index].role {
            Role::Candidate => self.promote(generation, keeper_state),
            // In place of one that died, to which others were handing clients.
            Role::Active => self.introduce(generation),
            Role::Draining => {}
        }
        if self.data.iter().any(|data| !data.in_flight.is_empty()) {
            self.tell_in_flight();
        }
    }

    /// Tells the active one which instances the draining ones still need.
    pub(super) fn tell_in_flight(&mut self) {
        let draining = self.data.iter().filter(|data| data.role == Role::Draining);
        let instances: BTreeSet<InstanceId> = draining
            .flat_map(|data| data.in_flight.iter().copied())
            .collect();
        let instances = instances.into_iter().collect();
        self.tell_active(&KeeperMessage::InFlight { instances });
    }

    pub(super) fn is_fatal(&mut self, index: usize, message: &str) {
        self.log.error(message);
        match self.data[index].role {
            Role::Candidate => {
                self.data[index].kill();
                self.upgrade_failed(message);
            }
            Role::Active if !self.facts.ever_ready => self.give_up(),
            Role::Active | Role::Draining => {}
        }
    }

    /// Notes the death of a child that was no shim.
    pub(super) fn data_died(&mut self, pid: u32, status: WaitStatus) {
        let Some(position) = self.data.iter().position(|data| data.pid == pid) else {
            return;
        };
        self.data[position].reaped = true;
        let generation = self.data[position].generation;
        // Its last words may still be unread.
        self.converse(generation);
        let Some(position) = self.index(generation) else {
            return;
        };
        let data = self.data.remove(position);
        let how = describe(status);
        match data.role {
            Role::Draining => {
                self.log
                    .info(&format!("data process {generation} has drained ({how})"));
                if !data.in_flight.is_empty() {
                    self.tell_in_flight();
                }
            }
            Role::Candidate => {
                // Nobody would ever accept there.
                for key in &data.bound {
                    self.listeners.release(key);
                }
                self.upgrade_failed(&format!("the new data process ended: {how}"));
            }
            Role::Active if self.stage != Stage::Serving => {
                self.log
                    .info(&format!("data process {generation} has ended ({how})"));
            }
            Role::Active => {
                self.log
                    .error(&format!("data process {generation} died: {how}"));
                self.facts.data_restarts = self.facts.data_restarts.saturating_add(1);
                self.start_data_again(data.started);
            }
        }
    }

    fn start_data_again(&mut self, started: Moment) {
        let now = Moment::now();
        let verdict = self.facts.data_backoff.exited(&RESTART, started, now);
        if !self.facts.ever_ready && self.facts.data_backoff.early_exits() >= FIRST_START_ATTEMPTS {
            self.log
                .error("the data process has never served: giving up");
            return self.give_up();
        }
        self.facts.start_data_at = Some(now.after(verdict.delay));
    }

    /// Tells the active data process; `false` if there is none.
    pub(super) fn tell_active(&mut self, message: &KeeperMessage) -> bool {
        match self.data.iter().position(|data| data.role == Role::Active) {
            Some(index) => {
                self.tell(index, message, &[]);
                true
            }
            None => false,
        }
    }

    pub(super) fn tell(
        &mut self,
        index: usize,
        message: &KeeperMessage,
        descriptors: &[BorrowedFd<'_>],
    ) {
        let data = &mut self.data[index];
        if data.channel.is_open()
            && let Err(error) = data.channel.send(message, descriptors)
        {
            let generation = data.generation;
            data.kill();
            self.log
                .error(&format!("data process {generation} is killed: {error}"));
        }
    }

    pub(super) fn index(&self, generation: u64) -> Option<usize> {
        self.data
            .iter()
            .position(|data| data.generation == generation)
    }
}
