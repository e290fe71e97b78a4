//! Which tables a text reads or may write: by its names, as the proof of `sql/read_only` goes. Pure.
//!
//! Every name counts wherever it stands, whatever its schema: that a column has the name of a table costs
//! no more than that it is taken for one. What a name stands for is asked of the catalogue ([`LOAD`]):
//!
//! - views and tables with policies are what they are made of, all the way down
//! - what calls functions of the database's own may read anything, and at any time something else
//! - what has triggers, rules, parts, or references that write is written with everything else
//!
//! Definitions that others make count from the next look at the catalogue on, which makes all answers of
//! before worthless; in the seconds until then a table that is new is not known for one.

use std::collections::{HashMap, HashSet};

use super::epochs::{Depends, SLOTS, Touch};
use crate::sql::Lexing;
use crate::sql::catalogue::Limits;
use crate::sql::facts::{Facts, Kind};
use crate::sql::lexer::TokenKind;
use crate::sql::name::Key;
use crate::sql::read_only::{Cause, Verdict};
use crate::sql::walk::{Step, Walk};
use crate::sql::words::Word;

/// Asks for the relations and functions of the database's own: rows of a kind and two names.
///
/// Kinds: `p` a table; `x` a table whose writes reach further; `v` a view or what else is read like a table;
/// `n` a relation of the system's; `e` that the first is made of the second; `o` a relation that may read
/// anything at any time; `s` a function that may; `w` a function that may write; `!` that an operator, a
/// cast or a type calls one of these without being named.
pub(crate) const LOAD: &str = r"WITH own AS (
  SELECT p.oid, p.proname, p.provolatile, p.prokind FROM pg_catalog.pg_proc AS p
  WHERE p.oid >= 16384 AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS x ON x.oid = d.refobjid
    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
      AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
      AND x.extname IN ('uuid-ossp', 'pgcrypto'))
),
rule AS (
  SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass AS class, oid, ev_class AS owner, ev_action::text AS body
    FROM pg_catalog.pg_rewrite WHERE ev_type = '1'
  UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, oid, polrelid,
    pg_catalog.concat(polqual::text, polwithcheck::text) FROM pg_catalog.pg_policy
),
clock AS (
  SELECT oid FROM pg_catalog.pg_proc WHERE pronamespace = 11 AND proname IN ('now', 'statement_timestamp',
    'transaction_timestamp', 'clock_timestamp', 'timeofday', 'age', 'random')
),
relation AS (
  SELECT oid, relname, relkind, relnamespace FROM pg_catalog.pg_class
  WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'
)
SELECT CASE
    WHEN r.relnamespace = 11 THEN 'n'
    WHEN r.relkind IN ('v', 'm') THEN 'v'
    WHEN r.relkind <> 'r'
      OR EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = r.oid AND NOT tgisinternal)
      OR EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_class = r.oid)
      OR EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE r.oid IN (inhrelid, inhparent))
      OR EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid = r.oid
        AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd')))
      OR EXISTS (SELECT FROM pg_catalog.pg_depend AS d JOIN own ON own.oid = d.refobjid
        AND own.provolatile = 'v'
        WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND (
          d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
            AND d.objid IN (SELECT oid FROM pg_catalog.pg_attrdef WHERE adrelid = r.oid)
          OR d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
            AND d.objid IN (SELECT oid FROM pg_catalog.pg_constraint WHERE conrelid = r.oid)
          OR d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass
            AND d.objid IN (SELECT oid FROM pg_catalog.pg_policy WHERE polrelid = r.oid)))
      THEN 'x'
    ELSE 'p' END, r.relname::text, NULL FROM relation AS r
UNION ALL SELECT DISTINCT 'e', c.relname::text, t.relname::text FROM rule
  JOIN pg_catalog.pg_depend AS d ON d.classid = rule.class AND d.objid = rule.oid
    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> rule.owner
  JOIN pg_catalog.pg_class AS c ON c.oid = rule.owner JOIN pg_catalog.pg_class AS t ON t.oid = d.refobjid
UNION ALL SELECT 'e', c.relname::text, t.relname::text FROM pg_catalog.pg_inherits AS i
  JOIN pg_catalog.pg_class AS c ON c.oid = i.inhparent JOIN pg_catalog.pg_class AS t ON t.oid = i.inhrelid
UNION ALL SELECT DISTINCT 'o', c.relname::text, NULL FROM rule
  JOIN pg_catalog.pg_class AS c ON c.oid = rule.owner
  WHERE c.relnamespace <> 11 AND (rule.body ~ 'SQLVALUEFUNCTION :op [0-8] '
    OR EXISTS (SELECT FROM clock WHERE pg_catalog.strpos(rule.body, pg_catalog.concat('funcid ', clock.oid, ' ')) > 0)
    OR EXISTS (SELECT FROM pg_catalog.pg_depend AS d JOIN own ON own.oid = d.refobjid
      AND own.provolatile <> 'i' WHERE d.classid = rule.class AND d.objid = rule.oid
      AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass))
UNION ALL SELECT DISTINCT CASE WHEN provolatile = 'v' THEN 'w' ELSE 's' END, proname::text, NULL FROM own
  WHERE provolatile <> 'i' OR prokind = 'p'
UNION ALL SELECT '!', 'operator', NULL FROM pg_catalog.pg_operator AS o JOIN own ON own.oid = o.oprcode
  WHERE own.provolatile <> 'i'
UNION ALL SELECT '!', 'cast', NULL FROM pg_catalog.pg_cast AS c JOIN own ON own.oid = c.castfunc
  WHERE own.provolatile <> 'i'
UNION ALL SELECT '!', 'type', NULL FROM pg_catalog.pg_type AS t JOIN own
  ON own.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend) WHERE own.provolatile <> 'i'
UNION ALL SELECT '!', 'domain', NULL FROM pg_catalog.pg_depend AS d JOIN own ON own.oid = d.refobjid
  AND own.provolatile <> 'i' JOIN pg_catalog.pg_constraint AS c ON c.oid = d.objid AND c.contypid <> 0
  WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    AND d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
UNION ALL SELECT '!', 'aggregate', NULL FROM pg_catalog.pg_aggregate AS a JOIN own
  ON own.oid IN (a.aggtransfn, a.aggfinalfn) WHERE own.provolatile <> 'i'";

/// Asks for what changes when tables get triggers, references or defaults. What else changes the rows of
/// [`LOAD`] changes the generation of the catalogue of `sql/catalogue`.
pub(crate) const GENERATION: &str = "SELECT pg_catalog.concat_ws('.', \
   (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
     FROM pg_catalog.pg_trigger), \
   (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
     FROM pg_catalog.pg_constraint), \
   (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
     FROM pg_catalog.pg_attrdef))";

/// What a name stands for, of everything that has it.
#[derive(Clone, Debug, Default)]
struct Meaning {
    is_table: bool,
    is_view: bool,
    /// Writing it writes more.
    reaches_further: bool,
    is_of_system: bool,
    /// It may read anything, and something else each time.
    is_opaque: bool,
    may_write: bool,
    /// What is read with it, itself included.
    slots: Vec<u16>,
}

/// What names stand for in a database.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    by_name: HashMap<u64, Meaning>,
    /// Whether nothing can be told by names.
    is_coarse: bool,
    /// Whether it was loaded.
    is_there: bool,
}

/// Builds [`Tables`] of the rows of [`LOAD`].
#[derive(Debug, Default)]
pub(crate) struct Builder {
    by_name: HashMap<u64, Meaning>,
    edges: Vec<(u64, u64)>,
    is_coarse: bool,
    is_garbled: bool,
}

/// The count that a name has. The lowest bits of a key are not as good as the others.
fn slot(key: u64) -> u16 {
    ((key >> 24) % SLOTS as u64) as u16
}

impl Builder {
    /// Takes a row.
    pub(crate) fn row(&mut self, kind: &[u8], name: &[u8], other: Option<&[u8]>) {
        let limit = Limits::default().names;
        if self.by_name.len() + self.edges.len() >= limit {
            self.is_garbled = true;
            return;
        }
        let key = Key::of(name).0;
        let meaning = self.by_name.entry(key).or_default();
        match (kind, other) {
            (b"p", _) => meaning.is_table = true,
            (b"x", _) => {
                meaning.is_table = true;
                meaning.reaches_further = true;
            }
            (b"v", _) => {
                meaning.is_view = true;
                meaning.reaches_further = true;
            }
            (b"n", _) => meaning.is_of_system = true,
            (b"e", Some(other)) => self.edges.push((key, Key::of(other).0)),
            (b"o" | b"s", _) => meaning.is_opaque = true,
            (b"w", _) => meaning.may_write = true,
            (b"!", _) => self.is_coarse = true,
            _ => self.is_garbled = true,
        }
    }

    /// What the rows say.
    pub(crate) fn finish(mut self) -> Tables {
        let mut targets: HashMap<u64, Vec<u64>> = HashMap::new();
        for (owner, target) in &self.edges {
            targets.entry(*owner).or_default().push(*target);
        }
        let opaque: HashSet<u64> = self
            .by_name
            .iter()
            .filter(|(_, meaning)| meaning.is_opaque)
            .map(|(key, _)| *key)
            .collect();
        for (key, meaning) in &mut self.by_name {
            if !(meaning.is_table || meaning.is_view) {
                continue;
            }
            // All the way down, each once.
            let mut seen = HashSet::from([*key]);
            let mut rest = vec![*key];
            while let Some(one) = rest.pop() {
                meaning.is_opaque |= opaque.contains(&one);
                for target in targets.get(&one).into_iter().flatten() {
                    if seen.insert(*target) {
                        rest.push(*target);
                    }
                }
            }
            meaning.slots = seen.into_iter().map(slot).collect();
        }
        Tables {
            by_name: self.by_name,
            is_coarse: self.is_coarse,
            is_there: !self.is_garbled,
        }
    }
}

/// What a statement reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) depends: Depends,
    /// Whether it would be the same a moment later, as long as nobody writes.
    pub(crate) is_lasting: bool,
}

impl Tables {
    fn meaning(&self, step: &Step) -> Option<&Meaning> {
        let is_name = matches!(step.token.kind, TokenKind::Word | TokenKind::Quoted);
        is_name.then(|| self.by_name.get(&step.key.0)).flatten()
    }

    /// What a text reads that is proven to only read. None when that cannot be told.
    pub(crate) fn reading(&self, text: &[u8], lexing: Lexing) -> Option<Reading> {
        if !self.is_there {
            return None;
        }
        let mut reading = Reading {
            depends: Depends {
                tables: Vec::new(),
                on_any: self.is_coarse,
            },
            is_lasting: !self.is_coarse,
        };
        for step in Walk::new(text, lexing) {
            if step.is_cut() || step.is_foreign || step.is(TokenKind::UnicodeQuoted) {
                return None;
            }
            if let Some(meaning) = self.meaning(&step) {
                if meaning.is_of_system {
                    return None;
                }
                if meaning.is_opaque {
                    reading.depends.on_any = true;
                    reading.is_lasting = false;
                }
                for slot in &meaning.slots {
                    if !reading.depends.tables.contains(slot) {
                        reading.depends.tables.push(*slot);
                    }
                }
            }
            reading.is_lasting &= !tells_the_time(&step, text);
        }
        Some(reading)
    }

    /// What a text may write when it is executed.
    pub(crate) fn writing(
        &self,
        text: &[u8],
        lexing: Lexing,
        facts: &Facts,
        verdict: &Verdict,
    ) -> Touch {
        if matches!(verdict, Verdict::ReadOnly) || writes_nothing(facts) {
            return Touch::Nothing;
        }
        let is_told = facts.statements == 1
            && self.is_there
            && !self.is_coarse
            && matches!(
                facts.kind,
                Kind::Select
                    | Kind::Insert
                    | Kind::Update
                    | Kind::Delete
                    | Kind::Merge
                    | Kind::CopyIn
            );
        let is_unknown = verdict.finding().is_some_and(|finding| {
            matches!(
                finding.cause,
                Cause::UnknownFunction | Cause::Lexical | Cause::Name | Cause::Catalogue
            )
        });
        if !is_told || is_unknown {
            return Touch::Everything;
        }
        self.targets(text, lexing, facts.kind)
            .unwrap_or(Touch::Everything)
    }

    /// The tables that a statement writes. None when that cannot be told, or writing them writes more.
    fn targets(&self, text: &[u8], lexing: Lexing, kind: Kind) -> Option<Touch> {
        let mut slots = Vec::new();
        let mut has_target = false;
        let mut target = Target::No;
        let mut previous = [Word::Other; 2];
        let mut last: Option<u64> = None;
        for step in Walk::new(text, lexing) {
            if step.is_cut() || step.is_foreign || step.is(TokenKind::UnicodeQuoted) {
                return None;
            }
            if let Some(meaning) = self.meaning(&step) {
                if meaning.may_write || meaning.is_view {
                    return None;
                }
                slots.extend(meaning.is_table.then(|| slot(step.key.0)));
            }
            target = match target {
                Target::No => {
                    if begins_target(previous, step.word) {
                        Target::Name
                    } else {
                        Target::No
                    }
                }
                Target::Name if step.word == Word::Only => Target::Name,
                Target::Name if matches!(step.token.kind, TokenKind::Word | TokenKind::Quoted) => {
                    last = Some(step.key.0);
                    Target::Behind
                }
                Target::Behind if step.is(TokenKind::Dot) => Target::Name,
                // `UPDATE SET` of ON CONFLICT is none; any other thing cannot be told.
                Target::Name => return None,
                Target::Behind => {
                    self.plain(last.take()?)?;
                    has_target = true;
                    Target::No
                }
            };
            if target == Target::Behind && previous[0] == Word::Update && step.word == Word::Set {
                target = Target::No;
                last = None;
            }
            previous = [step.word, previous[0]];
        }
        if target == Target::Name {
            return None;
        }
        if let Some(last) = last {
            self.plain(last)?;
            has_target = true;
        }
        if kind == Kind::Select && !has_target {
            return Some(Touch::Nothing);
        }
        has_target.then_some(Touch::Tables(slots))
    }

    /// Whether a name is that of a table, and of nothing that reaches further.
    fn plain(&self, key: u64) -> Option<()> {
        let meaning = self.by_name.get(&key)?;
        (meaning.is_table && !meaning.reaches_further).then_some(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    No,
    /// A name is to come.
    Name,
    /// Behind one: a dot may follow.
    Behind,
}

/// Whether the name of a table that is written follows a word.
fn begins_target(previous: [Word; 2], word: Word) -> bool {
    match word {
        Word::Into | Word::Copy => true,
        // `FOR UPDATE`, `FOR NO KEY UPDATE` lock.
        Word::Update => !matches!(previous[0], Word::For | Word::KeyOf),
        Word::From => previous[0] == Word::Delete,
        _ => false,
    }
}

fn writes_nothing(facts: &Facts) -> bool {
    facts.statements <= 1
        && matches!(
            facts.kind,
            Kind::Empty
                | Kind::Begin
                | Kind::Commit
                | Kind::Rollback
                | Kind::Savepoint
                | Kind::Release
                | Kind::RollbackTo
                | Kind::Set
                | Kind::SetLocal
                | Kind::SetTransaction
                | Kind::SetCharacteristics
                | Kind::SetConstraints
                | Kind::Reset
                | Kind::ResetAll
                | Kind::Show
                | Kind::Listen
                | Kind::Unlisten
                | Kind::UnlistenAll
                | Kind::Notify
                | Kind::Deallocate
                | Kind::DeallocateAll
                | Kind::Lock
                | Kind::Close
                | Kind::CloseAll
        )
}

const CLOCKS: [Key; 4] = [
    Key::of(b"now"),
    Key::of(b"statement_timestamp"),
    Key::of(b"transaction_timestamp"),
    Key::of(b"age"),
];

/// Words that are times when they are read as such.
const TIMES: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

fn tells_the_time(step: &Step, text: &[u8]) -> bool {
    match step.token.kind {
        TokenKind::Word | TokenKind::Quoted => {
            CLOCKS.contains(&step.key)
                || matches!(
                    step.word,
                    Word::CurrentDate
                        | Word::CurrentTime
                        | Word::CurrentTimestamp
                        | Word::Localtime
                        | Word::Localtimestamp
                )
        }
        TokenKind::EscapeString | TokenKind::UnicodeString => true,
        kind if kind.is_string() => says_a_time(step.token.of(text)),
        _ => false,
    }
}

/// Whether bytes have a word that may be read as a time.
pub(crate) fn says_a_time(bytes: &[u8]) -> bool {
    TIMES.iter().any(|time| {
        bytes
            .windows(time.len())
            .any(|window| window.eq_ignore_ascii_case(time))
    })
}
