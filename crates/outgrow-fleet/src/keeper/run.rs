//! The keeper's loop: wait, take signals, listen to shims and data processes,
//! do what is due, tell what changed.

use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::data::DataProcess;
use super::facts::{self, Facts};
use super::instances::{Context, Instances};
use super::launch::Launcher;
use super::listeners::Listeners;
use super::notify::Notifier;
use super::passed::PassedSockets;
use super::ports::Ports;
use super::resume::Possessions;
use super::signals::Signals;
use super::stop::Stage;
use super::{KeeperError, KeeperOptions, resume};
use crate::cgroup::leftovers;
use crate::events::{drain, timespec};
use crate::log::Log;
use crate::moment::Moment;
use crate::privileges;
use crate::protocol::{InstanceId, KeeperMessage};

#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) options: KeeperOptions,
    pub(super) log: Log,
    pub(super) signals: Signals,
    pub(super) launcher: Launcher,
    pub(super) listeners: Listeners,
    pub(super) notifier: Notifier,
    pub(super) instances: Instances,
    pub(super) data: Vec<DataProcess>,
    pub(super) facts: Facts,
    pub(super) stage: Stage,
    /// The last signal that asked to stop, and when it came.
    pub(super) stopped_by: Option<(i32, Moment)>,
    /// Set when the data process is of another binary than the keeper, because
    /// the keeper could not become that one.
    pub(super) data_program: Option<PathBuf>,
    /// The binary of the upgrade under way.
    pub(super) candidate_program: Option<PathBuf>,
    /// The binary to become, and until when to wait for a quiet moment.
    pub(super) become_program: Option<(PathBuf, Moment)>,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Shim(InstanceId),
    Data(u64),
}

impl Keeper {
    pub(super) fn begin(options: KeeperOptions) -> Result<Self, KeeperError> {
        // Before anything is opened: they are known by their numbers.
        let passed = if super::is_resuming() {
            PassedSockets::default()
        } else {
            PassedSockets::take().map_err(|error| KeeperError::Passed(error.to_string()))?
        };
        privileges::keep_low_ports_to_ourselves();
        // A signal before this would end the process.
        let signals = Signals::register()?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(std::io::Error::from)?;
        let program = match &options.program {
            Some(program) => std::path::absolute(program)?,
            None => super::own_program().map_err(KeeperError::Program)?,
        };
        let log = Log::new(options.log_format, "outgrow");
        let Possessions {
            token,
            directory,
            facts,
            listeners,
            data,
            instances,
        } = match resume::take_over()? {
            Some(possessions) => {
                let version = &options.version;
                log.info(&format!("the keeper is of version {version} now"));
                possessions
            }
            None => {
                let removed = leftovers::sweep();
                if removed > 0 {
                    log.info(&format!(
                        "{removed} control groups that an outgrow which is gone had left are removed"
                    ));
                }
                Possessions::of_a_first_keeper(passed)?
            }
        };
        facts::raise_open_files();
        let seed = u64::from_str_radix(&super::token()?, 16).unwrap_or(0);
        let launcher = Launcher {
            program,
            shim_arguments: options.shim_arguments.clone(),
            log_format: options.log_format,
            open_files: facts.open_files,
            token,
            ports: Ports::new(seed),
            directory,
        };
        Ok(Self {
            options,
            log,
            signals,
            launcher,
            listeners,
            notifier: Notifier::from_environment(),
            instances,
            data,
            facts,
            stage: Stage::Serving,
            stopped_by: None,
            data_program: None,
            candidate_program: None,
            become_program: None,
        })
    }

    pub(super) fn run(mut self) -> Result<u8, KeeperError> {
        loop {
            // What died before the handler was there is found here as well.
            drain(&self.signals.children);
            self.reap();
            self.advance();
            if let Some(code) = self.advance_stop() {
                self.launcher.directory.remove();
                if let Some(house) = &self.facts.house {
                    house.leave();
                }
                return Ok(code);
            }
            self.tell_reports();
            self.flush();
            self.notify();
            self.become_new();
            for source in self.wait()? {
                match source {
                    Source::Shim(id) => self.with_instances(|instances, context| {
                        instances.converse(id, context);
                    }),
                    Source::Data(generation) => self.converse(generation),
                }
            }
            self.take_signals();
        }
    }

    /// Waits for an event; gives the channels that have one.
    fn wait(&self) -> Result<Vec<Source>, KeeperError> {
        let mut polls: Vec<PollFd<'_>> = Vec::new();
        for signal in self.signals.all() {
            polls.push(PollFd::from_borrowed_fd(signal.as_fd(), PollFlags::IN));
        }
        let first_channel = polls.len();
        let mut sources = Vec::new();
        let shims = self
            .instances
            .channels()
            .map(|(id, channel)| (Source::Shim(id), channel));
        let data = self
            .data
            .iter()
            .map(|data| (Source::Data(data.generation), &data.channel));
        for (source, channel) in shims.chain(data).filter(|(_, channel)| channel.is_open()) {
            let out = if channel.has_outgoing() {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            polls.push(PollFd::from_borrowed_fd(
                channel.as_fd(),
                PollFlags::IN | out,
            ));
            sources.push(source);
        }
        let limit = self
            .deadline()
            .map(|deadline| timespec(deadline.since(Moment::now())));
        match rustix::event::poll(&mut polls, limit.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(KeeperError::Setup(error.into())),
        }
        let ready = polls[first_channel..]
            .iter()
            .map(|poll| !poll.revents().is_empty());
        Ok(sources
            .into_iter()
            .zip(ready)
            .filter(|(_, ready)| *ready)
            .map(|(one, _)| one)
            .collect())
    }

    fn deadline(&self) -> Option<Moment> {
        let data = self.data.iter().filter_map(|data| data.deadline);
        let start = match self.stage {
            Stage::Serving => self.facts.start_data_at,
            _ => None,
        };
        let become_new = match self.candidate_program {
            None => self.become_program.as_ref().map(|(_, until)| *until),
            Some(_) => None,
        };
        data.chain(self.instances.deadline())
            .chain(start)
            .chain(become_new)
            .chain(self.notifier.deadline(Moment::now()))
            .chain(self.facts.reload.map(|reload| reload.until))
            .chain(self.stage.deadline())
            .min()
    }

    fn take_signals(&mut self) {
        if drain(&self.signals.hangup) > 0 {
            self.reload();
        }
        if drain(&self.signals.upgrade) > 0 {
            if self.candidate_program.is_some() {
                // Not to be told to who waits for that one's result.
                self.log.warn("SIGUSR2: another upgrade is under way");
            } else {
                self.upgrade(None);
            }
        }
        for (pipe, signal) in [
            (drain(&self.signals.terminate), SIGTERM),
            (drain(&self.signals.interrupt), SIGINT),
        ] {
            if pipe > 0 {
                self.stop_signal(signal);
            }
        }
    }

    /// Reaps every child that has ended: ours, and orphans that became ours.
    fn reap(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get() as u32;
                    let mut was_shim = false;
                    self.with_instances(|instances, context| {
                        was_shim = instances.died(pid, context);
                    });
                    if !was_shim {
                        self.data_died(pid, status);
                    }
                }
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn advance(&mut self) {
        self.with_instances(|instances, context| instances.advance(context));
        self.advance_data();
    }

    /// Tells every data process what changed; the draining ones too, so that
    /// they do not send anything to an instance that is gone.
    fn tell_reports(&mut self) {
        for report in self.instances.take_reports() {
            let message = KeeperMessage::Instance(Box::new(report));
            for index in 0..self.data.len() {
                self.tell(index, &message, &[]);
            }
        }
    }

    fn flush(&mut self) {
        for data in &mut self.data {
            if data.channel.has_outgoing() && data.channel.flush().is_err() {
                data.kill();
            }
        }
    }

    /// Acts on the instances with what they need of the keeper.
    pub(super) fn with_instances(&mut self, act: impl FnOnce(&mut Instances, &mut Context<'_>)) {
        let mut context = Context {
            launcher: &mut self.launcher,
            log: &self.log,
            now: Moment::now(),
            others: self.data.iter().map(|data| data.pid).collect(),
            adopt: self.facts.adopt,
            house: &mut self.facts.house,
        };
        act(&mut self.instances, &mut context);
    }
}

/// How a process ended, for people.
pub(super) fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}
