//! The plan: what the workers need of the configuration, compiled, and replaced whole at a reload.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::settings::{Address, Network};
use outgrow_tls::ServerTls;
use outgrow_upstream::Service;

use crate::diagnosis::Thresholds;
use crate::encryption::Encryption;
pub use crate::inspect::InspectPlan;
use crate::login::hba::{Hba, Interface};
use crate::login::throttle::ThrottleSettings;
use crate::login::{self, CertificateDemand, Credential, ServerSettings};
use crate::seats::Terms;
use crate::settings::{Auth, LaneCount, PoolMode};
use crate::variables::Followed;

/// Everything that clients are served by.
#[derive(Debug, Default)]
pub struct Plan {
    /// The databases by the name that clients use.
    pub databases: HashMap<String, Arc<DatabasePlan>>,
    /// What a database is that is not among them.
    pub any: Option<Arc<DatabasePlan>>,
    /// The users by name.
    pub users: HashMap<String, Arc<UserPlan>>,
    /// Who may promote replicas, by service.
    pub promotions: HashMap<String, Arc<PromotionLogin>>,
    /// What is the same for all.
    pub house: Arc<House>,
}

/// How servers are logged in to by who watches them and promotes replicas.
#[derive(Clone, Debug)]
pub struct PromotionLogin {
    /// The servers, the database and the user.
    pub plan: Arc<PoolPlan>,
    /// How that logs in.
    pub credential: Credential,
}

/// What is the same for all clients.
#[derive(Debug)]
pub struct House {
    /// How clients prove who they are.
    pub auth: Option<Auth>,
    /// Whether [`Auth::Any`] is for databases with a user of their own only, as in PgBouncer.
    pub any_needs_user: bool,
    /// Rules that say so for each client instead.
    pub hba: Option<Hba>,
    /// This machine's addresses, for rules that speak of them.
    pub interfaces: Vec<Interface>,
    /// The text of `/etc/passwd`, for clients of Unix sockets.
    pub system_users: String,
    /// What holds for all logins.
    pub login_settings: ServerSettings,
    /// The user who asks servers about unknown users.
    pub auth_user: Option<String>,
    /// In which database; none: in the client's.
    pub auth_database: Option<String>,
    /// How.
    pub auth_query: String,
    /// Most clients.
    pub max_clients: u32,
    /// Most clients of the console who may not do everything; 0 is no limit.
    pub max_console_clients: u32,
    /// Most clients of a user of whom nothing else is said; 0 is no limit.
    pub max_user_clients: u32,
    /// Most connections to servers of such a user; 0 is no limit.
    pub max_user_servers: u32,
    /// Most connections to each server.
    pub seats: Terms,
    /// Over how many workers a pool is spread.
    pub lanes: LaneCount,
    /// Most clients from one address; 0 is no limit.
    pub max_address_clients: u32,
    /// Most connections whose clients have not logged in yet; 0 is no limit.
    pub max_newcomers: u32,
    /// How those are slowed down who fail to log in; none: not at all.
    pub throttle: Option<ThrottleSettings>,
    /// The settings that follow the client.
    pub followed: Followed,
    /// Start parameters that are ignored.
    pub ignored: Vec<String>,
    /// Whether a client's address is added to what its application calls itself.
    pub adds_host: bool,
    /// Whether unknown start parameters in `options` are ignored.
    pub ignores_options: bool,
    /// Prepared statements on each server connection, 0: none are followed.
    pub max_prepared: usize,
    /// How the names of prepared statements on servers begin.
    pub prepared_prefix: String,
    /// How long clients may take to log in.
    pub login: Duration,
    /// Which reads go to replicas; none: nothing does.
    pub reads: Option<ReadsPlan>,
    /// What servers are asked for the diagnosis; none: nothing.
    pub inspect: Option<InspectPlan>,
    /// Which answers are kept in memory; none: no answers are.
    pub cache: Option<CachePlan>,
    /// TLS for clients.
    pub tls: Option<Arc<ServerTls>>,
    /// Whether clients over TCP must use TLS.
    pub requires_tls: bool,
    /// What the certificates of clients over TCP must be at least, whatever else is demanded.
    pub certificate: CertificateDemand,
    /// The proxies that say whose connection they pass on (the PROXY protocol). With it everybody
    /// over TCP must be one of them and say so; none: nobody does.
    pub proxies: Option<Vec<Network>>,
    /// What every client is told after its login.
    pub login_notice: String,
    /// In whose words clients are told of refusals.
    pub manner: Manner,
    /// After how long a client that waits for a connection is told so. Zero: never.
    pub wait_notice: Duration,
    /// After how long without use a connection is checked before it is lent.
    pub check_after: Duration,
    /// The statement of that check, which may be empty; none: nothing is checked.
    pub check_query: Option<String>,
    /// Whether a session's connection that is to be replaced is closed as soon as it is at rest.
    pub closes_fast: bool,
    /// Whether clients that say simple queries are sent away.
    pub refuses_simple_queries: bool,
    /// How long a pool is kept without clients and connections. Zero: for ever.
    pub pool_kept: Duration,
    /// How long a database is kept that was made of [`Plan::any`], without clients. Zero: for ever.
    pub any_kept: Duration,
    /// Whether a pool makes one connection after the other.
    pub connects_singly: bool,
    /// The number among its peers that this process puts into what clients cancel with; 0: none.
    pub peer: u16,
    /// Where the others are.
    pub peers: BTreeMap<u16, Address>,
    /// How long a cancel request may take, the wait for a connection included.
    pub cancel: Duration,
    /// From when on something is worth telling; none: nothing is watched.
    pub diagnosis: Option<Thresholds>,
    /// Whether it is told which HTTP requests of its instance a statement is part of.
    pub tells_requests: bool,
    /// How clients listen for notifications.
    pub notifications: NotificationsPlan,
}

/// How clients listen for notifications, where connections are not lent for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotificationsPlan {
    /// Whether one connection listens for all clients of a pool; else each that listens keeps its own.
    pub is_shared: bool,
    /// How many bytes may wait for a client, before it is ended.
    pub backlog: usize,
    /// Most channels of a pool. Clients that want more keep a connection of their own.
    pub most_channels: u32,
    /// Most channels of a client, likewise.
    pub most_of_client: u32,
}

impl Default for NotificationsPlan {
    fn default() -> Self {
        Self {
            is_shared: true,
            backlog: 1 << 20,
            most_channels: 10_000,
            most_of_client: 1_000,
        }
    }
}

/// In whose words clients are told of refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// With Postgres' codes, and its words where it has some.
    #[default]
    Postgres,
    /// As PgBouncer does: with one code, and words that say less.
    PgBouncer,
}

impl Default for House {
    fn default() -> Self {
        Self {
            auth: None,
            any_needs_user: false,
            hba: None,
            interfaces: Vec::new(),
            system_users: String::new(),
            login_settings: ServerSettings::new([0; 32]),
            auth_user: None,
            auth_database: None,
            auth_query: String::new(),
            max_clients: 0,
            max_console_clients: 0,
            max_user_clients: 0,
            max_user_servers: 0,
            seats: Terms::default(),
            lanes: LaneCount::Count(1),
            max_address_clients: 0,
            max_newcomers: 0,
            throttle: None,
            followed: Followed::default(),
            ignored: Vec::new(),
            adds_host: false,
            ignores_options: false,
            max_prepared: 0,
            prepared_prefix: String::new(),
            login: Duration::from_secs(60),
            reads: None,
            cache: None,
            inspect: None,
            tls: None,
            requires_tls: false,
            certificate: CertificateDemand::None,
            proxies: None,
            login_notice: String::new(),
            manner: Manner::default(),
            wait_notice: Duration::ZERO,
            check_after: Duration::ZERO,
            check_query: None,
            closes_fast: false,
            refuses_simple_queries: false,
            pool_kept: Duration::from_secs(60),
            any_kept: Duration::from_secs(60),
            connects_singly: false,
            peer: 0,
            peers: BTreeMap::new(),
            cancel: Duration::from_secs(10),
            diagnosis: None,
            tells_requests: false,
            notifications: NotificationsPlan::default(),
        }
    }
}

/// Which answers are kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePlan {
    /// Whether all that may be are, instead of those that are marked.
    pub keeps_all: bool,
    /// For how long, those that do not say themselves.
    pub ttl: Duration,
    /// Bytes of all of them.
    pub size: u64,
    /// Bytes of the largest.
    pub largest: usize,
}

/// Which replicas reads may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadsPlan {
    /// How old the last transaction may be that a replica has replayed while there are newer ones; zero is no limit.
    pub max_lag: Duration,
    /// How many bytes of the log a replica may be behind; zero is no limit.
    pub max_lag_bytes: u64,
    /// How long a read waits for a replica that has what its client wrote, before it goes to the
    /// primary.
    pub wait: Duration,
    /// For how long after it was asked first a read is asked again that its replica could not answer;
    /// zero: never.
    pub retry_within: Duration,
    /// Whether reads also see what the users wrote whose HTTP requests the client's instance is
    /// serving, and what the instance wrote over other connections.
    pub follows_requests: bool,
}

/// A database.
#[derive(Clone, Debug)]
pub struct DatabasePlan {
    /// The name that clients use; empty for [`Plan::any`].
    pub name: String,
    /// Its servers.
    pub service: Arc<Service>,
    /// Its name on the server; none is the client's.
    pub server_name: Option<String>,
    /// The user of all its connections.
    pub user: Option<String>,
    /// How that user logs in.
    pub credential: Option<Credential>,
    /// How its connections are lent.
    pub mode: PoolMode,
    /// Limits and times of its pools.
    pub limits: Limits,
    /// Most clients; 0 is no limit.
    pub max_clients: u32,
    /// Most connections to the server of all its pools; 0 is no limit.
    pub max_servers: u32,
    /// Run on each new connection.
    pub connect_query: String,
    /// Start parameters of its connections.
    pub parameters: Vec<(String, String)>,
    /// How its servers are reached.
    pub encryption: Arc<Encryption>,
    /// Which of its servers the next connection is made to.
    pub hosts: Hosts,
    /// Who asks about its unknown users; none: as in [`House`].
    pub auth_user: Option<String>,
    /// In which database, likewise.
    pub auth_database: Option<String>,
    /// How, likewise.
    pub auth_query: Option<String>,
    /// Whether no clients are taken.
    pub is_disabled: bool,
}

/// Which of several servers the next connection is made to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hosts {
    /// The primary, which is found out.
    #[default]
    ByRole,
    /// Each in turn: nobody asks what they are.
    InTurn,
    /// The same one until a connection to it fails.
    Sticky,
}

/// A user.
#[derive(Clone, Debug, Default)]
pub struct UserPlan {
    /// The secret that is stored of it; none: no login with a password.
    pub secret: Option<login::Secret>,
    /// How its connections are lent.
    pub mode: Option<PoolMode>,
    /// The size of its pools.
    pub pool_size: Option<u32>,
    /// Most clients; 0 is no limit.
    pub max_clients: u32,
    /// Most connections to the server of all its pools; 0 is no limit.
    pub max_servers: u32,
    /// Further connections of its pools for those who wait for long.
    pub reserve: Option<u32>,
    /// Whether its reads follow requests; none: as in [`ReadsPlan`].
    pub follows_requests: Option<bool>,
    /// Whether it is known for its limits only: nobody logs in as it unless a server knows it.
    pub is_only_limits: bool,
    /// Times of its own.
    pub times: Times,
}

/// Times that a user may have of its own; those of zero are for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// How long it waits.
    pub wait: Option<Duration>,
    /// How long a query of it may run.
    pub query: Option<Duration>,
    /// How long it may be silent in a transaction.
    pub idle_transaction: Option<Duration>,
    /// How long a transaction of it may take.
    pub transaction: Option<Duration>,
    /// How long it may be silent.
    pub client_idle: Option<Duration>,
}

impl Times {
    /// What holds for a client: these, and its pool's where there is none.
    pub(crate) fn or(self, pool: &Limits) -> ClientTimes {
        ClientTimes {
            wait: self.wait.unwrap_or(pool.wait),
            query: self.query.unwrap_or(pool.query),
            idle_transaction: self.idle_transaction.unwrap_or(pool.idle_transaction),
            transaction: self.transaction.unwrap_or(pool.transaction),
            client_idle: self.client_idle.unwrap_or(pool.client_idle),
        }
    }
}

/// Times that hold for a client; those of zero are for ever. As in [`Times`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientTimes {
    pub(crate) wait: Duration,
    pub(crate) query: Duration,
    pub(crate) idle_transaction: Duration,
    pub(crate) transaction: Duration,
    pub(crate) client_idle: Duration,
}

/// Limits and times of a pool. Times of zero are for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub size: u32,
    /// Connections that are kept.
    pub minimum: u32,
    /// Further ones for those who wait for long.
    pub reserve: u32,
    /// How long that is.
    pub reserve_after: Duration,
    /// Until a connection stands and has logged in.
    pub connect: Duration,
    /// Until the next attempt after a failed one.
    pub connect_retry: Duration,
    /// How long clients wait.
    pub wait: Duration,
    /// How long a query may run.
    pub query: Duration,
    /// How long a client may be silent in a transaction.
    pub idle_transaction: Duration,
    /// How long a transaction may take.
    pub transaction: Duration,
    /// How long a client may be silent.
    pub client_idle: Duration,
    /// How long a connection is kept without work.
    pub server_idle: Duration,
    /// How old a connection may get.
    pub server_lifetime: Duration,
    /// Whether a connection is lent once only.
    pub used_once: bool,
    /// How long bytes may stay without acknowledgement.
    pub unacknowledged: Duration,
    /// What makes a connection like new; empty: nothing is needed.
    pub reset_query: String,
    /// Whether that is done in all modes.
    pub resets_always: bool,
    /// Whether the connection that is idle for longest is lent first.
    pub round_robin: bool,
}

/// A pool, as it should be.
#[derive(Clone, Debug)]
pub struct PoolPlan {
    /// The database.
    pub database: Arc<DatabasePlan>,
    /// Its name on the server.
    pub server_database: String,
    /// The user on the server.
    pub server_user: String,
    /// How connections are lent.
    pub mode: PoolMode,
    /// Limits and times.
    pub limits: Limits,
    /// Whether reads of its clients follow HTTP requests.
    pub follows_requests: bool,
    /// What is the same for all.
    pub house: Arc<House>,
}

impl Plan {
    /// The database that a client asks for.
    pub fn database(&self, name: &str) -> Option<&Arc<DatabasePlan>> {
        self.databases.get(name).or(self.any.as_ref())
    }

    /// The services of the databases that are `of` some kind, each once, by name.
    pub(crate) fn services(&self, of: impl Fn(&DatabasePlan) -> bool) -> Vec<&Arc<Service>> {
        let databases = self.databases.values().chain(&self.any);
        let databases = databases.filter(|database| of(database));
        let mut services: Vec<_> = databases.map(|database| &database.service).collect();
        services.sort_by_key(|service| service.name());
        services.dedup_by(|one, other| Arc::ptr_eq(one, other));
        services
    }

    /// The pool of a database and a client's user.
    pub fn pool(&self, database: &str, user: &str) -> Option<PoolPlan> {
        let plan = Arc::clone(self.database(database)?);
        let server_user = plan.user.clone().unwrap_or_else(|| user.to_owned());
        let known = self.users.get(&server_user);
        let mut limits = plan.limits.clone();
        let mut mode = plan.mode;
        let mut follows_requests =
            (self.house.reads.as_ref()).is_some_and(|reads| reads.follows_requests);
        if let Some(known) = known {
            limits.size = known.pool_size.unwrap_or(limits.size);
            limits.reserve = known.reserve.unwrap_or(limits.reserve);
            mode = known.mode.unwrap_or(mode);
            follows_requests &= known.follows_requests.unwrap_or(true);
        }
        Some(PoolPlan {
            server_database: plan
                .server_name
                .clone()
                .unwrap_or_else(|| database.to_owned()),
            server_user,
            mode,
            limits,
            follows_requests,
            house: Arc::clone(&self.house),
            database: plan,
        })
    }
}
