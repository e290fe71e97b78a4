//! `[postgres]`: where clients connect, who they are, how connections to servers are lent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outgrow_core::settings::{Address, ByteSize, Name, Network, Secret, TableReader};

mod cache;
mod diagnosis;
mod lanes;
mod promote;
mod replicas;
mod tls;

pub use cache::{CacheSettings, CachedStatements};
pub use diagnosis::DiagnosisSettings;
pub use lanes::LaneCount;
pub use promote::{PromotionMode, PromotionSettings};
pub use replicas::{ReadsYourWrites, ReplicaSettings, TicketSettings};
pub use tls::{
    BindingMode, ClientMode, PostgresCertificate, PostgresTls, ServerMode, ServerTlsSettings,
};

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(366 * 86_400);

outgrow_core::settings! {
    /// A pool of connections to Postgres. Clients connect to it as to the server itself, with the
    /// same drivers; a few connections to the server do the work of many clients.
    #[check = check_postgres]
    pub struct PostgresSettings {
        /// Where clients connect: `host:port`, or `unix:/directory/.s.PGSQL.5432`. Several are a
        /// list.
        pub listen: Vec<Address> = vec![Address::tcp("127.0.0.1", 6432)], required = true;
        /// TLS for clients. Left out: clients that ask for it are told that there is none.
        pub tls: Option<PostgresTls> = None;
        /// Whether every connection over TCP comes from a proxy that says whose connection it
        /// passes on: the PROXY protocol, version 1 or 2. Then the client's address is the one
        /// that the proxy says, for `auth_hba` and in records; a connection that does not begin
        /// with it, or is not from `trusted_proxies`, is refused.
        pub proxy_protocol: bool = false;
        /// The networks of those proxies.
        pub trusted_proxies: Vec<Network> = Vec::new();
        /// The service whose endpoints are the servers, for databases that name none of their own.
        pub service: Option<Name> = None;
        /// The databases that clients may connect to, by the name that clients use. None: every
        /// database of `service`, under its own name.
        pub database: BTreeMap<Name, DatabaseSettings> = BTreeMap::new();
        /// The users that may connect, by name.
        pub user: BTreeMap<Name, UserSettings> = BTreeMap::new();
        /// How clients prove who they are. What is in force for a client is the first of `auth`
        /// and the rules of `auth_hba`.
        pub auth: Auth = Auth::ScramSha256;
        /// A file of users and secrets in the format of PgBouncer's `auth_file`: lines of
        /// `"user" "secret"`, where a secret is a password, a `SCRAM-SHA-256$…` verifier or an
        /// `md5…` hash. Read again at a reload.
        pub auth_file: Option<PathBuf> = None;
        /// A file of rules in the format of `pg_hba.conf`; with it each client's way of proof is
        /// that of the first rule that fits, and who fits none is refused.
        pub auth_hba: Option<PathBuf> = None;
        /// The user as whom the secrets of unknown users are asked for from the server; its own
        /// secret must be known here. Left out: nobody is asked.
        pub auth_user: Option<String> = None;
        /// How they are asked for: a statement with `$1` for the user's name, whose row has the
        /// name and the secret.
        pub auth_query: String =
            "SELECT usename, passwd FROM pg_shadow WHERE usename=$1".to_owned();
        /// TLS to the servers.
        pub server_tls: ServerTlsSettings = ServerTlsSettings::default();
        /// When a connection to the server is lent to another client.
        pub pool_mode: PoolMode = PoolMode::Transaction;
        /// Connections to the server for each pair of database and user. Queries that run at the
        /// same time on a server with c cores and d disks are fastest with about 2 * c + d of
        /// them, whatever the number of clients: 5 to 10 for an instance of an application, and
        /// more only make the server slower. Clients wait in line for the next that is free. All
        /// pools together have no more than `max_server_connections`.
        pub pool_size: u32 = 10, in 1..=100_000;
        /// Connections that are kept open even when nobody uses them.
        pub min_pool_size: u32 = 0, in 0..=100_000;
        /// Further connections that may be made when a client has waited for
        /// `reserve_pool_timeout`.
        pub reserve_pool_size: u32 = 0, in 0..=100_000;
        /// How long a client waits before the reserve is taken.
        pub reserve_pool_timeout: Duration = Duration::from_secs(5), in Duration::ZERO..=HOUR;
        /// Over how many workers (cores) the clients of one database and user are spread. Each of
        /// them has a lane of the pool: a line and idle connections of its own, and all lanes
        /// together never have more than `pool_size`. Within a lane who came first is served first;
        /// over lanes nobody is overtaken by who came more than 5 ms later. `"auto"`: over as many
        /// as the pool needs: one, and another one when the worker of the first has been busy for
        /// three quarters of its time while others are not; clients move between transactions. 1:
        /// never more than one. More than there are workers are as many as there are.
        pub lanes: LaneCount = LaneCount::Auto;
        /// Most connections to one server, all databases, users and services together, so that some
        /// of its `max_connections` are left for others. 0: no limit of its own. More than the server
        /// says that it takes, less what it reserves, are never made. When there are fewer than the
        /// pools want, each has as many as the others, and who has more gives them up at the end of a
        /// transaction; where there are fewer than pools, they take turns. During an upgrade both
        /// processes together have no more. A check of the service is not counted.
        pub max_server_connections: u32 = 0, in 0..=100_000;
        /// How many outgrows lead to the same servers. Each has this part of
        /// `max_server_connections`, and of what the servers take.
        pub edges: u32 = 1, in 1..=1_000;
        /// Most clients at a time. More are refused with SQLSTATE 53300.
        pub max_clients: u32 = 10_000, in 1..=10_000_000;
        /// Most clients from one address at a time; 0: no limit. More are refused with SQLSTATE
        /// 53300.
        pub max_clients_per_address: u32 = 0, in 0..=10_000_000;
        /// Most connections whose clients have not logged in yet. Who comes when there are as many
        /// waits to be accepted; who has not logged in within 5 seconds is sent away for them.
        pub max_logins: u32 = 1_000, in 1..=1_000_000;
        /// How those are slowed down who fail to log in.
        pub throttle: LoginThrottle = LoginThrottle::default();
        /// Most prepared statements on each connection to the server; the one that was unused for
        /// longest is closed. 0: named statements are passed on as they are, which works in
        /// `"session"` mode only.
        pub max_prepared_statements: u32 = 200, in 0..=100_000;
        /// How long things may take.
        pub timeouts: PostgresTimeouts = PostgresTimeouts::default();
        /// The statement that makes a connection like new after a session; in `"session"` mode.
        pub reset_query: String = "DISCARD ALL".to_owned();
        /// Where statements go that are proven to only read, when the service has replicas.
        pub reads: ReadsFrom = ReadsFrom::Primary;
        /// Which replicas they go to.
        pub replicas: ReplicaSettings = ReplicaSettings::default();
        /// What is told of how the database is used.
        pub diagnosis: DiagnosisSettings = DiagnosisSettings::default();
        /// How clients listen for notifications.
        pub notifications: NotificationSettings = NotificationSettings::default();
        /// Answers that are kept in memory. Left out: none are.
        pub cache: Option<CacheSettings> = None;
        /// Parameters of a client's start that are ignored instead of refused.
        pub ignore_startup_parameters: Vec<String> = vec!["extra_float_digits".to_owned()];
    }
}

outgrow_core::settings! {
    /// How those are slowed down who fail to log in: by user and address together, and by address
    /// alone, but never by user alone, or anybody could keep a user out. Users that exist are treated
    /// as those that do not.
    pub struct LoginThrottle {
        /// Failures in a row of one user from one address that cost nothing.
        pub free: u32 = 10, in 0..=1_000_000;
        /// Failures from one address, whoever the user, that cost nothing.
        pub free_of_address: u32 = 100, in 0..=1_000_000;
        /// The wait after the first failure that costs; each further one doubles it. `"0s"`: nobody
        /// waits.
        pub first: Duration = Duration::from_millis(100), in Duration::ZERO..=Duration::from_secs(60);
        /// The longest wait from one try to the next.
        pub most: Duration = Duration::from_secs(1), in MILLI..=HOUR;
        /// Who would have to wait for longer, since others from there wait as well, is refused with
        /// SQLSTATE 53300.
        pub patience: Duration = Duration::from_secs(5), in Duration::ZERO..=HOUR;
        /// Without a failure for this long all is forgotten.
        pub forget: Duration = Duration::from_secs(60), in MILLI..=DAY;
    }
}

outgrow_core::settings! {
    /// A database as clients see it.
    pub struct DatabaseSettings {
        /// The service whose endpoints are its servers.
        pub service: Option<Name> = None, shown = "service of [postgres]";
        /// Its name on the server.
        pub name: Option<String> = None, shown = "the name that clients use";
        /// The user of all connections to the server, whoever the client is.
        pub user: Option<String> = None, shown = "the client's";
        /// That user's password.
        pub password: Option<Secret> = None;
        /// TLS to its servers.
        pub server_tls: Option<ServerTlsSettings> = None, shown = "as in [postgres]";
        /// As in `[postgres]`, for this database.
        pub pool_mode: Option<PoolMode> = None;
        /// As in `[postgres]`, for this database.
        pub pool_size: Option<u32> = None, in Some(1)..=Some(100_000);
        /// Most connections to the server for this database, all users together; 0: no limit.
        pub max_server_connections: u32 = 0, in 0..=100_000;
        /// Most clients of this database; 0: no limit.
        pub max_clients: u32 = 0, in 0..=10_000_000;
        /// A statement that is run on each new connection to the server.
        pub connect_query: String = String::new();
    }
}

outgrow_core::settings! {
    /// A user as clients see it.
    pub struct UserSettings {
        /// The password, a `SCRAM-SHA-256$…` verifier (from `pg_authid`: then the server is
        /// logged in to with what the client proves, and no password is kept here), or an `md5…`
        /// hash.
        pub password: Option<Secret> = None;
        /// As in `[postgres]`, for this user.
        pub pool_mode: Option<PoolMode> = None;
        /// As in `[postgres.replicas]`, for this user: `"session"` for one that serves no HTTP
        /// requests, such as reports, so that it reads from replicas all the same.
        pub reads_your_writes: Option<ReadsYourWrites> = None, shown = "as in [postgres.replicas]";
        /// As in `[postgres]`, for this user.
        pub pool_size: Option<u32> = None, in Some(1)..=Some(100_000);
        /// Most connections to the server for this user, all databases together; 0: no limit.
        pub max_server_connections: u32 = 0, in 0..=100_000;
        /// Most clients of this user; 0: no limit.
        pub max_clients: u32 = 0, in 0..=10_000_000;
    }
}

outgrow_core::settings! {
    /// How clients listen for notifications (`LISTEN`), where connections are not lent for a session.
    pub struct NotificationSettings {
        /// Whether one connection to the primary, besides the pool's, listens for all clients of a
        /// database and user. When it is lost, notifications may be missed: clients that listen are
        /// ended with SQLSTATE 08006, and listen anew when they connect. With `false` each client that
        /// listens keeps a connection of its own.
        pub shared: bool = true;
        /// How much may wait for a client that does not read. One byte more, and it is ended with
        /// SQLSTATE 53400.
        pub backlog: ByteSize = ByteSize::mib(1), in ByteSize(8_192)..=ByteSize::mib(1_024);
        /// Most channels of a shared connection: each costs the server a look at every notification.
        /// Clients that want more keep a connection of their own.
        pub max_channels: u32 = 10_000, in 1..=1_000_000;
        /// Most channels of a client, likewise.
        pub max_channels_per_client: u32 = 1_000, in 1..=100_000;
    }
}

outgrow_core::choice! {
    /// Where statements go that are proven to only read.
    pub enum ReadsFrom {
        /// To the primary, as everything.
        Primary = "primary",
        /// To a replica, when one has everything that the client wrote. Proven means: by the
        /// statement's text and the database's catalogue, function by function; what is not
        /// certain goes to the primary. `/* outgrow: primary */` in a statement keeps it there.
        Replicas = "replicas",
    }
}

outgrow_core::settings! {
    /// How long things may take; `"0s"`: for ever. Rounded up to 32 ms.
    pub struct PostgresTimeouts {
        /// A client's login, TLS and the wait for a first connection included.
        pub login: Duration = Duration::from_secs(60), in MILLI..=DAY;
        /// Until a connection to the server stands and has logged in.
        pub connect: Duration = Duration::from_secs(15), in MILLI..=HOUR;
        /// After a failed connection, until the next attempt.
        pub connect_retry: Duration = Duration::from_secs(1), in MILLI..=HOUR;
        /// How long a client waits for a connection. After it the client is refused.
        pub wait: Duration = Duration::from_secs(120), in Duration::ZERO..=DAY;
        /// How long a query may run. After it the server is asked to cancel it, and the client gets an
        /// error (57014) and goes on. One that the server does not end within 5 s, since it waits for
        /// the client, ends the client's connection.
        pub query: Duration = Duration::ZERO, in Duration::ZERO..=DAY;
        /// How long a client may be silent in an open transaction.
        pub idle_transaction: Duration = Duration::ZERO, in Duration::ZERO..=DAY;
        /// How long a transaction may take.
        pub transaction: Duration = Duration::ZERO, in Duration::ZERO..=DAY;
        /// How long a client may be silent outside of transactions.
        pub client_idle: Duration = Duration::ZERO, in Duration::ZERO..=YEAR;
        /// How long a connection to the server is kept without work.
        pub server_idle: Duration = Duration::from_secs(600), in Duration::ZERO..=YEAR;
        /// How old a connection to the server may get.
        pub server_lifetime: Duration = Duration::from_secs(3_600), in Duration::ZERO..=YEAR;
        /// How long a server may leave what was sent to it without acknowledgement by its machine. A
        /// slow server does not count, its machine acknowledges; but its machine takes only so much of
        /// what it does not read. So while more than 16 KiB are under way that it has not answered (a
        /// COPY, a long pipeline) this limit is off and the system's is in force, about 15 minutes.
        pub unacknowledged: Duration = Duration::from_secs(5), in Duration::ZERO..=HOUR;
    }
}

outgrow_core::choice! {
    /// When a connection to the server is lent to another client.
    pub enum PoolMode {
        /// When the client leaves.
        Session = "session",
        /// After each transaction. What belongs to a session follows the client.
        Transaction = "transaction",
        /// After each statement; transactions of several statements are refused.
        Statement = "statement",
    }
}

outgrow_core::choice! {
    /// How clients prove who they are.
    pub enum Auth {
        /// They do not, but the user must be a known one.
        Trust = "trust",
        /// They do not, and any name is taken: for the server to judge, or with a `user` of the
        /// database.
        Any = "any",
        /// The password as it is. Only over TLS or a Unix socket.
        Plain = "plain",
        /// MD5, or SCRAM where the secret that is known is a verifier.
        Md5 = "md5",
        /// SCRAM-SHA-256.
        ScramSha256 = "scram-sha-256",
        /// The certificate that they show for TLS.
        Cert = "cert",
    }
}

impl PostgresSettings {
    /// The files of certificates and keys, each with the key that names it.
    pub fn certificate_files(&self) -> Vec<(Vec<&str>, &Path)> {
        let clients = self.tls.iter().flat_map(PostgresTls::files);
        let clients = clients.map(|(key, path)| (vec!["postgres", "tls", key], path));
        let servers = self.server_tls.files();
        let servers = servers.map(|(key, path)| (vec!["postgres", "server_tls", key], path));
        let mut files: Vec<_> = clients.chain(servers).collect();
        for (name, database) in &self.database {
            let own = database.server_tls.iter();
            for (key, path) in own.flat_map(ServerTlsSettings::files) {
                files.push((
                    vec!["postgres", "database", name.as_str(), "server_tls", key],
                    path,
                ));
            }
        }
        files
    }
}

fn check_postgres(settings: &PostgresSettings, table: &mut TableReader<'_, '_>) {
    if settings.listen.is_empty() {
        let hint = "write listen = [\"127.0.0.1:6432\"]";
        table.problem("listen", "nobody could connect", hint);
    }
    check_proxies(settings, table);
    if settings.max_server_connections > 0 && settings.edges > settings.max_server_connections {
        let message = "there is not one connection for each of the edges";
        let hint = "max_server_connections is for all of them together";
        table.problem("edges", message, hint);
    }
    let verifies = settings.tls.as_ref().is_some_and(|tls| tls.ca.is_some());
    if settings.auth == Auth::Cert && settings.auth_hba.is_none() && !verifies {
        let message = "no client is asked for a certificate";
        let hint = "write [postgres.tls] with certificates and ca = \"clients-ca.pem\"";
        table.problem("auth", message, hint);
    }
    if settings.service.is_none() {
        if settings.database.is_empty() {
            let hint = "write service = \"db\", and [service.db] with endpoints";
            table.problem("service", "there is no server to connect to", hint);
        }
        for (name, database) in &settings.database {
            if database.service.is_none() {
                let message = format!("database {} has no service", name.as_str());
                let hint = "write service = \"db\" there or in [postgres]";
                table.problem("database", message, hint);
            }
        }
    }
}

fn check_proxies(settings: &PostgresSettings, table: &mut TableReader<'_, '_>) {
    if settings.trusted_proxies.iter().any(Network::is_everything) {
        let message = "a network of /0 would let every client write its own address";
        let hint = "name the networks of your proxies only";
        table.problem("trusted_proxies", message, hint);
    }
    match (settings.proxy_protocol, settings.trusted_proxies.is_empty()) {
        (true, true) => {
            let hint =
                "write trusted_proxies = [\"10.0.0.0/24\"] with the networks of your proxies";
            table.problem("proxy_protocol", "there is no proxy to believe", hint);
        }
        (false, false) => {
            let message = "nobody is asked whose connection it is";
            let hint = "write proxy_protocol = true, or remove it";
            table.problem("trusted_proxies", message, hint);
        }
        _ => {}
    }
}
