//! The plan: what the workers need of the configuration, compiled, and replaced whole at a reload.
//!
//! A connection holds its listener's plan, a request its route's: neither holds the whole.

use std::net::IpAddr;
use std::sync::Arc;

use outgrow_core::Ticks;
use outgrow_core::settings::Network;
use outgrow_http::h1::Limits;
use outgrow_message::Fields;
use outgrow_net::proxy_header::AcceptProxy;
use outgrow_tls::ServerTls;
use outgrow_upstream::Service;
use outgrow_upstream::settings::ServiceTimeouts;

use crate::alt_svc::AltSvc;
use crate::backend::{Backend, Backends, Picking};
use crate::files::FilePlan;
use crate::metrics::{ListenerMetrics, PerWorker, RouteCells};
use crate::mirror::Mirror;
use crate::pages::{Page, Pages};
use crate::rewrite::{Redirect, Rewrite};
use crate::router::Routers;
use crate::settings::{
    ClientFact, CompressSettings, DecompressSettings, HeaderEdits, ListenerTimeouts,
};

const HSTS: &[u8] = b"Strict-Transport-Security";
const ALT_SVC: &[u8] = b"Alt-Svc";

/// Everything that requests are handled by.
#[derive(Debug, Default)]
pub struct Plan {
    /// From a request to an index of `routes`.
    pub routers: Routers,
    /// The routes.
    pub routes: Vec<Arc<RoutePlan>>,
}

/// One route, compiled.
#[derive(Debug)]
pub struct RoutePlan {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What it does with a request.
    pub action: Action,
    /// The path and host that are sent instead of the request's own.
    pub rewrite: Option<Rewrite>,
    /// Where copies of the requests go.
    pub mirror: Option<Mirror>,
    /// Changes to the request's fields.
    pub request_edits: Edits,
    /// Changes to the response's fields.
    pub response_edits: Edits,
    /// Whether an Idempotency-Key makes a request repeatable.
    pub idempotency_key: bool,
    /// Whether gRPC-Web is made gRPC.
    pub grpc_web: bool,
    /// The largest request body in bytes, none for no limit.
    pub body_limit: Option<u64>,
    /// What clients see of errors, before the listener's pages.
    pub error_pages: Pages,
    /// The route's own `body_rate`, if it has one.
    pub body_rate: Option<u64>,
    /// The same for `send_rate`.
    pub send_rate: Option<u64>,
    /// How the bodies of requests are decompressed, if at all.
    pub decompress: Option<DecompressSettings>,
    /// How responses are compressed, if at all.
    pub compress: Option<CompressSettings>,
    /// Its metric cells.
    pub cells: Arc<PerWorker<RouteCells>>,
}

/// What a route does with a request.
#[derive(Debug)]
pub enum Action {
    /// Sends it to an endpoint of a service.
    Forward(Backends),
    /// Sends the client elsewhere.
    Redirect(Redirect),
    /// Sends a file.
    Files(FilePlan),
    /// Answers it itself.
    Respond {
        /// The status.
        status: u16,
        /// The body.
        body: Vec<u8>,
        /// The fields.
        fields: Vec<(String, String)>,
    },
}

/// Changes to fields, compiled.
#[derive(Debug, Default)]
pub struct Edits {
    set: Vec<(String, String)>,
    remove: Vec<String>,
    /// A new Host, which is not a field like others.
    host: Option<String>,
}

impl Edits {
    /// Compiles what a route says.
    pub fn new(edits: &HeaderEdits) -> Self {
        let (host, set) = edits
            .set
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned()))
            .partition::<Vec<_>, _>(|(name, _)| name.eq_ignore_ascii_case("host"));
        Self {
            set,
            remove: edits
                .remove
                .iter()
                .map(|name| name.as_str().to_owned())
                .collect(),
            host: host.into_iter().next().map(|(_, value)| value),
        }
    }

    /// The Host that a request is to carry instead of its own.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Changes `fields`.
    #[inline]
    pub fn apply(&self, fields: &mut Fields) {
        for name in &self.remove {
            fields.remove_named(name.as_bytes());
        }
        for (name, value) in &self.set {
            fields.set(name.as_bytes(), value.as_bytes());
        }
    }
}

impl Action {
    /// Sends requests to `service`, from so many workers.
    pub fn forward(
        service: Arc<Service>,
        timeouts: ServiceTimeouts,
        picking: Picking,
        workers: usize,
    ) -> Self {
        Self::Forward(Backends::one(Backend::new(
            service, timeouts, picking, workers,
        )))
    }
}

impl RoutePlan {
    /// Changes the fields of a response.
    #[inline]
    pub fn edit_response(&self, fields: &mut Fields) {
        self.response_edits.apply(fields);
    }
}

/// One listener, compiled. Connections hold it for as long as they live.
#[derive(Debug)]
pub struct ListenerPlan {
    /// Its name in the configuration.
    pub name: String,
    /// Bounds of a head.
    pub limits: Limits,
    /// How long clients may take.
    pub timeouts: ListenerTimeouts,
    /// Most connections of all workers together.
    pub max_connections: u32,
    /// The largest request body in bytes, none for no limit.
    pub body_limit: Option<u64>,
    /// Whether HTTP/1.1 is spoken.
    pub http1: bool,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// Proxies whose word about the client is taken.
    pub trusted: Vec<Network>,
    /// Whether proxies say whose connection it is.
    pub accept_proxy: AcceptProxy,
    /// TLS, where it is spoken.
    pub tls: Option<Arc<ServerTls>>,
    /// What endpoints are told of clients' certificates.
    pub client_facts: Vec<ClientFact>,
    /// The `Strict-Transport-Security` of answers that have none.
    pub hsts: Option<Box<str>>,
    /// The `Alt-Svc` of answers that have none: also of connections with an earlier plan.
    pub alt_svc: Arc<AltSvc>,
    /// HTTP/3, where it is spoken.
    #[cfg(feature = "http3")]
    pub http3: Option<Arc<crate::http3::Http3Plan>>,
    /// The port to which every client is sent with `https://`.
    pub https_port: Option<u16>,
    /// What clients see of errors, where the route has no page.
    pub error_pages: Pages,
    /// Its metric cells.
    pub metrics: Arc<ListenerMetrics>,
}

impl ListenerPlan {
    /// Adds what every answer at this listener says.
    #[inline]
    pub(crate) fn put_own(&self, fields: &mut Fields) {
        if let Some(hsts) = &self.hsts
            && fields.get_named(HSTS).is_none()
        {
            fields.push(HSTS, hsts.as_bytes());
        }
        if let Some(alt_svc) = self.alt_svc.now()
            && fields.get_named(ALT_SVC).is_none()
        {
            fields.push(ALT_SVC, alt_svc.as_bytes());
        }
    }

    /// The page for an error of ours.
    pub(crate) fn page<'p>(
        &'p self,
        status: u16,
        route: Option<&'p RoutePlan>,
    ) -> Option<&'p Page> {
        let own = route.and_then(|route| route.error_pages.of(status));
        own.or_else(|| self.error_pages.of(status))
    }

    /// The page instead of an endpoint's answer.
    pub(crate) fn page_instead<'p>(
        &'p self,
        status: u16,
        route: &'p RoutePlan,
    ) -> Option<&'p Page> {
        let own = route.error_pages.instead_of(status);
        own.or_else(|| self.error_pages.instead_of(status))
    }

    /// Whether what `peer` says about the client is believed.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(address) => self.trusted.iter().any(|network| network.contains(address)),
            // Who can reach a Unix socket is on this machine; believed where proxies are at all.
            None => !self.trusted.is_empty(),
        }
    }

    /// The smaller of two body limits, where none is no limit.
    pub fn body_limit_with(&self, route: Option<u64>) -> Option<u64> {
        match (self.body_limit, route) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

/// A deadline that is `timeout` after `now`; zero is none.
pub(crate) fn deadline(now: Ticks, timeout: std::time::Duration) -> Ticks {
    if timeout.is_zero() {
        Ticks::NEVER
    } else {
        now + timeout
    }
}
