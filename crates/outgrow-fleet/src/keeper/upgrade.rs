//! Upgrades: the new binary's data process is started next to the old one, on
//! the same sockets. Only when it serves does the old one drain; if it never
//! does, nothing has changed. Then the keeper becomes the new binary itself.

use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::data::{RESTART, Role};
use super::run::Keeper;
use super::stop::Stage;
use crate::moment::Moment;
use crate::protocol::channel;
use crate::protocol::{DrainReason, KEEPER_STATE_VERSION, KeeperMessage};

/// How long everything said may take to be read before the keeper becomes the
/// new binary.
const QUIET_LIMIT: Duration = Duration::from_secs(5);
/// How many data processes may drain at a time; the oldest is ended for more.
const DRAINING_LIMIT: usize = 16;

impl Keeper {
    /// Starts an upgrade to `binary`, or to what now lies where this binary was
    /// started from.
    pub(super) fn upgrade(&mut self, binary: Option<PathBuf>) {
        if self.stage != Stage::Serving {
            return self.answer_upgrade(false, "everything is being stopped");
        }
        if self.candidate_program.is_some() {
            return self.answer_upgrade(false, "another upgrade is under way");
        }
        let program = binary.unwrap_or_else(|| self.launcher.program.clone());
        let program = std::path::absolute(&program).unwrap_or(program);
        if let Err(message) = may_run(&program) {
            return self.answer_upgrade(false, &message);
        }
        self.log
            .info(&format!("upgrading to {}", program.display()));
        match self.start_data(Role::Candidate, program.clone()) {
            Ok(()) => self.candidate_program = Some(program),
            Err(error) => {
                let message = format!("{} cannot be started: {error}", program.display());
                self.answer_upgrade(false, &message);
            }
        }
    }

    /// The new data process serves: it is the active one now.
    pub(super) fn promote(&mut self, generation: u64, keeper_state: u32) {
        let program = self.candidate_program.take();
        self.answer_upgrade(true, &format!("data process {generation} serves"));
        // Its own end comes first, in order.
        let limit = self.facts.limits.upgrade_drain + self.options.drain_margin;
        let until = Moment::now().after(limit);
        // Before it drains: it is to know to whom it may hand its clients.
        self.introduce(generation);
        for index in 0..self.data.len() {
            let data = &mut self.data[index];
            if data.role == Role::Active {
                data.role = Role::Draining;
                data.deadline = Some(until);
                let started = data.started;
                self.facts
                    .data_backoff
                    .replaced(&RESTART, started, Moment::now());
                self.tell(
                    index,
                    &KeeperMessage::Drain {
                        reason: DrainReason::Upgrade,
                    },
                    &[],
                );
            }
        }
        // The old one may have died meanwhile: then another need not start.
        self.facts.start_data_at = None;
        if let Some(index) = self.index(generation) {
            self.data[index].role = Role::Active;
            self.data[index].bound.clear();
            for command in std::mem::take(&mut self.data[index].held) {
                self.command(command);
            }
        }
        self.bound_draining();
        let Some(program) = program else { return };
        if keeper_state == KEEPER_STATE_VERSION {
            self.become_program = Some((program, Moment::now().after(QUIET_LIMIT)));
        } else {
            self.log.warn(
                "the keeper stays at its version: the new one cannot take its state over; it is \
                 replaced at the next restart",
            );
            self.data_program = Some(program);
        }
    }

    /// Gives the one that serves and each that drains, or is about to, a way to each other.
    pub(super) fn introduce(&mut self, generation: u64) {
        for index in 0..self.data.len() {
            let data = &self.data[index];
            let leaves = match data.role {
                Role::Draining => true,
                Role::Active => data.generation != generation,
                Role::Candidate => false,
            };
            if !leaves || !data.ready || !data.channel.is_open() {
                continue;
            }
            let leaving = data.generation;
            let neighbour = |generation| KeeperMessage::Neighbour { generation };
            let said = [
                (KeeperMessage::Successor {}, KeeperMessage::Predecessor {}),
                (neighbour(generation), neighbour(leaving)),
            ];
            for (to_leaving, to_next) in said {
                let (one, other) = match channel::pair() {
                    Ok(pair) => pair,
                    Err(error) => {
                        self.log.warn(&format!(
                            "data processes cannot be introduced to each other: {error}"
                        ));
                        return;
                    }
                };
                self.tell(index, &to_leaving, &[one.as_fd()]);
                if let Some(index) = self.index(generation) {
                    self.tell(index, &to_next, &[other.as_fd()]);
                }
            }
        }
    }

    fn bound_draining(&mut self) {
        let draining: Vec<usize> = self
            .data
            .iter()
            .enumerate()
            .filter(|(_, data)| data.role == Role::Draining)
            .map(|(index, _)| index)
            .collect();
        for index in draining
            .iter()
            .take(draining.len().saturating_sub(DRAINING_LIMIT))
        {
            let generation = self.data[*index].generation;
            self.log.warn(&format!(
                "data process {generation} is ended: more than {DRAINING_LIMIT} drain"
            ));
            self.data[*index].kill();
        }
    }

    /// The new data process will not serve: the old one goes on.
    pub(super) fn upgrade_failed(&mut self, message: &str) {
        if self.candidate_program.take().is_some() {
            if let Some((_, until)) = &mut self.become_program {
                *until = Moment::now().after(QUIET_LIMIT);
            }
            self.answer_upgrade(false, message);
        }
    }

    fn answer_upgrade(&mut self, ok: bool, message: &str) {
        if ok {
            self.log.info(&format!("upgraded: {message}"));
        } else {
            self.log
                .error(&format!("no upgrade, all goes on as before: {message}"));
        }
        self.tell_active(&KeeperMessage::UpgradeResult {
            ok,
            message: message.to_owned(),
        });
    }

    /// Becomes the new binary at the first quiet moment. Returns only if it is
    /// not time yet, or if that failed; then this keeper goes on.
    pub(super) fn become_new(&mut self) {
        let Some((program, until)) = self.become_program.clone() else {
            return;
        };
        if self.candidate_program.is_some() {
            // Another upgrade is under way. It sets another binary to become,
            // or fails, and then this one's time has come.
            return;
        }
        let busy = self.instances.has_outgoing()
            || self.data.iter().any(|data| data.channel.has_outgoing());
        let failed = match (busy, Moment::now() >= until) {
            (true, false) => None,
            (true, true) => Some("a process does not read what it is told".to_owned()),
            (false, _) => self.re_execute(&program),
        };
        let Some(error) = failed else {
            return;
        };
        self.become_program = None;
        self.log
            .error(&format!("the keeper stays at its version: {error}"));
        self.data_program = Some(program);
    }
}

/// Whether it is a program that may be run with the keeper's rights: nobody
/// else may have written it.
fn may_run(program: &Path) -> Result<(), String> {
    let name = program.display();
    let metadata = std::fs::metadata(program).map_err(|error| format!("{name}: {error}"))?;
    let mode = metadata.permissions().mode();
    if !metadata.is_file() || mode & 0o111 == 0 {
        return Err(format!("{name} is not an executable file"));
    }
    let running = std::fs::metadata("/proc/self/exe").map(|running| running.uid());
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let owner = metadata.uid();
    if owner != 0 && owner != user && running.ok() != Some(owner) {
        return Err(format!(
            "{name} belongs to user {owner}: it must belong to root, to the user that runs \
             outgrow ({user}) or to the owner of the binary that runs now"
        ));
    }
    let by_group = mode & 0o020 != 0 && ![0, group].contains(&metadata.gid());
    if by_group || mode & 0o002 != 0 {
        return Err(format!(
            "{name} may be written by others (mode {:04o}): chmod go-w {name}",
            mode & 0o7777
        ));
    }
    Ok(())
}
