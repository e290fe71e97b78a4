//! The TLS of the Postgres tier, from settings and files: towards clients, and towards servers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::WallTime;
use outgrow_core::settings::Name;
use outgrow_postgres::encryption::{ALPN, Encryption, Mode};
use outgrow_postgres::login::ChannelBinding;
use outgrow_postgres::settings::{
    BindingMode, PostgresSettings, PostgresTls, ServerMode, ServerTlsSettings,
};
use outgrow_tls::{
    Choices, ClientCertificates, EndpointText, EndpointTls, ServerTls, TicketKeys, TlsProblem,
    TlsText, Verification,
};

use super::log;
use super::tls_files::{Read, identity, issuers, pair_text, told, trusted};

/// The TLS of the tier.
#[derive(Debug, Default)]
pub(super) struct Encryptions {
    /// For clients.
    pub(super) clients: Option<Arc<ServerTls>>,
    /// Towards servers.
    pub(super) servers: Arc<Encryption>,
    /// Towards the servers of databases that have settings of their own.
    pub(super) of_databases: BTreeMap<Name, Arc<Encryption>>,
}

impl Encryptions {
    /// Reads the files and gets ready for handshakes. All that is wrong is told, a line each.
    pub(super) fn build(settings: &PostgresSettings, read: Read<'_>) -> Result<Self, String> {
        let mut all = Self::default();
        let mut problems = Vec::new();
        if let Some(tls) = &settings.tls {
            match clients(tls, read) {
                Ok(clients) => all.clients = Some(clients),
                Err(problem) => problems.push(problem),
            }
        }
        match servers(&settings.server_tls, "postgres.server_tls", read) {
            Ok(servers) => all.servers = servers,
            Err(problem) => problems.push(problem),
        }
        for (name, database) in &settings.database {
            let Some(own) = &database.server_tls else {
                continue;
            };
            let table = format!("postgres.database.{}.server_tls", name.as_str());
            match servers(own, &table, read) {
                Ok(servers) => drop(all.of_databases.insert(name.clone(), servers)),
                Err(problem) => problems.push(problem),
            }
        }
        match problems.is_empty() {
            true => Ok(all),
            false => Err(problems.join("\n")),
        }
    }

    /// Towards the servers of a database.
    pub(super) fn of_database(&self, name: &str) -> Arc<Encryption> {
        let mut own = self.of_databases.iter();
        let own = own.find(|(known, _)| known.as_str() == name);
        Arc::clone(own.map_or(&self.servers, |(_, own)| own))
    }
}

fn clients(tls: &PostgresTls, read: Read<'_>) -> Result<Arc<ServerTls>, String> {
    let mut certificates = Vec::new();
    for pair in &tls.certificates {
        certificates.push(pair_text(&pair.certificate, &pair.key, read)?);
    }
    let issuers = tls.ca.as_deref().map(|ca| issuers(ca, read)).transpose()?;
    let text = TlsText {
        certificates,
        alpn: vec![ALPN.to_vec()],
        clients: match issuers {
            None => ClientCertificates::NotAsked,
            Some(issuers) if tls.mode.wants_certificate() => ClientCertificates::Required(issuers),
            Some(issuers) => ClientCertificates::Asked(issuers),
        },
        choices: Choices {
            lowest: tls.min_version,
            ..Choices::default()
        },
        ..TlsText::default()
    };
    let told = |problem: TlsProblem| told("postgres.tls", &problem);
    // No session is resumed, as in Postgres: a client's certificate is verified each time.
    let tickets = TicketKeys::new(&[], Duration::ZERO).map_err(told)?;
    match ServerTls::build(&text, tickets, WallTime::now()) {
        Ok((tls, warnings)) => {
            for warning in warnings {
                log::warn(&format!("[postgres.tls] {warning}"));
            }
            Ok(tls)
        }
        Err(problems) => {
            let lines: Vec<String> = problems.into_iter().map(told).collect();
            Err(lines.join("\n"))
        }
    }
}

fn servers(
    settings: &ServerTlsSettings,
    table: &str,
    read: Read<'_>,
) -> Result<Arc<Encryption>, String> {
    let mode = match settings.mode {
        ServerMode::Disable => return Ok(Arc::default()),
        ServerMode::Prefer => Mode::Prefer,
        ServerMode::Require | ServerMode::VerifyCa | ServerMode::VerifyFull => Mode::Require,
    };
    let mut trusted = || trusted(settings.ca.as_deref(), table, read);
    let verification = match settings.mode {
        ServerMode::VerifyCa => Verification::Issuer(trusted()?),
        ServerMode::VerifyFull => Verification::IssuerAndName(trusted()?),
        _ => Verification::Nobody,
    };
    let identity = identity(
        settings.certificate.as_deref(),
        settings.key.as_deref(),
        read,
    )?;
    let text = EndpointText {
        verification,
        identity,
        alpn: vec![ALPN.to_vec()],
        choices: Choices {
            lowest: settings.min_version,
            ..Choices::default()
        },
        table: "server_tls",
    };
    let tls = EndpointTls::build(&text).map_err(|problem| told(table, &problem))?;
    Ok(Arc::new(Encryption {
        mode,
        tls: Some(tls),
        server_name: settings.server_name.clone(),
        is_direct: settings.direct,
        channel_binding: match settings.channel_binding {
            BindingMode::Disable => ChannelBinding::Disable,
            BindingMode::Prefer => ChannelBinding::Prefer,
            BindingMode::Require => ChannelBinding::Require,
        },
    }))
}
