//! Files of certificates, keys and issuers, as the TLS room takes them.

use std::io::ErrorKind;
use std::path::Path;

use outgrow_tls::{CertificateText, Issuers, SYSTEM_ISSUERS, TlsProblem};

/// Reads a file of certificates or keys.
pub(super) type Read<'r> = &'r mut dyn FnMut(&Path) -> Result<Vec<u8>, String>;

/// What is wrong in a table of the configuration, and what to do about it.
pub(super) fn told(table: &str, problem: &TlsProblem) -> String {
    format!("[{table}] {problem}\nhint: {}", problem.hint())
}

/// A certificate with its key.
pub(super) fn pair_text(
    certificate: &Path,
    key: &Path,
    read: Read<'_>,
) -> Result<CertificateText, String> {
    Ok(CertificateText {
        certificate: read(certificate)?,
        key: read(key)?,
        certificate_name: certificate.display().to_string(),
        key_name: key.display().to_string(),
        staple: None,
    })
}

/// What we show to servers that ask who we are; the settings have both files or none.
pub(super) fn identity(
    certificate: Option<&Path>,
    key: Option<&Path>,
    read: Read<'_>,
) -> Result<Option<CertificateText>, String> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => pair_text(certificate, key, read).map(Some),
        _ => Ok(None),
    }
}

/// Issuers in a file.
pub(super) fn issuers(path: &Path, read: Read<'_>) -> Result<Issuers, String> {
    Ok(Issuers {
        text: read(path)?,
        name: path.display().to_string(),
    })
}

/// The issuers in a file, or those that the system trusts where there is none.
pub(super) fn trusted(ca: Option<&Path>, table: &str, read: Read<'_>) -> Result<Issuers, String> {
    match ca {
        Some(ca) => issuers(ca, read),
        None => system().map_err(|problem| format!("[{table}] {problem}")),
    }
}

/// The issuers that the system trusts. They are not kept for a later process, which has the same.
fn system() -> Result<Issuers, String> {
    for path in SYSTEM_ISSUERS {
        match std::fs::read(path) {
            Ok(text) => {
                return Ok(Issuers {
                    text,
                    name: "the system".to_owned(),
                });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{path}: {error}")),
        }
    }
    Err(format!(
        "the system has no issuers that it trusts in {}\nhint: install ca-certificates, or set ca",
        SYSTEM_ISSUERS.join(", ")
    ))
}
