//! The proof against Postgres' own regression tests: some 30,000 statements that nobody wrote for it.
//!
//! `cargo nextest run -p outgrow-postgres --test sql regress --run-ignored all --no-capture` fetches Debian's
//! source package with apt-get; with `OUTGROW_REGRESS=folder` it takes `src/test/regress` of an unpacked one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use outgrow_postgres::sql::Lexing;
use outgrow_postgres::sql::catalogue::{Catalogue, GENERATION};
use outgrow_postgres::sql::facts::{Facts, Kind, Statements};
use outgrow_postgres::sql::read_only::{Verdict, examine};
use outgrow_testkit::folder::Folder;

use crate::client::Client;
use crate::oracle::{Oracle, catalogue};
use crate::server;
use crate::soundness::Tally;

/// Files that take long, or end the server.
const SKIPPED: [&str; 1] = ["infinite_recurse"];
/// SQLSTATEs that say nothing: too slow, and refused by what a file did to the session.
const SAY_NOTHING: [&str; 2] = ["57014", "57P01"];

/// The regression tests, fetched if need be.
fn suite() -> io::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("OUTGROW_REGRESS") {
        return Ok(folder.into());
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgresql-source");
    fs::create_dir_all(&cache)?;
    let find = || -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(&cache)? {
            let suite = entry?.path().join("src/test/regress");
            if suite.is_dir() {
                return Ok(Some(suite));
            }
        }
        Ok(None)
    };
    if let Some(suite) = find()? {
        return Ok(suite);
    }
    let lists = cache.join("lists");
    fs::create_dir_all(lists.join("partial"))?;
    // The machine's own sources of packages, asked for what they are built of.
    let known = fs::read_to_string("/etc/apt/sources.list.d/debian.sources")?;
    let sources = cache.join("debian.sources");
    // Security updates are not mirrored everywhere with their sources.
    let archives = known
        .split("\n\n")
        .filter(|part| !part.contains("-security"));
    let archives = archives.collect::<Vec<_>>().join("\n\n");
    fs::write(
        &sources,
        archives.replace("Types: deb\n", "Types: deb-src\n"),
    )?;
    let options = |command: &mut Command| {
        command.current_dir(&cache);
        command.args(["-o", &format!("Dir::Etc::sourcelist={}", sources.display())]);
        command.args(["-o", "Dir::Etc::sourceparts=/dev/null"]);
        command.args(["-o", &format!("Dir::State::lists={}", lists.display())]);
        command.args(["-o", "APT::Sandbox::User=root"]);
    };
    for arguments in [
        &["update"][..],
        &["source", "--download-only", "postgresql-15"],
    ] {
        let mut command = Command::new("apt-get");
        options(&mut command);
        run(command.args(arguments))?;
    }
    for entry in fs::read_dir(&cache)? {
        let path = entry?.path();
        if path.to_string_lossy().contains(".orig.tar") {
            run(Command::new("tar")
                .current_dir(&cache)
                .arg("-xf")
                .arg(&path))?;
        }
    }
    find()?.ok_or_else(|| io::Error::other("no regression tests in the source package"))
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{command:?}: {said}"))),
    }
}

/// The tests' names in the order of their schedule.
fn schedule(suite: &Path) -> Vec<String> {
    let schedule = fs::read_to_string(suite.join("parallel_schedule")).expect("a schedule");
    let lines = schedule
        .lines()
        .filter_map(|line| line.strip_prefix("test:"));
    let names = lines.flat_map(str::split_whitespace).map(str::to_owned);
    names
        .filter(|name| !SKIPPED.contains(&name.as_str()))
        .collect()
}

/// A file's SQL, without what is psql's.
fn read(path: &Path, data: &Path) -> String {
    let bytes = fs::read(path).expect("it is there");
    let mut variables = BTreeMap::from([("abs_srcdir".to_owned(), data.display().to_string())]);
    let mut sql = String::new();
    let mut is_data = false;
    for line in String::from_utf8_lossy(&bytes).lines() {
        if is_data {
            is_data = line != "\\.";
            continue;
        }
        if let Some(command) = line.strip_prefix('\\') {
            set(command, &mut variables);
            continue;
        }
        let mut line = line.replace("\\;", ";");
        for ending in [" \\g", " \\crosstabview", " \\watch", " \\bind"] {
            if let Some(at) = line.find(ending) {
                line.truncate(at);
                line.push(';');
            }
        }
        for (name, value) in &variables {
            line = line.replace(&format!(":'{name}'"), &format!("'{value}'"));
        }
        let lower = line.to_lowercase();
        is_data = lower.trim_start().starts_with("copy ")
            && lower.contains("from stdin")
            && lower.trim_end().ends_with(';');
        sql.push_str(&line);
        sql.push('\n');
    }
    sql
}

/// `\set name part part …`
fn set(command: &str, variables: &mut BTreeMap<String, String>) {
    let mut words = command.split_whitespace();
    if words.next() != Some("set") {
        return;
    }
    let Some(name) = words.next() else { return };
    let value = words
        .map(|word| match word.strip_prefix(':') {
            Some(other) => variables.get(other).cloned().unwrap_or_default(),
            None => word.trim_matches('\'').to_owned(),
        })
        .collect();
    variables.insert(name.to_owned(), value);
}

/// What the run of all files came to.
#[derive(Default)]
struct Outcome {
    tally: Tally,
    queries: usize,
    wrong: Vec<String>,
    missed: BTreeMap<String, usize>,
}

/// One file's session.
struct Session<'a> {
    oracle: Oracle,
    catalogue: Catalogue,
    outcome: &'a mut Outcome,
    status: u8,
}

impl Session<'_> {
    fn lexing(&mut self) -> Lexing {
        let setting = self.oracle.client().setting("standard_conforming_strings");
        Lexing {
            standard_conforming_strings: Some(setting == "on"),
            ..Lexing::default()
        }
    }

    /// Loads the catalogue anew if definitions are others.
    fn renew(&mut self) {
        let reply = self.oracle.client().ask(GENERATION);
        if reply.column().first().map(String::as_str) != Some(self.catalogue.generation()) {
            self.catalogue = catalogue(self.oracle.client());
            self.oracle.renew();
        }
    }

    fn statement(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.outcome.tally.statements += 1;
        let lexing = self.lexing();
        let facts = Facts::of(text.as_bytes(), lexing);
        let is_query = matches!(
            facts.kind,
            Kind::Select | Kind::Explain | Kind::Show | Kind::Declare | Kind::CopyOut
        );
        if is_query && self.status != b'E' {
            self.query(name, text, lexing);
        }
        self.status = self.oracle.client().try_ask(text)?.status;
        Ok(())
    }

    fn query(&mut self, name: &str, text: &str, lexing: Lexing) {
        self.outcome.queries += 1;
        self.renew();
        let (_, verdict) = examine(text.as_bytes(), lexing, &self.catalogue);
        let is_proven = verdict == Verdict::ReadOnly;
        let judgement = self.oracle.judge(text, self.status == b'T');
        let codes = [judgement.code.as_str(), judgement.read_only_code.as_str()];
        if codes.iter().any(|code| SAY_NOTHING.contains(code)) {
            return;
        }
        let tally = &mut self.outcome.tally;
        tally.proven += usize::from(is_proven);
        if is_proven && !judgement.only_reads() {
            let notices = judgement.volatile;
            let wrong = format!(
                "{name}: {text}: {codes:?} {notices:?} {}",
                judgement.locks_rows
            );
            self.outcome.wrong.push(wrong);
        } else if judgement.only_reads() && judgement.code.is_empty() {
            tally.readable += 1;
            tally.found += usize::from(is_proven);
            if !is_proven {
                tally.missed(&verdict);
                let finding = verdict.finding().map(ToString::to_string);
                *self
                    .outcome
                    .missed
                    .entry(finding.unwrap_or_default())
                    .or_default() += 1;
            }
        }
    }
}

#[test]
#[ignore = "fetches 23 MB and takes minutes"]
fn regression_tests_are_proven_soundly() {
    let suite = suite().expect("the regression tests");
    let Some(server) = server::start() else {
        return;
    };
    // The server reads its data as another user.
    let data = Folder::new("regress").expect("a folder");
    let copied = Command::new("cp")
        .arg("-r")
        .arg(suite.join("data"))
        .arg(data.path())
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    let only = std::env::var("OUTGROW_REGRESS_ONLY").ok();
    let mut outcome = Outcome::default();
    for name in schedule(&suite) {
        if only
            .as_ref()
            .is_some_and(|only| !only.split(',').any(|one| one == name))
        {
            continue;
        }
        let path = suite.join("sql").join(format!("{name}.sql"));
        if !path.is_file() {
            continue;
        }
        let sql = read(&path, data.path());
        let before = (outcome.queries, outcome.tally.proven);
        file(&server, &name, &sql, &mut outcome);
        let (queries, proven) = (outcome.queries - before.0, outcome.tally.proven - before.1);
        eprintln!("{name}: {queries} queries, {proven} proven");
    }
    report(&outcome);
    assert_eq!(outcome.wrong, Vec::<String>::new());
    assert!(outcome.queries > 0);
}

fn file(server: &outgrow_testkit::databases::Server, name: &str, sql: &str, outcome: &mut Outcome) {
    let connect = || {
        let mut client = Client::connect(server.address());
        client.execute("SET statement_timeout = '20s'");
        Oracle::new(client)
    };
    let mut oracle = connect();
    let catalogue = catalogue(oracle.client());
    let mut session = Session {
        oracle,
        catalogue,
        outcome,
        status: b'I',
    };
    let statements: Vec<_> = Statements::new(sql.as_bytes(), Lexing::default())
        .map(|statement| statement.range)
        .collect();
    for range in statements {
        if session.statement(name, &sql[range]).is_err() {
            session.oracle = connect();
            session.status = b'I';
        }
    }
}

fn report(outcome: &Outcome) {
    let mut missed: Vec<_> = outcome.missed.iter().collect();
    missed.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (finding, count) in missed.iter().take(60) {
        eprintln!("{count:5} {finding}");
    }
    eprintln!(
        "{:?}, {} queries, {} wrong, share {:.3}",
        outcome.tally,
        outcome.queries,
        outcome.wrong.len(),
        outcome.tally.share()
    );
}
