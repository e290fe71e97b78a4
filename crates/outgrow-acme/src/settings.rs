//! The room's part of `[acme]`, and what `[listener.NAME.tls]` says of each certificate.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use outgrow_core::base64;
use outgrow_core::settings::address::is_name;
use outgrow_core::settings::{Secret, TableReader};

use crate::url::{Url, UrlError};

const SECOND: Duration = Duration::from_secs(1);
/// Most names of one certificate, which is what public authorities take.
const NAMES: usize = 100;

outgrow_core::settings! {
    /// The authority that certificates of `[listener.NAME.tls] acme` are got from (ACME, RFC 8555),
    /// without anybody's doing: ordered, renewed in time, taken over without a reload.
    #[check = check]
    pub struct AcmeSettings {
        /// The authority: `"letsencrypt"`, `"letsencrypt-staging"` (for trying things out: no limits
        /// to speak of, and no browser trusts it), or the URL of another one's directory.
        pub directory: Directory = Directory::LetsEncrypt;
        /// Whether you have read the authority's terms of service and agree to them. Without it
        /// nothing is asked for.
        pub terms_agreed: bool = false, required = true;
        /// Addresses that the authority may write to.
        pub contact: Vec<Contact> = Vec::new();
        /// The directory with the account's key, the certificates with their keys, and what is known
        /// of each, which must be kept over restarts and belongs into backups: whoever loses it asks
        /// for everything anew, which authorities do a few times a week only. It is made, with the
        /// mode 0700, where its parent is there. Several outgrows may share one (on a file system
        /// with locks): one of them orders at a time, all serve what is there. With `[leader]`
        /// only the holder of the lease orders.
        pub storage: PathBuf = PathBuf::from("/var/lib/outgrow/acme");
        /// A PEM file with the issuers of the authority's own HTTPS server, and no others, for
        /// private authorities. Left out: those of the system.
        pub ca: Option<PathBuf> = None;
        /// The account at the authority that ours is to belong to (External Account Binding), for
        /// authorities that want one.
        pub external_account: Option<ExternalAccount> = None;
        /// The kind of certificate, for authorities that have several (profiles): Let's Encrypt has
        /// `classic`, `tlsserver` and `shortlived`. Left out: the authority's choice.
        pub profile: String = String::new();
        /// How it is proven that names lead here, unless a certificate says otherwise.
        pub challenge: Challenge = Challenge::Http01;
        /// The kind of private key, unless a certificate says otherwise.
        pub key: KeyKind = KeyKind::EcdsaP256;
        /// With `dns-01`: how long it takes until what `dns_present` has written is seen by
        /// everybody who asks.
        pub dns_wait: Duration = SECOND * 30, in Duration::ZERO..=SECOND * 3_600;
    }
}

outgrow_core::settings! {
    /// The account that ours is to belong to, as the authority's web page gives it.
    #[check = check_external]
    pub struct ExternalAccount {
        /// Its name (key identifier).
        pub id: String = "kid".to_owned(), required = true;
        /// Its key, in base64url.
        pub key: Secret = Secret::default(), required = true;
    }
}

outgrow_core::settings! {
    /// A certificate that is got from the authority of `[acme]`.
    #[check = check_certificate]
    pub struct AcmeCertificate {
        /// The names that it is for. The first one is what it is called. All of them must be proven
        /// at each order: one that leads elsewhere keeps the others from having a certificate.
        pub names: Vec<CertificateName> = Vec::new(), required = true;
        /// How it is proven that the names lead here. Left out: as `[acme]` says; `dns-01` for
        /// names with a wildcard, for which nothing else is taken.
        pub challenge: Option<Challenge> = None;
        /// The kind of private key. Left out: as `[acme]` says.
        pub key: Option<KeyKind> = None;
    }
}

outgrow_core::choice! {
    /// How it is proven to an authority that a name leads here.
    pub enum Challenge {
        /// The authority asks for a path at port 80 of the name. Every listener that speaks HTTP
        /// answers it, before its routes.
        Http01 = "http-01",
        /// The authority makes a TLS connection to port 443 of the name. Every listener with
        /// certificates of `[acme]` answers it.
        TlsAlpn01 = "tls-alpn-01",
        /// The authority asks for a TXT record in the DNS, which `dns_present` has written. The only
        /// way for names with a wildcard, and for machines that cannot be reached from outside.
        Dns01 = "dns-01",
    }
}

outgrow_core::choice! {
    /// The kind of a private key.
    pub enum KeyKind {
        /// ECDSA with P-256: small, fast, taken by everything that is alive.
        EcdsaP256 = "ecdsa-p256",
        /// ECDSA with P-384.
        EcdsaP384 = "ecdsa-p384",
        /// RSA with 2048 bits, for clients of another age.
        Rsa2048 = "rsa-2048",
        /// RSA with 4096 bits. Handshakes cost several times as much.
        Rsa4096 = "rsa-4096",
    }
}

fn check(acme: &AcmeSettings, table: &mut TableReader<'_, '_>) {
    if !acme.terms_agreed {
        let message = "nothing is ordered before you agree to the authority's terms of service";
        let hint = match acme.directory {
            Directory::Url(_) => "read them, then write terms_agreed = true",
            _ => "read them at https://letsencrypt.org/repository/, then write terms_agreed = true",
        };
        table.problem("terms_agreed", message, hint);
    }
    if acme.ca.is_some() && !matches!(acme.directory, Directory::Url(_)) {
        let hint = "leave it out, or write the URL of your authority's `directory`";
        table.problem(
            "ca",
            "Let's Encrypt's server is not of a private authority",
            hint,
        );
    }
}

fn check_external(account: &ExternalAccount, table: &mut TableReader<'_, '_>) {
    if account.key_bytes().is_none() {
        let hint = "copy it as the authority's web page shows it";
        table.problem("key", "this is no key in base64url", hint);
    }
}

impl ExternalAccount {
    /// The key's bytes, if it is one.
    pub fn key_bytes(&self) -> Option<Vec<u8>> {
        let text = self.key.expose().trim_end_matches('=');
        let bytes = base64::take_url(text.as_bytes())?;
        (!bytes.is_empty()).then_some(bytes)
    }
}

fn check_certificate(certificate: &AcmeCertificate, table: &mut TableReader<'_, '_>) {
    let names = &certificate.names;
    if names.is_empty() {
        let hint = "names = [\"shop.example\", \"www.shop.example\"]";
        table.problem("names", "a certificate is for at least one name", hint);
    }
    if names.len() > NAMES {
        let message = format!("a certificate has at most {NAMES} names");
        table.problem("names", message, "make several of it");
    }
    if let Some(twice) = (1..names.len()).find(|&at| names[..at].contains(&names[at])) {
        let message = format!("{} is in it twice", names[twice]);
        table.problem("names", message, "remove one of them");
    }
    let wildcard = names.iter().find(|name| name.is_wildcard());
    if let (Some(name), Some(Challenge::Http01 | Challenge::TlsAlpn01)) =
        (wildcard, certificate.challenge)
    {
        let message = format!("authorities prove {name} by dns-01 only");
        table.problem("challenge", message, "leave it out");
    }
}

/// Where an authority's directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directory {
    /// Let's Encrypt.
    LetsEncrypt,
    /// What it has for trying things out.
    LetsEncryptStaging,
    /// Another one.
    Url(Url),
}

impl Directory {
    /// Its URL.
    pub fn url(&self) -> String {
        match self {
            Self::LetsEncrypt => instant_acme::LetsEncrypt::Production.url().to_owned(),
            Self::LetsEncryptStaging => instant_acme::LetsEncrypt::Staging.url().to_owned(),
            Self::Url(url) => url.to_string(),
        }
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LetsEncrypt => formatter.write_str("letsencrypt"),
            Self::LetsEncryptStaging => formatter.write_str("letsencrypt-staging"),
            Self::Url(url) => url.fmt(formatter),
        }
    }
}

impl FromStr for Directory {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        match text {
            "letsencrypt" => Ok(Self::LetsEncrypt),
            "letsencrypt-staging" => Ok(Self::LetsEncryptStaging),
            _ => text.parse().map(Self::Url),
        }
    }
}

outgrow_core::text_setting!(
    Directory,
    "letsencrypt, letsencrypt-staging or a directory's URL",
    ["letsencrypt", "https://ca.example/acme/directory"]
);

/// A mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact(String);

/// Why a text is no mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has one @, and no spaces, commas or ?")]
pub struct ContactError;

impl fmt::Display for Contact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Contact {
    type Err = ContactError;

    fn from_str(text: &str) -> Result<Self, ContactError> {
        let text = text.strip_prefix("mailto:").unwrap_or(text);
        // RFC 8555 section 7.3: one address, no header fields.
        let is_letter = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b'?');
        let (user, host) = text.split_once('@').ok_or(ContactError)?;
        match !user.is_empty() && is_name(host) && text.bytes().all(is_letter) {
            true => Ok(Self(text.to_owned())),
            false => Err(ContactError),
        }
    }
}

outgrow_core::text_setting!(Contact, "a mail address", ["admin@shop.example"]);

/// A name that a certificate is for, in lower case: a host, or `*.` and a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateName(String);

/// Why a text is no name for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateNameError {
    /// It is an address.
    #[error("certificates for IP addresses are not got here")]
    Address,
    /// A `*` that is not the whole first label.
    #[error("* can only be the whole first label, *.example")]
    Wildcard,
    /// It is no name.
    #[error("it is not the name of a host; write names with other letters in punycode")]
    Name,
}

impl CertificateName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `*.` and a host.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for CertificateName {
    type Err = CertificateNameError;

    fn from_str(text: &str) -> Result<Self, CertificateNameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let host = name.strip_prefix("*.").unwrap_or(&name);
        if host.contains('*') {
            return Err(CertificateNameError::Wildcard);
        }
        let address = host.trim_start_matches('[').trim_end_matches(']');
        if address.parse::<std::net::IpAddr>().is_ok() {
            return Err(CertificateNameError::Address);
        }
        match is_name(host) {
            true => Ok(Self(name)),
            false => Err(CertificateNameError::Name),
        }
    }
}

outgrow_core::text_setting!(
    CertificateName,
    "a host's name",
    ["shop.example", "*.shop.example"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contacts_are_what_authorities_take() {
        for (text, expected) in [
            ("Shop.Example.", "shop.example"),
            ("*.Shop.example", "*.shop.example"),
            ("localhost", "localhost"),
        ] {
            let name: CertificateName = text.parse().expect(text);
            assert_eq!(name.as_str(), expected);
        }
        for text in [
            "10.0.0.1", "[::1]", "a.*.b", "*", "a b", "", "a/b", "a:80", "*.*.a",
        ] {
            assert!(text.parse::<CertificateName>().is_err(), "{text}");
        }
        let contact: Contact = "mailto:a@b.example".parse().expect("an address");
        assert_eq!(contact.to_string(), "a@b.example");
        for text in ["a", "@b", "a@", "a@b?c=d", "a@b,c@d", "a b@c"] {
            assert!(text.parse::<Contact>().is_err(), "{text}");
        }
    }

    #[test]
    fn external_keys_are_base64url_with_and_without_padding() {
        let bytes = |text: &str| {
            let key = Secret::new(text);
            let id = String::new();
            ExternalAccount { id, key }.key_bytes()
        };
        assert_eq!(bytes("_-8"), Some(vec![0xff, 0xef]));
        assert_eq!(bytes("_-8="), Some(vec![0xff, 0xef]));
        assert_eq!(bytes("a b"), None);
        assert_eq!(bytes(""), None);
    }
}
