//! The loop in which everything but traffic happens: what the keeper says, what the checks find,
//! what the admin listener is asked for, files that change, instances that come and go. How a
//! reload and a drain go is in their own files.

mod drain;
mod reload;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_core::settings::Name;
use outgrow_edge::settings::ListenerSettings;
use outgrow_edge::{Drain, Edge, RecordWriter};
use outgrow_fleet::client::{FromKeeper, Receiver, Sender};
use outgrow_fleet::protocol::{DataMessage, DrainReason, Hello, KeeperMessage};
use outgrow_tls::TicketKeys;
use outgrow_upstream::{Event, Registry};
use tokio::sync::{mpsc, oneshot};

use super::certificates::Certificates;
use super::instances::Instances;
use super::listeners::{Listeners, Sockets};
use super::view::View;
use super::watch::Watch;
use super::{compile, listeners, log, prepare, start};
use crate::cli::ConfigSource;
use crate::config::Config;

/// How often instances and drains are looked at without being told.
const STEP: Duration = Duration::from_millis(100);
/// How often files are looked at.
const WATCH: Duration = Duration::from_secs(1);
/// Events of the upstream room that may wait.
const EVENTS: usize = 1024;

/// What a start hands over to the loop.
pub(super) struct Parts {
    pub(super) hello: Hello,
    pub(super) config: Config,
    /// What the configuration was read from.
    pub(super) text: String,
    pub(super) certificates: Certificates,
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
        let plans = self.listener_plans(&self.parts.config, &self.parts.certificates);
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
        // Only what is in force is worth keeping.
        let text = self.parts.text.clone();
        prepare::keep(&self.sender, text, &self.parts.certificates.texts).await;
        start::say_ready(&self.sender, &self.parts.config)
            .await
            .map_err(|error| error.to_string())?;
        // Of an address that the configuration before this one had.
        self.release_unused().await;
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
        certificates: &Certificates,
    ) -> BTreeMap<String, outgrow_edge::ListenerPlan> {
        let plan = |(name, settings): (&Name, &ListenerSettings)| {
            let tls = certificates.servers.get(name).cloned();
            let shared = &self.parts.edge.shared;
            let plan = compile::listener(name.as_str(), settings, tls, shared);
            (listeners::key(&settings.address.to_string()), plan)
        };
        config.listener.iter().map(plan).collect()
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
            Event::NotLive {
                subject,
                reason,
                doubtful,
            } => {
                let restart = self.instances.restart(&subject, &reason, doubtful);
                if let Some(message) = restart {
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
}
