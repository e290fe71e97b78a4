//! The certificate that a client has shown, as endpoints are told of it and as a request key sees it.
//!
//! It was verified in the handshake. Not here: who may come with which certificate; TLS knows
//! issuers, the application knows names.

use outgrow_core::base64;
use outgrow_message::Fields;
use outgrow_tls::Holder;

use crate::settings::ClientFact;

const CERTIFICATE: &str = "Client-Cert";
const COMMON_NAME: &str = "X-Client-Cert-CN";
const NAMES: &str = "X-Client-Cert-SAN";
const FINGERPRINT: &str = "X-Client-Cert-SHA256";

/// Longest value of a field, in bytes: what does not fit is not told, rather than told in part.
const VALUE_LIMIT: usize = 8 * 1024;

/// A client's certificate.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The fields that endpoints get.
    told: Vec<(&'static str, Vec<u8>)>,
    /// Whose it is, over renewals too: the first alternative name, else the common name, else the
    /// fingerprint.
    holder: String,
}

impl Shown {
    /// Of a certificate in DER.
    pub(crate) fn new(certificate: &[u8], facts: &[ClientFact]) -> Self {
        let holder = Holder::of(certificate);
        let fingerprint = outgrow_tls::fingerprint(certificate);
        let told = facts.iter().filter_map(|fact| {
            let (name, value) = match fact {
                ClientFact::Certificate => {
                    let value = format!(":{}:", base64::encode(certificate));
                    (CERTIFICATE, value)
                }
                ClientFact::CommonName => (COMMON_NAME, holder.common_name.clone()?),
                ClientFact::Names => (NAMES, names(&holder)),
                ClientFact::Fingerprint => (FINGERPRINT, fingerprint.clone()),
            };
            let is_told = !value.is_empty() && value.len() <= VALUE_LIMIT;
            is_told.then(|| (name, value.into_bytes()))
        });
        Self {
            told: told.collect(),
            holder: listed(&holder)
                .next()
                .map(|(_, name)| name.to_owned())
                .or(holder.common_name.clone())
                .unwrap_or(fingerprint),
        }
    }

    /// Whose it is.
    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }

    /// Adds what endpoints are told.
    pub(crate) fn tell(&self, fields: &mut Fields) {
        for (name, value) in &self.told {
            fields.push(name.as_bytes(), value);
        }
    }
}

/// The alternative names that can stand in a list, with their kinds.
fn listed(holder: &Holder) -> impl Iterator<Item = (&'static str, &str)> {
    let is_clear = |name: &str| {
        !name
            .chars()
            .any(|character| character.is_whitespace() || matches!(character, ',' | '"' | '\\'))
    };
    let names = holder.alternative_names.iter().map(|name| {
        let kind = if name.contains('@') { "email" } else { "DNS" };
        (kind, name.as_str())
    });
    let uris = holder.uris.iter().map(|uri| ("URI", uri.as_str()));
    names.chain(uris).filter(move |(_, name)| is_clear(name))
}

fn names(holder: &Holder) -> String {
    let mut list = String::new();
    for (kind, name) in listed(holder) {
        if !list.is_empty() {
            list.push_str(", ");
        }
        list.push_str(kind);
        list.push(':');
        list.push_str(name);
    }
    list
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    const ALL: [ClientFact; 4] = [
        ClientFact::Certificate,
        ClientFact::CommonName,
        ClientFact::Names,
        ClientFact::Fingerprint,
    ];

    fn certificate(common_name: Option<&str>, names: &[SanType]) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = names.to_vec();
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signed").der().to_vec()
    }

    fn told(shown: &Shown, name: &str) -> Option<String> {
        let value = shown.told.iter().find(|(known, _)| *known == name)?;
        Some(String::from_utf8_lossy(&value.1).into_owned())
    }

    #[test]
    fn an_endpoint_is_told_the_facts_and_no_others() {
        let names = [
            SanType::DnsName("app.example".try_into().expect("a name")),
            SanType::Rfc822Name("ann@example".try_into().expect("a name")),
            SanType::URI("spiffe://example/app".try_into().expect("a name")),
        ];
        let der = certificate(Some("Ann"), &names);
        let shown = Shown::new(&der, &ALL);
        assert_eq!(told(&shown, COMMON_NAME).as_deref(), Some("Ann"));
        let list = "DNS:app.example, email:ann@example, URI:spiffe://example/app";
        assert_eq!(told(&shown, NAMES).as_deref(), Some(list));
        let fingerprint = told(&shown, FINGERPRINT).expect("told");
        assert_eq!(fingerprint.len(), 64);
        let whole = told(&shown, CERTIFICATE).expect("told");
        let inner = whole
            .strip_prefix(':')
            .and_then(|rest| rest.strip_suffix(':'));
        assert_eq!(base64::decode(inner.expect("colons")).expect("base64"), der);
        assert_eq!(shown.holder(), "app.example");
        assert!(Shown::new(&der, &[]).told.is_empty());
    }

    #[test]
    fn a_name_cannot_be_taken_for_two() {
        let names = [SanType::URI(
            "spiffe://a,URI:spiffe://admin".try_into().expect("a name"),
        )];
        let shown = Shown::new(&certificate(Some("Ann"), &names), &ALL);
        assert_eq!(told(&shown, NAMES), None);
        assert_eq!(shown.holder(), "Ann");
        let nobody = Shown::new(&certificate(None, &[]), &ALL);
        assert_eq!(told(&nobody, COMMON_NAME), None);
        assert_eq!(nobody.holder().len(), 64);
    }
}
