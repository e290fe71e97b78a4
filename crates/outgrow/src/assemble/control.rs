//! The loop in which everything but traffic happens: what the keeper says, what the checks find,
//! what the admin listener is asked for, files that change, instances that come and go.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_edge::{Drain, Edge, RecordWriter};
use outgrow_fleet::client::{FromKeeper, Receiver, Sender};
use outgrow_fleet::protocol::{DataMessage, DrainReason, Hello, KeeperMessage};
use outgrow_tls::TicketKeys;
use outgrow_upstream::{Event, Registry};
use tokio::sync::{mpsc, oneshot};

use super::instances::Instances;
use super::listeners::{Listeners, Sockets};
use super::view::View;
use super::watch::Watch;
use super::{access, certificates, compile, listeners, log, start};
use crate::cli::ConfigSource;
use crate::config::{Config, Look};

/// How often instances and drains are looked at without being told.
const STEP: Duration = Duration::from_millis(100);
/// How often files are looked at.
const WATCH: Duration = Duration::from_secs(1);
/// Events of the upstream room that may wait.
const EVENTS: usize = 1024;
/// How long a new plan may take to reach every worker.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);

/// What a start hands over to the loop.
pub(super) struct Parts {
    pub(super) hello: Hello,
    pub(super) config: Config,
    pub(super) cores: usize,
    pub(super) sockets: Sockets,
    pub(super) registry: Arc<Registry>,
    pub(super) records: Arc<RecordWriter>,
    pub(super) tickets: Arc<TicketKeys>,
    pub(super) edge: Edge,
}

/// Something that somebody asked for, with where the answer goes.
#[derive(Debug)]
pub(super) enum Request {
    /// Read the configuration again.
    Reload(oneshot::Sender<Result<String, String>>),
    /// Start the new binary's data process.
    Upgrade(Option<PathBuf>, oneshot::Sender<Result<String, String>>),
    /// Stop everything.
    Stop(oneshot::Sender<Result<String, String>>),
}

/// The loop's state.
pub(super) struct Control {
    parts: Parts,
    sender: Sender,
    receiver: Option<Receiver>,
    source: ConfigSource,
    listeners: Listeners,
    instances: Instances,
    watch: Watch,
    view: Arc<View>,
    requests: mpsc::Receiver<Request>,
    events: mpsc::Receiver<Event>,
    /// Who waits for the result of an upgrade.
    upgrading: Vec<oneshot::Sender<Result<String, String>>>,
    /// Addresses that a reload waits for, and those that could not be bound.
    binding: BTreeMap<String, Option<Result<Vec<OwnedFd>, String>>>,
    drain: Option<Draining>,
}

/// A drain under way.
struct Draining {
    reason: DrainReason,
    /// When the listeners stop.
    stops_at: Ticks,
    /// When connections are closed.
    ends_at: Ticks,
    stopped: bool,
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
        compile::services(&parts.config, &parts.registry, now);
        let mut instances = Instances::new(parts.hello.generation);
        for report in std::mem::take(&mut parts.hello.instances) {
            instances.note(report, true, &parts.config, &parts.registry, now);
        }
        let view = View::new(&parts, asks);
        let watch = Watch::new(source.file(), &parts.config);
        let mut control = Self {
            parts,
            sender,
            receiver: Some(receiver),
            source,
            listeners: Listeners::default(),
            instances,
            watch,
            view,
            requests,
            events,
            upgrading: Vec::new(),
            binding: BTreeMap::new(),
            drain: None,
        };
        if let Err(message) = control.serve().await {
            let _ = control.sender.send(&DataMessage::Fatal { message }).await;
            return Err(());
        }
        Ok(control)
    }

    async fn serve(&mut self) -> Result<(), String> {
        let clock = self.parts.edge.shared.clock;
        let plans = self.listener_plans(&self.parts.config)?;
        let shared = &self.parts.edge.shared;
        let plan = compile::plan(&self.parts.config, &self.parts.registry, shared);
        shared.plan.publish(Arc::new(plan));
        tokio::spawn(outgrow_upstream::registry::run(
            Arc::clone(&self.parts.registry),
            clock,
        ));
        self.listeners
            .apply(&self.parts.edge, &self.parts.sockets, plans)
            .await?;
        self.view.serve(&self.parts)?;
        self.view.set_instances(&self.instances);
        start::say_ready(&self.sender, &self.parts.config)
            .await
            .map_err(|error| error.to_string())?;
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
        if let Some(address) = self.parts.config.admin.listen.address() {
            log::info(&format!(
                "admin: http://{address}/ (metrics, state, reload, upgrade)"
            ));
        }
    }

    fn listener_plans(
        &self,
        config: &Config,
    ) -> Result<BTreeMap<String, outgrow_edge::ListenerPlan>, String> {
        let mut plans = BTreeMap::new();
        for (name, settings) in &config.listener {
            let tls = certificates::build(name.as_str(), settings, &self.parts.tickets)?;
            let shared = &self.parts.edge.shared;
            let plan = compile::listener(name.as_str(), settings, tls, shared);
            plans.insert(listeners::key(&settings.address.to_string()), plan);
        }
        Ok(plans)
    }

    /// Runs until this process has drained.
    pub(super) async fn run(mut self) -> ExitCode {
        let mut steps = tokio::time::interval(STEP);
        let mut looks = tokio::time::interval(WATCH);
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
                        self.parts.edge.drain(Drain::Now).await;
                        return ExitCode::FAILURE;
                    }
                },
                Some(event) = self.events.recv() => self.take_event(event).await,
                Some(request) = self.requests.recv() => {
                    self.serve_request(request, &mut receiver).await;
                }
                _ = looks.tick() => self.look_at_files(&mut receiver).await,
                _ = steps.tick() => {}
            }
            self.step().await;
            if self.is_drained() {
                self.view.finish_serving().await;
                let _ = self.sender.send(&DataMessage::Drained {}).await;
                self.parts.edge.end().await;
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
                let (config, registry) = (&self.parts.config, &self.parts.registry);
                self.instances.note(*report, false, config, registry, now);
                self.view.set_instances(&self.instances);
            }
            KeeperMessage::Reload {} => {
                let _ = self.reload("SIGHUP", receiver).await;
            }
            KeeperMessage::Drain { reason } => self.begin_drain(reason, now),
            KeeperMessage::UpgradeResult { ok, message } => {
                for waiting in self.upgrading.drain(..) {
                    let _ = waiting.send(if ok {
                        Ok(message.clone())
                    } else {
                        Err(message.clone())
                    });
                }
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

    async fn take_event(&mut self, event: Event) {
        let now = self.parts.edge.shared.clock.now();
        match event {
            Event::EndpointUp(subject) => match &subject.instance {
                Some(name) => self.instances.note_ready(name, &subject.address, now),
                None => log::info(&format!("{} is up at {}", subject.service, subject.address)),
            },
            Event::EndpointDown { subject, reason } => {
                let name = subject.instance.as_deref().unwrap_or(&subject.address);
                log::warn(&format!("{}: {name} is down: {reason}", subject.service));
            }
            Event::Ejected {
                subject,
                time,
                in_a_row,
            } => {
                let name = subject.instance.as_deref().unwrap_or(&subject.address);
                log::warn(&format!(
                    "{}: {name} failed too many requests: ejected for {time:?} ({in_a_row} in a row)",
                    subject.service
                ));
            }
            Event::Returned(subject) => {
                let name = subject.instance.as_deref().unwrap_or(&subject.address);
                log::info(&format!("{}: {name} gets requests again", subject.service));
            }
            Event::Panic {
                service,
                on,
                healthy,
                known,
            } => {
                if on {
                    log::warn(&format!(
                        "{service}: only {healthy} of {known} endpoints are healthy: all are used \
                         (panic_threshold)"
                    ));
                } else {
                    log::info(&format!(
                        "{service}: {healthy} of {known} endpoints are healthy"
                    ));
                }
            }
            Event::NotLive { subject, reason } => {
                let Some(name) = &subject.instance else {
                    return;
                };
                if let Some(message) = self.instances.restart(name, &subject.address, &reason) {
                    self.tell(&message).await;
                }
            }
        }
        self.view.set_instances(&self.instances);
    }

    /// What time alone brings about.
    async fn step(&mut self) {
        let now = self.parts.edge.shared.clock.now();
        if self.drain.is_some() {
            self.go_on_draining(now).await;
            return;
        }
        let (config, registry) = (&self.parts.config, &self.parts.registry);
        let messages = self
            .instances
            .steps(config, registry, self.parts.cores, now);
        for message in &messages {
            self.tell(message).await;
        }
    }

    async fn tell(&self, message: &DataMessage) {
        if let Err(error) = self.sender.send(message).await {
            log::warn(&format!("the keeper cannot be told: {error}"));
        }
    }

    fn begin_drain(&mut self, reason: DrainReason, now: Ticks) {
        let process = &self.parts.config.process;
        let (delay, limit) = match reason {
            DrainReason::Stop => (process.drain_delay, process.drain_timeout),
            DrainReason::Upgrade => (Duration::ZERO, process.upgrade_drain_timeout),
        };
        // A stop overtakes the drain of an upgrade, not the other way.
        if self
            .drain
            .as_ref()
            .is_some_and(|drain| drain.reason == DrainReason::Stop)
        {
            return;
        }
        self.view.set_draining(true);
        let stops_at = now + delay;
        self.drain = Some(Draining {
            reason,
            stops_at,
            ends_at: stops_at + limit,
            stopped: false,
        });
    }

    async fn go_on_draining(&mut self, now: Ticks) {
        let Some(drain) = &mut self.drain else { return };
        if drain.stopped || now < drain.stops_at {
            return;
        }
        drain.stopped = true;
        let how = match drain.reason {
            DrainReason::Stop => Drain::Now,
            DrainReason::Upgrade => Drain::Gently,
        };
        let open = self.parts.edge.shared.connections();
        log::info(&format!("draining: {open} connections are open"));
        self.parts.edge.drain(how).await;
        match how {
            Drain::Gently => self.view.stop_serving(),
            _ => self.release_public().await,
        }
    }

    /// Closes the public listeners for good: who comes now is refused at once and can go
    /// elsewhere, instead of waiting in a queue that nobody will serve.
    async fn release_public(&mut self) {
        for key in self.parts.sockets.keys() {
            if !listeners::is_admin(&key) {
                self.parts.sockets.remove(&key);
                self.tell(&DataMessage::Release { key }).await;
            }
        }
    }

    fn is_drained(&self) -> bool {
        let Some(drain) = &self.drain else {
            return false;
        };
        let shared = &self.parts.edge.shared;
        drain.stopped && (shared.connections() == 0 || shared.clock.now() >= drain.ends_at)
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
                if self.drain.is_some() {
                    let _ = answer.send(Err("this process is draining already".to_owned()));
                    return;
                }
                self.upgrading.push(answer);
                self.tell(&DataMessage::Upgrade { binary }).await;
            }
            Request::Stop(answer) => {
                let _ = answer.send(Ok("stopping".to_owned()));
                self.tell(&DataMessage::Stop {}).await;
            }
        }
    }

    /// Takes over a new configuration whole, or refuses it whole.
    async fn reload(&mut self, why: &str, receiver: &mut Receiver) -> Result<String, String> {
        let result = self.try_reload(receiver).await;
        self.view.count_reload(result.is_ok());
        match &result {
            Ok(done) => log::info(&format!("reloaded ({why}): {done}")),
            Err(problem) => {
                log::warn(&format!(
                    "not reloaded ({why}); the running configuration stays"
                ));
                for line in problem.lines() {
                    log::warn(line);
                }
            }
        }
        result
    }

    async fn try_reload(&mut self, receiver: &mut Receiver) -> Result<String, String> {
        if self.drain.is_some() {
            return Err("this process is draining".to_owned());
        }
        let text = self.source.text()?;
        let (config, warnings) = self.source.load_text(&text, Look::Plain)?;
        // Before anything changes: what can fail.
        let plans = self.listener_plans(&config)?;
        let bound = self.bind_new(&config, receiver).await?;
        access::direct(&self.parts.records, &config.access)?;
        for (key, sockets) in bound {
            self.parts.sockets.put(key, sockets);
        }
        let now = self.parts.edge.shared.clock.now();
        compile::services(&config, &self.parts.registry, now);
        let shared = Arc::clone(&self.parts.edge.shared);
        let plan = compile::plan(&config, &self.parts.registry, &shared);
        shared.ledger.set_limit(config.process.memory.0);
        shared.plan.publish(Arc::new(plan));
        self.listeners
            .apply(&self.parts.edge, &self.parts.sockets, plans)
            .await?;
        shared
            .metrics
            .retire(&|name| config.route.keys().any(|route| route.as_str() == name));
        self.parts.config = config;
        start::keep_text(&self.sender, text).await;
        self.view.serve(&self.parts)?;
        self.release_unused().await;
        self.watch = Watch::new(self.source.file(), &self.parts.config);
        self.wait_for_workers().await;
        let counts = &self.parts.config;
        Ok(format!(
            "{} listeners, {} services, {} routes{}{}",
            counts.listener.len(),
            counts.service.len(),
            counts.route.len(),
            if warnings.is_empty() { "" } else { "\n" },
            warnings.trim_end()
        ))
    }

    /// Gets sockets for addresses that are new; all or none.
    async fn bind_new(
        &mut self,
        config: &Config,
        receiver: &mut Receiver,
    ) -> Result<Vec<(String, Vec<OwnedFd>)>, String> {
        let workers = self.parts.edge.shared.loads.len();
        let mut names = BTreeMap::new();
        for (key, address, sockets) in start::addresses(config, workers) {
            if !self.parts.sockets.has(&key) {
                names.insert(key.clone(), address.clone());
                self.binding.insert(key.clone(), None);
                self.tell(&DataMessage::Bind {
                    key,
                    address,
                    sockets,
                })
                .await;
            }
        }
        while self.binding.values().any(Option::is_none) {
            match receiver.receive().await {
                Ok(FromKeeper::Message(message, descriptors)) => {
                    Box::pin(self.hear(message, descriptors, receiver)).await;
                }
                Ok(FromKeeper::Ignored(line)) => log::warn(&line),
                Err(error) => return Err(error.to_string()),
            }
        }
        let mut bound = Vec::new();
        let mut problems = Vec::new();
        for (key, result) in std::mem::take(&mut self.binding) {
            match result {
                Some(Ok(sockets)) => bound.push((key, sockets)),
                Some(Err(reason)) => {
                    let address = names.get(&key).cloned().unwrap_or_default();
                    problems.push(format!("cannot listen at {address}: {reason}"));
                }
                None => {}
            }
        }
        if problems.is_empty() {
            return Ok(bound);
        }
        for (key, sockets) in bound {
            drop(sockets);
            self.tell(&DataMessage::Release { key }).await;
        }
        Err(problems.join("\n"))
    }

    /// Gives sockets back to the keeper that no listener uses any more. The workers took what was
    /// in their queues.
    async fn release_unused(&mut self) {
        let workers = self.parts.edge.shared.loads.len();
        let wanted = start::addresses(&self.parts.config, workers);
        for key in self.parts.sockets.keys() {
            if !wanted.iter().any(|(one, ..)| *one == key) {
                self.parts.sockets.remove(&key);
                self.tell(&DataMessage::Release { key }).await;
            }
        }
    }

    /// A reload is complete when every worker works with the new plan.
    async fn wait_for_workers(&self) {
        let shared = &self.parts.edge.shared;
        let wait = async {
            while !shared.is_acknowledged() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(ACKNOWLEDGE, wait).await.is_err() {
            log::warn("a worker has not taken over the new plan within 5 s: it lags");
        }
    }
}
