//! What a route changes about where a request goes: rewrites, redirects, timeouts.

use std::time::Duration;

use outgrow_core::settings::{ByteSize, TableReader};
use outgrow_upstream::settings::ServiceTimeouts;

use super::{HostTemplate, PathTemplate, RedirectTarget};

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

outgrow_core::settings! {
    /// The path and the host that are sent to the service instead of the request's own.
    #[check = check_rewrite]
    pub struct RewriteSettings {
        /// The path. `{rest}` is what follows the route's prefix, `{name}` the segment that the
        /// parameter of that name stands for, both of the normalised path. A slash before an empty
        /// `{rest}` stays only where the request has one. The query is kept.
        pub path: Option<PathTemplate> = None;
        /// The host, with or without a port, with names of parameters. A request whose parameter
        /// cannot stand in the name of a host gets 400. `X-Forwarded-Host` says what the client
        /// asked for.
        pub host: Option<HostTemplate> = None;
    }
}

outgrow_core::settings! {
    /// An answer that sends the client elsewhere.
    #[check = check_redirect]
    pub struct RedirectSettings {
        /// Where to: a path, `{path}`, or a URL with `http://` or `https://`. In it `{host}` is the
        /// request's host without its port, `{path}` its normalised path, `{query}` its query,
        /// `{rest}` what follows the route's prefix, `{name}` a parameter. They are encoded as a URL
        /// needs it. Only `{host}` can stand in the place of the host. The query is kept when there
        /// is no `?` and no `#` in the target.
        pub to: RedirectTarget = "https://{host}{path}".parse().expect("it is a target"),
            required = true;
        /// The status: 301, 302, 303, 307 or 308. 307 and 308 keep the method and the body, 301 and
        /// 308 may be remembered by clients for ever.
        pub status: u16 = 308, in 301..=308;
    }
}

outgrow_core::settings! {
    /// How long the service may take for requests of this route: what is written here wins over
    /// the service's own, key by key.
    pub struct RouteTimeouts {
        /// Until a connection to an endpoint stands.
        pub connect: Option<Duration> = None, in Some(MILLI)..=Some(HOUR),
            shown = "the service's";
        /// How long a request waits in the queue.
        pub queue: Option<Duration> = None, in Some(MILLI)..=Some(HOUR), shown = "the service's";
        /// From the last byte of the request until the head of the response.
        pub first_byte: Option<Duration> = None, in Some(MILLI)..=Some(DAY),
            shown = "the service's";
        /// Between two pieces of the response.
        pub stream_idle: Option<Duration> = None, in Some(MILLI)..=Some(DAY),
            shown = "the service's";
        /// The whole exchange; `"0s"`: no limit.
        pub request: Option<Duration> = None, in Some(Duration::ZERO)..=Some(DAY),
            shown = "the service's";
        /// Silence of both sides of an upgraded connection (WebSocket).
        pub tunnel_idle: Option<Duration> = None, in Some(MILLI)..=Some(DAY),
            shown = "the service's";
        /// How fast the body of a request has to come, as `body_rate` of the listener's `timeouts` says; 0 for
        /// routes to which clients send little for a long time.
        pub body_rate: Option<ByteSize> = None, in Some(ByteSize(0))..=Some(ByteSize::gib(1)),
            shown = "the listener's";
        /// How fast a response has to be taken, as `send_rate` of the listener's `timeouts` says; 0 for routes
        /// whose clients take a little now and then.
        pub send_rate: Option<ByteSize> = None, in Some(ByteSize(0))..=Some(ByteSize::gib(1)),
            shown = "the listener's";
    }
}

impl RouteTimeouts {
    /// These, and the service's where there are none.
    pub fn over(&self, service: &ServiceTimeouts) -> ServiceTimeouts {
        ServiceTimeouts {
            connect: self.connect.unwrap_or(service.connect),
            queue: self.queue.unwrap_or(service.queue),
            first_byte: self.first_byte.unwrap_or(service.first_byte),
            stream_idle: self.stream_idle.unwrap_or(service.stream_idle),
            request: self.request.unwrap_or(service.request),
            tunnel_idle: self.tunnel_idle.unwrap_or(service.tunnel_idle),
            // Connections belong to no route.
            unacknowledged: service.unacknowledged,
        }
    }
}

fn check_rewrite(rewrite: &RewriteSettings, table: &mut TableReader<'_, '_>) {
    if rewrite.path.is_none() && rewrite.host.is_none() {
        let span = table.span();
        let hint = "add path = \"/v2/{rest}\" or host = \"inner.example\", or remove the table";
        table
            .reader()
            .error_with_hint(span, "this rewrite changes nothing", hint);
    }
}

fn check_redirect(redirect: &RedirectSettings, table: &mut TableReader<'_, '_>) {
    if matches!(redirect.status, 304..=306) {
        let message = format!("{} is not the status of a redirect", redirect.status);
        table.problem("status", message, "write 301, 302, 303, 307 or 308");
    }
}
