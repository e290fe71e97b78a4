//! From the configuration to what the workers need.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_core::settings::ByteSize;
use outgrow_edge::backend::{Backend, Backends};
use outgrow_edge::floors::FloorPlan;
use outgrow_edge::mirror::Mirror;
use outgrow_edge::rewrite::{Redirect, Rewrite};
use outgrow_edge::router::Routers;
use outgrow_edge::settings::{
    ListenerSettings, Protocol, RouteSettings, RouteTimeouts, ServiceName,
};
use outgrow_edge::shapes::Shapes;
use outgrow_edge::split::Split;
use outgrow_edge::{
    Action, AltSvc, Edits, FilePlan, ListenerPlan, Picking, Plan, RoutePlan, Shared,
};
use outgrow_http::h1::Limits;
use outgrow_tls::ServerTls;
use outgrow_upstream::Registry;
use outgrow_upstream::settings::ServiceSettings;

use super::discover::Discoveries;
use super::floors::Floors;
use super::http3;
use super::pages::PageTexts;
use crate::config::Config;

/// Brings the registry's services to what the configuration says.
pub(super) fn services(
    config: &Config,
    registry: &Registry,
    discoveries: &Discoveries,
    now: Ticks,
) {
    let settings: BTreeMap<String, ServiceSettings> = config
        .service
        .iter()
        .map(|(name, service)| {
            let mut upstream = service.upstream.clone();
            if service.discover.is_some() {
                upstream.endpoints = discoveries.endpoints(name.as_str());
            }
            (name.as_str().to_owned(), upstream)
        })
        .collect();
    registry.set_zone(&config.process.zone);
    registry.set_parting_over(config.process.drain_timeout);
    registry.apply(&settings, now);
    for (name, service) in &config.service {
        if let Some(known) = registry.service(name.as_str()) {
            let is_awaited = discoveries.is_awaited(name.as_str());
            known.expect_instance(service.instances.is_some() || is_awaited);
            let sticky = service.affinity.sticky.as_ref();
            known.set_leaving_over(sticky.map_or(Duration::ZERO, |sticky| sticky.drain));
        }
    }
}

/// The plan of all routes. The registry must know the services already.
/// `cookie_secret` signs the sticky cookies of services that have no secret of their own.
pub(super) fn plan(
    config: &Config,
    registry: &Registry,
    shared: &Shared,
    cookie_secret: &[u8; 32],
    floors: &Floors,
    pages: &PageTexts,
) -> Plan {
    let shapes = floors.shapes(config, shared.loads.len());
    let floors = floors.plan(config, cookie_secret);
    let routers = Routers::compile(config.route.values());
    let routes = config
        .route
        .iter()
        .map(|(name, route)| {
            Arc::new(route_plan(
                name.as_str(),
                route,
                config,
                registry,
                shared,
                (cookie_secret, floors.as_ref(), shapes.as_ref()),
                pages,
            ))
        })
        .collect();
    Plan { routers, routes }
}

/// What is the same for all routes: a secret, what is told of users' writes, the shapes of requests.
type OfAll<'a> = (
    &'a [u8; 32],
    Option<&'a Arc<FloorPlan>>,
    Option<&'a Arc<Shapes>>,
);

fn route_plan(
    name: &str,
    route: &RouteSettings,
    config: &Config,
    registry: &Registry,
    shared: &Shared,
    (cookie_secret, floors, shapes): OfAll<'_>,
    pages: &PageTexts,
) -> RoutePlan {
    let workers = shared.loads.len();
    let backend = |service: &ServiceName, own: &RouteTimeouts| {
        let service = registry.service(service.as_str())?;
        let timeouts = own.over(&service.settings().timeouts);
        let picking = config.service.get(service.name()).map(|known| {
            let (upstream, affinity) = (&known.upstream, &known.affinity);
            Picking::new(service.name(), upstream, affinity, cookie_secret)
        });
        let mut picking = picking.unwrap_or_default();
        picking.floors = floors.cloned();
        picking.shapes = shapes.cloned();
        picking.seal = service.seal();
        Some(Backend::new(service, timeouts, picking, workers))
    };
    RoutePlan {
        body_rate: route.timeouts.body_rate.map(|rate| rate.bytes()),
        send_rate: route.timeouts.send_rate.map(|rate| rate.bytes()),
        name: name.into(),
        action: action(route, pages, shared, |service| {
            backend(service, &route.timeouts)
        }),
        rewrite: Rewrite::new(route),
        mirror: route.mirror.as_ref().and_then(|mirror| {
            // The route's own timeouts are for those who wait.
            let backend = backend(&mirror.service, &RouteTimeouts::default())?;
            Some(Mirror::new(mirror, backend))
        }),
        request_edits: Edits::new(&route.request_headers),
        response_edits: Edits::new(&route.response_headers),
        idempotency_key: route.idempotency_key,
        grpc_web: route.grpc_web,
        body_limit: limit(route.body_limit),
        error_pages: pages.compile(&route.error_pages),
        decompress: route.decompress.clone(),
        compress: route.compress.clone(),
        cells: shared.metrics.route(name),
    }
}

fn action(
    route: &RouteSettings,
    pages: &PageTexts,
    shared: &Shared,
    backend: impl Fn(&ServiceName) -> Option<Backend>,
) -> Action {
    if let Some(files) = &route.files {
        return Action::Files(FilePlan::new(files, shared));
    }
    if let Some(redirect) = &route.redirect {
        return Action::Redirect(Redirect::new(redirect, &route.path));
    }
    if let Some(backend) = route.service.as_ref().and_then(&backend) {
        return Action::Forward(Backends::one(backend));
    }
    let (backends, split) = shares(route, backend);
    if !backends.is_empty() {
        return Action::Forward(Backends::several(backends, split));
    }
    match &route.respond {
        Some(respond) => pages.answer(respond),
        // The configuration's check lets no such route through.
        None => Action::Respond {
            status: 404,
            body: Vec::new(),
            fields: Vec::new(),
        },
    }
}

/// The services of a split in the order of its shares, which is that of their names.
fn shares(
    route: &RouteSettings,
    backend: impl Fn(&ServiceName) -> Option<Backend>,
) -> (Vec<Backend>, Split) {
    let shares = route.shares().into_iter();
    let (backends, weights): (Vec<Backend>, Vec<u32>) = shares
        .filter_map(|(service, weight)| Some((backend(service)?, weight)))
        .unzip();
    (backends, Split::new(route.split_by.clone(), weights))
}

/// The plan of one listener: with its TLS, its HTTP/3, and what clients are told of that.
pub(super) fn listener(
    name: &str,
    settings: &ListenerSettings,
    (tls, http3, alt_svc): (Option<Arc<ServerTls>>, http3::Plan, Option<Box<str>>),
    shared: &Shared,
    pages: &PageTexts,
) -> ListenerPlan {
    #[cfg(not(feature = "http3"))]
    let http3::Plan {} = http3;
    let of_tls = settings.tls.as_ref();
    let clients = of_tls.and_then(|tls| tls.clients.as_ref());
    let hsts = of_tls.and_then(|tls| tls.hsts.as_ref());
    ListenerPlan {
        name: name.to_owned(),
        limits: Limits {
            head_bytes: settings.head_limit.length(),
            fields: settings.headers_limit as usize,
            target_bytes: settings.target_limit.length(),
        },
        timeouts: settings.timeouts.clone(),
        max_connections: settings.max_connections,
        body_limit: limit(settings.body_limit),
        http1: settings.protocols.contains(&Protocol::Http11),
        http2: settings.protocols.contains(&Protocol::Http2),
        trusted: settings.trusted_proxies.clone(),
        accept_proxy: settings.proxy_protocol,
        tls,
        client_facts: clients.map_or_else(Vec::new, |clients| clients.forward.clone()),
        hsts: hsts.map(|hsts| hsts.value().into()),
        alt_svc: AltSvc::new(alt_svc),
        #[cfg(feature = "http3")]
        http3,
        https_port: settings.redirect_to_https.then_some(settings.https_port),
        error_pages: pages.compile(&settings.error_pages),
        metrics: shared.metrics.listener(name),
    }
}

fn limit(size: ByteSize) -> Option<u64> {
    (size.0 > 0).then_some(size.0)
}
