//! Joins the edge and the Postgres tier, for reads that see what users wrote and for statements that
//! are told with their requests: what instances serve, where primaries are, who the clients of the
//! pool are.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use outgrow_core::Ticks;
use outgrow_core::serving::{Position, Positions, Servings, Store};
use outgrow_edge::floors::{self, FloorPlan};
use outgrow_edge::settings::RouteSettings;
use outgrow_edge::shapes::Shapes;
use outgrow_postgres::Shared;
use outgrow_postgres::settings::{PostgresSettings, ReadsFrom, ReadsYourWrites};
use outgrow_upstream::Registry;

use super::instances::Instances;
use super::sources::{LONG_PAUSE, PAUSE, Sources};
use crate::config::Config;

/// What outlives reloads.
#[derive(Debug)]
pub(super) struct Floors {
    pub(super) servings: Arc<Servings>,
    pub(super) sources: Arc<Sources>,
    primaries: Arc<Primaries>,
    shapes: OnceLock<Arc<Shapes>>,
}

/// The Postgres tier, once there is one: the edge is configured before.
#[derive(Debug, Default)]
struct Primaries(OnceLock<Arc<Shared>>);

impl Positions for Primaries {
    fn position(
        &self,
        store: Store,
        after: Ticks,
    ) -> Pin<Box<dyn Future<Output = Option<Position>> + Send + '_>> {
        match self.0.get() {
            Some(shared) => shared.position(store, after),
            None => Box::pin(std::future::ready(None)),
        }
    }
}

impl Default for Floors {
    fn default() -> Self {
        let servings = Arc::new(Servings::default());
        Self {
            sources: Sources::new(Arc::clone(&servings)),
            servings,
            primaries: Arc::default(),
            shapes: OnceLock::new(),
        }
    }
}

impl Floors {
    /// Introduces the Postgres tier, the first time.
    pub(super) fn introduce(&self, shared: &Arc<Shared>) {
        if self.primaries.0.set(Arc::clone(shared)).is_ok() {
            let sources = Arc::clone(&self.sources) as Arc<dyn outgrow_postgres::origin::Sources>;
            shared.set_instances(Arc::clone(&self.servings), sources);
        }
    }

    /// Takes over which instances there are, where reads follow requests or it is told which
    /// requests statements are part of.
    pub(super) fn learn(&self, config: &Config, instances: &Instances, registry: &Registry) {
        let follows = follow_requests(config);
        if let Some(settings) = config.postgres.as_ref()
            && (follows || tell_requests(config))
        {
            let pause = if follows { PAUSE } else { LONG_PAUSE };
            let believes_names = settings.replicas.application_names;
            let routes = config.route.values();
            // Several routes to one service are no matter.
            let services = routes.flat_map(services_of);
            let services = services.filter_map(|name| registry.service(name));
            let terms = (believes_names, pause);
            self.sources.learn(instances, services, terms);
        }
    }

    /// The shapes of requests, where it is told which ones statements are part of.
    pub(super) fn shapes(&self, config: &Config, workers: usize) -> Option<Arc<Shapes>> {
        let shapes = || Shapes::new(Arc::clone(&self.servings), workers);
        tell_requests(config).then(|| Arc::clone(self.shapes.get_or_init(shapes)))
    }

    /// The edge's part, where reads follow requests. `secret` is one that outlives data processes.
    pub(super) fn plan(&self, config: &Config, secret: &[u8; 32]) -> Option<Arc<FloorPlan>> {
        let settings = config.postgres.as_ref()?;
        if !follow_requests(config) {
            return None;
        }
        let ticket = &settings.replicas.ticket;
        let made_up = floors::secret_of(secret);
        let mut secrets: Vec<&[u8]> = ticket
            .secret
            .iter()
            .map(|secret| secret.expose().as_bytes())
            .collect();
        if secrets.is_empty() {
            secrets.push(&made_up);
        }
        let plan = FloorPlan::new(
            (&ticket.cookie, &ticket.header),
            ticket.lifetime,
            &secrets,
            Arc::clone(&self.servings),
            Arc::clone(&self.primaries) as Arc<dyn Positions>,
        );
        Some(Arc::new(plan))
    }
}

/// Whether it is told which HTTP requests statements are part of: where requests are sent on, unless
/// it is not wanted.
pub(super) fn tell_requests(config: &Config) -> bool {
    let settings = config.postgres.as_ref();
    let is_wanted = |settings: &PostgresSettings| {
        settings.diagnosis.requests && settings.diagnosis.statements > 0
    };
    settings.is_some_and(is_wanted) && sends_on(config)
}

fn sends_on(config: &Config) -> bool {
    let mut routes = config.route.values();
    routes.any(|route| services_of(route).count() > 0)
}

/// Whether reads follow HTTP requests: as it is written, or else when requests are sent on at all.
pub(super) fn follow_requests(config: &Config) -> bool {
    let follows = |settings: &PostgresSettings| match settings.replicas.reads_your_writes {
        Some(of) => of == ReadsYourWrites::Request,
        None => sends_on(config),
    };
    let settings = config.postgres.as_ref();
    let settings = settings.filter(|settings| settings.reads == ReadsFrom::Replicas);
    settings.is_some_and(follows)
}

/// The services that a route sends requests to.
fn services_of(route: &RouteSettings) -> impl Iterator<Item = &str> {
    let shares = route.shares().into_iter().map(|(service, _)| service);
    route
        .service
        .iter()
        .chain(shares)
        .map(|service| service.as_str())
}
