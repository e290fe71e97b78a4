//! What handshakes get: the certificate with the response that is in force, as long as its time lasts;
//! and all of them together, so that the same certificate keeps its staple over reloads and, where
//! somebody keeps the bytes, over processes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use aws_lc_rs::digest;
use outgrow_core::{Snapshot, WallTime, hex};
use rustls::sign::CertifiedKey;

use super::response::{self, OcspProblem, OcspResponse};
use super::subject::{Subject, Wishes};
use crate::certificate::{CertificateText, Loaded};
use crate::problem::TlsWarning;

/// Most responses that are remembered.
const REMEMBERED: usize = 256;

/// A certificate that is served, with what is stapled to it.
#[derive(Debug)]
pub struct Staple {
    id: String,
    source_name: String,
    host: String,
    must_staple: bool,
    source: Source,
    subject: Subject,
    plain: Arc<CertifiedKey>,
    current: Snapshot<Option<Current>>,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    response: OcspResponse,
}

#[derive(Debug, Default)]
struct Told {
    problem: Option<String>,
    succeeded: u64,
    failed: u64,
}

/// Where the responses of a certificate are from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// They are asked for, by URLs.
    Responders(Vec<String>),
    /// Somebody else gets them; the name of the file.
    File(String),
}

/// What is known of a staple, for whoever asks about the running state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StapleFacts {
    /// The response that is stapled; none while there is none whose time lasts.
    pub response: Option<OcspResponse>,
    /// Where responses are from: the URL of a responder, or a file's path.
    pub from: String,
    /// Whether clients are to refuse the certificate without a staple (RFC 7633).
    pub must_staple: bool,
    /// Why the last try to get a response came to nothing.
    pub problem: Option<String>,
    /// Responses that were taken.
    pub succeeded: u64,
    /// Tries that came to nothing.
    pub failed: u64,
}

/// Two are equal that are of the same certificate from the same source.
impl PartialEq for Staple {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Staple {}

impl Staple {
    /// What tells it from others, over processes.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the certificate is from.
    pub fn source_name(&self) -> &str {
        &self.source_name
    }

    /// The first host that the certificate names; empty if it names none.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The certificate's serial number, in hexadecimal digits.
    pub fn serial(&self) -> String {
        hex::encode(&self.subject.serial)
    }

    /// Whether clients are to refuse the certificate without a staple (RFC 7633).
    pub fn must_staple(&self) -> bool {
        self.must_staple
    }

    /// The URLs of those who are asked; none where somebody else gets the responses.
    pub fn responders(&self) -> &[String] {
        match &self.source {
            Source::Responders(urls) => urls,
            Source::File(_) => &[],
        }
    }

    /// What they are asked, in DER (`application/ocsp-request`).
    pub fn request(&self) -> Vec<u8> {
        self.subject.request()
    }

    /// Checks a response in DER and staples it from now on. One that is older than what is stapled
    /// changes nothing: whoever is on the way could send it again. Gives what is stapled.
    ///
    /// # Errors
    /// It cannot be stapled; what is stapled stays, as long as its time lasts.
    pub fn take(&self, der: &[u8], now: WallTime) -> Result<OcspResponse, OcspProblem> {
        let checked = response::check(der, &self.subject, now);
        let mut told = self.told();
        let response = match checked {
            Ok(response) => response,
            Err(problem) => {
                told.failed += 1;
                told.problem = Some(problem.to_string());
                return Err(problem);
            }
        };
        told.succeeded += 1;
        told.problem = None;
        let current = self.current.load();
        if let Some(current) = &*current
            && current.response.this_update > response.this_update
            && current.response.next_update > now
        {
            return Ok(current.response);
        }
        let mut key = CertifiedKey::clone(&self.plain);
        key.ocsp = Some(der.to_vec());
        let key = Arc::new(key);
        self.current
            .publish(Arc::new(Some(Current { key, response })));
        Ok(response)
    }

    /// There is no response, for this reason.
    pub fn fail(&self, problem: String) {
        let mut told = self.told();
        told.failed += 1;
        told.problem = Some(problem);
    }

    /// What is known now.
    pub fn facts(&self, now: WallTime) -> StapleFacts {
        let told = self.told();
        StapleFacts {
            response: self.response(now),
            from: match &self.source {
                Source::Responders(urls) => urls.first().cloned().unwrap_or_default(),
                Source::File(name) => name.clone(),
            },
            must_staple: self.must_staple,
            problem: told.problem.clone(),
            succeeded: told.succeeded,
            failed: told.failed,
        }
    }

    /// What is stapled now.
    pub fn response(&self, now: WallTime) -> Option<OcspResponse> {
        let current = self.current.load();
        let response = current.as_ref().as_ref()?.response;
        (response.next_update > now).then_some(response)
    }

    /// What a handshake gets.
    pub(crate) fn key(&self, now: WallTime) -> Arc<CertifiedKey> {
        match &*self.current.load() {
            // Clients take an old one for an attack.
            Some(current) if current.response.next_update > now => Arc::clone(&current.key),
            _ => Arc::clone(&self.plain),
        }
    }

    fn bytes(&self) -> Option<(Vec<u8>, WallTime)> {
        let current = self.current.load();
        let current = current.as_ref().as_ref()?;
        Some((current.key.ocsp.clone()?, current.response.next_update))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The staples of a process.
#[derive(Debug, Default)]
pub struct Staples {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    live: BTreeMap<String, Weak<Staple>>,
    /// Responses of those that were, by the id of the staple, and until when they may be used.
    remembered: BTreeMap<String, (Vec<u8>, WallTime)>,
}

impl Staples {
    /// With what another process kept: by the id of the staple the response in DER, and until when it
    /// may be used. Each is checked again before it is stapled.
    pub fn recall(kept: BTreeMap<String, (Vec<u8>, WallTime)>) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                live: BTreeMap::new(),
                remembered: kept.into_iter().take(REMEMBERED).collect(),
            }),
        })
    }

    /// Those of certificates that are served.
    pub fn live(&self) -> Vec<Arc<Staple>> {
        let mut inner = self.inner();
        inner.live.retain(|_, staple| staple.strong_count() > 0);
        inner.live.values().filter_map(Weak::upgrade).collect()
    }

    /// What another process may recall.
    pub fn kept(&self, now: WallTime) -> BTreeMap<String, (Vec<u8>, WallTime)> {
        let live = self.live();
        let mut inner = self.inner();
        for staple in live.iter().filter(|one| !one.responders().is_empty()) {
            if let Some(bytes) = staple.bytes() {
                inner.remembered.insert(staple.id.clone(), bytes);
            }
        }
        inner.remembered.retain(|_, (_, until)| *until > now);
        while inner.remembered.len() > REMEMBERED {
            inner.remembered.pop_first();
        }
        inner.remembered.clone()
    }

    /// The one with that id, or else a new one.
    fn get(&self, id: &str, new: impl FnOnce() -> Staple, now: WallTime) -> Arc<Staple> {
        let mut inner = self.inner();
        if let Some(staple) = inner.live.get(id).and_then(Weak::upgrade) {
            return staple;
        }
        let staple = Arc::new(new());
        inner.live.insert(id.to_owned(), Arc::downgrade(&staple));
        if let Some((response, _)) = inner.remembered.get(id) {
            // One that is not believed any more is asked for anew.
            let _ = staple.take(response, now);
        }
        staple
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a certificate stapled: with the response of a file if there is one, else, where `asks`, with
/// those of the responders that it names, if it names any.
pub(crate) fn with_staple(
    loaded: &mut Loaded,
    text: &CertificateText,
    staples: &Staples,
    asks: bool,
    now: WallTime,
    warnings: &mut Vec<TlsWarning>,
) {
    let chain = &loaded.key.cert;
    let Some(first) = chain.first() else {
        return;
    };
    let wishes = Wishes::of(first);
    let source = match &text.staple {
        Some(file) => Some(Source::File(file.name.clone())),
        None if asks && !wishes.responders.is_empty() => {
            Some(Source::Responders(wishes.responders.clone()))
        }
        None => None,
    };
    let source_name = text.certificate_name.clone();
    let subject = source.as_ref().and_then(|_| Subject::of(chain));
    let (Some(source), Some(subject)) = (source.clone(), subject) else {
        if source.is_some() && !wishes.is_self_issued {
            warnings.push(TlsWarning::NoIssuer {
                source_name: source_name.clone(),
            });
        }
        if wishes.must_staple {
            warnings.push(TlsWarning::MustStaple { source_name });
        }
        return;
    };
    let id = id(&loaded.key, &source);
    let new = || Staple {
        id: id.clone(),
        source_name: source_name.clone(),
        host: loaded.facts.names.first().cloned().unwrap_or_default(),
        must_staple: wishes.must_staple,
        source,
        subject,
        plain: Arc::clone(&loaded.key),
        current: Snapshot::new(None),
        told: Mutex::default(),
    };
    let staple = staples.get(&id, new, now);
    if let Some(file) = &text.staple {
        let taken = match &file.response {
            Ok(response) => staple
                .take(response, now)
                .map_err(|error| error.to_string()),
            Err(problem) => {
                staple.fail(problem.clone());
                Err(problem.clone())
            }
        };
        match taken {
            Ok(response) => warnings.extend(TlsWarning::revoked(&source_name, &response)),
            Err(detail) => warnings.push(TlsWarning::BadStaple {
                source_name: file.name.clone(),
                detail,
                must_staple: wishes.must_staple && staple.response(now).is_none(),
            }),
        }
    }
    loaded.facts.staple = Some(staple);
}

/// What a staple is known by: all that it is sent with, and where it is from.
fn id(key: &CertifiedKey, source: &Source) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for certificate in &key.cert {
        context.update(&(certificate.len() as u64).to_be_bytes());
        context.update(certificate);
    }
    if let Source::File(name) = source {
        context.update(name.as_bytes());
    }
    hex::encode(context.finish().as_ref())
}
