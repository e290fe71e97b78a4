//! `[service.NAME]`: one table with the keys of five rooms, which do not know each other.

use outgrow_core::settings::{
    FieldDescription, Kind, Node, Reader, Setting, Table, TableDescription, TableReader,
};
use outgrow_discover::registration::{RegisterAddress, RegisterSettings};
use outgrow_discover::settings::DiscoverSettings;
use outgrow_edge::settings::{AffinitySettings, EndpointTlsSettings};
use outgrow_fleet::settings::{InstanceListen, InstanceSettings};
use outgrow_upstream::settings::ServiceSettings;

use super::{Promote, joined};

/// A service: where it answers, and the instances that are run for it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Service {
    /// Endpoints, balancing, limits, checks.
    pub upstream: ServiceSettings,
    /// Which requests are kept together.
    pub affinity: AffinitySettings,
    /// Where its endpoints are learned from, when they are not in the file.
    pub discover: Option<DiscoverSettings>,
    /// Where others are told that this box serves it.
    pub register: Option<RegisterSettings>,
    /// How connections to its endpoints are encrypted.
    pub tls: Option<EndpointTlsSettings>,
    /// How a replica takes its primary's place.
    pub promote: Option<Promote>,
    /// The instances, when the service has a `command`.
    pub instances: Option<InstanceSettings>,
}

impl Table for Service {
    fn describe() -> TableDescription {
        let mut description = ServiceSettings::describe();
        description.name = "Service";
        let table = |name: &'static str, doc: &str, kind: Kind| FieldDescription {
            name,
            doc: doc.to_owned(),
            kind,
            default: None,
            default_is_words: false,
            range: None,
            required: false,
        };
        description.fields.push(table(
            "discover",
            "Where the endpoints are learned from, instead of a list. A service has one of \
             `endpoints`, `command` and `discover`.",
            DiscoverSettings::kind(),
        ));
        description.fields.push(table(
            "register",
            "Where others are told that this box serves the service.",
            RegisterSettings::kind(),
        ));
        description.fields.push(table(
            "tls",
            "How connections to the endpoints are encrypted. Not for a service of `[postgres]`, which \
             has `server_tls`.",
            EndpointTlsSettings::kind(),
        ));
        description.fields.push(table(
            "promote",
            "How a replica takes the primary's place, for a service of `[postgres]`.",
            Promote::kind(),
        ));
        let affinity = AffinitySettings::describe().fields;
        description.fields.extend(affinity);
        description
            .fields
            .extend(InstanceSettings::describe().fields);
        description
    }

    fn read_fields(table: &mut TableReader<'_, '_>) -> Self {
        let before = table.reader().count();
        let upstream = ServiceSettings::read_fields(table);
        let discover = table.read::<DiscoverSettings>("discover");
        let register = table.read::<RegisterSettings>("register");
        let tls = table.read::<EndpointTlsSettings>("tls");
        let promote = table.read::<Promote>("promote");
        let affinity = AffinitySettings::read_fields(table);
        let instances = InstanceSettings::read_fields(table);
        if table.reader().count() == before {
            check_source(&upstream, &instances, table);
            check_register(register.as_ref(), &instances, table);
        }
        let instances = instances.command.is_some().then_some(instances);
        Self {
            upstream,
            affinity,
            discover,
            register,
            tls,
            promote,
            instances,
        }
    }
}

/// Only instances that outgrow runs have ports of their own that others could be told.
fn check_register(
    register: Option<&RegisterSettings>,
    instances: &InstanceSettings,
    table: &mut TableReader<'_, '_>,
) {
    let Some(RegisterAddress::Instances(host)) = register.map(|register| &register.address) else {
        return;
    };
    let message = match (&instances.command, instances.listen) {
        (None, _) => format!("{host} has no port, and only a `command` has instances with ports"),
        (Some(_), InstanceListen::Socket) => {
            format!("{host} has no port, and neither have instances that listen at sockets")
        }
        (Some(_), InstanceListen::Port) => return,
    };
    let hint = format!("write the address of a listener, for example address = \"{host}:8080\"");
    table.problem("register", message, hint);
}

/// A service has its endpoints from exactly one source.
fn check_source(
    upstream: &ServiceSettings,
    instances: &InstanceSettings,
    table: &mut TableReader<'_, '_>,
) {
    let written = [
        ("endpoints", !upstream.endpoints.is_empty()),
        ("command", instances.command.is_some()),
        ("discover", table.has("discover")),
    ];
    let mut written = written.into_iter().filter(|(_, is_written)| *is_written);
    match (written.next(), written.next()) {
        (None, _) => {
            let span = table.span();
            let message = "a service needs `endpoints`, a `command` or `discover`";
            let hint = "add endpoints = [\"127.0.0.1:3000\"], or command = \"node server.js\"";
            table.reader().error_with_hint(span, message, hint);
        }
        (Some((first, _)), Some((second, _))) => {
            let message = format!("a service has either `{first}` or `{second}`, not both");
            let hint = "make two services of it, or remove one of the two";
            table.problem(first, message, hint);
        }
        _ => {}
    }
}

impl Setting for Service {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        outgrow_core::settings::read_table(node, reader)
    }

    fn kind() -> Kind {
        Kind::Table(Self::describe())
    }

    fn text(&self) -> Option<String> {
        joined::text([
            self.upstream.text(),
            within("discover", self.discover.as_ref()),
            within("register", self.register.as_ref()),
            within("tls", self.tls.as_ref()),
            within("promote", self.promote.as_ref()),
            self.affinity.text(),
            self.instances.as_ref().and_then(Setting::text),
        ])
    }
}

/// A table that has nothing but this one.
fn within<T: Setting>(key: &str, table: Option<&T>) -> Option<String> {
    let text = table.and_then(Setting::text)?;
    Some(format!("{{ {key} = {text} }}"))
}
