//! `[listener.NAME.tls]`: certificates, what is spoken, and what clients have to show.

use std::path::{Path, PathBuf};
use std::time::Duration;

use outgrow_acme::settings::AcmeCertificate;
use outgrow_core::settings::{OneOrMany, Secret, TableReader};
use outgrow_tls::{CipherSuite, TlsVersion};

use super::service::check_secrets;

const DAY: Duration = Duration::from_secs(86_400);
const TEN_YEARS: Duration = Duration::from_secs(3_650 * 86_400);

outgrow_core::settings! {
    /// TLS 1.2 and 1.3 with these certificates. Keys are agreed on with X25519MLKEM768
    /// (post-quantum) where the client can, else with X25519, P-256 or P-384. Sessions are resumed by
    /// tickets, over reloads and upgrades too; there is no early data (0-RTT) over TCP, which anybody
    /// could send again, and no renegotiation.
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
        /// Whether what issuers say of the certificates is stapled to them (OCSP, RFC 6066), so that
        /// clients need not ask: of those that name a responder, and have their issuer in the file.
        /// Let's Encrypt and others name none; nothing happens then. Responders are asked over plain
        /// HTTP, again at about half of a response's life, and never while a client waits. A
        /// response is checked before it is stapled, and is stapled until its end when its responder
        /// is down; reloads and upgrades keep it.
        pub ocsp: Ocsp = Ocsp::Auto;
        /// The lowest version that is spoken.
        pub min_version: TlsVersion = TlsVersion::V1_2;
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
        /// Path of an OCSP response in DER that is stapled to the certificate, and that somebody
        /// else keeps fresh: nobody is asked then, whatever `ocsp` says. A file that is missing or
        /// cannot be stapled is told in the log and stops nothing.
        pub ocsp_file: Option<PathBuf> = None;
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
    /// Whether responses of OCSP responders are stapled.
    pub enum Ocsp {
        /// Those of the responders that certificates name.
        Auto = "auto",
        /// Nobody is asked.
        Off = "off",
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

impl ListenerTls {
    /// The files that it names, with the keys that lead to them.
    pub fn files(&self) -> Vec<(&'static [&'static str], &Path)> {
        let pairs = self.certificates.iter();
        let pairs = pairs.flat_map(|pair| [pair.certificate.as_path(), &pair.key]);
        let mut files: Vec<_> = pairs.map(|path| (&["certificates"][..], path)).collect();
        if let Some(clients) = &self.clients {
            files.push((&["clients", "ca"], &clients.ca));
            for path in &clients.revoked {
                files.push((&["clients", "revoked"], path));
            }
        }
        files
    }
}

impl ListenerTls {
    /// The files of OCSP responses. They need not be there.
    pub fn response_files(&self) -> impl Iterator<Item = &Path> {
        let certificates = self.certificates.iter();
        certificates.filter_map(|pair| pair.ocsp_file.as_deref())
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
    check_secrets("ticket_secret", &tls.ticket_secret, 32, table);
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
    if tls.min_version == TlsVersion::V1_2 && tls.cipher_suites.iter().all(|suite| suite.is_1_3()) {
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
