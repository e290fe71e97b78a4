//! What `[tcp.NAME]` has to do with other tables: services that there are, and that are meant for
//! connections.

use std::collections::{BTreeMap, BTreeSet};

use outgrow_core::settings::{Address, Entry, Name, Node, Value};
use outgrow_upstream::settings::SendProxy;

use super::{Check, meant};
use crate::config::Config;

/// Where the tables of listeners of TCP and UDP name services: path and name.
pub(super) fn named_services(root: &Node) -> Vec<(String, &Node)> {
    let mut named = Vec::new();
    for listener in entries(root, "tcp") {
        let path = format!("tcp.{}", listener.key);
        if let Some(service) = listener.node.entry("service") {
            named.push((format!("{path}.service"), &service.node));
        }
        for route in entries(&listener.node, "route") {
            if let Some(service) = route.node.entry("service") {
                let path = format!("{path}.route.{}.service", route.key);
                named.push((path, &service.node));
            }
        }
    }
    for listener in entries(root, "udp") {
        if let Some(service) = listener.node.entry("service") {
            named.push((format!("udp.{}.service", listener.key), &service.node));
        }
    }
    named
}

/// The tables within a table of that name.
fn entries<'n>(node: &'n Node, name: &str) -> &'n [Entry] {
    match node.entry(name).map(|entry| &entry.node.value) {
        Some(Value::Table(entries)) => entries,
        _ => &[],
    }
}

/// The services that connections go to.
pub(super) fn services(config: &Config) -> BTreeSet<&Name> {
    let listeners = config.tcp.values();
    let named = |tcp| {
        let tcp: &outgrow_stream::settings::TcpSettings = tcp;
        let routes = tcp.route.values().map(|route| &route.service);
        tcp.service.iter().chain(routes)
    };
    let datagrams = config.udp.values().map(|udp| &udp.service);
    listeners.flat_map(named).chain(datagrams).collect()
}

impl Check<'_> {
    /// No listener has the address of another one.
    pub(super) fn stream_addresses(
        &mut self,
        config: &Config,
        taken: &mut BTreeMap<String, String>,
    ) {
        for (name, tcp) in &config.tcp {
            let path = ["tcp", name.as_str(), "address"];
            self.host(&tcp.address, &path);
            if matches!(tcp.address, Address::Tcp { port: 0, .. }) {
                continue;
            }
            match taken.get(&meant(&tcp.address)) {
                Some(other) => {
                    let message = format!("{} is taken by {other}", tcp.address);
                    self.error(&path, message, "each listener needs an address of its own");
                }
                None => {
                    taken.insert(meant(&tcp.address), format!("[tcp.{name}]"));
                }
            }
        }
    }

    /// No two listeners of datagrams have one address; connections there are another matter.
    pub(super) fn datagram_addresses(&mut self, config: &Config) {
        let mut taken = BTreeMap::new();
        for (name, listener) in &config.listener {
            if listener.http3.is_none() {
                continue;
            }
            taken.insert(meant(&listener.address), format!("[listener.{name}.http3]"));
            #[cfg(not(feature = "http3"))]
            {
                let path = ["listener", name.as_str(), "http3"];
                let message = "this outgrow was built without HTTP/3 (the feature http3)";
                self.error(&path, message, "leave it out, or use a build that has it");
            }
        }
        for (name, udp) in &config.udp {
            let path = ["udp", name.as_str(), "address"];
            self.host(&udp.address, &path);
            if matches!(udp.address, Address::Tcp { port: 0, .. }) {
                continue;
            }
            let own = format!("[udp.{name}]");
            if let Some(other) = taken.insert(meant(&udp.address), own) {
                let message = format!("{} is taken by {other}", udp.address);
                self.error(&path, message, "each listener needs an address of its own");
            }
        }
    }

    /// A PROXY header is told once for each connection: not where several clients share one.
    pub(super) fn proxied(&mut self, config: &Config) {
        for (name, service) in &config.service {
            if service.upstream.proxy_protocol == SendProxy::Off {
                continue;
            }
            let path = ["service", name.as_str(), "proxy_protocol"];
            let is_routed = config.route.values().any(|route| {
                let mut services = route.services().map(|(service, _)| service);
                services.any(|service| service.as_str() == name.as_str())
            });
            let is_pooled = config.postgres.as_ref().is_some_and(|postgres| {
                let own = postgres.database.values().map(|one| one.service.as_ref());
                let mut services = own.chain([postgres.service.as_ref()]).flatten();
                services.any(|service| service == name)
            });
            if is_routed || is_pooled {
                let what = if is_routed { "route" } else { "[postgres]" };
                let message = format!(
                    "a {what} leads to this service, and its connections are shared by clients"
                );
                let hint = "make a service of its own for [tcp], or remove it";
                self.error(&path, message, hint);
            }
        }
    }

    /// What a connection cannot go by.
    pub(super) fn connections(&mut self, config: &Config) {
        for name in services(config) {
            let Some(service) = config.service.get(name) else {
                continue;
            };
            if service.affinity.sticky.is_some() {
                let path = ["service", name.as_str(), "sticky"];
                let message = "connections of [tcp] carry no cookie: they are balanced without it";
                let hint = "set balance = \"ip_hash\" in a service of its own for them";
                self.warning(&path, message.to_owned(), hint);
            }
        }
    }
}
