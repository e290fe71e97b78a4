//! What is known of a database's statements for the split of reads and writes: its catalogue, and
//! what was found out about texts with it. One for each worker and database.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use tokio::sync::Notify;

use crate::client::{Ttl, Writes};
use crate::lease::Lease;
use crate::plan::CachePlan;
use crate::pool::Pool;
use crate::result_cache::{self, Domain, Reading, Tables, Touch};
use crate::server::{Broken, Server};
use crate::shared::Shared;
use crate::sql::Lexing;
use crate::sql::cache::{Cache, Known};
use crate::sql::catalogue::{Builder, Catalogue, GENERATION, LOAD, Limits};
use crate::sql::facts::Kind;
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
    tables: Tables,
    /// What the servers said of them, to be compared with.
    tables_generation: String,
    /// How many definitions had been seen here when the tables were asked for; none: they are not to be
    /// relied on.
    tables_for: Option<u64>,
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
    /// Whether something in the database asks for what sequences gave the session last. Stays when
    /// the catalogue is forgotten.
    asks_sequences: AtomicBool,
    /// The database for the query cache, where there is one.
    domain: Option<Arc<Domain>>,
}

impl Reads {
    /// Nothing: everything is for the primary.
    pub(crate) fn new(domain: Option<Arc<Domain>>) -> Arc<Self> {
        let cache = Cache::new(TEXTS_BYTES, text_secret());
        Arc::new(Self {
            known: Mutex::new(State {
                catalogue: Arc::default(),
                texts: cache,
                refused: Refused::default(),
                tables: Tables::default(),
                tables_generation: String::new(),
                tables_for: None,
            }),
            changed: Notify::new(),
            asks_sequences: AtomicBool::new(false),
            domain,
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
        known.tables_for = None;
    }

    /// Takes note of the tables; `generation` is what they were when `definitions` had been seen here.
    fn put_tables(&self, tables: Option<Tables>, generation: String, definitions: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tables) = tables {
            known.tables = tables;
            known.tables_generation = generation;
        }
        known.tables_for = Some(definitions);
    }

    fn tables_generation(&self) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.tables_generation.clone()
    }

    /// For how long the answer to a text may be kept, if it may at all; `definitions`: so many were seen
    /// here until now.
    pub(crate) fn keeps(
        &self,
        text: &[u8],
        lexing: Lexing,
        plan: CachePlan,
        definitions: u64,
    ) -> Option<Ttl> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.tables_for != Some(definitions) {
            return None;
        }
        let state = &mut *known;
        let text = state.texts.know(text, lexing, &state.catalogue);
        let marked = text.facts.hints.cache;
        let is_kept = (marked.is_some() || plan.keeps_all)
            && text.verdict == Verdict::ReadOnly
            && text.facts.kind == Kind::Select
            && text.facts.statements == 1
            && !text.facts.needs_reading();
        let time = marked.map_or(plan.ttl, |millis| Duration::from_millis(millis.into()));
        (is_kept && !time.is_zero()).then_some(Ttl {
            time,
            is_marked: marked.is_some(),
        })
    }

    /// What a text reads that [`Reads::keeps`] is for.
    pub(crate) fn reading(&self, text: &[u8], lexing: Lexing) -> Option<Reading> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.tables.reading(text, lexing)
    }

    /// What a text may write.
    pub(crate) fn writes(&self, text: &[u8], lexing: Lexing) -> Writes {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *known;
        let of_text = state.texts.know(text, lexing, &state.catalogue);
        let (facts, verdict) = (&of_text.facts, &of_text.verdict);
        // What is known of tables may be older than they are.
        let definitions = self.domain.as_ref().map(|domain| domain.definitions());
        let touch = if definitions == state.tables_for || verdict == &Verdict::ReadOnly {
            state.tables.writing(text, lexing, facts, verdict)
        } else {
            Tables::default().writing(text, lexing, facts, verdict)
        };
        Writes {
            touch,
            defines: facts.defines,
        }
    }

    /// Whether a function, a default or a view is known to ask for what sequences gave the session last.
    #[inline]
    pub(crate) fn ask_sequences(&self) -> bool {
        self.asks_sequences.load(Ordering::Relaxed)
    }

    fn generation(&self) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.catalogue.generation().to_owned()
    }
}

impl Shared {
    /// A definition was changed in the database of a pool: no worker believes what it knows of it.
    #[cold]
    pub(crate) fn forget_reads(&self, pool: &Pool) {
        for worker in self.workers.get().into_iter().flatten() {
            if let Some(reads) = worker.known_reads(&pool.database) {
                reads.forget();
            }
        }
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
    let is_new = before.is_empty() || before != now;
    if is_new {
        let catalogue = load(server).await?;
        let asks = catalogue.asks_sequences();
        reads.asks_sequences.store(asks, Ordering::Relaxed);
        reads.put(catalogue);
    }
    if let Some(domain) = &reads.domain {
        refresh_tables(server, reads, domain, is_new, worker.now()).await?;
    }
    lease.give_back();
    Ok(())
}

/// Sees to it that the tables are known as they are, for the query cache.
async fn refresh_tables(
    server: &mut Server,
    reads: &Reads,
    domain: &Domain,
    is_new: bool,
    now: Ticks,
) -> Result<(), Broken> {
    let definitions = domain.definitions();
    let generation = one_text(server, result_cache::GENERATION).await?;
    if !is_new && generation == reads.tables_generation() {
        reads.put_tables(None, generation, definitions);
        return Ok(());
    }
    let mut builder = result_cache::Builder::default();
    let note = |body: &[u8]| {
        if let Some([Some(kind), Some(name), other]) = read::columns::<3>(body) {
            builder.row(kind, name, other);
        }
    };
    server.query(result_cache::LOAD.as_bytes(), note).await?;
    reads.put_tables(Some(builder.finish()), generation, definitions);
    // What was kept rests on other tables, or they on others.
    domain.touch(&Touch::Everything, now);
    Ok(())
}

async fn generation(server: &mut Server) -> Result<String, Broken> {
    one_text(server, GENERATION).await
}

/// The one text that a query answers.
async fn one_text(server: &mut Server, sql: &str) -> Result<String, Broken> {
    let mut generation = String::new();
    let note = |body: &[u8]| {
        let value = read::columns::<1>(body).and_then(|[value]| value);
        generation = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    };
    server.query(sql.as_bytes(), note).await?;
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
