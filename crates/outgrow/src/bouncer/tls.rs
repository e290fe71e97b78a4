//! TLS towards clients and servers, from PgBouncer's settings and the files that they name.
//!
//! What is different: TLS 1.2 and 1.3 only, so that older versions are left out of what is asked for
//! (and nothing is spoken with who has nothing else); ciphers of TLS 1.2, curves and parameters of
//! Diffie-Hellman are those that are held for safe, whatever is asked for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::WallTime;
use outgrow_postgres::encryption::{Encryption, Mode};
use outgrow_postgres::login::CertificateDemand;
use outgrow_postgres::pgbouncer::ini::{AuthType, Settings, Tls13Suite, TlsMode, TlsVersions};
use outgrow_tls::{
    CertificateText, Choices, CipherSuite, ClientCertificates, EndpointText, EndpointTls, Issuers,
    ServerTls, TicketKeys, TlsText, TlsVersion, Verification,
};
/// The table that messages of the TLS room speak of.
const TABLE: &str = "[pgbouncer]";

/// The TLS of the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Tls {
    /// Towards clients; none: they are answered that there is none.
    pub(super) clients: Option<Arc<ServerTls>>,
    /// What the certificates of clients must be.
    pub(super) certificate: CertificateDemand,
    /// Whether clients over TCP must have it.
    pub(super) is_required: bool,
    /// Towards servers.
    pub(super) servers: Arc<Encryption>,
}

impl Tls {
    /// Reads the files and gets ready.
    ///
    /// # Errors
    /// What is wrong, in PgBouncer's words.
    pub(super) fn read(settings: &Settings) -> Result<Self, String> {
        check(settings)?;
        // Whose certificate it must be is for `auth_type` to say.
        let (certificate, is_required) = match settings.client_tls_sslmode {
            TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer => (CertificateDemand::None, false),
            TlsMode::Require => (CertificateDemand::None, true),
            TlsMode::VerifyCa | TlsMode::VerifyFull => (CertificateDemand::Trusted, true),
        };
        Ok(Self {
            clients: clients(settings)?,
            certificate,
            is_required,
            servers: Arc::new(servers(settings)?),
        })
    }
}

/// Settings that do not go together.
fn check(settings: &Settings) -> Result<(), String> {
    let mode = settings.client_tls_sslmode;
    if settings.auth_type == AuthType::Cert {
        if mode != TlsMode::VerifyFull {
            return Err(
                "auth_type=cert requires client_tls_sslmode=SSLMODE_VERIFY_FULL".to_owned(),
            );
        }
        if settings.client_tls_ca_file.is_empty() {
            return Err("auth_type=cert requires client_tls_ca_file".to_owned());
        }
    }
    if mode == TlsMode::Disable {
        return Ok(());
    }
    if settings.client_tls_key_file.is_empty() || settings.client_tls_cert_file.is_empty() {
        return Err(
            "To allow TLS connections from clients, client_tls_key_file and client_tls_cert_file \
             must be set."
                .to_owned(),
        );
    }
    let verifies = matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
    if verifies && settings.client_tls_ca_file.is_empty() {
        return Err("client_tls_sslmode requires client_tls_ca_file".to_owned());
    }
    Ok(())
}

fn clients(settings: &Settings) -> Result<Option<Arc<ServerTls>>, String> {
    let mode = settings.client_tls_sslmode;
    if mode == TlsMode::Disable {
        return Ok(None);
    }
    let versions = versions(&settings.client_tls_protocols, "client")?;
    let suites = settings.client_tls13_ciphers.as_deref();
    let choices = choices(versions, suites)?.ok_or("TLS setup failed: no TLS version is left")?;
    let certificate = pair(
        &settings.client_tls_cert_file,
        &settings.client_tls_key_file,
    )?;
    let issuers = issuers(&settings.client_tls_ca_file)?;
    let clients = match (mode, issuers) {
        (TlsMode::VerifyCa | TlsMode::VerifyFull, Some(issuers)) => {
            ClientCertificates::Required(issuers)
        }
        (_, Some(issuers)) => ClientCertificates::Asked(issuers),
        (_, None) => ClientCertificates::NotAsked,
    };
    let text = TlsText {
        certificates: vec![certificate],
        alpn: vec![outgrow_postgres::encryption::ALPN.to_vec()],
        clients,
        choices,
        ..TlsText::default()
    };
    let failed = |problem: &dyn ToString| format!("TLS setup failed: {}", problem.to_string());
    // A session that goes on would go on with the certificate that was verified when it began.
    let tickets = TicketKeys::new(&[], Duration::ZERO).map_err(|problem| failed(&problem))?;
    let built = ServerTls::build(&text, tickets, WallTime::now());
    let (tls, _warnings) = built.map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        failed(&problems.join("; "))
    })?;
    Ok(Some(tls))
}

fn servers(settings: &Settings) -> Result<Encryption, String> {
    let mode = match settings.server_tls_sslmode {
        TlsMode::Disable => Mode::Disable,
        TlsMode::Allow => Mode::Allow,
        TlsMode::Prefer => Mode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => Mode::Require,
    };
    let versions = versions(&settings.server_tls_protocols, "server")?;
    let choices = choices(versions, settings.server_tls13_ciphers.as_deref())?;
    if mode == Mode::Disable {
        return Ok(Encryption::default());
    }
    let issuers = issuers(&settings.server_tls_ca_file)?;
    let verification = match (settings.server_tls_sslmode, issuers) {
        (TlsMode::VerifyCa, Some(issuers)) => Verification::Issuer(issuers),
        (TlsMode::VerifyFull, Some(issuers)) => Verification::IssuerAndName(issuers),
        (TlsMode::VerifyCa | TlsMode::VerifyFull, None) => {
            return Err("server_tls_sslmode requires server_tls_ca_file".to_owned());
        }
        _ => Verification::Nobody,
    };
    let has_identity = !settings.server_tls_cert_file.is_empty();
    let identity = has_identity
        .then(|| {
            pair(
                &settings.server_tls_cert_file,
                &settings.server_tls_key_file,
            )
        })
        .transpose()?;
    let tls = choices.map(|choices| {
        EndpointTls::build(&EndpointText {
            verification,
            identity,
            alpn: vec![outgrow_postgres::encryption::ALPN.to_vec()],
            choices,
            table: TABLE,
        })
    });
    let tls = tls.transpose();
    Ok(Encryption {
        mode,
        tls: tls.map_err(|problem| format!("TLS setup failed: {problem}"))?,
        ..Encryption::default()
    })
}

fn versions(list: &str, side: &str) -> Result<TlsVersions, String> {
    TlsVersions::read(list).ok_or_else(|| format!("invalid {side}_tls_protocols: {list}"))
}

/// What is spoken; none when there is nothing that is allowed and can be spoken here.
fn choices(versions: TlsVersions, suites: Option<&str>) -> Result<Option<Choices>, String> {
    let lowest = match (versions.v1_2, versions.v1_3) {
        (true, _) => TlsVersion::V1_2,
        (false, true) => TlsVersion::V1_3,
        (false, false) => return Ok(None),
    };
    let highest = if versions.v1_3 {
        TlsVersion::V1_3
    } else {
        TlsVersion::V1_2
    };
    let wanted = Tls13Suite::read(suites.unwrap_or_default())
        .ok_or("TLS setup failed: failed to set the TLSv1.3 cipher suites")?;
    let suites = wanted.into_iter().filter_map(|suite| match suite {
        Tls13Suite::Aes256Gcm => Some(CipherSuite::Aes256Gcm),
        Tls13Suite::Aes128Gcm => Some(CipherSuite::Aes128Gcm),
        Tls13Suite::ChaCha20Poly1305 => Some(CipherSuite::ChaCha20Poly1305),
        // Not spoken here.
        Tls13Suite::Aes128Ccm | Tls13Suite::Aes128Ccm8 => None,
    });
    Ok(Some(Choices {
        lowest,
        highest,
        suites: suites.collect(),
    }))
}

fn pair(certificate: &str, key: &str) -> Result<CertificateText, String> {
    Ok(CertificateText {
        certificate: read(certificate, "certificate")?,
        key: read(key, "private key")?,
        certificate_name: certificate.to_owned(),
        key_name: key.to_owned(),
        staple: None,
    })
}

fn issuers(path: &str) -> Result<Option<Issuers>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    Ok(Some(Issuers {
        text: read(path, "CA")?,
        name: path.to_owned(),
    }))
}

fn read(path: &str, what: &str) -> Result<Vec<u8>, String> {
    std::fs::read(Path::new(path)).map_err(|error| {
        // The system's words, without the number that Rust puts behind them.
        let error = error.to_string();
        let words = error.split(" (os error").next().unwrap_or_default();
        format!("TLS setup failed: failed to load {what} file \"{path}\": {words}")
    })
}
