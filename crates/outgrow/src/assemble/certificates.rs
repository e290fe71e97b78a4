//! Reads certificate files and keeps the keys of session tickets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::WallTime;
use outgrow_core::settings::Name;
use outgrow_edge::settings::{
    CipherSuite, ListenerSettings, ListenerTls, MinVersion, Protocol, UnknownName,
};
use outgrow_tls::{
    CertificateText, Choices, ClientCertificates, Issuers, Managed, RevocationText, ServerTls,
    Suite12, Suite13, TicketKeys, TicketSecret, TlsProblem, TlsText, TlsVersion,
};

use super::acme::{self, Strictness};
use super::postgres_tls::{Encryptions, Read};
use super::seals::{self, Seals};
use crate::config::Config;

/// How long a session may be resumed (RFC 8446 allows up to 7 days).
const TICKET_LIFETIME: Duration = Duration::from_secs(12 * 3_600);

/// The keys of session tickets, which outlive data processes.
pub(super) fn ticket_keys(kept: Option<&str>) -> Result<(Arc<TicketKeys>, String), String> {
    let secret = match kept.and_then(from_hex) {
        Some(bytes) => TicketSecret::new(bytes),
        None => TicketSecret::random().map_err(|problem| problem.to_string())?,
    };
    let text = to_hex(secret.bytes());
    let keys =
        TicketKeys::new(&[secret], TICKET_LIFETIME).map_err(|problem| problem.to_string())?;
    Ok((keys, text))
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
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
    let acme = acme::Prepared::new(config, None, Strictness::Unread)?;
    build(config, &tickets, &Texts::new(), acme).map(|_| ())
}

/// Builds the TLS of every listener that has one, and of the Postgres tier. A file that is among `kept` is not read.
pub(super) fn build(
    config: &Config,
    tickets: &Arc<TicketKeys>,
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
        if let Some(server) = server(name.as_str(), settings, tickets, managed, &mut read)? {
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
    tickets: &Arc<TicketKeys>,
    managed: Option<Arc<Managed>>,
    read: Read<'_>,
) -> Result<Option<Arc<ServerTls>>, String> {
    let Some(tls) = &settings.tls else {
        return Ok(None);
    };
    let mut certificates = Vec::new();
    for pair in &tls.certificates {
        certificates.push(CertificateText {
            certificate: read(&pair.certificate)?,
            key: read(&pair.key)?,
            certificate_name: pair.certificate.display().to_string(),
            key_name: pair.key.display().to_string(),
        });
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
        choices: choices(tls),
        managed,
    };
    let own = own_tickets(tls).map_err(|problem| format!("[listener.{name}.tls] {problem}"))?;
    let tickets = own.as_ref().unwrap_or(tickets);
    match ServerTls::build(&text, Arc::clone(tickets), WallTime::now()) {
        Ok((tls, warnings)) => {
            for warning in warnings {
                super::log::warn(&format!("[listener.{name}.tls] {warning}"));
            }
            Ok(Some(tls))
        }
        Err(problems) => {
            let lines: Vec<String> = problems
                .iter()
                .map(|problem| format!("[listener.{name}.tls] {problem}\nhint: {}", problem.hint()))
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
    let issuers = Issuers {
        text: read(&clients.ca)?,
        name: clients.ca.display().to_string(),
    };
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

fn choices(tls: &ListenerTls) -> Choices {
    let lowest = match tls.min_version {
        MinVersion::V1_2 => TlsVersion::V1_2,
        MinVersion::V1_3 => TlsVersion::V1_3,
    };
    let mut choices = Choices {
        lowest,
        ..Choices::default()
    };
    for suite in &tls.cipher_suites {
        let older = &mut choices.suites_1_2;
        match suite {
            CipherSuite::Aes256Gcm => choices.suites.push(Suite13::Aes256Gcm),
            CipherSuite::Aes128Gcm => choices.suites.push(Suite13::Aes128Gcm),
            CipherSuite::ChaCha20Poly1305 => choices.suites.push(Suite13::ChaCha20Poly1305),
            CipherSuite::EcdsaAes256Gcm => older.push(Suite12::EcdsaAes256Gcm),
            CipherSuite::EcdsaAes128Gcm => older.push(Suite12::EcdsaAes128Gcm),
            CipherSuite::EcdsaChaCha20Poly1305 => older.push(Suite12::EcdsaChaCha20Poly1305),
            CipherSuite::RsaAes256Gcm => older.push(Suite12::RsaAes256Gcm),
            CipherSuite::RsaAes128Gcm => older.push(Suite12::RsaAes128Gcm),
            CipherSuite::RsaChaCha20Poly1305 => older.push(Suite12::RsaChaCha20Poly1305),
        }
    }
    choices
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

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
