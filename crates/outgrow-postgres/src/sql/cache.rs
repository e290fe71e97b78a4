//! What was found out about statements, to be found again by what they are without their values.
//!
//! One for each worker, so without locks. Bounded: it is as large from the start as it may become, and what
//! comes last takes the place of what has not been asked for in its set. It knows no time: what was found
//! with one catalogue is forgotten with the next ([`Cache::renew`]).

use super::catalogue::Catalogue;
use super::facts::Facts;
use super::fingerprint::{Identity, Secret, fingerprint};
use super::lexer::Lexing;
use super::read_only::{Verdict, examine};
use super::shapes::Shapes;

/// Entries that one text may be in.
const WAYS: usize = 8;

/// What is known of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// What it is.
    pub facts: Facts,
    /// Whether it only reads, hints counted.
    pub verdict: Verdict,
    /// Its [`fingerprint`](fn@fingerprint), to name it by.
    pub fingerprint: u64,
}

/// How often a cache was of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uses {
    /// Texts that were known.
    pub hits: u64,
    /// Texts that were read, and are known from then on.
    pub misses: u64,
    /// Texts that were read and are not kept: too long, with values that matter, or unreadable.
    pub passed: u64,
    /// Entries that made room for others.
    pub evictions: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    identity: Identity,
    known: Known,
    /// With which catalogue it was found.
    epoch: u64,
    /// Asked for since somebody looked for room.
    is_used: bool,
}

/// Bytes of one entry: a bound of so many bytes has so many entries.
pub const ENTRY_BYTES: usize = size_of::<Option<Entry>>();

/// What a worker knows of statements.
#[derive(Debug)]
pub struct Cache {
    secret: Secret,
    sets: Box<[[Option<Entry>; WAYS]]>,
    /// Those that came again lately, to be known without being read.
    shapes: Shapes,
    epoch: u64,
    uses: Uses,
}

impl Cache {
    /// An empty one of at most so many bytes (and 16 KiB for the secret, and 256 KiB for the shapes of what
    /// comes again and again); with less than a set of entries
    /// (eight of [`ENTRY_BYTES`]) it keeps nothing.
    pub fn new(most_bytes: usize, secret: Secret) -> Self {
        let sets = most_bytes / (ENTRY_BYTES * WAYS);
        // A power of two, not above the bound.
        let sets = match sets.checked_ilog2() {
            Some(power) => 1 << power,
            None => 0,
        };
        Self {
            secret,
            sets: vec![[None; WAYS]; sets].into(),
            shapes: Shapes::new(),
            epoch: 0,
            uses: Uses::default(),
        }
    }

    /// Forgets everything, since the catalogue is another one. Must be called before the first
    /// [`Cache::know`] with it.
    pub fn renew(&mut self) {
        self.epoch += 1;
        self.shapes.clear();
    }

    /// How often it was of use.
    pub fn uses(&self) -> Uses {
        self.uses
    }

    /// What is known of a text; read if need be.
    pub fn know(&mut self, text: &[u8], lexing: Lexing, catalogue: &Catalogue) -> Known {
        if let Some(known) = self.shapes.find(text, lexing) {
            self.uses.hits += 1;
            return known;
        }
        let identity = Identity::of(text, lexing, &self.secret);
        let Some(identity) = identity.filter(|_| !self.sets.is_empty()) else {
            self.uses.passed += 1;
            return read(text, lexing, catalogue);
        };
        let place = identity.place() as usize & (self.sets.len() - 1);
        let epoch = self.epoch;
        let set = &mut self.sets[place];
        let found = set
            .iter_mut()
            .flatten()
            .find(|entry| entry.identity == identity && entry.epoch == epoch);
        if let Some(entry) = found {
            self.uses.hits += 1;
            entry.is_used = true;
            let known = entry.known;
            self.shapes.keep(text, lexing, known);
            return known;
        }
        let known = read(text, lexing, catalogue);
        if known.facts.depends_on_values {
            self.uses.passed += 1;
            return known;
        }
        self.uses.misses += 1;
        let (slot, evicts) = room(set, epoch, identity.place());
        self.uses.evictions += u64::from(evicts);
        *slot = Some(Entry {
            identity,
            known,
            epoch,
            is_used: false,
        });
        known
    }
}

fn read(text: &[u8], lexing: Lexing, catalogue: &Catalogue) -> Known {
    let (facts, verdict) = examine(text, lexing, catalogue);
    Known {
        facts,
        verdict,
        fingerprint: fingerprint(text, lexing),
    }
}

/// Where another entry goes, and whether one of this epoch goes for it: the first that was not used since
/// the last time, beginning somewhere that differs from text to text.
fn room(set: &mut [Option<Entry>; WAYS], epoch: u64, place: u64) -> (&mut Option<Entry>, bool) {
    let is_free = |entry: &Option<Entry>| entry.is_none_or(|entry| entry.epoch != epoch);
    if let Some(free) = set.iter().position(is_free) {
        return (&mut set[free], false);
    }
    let start = (place >> 48) as usize;
    let order = (0..WAYS).map(|way| (start + way) % WAYS);
    let unused = order
        .into_iter()
        .find(|&way| set[way].is_some_and(|entry| !entry.is_used));
    for entry in set.iter_mut().flatten() {
        entry.is_used = false;
    }
    (&mut set[unused.unwrap_or(start % WAYS)], true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(bytes: usize) -> Cache {
        let mut random = outgrow_core::Random::from_seed(7);
        Cache::new(bytes, Secret::new(|| random.next_u64()))
    }

    fn know(cache: &mut Cache, text: &str) -> Known {
        cache.know(text.as_bytes(), Lexing::default(), &Catalogue::default())
    }

    #[test]
    fn texts_that_differ_in_values_are_known() {
        let mut cache = cache(64 * 1024);
        let first = know(&mut cache, "SELECT a FROM t WHERE b = 1 /* x */");
        let again = know(&mut cache, "select a from t where b = 'other' -- y");
        assert_eq!(first, again);
        assert_eq!(first.facts.kind, super::super::facts::Kind::Select);
        know(&mut cache, "SELECT a FROM t WHERE c = 1");
        let uses = cache.uses();
        assert_eq!((uses.hits, uses.misses, uses.passed), (1, 2, 0));
        cache.renew();
        know(&mut cache, "SELECT a FROM t WHERE b = 1");
        assert_eq!(cache.uses().misses, 3);
    }

    #[test]
    fn what_depends_on_values_is_read_each_time() {
        let mut cache = cache(64 * 1024);
        for (value, sets) in [("'f'", true), ("'t'", false)] {
            let known = know(
                &mut cache,
                &format!("SELECT set_config('a.b', '1', {value})"),
            );
            assert_eq!(known.facts.sets, sets, "{value}");
        }
        know(&mut cache, "SET search_path = a");
        let uses = cache.uses();
        assert_eq!((uses.hits, uses.misses, uses.passed), (0, 0, 3));
    }

    #[test]
    fn it_never_grows() {
        let mut small = cache(ENTRY_BYTES * WAYS * 4 + 17);
        assert_eq!(small.sets.len(), 4);
        for number in 0..1000 {
            know(&mut small, &format!("SELECT a{number}"));
        }
        let uses = small.uses();
        assert_eq!(uses.misses, 1000);
        assert_eq!(uses.evictions, 1000 - 32);
        // What is used stays.
        know(&mut small, "SELECT kept");
        for number in 0..100 {
            assert_eq!(know(&mut small, "SELECT kept").facts.statements, 1);
            know(&mut small, &format!("SELECT b{number}"));
        }
        assert_eq!(small.uses().hits, uses.hits + 100);
        let mut none = cache(10);
        know(&mut none, "SELECT 1");
        know(&mut none, "SELECT 1");
        assert_eq!(none.uses().passed, 2);
    }
}
