//! The life of the process: start, main loop, end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use outgrow_core::{Clock, Snapshot};
use outgrow_message::Ledger;
use outgrow_net::ticker::Ticker;
use outgrow_postgres::pgbouncer::ini::Settings;
use outgrow_postgres::{Drain, ListenerPlan, Postgres, Shared};
use outgrow_upstream::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::BouncerArgs;
use super::config::Config;
use super::console::Desk;
use super::control::{Bouncer, Ending, Founding, Standstill};
use super::listen::{self, Sockets};
use super::log::Log;
use super::process::{self, PidFile};
use super::takeover::{self, Taken};

/// How often it is looked what is due.
const LOOK: Duration = Duration::from_millis(100);
/// Most bytes in buffers.
const BUFFERS: u64 = 1 << 30;

/// Runs until it is told to end. What goes wrong is in the log.
pub(super) fn run(args: &BouncerArgs, file: &Path) -> Result<(), ()> {
    let log = Arc::new(Log::new(args.quiet));
    let file = std::path::absolute(file).map_err(|error| log.fatal(error))?;
    let config = Config::read(&file, None, &log).map_err(|_| {
        log.fatal("cannot load config file");
    })?;
    let settings = config.ini.settings.clone();
    let user = args.user.as_ref().or(settings.user.as_ref());
    let user = user.filter(|user| !user.is_empty());
    let fail = |problem: String| {
        log.fatal(problem);
        // Nobody may be looking at standard error. A file that is made by another user than the one
        // that is to be could not be opened by that one later.
        if user.is_none() || Path::new(&settings.logfile).exists() {
            let _ = log.apply(&settings, args.verbose, false);
        }
    };
    if args.daemon && process::go_to_background(&settings).map_err(fail)? {
        return Ok(());
    }
    let mut taken = match args.reboot {
        true => takeover::take_over(&settings, &log).map_err(fail)?,
        false => Taken::default(),
    };
    let mut sockets = listen::bind(&settings, &mut taken.sockets, &log).map_err(fail)?;
    sockets.before = taken.passage;
    if let Some(user) = user {
        process::become_user(user).map_err(fail)?;
    }
    let pidfile = PidFile::write(&settings.pidfile).map_err(fail)?;
    let opened = log.apply(&settings, args.verbose, false);
    opened.map_err(|error| {
        fail(format!(
            "could not open logfile {}: {error}",
            settings.logfile
        ));
    })?;
    if rustix::process::getuid().is_root() {
        log.warning("PgBouncer should not run as root");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| fail(format!("no runtime can be started: {error}")))?;
    let served = runtime.block_on(serve(args, file, config, sockets, &log));
    drop(pidfile);
    served.map_err(fail)
}

async fn serve(
    args: &BouncerArgs,
    path: PathBuf,
    config: Config,
    sockets: Sockets,
    log: &Arc<Log>,
) -> Result<(), String> {
    let settings = config.ini.settings.clone();
    let mut signals = Signals::new().map_err(|error| error.to_string())?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let clock = Clock::start();
    let registry = Arc::new(Registry::new(workers));
    let shared = Shared::new(clock, Ledger::new(BUFFERS), workers);
    shared.set_outlet(Arc::clone(log) as _);
    let (endings, orders) = mpsc::unbounded_channel();
    let bouncer = Bouncer::new(Founding {
        shared: Arc::clone(&shared),
        registry: Arc::clone(&registry),
        log: Arc::clone(log),
        clock,
        path,
        verbose: args.verbose,
        config,
        endings,
    });
    shared.set_console(Arc::new(Desk(Arc::clone(&bouncer))));
    let postgres = Postgres::start(shared).map_err(|error| format!("no thread: {error}"))?;
    let control = tokio::spawn(outgrow_upstream::registry::run(registry, clock));
    let mut life = Life {
        bouncer,
        postgres,
        sockets,
        orders,
    };
    life.listen(&settings, workers).await?;
    if let Some(passage) = life.sockets.before.take()
        && let Err(error) = life.postgres.meet_leaving(passage)
    {
        log.warning(format_args!("no clients are taken over: {error}"));
    }
    log.info(format_args!("process up: {}", super::version()));
    life.live(&mut signals).await;
    control.abort();
    if let Some((path, _)) = &life.sockets.unix {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// The signals that mean something.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }
}

struct Life {
    bouncer: Arc<Bouncer>,
    postgres: Postgres,
    sockets: Sockets,
    orders: mpsc::UnboundedReceiver<Ending>,
}

impl Life {
    /// Accepts on all sockets, in each worker.
    async fn listen(&self, settings: &Settings, workers: usize) -> Result<(), String> {
        let problem = |error: std::io::Error| error.to_string();
        let port = u16::try_from(settings.listen_port).unwrap_or(0);
        let unix = self.sockets.unix.iter();
        let unix = unix.map(|(_, socket)| ("unix", port, socket));
        let tcp = self.sockets.tcp.iter();
        let tcp = tcp.map(|(key, socket)| (key.as_str(), 0, socket));
        for (key, port, socket) in unix.chain(tcp) {
            let copies: Result<Vec<_>, _> = (0..workers).map(|_| socket.try_clone()).collect();
            let slot = Arc::new(Snapshot::new(ListenerPlan {
                name: key.to_owned(),
                port,
            }));
            let copies = copies.map_err(problem)?;
            self.postgres.listen(key, copies, &slot).await;
        }
        Ok(())
    }

    /// Until the end.
    async fn live(&mut self, signals: &mut Signals) {
        let mut look = Ticker::new(LOOK);
        loop {
            let log = Arc::clone(&self.bouncer.log);
            tokio::select! {
                _ = signals.hangup.recv() => {
                    log.info("got SIGHUP, re-reading config");
                    if self.bouncer.reload().is_err() {
                        log.error("the configuration stays as it was");
                    }
                }
                _ = signals.quit.recv() => {
                    log.info("got SIGQUIT, fast exit");
                    return;
                }
                _ = signals.terminate.recv() => {
                    if self.is_ending() {
                        log.info("got SIGTERM while shutting down, fast exit");
                        return;
                    }
                    log.info("got SIGTERM, shutting down, waiting for all clients disconnect");
                    self.bouncer.end(Ending::WaitForClients);
                }
                _ = signals.interrupt.recv() => {
                    if self.is_ending() {
                        log.info("got SIGINT while shutting down, fast exit");
                        return;
                    }
                    log.info(
                        "got SIGINT, shutting down, waiting for all servers connections to be \
                         released",
                    );
                    self.bouncer.end(Ending::WaitForServers);
                }
                _ = signals.user1.recv() => self.pause(),
                _ = signals.user2.recv() => self.resume(),
                Some(ending) = self.orders.recv() => {
                    match ending {
                        Ending::Immediate => return,
                        Ending::HandedOver => self.begin_to_hand_over().await,
                        ending => self.begin_to_end(ending).await,
                    }
                }
                () = look.tick() => {
                    if self.is_over() {
                        return;
                    }
                    if self.bouncer.state().ending == Some(Ending::HandedOver) {
                        self.bouncer.shared.step_handover(self.bouncer.clock.now());
                        self.bouncer.shared.leave_connections();
                    }
                    self.end_period();
                }
            }
        }
    }

    fn is_ending(&self) -> bool {
        self.bouncer.state().ending.is_some()
    }

    fn pause(&self) {
        let log = &self.bouncer.log;
        match self.bouncer.pause() {
            Ok(()) => log.info("got SIGUSR1, pausing all activity"),
            Err(_) => log.info("got SIGUSR1, but already paused/suspended"),
        }
    }

    fn resume(&self) {
        let log = &self.bouncer.log;
        if self.is_ending() {
            log.info("got SIGUSR2 while shutting down, ignoring");
            return;
        }
        if self.bouncer.state().standstill == Standstill::None {
            log.info("got SIGUSR2, but not paused/suspended");
            return;
        }
        if let Ok(ended) = self.bouncer.resume() {
            log.info(format_args!("got SIGUSR2, continuing from {ended}"));
        }
    }

    /// Accepts no more over TCP, and lets nobody in; the console stays within reach.
    async fn begin_to_end(&mut self, ending: Ending) {
        let shared = &self.bouncer.shared;
        shared.refuse_logins(true);
        for (key, socket) in self.sockets.tcp.drain(..) {
            self.postgres.unlisten(&key).await;
            drop(socket);
        }
        if ending == Ending::WaitForServers {
            self.bouncer.shared.set_drain_now(Drain::NoMore);
        }
    }

    /// Gives the sockets to the process that takes over, and every client as soon as it is at rest.
    async fn begin_to_hand_over(&mut self) {
        let log = Arc::clone(&self.bouncer.log);
        let successor = self.bouncer.successor.lock();
        let successor = successor.unwrap_or_else(PoisonError::into_inner).take();
        let Some(end) = successor else { return };
        match takeover::give(end, &self.sockets).await {
            Ok(end) => {
                if let Err(error) = self.postgres.meet_successor(end) {
                    log.error(format_args!("no clients are handed over: {error}"));
                }
            }
            Err(error) => {
                // It is gone, and everything is as before.
                log.error(format_args!(
                    "the process that was to take over is gone: {error}"
                ));
                self.bouncer.state().ending = None;
                return;
            }
        }
        // They are the other one's: the name of the Unix socket as well.
        for (key, _) in self.sockets.tcp.drain(..) {
            self.postgres.unlisten(&key).await;
        }
        self.sockets.unix = None;
        self.postgres.drain().await;
    }

    /// Whether what the end waited for is there.
    fn is_over(&self) -> bool {
        let bouncer = &self.bouncer;
        match bouncer.state().ending {
            Some(Ending::WaitForClients) if bouncer.shared.seen_clients().is_empty() => {
                bouncer.log.info("client connections dropped, exiting");
                true
            }
            Some(Ending::WaitForServers) if bouncer.shared.is_quiet(None) => {
                bouncer.log.info("server connections dropped, exiting");
                true
            }
            Some(Ending::HandedOver) if bouncer.shared.seen_clients().is_empty() => {
                let given = bouncer.shared.handover_account().given;
                bouncer
                    .log
                    .info(format_args!("{given} clients were handed over, exiting"));
                true
            }
            Some(Ending::Immediate) => true,
            _ => false,
        }
    }

    /// Ends the period of the statistics when it is over.
    fn end_period(&self) {
        let bouncer = &self.bouncer;
        let now = bouncer.clock.now();
        let counters = bouncer.counters();
        let mut state = bouncer.state();
        let settings = &state.config.ini.settings;
        let period = u64::try_from(settings.stats_period).unwrap_or(60).max(1);
        let log_stats = settings.log_stats;
        if now.since(state.periods.since()) < Duration::from_secs(period) {
            return;
        }
        state.periods.end(now, counters);
        if log_stats {
            bouncer.log.info(state.periods.line());
        }
    }
}
