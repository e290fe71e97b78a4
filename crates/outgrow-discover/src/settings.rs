//! `[service.NAME.discover]`: one source, and the rules common to all of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::consul::ConsulSettings;
use crate::etcd::EtcdSettings;
use crate::http::RegistryTls;
use crate::kubernetes::KubernetesSettings;
use outgrow_core::settings::{Address, TableReader, address::is_name};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// For how long an endpoint must be gone from the answers of names before those who stay at it are sent
/// away, unless the configuration says otherwise.
const PARTS_AFTER: Duration = Duration::from_secs(600);

/// Most servers that are asked for names.
pub(crate) const NAMESERVERS: usize = 8;

outgrow_core::settings! {
    /// Where the endpoints of a service are learned from: exactly one of `dns`, `srv`, `file`,
    /// `etcd`, `consul` and `kubernetes`.
    /// What stays in an answer keeps its health and its connections; what is gone gets no new
    /// requests and finishes those it has, WebSockets as `part_after` says. A source that fails changes nothing: what it told last
    /// stays, and its age is shown in the state and the metrics. Changes are taken over at most
    /// every 400 ms, and up to 1024 endpoints.
    #[check = check]
    pub struct DiscoverSettings {
        /// A name and a port: each address of the name (A and AAAA) is an endpoint. It is asked
        /// for again when its time to live is over. Search domains are not used.
        pub dns: Option<Address> = None;
        /// A name of services like `"_http._tcp.app.internal"` (SRV): each address of each target
        /// is an endpoint with the record's port, priority and weight.
        pub srv: Option<String> = None;
        /// A file with a list of endpoints, as JSON or, with the ending `.toml`, as TOML: texts or
        /// tables as in `endpoints`, or target groups as Prometheus reads them
        /// (`[{"targets": ["10.0.0.1:80"], "labels": {"zone": "a"}}]`). It is read again when it
        /// changes.
        pub file: Option<PathBuf> = None;
        /// Keys in etcd.
        pub etcd: Option<EtcdSettings> = None;
        /// A service in Consul.
        pub consul: Option<ConsulSettings> = None;
        /// A service in Kubernetes.
        pub kubernetes: Option<KubernetesSettings> = None;
        /// The servers that are asked for names, `IP:port`, tried in order; at most 8. Left out:
        /// those of `/etc/resolv.conf`.
        pub nameservers: Vec<Address> = Vec::new();
        /// How long one server of names may take; then the next one is asked.
        pub timeout: Duration = SECOND, in Duration::from_millis(10)..=Duration::from_secs(30);
        /// The shortest time from one look-up to the next, whatever the time to live says.
        pub ttl_min: Duration = SECOND, in Duration::from_millis(100)..=DAY;
        /// The longest. An answer without any time to live is good for the shortest.
        pub ttl_max: Duration = Duration::from_secs(60), in Duration::from_millis(100)..=DAY;
        /// For how long a source must say without a break that there is no endpoint before that is
        /// believed of a service that has some.
        pub empty_after: Duration = Duration::from_secs(60), in Duration::ZERO..=DAY;
        /// For how long an endpoint must be gone from the answers before its WebSockets are sent away (Close,
        /// 1012, each at a moment of its own within `drain_timeout`). Servers of names may tell a part of
        /// the endpoints at a time, another one each time, and an endpoint that such an answer leaves out
        /// lives. Left out: 10 minutes for `dns` and `srv`, at once for the other sources, which tell all.
        pub part_after: Option<Duration> = None, in Some(Duration::ZERO)..=Some(DAY), shown = "by the source";
    }
}

/// The one source of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A name.
    Dns(Name),
    /// A file.
    File(PathBuf),
    /// Keys in etcd.
    Etcd(EtcdSettings),
    /// A service in Consul.
    Consul(ConsulSettings),
    /// A service in Kubernetes.
    Kubernetes(KubernetesSettings),
}

/// A name to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Its addresses, each with this port.
    Host(String, u16),
    /// Its services.
    Services(String),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(Name::Host(host, port)) => write!(formatter, "dns {host}:{port}"),
            Self::Dns(Name::Services(name)) => write!(formatter, "srv {name}"),
            Self::File(path) => write!(formatter, "file {}", path.display()),
            Self::Etcd(etcd) => write!(formatter, "etcd {}", etcd.prefix),
            Self::Consul(consul) => write!(formatter, "consul {}", consul.service),
            Self::Kubernetes(kubernetes) => write!(formatter, "kubernetes {kubernetes}"),
        }
    }
}

impl DiscoverSettings {
    /// The source; the reader has seen to it that there is exactly one.
    pub fn source(&self) -> Option<Source> {
        let lower = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(Address::Tcp { host, port }) = &self.dns {
            return Some(Source::Dns(Name::Host(lower(host), *port)));
        }
        if let Some(name) = &self.srv {
            return Some(Source::Dns(Name::Services(lower(name))));
        }
        let etcd = || self.etcd.clone().map(Source::Etcd);
        let consul = || self.consul.clone().map(Source::Consul);
        let kubernetes = || self.kubernetes.clone().map(Source::Kubernetes);
        let file = self.file.clone().map(Source::File);
        file.or_else(etcd).or_else(consul).or_else(kubernetes)
    }

    /// For how long an endpoint must be gone before long connections to it end: `part_after`, or what its
    /// source calls for.
    pub fn parts_after(&self) -> Duration {
        let is_part = matches!(self.source(), Some(Source::Dns(_)));
        let own = if is_part { PARTS_AFTER } else { Duration::ZERO };
        self.part_after.unwrap_or(own)
    }

    /// The files that its source reads, each with its key below this table. They may come later.
    pub fn files(&self) -> Vec<(Vec<&'static str>, &Path)> {
        let mut files = Vec::new();
        files.extend(self.file.as_deref().map(|file| (vec!["file"], file)));
        let etcd = self.etcd.as_ref().map(|etcd| ("etcd", &etcd.tls));
        let consul = self.consul.as_ref().map(|consul| ("consul", &consul.tls));
        let kubernetes = self.kubernetes.as_ref();
        if let Some(token) = kubernetes.and_then(|one| one.token_file.as_deref()) {
            files.push((vec!["kubernetes", "token_file"], token));
        }
        let kubernetes = kubernetes.map(|kubernetes| ("kubernetes", &kubernetes.tls));
        files.extend(tls_files([etcd, consul, kubernetes]));
        files
    }
}

/// The files of `tls` tables, each table with the key of the registry that it is in.
pub(crate) fn tls_files<'s>(
    tables: impl IntoIterator<Item = Option<(&'static str, &'s Option<RegistryTls>)>>,
) -> Vec<(Vec<&'static str>, &'s Path)> {
    let mut files = Vec::new();
    for (registry, tls) in tables.into_iter().flatten() {
        let named = tls.iter().flat_map(RegistryTls::files);
        files.extend(named.map(|(key, file)| (vec![registry, "tls", key], file)));
    }
    files
}

fn check(settings: &DiscoverSettings, table: &mut TableReader<'_, '_>) {
    let sources = ["dns", "srv", "file", "etcd", "consul", "kubernetes"];
    let written: Vec<&str> = sources.into_iter().filter(|key| table.has(key)).collect();
    match written.as_slice() {
        [_] => {}
        [] => {
            let span = table.span();
            let hint = "add for example dns = \"app.internal:3000\"";
            table
                .reader()
                .error_with_hint(span, "no source is written", hint);
        }
        [first, second, ..] => {
            let message = format!("there is `{first}` as well, and a service has one source");
            table.problem(second, message, "remove one of the two");
        }
    }
    if let Some(dns) = &settings.dns {
        check_dns(dns, table);
    }
    if settings.srv.as_deref().is_some_and(|name| !is_name(name)) {
        let hint = "write a name like \"_http._tcp.app.internal\"";
        table.problem("srv", "this is no name", hint);
    }
    if settings.nameservers.len() > NAMESERVERS {
        let message = format!("at most {NAMESERVERS} servers are asked");
        table.problem("nameservers", message, "remove some");
    }
    let is_usable = |server: &Address| server.socket_address().is_some_and(|at| at.port() != 0);
    if let Some(server) = settings.nameservers.iter().find(|one| !is_usable(one)) {
        let message = format!("{server} is not the IP address and port of a server");
        table.problem("nameservers", message, "write for example \"10.0.0.2:53\"");
    }
    if settings.ttl_min > settings.ttl_max {
        let message = "the shortest time is longer than the longest, `ttl_max`";
        table.problem("ttl_min", message, "make it shorter");
    }
}

fn check_dns(dns: &Address, table: &mut TableReader<'_, '_>) {
    let hint = "write a name and a port, for example dns = \"app.internal:3000\"";
    match dns {
        Address::Tcp { port: 0, .. } => {
            table.problem("dns", "port 0 cannot be connected to", hint);
        }
        Address::Tcp { host, .. } if !is_name(host) => {
            let message = "this is an address, which need not be looked up";
            table.problem("dns", message, "put it into `endpoints`");
        }
        Address::Tcp { .. } => {}
        Address::Unix(_) => table.problem("dns", "a socket's path is no name", hint),
    }
}
