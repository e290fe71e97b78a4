//! `[service.NAME.discover.kubernetes]`.

use std::fmt;
use std::path::PathBuf;

use outgrow_core::settings::{Kind, Node, Reader, Setting, TableReader, Value};

use super::place::Written;
use crate::http::{RegistryTls, Server, check_use};

/// Longest name of a namespace or a service (RFC 1123 section 2.1), in bytes.
const LABEL: usize = 63;
/// Longest name of other objects, in bytes.
const SUBDOMAIN: usize = 253;
/// What names are made of.
const NAMES: &str = "names in Kubernetes have 1 to 63 small letters, digits and hyphens";

outgrow_core::settings! {
    /// Where to look in Kubernetes (1.21 or newer): the ready endpoints of a service, from its
    /// EndpointSlices, which are listed once and then watched. Endpoints that terminate get nothing
    /// new; only when there is no other one are those that terminate and still serve used. The zone
    /// of an endpoint is its zone here. Services without a selector, and of type ExternalName, have
    /// no EndpointSlices of their own.
    ///
    /// Needs a Role in the namespace with `apiGroups: ["discovery.k8s.io"]`,
    /// `resources: ["endpointslices"]` and `verbs: ["get", "list", "watch"]`.
    #[check = check]
    pub struct KubernetesSettings {
        /// The name of the service.
        pub service: String = "web".to_owned(), required = true;
        /// The namespace that the service is in. Left out: that of the pod that outgrow runs in.
        pub namespace: String = String::new();
        /// The port's name in the service, or the number at which the pods listen (`targetPort`,
        /// which may be another than that of the service). Left out: the only one of the service.
        pub port: Option<Port> = None;
        /// Which addresses are used. Left out: of a service with both kinds, where each pod has one
        /// of each, those of IPv4.
        pub family: Option<Family> = None;
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

outgrow_core::choice! {
    /// A kind of addresses.
    pub enum Family {
        /// IPv4 only.
        Ipv4 = "ipv4",
        /// IPv6 only.
        Ipv6 = "ipv6",
    }
}

/// Which port of a service is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// That of this name.
    Name(String),
    /// That at which pods listen.
    Number(u16),
}

impl Setting for Port {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let hint = "write a number like 8080, or a name like \"http\"".to_owned();
        if let Value::Integer(number) = &node.value {
            let number = u16::try_from(*number).ok().filter(|number| *number > 0);
            if number.is_none() {
                reader.error_with_hint(node.span, "ports are 1 to 65535", &hint);
            }
            return number.map(Self::Number);
        }
        let text = reader.string(node, "a port", "\"http\"")?;
        // Names have a letter at least (IANA, RFC 6335), so a number is a number.
        if let Ok(number) = text.parse::<u16>()
            && number > 0
        {
            return Some(Self::Number(number));
        }
        if !is_label(text) || text.bytes().all(|byte| byte.is_ascii_digit()) {
            reader.wrong_value(node, text, "is not a port", hint);
            return None;
        }
        Some(Self::Name(text.to_owned()))
    }

    fn kind() -> Kind {
        Kind::Any(vec![
            Kind::Text {
                name: "the name of a port",
                examples: &["http"],
            },
            Kind::Integer {
                minimum: 1,
                maximum: 65_535,
            },
        ])
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Name(name) => Some(format!("{name:?}")),
            Self::Number(number) => Some(number.to_string()),
        }
    }
}

impl KubernetesSettings {
    /// Where the API server is.
    pub(super) fn written(&self) -> Written<'_> {
        Written {
            server: self.server.as_ref(),
            namespace: &self.namespace,
            token_file: self.token_file.as_deref(),
            tls: self.tls.as_ref(),
        }
    }
}

impl fmt::Display for KubernetesSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(formatter, "{}/", self.namespace)?;
        }
        formatter.write_str(&self.service)
    }
}

/// Whether a text can be the name of a namespace, a service or a port.
pub(super) fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte != b'-');
    text.len() <= LABEL
        && text.bytes().all(is_inner)
        && is_edge(text.bytes().next())
        && is_edge(text.bytes().last())
}

/// Whether a text can be the name of most objects (RFC 1123 section 2.1, as the API reads it).
pub(crate) fn is_subdomain(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(is_inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= SUBDOMAIN && text.split('.').all(is_part)
}

fn check(settings: &KubernetesSettings, table: &mut TableReader<'_, '_>) {
    if !is_label(&settings.service) {
        table.problem("service", "this is no name", NAMES);
    }
    check_written(settings.written(), table);
}

/// The rules of the keys that say where the API server is.
pub(crate) fn check_written(written: Written<'_>, table: &mut TableReader<'_, '_>) {
    if !is_label(written.namespace) && !written.namespace.is_empty() {
        table.problem("namespace", "this is no name", NAMES);
    }
    let Some(server) = written.server else {
        return;
    };
    check_use(written.tls, [server], table);
    if written.namespace.is_empty() {
        let message = "with a `server` of its own there is no pod whose namespace would be meant";
        table.problem("server", message, "add namespace = \"default\"");
    }
    if written.token_file.is_some() && !server.is_encrypted() {
        let message = "the token would be sent for everybody to read";
        table.problem("token_file", message, "write the server with https://");
    }
}
