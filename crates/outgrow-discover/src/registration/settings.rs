//! `[service.NAME.register]`: which registry is told, and what.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use outgrow_core::settings::address::is_name;
use outgrow_core::settings::{Address, AddressError, Secret, TableReader};

use crate::etcd::cluster::check_servers;
use crate::http::{RegistryTls, Server, check_use};
use crate::settings::tls_files;

const SECOND: Duration = Duration::from_secs(1);

outgrow_core::settings! {
    /// Where it is told that this box serves the service, for others that discover it there:
    /// exactly one of `etcd` and `consul`. What is told vanishes when it is not renewed for `ttl`.
    /// It is withdrawn first on a stop, before the listeners close, and whenever no endpoint of
    /// the service is usable. A registry that is down is tried again and disturbs nothing else.
    #[check = check]
    pub struct RegisterSettings {
        /// A key in etcd for each entry: the prefix, the name of the box with a random part, `/`
        /// and the entry's name.
        pub etcd: Option<RegisterEtcd> = None;
        /// A service of a Consul agent for each entry.
        pub consul: Option<RegisterConsul> = None;
        /// Where others reach the service. `HOST:PORT` is one entry for this box: a listener of
        /// this outgrow; its weight is the number of usable endpoints times `weight`. `HOST` is one
        /// entry for each ready instance, at its own port; only with a `command` that is told a
        /// port. The instances must listen where others reach them (`0.0.0.0`, not `127.0.0.1`;
        /// they are told the port only), and at loopback too, where this outgrow reaches them.
        pub address: RegisterAddress =
            RegisterAddress::Box(Address::tcp("10.0.0.1", 8_080)), required = true;
        /// How long what is told stays when it is not renewed: how long others send requests to a
        /// box that died, unless their own checks find out earlier. Renewed each third of it.
        pub ttl: Duration = SECOND * 10, in SECOND * 2..=SECOND * 600;
        /// The zone that is told; left out: that of `[process]`.
        pub zone: Option<String> = None;
        /// The weight of one usable endpoint.
        pub weight: u32 = 1, in 1..=1_000;
    }
}

outgrow_core::settings! {
    /// Where to write in etcd (version 3.4 or newer).
    #[check = check_etcd]
    pub struct RegisterEtcd {
        /// The servers of the cluster, `http://host:port` or `https://host:port`; when one fails the next one is asked.
        pub servers: Vec<Server> = Vec::new(), required = true;
        /// What the keys begin with, for example `"/services/app/"`: the prefix that others
        /// discover.
        pub prefix: String = "/services/app/".to_owned(), required = true;
        /// The user, when the cluster wants one.
        pub user: String = String::new();
        /// The user's password.
        pub password: Secret = Secret::default();
        /// How servers with `https://` are verified, and what is shown to them.
        pub tls: Option<RegistryTls> = None;
    }
}

outgrow_core::settings! {
    /// What to tell Consul.
    #[check = check_consul]
    pub struct RegisterConsul {
        /// The agent of this box.
        pub server: Server = Server::loopback(8_500);
        /// The name of the service there.
        pub service: String = "web".to_owned(), required = true;
        /// Its tags.
        pub tags: Vec<String> = Vec::new();
        /// The token (`X-Consul-Token`), when one is needed.
        pub token: Secret = Secret::default();
        /// How servers with `https://` are verified, and what is shown to them.
        pub tls: Option<RegistryTls> = None;
    }
}

/// Where others reach a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterAddress {
    /// One address for the box.
    Box(Address),
    /// The host of all its instances.
    Instances(String),
}

impl fmt::Display for RegisterAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Box(address) => write!(formatter, "{address}"),
            Self::Instances(host) => formatter.write_str(host),
        }
    }
}

/// Why a text is nowhere that others could reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterAddressError {
    /// It is neither a host nor an address.
    #[error("{0}")]
    Address(#[from] AddressError),
    /// It stands for every address of this machine.
    #[error("others cannot connect to every address: name one of this box")]
    Everywhere,
    /// Port 0.
    #[error("port 0 cannot be connected to")]
    Port,
    /// A Unix socket.
    #[error("others cannot reach a socket's path")]
    Unix,
}

impl FromStr for RegisterAddress {
    type Err = RegisterAddressError;

    fn from_str(text: &str) -> Result<Self, RegisterAddressError> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let ip: Option<IpAddr> = bare.unwrap_or(text).parse().ok();
        let is_host = !text.contains(':') && is_name(text);
        if ip.is_none() && is_host {
            return Ok(Self::Instances(text.to_ascii_lowercase()));
        }
        let (ip, read) = match ip {
            Some(ip) => (Some(ip), Self::Instances(ip.to_string())),
            None => match text.parse()? {
                Address::Unix(_) => return Err(RegisterAddressError::Unix),
                Address::Tcp { port: 0, .. } => return Err(RegisterAddressError::Port),
                Address::Tcp { host, port } => {
                    (host.parse().ok(), Self::Box(Address::Tcp { host, port }))
                }
            },
        };
        if ip.is_some_and(|ip| ip.to_canonical().is_unspecified()) {
            return Err(RegisterAddressError::Everywhere);
        }
        Ok(read)
    }
}

outgrow_core::text_setting!(
    RegisterAddress,
    "where others reach this box",
    ["10.0.0.1:8080", "10.0.0.1"]
);

impl RegisterSettings {
    /// Where it is told, for people.
    pub fn registry(&self) -> String {
        let etcd = self
            .etcd
            .as_ref()
            .map(|etcd| format!("etcd {}", etcd.prefix));
        let consul = self.consul.as_ref();
        let consul = consul.map(|consul| format!("consul {}", consul.service));
        etcd.or(consul).unwrap_or_default()
    }

    /// Whether what one writes the other one would overwrite: the same keys of a cluster of which
    /// they have a server in common, or the same agent. What is written there is no part of it.
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (&self.etcd, &other.etcd, &self.consul, &other.consul) {
            (Some(one), Some(two), _, _) => {
                let mut servers = one.servers.iter();
                one.prefix == two.prefix && servers.any(|server| two.servers.contains(server))
            }
            (None, None, Some(one), Some(two)) => one.server == two.server,
            _ => false,
        }
    }

    /// The files that are read, each with its key below this table.
    pub fn files(&self) -> Vec<(Vec<&'static str>, &Path)> {
        let etcd = self.etcd.as_ref().map(|etcd| ("etcd", &etcd.tls));
        let consul = self.consul.as_ref().map(|consul| ("consul", &consul.tls));
        tls_files([etcd, consul])
    }
}

fn check(settings: &RegisterSettings, table: &mut TableReader<'_, '_>) {
    match (&settings.etcd, &settings.consul) {
        (None, None) => {
            let span = table.span();
            let hint = "add etcd = { servers = [\"http://127.0.0.1:2379\"], prefix = \
                        \"/services/app/\" }";
            table
                .reader()
                .error_with_hint(span, "no registry is written", hint);
        }
        (Some(_), Some(_)) => {
            let message = "there is `etcd` as well, and it is told to one registry";
            table.problem("consul", message, "remove one of the two");
        }
        _ => {}
    }
    if settings.zone.as_deref().is_some_and(|zone| zone.len() > 64) {
        table.problem("zone", "a zone has at most 64 bytes", "shorten it");
    }
}

fn check_etcd(settings: &RegisterEtcd, table: &mut TableReader<'_, '_>) {
    check_servers(&settings.servers, table);
    check_use(settings.tls.as_ref(), &settings.servers, table);
    if settings.prefix.is_empty() || settings.prefix.len() > 1_024 {
        let hint = "write for example prefix = \"/services/app/\"";
        table.problem("prefix", "a prefix has 1 to 1024 bytes", hint);
    }
}

fn check_consul(settings: &RegisterConsul, table: &mut TableReader<'_, '_>) {
    check_use(settings.tls.as_ref(), [&settings.server], table);
    let is_name = |name: &str| (1..=256).contains(&name.len());
    if !is_name(&settings.service) {
        let hint = "write Consul's name for it";
        table.problem("service", "a name has 1 to 256 bytes", hint);
    }
    if settings.tags.len() > 64 || !settings.tags.iter().all(|tag| is_name(tag)) {
        let hint = "write for example tags = [\"v1\"]";
        table.problem("tags", "there are up to 64 tags of 1 to 256 bytes", hint);
    }
    let is_text = |token: &str| token.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_text(settings.token.expose()) {
        let hint = "a token has no blanks and only ASCII";
        table.problem("token", "this is no token", hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_where_one_overwrites_the_other() {
        let etcd = |servers: &[&str], prefix: &str| RegisterSettings {
            etcd: Some(RegisterEtcd {
                servers: servers.iter().map(|one| one.parse().expect(one)).collect(),
                prefix: prefix.to_owned(),
                ..RegisterEtcd::default()
            }),
            ttl: SECOND * 3,
            ..RegisterSettings::default()
        };
        let consul = |server: &str, service: &str| RegisterSettings {
            consul: Some(RegisterConsul {
                server: server.parse().expect(server),
                service: service.to_owned(),
                ..RegisterConsul::default()
            }),
            ..RegisterSettings::default()
        };
        let check = |one: &RegisterSettings, other: &RegisterSettings, expected: bool| {
            assert_eq!(one.is_same_place(other), expected, "{one:?} {other:?}");
            assert_eq!(other.is_same_place(one), expected, "{other:?} {one:?}");
        };
        let one = etcd(&["http://a:1", "http://b:1"], "/x/");
        let mut slower = one.clone();
        slower.ttl = SECOND * 60;
        check(&one, &slower, true);
        check(&one, &etcd(&["http://b:1", "http://c:1"], "/x/"), true);
        check(&one, &etcd(&["http://c:1"], "/x/"), false);
        check(&one, &etcd(&["http://a:1"], "/y/"), false);
        check(&one, &consul("http://a:1", "x"), false);
        let agent = consul("http://a:8500", "x");
        check(&agent, &consul("http://a:8500", "y"), true);
        check(&agent, &consul("http://b:8500", "x"), false);
    }

    #[test]
    fn an_address_is_a_box_or_the_host_of_instances() {
        let check = |text: &str, expected: Result<&str, RegisterAddressError>| {
            let read: Result<RegisterAddress, _> = text.parse();
            let told = read.map(|read| match read {
                RegisterAddress::Box(address) => format!("box {address}"),
                RegisterAddress::Instances(host) => format!("instances {host}"),
            });
            assert_eq!(told, expected.map(str::to_owned), "{text}");
        };
        check("10.0.0.1:80", Ok("box 10.0.0.1:80"));
        check("box-1.internal:80", Ok("box box-1.internal:80"));
        check("[fd00::1]:80", Ok("box [fd00::1]:80"));
        check("10.0.0.1", Ok("instances 10.0.0.1"));
        check("fd00::1", Ok("instances fd00::1"));
        check("[fd00::1]", Ok("instances fd00::1"));
        check("Box-1.internal", Ok("instances box-1.internal"));
        check("0.0.0.0:80", Err(RegisterAddressError::Everywhere));
        check("::", Err(RegisterAddressError::Everywhere));
        check("10.0.0.1:0", Err(RegisterAddressError::Port));
        check("unix:/run/app", Err(RegisterAddressError::Unix));
        check("", Err(AddressError::PortMissing.into()));
        check("http://box", Err(AddressError::Scheme.into()));
    }
}
