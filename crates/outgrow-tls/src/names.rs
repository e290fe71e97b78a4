//! Which certificate a client gets: the one that names the host it asked for, else one whose
//! wildcard covers it, else the first, unless clients that ask for none of the names are refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use outgrow_core::WallTime;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificate::Loaded;
use crate::ocsp::Staple;

/// A certificate, and what is stapled to it.
#[derive(Clone, Debug)]
struct Served {
    plain: Arc<CertifiedKey>,
    staple: Option<Arc<Staple>>,
}

impl Served {
    fn key(&self) -> Arc<CertifiedKey> {
        match &self.staple {
            Some(staple) => staple.key(WallTime::now()),
            None => Arc::clone(&self.plain),
        }
    }
}

/// The certificates of a listener by the names that are in them.
#[derive(Debug, Default)]
pub(crate) struct ByName {
    certificates: Vec<Served>,
    /// Positions in `certificates`; several when, say, an RSA and an ECDSA one name the host.
    exact: HashMap<String, Vec<usize>>,
    /// The same for `*.example`, under `example`.
    wildcard: HashMap<String, Vec<usize>>,
    /// Whether a client that asks for no name, or for one that is not there, is refused.
    is_strict: bool,
}

impl ByName {
    pub(crate) fn new(loaded: &[Loaded], is_strict: bool) -> Self {
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut wildcard: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, one) in loaded.iter().enumerate() {
            for name in &one.facts.names {
                let (map, key) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut wildcard, parent),
                    None => (&mut exact, name.as_str()),
                };
                map.entry(key.to_owned()).or_default().push(at);
            }
        }
        Self {
            certificates: loaded.iter().map(served).collect(),
            exact,
            wildcard,
            is_strict,
        }
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.find(name, schemes).or_else(|| match self.is_strict {
            true => None,
            false => self.first(),
        })
    }

    /// Whether clients that ask for none of the names are refused.
    pub(crate) fn is_strict(&self) -> bool {
        self.is_strict
    }

    /// One that names the host.
    pub(crate) fn find(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let positions = name.map_or(&[][..], |name| self.positions(name));
        let usable = positions
            .iter()
            .map(|&at| &self.certificates[at])
            .find(|certificate| certificate.plain.key.choose_scheme(schemes).is_some());
        usable
            .or_else(|| positions.first().map(|&at| &self.certificates[at]))
            .map(Served::key)
    }

    /// The one for clients that name no host of any.
    pub(crate) fn first(&self) -> Option<Arc<CertifiedKey>> {
        self.certificates.first().map(Served::key)
    }

    fn positions(&self, name: &str) -> &[usize] {
        let lower = name.to_ascii_lowercase();
        if let Some(positions) = self.exact.get(&lower) {
            return positions;
        }
        // A wildcard stands for one label exactly (RFC 9525 section 6.3).
        lower
            .split_once('.')
            .and_then(|(_, parent)| self.wildcard.get(parent))
            .map_or(&[], Vec::as_slice)
    }
}

fn served(loaded: &Loaded) -> Served {
    Served {
        plain: Arc::clone(&loaded.key),
        staple: loaded.facts.staple.clone(),
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

/// Takes note of what one connection got.
#[derive(Debug)]
pub(crate) struct Chosen {
    from: Arc<dyn ResolvesServerCert>,
    got: Mutex<Option<Arc<CertifiedKey>>>,
}

impl Chosen {
    pub(crate) fn new(from: Arc<dyn ResolvesServerCert>) -> Self {
        Self {
            from,
            got: Mutex::default(),
        }
    }

    /// What the connection got; none when it was not asked.
    pub(crate) fn take(&self) -> Option<Arc<CertifiedKey>> {
        self.got
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = self.from.resolve(hello);
        let mut got = self.got.lock().unwrap_or_else(PoisonError::into_inner);
        got.clone_from(&chosen);
        chosen
    }
}
