//! The state of the process, and what orders do to it. Called on the workers' threads (console) and
//! by the main loop (signals); nothing here waits for anybody.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outgrow_core::Clock;
use outgrow_postgres::Shared;
use outgrow_postgres::pgbouncer::console::ConsoleError;
use outgrow_postgres::pgbouncer::console::stats::Counters;
use outgrow_postgres::pgbouncer::ini::{CONSOLE, SetError};
use outgrow_upstream::Registry;
use tokio::sync::mpsc;

use super::config::{Broken, Config};
use super::log::Log;
use super::map::{self, Surroundings};
use super::stats::{self, Periods};
use super::tls::Tls;
use super::{process, takeover};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// At once.
    Immediate,
    /// When the last client has left.
    WaitForClients,
    /// When no connection is in use.
    WaitForServers,
    /// When the process that takes over has all clients, or they have left.
    HandedOver,
}

/// Whether everything runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standstill {
    /// It does.
    #[default]
    None,
    /// `PAUSE`.
    Paused,
    /// `SUSPEND`, by this client.
    Suspended(u64),
}

/// What changes.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) config: Config,
    pub(super) disabled: BTreeSet<String>,
    pub(super) standstill: Standstill,
    pub(super) ending: Option<Ending>,
    pub(super) periods: Periods,
}

/// The process.
#[derive(Debug)]
pub(super) struct Bouncer {
    pub(super) shared: Arc<Shared>,
    pub(super) log: Arc<Log>,
    pub(super) clock: Clock,
    registry: Arc<Registry>,
    path: PathBuf,
    verbose: u8,
    /// What unknown users are shown is made from it.
    secret: [u8; 32],
    endings: mpsc::UnboundedSender<Ending>,
    /// The way to the process that takes over, until it is used.
    pub(super) successor: Mutex<Option<OwnedFd>>,
    state: Mutex<State>,
    /// Logins and orders on the console.
    logins: AtomicU64,
    orders: AtomicU64,
    /// The system's user that we are.
    pub(super) system_user: u32,
    version: String,
}

/// What a [`Bouncer`] is made of.
pub(super) struct Founding {
    pub(super) shared: Arc<Shared>,
    pub(super) registry: Arc<Registry>,
    pub(super) log: Arc<Log>,
    pub(super) clock: Clock,
    pub(super) path: PathBuf,
    pub(super) verbose: u8,
    pub(super) config: Config,
    pub(super) endings: mpsc::UnboundedSender<Ending>,
}

impl Bouncer {
    /// With a configuration, which is put into force.
    pub(super) fn new(founding: Founding) -> Arc<Self> {
        let mut secret = [0; 32];
        outgrow_core::random::system_bytes(&mut secret);
        let bouncer = Arc::new(Self {
            shared: founding.shared,
            registry: founding.registry,
            log: founding.log,
            clock: founding.clock,
            path: founding.path,
            verbose: founding.verbose,
            secret,
            endings: founding.endings,
            successor: Mutex::default(),
            state: Mutex::new(State {
                config: founding.config,
                ..State::default()
            }),
            logins: AtomicU64::new(0),
            orders: AtomicU64::new(0),
            system_user: rustix::process::getuid().as_raw(),
            version: super::version(),
        });
        bouncer.publish(&bouncer.state());
        bouncer
    }

    /// What changes.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `SHOW VERSION` says.
    pub(super) fn version_text(&self) -> &str {
        &self.version
    }

    /// Puts the state into force.
    fn publish(&self, state: &State) {
        let ini = &state.config.ini;
        self.registry.apply(&map::services(ini), self.clock.now());
        let around = Surroundings {
            tls: &state.config.tls,
            disabled: &state.disabled,
            // Without it nobody at a Unix socket has a name.
            system_users: std::fs::read_to_string("/etc/passwd").unwrap_or_default(),
            secret: self.secret,
            service: &|name| self.registry.service(name),
        };
        let plan = map::plan(ini, &state.config.files, &around);
        self.shared.plan.publish(Arc::new(plan));
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    /// It is broken, which the log says: nothing has changed then.
    pub(super) fn reload(&self) -> Result<(), Broken> {
        let mut state = self.state();
        let running = state.config.ini.settings.clone();
        let path = running
            .conffile
            .clone()
            .map_or(self.path.clone(), PathBuf::from);
        let config = Config::read(&path, Some(&running), &self.log)?;
        for name in state.config.ini.databases.keys() {
            if !config.ini.databases.contains_key(name) {
                self.log.info(format_args!(
                    "dropping database '{name}' as it does not exist anymore or inactive \
                     auto-database"
                ));
            }
        }
        if let Err(error) = self.log.apply(&config.ini.settings, self.verbose, true) {
            let name = &config.ini.settings.logfile;
            self.log
                .error(format_args!("could not open logfile {name}: {error}"));
        }
        state.config = config;
        self.publish(&state);
        Ok(())
    }

    /// Changes a setting; false when it is one of TLS that cannot be applied, so that TLS stays as it
    /// was.
    pub(super) fn set(&self, key: &str, value: &str) -> Result<bool, ConsoleError> {
        let mut state = self.state();
        let mut settings = state.config.ini.settings.clone();
        if let Err(error) = settings.set(key, value) {
            match error {
                SetError::Unknown => self.log.error(format_args!("unknown parameter: {key}")),
                SetError::Value(reason) => self.log.error(format_args!(
                    "invalid value \"{value}\" for parameter {key} in configuration: {reason}"
                )),
            }
            return Err(ConsoleError::Set);
        }
        let names_file = matches!(
            key,
            "auth_file" | "auth_hba_file" | "auth_ident_file" | "auth_type"
        );
        if names_file {
            state.config.files = super::files::Files::read(&settings, &self.log);
        }
        let mut is_applied = true;
        if key.contains("_tls_") || key.contains("_tls13_") {
            match Tls::read(&settings) {
                Ok(tls) => state.config.tls = tls,
                Err(problem) => {
                    self.log.error(problem);
                    is_applied = false;
                }
            }
        }
        if let Err(error) = self.log.apply(&settings, self.verbose, false) {
            let name = &settings.logfile;
            self.log
                .error(format_args!("could not open logfile {name}: {error}"));
        }
        state.config.ini.settings = settings;
        self.publish(&state);
        Ok(is_applied)
    }

    /// Whether a database is configured, or one like it.
    pub(super) fn has_database(&self, name: &str) -> bool {
        name == CONSOLE || self.shared.plan.load().database(name).is_some()
    }

    /// Lets no new clients in to a database, or lets them in again.
    pub(super) fn disable(&self, name: &str, is_disabled: bool) {
        let mut state = self.state();
        if is_disabled {
            state.disabled.insert(name.to_owned());
        } else {
            state.disabled.remove(name);
        }
        self.publish(&state);
    }

    /// Pauses everything.
    pub(super) fn pause(&self) -> Result<(), ConsoleError> {
        let mut state = self.state();
        if state.standstill != Standstill::None {
            return Err(ConsoleError::AlreadyPaused);
        }
        state.standstill = Standstill::Paused;
        self.shared.pause(None);
        Ok(())
    }

    /// Goes on with everything. The word says what was ended.
    pub(super) fn resume(&self) -> Result<&'static str, ConsoleError> {
        let mut state = self.state();
        if state.ending.is_some() {
            return Err(ConsoleError::ShuttingDown);
        }
        let ended = match state.standstill {
            Standstill::None if self.shared.paused_databases().is_empty() => {
                return Err(ConsoleError::NotPaused);
            }
            Standstill::Suspended(_) => "SUSPEND",
            Standstill::None | Standstill::Paused => "PAUSE",
        };
        state.standstill = Standstill::None;
        self.shared.resume(None);
        Ok(ended)
    }

    /// Stops everything where it is.
    pub(super) fn suspend(&self, client: u64) -> Result<(), ConsoleError> {
        let mut state = self.state();
        if state.standstill != Standstill::None {
            return Err(ConsoleError::AlreadyPaused);
        }
        if !self.shared.paused_databases().is_empty() {
            return Err(ConsoleError::PausedDatabases);
        }
        state.standstill = Standstill::Suspended(client);
        self.shared.pause(None);
        Ok(())
    }

    /// Ends the process; what was asked for twice is done at once.
    pub(super) fn end(&self, ending: Ending) {
        self.state().ending = Some(ending);
        let _ = self.endings.send(ending);
    }

    /// Has the process of this number take over the sockets and clients.
    pub(super) fn hand_over(&self, pid: u32) -> Result<(), ConsoleError> {
        let mut state = self.state();
        if state.ending.is_some() {
            return Err(ConsoleError::ShuttingDown);
        }
        let end = takeover::reach(&state.config.ini.settings, pid).map_err(|problem| {
            self.log
                .error(format_args!("process {pid} cannot take over: {problem}"));
            ConsoleError::HandOver
        })?;
        state.ending = Some(Ending::HandedOver);
        // The other one writes its own there.
        process::forget(&state.config.ini.settings.pidfile);
        drop(state);
        *self
            .successor
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(end);
        let _ = self.endings.send(Ending::HandedOver);
        Ok(())
    }

    /// Counts a login to the console, or an order.
    pub(super) fn count(&self, is_login: bool) {
        let counter = if is_login { &self.logins } else { &self.orders };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters of all databases, the console's among them.
    pub(super) fn counters(&self) -> stats::All {
        let mut all = stats::by_database(&self.shared.pool_views());
        let orders = self.orders.load(Ordering::Relaxed);
        let own = Counters {
            xact_count: orders,
            query_count: orders,
            client_login_count: self.logins.load(Ordering::Relaxed),
            ..Counters::default()
        };
        all.insert(CONSOLE.to_owned(), own);
        all
    }
}
