//! The rules between tables. Rules inside of one table are with the table, in its room.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use outgrow_core::settings::{Address, Entry, Name, Node, Problem, Reader, Span, Value, nearest};
use outgrow_edge::settings::HostPattern;

use super::{Config, Surroundings};

/// Tells of everything between the tables that is wrong.
pub(super) fn check(
    config: &Config,
    root: &Node,
    surroundings: &Surroundings<'_>,
    reader: &mut Reader,
) {
    let mut check = Check { root, reader };
    check.something_to_do(config);
    check.addresses(config);
    check.certificates(config, surroundings);
    check.services(config);
    check.matches(config);
}

/// Routes name services that there are. Told of the file's tree, not of what the rooms made of it,
/// so that it is told beside whatever else is wrong.
pub(super) fn check_names(root: &Node, reader: &mut Reader) {
    let tables = |name: &str| match root.entry(name).map(|entry| &entry.node.value) {
        Some(Value::Table(entries)) => entries.as_slice(),
        _ => &[],
    };
    let known: Vec<&str> = tables("service")
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    for route in tables("route") {
        let Some(entry) = route.node.entry("service") else {
            continue;
        };
        let Value::String { text: service, .. } = &entry.node.value else {
            continue;
        };
        // What is no name at all was told already.
        if known.contains(&service.as_str()) || Name::new(service).is_none() {
            continue;
        }
        let hint = match nearest(service, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None if known.is_empty() => format!("add a table [service.{service}]"),
            None => format!("there are: {}", known.join(", ")),
        };
        let path = format!("route.{}.service", route.key);
        let message = format!("there is no service {service:?}");
        reader.push(Problem::error(entry.node.span, path, message).with_hint(hint));
    }
}

/// The address in one of the ways in which it can be written.
fn meant(address: &Address) -> String {
    match address {
        Address::Tcp { host, port } => match host.as_str() {
            "localhost" => format!("127.0.0.1:{port}"),
            "*" | "" => format!("0.0.0.0:{port}"),
            _ => address.to_string(),
        },
        Address::Unix(_) => address.to_string(),
    }
}

struct Check<'c> {
    root: &'c Node,
    reader: &'c mut Reader,
}

impl Check<'_> {
    fn error(&mut self, path: &[&str], message: impl Into<String>, hint: impl Into<String>) {
        let span = self.span(path);
        let problem = Problem::error(span, path.join("."), message).with_hint(hint);
        self.reader.push(problem);
    }

    fn span(&self, path: &[&str]) -> Span {
        let (last, _) = path
            .split_last()
            .map_or(("", path), |(last, rest)| (*last, rest));
        // A name of a table is its own place; a key's place is its value.
        match self.root.find(path) {
            Some(Entry { key, key_span, .. }) if path.len() == 2 && key == last => *key_span,
            Some(entry) => entry.node.span,
            None => Span::default(),
        }
    }

    fn something_to_do(&mut self, config: &Config) {
        if config.listener.is_empty() {
            let hint = "add [listener.public] with address = \"0.0.0.0:8080\"";
            self.error(&["listener"], "there is no listener", hint);
        }
        if config.route.is_empty() {
            let name = config.service.keys().next().map_or("web", Name::as_str);
            let message = "there is no route: every request would be answered with 404";
            let hint = format!("add [route.{name}] with service = \"{name}\"");
            self.error(&["route"], message, hint);
        }
    }

    /// No two listeners at one address, the admin listener among them.
    fn addresses(&mut self, config: &Config) {
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        let is_any_port = |address: &Address| matches!(address, Address::Tcp { port: 0, .. });
        if let Some(address) = config.admin.listen.address() {
            self.host(address, &["admin", "listen"]);
            taken.insert(meant(address), "the admin listener".to_owned());
        }
        for (name, listener) in &config.listener {
            let address = &listener.address;
            self.host(address, &["listener", name.as_str(), "address"]);
            if is_any_port(address) {
                continue;
            }
            match taken.get(&meant(address)) {
                Some(other) => {
                    let message = format!("{address} is taken by {other}");
                    let path = ["listener", name.as_str(), "address"];
                    self.error(&path, message, "each listener needs an address of its own");
                }
                None => {
                    taken.insert(meant(address), format!("listener {name}"));
                }
            }
        }
    }

    /// To listen takes an address of this machine: what a name means could change, and to find it
    /// out could take long.
    fn host(&mut self, address: &Address, path: &[&str]) {
        let Address::Tcp { host, .. } = address else {
            return;
        };
        if host.parse::<IpAddr>().is_err() && !["localhost", "*", ""].contains(&host.as_str()) {
            let message = format!("{host} is a name, and one can listen at an IP address only");
            let hint =
                "use 0.0.0.0 for every address, 127.0.0.1 or localhost for this machine only";
            self.error(path, message, hint);
        }
    }

    fn certificates(&mut self, config: &Config, surroundings: &Surroundings<'_>) {
        for (name, listener) in &config.listener {
            let Some(tls) = &listener.tls else { continue };
            for certificate in &tls.certificates {
                for file in [&certificate.certificate, &certificate.key] {
                    if let Err(reason) = (surroundings.readable)(file) {
                        self.unreadable(name, file, &reason);
                    }
                }
            }
        }
    }

    fn unreadable(&mut self, listener: &Name, file: &Path, reason: &str) {
        let path = ["listener", listener.as_str(), "tls", "certificates"];
        let message = format!("{} cannot be read: {reason}", file.display());
        let hint = "the path is relative to the directory in which outgrow was started";
        self.error(&path, message, hint);
    }

    /// Services are named by routes.
    fn services(&mut self, config: &Config) {
        for name in config.service.keys() {
            let is_named = |service: &str| service == name.as_str();
            let mut routed = config
                .route
                .values()
                .filter_map(|route| route.service.as_ref());
            if !routed.any(|service| is_named(service.as_str())) {
                let path = ["service", name.as_str()];
                let message = format!("no route leads to service {:?}", name.as_str());
                let hint = format!("add [route.{name}] with service = \"{name}\", or remove it");
                let problem = Problem::warning(self.span(&path), path.join("."), message);
                self.reader.push(problem.with_hint(hint));
            }
        }
    }

    /// No two routes match the same host and path.
    fn matches(&mut self, config: &Config) {
        let mut taken: BTreeMap<(Option<&HostPattern>, &str), &Name> = BTreeMap::new();
        for (name, route) in &config.route {
            let hosts: Vec<Option<&HostPattern>> = match route.host.as_ref() {
                [] => vec![None],
                hosts => hosts.iter().map(Some).collect(),
            };
            for host in hosts {
                let key = (host, route.path.as_str());
                if let Some(other) = taken.insert(key, name) {
                    let host = host.map_or("any host".to_owned(), ToString::to_string);
                    let message = if other == name {
                        format!("{host} is in the list twice")
                    } else {
                        format!("route {other} matches the same: {host} {}", route.path)
                    };
                    let hint = "which one would win is not said by the order in the file; \
                                change host or path of one";
                    self.error(&["route", name.as_str()], message, hint);
                }
            }
        }
    }
}
