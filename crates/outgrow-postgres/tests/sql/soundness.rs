//! The proof against a real primary and a real replica, over a corpus of our own: what is called read only
//! must be.

use std::collections::BTreeMap;
use std::time::Duration;

use outgrow_core::Random;
use outgrow_postgres::sql::facts::{Facts, Kind};
use outgrow_postgres::sql::read_only::{Verdict, examine};
use outgrow_postgres::sql::{Lexer, Lexing};
use outgrow_testkit::databases::Server;
use outgrow_testkit::wait;

use crate::client::Client;
use crate::oracle::{Oracle, catalogue};
use crate::server;

const SCHEMA: &str = include_str!("schema.sql");
const CORPUS: &str = include_str!("corpus.sql");
/// What of the statements that only read has to be proven.
const LEAST_SHARE: f64 = 0.9;

/// What became of statements.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) statements: usize,
    pub(crate) proven: usize,
    /// Queries that only read, as far as the server shows.
    pub(crate) readable: usize,
    /// Those of them that were proven.
    pub(crate) found: usize,
    /// Why the others were not.
    pub(crate) causes: BTreeMap<String, usize>,
}

impl Tally {
    /// The share of what only reads that was proven.
    pub(crate) fn share(&self) -> f64 {
        self.found as f64 / self.readable.max(1) as f64
    }

    pub(crate) fn missed(&mut self, verdict: &Verdict) {
        let cause = verdict
            .finding()
            .map_or("", |finding| finding.cause.as_str());
        *self.causes.entry(cause.to_owned()).or_default() += 1;
    }
}

fn statements() -> impl Iterator<Item = &'static str> {
    let paragraphs = CORPUS.split("\n\n").map(str::trim);
    paragraphs.filter(|paragraph| !paragraph.is_empty()).skip(1)
}

/// A primary with the schema, and a replica that has it as well.
fn servers() -> Option<(Server, Server)> {
    let primary = server::start()?;
    let mut client = Client::connect(primary.address());
    client.execute("CREATE USER replicator REPLICATION");
    for statement in SCHEMA.split(";\n") {
        client.execute(statement);
    }
    let replica = primary.postgres_replica().expect("it starts");
    let mut other = Client::connect(replica.address());
    let written = client
        .execute("SELECT pg_current_wal_lsn()")
        .column()
        .remove(0);
    let question = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
    let replayed = wait::until("the replica has it all", Duration::from_secs(60), || {
        (other.execute(&question).column() == ["t"]).then_some(())
    });
    replayed.expect("it replays");
    Some((primary, replica))
}

/// Kinds of which it counts whether they were proven.
fn is_query(facts: &Facts) -> bool {
    matches!(
        facts.kind,
        Kind::Select | Kind::Explain | Kind::Show | Kind::Declare | Kind::CopyOut
    )
}

#[test]
fn what_is_proven_only_reads() {
    let Some((primary, replica)) = servers() else {
        return;
    };
    let mut oracle = Oracle::new(Client::connect(primary.address()));
    let catalogue = catalogue(oracle.client());
    assert_eq!(catalogue.useless(), None);
    let mut replica = Client::connect(replica.address());
    let mut tally = Tally::default();
    for text in statements() {
        tally.statements += 1;
        let (facts, verdict) = examine(text.as_bytes(), Lexing::default(), &catalogue);
        let is_proven = verdict == Verdict::ReadOnly;
        tally.proven += usize::from(is_proven);
        if facts.controls_transaction {
            let reply = oracle.client().ask(text);
            let on_replica = replica.ask(text);
            if is_proven {
                assert_eq!(reply.code(), on_replica.code(), "{text}");
                assert_eq!(reply.results, on_replica.results, "{text}");
            }
            for client in [oracle.client(), &mut replica] {
                client.ask("ROLLBACK");
            }
            continue;
        }
        let judgement = oracle.judge(text, false);
        replica.execute("BEGIN");
        let on_replica = replica.ask(text);
        replica.execute("ROLLBACK");
        replica.execute("DEALLOCATE ALL");
        let is_same =
            on_replica.code() == judgement.code && on_replica.results == judgement.reply.results;
        if is_proven {
            let said = format!("{text}: {judgement:?}");
            assert!(judgement.only_reads(), "{said}");
            // Times and costs differ.
            let is_measured = facts.kind == Kind::Explain;
            assert!(
                is_same || is_measured,
                "{said}, on the replica {on_replica:?}"
            );
        }
        if is_query(&facts) && judgement.code.is_empty() && judgement.only_reads() && is_same {
            tally.readable += 1;
            tally.found += usize::from(is_proven);
            if !is_proven {
                eprintln!("not proven: {text}: {verdict:?}");
                tally.missed(&verdict);
            }
        }
    }
    eprintln!("{tally:?}, share {:.3}", tally.share());
    assert!(tally.statements >= 300);
    assert!(tally.share() >= LEAST_SHARE, "{tally:?}");
}

/// Mutants of one run.
const MUTANTS: usize = 6000;
/// SQLSTATE of a statement that took too long.
const TOO_LONG: &str = "57014";

/// Statements as tokens, changed at random: what is left of the proof's conclusions from the grammar when the
/// grammar is strained.
#[test]
fn mutants_that_are_proven_only_read() {
    let seed = std::env::var("OUTGROW_SEED").ok();
    let seed = seed
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(20_260_201);
    let mutants = std::env::var("OUTGROW_MUTANTS").ok();
    let mutants = mutants
        .and_then(|mutants| mutants.parse().ok())
        .unwrap_or(MUTANTS);
    let Some(primary) = server::start() else {
        return;
    };
    let mut client = Client::connect(primary.address());
    for statement in SCHEMA.split(";\n") {
        client.execute(statement);
    }
    client.execute("SET statement_timeout = '3s'");
    let mut oracle = Oracle::new(client);
    let catalogue = catalogue(oracle.client());
    let mut mutation = Mutation::new(seed);
    let (mut proven, mut executed) = (0, 0);
    for _ in 0..mutants {
        let text = mutation.next();
        let (facts, verdict) = examine(text.as_bytes(), Lexing::default(), &catalogue);
        if verdict != Verdict::ReadOnly || facts.controls_transaction {
            continue;
        }
        proven += 1;
        let judgement = oracle.judge(&text, false);
        if judgement.code == TOO_LONG || judgement.read_only_code == TOO_LONG {
            continue;
        }
        executed += usize::from(judgement.code.is_empty());
        assert!(judgement.only_reads(), "seed {seed}: {text}: {judgement:?}");
    }
    eprintln!("{mutants} mutants, {proven} proven, {executed} of them executed");
    assert!(executed > mutants / 100, "{executed}");
}

/// Makes statements of the tokens of others.
struct Mutation {
    random: Random,
    statements: Vec<Vec<&'static str>>,
}

impl Mutation {
    fn new(seed: u64) -> Self {
        let statements = statements().map(|text| {
            let tokens = Lexer::new(text.as_bytes(), Lexing::default());
            tokens.map(|token| &text[token.range()]).collect()
        });
        Self {
            random: Random::from_seed(seed),
            statements: statements
                .filter(|tokens: &Vec<_>| !tokens.is_empty())
                .collect(),
        }
    }

    /// Some tokens of some statement.
    fn piece(&mut self, most: usize) -> Vec<&'static str> {
        let statement = &self.statements[self.random.below(self.statements.len())];
        let start = self.random.below(statement.len());
        let length = 1 + self.random.below(most);
        statement[start..].iter().take(length).copied().collect()
    }

    fn next(&mut self) -> String {
        let which = self.random.below(self.statements.len());
        let mut tokens = self.statements[which].clone();
        for _ in 0..=self.random.below(3) {
            let at = self.random.below(tokens.len() + 1);
            let cut = self.random.below(3).min(tokens.len() - at);
            let piece = match self.random.below(3) {
                0 => Vec::new(),
                1 => self.piece(1),
                _ => self.piece(8),
            };
            tokens.splice(at..at + cut, piece);
        }
        tokens.join(" ")
    }
}
