//! The registry's part of `[leader]`: which lease, and where.

use std::path::{Path, PathBuf};
use std::time::Duration;

use outgrow_core::settings::{Address, Secret, TableReader};

use crate::etcd::cluster::check_servers;
use crate::http::{RegistryTls, Server, check_use};
use crate::kubernetes::place::Written;
use crate::kubernetes::{check_written, is_subdomain};
use crate::settings::tls_files;

const SECOND: Duration = Duration::from_secs(1);

outgrow_core::settings! {
    /// One lease that exactly one of several boxes holds: exactly one of `etcd`, `redis` and
    /// `kubernetes`. The one that holds it runs `gained`, and `lost` before its time is over for the others.
    #[check = check]
    pub struct LeaseSettings {
        /// A key in etcd.
        pub etcd: Option<LeaderEtcd> = None;
        /// A key in Redis or Valkey.
        pub redis: Option<LeaderRedis> = None;
        /// A Lease in Kubernetes.
        pub kubernetes: Option<LeaderKubernetes> = None;
        /// The name of the lease, which is the key in the registry: the same for all boxes that
        /// it is among. In Kubernetes it is the object's name, with `-` for each `/`.
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

outgrow_core::settings! {
    /// Where the lease is in Kubernetes (1.14 or newer): a Lease, made when there is none, as the
    /// leader election of Kubernetes' own components uses it. The API server ends no Lease: another
    /// box takes it when it has seen for as long as the Lease says, by its own clock, that it is not
    /// renewed. So after the death of the one that holds it a box that starts waits for the whole
    /// `ttl`, and nothing depends on what time the boxes think it is. Deleting the Lease gives it to
    /// a box that has not seen it before, beside the one that holds it: do not.
    ///
    /// Needs a Role in the namespace with `apiGroups: ["coordination.k8s.io"]`,
    /// `resources: ["leases"]` and `verbs: ["get", "create", "update"]`.
    #[check = check_kubernetes]
    pub struct LeaderKubernetes {
        /// The namespace that the Lease is in. Left out: that of the pod that outgrow runs in.
        pub namespace: String = String::new();
        /// The API server. Left out: that of the cluster in whose pod outgrow runs
        /// (`KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`), and then `token_file` and
        /// `tls.ca` are those of the pod's service account unless they are written.
        pub server: Option<Server> = None;
        /// A file with the token that says who we are. It is read anew for each question, since
        /// tokens run out and are replaced.
        pub token_file: Option<PathBuf> = None;
        /// How the API server is verified, and what is shown to it instead of a token.
        pub tls: Option<RegistryTls> = None;
    }
}

impl LeaderKubernetes {
    /// Where the API server is.
    pub(super) fn written(&self) -> Written<'_> {
        Written {
            server: self.server.as_ref(),
            namespace: &self.namespace,
            token_file: self.token_file.as_deref(),
            tls: self.tls.as_ref(),
        }
    }

    /// How an object is called that stands for a lease of this name.
    pub(super) fn object(name: &str) -> String {
        name.replace('/', "-")
    }

    fn place(&self) -> String {
        let server = self.server.as_ref().map(ToString::to_string);
        let server = server.unwrap_or_else(|| "the pod's cluster".to_owned());
        format!("{server}/{}", self.namespace)
    }
}

impl LeaseSettings {
    /// Which lease it is, for people.
    pub fn registry(&self) -> String {
        let name = &self.name;
        match (&self.etcd, &self.kubernetes) {
            (Some(_), _) => format!("etcd {name}"),
            (None, None) => format!("redis {name}"),
            (None, Some(own)) if own.namespace.is_empty() => {
                format!("kubernetes {}", LeaderKubernetes::object(name))
            }
            (None, Some(own)) => {
                let object = LeaderKubernetes::object(name);
                format!("kubernetes {}/{object}", own.namespace)
            }
        }
    }

    /// Where the registry answers: two that have none of it in common are two registries.
    pub fn places(&self) -> Vec<String> {
        let servers = self.etcd.iter().flat_map(|etcd| &etcd.servers);
        let redis = self.redis.iter();
        let redis = redis.map(|redis| format!("{}/{}", redis.server, redis.database));
        let kubernetes = self.kubernetes.iter().map(LeaderKubernetes::place);
        let servers = servers.map(ToString::to_string);
        servers.chain(redis).chain(kubernetes).collect()
    }

    /// Whether it is the lease that was called so ([`Self::registry`]) and was there.
    pub fn is_same_lease(&self, registry: &str, places: &[String]) -> bool {
        self.registry() == registry && self.places().iter().any(|one| places.contains(one))
    }

    /// The files that are read, each with its key below this table.
    pub fn files(&self) -> Vec<(Vec<&'static str>, &Path)> {
        let mut files = Vec::new();
        let kubernetes = self.kubernetes.as_ref();
        if let Some(token) = kubernetes.and_then(|one| one.token_file.as_deref()) {
            files.push((vec!["kubernetes", "token_file"], token));
        }
        let etcd = self.etcd.as_ref().map(|etcd| ("etcd", &etcd.tls));
        files.extend(tls_files([
            etcd,
            kubernetes.map(|one| ("kubernetes", &one.tls)),
        ]));
        files
    }
}

fn check(settings: &LeaseSettings, table: &mut TableReader<'_, '_>) {
    let registries = ["etcd", "redis", "kubernetes"];
    let mut written = registries.into_iter().filter(|key| table.has(key));
    match (written.next(), written.next()) {
        (Some(_), None) => {}
        (None, _) => {
            let span = table.span();
            let hint = "add etcd = { servers = [\"http://127.0.0.1:2379\"] }, or redis = { server \
                        = \"127.0.0.1:6379\" }, or in a pod kubernetes = { }";
            table
                .reader()
                .error_with_hint(span, "no registry is written", hint);
        }
        (Some(first), Some(second)) => {
            let message = format!("there is `{first}` as well, and a lease is in one registry");
            table.problem(second, message, "remove one of the two");
        }
    }
    if settings.name.is_empty() || settings.name.len() > 512 {
        let hint = "write for example name = \"outgrow/leader\"";
        table.problem("name", "a name has 1 to 512 bytes", hint);
    } else if settings.kubernetes.is_some()
        && !is_subdomain(&LeaderKubernetes::object(&settings.name))
    {
        let message = "names in Kubernetes have up to 253 small letters, digits, hyphens and dots";
        let hint = "write for example name = \"outgrow-leader\"";
        table.problem("name", message, hint);
    }
}

fn check_kubernetes(settings: &LeaderKubernetes, table: &mut TableReader<'_, '_>) {
    check_written(settings.written(), table);
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
