//! `[listener.NAME.tls]`: certificates, what is spoken, and what clients have to show.

use std::path::{Path, PathBuf};
use std::time::Duration;

use outgrow_acme::settings::AcmeCertificate;
use outgrow_core::settings::{OneOrMany, Secret, TableReader};

const DAY: Duration = Duration::from_secs(86_400);
/// Shortest secret of session tickets, in bytes.
const SECRET_LENGTH: usize = 32;
/// Most of them at a listener.
const SECRETS: usize = 4;
const TEN_YEARS: Duration = Duration::from_secs(3_650 * 86_400);

outgrow_core::settings! {
    /// TLS 1.2 and 1.3 with these certificates. Keys are agreed on with X25519MLKEM768
    /// (post-quantum) where the client can, else with X25519, P-256 or P-384. Sessions are resumed by
    /// tickets, over reloads and upgrades too; there is no early data (0-RTT), which anybody could
    /// send again, and no renegotiation.
    #[check = check_tls]
    pub struct ListenerTls {
        /// The certificates. The client's server name (SNI) picks the one whose names match; the
        /// first one is for clients without a name or with another name. The files are read again
        /// at every reload; files that cannot be read make the reload fail and the running ones
        /// stay.
        pub certificates: Vec<CertificateSettings> = Vec::new();
        /// Certificates that are got from the authority of `[acme]`, and renewed in time. Until one
        /// is there, clients that ask for its names get the first of `certificates`; where there is
        /// none, or with `unknown_name = "refuse"`, their handshake is refused.
        pub acme: Vec<AcmeCertificate> = Vec::new();
        /// The lowest version that is spoken.
        pub min_version: MinVersion = MinVersion::V1_2;
        /// The cipher suites that are spoken, the preferred one of ours first (the client's
        /// preference goes before); empty: all of these. All are held for safe: with forward
        /// secrecy and authenticated encryption.
        pub cipher_suites: Vec<CipherSuite> = Vec::new();
        /// What a client gets that asks for a name (SNI) that no certificate has, or for none.
        pub unknown_name: UnknownName = UnknownName::First;
        /// The secret from which the keys of session tickets are made, or a list of them: the first
        /// one makes tickets, all read them. With the same secret at several edges a client resumes
        /// at whichever it comes to. To change it, put a new one before it, and take the old one
        /// away a day later. It must stay secret for as long as what was sent with TLS 1.2 should.
        /// Left out: one that is made up at the start and outlives upgrades.
        pub ticket_secret: OneOrMany<Secret> = OneOrMany::default(), shown = "one that is made up";
        /// Present: clients are asked for certificates (mTLS).
        pub clients: Option<ClientCertificateSettings> = None;
        /// Present: browsers are told to come with TLS only from now on (HSTS, RFC 6797), with each
        /// answer that does not say so itself.
        pub hsts: Option<HstsSettings> = None;
    }
}

outgrow_core::settings! {
    /// A certificate with its key.
    pub struct CertificateSettings {
        /// Path of the PEM file with the certificate, followed by its intermediate ones. Relative
        /// to the directory in which outgrow was started.
        pub certificate: PathBuf = PathBuf::from("cert.pem"), required = true;
        /// Path of the PEM file with the private key.
        pub key: PathBuf = PathBuf::from("key.pem"), required = true;
    }
}

outgrow_core::settings! {
    /// Which certificates clients show, and what endpoints are told of them. Sessions are not
    /// resumed here: a certificate is verified at each handshake.
    #[check = check_clients]
    pub struct ClientCertificateSettings {
        /// A PEM file with the issuers of clients' certificates. One of another issuer is refused.
        pub ca: PathBuf = PathBuf::from("ca.pem"), required = true;
        /// Whether there is no handshake without one.
        pub required: bool = true;
        /// PEM files with lists of revoked certificates (CRL). Of an issuer without a list nothing
        /// is known to be revoked; a list whose time is over is believed all the same. The files are
        /// read again at every reload.
        pub revoked: Vec<PathBuf> = Vec::new();
        /// What endpoints are told of a client's certificate, each in a header field of its own.
        /// From clients that are no trusted proxies these fields, and all others that begin with
        /// `Client-Cert` or `X-Client-Cert-`, are removed at every listener.
        pub forward: Vec<ClientFact> = vec![ClientFact::CommonName, ClientFact::Names, ClientFact::Fingerprint];
    }
}

outgrow_core::settings! {
    /// `Strict-Transport-Security`. What it says holds in browsers for as long as it says, even when
    /// TLS is no longer there: begin with a short `max_age`.
    #[check = check_hsts]
    pub struct HstsSettings {
        /// How long a browser remembers it; `"0s"` makes it forget.
        pub max_age: Duration = Duration::from_secs(365 * 86_400), in Duration::ZERO..=TEN_YEARS;
        /// Whether it holds for all names below the host's as well.
        pub subdomains: bool = false;
        /// Whether browsers may take the host into the lists that they are shipped with. It is hard
        /// to get out of them; they want a `max_age` of a year and `subdomains`.
        pub preload: bool = false;
    }
}

outgrow_core::choice! {
    /// A version of TLS.
    pub enum MinVersion {
        /// TLS 1.2.
        V1_2 = "1.2",
        /// TLS 1.3.
        V1_3 = "1.3",
    }
}

outgrow_core::choice! {
    /// A cipher suite, by its registered name.
    pub enum CipherSuite {
        /// TLS 1.3, AES with 256 bits.
        Aes256Gcm = "TLS_AES_256_GCM_SHA384",
        /// TLS 1.3, AES with 128 bits.
        Aes128Gcm = "TLS_AES_128_GCM_SHA256",
        /// TLS 1.3, ChaCha20.
        ChaCha20Poly1305 = "TLS_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2, for ECDSA and Ed25519 certificates.
        EcdsaAes256Gcm = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2, for ECDSA and Ed25519 certificates.
        EcdsaAes128Gcm = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2, for ECDSA and Ed25519 certificates.
        EcdsaChaCha20Poly1305 = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2, for RSA certificates.
        RsaAes256Gcm = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2, for RSA certificates.
        RsaAes128Gcm = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2, for RSA certificates.
        RsaChaCha20Poly1305 = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    }
}

outgrow_core::choice! {
    /// What becomes of a client whose server name no certificate has.
    pub enum UnknownName {
        /// It gets the first certificate.
        First = "first",
        /// There is no handshake (strict SNI): who scans addresses learns no name.
        Refuse = "refuse",
    }
}

outgrow_core::choice! {
    /// What an endpoint is told of a client's certificate.
    pub enum ClientFact {
        /// The whole certificate, in `Client-Cert` (RFC 9440).
        Certificate = "certificate",
        /// The common name of its subject, in `X-Client-Cert-CN`.
        CommonName = "common_name",
        /// Its alternative names, in `X-Client-Cert-SAN`: `DNS:host, email:name@host, URI:uri`. Names
        /// with a comma, a quote or white space in them are left out.
        Names = "names",
        /// SHA-256 of the certificate in hexadecimal digits, in `X-Client-Cert-SHA256`.
        Fingerprint = "fingerprint",
    }
}

impl ClientCertificateSettings {
    /// The files that it names, with their keys.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let revoked = self.revoked.iter();
        let revoked = revoked.map(|path| ("revoked", path.as_path()));
        std::iter::once(("ca", self.ca.as_path())).chain(revoked)
    }
}

impl CipherSuite {
    /// Whether it is one of TLS 1.3.
    pub fn is_1_3(self) -> bool {
        matches!(
            self,
            Self::Aes256Gcm | Self::Aes128Gcm | Self::ChaCha20Poly1305
        )
    }
}

impl HstsSettings {
    /// The field's value.
    pub fn value(&self) -> String {
        let mut value = format!("max-age={}", self.max_age.as_secs());
        if self.subdomains {
            value.push_str("; includeSubDomains");
        }
        if self.preload {
            value.push_str("; preload");
        }
        value
    }
}

fn check_tls(tls: &ListenerTls, table: &mut TableReader<'_, '_>) {
    if tls.certificates.is_empty() && tls.acme.is_empty() {
        let hint = "certificates = [ { certificate = \"cert.pem\", key = \"key.pem\" } ], or \
                    acme = [ { names = [\"shop.example\"] } ] with [acme]";
        table.problem("certificates", "TLS needs at least one certificate", hint);
    }
    let is_short = |secret: &Secret| secret.expose().len() < SECRET_LENGTH;
    if tls.ticket_secret.iter().any(is_short) {
        let message = "a secret has at least 32 bytes";
        table.problem(
            "ticket_secret",
            message,
            "make one with: openssl rand -hex 32",
        );
    }
    if tls.ticket_secret.len() > SECRETS {
        let message = "more than 4 secrets";
        table.problem("ticket_secret", message, "keep the newest ones");
    }
    if tls.clients.is_some() && !tls.ticket_secret.is_empty() {
        let message = "where clients show certificates no session is resumed";
        table.problem("ticket_secret", message, "leave it out");
    }
    if tls.cipher_suites.is_empty() {
        return;
    }
    if !tls.cipher_suites.iter().any(|suite| suite.is_1_3()) {
        let hint = "add \"TLS_AES_128_GCM_SHA256\" or another one that begins with TLS_AES or TLS_CHACHA20";
        table.problem("cipher_suites", "there is none of TLS 1.3 among them", hint);
    }
    if tls.min_version == MinVersion::V1_2 && tls.cipher_suites.iter().all(|suite| suite.is_1_3()) {
        let hint = "write min_version = \"1.3\", or add one that begins with TLS_ECDHE";
        table.problem("cipher_suites", "there is none of TLS 1.2 among them", hint);
    }
}

fn check_clients(clients: &ClientCertificateSettings, table: &mut TableReader<'_, '_>) {
    let facts = &clients.forward;
    if (1..facts.len()).any(|at| facts[..at].contains(&facts[at])) {
        table.problem("forward", "one is there twice", "write each once");
    }
}

fn check_hsts(hsts: &HstsSettings, table: &mut TableReader<'_, '_>) {
    if hsts.preload && (!hsts.subdomains || hsts.max_age < 365 * DAY) {
        let message = "browsers' lists want subdomains = true and a max_age of 365d";
        table.problem("preload", message, "write those, or leave preload out");
    }
}
