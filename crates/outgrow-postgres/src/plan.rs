//! The plan: what the workers need of the configuration, compiled, and replaced whole at a reload.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::settings::Network;
use outgrow_tls::ServerTls;
use outgrow_upstream::Service;

use crate::encryption::Encryption;
use crate::login::hba::{Hba, Interface};
use crate::login::{self, CertificateDemand, Credential, ServerSettings};
use crate::settings::{Auth, PoolMode};
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
    /// What is the same for all.
    pub house: Arc<House>,
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
    /// The settings that follow the client.
    pub followed: Followed,
    /// Start parameters that are ignored.
    pub ignored: Vec<String>,
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
            followed: Followed::default(),
            ignored: Vec::new(),
            ignores_options: false,
            max_prepared: 0,
            prepared_prefix: String::new(),
            login: Duration::from_secs(60),
            reads: None,
            tls: None,
            requires_tls: false,
            certificate: CertificateDemand::None,
            proxies: None,
            login_notice: String::new(),
        }
    }
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
    /// What is the same for all.
    pub house: Arc<House>,
}

impl Plan {
    /// The database that a client asks for.
    pub fn database(&self, name: &str) -> Option<&Arc<DatabasePlan>> {
        self.databases.get(name).or(self.any.as_ref())
    }

    /// The pool of a database and a client's user.
    pub fn pool(&self, database: &str, user: &str) -> Option<PoolPlan> {
        let plan = Arc::clone(self.database(database)?);
        let server_user = plan.user.clone().unwrap_or_else(|| user.to_owned());
        let known = self.users.get(&server_user);
        let mut limits = plan.limits.clone();
        let mut mode = plan.mode;
        if let Some(known) = known {
            limits.size = known.pool_size.unwrap_or(limits.size);
            mode = known.mode.unwrap_or(mode);
        }
        Some(PoolPlan {
            server_database: plan
                .server_name
                .clone()
                .unwrap_or_else(|| database.to_owned()),
            server_user,
            mode,
            limits,
            house: Arc::clone(&self.house),
            database: plan,
        })
    }
}
