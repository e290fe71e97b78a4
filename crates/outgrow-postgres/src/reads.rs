//! What is known of a database's statements for the split of reads and writes: its catalogue, and
//! what was found out about texts with it. One for each worker and database.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::lease::Lease;
use crate::pool::Pool;
use crate::server::{Broken, Server};
use crate::sql::Lexing;
use crate::sql::cache::{Cache, Known};
use crate::sql::catalogue::{Builder, Catalogue, GENERATION, LOAD, Limits};
use crate::wire::read;
use crate::worker::{Worker, text_secret};

/// Bytes kept of what is known of texts.
const TEXTS_BYTES: usize = 1 << 20;
/// How often it is looked whether somebody else has changed a definition.
const LOOK: Duration = Duration::from_secs(5);
/// After an attempt that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long a catalogue may take to be loaded.
const LOAD_LIMIT: Duration = Duration::from_secs(60);

/// What is known of a database.
#[derive(Debug)]
pub(crate) struct Reads {
    known: Mutex<(Arc<Catalogue>, Cache)>,
    changed: Notify,
}

impl Reads {
    /// Nothing: everything is for the primary.
    pub(crate) fn new() -> Arc<Self> {
        let cache = Cache::new(TEXTS_BYTES, text_secret());
        Arc::new(Self {
            known: Mutex::new((Arc::default(), cache)),
            changed: Notify::new(),
        })
    }

    /// What is known of a text.
    #[inline]
    pub(crate) fn know(&self, text: &[u8], lexing: Lexing) -> Known {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (catalogue, texts) = &mut *known;
        texts.know(text, lexing, catalogue)
    }

    /// A definition was changed here: nothing is believed until the catalogue is loaded again.
    pub(crate) fn forget(&self) {
        self.put(Catalogue::default());
        self.changed.notify_one();
    }

    fn put(&self, catalogue: Catalogue) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.0 = Arc::new(catalogue);
        known.1.renew();
    }

    fn generation(&self) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.0.generation().to_owned()
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
