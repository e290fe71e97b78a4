//! Reads certificate files and keeps the keys of session tickets.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::settings::Name;
use outgrow_core::{WallTime, hex};
use outgrow_edge::settings::{ListenerSettings, ListenerTls, Ocsp, Protocol, UnknownName};
use outgrow_tls::{
    Choices, ClientCertificates, Managed, RESPONSE_LIMIT, RevocationText, ServerTls, StapleText,
    Staples, Stapling, TicketKeys, TicketSecret, TlsProblem, TlsText,
};

use super::acme::{self, Strictness};
use super::postgres_tls::Encryptions;
use super::seals::{self, Seals};
use super::tls_files::{Read, issuers, pair_text, told};
use crate::config::Config;

/// How long a session may be resumed (RFC 8446 allows up to 7 days).
const TICKET_LIFETIME: Duration = Duration::from_secs(12 * 3_600);

/// The keys of session tickets, which outlive data processes.
pub(super) fn ticket_keys(kept: Option<&str>) -> Result<(Arc<TicketKeys>, String), String> {
    let secret = match kept.and_then(hex::decode_exactly) {
        Some(bytes) => TicketSecret::new(bytes),
        None => TicketSecret::random().map_err(|problem| problem.to_string())?,
    };
    let text = hex::encode(secret.bytes());
    let keys =
        TicketKeys::new(&[secret], TICKET_LIFETIME).map_err(|problem| problem.to_string())?;
    Ok((keys, text))
}

/// What listeners' TLS is made with besides the configuration.
pub(super) struct Around<'a> {
    /// The keys of session tickets.
    pub(super) tickets: &'a Arc<TicketKeys>,
    /// The staples of the process.
    pub(super) staples: &'a Arc<Staples>,
}

/// How a listener's certificates are stapled.
pub(super) fn stapling(tls: &ListenerTls, staples: &Arc<Staples>) -> Stapling {
    Stapling {
        staples: Arc::clone(staples),
        asks: tls.ocsp == Ocsp::Auto,
    }
}

/// What certificates and keys were read from, by path.
pub(super) type Texts = BTreeMap<PathBuf, String>;

/// The TLS of all listeners.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    /// By the listener's name.
    pub(super) servers: BTreeMap<Name, Arc<ServerTls>>,
    /// Towards the endpoints of services.
    pub(super) seals: Seals,
    /// Those of the Postgres tier.
    pub(super) postgres: Encryptions,
    /// Those that are got from an authority.
    pub(super) acme: acme::Prepared,
    /// What they were made from.
    pub(super) texts: Texts,
}

/// Whether the TLS of every listener could be built.
pub fn check(config: &Config) -> Result<(), String> {
    let (tickets, _) = ticket_keys(None)?;
    let staples = Arc::default();
    let acme = acme::Prepared::new(config, None, Strictness::Unread, &staples)?;
    let around = Around {
        tickets: &tickets,
        staples: &staples,
    };
    build(config, &around, &Texts::new(), acme).map(|_| ())
}

/// Builds the TLS of every listener that has one, and of the Postgres tier. A file that is among `kept` is not read.
pub(super) fn build(
    config: &Config,
    around: &Around<'_>,
    kept: &Texts,
    acme: acme::Prepared,
) -> Result<Certificates, String> {
    let mut certificates = Certificates {
        acme,
        ..Certificates::default()
    };
    let (texts, acme) = (&mut certificates.texts, &certificates.acme);
    let mut read = |path: &Path| match kept.get(path) {
        Some(text) => {
            texts.insert(path.to_path_buf(), text.clone());
            Ok(text.clone().into_bytes())
        }
        None => {
            let bytes = read(path)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            texts.insert(path.to_path_buf(), text);
            Ok::<_, String>(bytes)
        }
    };
    for (name, settings) in &config.listener {
        let managed = acme.managed(name);
        if let Some(server) = server(name.as_str(), settings, around, managed, &mut read)? {
            certificates.servers.insert(name.clone(), server);
        }
    }
    certificates.seals = seals::build(config, &mut read)?;
    if let Some(settings) = &config.postgres {
        certificates.postgres = Encryptions::build(settings, &mut read)?;
    }
    Ok(certificates)
}

fn server(
    name: &str,
    settings: &ListenerSettings,
    around: &Around<'_>,
    managed: Option<Arc<Managed>>,
    read: Read<'_>,
) -> Result<Option<Arc<ServerTls>>, String> {
    let Some(tls) = &settings.tls else {
        return Ok(None);
    };
    let mut certificates = Vec::new();
    for pair in &tls.certificates {
        let mut text = pair_text(&pair.certificate, &pair.key, read)?;
        text.staple = pair.ocsp_file.as_deref().map(response);
        certificates.push(text);
    }
    let mut alpn = Vec::new();
    if settings.protocols.contains(&Protocol::Http2) {
        alpn.push(b"h2".to_vec());
    }
    if settings.protocols.contains(&Protocol::Http11) {
        alpn.push(b"http/1.1".to_vec());
    }
    let text = TlsText {
        certificates,
        alpn,
        refuses_unknown_names: tls.unknown_name == UnknownName::Refuse,
        clients: clients(tls, read)?,
        revoked: revoked(tls, read)?,
        choices: Choices {
            lowest: tls.min_version,
            suites: tls.cipher_suites.clone(),
            ..Choices::default()
        },
        managed,
        stapling: stapling(tls, around.staples),
    };
    let table = format!("listener.{name}.tls");
    let own = own_tickets(tls).map_err(|problem| format!("[{table}] {problem}"))?;
    let tickets = own.as_ref().unwrap_or(around.tickets);
    match ServerTls::build(&text, Arc::clone(tickets), WallTime::now()) {
        Ok((tls, warnings)) => {
            for warning in warnings {
                super::log::warn(&format!("[{table}] {warning}"));
            }
            Ok(Some(tls))
        }
        Err(problems) => {
            let lines: Vec<String> = problems
                .iter()
                .map(|problem| told(&table, problem))
                .collect();
            Err(lines.join("\n"))
        }
    }
}

/// Whether clients show certificates.
fn clients(tls: &ListenerTls, read: Read<'_>) -> Result<ClientCertificates, String> {
    let Some(clients) = &tls.clients else {
        return Ok(ClientCertificates::NotAsked);
    };
    let issuers = issuers(&clients.ca, read)?;
    Ok(match clients.required {
        true => ClientCertificates::Required(issuers),
        false => ClientCertificates::Asked(issuers),
    })
}

fn revoked(tls: &ListenerTls, read: Read<'_>) -> Result<Vec<RevocationText>, String> {
    let paths = tls.clients.iter().flat_map(|clients| &clients.revoked);
    let one = |path: &PathBuf| {
        Ok(RevocationText {
            text: read(path)?,
            name: path.display().to_string(),
        })
    };
    paths.map(one).collect()
}

/// The ticket keys of a listener that does not take the process's.
fn own_tickets(tls: &ListenerTls) -> Result<Option<Arc<TicketKeys>>, TlsProblem> {
    if tls.clients.is_some() {
        // A session would go on with a certificate that was verified when it began.
        return TicketKeys::new(&[], Duration::ZERO).map(Some);
    }
    let secrets = tls.ticket_secret.iter();
    let secrets: Vec<_> = secrets
        .map(|secret| TicketSecret::of_text(secret.expose()))
        .collect();
    if secrets.is_empty() {
        return Ok(None);
    }
    TicketKeys::new(&secrets, TICKET_LIFETIME).map(Some)
}

/// An OCSP response. The next process reads it again; what is longer than one may be is cut off, and
/// refused for that.
fn response(path: &Path) -> StapleText {
    let read = || {
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        let limit = RESPONSE_LIMIT as u64 + 1;
        file.take(limit).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    StapleText {
        response: read().map_err(|error| error.to_string()),
        name: path.display().to_string(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
