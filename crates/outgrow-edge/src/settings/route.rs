//! `[route.NAME]`: which requests go where, and what is changed on the way.

use std::collections::BTreeMap;

use outgrow_core::settings::{ByteSize, Name, OneOrMany, TableReader};

use super::{HeaderEdits, HeaderName, HeaderText, HostPattern, PathPrefix};
use outgrow_core::settings::{Kind, MapKey, Node, Reader, Setting};

outgrow_core::settings! {
    /// A match and what is done with the requests that it matches. An exact host wins over a
    /// wildcard, a longer wildcard over a shorter one, any of them over no host; within a host the
    /// longest path wins. The order in the file means nothing. A request that no route matches is
    /// answered with 404.
    #[check = check_route]
    pub struct RouteSettings {
        /// The host, or a list of hosts: exact, or `*.example` for every name below `example`
        /// (not `example` itself). Port and case do not count. Left out: any host.
        pub host: OneOrMany<HostPattern> = OneOrMany::default(), shown = "any host";
        /// The path prefix, by segment: `/api` matches `/api` and `/api/users` and not `/apis`.
        pub path: PathPrefix = PathPrefix::root();
        /// The service that answers. A route has either this or `respond`.
        pub service: Option<ServiceName> = None;
        /// A fixed answer. A route has either this or `service`.
        pub respond: Option<RespondSettings> = None;
        /// What is changed in the request's header fields before they are sent to the service.
        pub request_headers: HeaderEdits = HeaderEdits::default();
        /// What is changed in the response's header fields before they are sent to the client.
        pub response_headers: HeaderEdits = HeaderEdits::default();
        /// Whether a request that carries `Idempotency-Key` may be sent again to another endpoint
        /// when the first one failed before any byte of the response, as is done with idempotent
        /// methods. Only for services that keep the key's promise.
        pub idempotency_key: bool = false;
        /// Size of a request's body; 0 is no limit but the listener's. Above it: 413.
        pub body_limit: ByteSize = ByteSize(0);
    }
}

outgrow_core::settings! {
    /// A fixed answer, without a service.
    #[check = check_respond]
    pub struct RespondSettings {
        /// The status.
        pub status: u16 = 200, in 200..=599;
        /// The body; `text/plain; charset=utf-8` unless `headers` says otherwise.
        pub body: String = String::new();
        /// Header fields of the answer.
        pub headers: BTreeMap<HeaderName, HeaderText> = BTreeMap::new();
    }
}

/// The name of a service, as a route writes it. That there is one is checked in the binary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(pub Name);

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Setting for ServiceName {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let text = reader.string(node, "the name of a service", "\"web\"")?;
        match Name::from_key(text) {
            Ok(name) => Some(Self(name)),
            Err(reason) => {
                let hint = "name a table [service.NAME]".to_owned();
                reader.wrong_value(node, text, reason, hint);
                None
            }
        }
    }

    fn kind() -> Kind {
        Kind::Text {
            name: "the name of a service",
            examples: &["web"],
        }
    }

    fn text(&self) -> Option<String> {
        self.0.as_str().to_owned().text()
    }
}

fn check_route(route: &RouteSettings, table: &mut TableReader<'_, '_>) {
    match (&route.service, &route.respond) {
        (Some(_), Some(_)) => {
            let message = "a route has either `service` or `respond`, not both";
            table.problem("respond", message, "remove one of them");
        }
        (None, None) => {
            let span = table.span();
            let message = "a route needs `service` or `respond`";
            let hint = "add service = \"NAME\" or respond = { status = 404, body = \"\" }";
            table.reader().error_with_hint(span, message, hint);
        }
        (None, Some(_)) if route.request_headers != HeaderEdits::default() => {
            let message = "a fixed answer sends no request on, so there are no request headers";
            table.problem("request_headers", message, "remove request_headers");
        }
        _ => {}
    }
    if route.request_headers.removes("host") {
        let message = "a request must have a Host";
        table.problem(
            "request_headers",
            message,
            "use set = { Host = \"…\" } to change it",
        );
    }
    if table.has("host") && route.host.is_empty() {
        let message = "an empty list of hosts matches nothing";
        table.problem("host", message, "leave `host` out to match any host");
    }
}

fn check_respond(respond: &RespondSettings, table: &mut TableReader<'_, '_>) {
    if matches!(respond.status, 204 | 205 | 304) && !respond.body.is_empty() {
        let message = format!("a response with status {} has no body", respond.status);
        table.problem("body", message, "remove the body or use another status");
    }
}
