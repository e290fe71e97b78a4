//! Whom a registry's client trusts, and who it is: the `tls` table that all registries have, and
//! its files, which are read anew for each connection, since they are replaced while we run.
//!
//! Verification cannot be switched off.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use outgrow_core::settings::{TableReader, address::is_name};
use outgrow_tls::{CertificateText, ClientText, ClientTls, SYSTEM_ISSUERS};

use super::{Problem, Server};
use crate::discovery::Surroundings;

/// Longest file of certificates, in bytes: the system's have about 250 KiB.
const FILE: usize = 4 << 20;

outgrow_core::settings! {
    /// How servers with `https://` are verified, and what is shown to them. TLS 1.2 and 1.3. The
    /// files are read anew for each connection, so that they can be replaced at any time.
    /// Verification cannot be switched off: for a server with a certificate of its own making, that
    /// certificate's issuer is the `ca`.
    #[check = check]
    pub struct RegistryTls {
        /// A PEM file with the issuers that are trusted, and no others. Left out: those of the
        /// system (in a file like `/etc/ssl/certs/ca-certificates.crt`).
        pub ca: Option<PathBuf> = None;
        /// A PEM file with our certificate, followed by its intermediate ones, for servers that
        /// want one (mTLS); with `key`.
        pub certificate: Option<PathBuf> = None;
        /// A PEM file with the certificate's private key, without a passphrase.
        pub key: Option<PathBuf> = None;
        /// The name, or IP address, that the server's certificate is for, when it is another than
        /// the host in the URL.
        pub server_name: String = String::new();
    }
}

fn check(tls: &RegistryTls, table: &mut TableReader<'_, '_>) {
    let pair = ("certificate", tls.certificate.is_some());
    table.both_or_none(pair, ("key", tls.key.is_some()));
    let name = tls.server_name.as_str();
    if !name.is_empty() && !is_name(name) && name.parse::<IpAddr>().is_err() {
        let hint = "write a name like \"etcd.internal\", or an IP address without a port";
        table.problem("server_name", "this is no name of a server", hint);
    }
}

/// Says it when there is a `tls` table, and no server that it is for.
pub(crate) fn check_use<'s>(
    tls: Option<&RegistryTls>,
    servers: impl IntoIterator<Item = &'s Server>,
    table: &mut TableReader<'_, '_>,
) {
    if tls.is_some() && !servers.into_iter().any(Server::is_encrypted) {
        let hint = "write the server with https://, or remove `tls`";
        table.problem("tls", "no server is spoken to over TLS", hint);
    }
}

impl RegistryTls {
    /// The files that it names, with their keys.
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        let files = [
            ("ca", &self.ca),
            ("certificate", &self.certificate),
            ("key", &self.key),
        ];
        let named = files.into_iter();
        named
            .filter_map(|(key, file)| Some((key, file.as_deref()?)))
            .collect()
    }
}

/// The files as they are now, made ready for handshakes.
#[derive(Debug)]
pub(super) struct Trust {
    settings: RegistryTls,
    surroundings: Surroundings,
    ready: Mutex<Option<(ClientText, ClientTls)>>,
}

impl Trust {
    pub(super) fn new(settings: RegistryTls, surroundings: Surroundings) -> Self {
        Self {
            settings,
            surroundings,
            ready: Mutex::default(),
        }
    }

    /// The name that a server's certificate must be for.
    pub(super) fn name<'s>(&'s self, server: &'s Server) -> &'s str {
        match self.settings.server_name.as_str() {
            "" => server.host(),
            name => name,
        }
    }

    /// Whether a certificate of our own is shown.
    pub(super) fn has_identity(&self) -> bool {
        self.settings.certificate.is_some()
    }

    /// What the files say now.
    pub(super) async fn load(&self) -> Result<ClientTls, Problem> {
        let text = self.read().await?;
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, tls)) = &*ready
            && *before == text
        {
            return Ok(tls.clone());
        }
        let built = ClientTls::build(&text);
        let tls = built.map_err(|problem| {
            let hint = problem.hint();
            Problem::Content(format!("{problem}; {hint}"))
        })?;
        *ready = Some((text, tls.clone()));
        Ok(tls)
    }

    async fn read(&self) -> Result<ClientText, Problem> {
        let (roots, roots_name) = match &self.settings.ca {
            Some(ca) => (self.file("tls.ca", ca).await?, ca.display().to_string()),
            None => (self.system().await?, "the system".to_owned()),
        };
        let identity = match (&self.settings.certificate, &self.settings.key) {
            (Some(certificate), Some(key)) => Some(CertificateText {
                certificate: self.file("tls.certificate", certificate).await?,
                key: self.file("tls.key", key).await?,
                certificate_name: certificate.display().to_string(),
                key_name: key.display().to_string(),
                staple: None,
            }),
            _ => None,
        };
        Ok(ClientText {
            roots,
            roots_name,
            identity,
        })
    }

    async fn file(&self, what: &str, path: &Path) -> Result<Vec<u8>, Problem> {
        let read = self.surroundings.read(path.to_owned(), FILE).await;
        read.map_err(|error| {
            Problem::Content(format!("{what} {} cannot be read: {error}", path.display()))
        })
    }

    async fn system(&self) -> Result<Vec<u8>, Problem> {
        for path in SYSTEM_ISSUERS {
            if let Ok(roots) = self.surroundings.read(path.into(), FILE).await {
                return Ok(roots);
            }
        }
        Err(Problem::Content(format!(
            "the system has no issuers that it trusts (there is no {} or the like): set tls.ca",
            SYSTEM_ISSUERS[0]
        )))
    }
}
