//! Reads certificate files and keeps the keys of session tickets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::WallTime;
use outgrow_edge::settings::{ListenerSettings, Protocol};
use outgrow_tls::{CertificateText, ServerTls, TicketKeys, TicketSecret, TlsText};

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

/// The TLS of a listener: of `running` when there is one, with its certificates replaced.
pub(super) fn build(
    name: &str,
    settings: &ListenerSettings,
    tickets: &Arc<TicketKeys>,
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
    let text = TlsText { certificates, alpn };
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

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
