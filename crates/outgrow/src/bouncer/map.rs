//! From PgBouncer's settings to the tier's plan. Pure, but for the services, which are looked up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::settings::Address;
use outgrow_postgres::login::hba::Hba;
use outgrow_postgres::login::{Credential, ServerSettings};
use outgrow_postgres::pgbouncer::ini::{
    AuthType, Database, Ini, LoadBalanceHosts, PoolMode, Settings, User, words,
};
use outgrow_postgres::plan::{DatabasePlan, Hosts, House, Limits, Manner, Plan, Times, UserPlan};
use outgrow_postgres::settings::{Auth, PoolMode as Mode};
use outgrow_postgres::variables::Followed;
use outgrow_upstream::Service;
use outgrow_upstream::settings::{Endpoint, OutlierSettings, ServiceSettings};

use super::files::Files;
use super::tls::Tls;

/// What no limit is, as a number that others can be added to.
const UNLIMITED: u32 = 1 << 30;
/// What for ever is, for what needs an end.
const FOR_EVER: Duration = Duration::from_secs(24 * 365 * 3_600);
/// The folder of servers' Unix sockets, when no host is given.
const SOCKET_FOLDER: &str = "/tmp";

/// What the plan is made of besides the configuration.
pub(super) struct Surroundings<'a> {
    /// TLS.
    pub(super) tls: &'a Tls,
    /// The databases that take no clients.
    pub(super) disabled: &'a BTreeSet<String>,
    /// The text of `/etc/passwd`.
    pub(super) system_users: String,
    /// What unknown users are shown is made from it.
    pub(super) secret: [u8; 32],
    /// The service of a name.
    pub(super) service: &'a dyn Fn(&str) -> Option<Arc<Service>>,
}

/// The services that the databases need, by name.
pub(super) fn services(ini: &Ini) -> BTreeMap<String, ServiceSettings> {
    let databases = ini.databases.values().chain(&ini.fallback);
    databases
        .map(|database| (service_name(database), service(database)))
        .collect()
}

/// The name of a database's service: equal for equal servers.
fn service_name(database: &Database) -> String {
    format!("{}:{}", database.hosts.join(","), database.port)
}

fn service(database: &Database) -> ServiceSettings {
    let mut hosts = database.hosts.clone();
    if hosts.is_empty() {
        hosts.push(SOCKET_FOLDER.to_owned());
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for host in hosts {
        let endpoint = Endpoint::at(address(&host, database.port));
        // The same host twice is one that gets twice as much, to PgBouncer: there is only one.
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    ServiceSettings {
        endpoints,
        // The pools have limits of their own.
        max_connections: 1_000_000,
        // PgBouncer tries every server again and again.
        outlier: OutlierSettings {
            consecutive_failures: 0,
            ..OutlierSettings::default()
        },
        ..ServiceSettings::default()
    }
}

/// Where a host is; one that begins with a slash is the folder of a Unix socket.
pub(super) fn address(host: &str, port: u16) -> Address {
    if host.starts_with('/') {
        return Address::Unix(Path::new(host).join(format!(".s.PGSQL.{port}")));
    }
    Address::tcp(host, port)
}

/// The plan.
pub(super) fn plan(ini: &Ini, files: &Files, around: &Surroundings<'_>) -> Plan {
    let settings = &ini.settings;
    let databases = ini.databases.iter().filter_map(|(name, database)| {
        let plan = database_plan(name, database, settings, around)?;
        Some((name.clone(), Arc::new(plan)))
    });
    let fallback = ini.fallback.as_ref();
    let any = fallback.and_then(|database| database_plan("", database, settings, around));
    let mut users: HashMap<String, Arc<UserPlan>> = HashMap::new();
    let nothing = User::default();
    for name in files.users.keys().chain(ini.users.keys()) {
        let own = ini.users.get(name).unwrap_or(&nothing);
        let mut plan = user_plan(own, settings);
        plan.secret = files.users.get(name).cloned().flatten();
        plan.is_only_limits = !files.users.contains_key(name);
        users.insert(name.clone(), Arc::new(plan));
    }
    Plan {
        databases: databases.collect(),
        any: any.map(Arc::new),
        users,
        promotions: HashMap::new(),
        house: Arc::new(House {
            system_users: around.system_users.clone(),
            login_settings: ServerSettings {
                iterations: u32::try_from(settings.scram_iterations)
                    .ok()
                    .and_then(std::num::NonZeroU32::new)
                    .unwrap_or(ServerSettings::new(around.secret).iterations),
                ..ServerSettings::new(around.secret)
            },
            peers: peers(ini),
            tls: around.tls.clients.clone(),
            requires_tls: around.tls.is_required,
            certificate: around.tls.certificate,
            ..house(settings, files.hba.clone())
        }),
    }
}

fn peers(ini: &Ini) -> BTreeMap<u16, Address> {
    let peers = ini.peers.iter();
    peers
        .map(|(id, peer)| (*id, address(&peer.host, peer.port)))
        .collect()
}

fn house(settings: &Settings, hba: Option<Hba>) -> House {
    let ignored: Vec<String> = words(&settings.ignore_startup_parameters)
        .map(str::to_owned)
        .collect();
    House {
        auth: auth(settings.auth_type),
        any_needs_user: true,
        hba,
        auth_user: settings.auth_user.clone().filter(|user| !user.is_empty()),
        auth_database: settings
            .auth_dbname
            .0
            .clone()
            .filter(|name| !name.is_empty()),
        auth_query: settings.auth_query.clone(),
        max_clients: count(settings.max_client_conn),
        max_console_clients: count(settings.max_db_client_connections),
        max_user_clients: count(settings.max_user_client_connections),
        max_user_servers: count(settings.max_user_connections),
        followed: Followed::new(words(&settings.track_extra_parameters)),
        adds_host: settings.application_name_add_host,
        ignores_options: ignored.iter().any(|name| name == "options"),
        ignored,
        max_prepared: count(settings.max_prepared_statements) as usize,
        prepared_prefix: "PGBOUNCER_".to_owned(),
        login: at_most(settings.client_login_timeout),
        login_notice: settings.login_notify_message.clone(),
        manner: Manner::PgBouncer,
        wait_notice: Duration::from_secs(count(settings.query_wait_notify).into()),
        check_after: settings.server_check_delay,
        check_query: settings.check_query().map(str::to_owned),
        closes_fast: settings.server_fast_close,
        refuses_simple_queries: settings.disable_pqexec,
        pool_kept: settings.pool_idle_timeout,
        any_kept: settings.autodb_idle_timeout,
        connects_singly: true,
        peer: u16::try_from(settings.peer_id).unwrap_or(0),
        cancel: at_most(settings.cancel_wait_timeout),
        ..House::default()
    }
}

/// A number of which negative ones are none.
fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// A time that must have an end.
fn at_most(time: Duration) -> Duration {
    if time.is_zero() { FOR_EVER } else { time }
}

fn auth(auth: AuthType) -> Option<Auth> {
    match auth {
        AuthType::Any => Some(Auth::Any),
        AuthType::Trust => Some(Auth::Trust),
        AuthType::Plain => Some(Auth::Plain),
        AuthType::Md5 => Some(Auth::Md5),
        AuthType::Cert => Some(Auth::Cert),
        AuthType::ScramSha256 => Some(Auth::ScramSha256),
        AuthType::Hba => None,
    }
}

fn mode(mode: PoolMode) -> Mode {
    match mode {
        PoolMode::Session => Mode::Session,
        PoolMode::Transaction => Mode::Transaction,
        PoolMode::Statement => Mode::Statement,
    }
}

fn database_plan(
    name: &str,
    database: &Database,
    settings: &Settings,
    around: &Surroundings<'_>,
) -> Option<DatabasePlan> {
    let password = database.password.expose();
    let credential = (!password.is_empty()).then(|| Credential::read(password.as_bytes()));
    Some(DatabasePlan {
        name: name.to_owned(),
        service: (around.service)(&service_name(database))?,
        server_name: database.dbname.clone(),
        user: database.user.clone(),
        credential: credential.and_then(Result::ok),
        mode: mode(database.pool_mode.unwrap_or(settings.pool_mode)),
        limits: limits(database, settings),
        max_clients: database
            .max_db_client_connections
            .unwrap_or(count(settings.max_db_client_connections)),
        max_servers: database
            .max_db_connections
            .unwrap_or(count(settings.max_db_connections)),
        connect_query: database.connect_query.clone().unwrap_or_default(),
        parameters: parameters(database),
        hosts: match database.load_balance_hosts {
            LoadBalanceHosts::RoundRobin => Hosts::InTurn,
            LoadBalanceHosts::Disable => Hosts::Sticky,
        },
        auth_user: database.auth_user.clone(),
        auth_database: database.auth_dbname.clone(),
        auth_query: database.auth_query.clone(),
        is_disabled: around.disabled.contains(name),
        encryption: Arc::clone(&around.tls.servers),
    })
}

fn parameters(database: &Database) -> Vec<(String, String)> {
    let pairs = [
        ("client_encoding", &database.client_encoding),
        ("datestyle", &database.datestyle),
        ("timezone", &database.timezone),
        ("application_name", &database.application_name),
    ];
    let given = pairs.into_iter().filter_map(|(name, value)| {
        let value = value.as_ref()?;
        Some((name.to_owned(), value.clone()))
    });
    given.collect()
}

fn limits(database: &Database, settings: &Settings) -> Limits {
    let size = database
        .pool_size
        .unwrap_or(count(settings.default_pool_size));
    let lifetime = database.server_lifetime.unwrap_or(settings.server_lifetime);
    Limits {
        size: if size == 0 { UNLIMITED } else { size },
        minimum: database
            .min_pool_size
            .unwrap_or(count(settings.min_pool_size)),
        reserve: database
            .reserve_pool_size
            .unwrap_or(count(settings.reserve_pool_size)),
        reserve_after: settings.reserve_pool_timeout,
        connect: at_most(settings.server_connect_timeout),
        connect_retry: settings.server_login_retry,
        wait: database
            .query_wait_timeout
            .unwrap_or(settings.query_wait_timeout),
        query: settings.query_timeout,
        idle_transaction: settings.idle_transaction_timeout,
        transaction: settings.transaction_timeout,
        client_idle: settings.client_idle_timeout,
        server_idle: settings.server_idle_timeout,
        server_lifetime: lifetime,
        used_once: lifetime.is_zero(),
        unacknowledged: Duration::from_millis(count(settings.tcp_user_timeout).into()),
        reset_query: settings.server_reset_query.clone(),
        resets_always: settings.server_reset_query_always,
        round_robin: settings.server_round_robin,
    }
}

fn user_plan(user: &User, settings: &Settings) -> UserPlan {
    UserPlan {
        secret: None,
        is_only_limits: false,
        follows_requests: None,
        mode: user.pool_mode.map(mode),
        pool_size: user
            .pool_size
            .map(|size| if size == 0 { UNLIMITED } else { size }),
        reserve: user.reserve_pool_size,
        max_clients: user
            .max_user_client_connections
            .unwrap_or(count(settings.max_user_client_connections)),
        max_servers: user
            .max_user_connections
            .unwrap_or(count(settings.max_user_connections)),
        times: Times {
            wait: user.query_wait_timeout,
            query: user.query_timeout,
            idle_transaction: user.idle_transaction_timeout,
            transaction: user.transaction_timeout,
            client_idle: user.client_idle_timeout,
        },
    }
}

#[cfg(test)]
mod tests {
    use outgrow_core::Clock;
    use outgrow_upstream::Registry;

    use super::*;

    fn read(text: &str) -> Ini {
        let mut include = |_: &str| Err("no files here".to_owned());
        Ini::read("test.ini", text, &mut include).expect("it is right")
    }

    fn plan_of(text: &str, users: &[(&str, &str)]) -> Plan {
        let ini = read(text);
        let registry = Registry::new(1);
        registry.apply(&services(&ini), Clock::start().now());
        let secret =
            |text: &str| outgrow_postgres::login::Secret::read(text.as_bytes()).expect("a secret");
        let files = Files {
            users: users
                .iter()
                .map(|(name, text)| ((*name).to_owned(), secret(text)))
                .collect(),
            hba: None,
        };
        let around = Surroundings {
            tls: &Tls::default(),
            disabled: &BTreeSet::from(["off".to_owned()]),
            system_users: String::new(),
            secret: [0; 32],
            service: &|name| registry.service(name),
        };
        plan(&ini, &files, &around)
    }

    #[test]
    fn databases_say_more_than_the_general_settings() {
        let plan = plan_of(
            "[databases]\n\
             a = host=10.0.0.1 port=5433 dbname=x user=u password=p pool_size=3 pool_mode=statement \
             server_lifetime=7 max_db_connections=4 connect_query='set a=1' timezone=UTC\n\
             b =\n\
             off = host=h1,h2,h1 load_balance_hosts=disable\n\
             [pgbouncer]\n\
             default_pool_size = 0\n\
             pool_mode = transaction\n\
             server_lifetime = 0\n\
             query_wait_timeout = 2.5\n\
             max_db_connections = 9\n",
            &[],
        );
        let a = &plan.databases["a"];
        assert_eq!(
            (a.limits.size, a.mode, a.max_servers),
            (3, Mode::Statement, 4)
        );
        assert_eq!(a.limits.server_lifetime, Duration::from_secs(7));
        assert!(!a.limits.used_once);
        assert_eq!(a.server_name.as_deref(), Some("x"));
        assert!(matches!(a.credential, Some(Credential::Password(_))));
        let timezone = ("timezone".to_owned(), "UTC".to_owned());
        assert_eq!(a.parameters, [timezone]);
        assert_eq!(a.connect_query, "set a=1");
        let b = &plan.databases["b"];
        assert_eq!(
            (b.limits.size, b.mode, b.max_servers),
            (UNLIMITED, Mode::Transaction, 9)
        );
        assert!(b.limits.used_once && b.server_name.is_none() && b.credential.is_none());
        assert_eq!(b.limits.wait, Duration::from_millis(2500));
        let unix = b.service.endpoints().load().all[0].address().to_string();
        assert_eq!(unix, "unix:/tmp/.s.PGSQL.5432");
        let off = &plan.databases["off"];
        assert!(off.is_disabled && !b.is_disabled);
        assert_eq!(off.hosts, Hosts::Sticky);
        assert_eq!(off.service.endpoints().load().all.len(), 2);
        assert!(plan.any.is_none());
    }

    #[test]
    fn users_come_from_both_places() {
        let plan = plan_of(
            "[databases]\n* = host=127.0.0.1\n\
             [users]\n\
             a = pool_size=2 query_timeout=3 max_user_connections=5\n\
             b = max_user_client_connections=4 pool_mode=session\n\
             [pgbouncer]\n\
             max_user_client_connections = 7\n",
            &[("a", "secret"), ("c", "")],
        );
        let [a, b, c] = ["a", "b", "c"].map(|name| &plan.users[name]);
        assert!(a.secret.is_some() && b.secret.is_none() && c.secret.is_none());
        assert_eq!((a.pool_size, a.max_servers, a.max_clients), (Some(2), 5, 7));
        assert_eq!(a.times.query, Some(Duration::from_secs(3)));
        assert_eq!((b.mode, b.max_clients), (Some(Mode::Session), 4));
        assert_eq!(c.max_clients, 7);
        let any = plan.any.as_ref().expect("the fallback");
        assert_eq!((any.name.as_str(), any.hosts), ("", Hosts::InTurn));
        assert!(plan.database("whatever").is_some());
    }

    #[test]
    fn the_general_settings_are_the_house() {
        let plan = plan_of(
            "[pgbouncer]\n\
             auth_type = trust\n\
             auth_user = asker\n\
             ignore_startup_parameters = options, extra_float_digits\n\
             max_client_conn = 12\n\
             client_login_timeout = 0\n\
             query_wait_notify = 3\n\
             server_check_query =\n\
             track_extra_parameters = search_path\n\
             peer_id = 3\n",
            &[],
        );
        let house = &plan.house;
        assert_eq!(house.auth, Some(Auth::Trust));
        assert_eq!(house.auth_user.as_deref(), Some("asker"));
        assert!(house.ignores_options);
        assert_eq!(house.ignored, ["options", "extra_float_digits"]);
        assert_eq!((house.max_clients, house.login), (12, FOR_EVER));
        assert_eq!(house.wait_notice, Duration::from_secs(3));
        assert_eq!(house.check_query, None);
        assert!(house.followed.place("SEARCH_PATH").is_some());
        assert_eq!((house.peer, house.manner), (3, Manner::PgBouncer));
    }
}
