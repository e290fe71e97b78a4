//! Which certificates a configuration wants, and how they are called in the storage.

use std::collections::BTreeMap;

use outgrow_acme::settings::{AcmeCertificate, AcmeSettings, Challenge, KeyKind};
use outgrow_core::settings::Name;
use outgrow_tls::fingerprint;

use crate::config::Config;

/// One certificate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// What it is called in the storage.
    pub(super) id: String,
    /// Its names as they are written.
    pub(super) names: Vec<String>,
    pub(super) challenge: Challenge,
    pub(super) key: KeyKind,
    /// What it is and how it is got: when that changes, what failed is tried anew.
    pub(super) fingerprint: String,
    /// The listeners that serve it.
    pub(super) listeners: Vec<Name>,
}

impl Wanted {
    fn new(certificate: &AcmeCertificate, acme: &AcmeSettings) -> Self {
        let names: Vec<String> = certificate.names.iter().map(ToString::to_string).collect();
        let has_wildcard = certificate.names.iter().any(|name| name.is_wildcard());
        let challenge = match (certificate.challenge, has_wildcard) {
            (Some(challenge), _) => challenge,
            (None, true) => Challenge::Dns01,
            (None, false) => acme.challenge,
        };
        let key = certificate.key.unwrap_or(acme.key);
        let mut sorted = names.clone();
        sorted.sort();
        let what = format!(
            "{}\n{}\n{key}\n{}",
            acme.directory.url(),
            acme.profile,
            sorted.join(" ")
        );
        let how = format!("{what}\n{challenge}\n{}", acme.external_account.is_some());
        let first = names.first().map_or("", String::as_str).replace('*', "_");
        let first: String = first.chars().take(100).collect();
        Self {
            id: format!("{first}-{}", short(&what)),
            names,
            challenge,
            key,
            fingerprint: short(&how),
            listeners: Vec::new(),
        }
    }

    /// The same number for the same certificate, in every process.
    pub(super) fn chance(&self) -> u64 {
        let hash = fingerprint(self.id.as_bytes());
        u64::from_str_radix(&hash[..16], 16).unwrap_or_default()
    }
}

/// What is wanted by all listeners; the same certificate for several of them is one.
pub(super) fn wanted(config: &Config) -> Vec<Wanted> {
    let Some(acme) = &config.acme else {
        return Vec::new();
    };
    let mut all: BTreeMap<String, Wanted> = BTreeMap::new();
    for (listener, settings) in &config.listener {
        let certificates = settings.tls.iter().flat_map(|tls| &tls.acme);
        for certificate in certificates {
            let one = Wanted::new(certificate, &acme.settings);
            let one = all.entry(one.id.clone()).or_insert(one);
            if !one.listeners.contains(listener) {
                one.listeners.push(listener.clone());
            }
        }
    }
    all.into_values().collect()
}

/// The file of the account at an authority.
pub(super) fn account(acme: &AcmeSettings) -> String {
    let external = acme.external_account.as_ref();
    let external = external.map_or("", |external| external.id.as_str());
    short(&format!("{}\n{external}", acme.directory.url()))
}

fn short(text: &str) -> String {
    let mut hash = fingerprint(text.as_bytes());
    hash.truncate(12);
    hash
}
