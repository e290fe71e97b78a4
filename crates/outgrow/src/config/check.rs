//! The rules between tables. Rules inside of one table are with the table, in its room.

mod acme;
mod limits;
mod promotions;
mod streams;
mod versions;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use outgrow_core::settings::{Address, Entry, Name, Node, Problem, Reader, Span, Value, nearest};
use outgrow_edge::router::{Rule, same_rank};
use outgrow_edge::settings::RouteSettings;
use outgrow_upstream::settings::CheckKind;

use super::{Config, Surroundings};

/// Tells of everything between the tables that is wrong.
pub(super) fn check(
    config: &Config,
    root: &Node,
    surroundings: &Surroundings<'_>,
    reader: &mut Reader,
) {
    between(config, root, surroundings, reader);
    let mut check = Check { root, reader };
    check.something_to_do(config);
    check.ordered(config, surroundings);
    check.services(config);
    check.databases(config);
    check.lost_in_time(config);
    check.promotions(config);
    check.overcommitted(config, surroundings.machine);
    check.windows(config);
}

/// Those of them that hold whatever other tables say: of the ones that can be read, while others
/// cannot.
pub(super) fn between(
    config: &Config,
    root: &Node,
    surroundings: &Surroundings<'_>,
    reader: &mut Reader,
) {
    let mut check = Check { root, reader };
    check.addresses(config);
    check.datagram_addresses(config);
    check.certificates(config, surroundings);
    check.directories(config, surroundings);
    check.sources(config, surroundings);
    check.boxes(config, surroundings);
    check.proxied(config);
    check.connections(config);
    check.calls(config);
    check.matches(config);
}

/// Routes name services and listeners that there are. Told of the file's tree, not of what the rooms
/// made of it, so that it is told beside whatever else is wrong.
pub(super) fn check_names(root: &Node, reader: &mut Reader) {
    let tables = |name: &str| match root.entry(name).map(|entry| &entry.node.value) {
        Some(Value::Table(entries)) => entries.as_slice(),
        _ => &[],
    };
    let keys = |name| {
        tables(name)
            .iter()
            .map(|entry| entry.key.as_str())
            .collect()
    };
    let (services, listeners): (Vec<&str>, Vec<&str>) = (keys("service"), keys("listener"));
    for route in tables("route") {
        let services = named_services(&route.node)
            .into_iter()
            .map(|one| (one, "service", &services));
        let listeners = named_listeners(&route.node)
            .into_iter()
            .map(|one| (one, "listener", &listeners));
        for ((key, node), kind, known) in services.chain(listeners) {
            let path = format!("route.{}.{key}", route.key);
            unknown(kind, known, path, node, reader);
        }
    }
    for (path, node) in streams::named_services(root) {
        unknown("service", &services, path, node, reader);
    }
}

/// Tells of a name that stands for nothing.
fn unknown(kind: &str, known: &[&str], path: String, node: &Node, reader: &mut Reader) {
    let Value::String { text: name, .. } = &node.value else {
        return;
    };
    // What is no name at all was told already.
    if known.contains(&name.as_str()) || Name::new(name).is_none() {
        return;
    }
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => format!("add a table [{kind}.{name}]"),
        None => format!("there are: {}", known.join(", ")),
    };
    let message = format!("there is no {kind} {name:?}");
    reader.push(Problem::error(node.span, path, message).with_hint(hint));
}

/// Where a route names listeners: one, or a list.
fn named_listeners(route: &Node) -> Vec<(String, &Node)> {
    let key = "listener".to_owned();
    match route.entry(&key).map(|entry| &entry.node) {
        Some(node) if matches!(node.value, Value::String { .. }) => vec![(key, node)],
        Some(Node {
            value: Value::Array(nodes),
            ..
        }) => nodes.iter().map(|node| (key.clone(), node)).collect(),
        _ => Vec::new(),
    }
}

/// Where a route names services: its own, those of its split, its mirror's.
fn named_services(route: &Node) -> Vec<(String, &Node)> {
    let mut named = Vec::new();
    if let Some(entry) = route.entry("service") {
        named.push(("service".to_owned(), &entry.node));
    }
    if let Some(entry) = route.find(&["mirror", "service"]) {
        named.push(("mirror.service".to_owned(), &entry.node));
    }
    if let Some(Value::Array(shares)) = route.entry("split").map(|entry| &entry.node.value) {
        for (index, share) in shares.iter().enumerate() {
            if let Some(entry) = share.entry("service") {
                named.push((format!("split.{index}.service"), &entry.node));
            }
        }
    }
    named
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
        let has_streams = !config.tcp.is_empty() || !config.udp.is_empty();
        let has_others = config.postgres.is_some() || has_streams;
        if config.listener.is_empty() && has_others {
            return;
        }
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
        self.stream_addresses(config, &mut taken);
        self.postgres_addresses(config, &mut taken);
    }

    fn postgres_addresses(&mut self, config: &Config, taken: &mut BTreeMap<String, String>) {
        for address in config.postgres.iter().flat_map(|postgres| &postgres.listen) {
            self.host(address, &["postgres", "listen"]);
            if matches!(address, Address::Tcp { port: 0, .. }) {
                continue;
            }
            match taken.get(&meant(address)) {
                Some(other) => {
                    let message = format!("{address} is taken by {other}");
                    let hint = "each listener needs an address of its own";
                    self.error(&["postgres", "listen"], message, hint);
                }
                None => {
                    taken.insert(meant(address), "[postgres]".to_owned());
                }
            }
        }
    }

    /// The services that `[postgres]` names are there.
    fn databases(&mut self, config: &Config) {
        let Some(postgres) = &config.postgres else {
            return;
        };
        let known: Vec<&str> = config.service.keys().map(Name::as_str).collect();
        let mut named = vec![(vec!["postgres", "service"], postgres.service.as_ref())];
        for (name, database) in &postgres.database {
            let path = vec!["postgres", "database", name.as_str(), "service"];
            named.push((path, database.service.as_ref()));
        }
        for (path, service) in named {
            let Some(service) = service.filter(|name| !known.contains(&name.as_str())) else {
                continue;
            };
            let name = service.as_str();
            let hint = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("add [service.{name}] with endpoints = [\"HOST:5432\"]"),
            };
            self.error(&path, format!("there is no service {name:?}"), hint);
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
        let files = config.certificate_files().into_iter();
        for (path, file) in files.chain(config.page_files()) {
            if let Err(reason) = (surroundings.readable)(file) {
                self.unreadable(&path, file, &reason);
            }
        }
    }

    /// A directory that is not there may come: it is the place of releases.
    fn directories(&mut self, config: &Config, surroundings: &Surroundings<'_>) {
        for (name, route) in &config.route {
            if let Some(files) = &route.files
                && let Err(reason) = (surroundings.readable)(&files.dir)
            {
                let message = format!("{} cannot be read: {reason}", files.dir.display());
                let hint = "until it is there every file is a 404; the path is relative to the \
                            directory in which outgrow was started";
                self.warning(&["route", name.as_str(), "files", "dir"], message, hint);
            }
        }
    }

    fn unreadable(&mut self, path: &[&str], file: &Path, reason: &str) {
        let message = format!("{} cannot be read: {reason}", file.display());
        let hint = "the path is relative to the directory in which outgrow was started";
        self.error(path, message, hint);
    }

    /// Services are named by routes.
    fn services(&mut self, config: &Config) {
        for (name, service) in &config.service {
            let routed = config.route.values().any(|route| {
                let mirror = route.mirror.as_ref().map(|mirror| &mirror.service);
                let mut services = route.services().map(|(service, _)| service).chain(mirror);
                services.any(|service| service.as_str() == name.as_str())
            });
            // Databases are only looked at.
            let kind = service.upstream.check.as_ref().and_then(|check| check.kind);
            let is_watched = matches!(kind, Some(CheckKind::Postgres | CheckKind::Redis));
            let is_database = config.postgres.as_ref().is_some_and(|postgres| {
                let own = postgres.database.values().map(|one| one.service.as_ref());
                let mut services = own.chain([postgres.service.as_ref()]).flatten();
                services.any(|service| service == name)
            });
            let is_passed_on = streams::services(config).contains(name);
            if !routed && !is_watched && !is_database && !is_passed_on {
                let path = ["service", name.as_str()];
                let message = format!("no route leads to service {:?}", name.as_str());
                let hint = format!("add [route.{name}] with service = \"{name}\", or remove it");
                self.warning(&path, message, &hint);
            }
        }
    }

    /// A file of endpoints, of a token or of certificates may come later, but most often its path
    /// is wrong; and what a pod is told may be missing where there is no pod.
    fn sources(&mut self, config: &Config, surroundings: &Surroundings<'_>) {
        for (name, service) in &config.service {
            let Some(discover) = &service.discover else {
                continue;
            };
            let table = ["service", name.as_str(), "discover"];
            let until = "the service has no endpoint until it can";
            self.files(&table, &discover.files(), until, surroundings);
            let kubernetes = discover.kubernetes.as_ref();
            let is_told = (surroundings.environment)("KUBERNETES_SERVICE_HOST").is_some();
            if kubernetes.is_some_and(|kubernetes| kubernetes.server.is_none()) && !is_told {
                let path = [&table[..], &["kubernetes"]].concat();
                let message = "there is no `server`, and KUBERNETES_SERVICE_HOST is not set";
                let hint = "outgrow must run in a pod, or add for example server = \
                            \"https://10.0.0.10:6443\"";
                self.warning(&path, message.to_owned(), hint);
            }
        }
    }

    /// What is read when others are told, or the lease is asked for.
    fn boxes(&mut self, config: &Config, surroundings: &Surroundings<'_>) {
        for (name, service) in &config.service {
            if let Some(register) = &service.register {
                let table = ["service", name.as_str(), "register"];
                let until = "others are told nothing until it can";
                self.files(&table, &register.files(), until, surroundings);
            }
        }
        if let Some(leader) = &config.leader {
            let until = "this box cannot hold the lease until it can";
            self.files(&["leader"], &leader.lease.files(), until, surroundings);
        }
    }

    /// Files that are read while we run, each with its key below a table.
    fn files(
        &mut self,
        table: &[&str],
        files: &[(Vec<&'static str>, &Path)],
        until: &str,
        surroundings: &Surroundings<'_>,
    ) {
        for (key, file) in files {
            if let Err(reason) = (surroundings.readable)(file) {
                let path = [table, &key[..]].concat();
                let message = format!("{} cannot be read: {reason}", file.display());
                let hint = format!(
                    "{until}; the path is relative to the directory in which outgrow was started"
                );
                self.warning(&path, message, &hint);
            }
        }
    }

    fn warning(&mut self, path: &[&str], message: String, hint: &str) {
        let problem = Problem::warning(self.span(path), path.join("."), message);
        self.reader.push(problem.with_hint(hint));
    }

    /// What is lost must be undone before another box may gain it.
    fn lost_in_time(&mut self, config: &Config) {
        let Some(leader) = &config.leader else { return };
        let (ttl, limit) = (leader.lease.ttl, leader.commands.command_timeout);
        if leader.commands.lost.is_some() && limit > ttl / 3 {
            let key = match self.root.find(&["leader", "command_timeout"]) {
                Some(_) => "command_timeout",
                None => "ttl",
            };
            let message = format!(
                "`lost` may take {limit:?}, and another box may gain the lease after a third of `ttl`"
            );
            let hint = "make `command_timeout` at most a third of `ttl`";
            self.warning(&["leader", key], message, hint);
        }
    }

    /// No two routes have the same rank for the same request.
    fn matches(&mut self, config: &Config) {
        let mut by_path: BTreeMap<_, Vec<(&Name, &RouteSettings)>> = BTreeMap::new();
        for (name, route) in &config.route {
            let hosts = &route.host;
            for host in (1..hosts.len()).filter(|at| hosts[..*at].contains(&hosts[*at])) {
                let message = format!("{} is in the list twice", hosts[host]);
                self.error(
                    &["route", name.as_str(), "host"],
                    message,
                    "remove one of them",
                );
            }
            let rule = Rule::of(route);
            // Only those of the same path can be meant: there may be thousands of routes.
            let before = by_path.entry(route.path.shape()).or_default();
            let equal = before
                .iter()
                .filter_map(|(other, before)| Some((*other, same_rank(&Rule::of(before), &rule)?)));
            let equal: Vec<_> = equal.collect();
            before.push((name, route));
            for (other, host) in equal {
                let host = host.map_or("any host".to_owned(), ToString::to_string);
                let same = format!("route {other} matches the same: {host} {}", route.path);
                let conditions = route.conditions();
                let (message, hint) = if conditions.methods.is_empty() && conditions.count() == 0 {
                    let hint = "which one would win is not said by the order in the file; change \
                                host, path or listener of one, or give one a condition or a \
                                higher priority";
                    (same, hint)
                } else {
                    let message =
                        format!("{same}, and a request can fulfil the conditions of both");
                    (message, "give the one that is to win a higher `priority`")
                };
                self.error(&["route", name.as_str()], message, hint);
            }
        }
    }
}
