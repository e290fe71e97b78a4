//! What is known of a database's statements for the split of reads and writes: its catalogue, and
//! what was found out about texts with it. One for each worker and database.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::lease::Lease;
use crate::pool::Pool;
use crate::server::{Broken, Server};
use crate::sql::Lexing;
use crate::sql::cache::{Cache, Known};
use crate::sql::catalogue::{Builder, Catalogue, GENERATION, LOAD, Limits};
use crate::sql::fingerprint::fingerprint;
use crate::sql::read_only::Verdict;
use crate::wire::read;
use crate::worker::{Worker, text_secret};

/// Bytes kept of what is known of texts.
const TEXTS_BYTES: usize = 1 << 20;
/// Most texts that are remembered because replicas have refused them.
const MOST_REFUSED: usize = 4096;
/// How often it is looked whether somebody else has changed a definition.
const LOOK: Duration = Duration::from_secs(5);
/// After an attempt that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long a catalogue may take to be loaded.
const LOAD_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct State {
    catalogue: Arc<Catalogue>,
    texts: Cache,
    refused: Refused,
}

/// What replicas have refused although it was proven to only read, by fingerprint. Somebody who makes a
/// text with the fingerprint of another one sends that to the primary, which is never wrong.
#[derive(Debug, Default)]
struct Refused(HashSet<u64>);

impl Refused {
    #[inline]
    fn has(&self, fingerprint: u64) -> bool {
        !self.0.is_empty() && self.0.contains(&fingerprint)
    }

    /// With too many all are forgotten: what matters is soon learnt again.
    fn add(&mut self, fingerprint: u64) {
        if self.0.len() >= MOST_REFUSED {
            self.0.clear();
        }
        self.0.insert(fingerprint);
    }
}

/// What is known of a database.
#[derive(Debug)]
pub(crate) struct Reads {
    known: Mutex<State>,
    changed: Notify,
}

impl Reads {
    /// Nothing: everything is for the primary.
    pub(crate) fn new() -> Arc<Self> {
        let cache = Cache::new(TEXTS_BYTES, text_secret());
        Arc::new(Self {
            known: Mutex::new(State {
                catalogue: Arc::default(),
                texts: cache,
                refused: Refused::default(),
            }),
            changed: Notify::new(),
        })
    }

    /// What is known of a text.
    #[inline]
    pub(crate) fn know(&self, text: &[u8], lexing: Lexing) -> Known {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *known;
        let mut known = state.texts.know(text, lexing, &state.catalogue);
        if state.refused.has(known.fingerprint) && known.verdict.allows_replica() {
            known.verdict = Verdict::refused();
        }
        known
    }

    /// Replicas have refused a text: it is the primary's until the catalogue is loaded again.
    #[cold]
    pub(crate) fn learn(&self, text: &[u8], lexing: Lexing) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.refused.add(fingerprint(text, lexing));
    }

    /// A definition was changed here: nothing is believed until the catalogue is loaded again.
    pub(crate) fn forget(&self) {
        self.put(Catalogue::default());
        self.changed.notify_one();
    }

    fn put(&self, catalogue: Catalogue) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.catalogue = Arc::new(catalogue);
        known.texts.renew();
        known.refused = Refused::default();
    }

    fn generation(&self) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.catalogue.generation().to_owned()
    }
}

/// Keeps the catalogue as new as the primary's, for as long as somebody uses it.
pub(crate) async fn run(worker: Arc<Worker>, pool: Arc<Pool>, reads: Arc<Reads>) {
    // This task has one; the worker's table another.
    while Arc::strong_count(&reads) > 2 {
        let fresh = tokio::time::timeout(LOAD_LIMIT, refresh(&worker, &pool, &reads)).await;
        let pause = if matches!(fresh, Ok(Ok(()))) {
            LOOK
        } else {
            RETRY
        };
        let _ = tokio::time::timeout(pause, reads.changed.notified()).await;
    }
}

async fn refresh(worker: &Arc<Worker>, pool: &Arc<Pool>, reads: &Reads) -> Result<(), Broken> {
    let mut lease = Lease::of_ours(pool, worker).await.map_err(|_| Broken)?;
    let server = lease.server().ok_or(Broken)?;
    let before = reads.generation();
    let now = generation(server).await?;
    if before.is_empty() || before != now {
        reads.put(load(server).await?);
    }
    lease.give_back();
    Ok(())
}

async fn generation(server: &mut Server) -> Result<String, Broken> {
    let mut generation = String::new();
    let note = |body: &[u8]| {
        let value = read::columns::<1>(body).and_then(|[value]| value);
        generation = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    };
    server.query(GENERATION.as_bytes(), note).await?;
    Ok(generation)
}

async fn load(server: &mut Server) -> Result<Catalogue, Broken> {
    let mut builder = Builder::new(Limits::default());
    let note = |body: &[u8]| {
        if let Some([Some(kind), Some(name)]) = read::columns::<2>(body) {
            builder.row(kind, name);
        }
    };
    server.query(LOAD.as_bytes(), note).await?;
    Ok(builder.finish())
}
