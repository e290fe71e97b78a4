//! Databases, users and peers: what stands behind their names in the file.
//!
//! Deliberately not here: the general settings that count where these say nothing (`settings.rs`).

use std::time::Duration;

use outgrow_core::settings::Secret;

use super::connection_string::pairs;
use super::problem::ProblemKind;
use super::value::{LoadBalanceHosts, PoolMode, Value, ValueError};

/// Names of databases are shorter than this, in bytes.
const DATABASE_NAME_LIMIT: usize = 64;
/// Names of users are shorter than this, in bytes.
const USER_NAME_LIMIT: usize = 128;

/// A database that clients may connect to. What is `None` is as the general settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    /// Its name at the server; none is the one that the client used.
    pub dbname: Option<String>,
    /// The hosts, of which one is chosen for each connection; none is the Unix socket. A host that
    /// begins with `/` or `@` is the folder of a Unix socket.
    pub hosts: Vec<String>,
    /// The port.
    pub port: u16,
    /// As whom to connect; none is the client's user.
    pub user: Option<String>,
    /// The password of `user`; empty is the one of the file of users.
    pub password: Secret,
    /// As whom passwords are looked up.
    pub auth_user: Option<String>,
    /// Where passwords are looked up.
    pub auth_dbname: Option<String>,
    /// How passwords are looked up.
    pub auth_query: Option<String>,
    /// The client_encoding that is asked of the server.
    pub client_encoding: Option<String>,
    /// The DateStyle that is asked of the server.
    pub datestyle: Option<String>,
    /// The TimeZone that is asked of the server.
    pub timezone: Option<String>,
    /// The application_name that is told to the server.
    pub application_name: Option<String>,
    /// Server connections of a pool; 0 is no limit.
    pub pool_size: Option<u32>,
    /// Server connections that a pool in use keeps.
    pub min_pool_size: Option<u32>,
    /// Server connections beyond `pool_size`.
    pub reserve_pool_size: Option<u32>,
    /// For how long a query waits; zero is forever.
    pub query_wait_timeout: Option<Duration>,
    /// Server connections of all pools.
    pub max_db_connections: Option<u32>,
    /// Clients.
    pub max_db_client_connections: Option<u32>,
    /// The age at which an unused server connection is closed.
    pub server_lifetime: Option<Duration>,
    /// Which of the hosts is next.
    pub load_balance_hosts: LoadBalanceHosts,
    /// For how long a client keeps a server connection.
    pub pool_mode: Option<PoolMode>,
    /// A query that each new server connection runs first.
    pub connect_query: Option<String>,
}

/// What is different for a user. What is `None` is as the database or the general settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// For how long a client keeps a server connection.
    pub pool_mode: Option<PoolMode>,
    /// Server connections of a pool.
    pub pool_size: Option<u32>,
    /// Server connections beyond `pool_size`.
    pub reserve_pool_size: Option<u32>,
    /// Server connections of all pools.
    pub max_user_connections: Option<u32>,
    /// Clients.
    pub max_user_client_connections: Option<u32>,
    /// How long a transaction may take.
    pub transaction_timeout: Option<Duration>,
    /// For how long a transaction may be without a query.
    pub idle_transaction_timeout: Option<Duration>,
    /// How long a query may take.
    pub query_timeout: Option<Duration>,
    /// For how long a query waits; zero is forever.
    pub query_wait_timeout: Option<Duration>,
    /// For how long a client may be without a query.
    pub client_idle_timeout: Option<Duration>,
}

/// Another PgBouncer behind the same address, to which requests to cancel are passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its host; one that begins with `/` or `@` is the folder of a Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Requests at the same time.
    pub pool_size: Option<u32>,
}

impl Database {
    /// Reads what stands behind `name`, which may be `*`.
    pub(super) fn read(name: &str, text: &str) -> Result<Self, ProblemKind> {
        if name == super::CONSOLE {
            return Err(ProblemKind::ReservedName(name.to_owned()));
        }
        if name.len() >= DATABASE_NAME_LIMIT {
            return Err(ProblemKind::LongName(name.to_owned()));
        }
        let mut database = Self {
            port: 5432,
            ..Self::default()
        };
        for (key, value) in pairs(text).map_err(|_| ProblemKind::ConnectionString)? {
            let outcome = database.assign(key, value);
            outcome.map_err(|reason| ProblemKind::entry(key, reason, Self::KEYS))?;
        }
        Ok(database)
    }

    const KEYS: &[&str] = &[
        "dbname",
        "host",
        "port",
        "user",
        "password",
        "auth_user",
        "auth_dbname",
        "auth_query",
        "client_encoding",
        "datestyle",
        "timezone",
        "application_name",
        "pool_size",
        "min_pool_size",
        "reserve_pool_size",
        "reserve_pool",
        "query_wait_timeout",
        "max_db_connections",
        "max_db_client_connections",
        "server_lifetime",
        "load_balance_hosts",
        "pool_mode",
        "connect_query",
    ];

    fn assign(&mut self, key: &str, value: String) -> Result<(), Option<ValueError>> {
        match key {
            "dbname" => self.dbname = Some(value),
            "host" => {
                let hosts = value.split(',').filter(|host| !host.is_empty());
                self.hosts = hosts.map(str::to_owned).collect();
            }
            "port" => self.port = port(&value)?,
            "user" => self.user = Some(value),
            "password" => self.password = Secret::new(value),
            "auth_user" => self.auth_user = Some(value),
            "auth_dbname" => self.auth_dbname = Some(value),
            "auth_query" => self.auth_query = Some(value),
            "client_encoding" => self.client_encoding = Some(value),
            "datestyle" => self.datestyle = Some(value),
            "timezone" => self.timezone = Some(value),
            "application_name" => self.application_name = Some(value),
            "pool_size" => self.pool_size = count(&value)?,
            "min_pool_size" => self.min_pool_size = count(&value)?,
            // The second is what it was called before 1.24.
            "reserve_pool_size" | "reserve_pool" => self.reserve_pool_size = count(&value)?,
            "query_wait_timeout" => self.query_wait_timeout = seconds(&value)?,
            "max_db_connections" => self.max_db_connections = limit(&value)?,
            "max_db_client_connections" => self.max_db_client_connections = limit(&value)?,
            "server_lifetime" => self.server_lifetime = timeout(&value)?,
            "load_balance_hosts" => self.load_balance_hosts = Value::read(&value)?,
            "pool_mode" => self.pool_mode = Some(Value::read(&value)?),
            "connect_query" => self.connect_query = Some(value),
            _ => return Err(None),
        }
        Ok(())
    }
}

impl User {
    /// Reads what stands behind `name`.
    pub(super) fn read(name: &str, text: &str) -> Result<Self, ProblemKind> {
        if name.len() >= USER_NAME_LIMIT {
            return Err(ProblemKind::LongName(name.to_owned()));
        }
        let mut user = Self::default();
        for (key, value) in pairs(text).map_err(|_| ProblemKind::UserSettings)? {
            let outcome = user.assign(key, &value);
            outcome.map_err(|reason| ProblemKind::entry(key, reason, Self::KEYS))?;
        }
        Ok(user)
    }

    const KEYS: &[&str] = &[
        "pool_mode",
        "pool_size",
        "reserve_pool_size",
        "max_user_connections",
        "max_user_client_connections",
        "transaction_timeout",
        "idle_transaction_timeout",
        "query_timeout",
        "query_wait_timeout",
        "client_idle_timeout",
    ];

    fn assign(&mut self, key: &str, value: &str) -> Result<(), Option<ValueError>> {
        match key {
            "pool_mode" => self.pool_mode = Some(Value::read(value)?),
            "pool_size" => self.pool_size = count(value)?,
            "reserve_pool_size" => self.reserve_pool_size = count(value)?,
            "max_user_connections" => self.max_user_connections = limit(value)?,
            "max_user_client_connections" => self.max_user_client_connections = limit(value)?,
            "transaction_timeout" => self.transaction_timeout = timeout(value)?,
            "idle_transaction_timeout" => self.idle_transaction_timeout = timeout(value)?,
            "query_timeout" => self.query_timeout = timeout(value)?,
            "query_wait_timeout" => self.query_wait_timeout = seconds(value)?,
            "client_idle_timeout" => self.client_idle_timeout = timeout(value)?,
            _ => return Err(None),
        }
        Ok(())
    }
}

impl Peer {
    /// Reads what stands behind `name`, which is its id.
    pub(super) fn read(name: &str, text: &str) -> Result<(u16, Self), ProblemKind> {
        let id = name.parse().ok().filter(|id| *id > 0);
        let id = id.ok_or(ProblemKind::PeerId)?;
        let mut host = None;
        let mut peer = Self {
            host: String::new(),
            port: 6432,
            pool_size: None,
        };
        for (key, value) in pairs(text).map_err(|_| ProblemKind::ConnectionString)? {
            let outcome = match key {
                "host" => {
                    host = Some(value);
                    Ok(())
                }
                "port" => port(&value).map(|port| peer.port = port),
                "pool_size" => count(&value).map(|size| peer.pool_size = size),
                _ => Err(None),
            };
            let keys = &["host", "port", "pool_size"];
            outcome.map_err(|reason| ProblemKind::entry(key, reason, keys))?;
        }
        peer.host = host.ok_or(ProblemKind::PeerHost(id))?;
        Ok((id, peer))
    }
}

fn port(value: &str) -> Result<u16, Option<ValueError>> {
    let port = value.parse().ok().filter(|port| *port > 0);
    port.ok_or(Some(ValueError::Port))
}

/// A number, of which a negative one means that nothing is said.
fn count(value: &str) -> Result<Option<u32>, Option<ValueError>> {
    let number: i32 = value.parse().map_err(|_| Some(ValueError::Integer))?;
    Ok(u32::try_from(number).ok())
}

/// A limit, of which zero means that nothing is said as well.
fn limit(value: &str) -> Result<Option<u32>, Option<ValueError>> {
    Ok(count(value)?.filter(|limit| *limit > 0))
}

/// Seconds, of which zero means that nothing is said as well.
fn timeout(value: &str) -> Result<Option<Duration>, Option<ValueError>> {
    Ok(seconds(value)?.filter(|time| !time.is_zero()))
}

/// Seconds, of which a negative number means that nothing is said.
fn seconds(value: &str) -> Result<Option<Duration>, Option<ValueError>> {
    if value.starts_with('-') {
        return count(value).map(|_| None);
    }
    Ok(Some(Duration::read(value)?))
}
