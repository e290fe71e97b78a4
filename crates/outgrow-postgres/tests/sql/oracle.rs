//! What a statement does, as the server shows it: which functions its plan calls, whether it locks rows, what a
//! read-only transaction makes of it.

use std::collections::{BTreeMap, BTreeSet};

use outgrow_postgres::sql::catalogue::{Builder, Catalogue, LOAD, Limits};

use crate::client::{Client, Reply};

/// The SQLSTATE of what a read-only transaction refuses.
pub(crate) const READ_ONLY: &str = "25006";

/// Loads a catalogue as Outgrow does.
pub(crate) fn catalogue(client: &mut Client) -> Catalogue {
    let reply = client.execute(LOAD);
    let mut builder = Builder::new(Limits::default());
    for row in &reply.results[0] {
        let column = |at: usize| row[at].as_deref().expect("no nulls");
        builder.row(column(0), column(1));
    }
    builder.finish()
}

/// What the server makes of a statement.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// Its SQLSTATE in an ordinary transaction.
    pub(crate) code: String,
    /// And in a read-only one.
    pub(crate) read_only_code: String,
    /// Volatile functions that its plan calls.
    pub(crate) volatile: BTreeSet<String>,
    pub(crate) locks_rows: bool,
    pub(crate) reply: Reply,
}

impl Judgement {
    /// Whether it may be taken for one that only reads.
    pub(crate) fn only_reads(&self) -> bool {
        self.code == self.read_only_code
            && self.code != READ_ONLY
            && self.volatile.is_empty()
            && !self.locks_rows
    }
}

/// Asks a server about statements. What they do is taken back.
pub(crate) struct Oracle {
    client: Client,
    /// Volatile functions by their object id, and domains whose checks call one.
    functions: BTreeMap<u32, String>,
    domains: BTreeMap<u32, String>,
}

impl Oracle {
    pub(crate) fn new(client: Client) -> Self {
        let mut oracle = Self {
            client,
            functions: BTreeMap::new(),
            domains: BTreeMap::new(),
        };
        oracle.renew();
        oracle
    }

    /// Asks again which functions are volatile: what it is told was found in other ways than ours.
    pub(crate) fn renew(&mut self) {
        self.functions = self.objects(
            "SELECT p.oid || ' ' || p.proname FROM pg_proc p WHERE p.provolatile = 'v' AND p.prokind <> 'p' \
             UNION SELECT a.aggfnoid::oid || ' ' || a.aggfnoid::text FROM pg_aggregate a JOIN pg_proc p \
             ON p.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn) WHERE p.provolatile = 'v'",
        );
        self.domains = self.objects(
            "SELECT c.contypid || ' ' || c.conname FROM pg_constraint c \
             JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.oid \
             JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid \
             WHERE c.contypid <> 0 AND p.provolatile = 'v'",
        );
    }

    fn objects(&mut self, question: &str) -> BTreeMap<u32, String> {
        let lines = self.client.execute(question).column();
        let split = lines.iter().filter_map(|line| line.split_once(' '));
        split
            .map(|(oid, name)| (oid.parse().expect("an object id"), name.to_owned()))
            .collect()
    }

    pub(crate) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Judges a text, which controls no transaction: within savepoints if there is one under way, and
    /// nothing of it remains but what no transaction takes back.
    pub(crate) fn judge(&mut self, text: &str, in_transaction: bool) -> Judgement {
        let (begin, end) = if in_transaction {
            ("SAVEPOINT judged", "ROLLBACK TO judged; RELEASE judged")
        } else {
            ("BEGIN", "ROLLBACK")
        };
        self.client.execute(begin);
        self.client.execute("SET LOCAL transaction_read_only = on");
        let read_only_code = self.client.ask(text).code().to_owned();
        self.client.execute(end);
        if !in_transaction {
            self.client.execute("DEALLOCATE ALL");
        }
        self.client.execute(begin);
        self.client.execute(
            "SET LOCAL client_min_messages = log; SET LOCAL debug_pretty_print = off; \
             SET LOCAL debug_print_rewritten = on; SET LOCAL debug_print_plan = on",
        );
        let reply = self.client.ask(text);
        self.client.execute(end);
        if !in_transaction {
            // No rollback takes them back.
            self.client.execute("DEALLOCATE ALL");
        }
        let trees = reply.notices.iter().filter(|notice| {
            notice.starts_with("plan:") || notice.starts_with("rewritten parse tree:")
        });
        let mut judgement = Judgement {
            code: reply.code().to_owned(),
            read_only_code,
            ..Judgement::default()
        };
        for tree in trees {
            judgement.locks_rows |= tree.contains(":rowMarks (");
            judgement.volatile.extend(self.volatile(tree));
        }
        judgement.reply = reply;
        judgement
    }

    fn volatile(&self, tree: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut node = "";
        for part in tree.split(" :") {
            let (field, rest) = part.split_once(' ').unwrap_or((part, ""));
            let id = rest.split([' ', '}', ')']).next();
            let id = id.and_then(|id| id.parse().ok()).unwrap_or(0_u32);
            let objects = match field {
                "funcid" | "opfuncid" | "aggfnoid" | "winfnoid" => Some(&self.functions),
                "resulttype" if node == "COERCETODOMAIN" => Some(&self.domains),
                _ => None,
            };
            found.extend(objects.and_then(|objects| objects.get(&id)).cloned());
            if let Some((_, begun)) = part.rsplit_once('{') {
                node = begun;
            }
        }
        found
    }
}
