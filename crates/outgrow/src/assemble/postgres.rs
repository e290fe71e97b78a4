//! The Postgres tier of this process: from the configuration to its plan, its listeners, its life.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use outgrow_core::settings::Name;
use outgrow_core::{Clock, Snapshot};
use outgrow_message::Ledger;
use outgrow_postgres::diagnosis::Thresholds;
use outgrow_postgres::diagnosis::server::replicas::Limits as LagLimits;
use outgrow_postgres::events::{Level, Outlet, Topic};
use outgrow_postgres::login::throttle::ThrottleSettings;
use outgrow_postgres::login::{CertificateDemand, Secret, ServerSettings};
use outgrow_postgres::plan::{
    CachePlan, DatabasePlan, Hosts, House, InspectPlan, Limits, NotificationsPlan, Plan, ReadsPlan,
    Times, UserPlan,
};
use outgrow_postgres::seats::Terms;
use outgrow_postgres::settings::{
    CachedStatements, ClientMode, DatabaseSettings, DiagnosisSettings, LoginThrottle,
    NotificationSettings, PostgresSettings, ReadsFrom, ReadsYourWrites, UserSettings,
};
use outgrow_postgres::variables::Followed;
use outgrow_postgres::{ListenerPlan, Postgres, Shared, Slot};
use outgrow_upstream::Registry;

use super::floors::Floors;
use super::listeners::{Sockets, postgres_key};
use super::postgres_files::Files;
use super::postgres_overlap::Overlap;
use super::postgres_tls::Encryptions;
use super::{log, postgres_promotions};
use crate::config::Config;

/// The tier, once it was wanted.
#[derive(Debug, Default)]
pub(super) struct Tier {
    running: Option<Postgres>,
    slots: BTreeMap<String, Slot>,
}

/// The tier's lines, into this process's log: what somebody should look at.
#[derive(Debug)]
struct Lines;

impl Outlet for Lines {
    fn wants(&self, level: Level, topic: Topic) -> bool {
        // What clients are told stands in the records.
        level <= Level::Warning && topic == Topic::Other
    }

    fn put(&self, level: Level, about: &dyn fmt::Display, text: &dyn fmt::Display) {
        let word = if level == Level::Error {
            "error"
        } else {
            "warn"
        };
        log::line(word, &format!("postgres: {about}: {text}"));
    }
}

/// What the tier has of the process.
pub(super) struct Surroundings<'a> {
    pub(super) registry: &'a Registry,
    pub(super) sockets: &'a Sockets,
    pub(super) ledger: &'a Arc<Ledger>,
    pub(super) clock: Clock,
    pub(super) workers: usize,
    /// What unknown users are shown is made from it; the same for all data processes.
    pub(super) secret: [u8; 32],
    /// What joins the tier and the edge.
    pub(super) floors: &'a Floors,
    /// Whether reads follow HTTP requests.
    pub(super) follows_requests: bool,
    /// Whether it is known which requests instances have in flight, for the diagnosis.
    pub(super) tells_requests: bool,
}

impl Tier {
    /// Brings it to what is configured. The registry must know the services already.
    pub(super) async fn apply(
        &mut self,
        config: &Config,
        files: Files,
        encryptions: &Encryptions,
        overlap: &Overlap,
        around: Surroundings<'_>,
    ) -> Result<(), String> {
        let settings = config.postgres.as_ref();
        if self.running.is_none() && settings.is_some() {
            let shared = Shared::new(around.clock, Arc::clone(around.ledger), around.workers);
            shared.set_outlet(Arc::new(Lines));
            overlap.begin(Some(&shared));
            // Before anybody is let in: clients are placed once.
            around.floors.introduce(&shared);
            let started = Postgres::start(shared);
            self.running = Some(started.map_err(|error| format!("no thread: {error}"))?);
        }
        let Some(running) = &self.running else {
            return Ok(());
        };
        let plan = settings.map(|settings| {
            let mut plan = plan(settings, files, encryptions, &around);
            plan.promotions = postgres_promotions::logins(config, &plan, encryptions, &around);
            plan
        });
        running
            .shared
            .plan
            .publish(Arc::new(plan.unwrap_or_default()));
        let wanted: Vec<String> = settings
            .iter()
            .flat_map(|settings| &settings.listen)
            .map(|address| postgres_key(&address.to_string()))
            .collect();
        let mut problems = Vec::new();
        for key in &wanted {
            if self.slots.contains_key(key) {
                continue;
            }
            let copies = match around.sockets.copies(key) {
                Ok(copies) => copies,
                Err(error) => {
                    problems.push(format!("{key}: {error}"));
                    continue;
                }
            };
            let slot = Arc::new(Snapshot::new(ListenerPlan::default()));
            running.listen(key, copies, &slot).await;
            self.slots.insert(key.clone(), slot);
        }
        let gone: Vec<String> = self.slots.keys().cloned().collect();
        for key in gone.into_iter().filter(|key| !wanted.contains(key)) {
            running.unlisten(&key).await;
            self.slots.remove(&key);
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(problems.join("\n")),
        }
    }

    /// Whether its workers accept from the sockets of this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.slots.contains_key(key)
    }

    /// What can be told of it, once it was wanted.
    pub(super) fn shared(&self) -> Option<Arc<Shared>> {
        let running = self.running.as_ref()?;
        Some(Arc::clone(&running.shared))
    }

    /// Clients that are connected.
    pub(super) fn clients(&self) -> usize {
        self.running
            .as_ref()
            .map_or(0, |running| running.shared.clients())
    }

    /// Whether its workers work with the newest plan.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.running.as_ref().is_none_or(Postgres::is_acknowledged)
    }

    /// Accepts no more; clients leave as soon as they are in no transaction.
    pub(super) async fn drain(&self) {
        if let Some(running) = &self.running {
            running.drain().await;
        }
    }

    /// Another data process is at the other end of a passage: the next one, or one that drains.
    /// Where there is no tier, the other one sees its end.
    pub(super) fn meet(&self, descriptors: Vec<OwnedFd>, is_successor: bool) {
        let end = descriptors.into_iter().next();
        let (Some(end), Some(running)) = (end, &self.running) else {
            return;
        };
        let met = match is_successor {
            true => running.meet_successor(end),
            false => running.meet_leaving(end),
        };
        if let Err(error) = met {
            log::warn(&format!(
                "postgres: clients cannot change their data process: {error}"
            ));
        }
    }

    /// Ends it with all its clients.
    pub(super) async fn end(self) {
        if let Some(running) = self.running {
            running.end().await;
        }
    }
}

fn plan(
    settings: &PostgresSettings,
    files: Files,
    encryptions: &Encryptions,
    around: &Surroundings<'_>,
) -> Plan {
    let registry = around.registry;
    let databases = settings.database.iter().filter_map(|(name, database)| {
        let mut plan = database_plan(name.as_str(), database, settings, registry)?;
        plan.credential = files.databases.get(name.as_str()).cloned();
        plan.encryption = encryptions.of_database(name.as_str());
        let encryption = Arc::clone(&plan.encryption);
        plan.service.encrypt_checks(encryption);
        Some((name.as_str().to_owned(), Arc::new(plan)))
    });
    let databases: HashMap<_, _> = databases.collect();
    let any = if databases.is_empty() {
        let plan = database_plan("", &DatabaseSettings::default(), settings, registry);
        plan.map(|plan| {
            let encryption = Arc::clone(&encryptions.servers);
            plan.service.encrypt_checks(encryption);
            Arc::new(DatabasePlan {
                encryption: Arc::clone(&encryptions.servers),
                ..plan
            })
        })
    } else {
        None
    };
    let users = files.users.iter().map(|(name, secret)| {
        let own = settings
            .user
            .iter()
            .find(|(known, _)| known.as_str() == name);
        let plan = user_plan(own.map(|(_, user)| user), secret.clone());
        (name.clone(), Arc::new(plan))
    });
    Plan {
        databases,
        any,
        users: users.collect(),
        promotions: HashMap::new(),
        house: Arc::new(House {
            hba: files.hba,
            system_users: files.system_users,
            login_settings: ServerSettings::new(around.secret),
            tls: encryptions.clients.clone(),
            tells_requests: around.tells_requests,
            ..house(settings, around.follows_requests)
        }),
    }
}

fn thresholds(settings: &DiagnosisSettings) -> Thresholds {
    Thresholds {
        statements: settings.statements as usize,
        slow_statement: settings.slow_statement,
        long_transaction: settings.long_transaction,
        idle_transaction: settings.idle_transaction,
        pool_wait: settings.pool_wait,
        repeats: settings.repeats,
    }
}

fn house(settings: &PostgresSettings, follows_requests: bool) -> House {
    House {
        auth: Some(settings.auth),
        auth_user: settings.auth_user.clone(),
        auth_query: settings.auth_query.clone(),
        max_clients: settings.max_clients,
        seats: Terms {
            most: settings.max_server_connections,
            edges: settings.edges,
            learns: true,
        },
        lanes: settings.lanes,
        max_address_clients: settings.max_clients_per_address,
        max_newcomers: settings.max_logins,
        throttle: throttle(&settings.throttle),
        followed: Followed::default(),
        ignored: settings.ignore_startup_parameters.clone(),
        ignores_options: false,
        max_prepared: settings.max_prepared_statements as usize,
        prepared_prefix: "outgrow_".to_owned(),
        reads: (settings.reads == ReadsFrom::Replicas).then_some(ReadsPlan {
            max_lag: settings.replicas.max_lag,
            max_lag_bytes: settings.replicas.max_lag_bytes.0,
            wait: settings.replicas.wait,
            retry_within: settings.replicas.retry_within,
            follows_requests,
        }),
        inspect: settings.diagnosis.servers.then_some(InspectPlan {
            interval: settings.diagnosis.interval,
            explain: settings
                .diagnosis
                .explain
                .then_some(settings.diagnosis.explain_interval),
            lock_wait: settings.diagnosis.lock_wait,
            long_transaction: settings.diagnosis.long_transaction,
            lag: LagLimits {
                lag: settings.replicas.max_lag,
                lag_bytes: settings.replicas.max_lag_bytes.0,
            },
        }),
        notifications: notifications(&settings.notifications),
        cache: settings.cache.as_ref().map(|cache| CachePlan {
            keeps_all: cache.statements == CachedStatements::Proven,
            ttl: cache.ttl,
            size: cache.size.0,
            largest: usize::try_from(cache.max_result.0).unwrap_or(usize::MAX),
        }),
        login: settings.timeouts.login,
        requires_tls: settings
            .tls
            .as_ref()
            .is_some_and(|tls| tls.mode.wants_tls()),
        certificate: certificate(settings),
        proxies: settings
            .proxy_protocol
            .then(|| settings.trusted_proxies.clone()),
        login_notice: String::new(),
        diagnosis: Some(thresholds(&settings.diagnosis)),
        ..House::default()
    }
}

fn notifications(settings: &NotificationSettings) -> NotificationsPlan {
    NotificationsPlan {
        is_shared: settings.shared,
        backlog: usize::try_from(settings.backlog.0).unwrap_or(usize::MAX),
        most_channels: settings.max_channels,
        most_of_client: settings.max_channels_per_client,
    }
}

pub(super) fn database_plan(
    name: &str,
    database: &DatabaseSettings,
    settings: &PostgresSettings,
    registry: &Registry,
) -> Option<DatabasePlan> {
    let service = database.service.as_ref().or(settings.service.as_ref());
    let service = service.map(Name::as_str)?;
    let timeouts = &settings.timeouts;
    Some(DatabasePlan {
        name: name.to_owned(),
        service: registry.service(service)?,
        server_name: database.name.clone(),
        user: database.user.clone(),
        credential: None,
        mode: database.pool_mode.unwrap_or(settings.pool_mode),
        limits: Limits {
            size: database.pool_size.unwrap_or(settings.pool_size),
            minimum: settings.min_pool_size,
            reserve: settings.reserve_pool_size,
            reserve_after: settings.reserve_pool_timeout,
            connect: timeouts.connect,
            connect_retry: timeouts.connect_retry,
            wait: timeouts.wait,
            query: timeouts.query,
            idle_transaction: timeouts.idle_transaction,
            transaction: timeouts.transaction,
            client_idle: timeouts.client_idle,
            server_idle: timeouts.server_idle,
            server_lifetime: timeouts.server_lifetime,
            unacknowledged: timeouts.unacknowledged,
            reset_query: settings.reset_query.clone(),
            resets_always: false,
            round_robin: false,
            used_once: false,
        },
        max_clients: database.max_clients,
        max_servers: database.max_server_connections,
        connect_query: database.connect_query.clone(),
        parameters: Vec::new(),
        encryption: Arc::default(),
        hosts: Hosts::ByRole,
        auth_user: None,
        auth_database: None,
        auth_query: None,
        is_disabled: false,
    })
}

fn throttle(settings: &LoginThrottle) -> Option<ThrottleSettings> {
    (!settings.first.is_zero()).then(|| ThrottleSettings {
        free: settings.free,
        free_of_address: settings.free_of_address,
        first: settings.first,
        most: settings.most.max(settings.first),
        patience: settings.patience,
        forget: settings.forget,
        ..ThrottleSettings::default()
    })
}

fn certificate(settings: &PostgresSettings) -> CertificateDemand {
    match settings.tls.as_ref().map(|tls| tls.mode) {
        Some(ClientMode::VerifyFull) => CertificateDemand::OfUser,
        Some(ClientMode::VerifyCa) => CertificateDemand::Trusted,
        _ => CertificateDemand::None,
    }
}

fn user_plan(user: Option<&UserSettings>, secret: Option<Secret>) -> UserPlan {
    let Some(user) = user else {
        return UserPlan {
            secret,
            ..UserPlan::default()
        };
    };
    UserPlan {
        secret,
        mode: user.pool_mode,
        pool_size: user.pool_size,
        max_clients: user.max_clients,
        max_servers: user.max_server_connections,
        reserve: None,
        is_only_limits: false,
        times: Times::default(),
        follows_requests: (user.reads_your_writes).map(|of| of == ReadsYourWrites::Request),
    }
}
