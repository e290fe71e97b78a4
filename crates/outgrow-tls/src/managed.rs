//! Certificates that come and go while a listener runs, because somebody keeps getting new ones
//! (ACME), beside those of its files; and the ones that answer a CA's `tls-alpn-01` challenge
//! (RFC 8737).
//!
//! Not here: where they come from. Until there is one for a name, and none that the listener has
//! instead, the handshake is refused: a certificate of our own making would teach people to click
//! warnings away.

use std::collections::HashMap;
use std::sync::Arc;

use outgrow_core::{Snapshot, WallTime};
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificate::{self, CertificateFacts, CertificateText};
use crate::names::ByName;
use crate::problem::{TlsProblem, TlsWarning};
use crate::server::Stapling;

/// The application protocol of the challenge.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// The certificates of a listener that are replaced while it runs.
#[derive(Debug)]
pub struct Managed {
    state: Snapshot<State>,
    stapling: Stapling,
    challenges: Arc<AlpnChallenges>,
}

#[derive(Debug, Default)]
struct State {
    certificates: ByName,
    facts: Vec<CertificateFacts>,
}

impl Managed {
    /// None yet; with the process's challenges.
    pub fn new(challenges: &Arc<AlpnChallenges>, stapling: Stapling) -> Arc<Self> {
        Arc::new(Self {
            state: Snapshot::new(State::default()),
            stapling,
            challenges: Arc::clone(challenges),
        })
    }

    /// Serves these from now on, and no others. One that cannot be served is left out and told of.
    pub fn publish(
        &self,
        texts: &[CertificateText],
        now: WallTime,
    ) -> (Vec<TlsWarning>, Vec<TlsProblem>) {
        let provider = aws_lc_rs::default_provider();
        let (mut warnings, mut problems) = (Vec::new(), Vec::new());
        let mut loaded = Vec::with_capacity(texts.len());
        for text in texts {
            match certificate::load(text, &provider, now, &mut warnings) {
                Ok(mut one) => {
                    self.stapling.apply(&mut one, text, now, &mut warnings);
                    loaded.push(one);
                }
                Err(problem) => problems.push(problem),
            }
        }
        let certificates = ByName::new(&loaded, false);
        let facts = loaded.into_iter().map(|one| one.facts).collect();
        self.state.publish(Arc::new(State {
            certificates,
            facts,
        }));
        (warnings, problems)
    }

    /// What is served now.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        self.state.load().facts.clone()
    }
}

/// Reads a certificate with its key as if it were to be served: what is known of it.
pub fn facts(text: &CertificateText, now: WallTime) -> Result<CertificateFacts, TlsProblem> {
    let provider = aws_lc_rs::default_provider();
    let loaded = certificate::load(text, &provider, now, &mut Vec::new())?;
    Ok(loaded.facts)
}

/// The certificates that prove to a CA that a name leads here, by name.
#[derive(Debug)]
pub struct AlpnChallenges {
    by_name: Snapshot<HashMap<String, Arc<CertifiedKey>>>,
}

impl Default for AlpnChallenges {
    fn default() -> Self {
        Self {
            by_name: Snapshot::new(HashMap::new()),
        }
    }
}

impl AlpnChallenges {
    /// Answers for these names, and no others.
    pub fn publish(&self, answers: &[(String, CertificateText)]) -> Result<(), TlsProblem> {
        let provider = aws_lc_rs::default_provider();
        let mut by_name = HashMap::new();
        for (name, text) in answers {
            let key = certificate::load_answer(text, &provider)?;
            by_name.insert(name.to_ascii_lowercase(), Arc::new(key));
        }
        self.by_name.publish(Arc::new(by_name));
        Ok(())
    }

    fn of(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name?.to_ascii_lowercase();
        self.by_name.load().get(&name).cloned()
    }
}

/// Which certificate a client gets where some are managed: one that names the host, of the files
/// first; else the first of the files, else the first managed one.
#[derive(Debug)]
pub(crate) struct Both {
    pub(crate) own: ByName,
    pub(crate) managed: Arc<Managed>,
}

impl ResolvesServerCert for Both {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        // The CA offers this protocol and no other (RFC 8737 section 3).
        let is_challenge = hello.alpn().is_some_and(|mut offered| {
            offered.next() == Some(ACME_TLS) && offered.next().is_none()
        });
        if is_challenge {
            return self.managed.challenges.of(name);
        }
        let state = self.managed.state.load();
        let schemes = hello.signature_schemes();
        self.own
            .find(name, schemes)
            .or_else(|| state.certificates.find(name, schemes))
            .or_else(|| match self.own.is_strict() {
                true => None,
                false => self.own.first().or_else(|| state.certificates.first()),
            })
    }
}
