//! Prepared statements that outlive the connection they were made on: a client's name stands for a
//! text, each text has one name on all servers, and what a server lacks is prepared on the way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::answers::Effect;
use crate::diagnosis::statements::Class;
use crate::sequences::Uses;

/// How often the table of texts is searched for those that nobody has any more: when it has grown
/// to twice of what was left the last time, and this.
const SWEEP_AT_LEAST: usize = 64;

/// A statement, as servers know it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Never used twice by a process.
    pub(crate) number: u64,
    /// The definitions that it was prepared under, see [`crate::pool::Pool::plans`].
    plans: u64,
    /// Its name on servers.
    pub(crate) name: Box<[u8]>,
    /// The text.
    pub(crate) query: Box<[u8]>,
    /// Number and types of parameters, as in the Parse message.
    pub(crate) types: Box<[u8]>,
    /// What executing it does to the session, if anything.
    pub(crate) effect: Option<Arc<Effect>>,
    /// What its text is called in statistics.
    pub(crate) fingerprint: u64,
    /// What it is, by its keywords.
    pub(crate) class: Class,
    /// What it has to do with sequences.
    pub(crate) uses: Uses,
    /// Whether its text may name another one.
    pub(crate) names_prepared: bool,
}

/// What is found out about a text that is prepared.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) effect: Option<Arc<Effect>>,
    pub(crate) fingerprint: u64,
    pub(crate) class: Class,
    pub(crate) uses: Uses,
    pub(crate) names_prepared: bool,
}

/// Text, types, and the definitions that it was prepared under.
type Key = (Box<[u8]>, Box<[u8]>, u64);

/// The statements of a worker's clients, each text once.
#[derive(Debug)]
pub(crate) struct Statements {
    /// A part of their names on servers that nobody can guess.
    secret: String,
    /// What their numbers begin with.
    first: u64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_text: HashMap<Key, Weak<Statement>>,
    last: u64,
    swept_to: usize,
}

impl Table {
    fn put(&mut self, key: Key, statement: &Arc<Statement>) {
        self.by_text.insert(key, Arc::downgrade(statement));
        if self.by_text.len() > 2 * self.swept_to.max(SWEEP_AT_LEAST) {
            self.by_text.retain(|_, known| known.strong_count() > 0);
            self.swept_to = self.by_text.len();
        }
    }
}

impl Statements {
    /// None yet. `secret` is random, so that no client knows what others' statements are called on the
    /// connections that they share.
    pub(crate) fn new(secret: u64) -> Self {
        Self {
            secret: format!("{secret:016x}"),
            first: 0,
            table: Mutex::default(),
        }
    }

    /// Numbers them from here on.
    pub(crate) fn numbered_from(self, first: u64) -> Self {
        Self { first, ..self }
    }

    /// A statement that another worker knows, whose client comes here: the one of that text here, or
    /// itself from now on, so that servers have it once.
    pub(crate) fn adopt(&self, statement: &Arc<Statement>) -> Arc<Statement> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Statement {
            query,
            types,
            plans,
            ..
        } = &**statement;
        let key: Key = (query.clone(), types.clone(), *plans);
        if let Some(known) = table.by_text.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        table.put(key, statement);
        Arc::clone(statement)
    }

    /// The statement with this text and these types. Who prepares it under other definitions
    /// (`plans`, see [`crate::pool::Pool::plans`]) has another one: the old one answers as it said
    /// that it would, or not at all.
    pub(crate) fn of(
        &self,
        query: &[u8],
        types: &[u8],
        plans: u64,
        prefix: &str,
        find: impl FnOnce() -> Found,
    ) -> Arc<Statement> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let key: Key = (query.into(), types.into(), plans);
        if let Some(known) = table.by_text.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        table.last += 1;
        let number = table.last;
        let found = find();
        let statement = Arc::new(Statement {
            number: self.first + number,
            plans,
            name: format!("{prefix}{}_{number}", self.secret)
                .into_bytes()
                .into(),
            query: query.into(),
            types: types.into(),
            effect: found.effect,
            fingerprint: found.fingerprint,
            class: found.class,
            uses: found.uses,
            names_prepared: found.names_prepared,
        });
        table.put(key, &statement);
        statement
    }

    /// How many texts are known.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_text
            .len()
    }
}

/// What a client has prepared, by its own names.
#[derive(Debug, Default)]
pub(crate) struct OfClient(Option<Box<Names>>);

/// Statements by the client's names.
type Names = HashMap<Box<[u8]>, Arc<Statement>>;

impl OfClient {
    /// The statement that the client calls `name`.
    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.0.as_ref()?.get(name)
    }

    /// Lets the client call a statement `name`.
    pub(crate) fn insert(&mut self, name: &[u8], statement: Arc<Statement>) {
        let names = self.0.get_or_insert_default();
        names.insert(name.into(), statement);
    }

    /// Forgets a name.
    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        self.0.as_mut()?.remove(name)
    }

    /// Forgets all names.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Arc<Statement>)> {
        let names = self.0.iter().flat_map(|names| names.iter());
        names.map(|(name, statement)| (&**name, statement))
    }

    /// Has each be what it is elsewhere.
    pub(crate) fn replace(&mut self, with: impl Fn(&Arc<Statement>) -> Arc<Statement>) {
        for statement in self.0.iter_mut().flat_map(|names| names.values_mut()) {
            *statement = with(statement);
        }
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |names| names.len())
    }
}

/// What is prepared on a server's connection, the longest unused first to go.
#[derive(Debug, Default)]
pub(crate) struct OnServer {
    /// By number, with the time of the last use.
    known: HashMap<u64, (u64, Arc<Statement>)>,
    uses: u64,
}

impl OnServer {
    /// Whether the statement is prepared there; takes note of its use.
    #[inline]
    pub(crate) fn uses(&mut self, statement: &Statement) -> bool {
        self.uses += 1;
        match self.known.get_mut(&statement.number) {
            Some((used, _)) => {
                *used = self.uses;
                true
            }
            None => false,
        }
    }

    /// Takes note that it is prepared from now on.
    pub(crate) fn insert(&mut self, statement: Arc<Statement>) {
        self.uses += 1;
        self.known.insert(statement.number, (self.uses, statement));
    }

    /// With more than `limit` the one that was not used for longest, which is to be closed; to be
    /// asked until there is none.
    pub(crate) fn evict(&mut self, limit: usize) -> Option<Arc<Statement>> {
        if self.known.len() <= limit.max(1) {
            return None;
        }
        let (_, oldest) = self.known.values().min_by_key(|(used, _)| *used)?;
        let oldest = Arc::clone(oldest);
        self.known.remove(&oldest.number);
        Some(oldest)
    }

    /// Takes note that it is not prepared there.
    pub(crate) fn remove(&mut self, number: u64) {
        self.known.remove(&number);
    }

    /// Takes note that nothing is prepared there any more.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }

    /// How many are.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_name() {
        let statements = Statements::new(7);
        let one = statements.of(b"select 1", b"\0\0", 0, "s_", Found::default);
        let same = statements.of(b"select 1", b"\0\0", 0, "s_", Found::default);
        let typed = statements.of(b"select 1", b"\0\x01\0\0\0\x17", 0, "s_", Found::default);
        assert_eq!(one, same);
        let names = (&*one.name, &*typed.name);
        let (first, second) = (b"s_0000000000000007_1", b"s_0000000000000007_2");
        assert_eq!(names, (&first[..], &second[..]));
        let changed = statements.of(b"select 1", b"\0\0", 1, "s_", Found::default);
        assert!(changed.name.ends_with(b"_3"), "definitions have changed");
        drop((one, same));
        let again = statements.of(b"select 1", b"\0\0", 0, "s_", Found::default);
        assert!(
            again.name.ends_with(b"_4"),
            "a name that was given up is not used again"
        );
    }

    #[test]
    fn workers_that_exchange_statements_know_them_apart() {
        let workers = [0, 1_u64 << 48].map(|first| Statements::new(7 + first).numbered_from(first));
        let of =
            |worker: usize, text: &[u8]| workers[worker].of(text, b"\0\0", 0, "", Found::default);
        let (ours, theirs) = (of(0, b"select 1"), of(1, b"select 2"));
        assert_ne!(ours.number, theirs.number);
        assert!(theirs.name.ends_with(b"_1"), "names are short all the same");
        let adopted = workers[1].adopt(&ours);
        assert!(Arc::ptr_eq(&adopted, &ours), "nobody knew the text there");
        assert!(
            Arc::ptr_eq(&of(1, b"select 1"), &ours),
            "others have it too"
        );
        let known = of(0, b"select 2");
        assert!(Arc::ptr_eq(&workers[1].adopt(&known), &theirs));
    }

    #[test]
    fn texts_that_nobody_has_are_forgotten() {
        let statements = Statements::new(7);
        let kept: Vec<_> = (0..100)
            .map(|number| {
                statements.of(
                    format!("select {number}").as_bytes(),
                    b"\0\0",
                    0,
                    "",
                    Found::default,
                )
            })
            .collect();
        for number in 100..100_000 {
            statements.of(
                format!("select {number}").as_bytes(),
                b"\0\0",
                0,
                "",
                Found::default,
            );
        }
        assert!(statements.len() <= 402, "{}", statements.len());
        assert!(
            kept.iter()
                .all(|one| statements.of(&one.query, b"\0\0", 0, "", Found::default) == *one)
        );
    }

    #[test]
    fn the_longest_unused_is_closed() {
        let statements = Statements::new(7);
        let [a, b, c] = ["a", "b", "c"]
            .map(|text| statements.of(text.as_bytes(), b"\0\0", 0, "", Found::default));
        let mut server = OnServer::default();
        assert!(!server.uses(&a));
        server.insert(Arc::clone(&a));
        server.insert(Arc::clone(&b));
        assert_eq!(server.evict(2), None);
        assert!(server.uses(&a));
        server.insert(Arc::clone(&c));
        assert_eq!(server.evict(2), Some(Arc::clone(&b)));
        assert_eq!(server.evict(2), None);
        assert!(server.uses(&a) && !server.uses(&b) && server.uses(&c));
        assert_eq!(server.len(), 2);
        assert_eq!(server.evict(1), Some(Arc::clone(&a)));
        server.remove(c.number);
        assert!(!server.uses(&a) && !server.uses(&c));
    }
}
