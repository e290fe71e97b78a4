//! The registry's part of `[leader]`: which lease, and where.

use std::path::Path;
use std::time::Duration;

use outgrow_core::settings::{Address, Secret, TableReader};

use crate::etcd::cluster::check_servers;
use crate::http::{RegistryTls, Server, check_use};
use crate::settings::tls_files;

const SECOND: Duration = Duration::from_secs(1);

outgrow_core::settings! {
    /// One lease that exactly one of several boxes holds: exactly one of `etcd` and `redis`. The
    /// one that holds it runs `gained`, and `lost` before its time is over for the others.
    #[check = check]
    pub struct LeaseSettings {
        /// A key in etcd.
        pub etcd: Option<LeaderEtcd> = None;
        /// A key in Redis or Valkey.
        pub redis: Option<LeaderRedis> = None;
        /// The name of the lease, which is the key in the registry: the same for all boxes that
        /// it is among.
        pub name: String = "outgrow/leader".to_owned();
        /// How long the lease of a box that died is still its own. It is renewed each third of
        /// it; a box that could not renew it takes it for lost after two thirds, so that `lost`
        /// has the last third before another box gains it. A reload may change it; the lease stays
        /// held.
        pub ttl: Duration = SECOND * 10, in SECOND * 2..=SECOND * 600;
        /// What the one that holds it does when the registry cannot be reached.
        pub when_unreachable: WhenUnreachable = WhenUnreachable::GiveUp;
    }
}

outgrow_core::choice! {
    /// What the one that holds a lease does when the registry cannot be reached.
    pub enum WhenUnreachable {
        /// It takes the lease for lost: at no moment two boxes hold it.
        GiveUp = "give_up",
        /// It keeps it until the registry says that it is another one's. For what must not be
        /// without a holder, as a floating address: nobody else can gain it while the registry is
        /// away. But a box that alone is cut off from the registry keeps it beside the one that
        /// gains it.
        Keep = "keep",
    }
}

outgrow_core::settings! {
    /// Where the lease is in etcd (version 3.4 or newer).
    #[check = check_etcd]
    pub struct LeaderEtcd {
        /// The servers of the cluster, `http://host:port` or `https://host:port`; when one fails the next one is asked.
        pub servers: Vec<Server> = Vec::new(), required = true;
        /// The user, when the cluster wants one.
        pub user: String = String::new();
        /// The user's password.
        pub password: Secret = Secret::default();
        /// How servers with `https://` are verified, and what is shown to them.
        pub tls: Option<RegistryTls> = None;
    }
}

outgrow_core::settings! {
    /// Where the lease is in Redis or Valkey. A single one is a single place to fail: while it is
    /// away nobody holds the lease, and a replica that takes over without having heard of it may
    /// give it to a second box, until the first one asks again (a third of `ttl`).
    #[check = check_redis]
    pub struct LeaderRedis {
        /// Where it answers.
        pub server: Address = Address::tcp("127.0.0.1", 6_379);
        /// The user (Redis 6 and newer); empty: the default one.
        pub user: String = String::new();
        /// The password, when one is needed.
        pub password: Secret = Secret::default();
        /// The number of the database.
        pub database: u32 = 0, in 0..=65_535;
    }
}

impl LeaseSettings {
    /// Which lease it is, for people.
    pub fn registry(&self) -> String {
        let kind = if self.etcd.is_some() { "etcd" } else { "redis" };
        format!("{kind} {}", self.name)
    }

    /// Where the registry answers: two that have none of it in common are two registries.
    pub fn places(&self) -> Vec<String> {
        let servers = self.etcd.iter().flat_map(|etcd| &etcd.servers);
        let redis = self.redis.iter();
        let redis = redis.map(|redis| format!("{}/{}", redis.server, redis.database));
        servers.map(ToString::to_string).chain(redis).collect()
    }

    /// Whether it is the lease that was called so ([`Self::registry`]) and was there.
    pub fn is_same_lease(&self, registry: &str, places: &[String]) -> bool {
        self.registry() == registry && self.places().iter().any(|one| places.contains(one))
    }

    /// The files that are read, each with its key below this table.
    pub fn files(&self) -> Vec<(Vec<&'static str>, &Path)> {
        tls_files([self.etcd.as_ref().map(|etcd| ("etcd", &etcd.tls))])
    }
}

fn check(settings: &LeaseSettings, table: &mut TableReader<'_, '_>) {
    match (&settings.etcd, &settings.redis) {
        (None, None) => {
            let span = table.span();
            let hint = "add etcd = { servers = [\"http://127.0.0.1:2379\"] }, or redis = { server \
                        = \"127.0.0.1:6379\" }";
            table
                .reader()
                .error_with_hint(span, "no registry is written", hint);
        }
        (Some(_), Some(_)) => {
            let message = "there is `etcd` as well, and a lease is in one registry";
            table.problem("redis", message, "remove one of the two");
        }
        _ => {}
    }
    if settings.name.is_empty() || settings.name.len() > 512 {
        let hint = "write for example name = \"outgrow/leader\"";
        table.problem("name", "a name has 1 to 512 bytes", hint);
    }
}

fn check_etcd(settings: &LeaderEtcd, table: &mut TableReader<'_, '_>) {
    check_servers(&settings.servers, table);
    check_use(settings.tls.as_ref(), &settings.servers, table);
}

fn check_redis(settings: &LeaderRedis, table: &mut TableReader<'_, '_>) {
    if !matches!(settings.server, Address::Tcp { port: 1.., .. }) {
        let message = format!("{} is not the host and port of a server", settings.server);
        let hint = "write for example server = \"10.0.0.5:6379\"";
        table.problem("server", message, hint);
    }
    if !settings.user.is_empty() && settings.password.is_empty() {
        let hint = "set `password` as well";
        table.problem("user", "a user without a password cannot log in", hint);
    }
}
