//! Reload: a new configuration is taken over whole or refused whole.
//!
//! All that can be expected to fail comes before anything changes; what runs on is untouched. What
//! fails later (a thread that cannot be started) is told as a failure that is in force for the rest, and
//! tried again at the next reload.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use outgrow_fleet::client::{FromKeeper, Receiver};
use outgrow_fleet::protocol::DataMessage;

use super::super::acme::{Prepared, Strictness};
use super::super::pages::PageTexts;
use super::super::watch::Watch;
use super::super::{access, certificates, compile, listeners, log, postgres_files, prepare, start};
use super::Control;
use crate::config::{Config, Look};

/// How long a new plan may take to reach every worker.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);

/// Why a reload is no success.
enum Failure {
    /// Nothing has changed.
    Refused(String),
    /// The configuration is in force but for what failed when it was.
    InPart(String),
}

impl From<String> for Failure {
    fn from(problem: String) -> Self {
        Self::Refused(problem)
    }
}

impl Control {
    /// Takes over a new configuration whole, or refuses it whole. An error too when it is in force but
    /// for a part, which the text says.
    pub(super) async fn reload(
        &mut self,
        why: &str,
        receiver: &mut Receiver,
    ) -> Result<String, String> {
        self.reloading = true;
        let result = self.try_reload(receiver).await;
        self.reloading = false;
        let in_part = matches!(result, Err(Failure::InPart(_)));
        let result = result.map_err(|failure| match failure {
            Failure::Refused(problem) => problem,
            Failure::InPart(problem) => format!("the new configuration is in force, {problem}"),
        });
        self.view.count_reload(result.is_ok());
        let (Ok(message) | Err(message)) = result.clone();
        let number = std::mem::take(&mut self.reload_number);
        self.tell(&DataMessage::Reloaded {
            number,
            ok: result.is_ok(),
            in_part,
            message,
        })
        .await;
        match &result {
            Ok(done) => log::info(&format!("reloaded ({why}): {done}")),
            Err(problem) => {
                log::warn(&match in_part {
                    true => format!("reloaded in part ({why})"),
                    false => format!("not reloaded ({why}); the running configuration stays"),
                });
                for line in problem.lines() {
                    log::warn(line);
                }
            }
        }
        result
    }

    async fn try_reload(&mut self, receiver: &mut Receiver) -> Result<String, Failure> {
        if self.drain.is_some() {
            return Err("this process is draining".to_owned().into());
        }
        // Before anything is read: what is saved from now on is a change.
        let watch = Watch::before_reading(self.source.file());
        let text = self.source.text()?;
        let (config, warnings) = self.source.load_text(&text, Look::Plain)?;
        let watch = watch.with_certificates(&config);
        // Before anything changes: what can fail.
        let staples = self.ocsp.staples();
        let challenges = Some(self.acme.challenges());
        let acme = Prepared::new(&config, challenges, Strictness::Strict, staples)?;
        let none = certificates::Texts::new();
        let around = certificates::Around {
            tickets: &self.parts.tickets,
            staples,
        };
        let mut certificates = certificates::build(&config, &around, &none, acme)?;
        let pages = PageTexts::read(&config)?;
        let access = access::open(&config.access)?;
        let postgres = postgres_files::Files::read(config.postgres.as_ref())?;
        let plans = self.listener_plans(&config, &certificates, &pages)?;
        // Last, for what is bound must be given back if the reload is refused.
        let bound = self.bind_new(&config, receiver).await?;
        self.parts.records.direct(access, config.access.format);
        for (key, sockets) in bound {
            self.parts.sockets.put(key, sockets);
        }
        let now = self.parts.edge.shared.clock.now();
        let clock = self.parts.edge.shared.clock;
        let registry = &self.parts.registry;
        {
            let mut discoveries = self.discoveries();
            discoveries.configure(&config, registry, clock);
            compile::services(&config, registry, &discoveries, now);
        }
        self.seals.apply(&certificates.seals, registry);
        let shared = Arc::clone(&self.parts.edge.shared);
        let plan = compile::plan(
            &config,
            &self.parts.registry,
            &shared,
            &self.parts.cookie_secret,
            &self.parts.floors,
            &pages,
        );
        shared.ledger.set_limit(config.process.memory.0);
        let most = config.process.max_open_files.map(u64::from);
        shared.open_files.set_most(most);
        shared.plan.publish(Arc::new(plan));
        // From here on it is in force: what fails all the same is told, and tried again at the next one.
        let listening = &mut self.listeners;
        let listening = listening.apply(&self.parts.edge, &self.parts.sockets, plans);
        let mut missing: Vec<String> = listening.await;
        shared
            .metrics
            .retire(&|name| config.route.keys().any(|route| route.as_str() == name));
        self.instances.configure(&config, self.parts.cores);
        self.instances.refresh(&self.parts.registry, now);
        self.parts.config = config;
        self.parts.pages = pages;
        let encryptions = &certificates.postgres;
        missing.extend(self.apply_postgres(postgres, encryptions).await.err());
        self.apply_acme(&mut certificates);
        missing.extend(self.apply_streams().await.err());
        self.configure_boxes();
        prepare::keep(&self.sender, text, &certificates.texts).await;
        self.remember_alt_svc().await;
        self.say_limits().await;
        missing.extend(self.view.serve(&self.parts).err());
        self.release_unused().await;
        self.watch = watch;
        self.wait_for_workers().await;
        if !missing.is_empty() {
            let lines = missing.iter().map(|problem| format!("but {problem}"));
            let warnings = warnings.trim_end().lines().map(str::to_owned);
            let lines: Vec<String> = lines.chain(warnings).collect();
            return Err(Failure::InPart(lines.join("\n")));
        }
        let counts = &self.parts.config;
        Ok(format!(
            "{} listeners, {} services, {} routes{}{}",
            counts.listener.len() + counts.tcp.len() + counts.udp.len(),
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
        let mut asked = BTreeMap::new();
        for bind in prepare::addresses(config, workers) {
            if !self.parts.sockets.has(&bind.key) {
                self.binding.insert(bind.key.clone(), None);
                self.tell(&bind.message()).await;
                asked.insert(bind.key.clone(), bind);
            }
        }
        while self.binding.values().any(Option::is_none) {
            match receiver.receive().await {
                Ok(FromKeeper::Message(message, descriptors)) => {
                    Box::pin(self.hear(message, descriptors, receiver)).await;
                }
                Ok(FromKeeper::Ignored(line)) => log::warn(&line),
                Err(error) => {
                    self.binding.clear();
                    return Err(error.to_string());
                }
            }
        }
        let mut bound = Vec::new();
        let mut problems = Vec::new();
        for (key, result) in std::mem::take(&mut self.binding) {
            match result {
                Some(Ok(sockets)) => bound.push((key, sockets)),
                Some(Err(reason)) => {
                    let problem = asked.get(&key).map(|bind| bind.problem(&reason));
                    problems.push(problem.unwrap_or(reason));
                }
                None => {}
            }
        }
        // Listeners get copies. That none can be made is found now, when nothing has changed.
        let sockets = bound.iter().flat_map(|(_, sockets)| sockets);
        let copies: std::io::Result<Vec<OwnedFd>> = sockets.map(OwnedFd::try_clone).collect();
        if let Err(error) = copies {
            problems.push(format!("sockets cannot be copied: {error}"));
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

    /// Gives sockets back to the keeper from which nobody accepts (any more): of a listener that is gone, or
    /// that could not be put in force. Whoever connects at this very moment is refused.
    pub(super) async fn release_unused(&mut self) {
        let workers = self.parts.edge.shared.loads.len();
        let wanted = prepare::addresses(&self.parts.config, workers);
        for key in self.parts.sockets.keys() {
            let is_heard = self.listeners.has(&key)
                || self.postgres.has(&key)
                || self.streams.has(&key)
                || self.view.serves(&key);
            let is_used = is_heard && wanted.iter().any(|bind| bind.key == key);
            // Connections of HTTP/3 live on at sockets of a listener that is gone.
            if !is_used && !self.parts.http3.needs(&key) {
                self.parts.sockets.remove(&key);
                self.tell(&DataMessage::Release { key }).await;
            }
        }
    }

    /// Gives sockets back at which the last connections have ended.
    pub(super) async fn release_drained(&mut self) {
        let keys = self.parts.sockets.keys().into_iter();
        let mut left = keys.filter(|key| listeners::is_quic(key) && !self.listeners.has_quic(key));
        if self.drain.is_none() && left.any(|key| !self.parts.http3.needs(&key)) {
            self.release_unused().await;
        }
    }

    /// The keeper's patience with this process's drain is that of the new configuration.
    async fn say_limits(&self) {
        if let Err(error) = start::say_limits(&self.sender, &self.parts.config).await {
            log::warn(&format!("the keeper cannot be told: {error}"));
        }
    }

    /// A reload is complete when every worker works with the new plan.
    async fn wait_for_workers(&self) {
        let shared = &self.parts.edge.shared;
        let wait = async {
            while !shared.is_acknowledged() || !self.postgres.is_acknowledged() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(ACKNOWLEDGE, wait).await.is_err() {
            log::warn("a worker has not taken over the new plan within 5 s: it lags");
        }
    }
}
