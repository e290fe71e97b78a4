//! TLS to the endpoints of services, from settings and files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use outgrow_core::settings::{Address, Name};
use outgrow_edge::settings::{EndpointMode, EndpointTlsSettings};
use outgrow_net::Stream;
use outgrow_net::link::Sealed;
use outgrow_tls::{Choices, EndpointText, EndpointTls, Verification};
use outgrow_upstream::{Endpoint, Registry, Seal, Sealing, Speaks};

use super::log;
use super::tls_files::{Read, identity, told, trusted};
use crate::config::Config;

/// How often it is said why endpoints of a service cannot be spoken to.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// The TLS of each service that has one.
pub(super) type Seals = BTreeMap<Name, Arc<ServiceSeal>>;

/// What is in force.
#[derive(Debug, Default)]
pub(super) struct InForce {
    seals: Seals,
    /// The last number that a seal got.
    last: u64,
}

/// TLS to the endpoints of one service.
#[derive(Debug)]
pub(super) struct ServiceSeal {
    service: String,
    /// 0 until it is in force.
    number: AtomicU64,
    /// By what is spoken then.
    http1: EndpointTls,
    http2: EndpointTls,
    /// Instead of the endpoint's host.
    server_name: Option<String>,
    began: Instant,
    /// When a problem was last said, in milliseconds since it began; 0 for never.
    said: AtomicU64,
}

/// Two are equal that do the same.
impl PartialEq for ServiceSeal {
    fn eq(&self, other: &Self) -> bool {
        (&self.http1, &self.http2, &self.server_name)
            == (&other.http1, &other.http2, &other.server_name)
    }
}

impl ServiceSeal {
    fn say(&self, endpoint: &Endpoint, problem: &str) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.said.load(Ordering::Relaxed);
        let is_due = last == 0 || now >= last + SAID_EVERY.as_millis() as u64;
        // One of those that come at the same time says it.
        let said = &self.said;
        let now = now.max(1);
        if is_due
            && said
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let (service, endpoint) = (&self.service, endpoint.label());
            log::warn(&format!(
                "service {service}: no TLS with {endpoint}: {problem}"
            ));
        }
    }
}

impl Seal for ServiceSeal {
    fn seal<'a>(&'a self, stream: Stream, endpoint: &'a Endpoint, speaks: Speaks) -> Sealing<'a> {
        let tls = match speaks {
            Speaks::Http1 => &self.http1,
            Speaks::Http2 => &self.http2,
        };
        let host = match endpoint.address() {
            Address::Tcp { host, .. } => host.as_str(),
            Address::Unix(_) => "localhost",
        };
        let name = self.server_name.as_deref().unwrap_or(host);
        Box::pin(async move {
            match tls.connect(stream, name).await {
                Ok(sealed) => Ok(Box::new(sealed) as Box<dyn Sealed>),
                Err(refusal) => {
                    let problem = refusal.to_string();
                    self.say(endpoint, &problem);
                    Err(problem)
                }
            }
        })
    }

    fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }
}

/// Reads the files of all services and gets ready for handshakes. All that is wrong is told.
pub(super) fn build(config: &Config, read: Read<'_>) -> Result<Seals, String> {
    let mut seals = Seals::new();
    let mut problems = Vec::new();
    for (name, service) in &config.service {
        let Some(tls) = &service.tls else { continue };
        match seal(name.as_str(), tls, read) {
            Ok(seal) => drop(seals.insert(name.clone(), Arc::new(seal))),
            Err(problem) => problems.push(problem),
        }
    }
    match problems.is_empty() {
        true => Ok(seals),
        false => Err(problems.join("\n")),
    }
}

fn seal(service: &str, tls: &EndpointTlsSettings, read: Read<'_>) -> Result<ServiceSeal, String> {
    let table = format!("service.{service}.tls");
    let mut trusted = || trusted(tls.ca.as_deref(), &table, read);
    let verification = match tls.mode {
        EndpointMode::Require => Verification::Nobody,
        EndpointMode::VerifyCa => Verification::Issuer(trusted()?),
        EndpointMode::VerifyFull => Verification::IssuerAndName(trusted()?),
    };
    let identity = identity(tls.certificate.as_deref(), tls.key.as_deref(), read)?;
    let text = |protocol: &[u8]| EndpointText {
        verification: verification.clone(),
        identity: identity.clone(),
        alpn: vec![protocol.to_vec()],
        choices: Choices {
            lowest: tls.min_version,
            ..Choices::default()
        },
        table: "service.NAME.tls",
    };
    let build = |protocol: &[u8]| {
        EndpointTls::build(&text(protocol)).map_err(|problem| told(&table, &problem))
    };
    Ok(ServiceSeal {
        service: service.to_owned(),
        number: AtomicU64::new(0),
        http1: build(b"http/1.1")?,
        http2: build(b"h2")?,
        server_name: tls.server_name.clone(),
        began: Instant::now(),
        said: AtomicU64::new(0),
    })
}

impl InForce {
    /// Puts the TLS of all services in force: of those whose rules and certificates are as before,
    /// the connections stay.
    pub(super) fn apply(&mut self, seals: &Seals, registry: &Registry) {
        let mut applied = Seals::new();
        for (name, seal) in seals {
            let known = self.seals.get(name).filter(|known| *known == seal);
            let seal = known.unwrap_or_else(|| {
                self.last += 1;
                seal.number.store(self.last, Ordering::Relaxed);
                seal
            });
            applied.insert(name.clone(), Arc::clone(seal));
        }
        for service in registry.services() {
            let mut named = applied.iter();
            let seal = named.find(|(name, _)| name.as_str() == service.name());
            service.set_seal(seal.map(|(_, seal)| Arc::clone(seal) as Arc<dyn Seal>));
        }
        self.seals = applied;
    }
}
