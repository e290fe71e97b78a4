//! The shim's loop: output through, orders in, deaths noticed, and in the end
//! every descendant gone.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal, WaitOptions, WaitStatus};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use super::enclosure::Enclosure;
use super::output::Stream;
use super::source::Source;
use crate::events::{drain, pass_over_the_keepers, signal_pipe, timespec};
use crate::log::Log;
use crate::moment::Moment;
use crate::processes::{Processes, signal_group, signal_process};
use crate::protocol::channel::{Channel, Received};
use crate::protocol::shim::{FromShim, ShimSpec, ToShim};
use crate::protocol::{Command, Exit};
use crate::protocol::{Decoded, decode};

/// Between two rounds of SIGKILL: a process that forks while it is killed is
/// found in the next.
const KILL_ROUND: Duration = Duration::from_millis(50);
/// After the first SIGKILL: what still lives then cannot be killed (it hangs in
/// the kernel), and the shim gives up with an error.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long the last output of each stream may take to be read when all else is done.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum Phase {
    Running,
    /// SIGTERM was sent; SIGKILL follows at this moment.
    Terminating {
        kill_at: Moment,
    },
    /// SIGKILL was sent.
    Killing {
        next: Moment,
        give_up: Moment,
    },
}

#[derive(Debug)]
pub(super) struct Shim {
    /// `None` when the keeper is gone.
    channel: Option<Channel>,
    spec: ShimSpec,
    log: Log,
    children: UnixStream,
    terminate: UnixStream,
    sources: [Source; 2],
    main: u32,
    main_ended: bool,
    phase: Phase,
    enclosure: Enclosure,
}

impl Shim {
    pub(super) fn begin(mut channel: Channel, spec: ShimSpec) -> io::Result<Self> {
        // From here on the death of any process of the instance makes its
        // children ours.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let children = signal_pipe(&[SIGCHLD])?;
        let terminate = signal_pipe(&[SIGTERM, SIGINT])?;
        pass_over_the_keepers()?;
        let log = Log::new(spec.log_format, &spec.name);
        if let Some(current) = spec.open_files {
            let limit = Rlimit {
                current: Some(current),
                ..rustix::process::getrlimit(Resource::Nofile)
            };
            // The keeper's own higher limit does the command no harm either.
            let _ = rustix::process::setrlimit(Resource::Nofile, limit);
        }
        let (started, enclosure, limited) = Enclosure::start(&spec);
        if let Some(limited) = limited {
            tell(&mut Some(&mut channel), &limited);
        }
        let (main, pipes) = match started {
            Ok(running) => {
                tell(
                    &mut Some(&mut channel),
                    &FromShim::Started { pid: running.pid },
                );
                (running.pid, [running.stdout, running.stderr])
            }
            Err(message) => {
                log.error(&message);
                let exited = FromShim::Exited {
                    exit: Exit::SpawnFailed { message },
                    over_memory: None,
                    said: None,
                };
                tell(&mut Some(&mut channel), &exited);
                (0, [None, None])
            }
        };
        let [stdout, stderr] = pipes;
        let sources = [
            Source::new(stdout, Stream::Stdout)?,
            Source::new(stderr, Stream::Stderr)?,
        ];
        Ok(Self {
            channel: Some(channel),
            spec,
            log,
            children,
            terminate,
            sources,
            main,
            main_ended: main == 0,
            phase: Phase::Running,
            enclosure,
        })
    }

    pub(super) fn run(mut self) -> i32 {
        loop {
            // Children that ended before the signal handler was there are
            // found here as well, so this comes first.
            drain(&self.children);
            if self.reap() {
                return self.finish(0);
            }
            if !self.advance(Moment::now()) {
                self.log
                    .error("some of its processes cannot be killed: they hang in the kernel");
                return self.finish(1);
            }
            if let Err(error) = self.wait() {
                self.log
                    .error(&format!("the shim cannot wait for events: {error}"));
                self.kill_all();
                return self.finish(1);
            }
            self.take_signals();
            self.take_orders();
            self.take_output();
        }
    }

    /// Waits until something can be done.
    fn wait(&self) -> io::Result<()> {
        let mut watched = Vec::with_capacity(7);
        watched.push((self.children.as_fd(), PollFlags::IN));
        watched.push((self.terminate.as_fd(), PollFlags::IN));
        if let Some(channel) = &self.channel {
            let out = if channel.has_outgoing() {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            watched.push((channel.as_fd(), PollFlags::IN | out));
        }
        for source in &self.sources {
            if let Some(pipe) = &source.pipe
                && source.outlet.has_room()
            {
                watched.push((pipe.as_fd(), PollFlags::IN));
            }
            if !source.outlet.is_empty() {
                watched.push((source.outlet.descriptor(), PollFlags::OUT));
            }
        }
        let mut polls: Vec<PollFd<'_>> = watched
            .into_iter()
            .map(|(descriptor, flags)| PollFd::from_borrowed_fd(descriptor, flags))
            .collect();
        let deadline = match self.phase {
            Phase::Running => None,
            Phase::Terminating { kill_at } => Some(kill_at),
            Phase::Killing { next, .. } => Some(next),
        };
        let limit = deadline.map(|deadline| timespec(deadline.since(Moment::now())));
        match rustix::event::poll(&mut polls, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes every death; `true` when nobody is left.
    fn reap(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid.as_raw_nonzero().get() as u32 == self.main => {
                    self.main_has_ended(status);
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    fn main_has_ended(&mut self, status: WaitStatus) {
        self.main_ended = true;
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code { code },
            (None, Some(signal)) => Exit::Signal { signal },
            (None, None) => Exit::Signal { signal: 0 },
        };
        // A SIGKILL while it is stopped is our own, whatever the kernel did to it before.
        let unasked = matches!(self.phase, Phase::Running);
        let over_memory = self.enclosure.over_memory(status).filter(|_| unasked);
        let exited = FromShim::Exited {
            said: self.said(&exit),
            exit,
            over_memory,
        };
        tell(&mut self.channel.as_mut(), &exited);
        // Unasked: what is left of it must not stay. While it is being stopped
        // the others keep their grace: a shell that ends at SIGTERM before the
        // server that it started must not take the server's grace away.
        if unasked {
            self.start_killing(Moment::now());
        }
    }

    /// What a shell said of the command that it could not run.
    fn said(&mut self, exit: &Exit) -> Option<String> {
        let is_shell = matches!(self.spec.command, Command::Shell(_));
        if !is_shell || !exit.is_no_start() {
            return None;
        }
        self.sources[1].last_line(&self.spec)
    }

    /// Does what is due; `false` when nothing helps any more.
    fn advance(&mut self, now: Moment) -> bool {
        match self.phase {
            Phase::Running => {}
            Phase::Terminating { kill_at } => {
                if now >= kill_at {
                    self.start_killing(now);
                }
            }
            Phase::Killing { next, give_up } => {
                if now >= give_up {
                    return false;
                }
                if now >= next {
                    self.kill_all();
                    self.phase = Phase::Killing {
                        next: now.after(KILL_ROUND),
                        give_up,
                    };
                }
            }
        }
        true
    }

    fn start_killing(&mut self, now: Moment) {
        self.kill_all();
        self.phase = Phase::Killing {
            next: now.after(KILL_ROUND),
            give_up: now.after(KILL_LIMIT),
        };
    }

    fn kill_all(&self) {
        self.signal_all(Signal::KILL);
    }

    /// Signals the group and every descendant outside of it.
    fn signal_all(&self, signal: Signal) {
        // Once the main process is reaped, the number of its group may be given
        // to strangers as soon as the group is empty.
        let group = if self.main_ended { 0 } else { self.main };
        if group != 0 {
            signal_group(group, signal);
        }
        match Processes::scan() {
            Ok(processes) => {
                for process in processes.descendants(std::process::id()) {
                    if process.group != group && !process.is_dead() {
                        signal_process(process.pid, signal);
                    }
                }
            }
            Err(error) => {
                self.log.warn(&format!(
                    "/proc cannot be read, so daemons are not found: {error}"
                ));
            }
        }
    }

    fn stop(&mut self, grace: Duration) {
        let now = Moment::now();
        if grace.is_zero() {
            if !matches!(self.phase, Phase::Killing { .. }) {
                self.start_killing(now);
            }
            return;
        }
        match self.phase {
            Phase::Running => {
                self.signal_all(Signal::TERM);
                // A stopped process would not see the SIGTERM.
                self.signal_all(Signal::CONT);
                self.phase = Phase::Terminating {
                    kill_at: now.after(grace),
                };
            }
            // A second order can only shorten the grace.
            Phase::Terminating { kill_at } => {
                self.phase = Phase::Terminating {
                    kill_at: kill_at.min(now.after(grace)),
                };
            }
            Phase::Killing { .. } => {}
        }
    }

    fn take_signals(&mut self) {
        if drain(&self.terminate) > 0 {
            self.stop(Duration::from_millis(self.spec.stop_grace_ms));
        }
    }

    fn take_orders(&mut self) {
        loop {
            let Some(channel) = &mut self.channel else {
                return;
            };
            let received = channel.flush().and_then(|()| channel.receive());
            match received {
                Ok(Received::Empty) => return,
                Ok(Received::Record(record)) => {
                    let unknown = |message: &ToShim| matches!(message, ToShim::Unknown);
                    match decode::<ToShim>(&record.bytes, unknown) {
                        Decoded::Message(ToShim::Stop { grace_ms }) => {
                            self.stop(Duration::from_millis(grace_ms));
                        }
                        Decoded::Message(ToShim::Limit { limits, grant }) if !self.main_ended => {
                            let limited = self.enclosure.change(limits, grant);
                            tell(&mut self.channel.as_mut(), &limited);
                        }
                        Decoded::Message(_) => {}
                        Decoded::Ignored(line) => self.log.warn(&format!("the keeper sent {line}")),
                    }
                }
                Ok(Received::Closed) | Err(_) => {
                    self.channel = None;
                    self.log.warn("the keeper is gone: ending");
                    self.stop(Duration::from_millis(self.spec.orphan_grace_ms));
                }
            }
        }
    }

    fn take_output(&mut self) {
        for source in &mut self.sources {
            if !source.outlet.is_empty() {
                source.outlet.write();
            }
            if source.outlet.has_room() {
                source.read(&self.spec);
            }
        }
    }

    /// The last output, the socket's file, the last word.
    fn finish(mut self, code: i32) -> i32 {
        for source in &mut self.sources {
            let lost = source.flush(&self.spec, Moment::now().after(FLUSH_LIMIT));
            if lost > 0 {
                self.log.warn(&format!(
                    "the last {lost} bytes of its {} are lost: nobody reads them",
                    source.stream.name()
                ));
            }
        }
        if let Some(socket) = &self.spec.socket {
            let _ = std::fs::remove_file(socket);
            // The last shim takes the directory of a lost keeper along.
            if self.channel.is_none()
                && let Some(directory) = std::path::Path::new(socket).parent()
            {
                let _ = std::fs::remove_dir(directory);
            }
        }
        if self.channel.is_none() {
            self.enclosure.remove();
        }
        if code == 0 {
            tell(&mut self.channel.as_mut(), &FromShim::Ended {});
        }
        code
    }
}

/// A keeper that cannot be told is gone; that is seen when reading.
fn tell(channel: &mut Option<&mut Channel>, message: &FromShim) {
    if let Some(channel) = channel {
        let _ = channel.send(message, &[]);
    }
}
