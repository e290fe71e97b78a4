//! The loop in which everything but traffic happens: what the keeper says, what the checks find,
//! what the admin listener is asked for, files that change, instances that come and go. How a
//! reload and a drain go, what is said of endpoints, and what other boxes are told, is in their own
//! files.

mod apply;
mod boxes;
mod descriptors;
mod drain;
mod events;
mod plans;
mod reload;

pub(super) use self::boxes::longest_leaving;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_admin::PromoteRequest;
use outgrow_core::Ticks;
use outgrow_edge::{Drain, Edge, RecordWriter};
use outgrow_fleet::client::{FromKeeper, Receiver, Sender};
use outgrow_fleet::diagnose::{self, Diagnosis};
use outgrow_fleet::protocol::channel::LOST;
use outgrow_fleet::protocol::{DataMessage, DrainReason, Hello, InstanceId, KeeperMessage};
use outgrow_net::ticker::Ticker;
use outgrow_tls::{Staples, TicketKeys};
use outgrow_upstream::{Event, Registry};
use tokio::sync::{mpsc, oneshot};

use super::acme::Acme;
use super::certificates::Certificates;
use super::discover::Discoveries;
use super::floors::Floors;
use super::handover::Handover;
use super::http3::Http3;
use super::instances::{Deploys, Instances, Puzzle};
use super::leader::Leader;
use super::listeners::{Listeners, Sockets};
use super::ocsp::Ocsp;
use super::pages::PageTexts;
use super::postgres_overlap::Overlap;
use super::promotion::Promotions;
use super::register::Registrations;
use super::view::View;
use super::watch::Watch;
use super::{alt_svc, compile, log, prepare, seals, start, streams};
use super::{postgres, postgres_files};
use crate::cli::ConfigSource;
use crate::config::Config;

/// How often instances and drains are looked at without being told.
const STEP: Duration = Duration::from_millis(100);
/// How often files are looked at. A change is taken over when two looks agree.
const WATCH: Duration = Duration::from_millis(500);
/// Answers to why instances are not ready that may wait.
const SOLUTIONS: usize = 64;
/// Events of the upstream room that may wait.
const EVENTS: usize = 1024;

/// What a start hands over to the loop.
pub(super) struct Parts {
    pub(super) hello: Hello,
    pub(super) config: Config,
    /// The files that it was read from.
    pub(super) watch: Watch,
    /// What the configuration was read from.
    pub(super) text: String,
    pub(super) certificates: Certificates,
    /// The texts of pages for errors.
    pub(super) pages: PageTexts,
    pub(super) cores: usize,
    pub(super) sockets: Sockets,
    pub(super) registry: Arc<Registry>,
    pub(super) records: Arc<RecordWriter>,
    pub(super) tickets: Arc<TicketKeys>,
    /// What is stapled to certificates.
    pub(super) staples: Arc<Staples>,
    /// Signs the sticky cookies of services that have no secret of their own.
    pub(super) cookie_secret: [u8; 32],
    /// Who has which connections of HTTP/3.
    pub(super) http3: Http3,
    /// What the edge and the Postgres tier know of each other's instances.
    pub(super) floors: Floors,
    /// How this box is called in registries.
    pub(super) box_name: String,
    pub(super) edge: Edge,
}

/// Something that somebody asked for, with where the answer goes.
#[derive(Debug)]
pub(super) enum Request {
    /// Read the configuration again.
    Reload(oneshot::Sender<Result<String, String>>),
    /// Start the new binary's data process.
    Upgrade(Option<PathBuf>, oneshot::Sender<Result<String, String>>),
    /// Replace all instances of a service.
    Deploy(String, oneshot::Sender<Result<String, String>>),
    /// Make a replica the primary, or tell what would be done.
    Promote(PromoteRequest, oneshot::Sender<PromoteAnswer>),
    /// Stop everything.
    Stop(oneshot::Sender<Result<String, String>>),
}

/// What is told of a promotion that was asked for, with the service and the number of one that has
/// begun; or why not.
pub(super) type PromoteAnswer = Result<(String, Option<(String, u64)>), String>;

/// The loop's state.
pub(super) struct Control {
    parts: Parts,
    sender: Sender,
    receiver: Option<Receiver>,
    source: ConfigSource,
    listeners: Listeners,
    postgres: postgres::Tier,
    streams: streams::Tier,
    overlap: Overlap,
    /// TLS towards endpoints.
    seals: seals::InForce,
    promotions: Promotions,
    /// What clients remember of HTTP/3.
    alt_svc: alt_svc::Remembered,
    instances: Instances,
    /// Read by the view as well.
    discoveries: Arc<Mutex<Discoveries>>,
    /// Read by the view as well.
    registrations: Arc<Mutex<Registrations>>,
    /// When they were last told what is usable.
    registered: Ticks,
    leader: Leader,
    acme: Acme,
    ocsp: Ocsp,
    /// Where it is told why instances are not ready.
    solutions: (mpsc::Sender<Solution>, mpsc::Receiver<Solution>),
    /// Whether something happened since the keeper was last told of everybody's health.
    is_health_new: bool,
    health_told: Ticks,
    /// The instances of which the keeper was told, by a process that drains, that it needs them.
    in_flight: Vec<InstanceId>,
    watch: Watch,
    reloading: bool,
    /// The number of the keeper's request for a reload that is being done; 0: somebody else's.
    reload_number: u64,
    /// The keeper asked for a reload during one.
    reload_again: Option<u64>,
    view: Arc<View>,
    requests: mpsc::Receiver<Request>,
    events: mpsc::Receiver<Event>,
    /// Who waits for the result of an upgrade.
    upgrading: Vec<oneshot::Sender<Result<String, String>>>,
    /// Addresses that a reload waits for, and those that could not be bound.
    binding: BTreeMap<String, Option<Result<Vec<OwnedFd>, String>>>,
    descriptors: descriptors::Descriptors,
    drain: Option<Draining>,
    /// What became of its Postgres clients since.
    handed_over: drain::HandedOver,
}

/// Why an instance is not ready, as far as can be seen.
type Solution = (Puzzle, Option<Diagnosis>);

/// A drain under way.
struct Draining {
    reason: DrainReason,
    began: Ticks,
    /// When the listeners stop, unless others have to be waited for.
    stops_at: Ticks,
    /// When the registries had nothing of this box any more.
    withdrawn: Option<Ticks>,
    /// How long connections may stay open after that.
    limit: Duration,
    /// When connections are closed, once the listeners have stopped.
    ends_at: Option<Ticks>,
}

impl Control {
    /// Brings everything up to the configuration and says that this process serves.
    pub(super) async fn new(
        mut parts: Parts,
        sender: Sender,
        receiver: Receiver,
        source: ConfigSource,
    ) -> Result<Self, ()> {
        let (asks, requests) = mpsc::channel(16);
        let events = parts.registry.subscribe(EVENTS);
        let now = parts.edge.shared.clock.now();
        let mut discoveries = Discoveries::from_keeper(&parts.hello);
        discoveries.configure(&parts.config, &parts.registry, parts.edge.shared.clock);
        compile::services(&parts.config, &parts.registry, &discoveries, now);
        let discoveries = Arc::new(Mutex::new(discoveries));
        let mut instances = Instances::new(parts.hello.generation, Deploys::kept(&parts.hello));
        instances.configure(&parts.config, parts.cores);
        let handover = Handover::from_keeper(&parts.hello);
        let handover = handover.as_ref();
        for report in std::mem::take(&mut parts.hello.instances) {
            instances.inherit(report, handover, &parts.registry, now);
        }
        for service in parts.registry.services() {
            let known = handover.map(|handover| handover.endpoints(service.name()));
            for endpoint in known.iter().flatten() {
                service.recall(endpoint, now);
            }
        }
        let registrations = Registrations::new(parts.box_name.clone());
        let registrations = Arc::new(Mutex::new(registrations));
        let leader = Leader::from_keeper(
            &parts.hello,
            &parts.config,
            &parts.box_name,
            parts.edge.shared.clock,
        );
        let overlap = Overlap::from_keeper(&parts.hello);
        let promotions = Promotions::from_keeper(&parts.hello);
        let alt_svc = alt_svc::Remembered::from_keeper(&parts.hello);
        let sources = (Arc::clone(&discoveries), Arc::clone(&registrations));
        let clock = parts.edge.shared.clock;
        let acme = Acme::start(&parts.edge.shared, &parts.certificates.acme, clock);
        let ocsp = Ocsp::start(&parts.staples, &sender, clock);
        let view = View::new(&parts, asks, sources, acme.views());
        let watch = std::mem::take(&mut parts.watch);
        let mut control = Self {
            parts,
            sender,
            receiver: Some(receiver),
            source,
            listeners: Listeners::default(),
            postgres: postgres::Tier::default(),
            streams: streams::Tier::default(),
            overlap,
            seals: seals::InForce::default(),
            promotions,
            alt_svc,
            instances,
            discoveries,
            registrations,
            registered: Ticks::ZERO,
            leader,
            acme,
            ocsp,
            solutions: mpsc::channel(SOLUTIONS),
            is_health_new: true,
            health_told: Ticks::ZERO,
            in_flight: Vec::new(),
            watch,
            reloading: false,
            reload_number: 0,
            reload_again: None,
            view,
            requests,
            events,
            upgrading: Vec::new(),
            binding: BTreeMap::new(),
            descriptors: descriptors::Descriptors::default(),
            drain: None,
            handed_over: drain::HandedOver::default(),
        };
        if let Err(message) = control.serve().await {
            let _ = control.sender.send(&DataMessage::Fatal { message }).await;
            return Err(());
        }
        Ok(control)
    }

    async fn serve(&mut self) -> Result<(), String> {
        let clock = self.parts.edge.shared.clock;
        let plans = self.listener_plans(
            &self.parts.config,
            &self.parts.certificates,
            &self.parts.pages,
        )?;
        let seals = &self.parts.certificates.seals;
        self.seals.apply(seals, &self.parts.registry);
        let shared = &self.parts.edge.shared;
        let plan = compile::plan(
            &self.parts.config,
            &self.parts.registry,
            shared,
            &self.parts.cookie_secret,
            &self.parts.floors,
            &self.parts.pages,
        );
        shared.plan.publish(Arc::new(plan));
        tokio::spawn(outgrow_upstream::registry::run(
            Arc::clone(&self.parts.registry),
            clock,
        ));
        self.listen(plans).await?;
        let files = postgres_files::Files::read(self.parts.config.postgres.as_ref())?;
        let encryptions = std::mem::take(&mut self.parts.certificates.postgres);
        self.apply_postgres(files, &encryptions).await?;
        let mut certificates = std::mem::take(&mut self.parts.certificates);
        self.apply_acme(&mut certificates);
        self.parts.certificates = certificates;
        self.apply_streams().await?;
        self.view.set_leader(self.leader.view());
        self.view.serve(&self.parts)?;
        self.show_instances();
        // Only what is in force is worth keeping.
        let text = self.parts.text.clone();
        prepare::keep(&self.sender, text, &self.parts.certificates.texts).await;
        self.remember_alt_svc().await;
        start::say_ready(&self.sender, &self.parts.config)
            .await
            .map_err(|error| error.to_string())?;
        descriptors::tell_at_the_start();
        // Of an address that the configuration before this one had.
        self.release_unused().await;
        // Not before this process is the one that serves: the one before it may go on instead.
        self.configure_boxes();
        if self.parts.hello.generation == 1 {
            self.greet();
        } else {
            log::info(&format!(
                "data process {} serves",
                self.parts.hello.generation
            ));
        }
        Ok(())
    }

    /// The first lines of a start: where everything is.
    fn greet(&self) {
        for (name, listener) in &self.parts.config.listener {
            let scheme = if listener.tls.is_some() {
                "https"
            } else {
                "http"
            };
            log::info(&format!("{name}: {scheme} at {}", listener.address));
        }
        for (name, listener) in &self.parts.config.tcp {
            log::info(&format!("{name}: tcp at {}", listener.address));
        }
        for (name, listener) in &self.parts.config.udp {
            log::info(&format!("{name}: udp at {}", listener.address));
        }
        let postgres = self.parts.config.postgres.iter();
        for address in postgres.flat_map(|postgres| &postgres.listen) {
            log::info(&format!("postgres: at {address}"));
        }
        if let Some(address) = self.parts.config.admin.listen.address() {
            log::info(&format!(
                "admin: http://{address}/ (metrics, state, reload, upgrade)"
            ));
        }
    }

    /// Runs until this process has drained.
    pub(super) async fn run(mut self) -> ExitCode {
        let mut steps = Ticker::new(STEP);
        let mut looks = Ticker::new(WATCH);
        let Some(mut receiver) = self.receiver.take() else {
            return ExitCode::FAILURE;
        };
        loop {
            tokio::select! {
                said = receiver.receive() => match said {
                    Ok(FromKeeper::Message(message, descriptors)) => {
                        self.hear(message, descriptors, &mut receiver).await;
                    }
                    Ok(FromKeeper::Ignored(line)) => log::warn(&line),
                    Err(_) => {
                        // The keeper was killed: its shims end the instances, and nobody would
                        // look after this process.
                        log::warn("the keeper is gone: ending");
                        if let Some(shared) = self.postgres.shared() {
                            shared.end_handover();
                        }
                        self.leave_boxes().await;
                        self.postgres.drain().await;
                        self.streams.drain().await;
                        let now = self.parts.edge.shared.clock.now();
                        self.parts.edge.drain(Drain::Now, now).await;
                        self.end().await;
                        return ExitCode::FAILURE;
                    }
                },
                Some(event) = self.events.recv() => self.take_event(event).await,
                Some((puzzle, found)) = self.solutions.1.recv() => {
                    self.instances.solve(&puzzle, found, &self.parts.registry);
                }
                Some(request) = self.requests.recv() => {
                    self.serve_request(request, &mut receiver).await;
                }
                () = looks.tick() => self.look_at_files(&mut receiver).await,
                () = steps.tick() => {}
            }
            if let Some(number) = self.reload_again.take() {
                self.reload_number = number;
                let _ = self.reload("SIGHUP", &mut receiver).await;
            }
            self.step().await;
            if self.is_drained() {
                let now = self.parts.edge.shared.clock.now();
                self.step_handover(now, true);
                if let Some(shared) = self.postgres.shared() {
                    shared.finish_handover().await;
                }
                self.view.finish_serving().await;
                let _ = self.sender.send(&DataMessage::Drained {}).await;
                self.end().await;
                return ExitCode::SUCCESS;
            }
        }
    }

    async fn hear(
        &mut self,
        message: KeeperMessage,
        descriptors: Vec<OwnedFd>,
        receiver: &mut Receiver,
    ) {
        let now = self.parts.edge.shared.clock.now();
        match message {
            KeeperMessage::Instance(report) => {
                self.instances.note(*report, &self.parts.registry, now);
                self.is_health_new = true;
            }
            // One that has read the file already would put an older text over the newer one.
            KeeperMessage::Reload { number } if self.reloading => {
                self.reload_again = Some(number);
            }
            KeeperMessage::Reload { number } => {
                self.reload_number = number;
                let _ = self.reload("SIGHUP", receiver).await;
            }
            KeeperMessage::Drain { reason } => self.begin_drain(reason, now),
            KeeperMessage::Successor {}
            | KeeperMessage::Predecessor {}
            | KeeperMessage::Neighbour { .. }
                if descriptors.is_empty() =>
            {
                log::warn(&format!("the other data process is not met: {LOST}"));
            }
            KeeperMessage::Successor {} => self.postgres.meet(descriptors, true),
            KeeperMessage::Predecessor {} => self.postgres.meet(descriptors, false),
            KeeperMessage::Neighbour { generation } => {
                self.parts.http3.meet(generation, descriptors);
            }
            KeeperMessage::Kept { key, value } => {
                self.overlap.hear(&key, value.clone());
                self.leader.hear(&key, value);
            }
            KeeperMessage::InFlight { instances } => self.instances.note_elsewhere(instances),
            KeeperMessage::UpgradeResult { ok, message } => {
                for waiting in self.upgrading.drain(..) {
                    let _ = waiting.send(if ok {
                        Ok(message.clone())
                    } else {
                        Err(message.clone())
                    });
                }
            }
            KeeperMessage::Bound { key, .. } if descriptors.is_empty() => {
                // Nobody would accept from what the keeper holds.
                self.tell(&DataMessage::Release { key: key.clone() }).await;
                self.note_bound(key, Err(LOST.to_owned()));
            }
            KeeperMessage::Bound { key, .. } => self.note_bound(key, Ok(descriptors)),
            KeeperMessage::BindFailed { key, reason } => self.note_bound(key, Err(reason)),
            KeeperMessage::Hello(_) | KeeperMessage::Unknown => {}
            _ => {}
        }
    }

    fn note_bound(&mut self, key: String, result: Result<Vec<OwnedFd>, String>) {
        if let Some(waiting) = self.binding.get_mut(&key) {
            *waiting = Some(result);
        }
    }

    /// What is to be done after whatever happened, and from time to time.
    async fn step(&mut self) {
        let now = self.parts.edge.shared.clock.now();
        self.descriptors.tell(now);
        self.discoveries().step(&self.parts.registry, now);
        self.streams.flush();
        self.step_boxes(now).await;
        self.step_overlap(now).await;
        let Parts {
            config,
            floors,
            registry,
            ..
        } = &self.parts;
        floors.learn(config, &self.instances, registry);
        if self.drain.is_some() {
            self.show_instances();
            self.tell_in_flight().await;
            self.go_on_draining(now).await;
            return;
        }
        self.release_drained().await;
        let messages = self.instances.steps(&self.parts.registry, now);
        if let Some(message) = self.instances.take_deploys() {
            self.tell(&message).await;
        }
        self.view.note_started();
        for message in &messages {
            self.tell(message).await;
        }
        if self.is_health_new && now.since(self.health_told) >= STEP {
            (self.is_health_new, self.health_told) = (false, now);
            let handover = Handover::new(&self.parts.registry, &self.instances, now);
            self.tell(&handover.message()).await;
        }
        let discovered = self.discoveries().message();
        if let Some(message) = discovered {
            self.tell(&message).await;
        }
        let puzzles = self.instances.puzzles(now);
        if !puzzles.is_empty() {
            let answers = self.solutions.0.clone();
            // Reads much of /proc.
            tokio::task::spawn_blocking(move || look_why(puzzles, &answers));
        }
        self.show_instances();
    }

    fn show_instances(&mut self) {
        if self.instances.take_changed() {
            self.view.set_instances(&self.instances);
        }
    }

    fn discoveries(&self) -> MutexGuard<'_, Discoveries> {
        self.discoveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell(&self, message: &DataMessage) {
        if let Err(error) = self.sender.send(message).await {
            log::warn(&format!("the keeper cannot be told: {error}"));
        }
    }

    async fn look_at_files(&mut self, receiver: &mut Receiver) {
        if self.drain.is_none()
            && let Some(file) = self.watch.changed()
        {
            let _ = self
                .reload(&format!("{} changed", file.display()), receiver)
                .await;
        }
    }

    async fn serve_request(&mut self, request: Request, receiver: &mut Receiver) {
        match request {
            Request::Reload(answer) => {
                let result = self.reload("asked by the admin listener", receiver).await;
                let _ = answer.send(result);
            }
            Request::Upgrade(binary, answer) => {
                let refused = match (&self.drain, self.upgrading.is_empty()) {
                    (Some(_), _) => Some("this process is draining already"),
                    // Its result is not for this one.
                    (None, false) => Some("another upgrade is under way"),
                    (None, true) => None,
                };
                if let Some(reason) = refused {
                    let _ = answer.send(Err(reason.to_owned()));
                    return;
                }
                self.upgrading.push(answer);
                self.tell(&DataMessage::Upgrade { binary }).await;
            }
            Request::Deploy(service, answer) => {
                let _ = answer.send(self.instances.deploy(&service));
            }
            Request::Promote(request, answer) => {
                let now = self.parts.edge.shared.clock.now();
                let shared = self.postgres.shared();
                let lease = self.leader.is_held();
                let told = self.promotions.ask(&request, shared.as_ref(), lease, now);
                self.view.set_promotions(self.promotions.views(now));
                let _ = answer.send(told);
            }
            Request::Stop(answer) => {
                let _ = answer.send(Ok("stopping".to_owned()));
                self.tell(&DataMessage::Stop {}).await;
            }
        }
    }
}

fn look_why(puzzles: Vec<Puzzle>, answers: &mpsc::Sender<Solution>) {
    for puzzle in puzzles {
        let found = diagnose::explain(&puzzle.name, &puzzle.address, puzzle.shim);
        // What cannot be read, or told in time, is looked at again later.
        if let Ok(found) = found {
            let _ = answers.try_send((puzzle, found));
        }
    }
}
