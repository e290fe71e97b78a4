//! All of a start that can fail, before anything is begun: the text, the certificates, the access
//! record's file, the addresses.
//!
//! When a data process died, what the file says by now may be good to read and yet impossible (a
//! port is taken, a key is not there yet). Then the one that replaces it starts with what ran
//! before: a mistake in the file must not turn a crash into an outage. Not so in an upgrade, where
//! another one serves.

use std::sync::Arc;

use outgrow_fleet::client::{FromKeeper, Receiver, Sender};
use outgrow_fleet::protocol::channel::LOST;
use outgrow_fleet::protocol::{DataMessage, Hello, KeeperMessage};
use outgrow_tls::{Staples, TicketKeys};

use super::acme::{self, Strictness};
use super::certificates::{self, Certificates, Texts};
use super::listeners::Sockets;
use super::pages::PageTexts;
use super::watch::Watch;
use super::{access, listeners, log};
use crate::cli::ConfigSource;
use crate::config::{Config, Look};

/// Under which name the keeper holds the text of the last configuration that was in force.
pub(super) const CONFIGURATION: &str = "configuration";
/// Under which name it holds the certificates and keys of that one.
const CERTIFICATES: &str = "certificates";
/// The most bytes of it that are kept; all that is kept may take 8 MiB.
const TEXT_LIMIT: usize = 6 * 1024 * 1024;
/// The most bytes of certificates and keys that are kept.
const CERTIFICATES_LIMIT: usize = 384 * 1024;

/// A configuration of which everything that can fail has been done.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) warnings: String,
    /// What it was read from.
    pub(super) text: String,
    pub(super) certificates: Certificates,
    /// The texts of pages for errors.
    pub(super) pages: PageTexts,
    pub(super) access: Option<access::Target>,
    /// The files that it was read from.
    pub(super) watch: Watch,
}

/// What a preparation works with.
pub(super) struct Preparation<'a> {
    pub(super) sender: &'a Sender,
    pub(super) receiver: &'a mut Receiver,
    pub(super) source: &'a ConfigSource,
    pub(super) tickets: &'a Arc<TicketKeys>,
    pub(super) staples: &'a Arc<Staples>,
    pub(super) cores: usize,
    pub(super) hello: &'a mut Hello,
    pub(super) sockets: &'a mut Sockets,
}

impl Preparation<'_> {
    /// The configuration as it is now, or the one that ran before.
    pub(super) async fn prepare(&mut self) -> Result<Prepared, String> {
        // What is saved from now on is a change.
        let watch = Watch::before_reading(self.source.file());
        let now = match self.source.text() {
            Ok(text) => self.attempt(text, &Texts::new(), watch.clone()).await,
            Err(problem) => Err(problem),
        };
        let problems = match now {
            Ok(prepared) => return Ok(prepared),
            Err(problems) => problems,
        };
        let kept = self.hello.kept.get(CONFIGURATION);
        let Some(text) = kept.and_then(|value| value.as_str()) else {
            return Err(problems);
        };
        if self.hello.upgrade {
            return Err(problems);
        }
        for line in problems.lines() {
            log::warn(line);
        }
        log::warn(
            "what the file says cannot be put in force: the configuration that ran before is used",
        );
        let certificates = self.hello.kept.get(CERTIFICATES).cloned();
        let certificates = certificates.and_then(|value| serde_json::from_value(value).ok());
        let text = text.to_owned();
        let certificates = certificates.unwrap_or_default();
        self.attempt(text, &certificates, watch).await
    }

    async fn attempt(
        &mut self,
        text: String,
        kept: &Texts,
        watch: Watch,
    ) -> Result<Prepared, String> {
        let is_kept = |path: &std::path::Path| kept.contains_key(path);
        let (config, warnings) = self.source.load_kept(&text, Look::Plain, &is_kept)?;
        let watch = watch.with_certificates(&config);
        // What ran before goes on, whatever became of its directory.
        let strictness = match kept.is_empty() {
            true => Strictness::Strict,
            false => Strictness::Lenient,
        };
        let acme = acme::Prepared::new(&config, None, strictness, self.staples)?;
        let around = certificates::Around {
            tickets: self.tickets,
            staples: self.staples,
        };
        let certificates = certificates::build(&config, &around, kept, acme)?;
        let pages = match kept.is_empty() {
            true => PageTexts::read(&config)?,
            // What ran before goes on, whatever became of its pages.
            false => PageTexts::read_what_there_is(&config),
        };
        let access = access::open(&config.access)?;
        self.bind_missing(&config).await?;
        Ok(Prepared {
            config,
            warnings,
            text,
            certificates,
            pages,
            access,
            watch,
        })
    }

    /// Gets sockets for every address; all or none.
    pub(super) async fn bind_missing(&mut self, config: &Config) -> Result<(), String> {
        let (mut new, mut problems) = (Vec::new(), Vec::new());
        for bind in addresses(config, workers(config, self.cores)) {
            if self.sockets.has(&bind.key) {
                continue;
            }
            let key = bind.key.clone();
            match self.bind(bind).await {
                Ok(()) => new.push(key),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        for key in new {
            self.sockets.remove(&key);
            let _ = self.sender.send(&DataMessage::Release { key }).await;
        }
        Err(problems.join("\n"))
    }

    async fn bind(&mut self, bind: Bind) -> Result<(), String> {
        let told = self.sender.send(&bind.message()).await;
        told.map_err(|error| error.to_string())?;
        loop {
            let said = self.receiver.receive().await;
            let FromKeeper::Message(message, descriptors) =
                said.map_err(|error| error.to_string())?
            else {
                continue;
            };
            match message {
                KeeperMessage::Bound { key, .. } if key == bind.key => {
                    if descriptors.is_empty() {
                        let _ = self.sender.send(&DataMessage::Release { key }).await;
                        return Err(bind.problem(LOST));
                    }
                    self.sockets.put(key, descriptors);
                    return Ok(());
                }
                KeeperMessage::BindFailed { key, reason } if key == bind.key => {
                    return Err(bind.problem(&reason));
                }
                // Newer than what the greeting says of it.
                KeeperMessage::Instance(report) => self.hello.instances.push(*report),
                _ => {}
            }
        }
    }
}

/// How many workers the configuration wants.
pub(super) fn workers(config: &Config, cores: usize) -> usize {
    config
        .process
        .workers
        .map_or(cores, usize::from)
        .clamp(1, 256)
}

/// An address that somebody is to listen at.
#[derive(Clone, Debug)]
pub(super) struct Bind {
    pub(super) key: String,
    /// The listener's name, by which it gets sockets that were passed to the keeper.
    name: String,
    address: String,
    sockets: u32,
    is_admin: bool,
}

impl Bind {
    /// The word to the keeper.
    pub(super) fn message(&self) -> DataMessage {
        DataMessage::Bind {
            key: self.key.clone(),
            name: self.name.clone(),
            address: self.address.clone(),
            sockets: self.sockets,
            // Whoever may connect to it may act.
            private: self.is_admin,
        }
    }

    /// What to tell when the keeper could not.
    pub(super) fn problem(&self, reason: &str) -> String {
        let address = &self.address;
        if !self.is_admin {
            return format!("cannot listen at {address}: {reason}");
        }
        format!(
            "the admin listener cannot listen at {address}: {reason}\n\
             hint: every outgrow on a machine needs an admin address of its own: [admin] listen, \
             or --admin HOST:PORT"
        )
    }
}

/// Every address of the configuration.
pub(super) fn addresses(config: &Config, workers: usize) -> Vec<Bind> {
    let workers = u32::try_from(workers).unwrap_or(1);
    let bind = |name: &str, key: String, address: String| Bind {
        key,
        name: name.to_owned(),
        address,
        sockets: workers,
        is_admin: false,
    };
    let mut wanted: Vec<Bind> = Vec::new();
    for (name, listener) in &config.listener {
        let address = listener.address.to_string();
        if listener.http3.is_some() {
            let key = listeners::quic_key(&address);
            wanted.push(bind(name.as_str(), key, format!("udp:{address}")));
        }
        wanted.push(bind(name.as_str(), listeners::key(&address), address));
    }
    for (name, listener) in &config.tcp {
        let address = listener.address.to_string();
        wanted.push(bind(name.as_str(), listeners::tcp_key(&address), address));
    }
    for (name, listener) in &config.udp {
        let address = listener.address.to_string();
        let key = listeners::udp_key(&address);
        wanted.push(bind(name.as_str(), key, format!("udp:{address}")));
    }
    for address in config.postgres.iter().flat_map(|postgres| &postgres.listen) {
        let address = address.to_string();
        wanted.push(bind("postgres", listeners::postgres_key(&address), address));
    }
    if let Some(address) = config.admin.listen.address() {
        let address = address.to_string();
        let admin = bind("admin", listeners::admin_key(&address), address);
        wanted.push(Bind {
            sockets: 1,
            is_admin: true,
            ..admin
        });
    }
    wanted
}

/// Lets the keeper hold what is in force now, for a data process that has to start when the files
/// are broken.
pub(super) async fn keep(sender: &Sender, text: String, certificates: &Texts) {
    let size: usize = certificates.values().map(String::len).sum();
    let certificates = if size <= CERTIFICATES_LIMIT {
        serde_json::to_value(certificates).unwrap_or_default()
    } else {
        // They are read from their files then.
        serde_json::Value::Null
    };
    let text = if text.len() <= TEXT_LIMIT {
        text.into()
    } else {
        log::warn("the configuration is larger than 6 MiB: it is not kept for a crash");
        serde_json::Value::Null
    };
    for (key, value) in [(CONFIGURATION, text), (CERTIFICATES, certificates)] {
        let key = key.to_owned();
        if let Err(error) = sender.send(&DataMessage::Keep { key, value }).await {
            log::warn(&format!("the keeper cannot be told: {error}"));
        }
    }
}
