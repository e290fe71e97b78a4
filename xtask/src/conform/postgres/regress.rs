//! Postgres' own regression tests: each that passes against Postgres itself passes through outgrow, in
//! transaction mode.
//!
//! The tests and their C functions are of Debian's source, the driver (`pg_regress`) of
//! Postgres' packages. Each `psql` of a test takes whatever connection is free for each
//! transaction, so a session that leaves something behind, or misses something, shows in another
//! test's output. Deliberately not here: what differences mean.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{Pair, debian, libpq_pipeline};
use crate::conform::{Failure, Verdict};
use crate::postgres::{self, Folder};
use crate::{command, setup};

/// Where the source has them.
const TESTS: &str = "src/test/regress";
const DATABASE: &str = "regression";
/// As Postgres' own makefile runs them.
pub(super) const AT_ONCE: usize = 20;
/// What `pg_regress` sets for a database of its own making.
const SETTINGS: [&str; 6] = [
    "lc_messages TO 'C'",
    "lc_monetary TO 'C'",
    "lc_numeric TO 'C'",
    "lc_time TO 'C'",
    "bytea_output TO 'hex'",
    "timezone_abbreviations TO 'Default'",
];
/// Libraries of contrib that tests load.
const LIBRARIES: [&str; 2] = ["autoinc.so", "refint.so"];
/// A header that is made in another folder than the one that it is included from.
const MADE: (&str, &str) = (
    "src/backend/storage/lmgr/lwlocknames.h",
    "storage/lwlocknames.h",
);
const HEADERS: &str = "/usr/include/postgresql";

/// Tests that fail and are to fail, and why; the last one passes where the connection that it is lent
/// never had a temporary schema.
const EXPLAINED: [(&str, &str); 3] = [
    (
        "guc",
        "pg_listening_channels() is that of the connection that is lent: the channels of all clients \
         are listened to on another one",
    ),
    (
        "stats",
        "\\connect makes no new session of the server, which the test counts",
    ),
    (
        "temp",
        "\\connect makes no new session of the server: it may have the temporary schema that the last \
         case expects not to be there",
    ),
];

/// Runs all tests, directly and through outgrow.
pub(super) fn run(folder: &Path, given: Option<PathBuf>, pair: &Pair) -> anyhow::Result<Verdict> {
    let (major, version) = libpq_pipeline::version()?;
    let package = format!("postgresql-{major}");
    let source = debian::source(folder, given, &package, &version, TESTS)?;
    let place = Folder::create("regress")?;
    let tests = place.path.join("tests");
    command::must(
        Command::new("cp")
            .arg("-r")
            .arg(source.join(TESTS))
            .arg(&tests),
    )?;
    build(&source, &tests)?;
    let direct = play(pair, &place, "direct", pair.direct())?;
    let pooled = play(pair, &place, "pooled", pair.pooled)?;
    judge(&direct, &pooled)
}

/// What became of one run.
struct Run {
    /// Each test, and whether it passed.
    outcomes: BTreeMap<String, bool>,
    /// For those that did not, the first lines that differ.
    differences: BTreeMap<String, String>,
}

fn judge(direct: &Run, pooled: &Run) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict {
        explained: &EXPLAINED,
        ..Verdict::default()
    };
    for (test, &passes) in &direct.outcomes {
        let why = |run: &Run| {
            let difference = run.differences.get(test).cloned();
            difference.unwrap_or_else(|| "no difference is told".to_owned())
        };
        match pooled.outcomes.get(test) {
            Some(true) => verdict.passed += 1,
            _ if !passes => verdict.skipped.push(Failure {
                case: test.clone(),
                reason: format!("fails against Postgres itself: {}", why(direct)),
            }),
            Some(false) => verdict.failures.push(Failure {
                case: test.clone(),
                reason: why(pooled),
            }),
            None => verdict.failures.push(Failure {
                case: test.clone(),
                reason: "was not run".to_owned(),
            }),
        }
    }
    anyhow::ensure!(!direct.outcomes.is_empty(), "pg_regress ran no test");
    Ok(verdict)
}

/// Builds the tests' C functions, with the headers of the source and of libpq-dev.
fn build(source: &Path, tests: &Path) -> anyhow::Result<()> {
    if !Path::new(HEADERS).join("pg_config.h").exists() {
        setup::install_debian(&["libpq-dev"])?;
    }
    let made = tests.join("made");
    let header = made.join(MADE.1);
    fs::create_dir_all(header.parent().context("a folder")?).context("cannot create a folder")?;
    fs::copy(source.join(MADE.0), header).with_context(|| format!("no {}", MADE.0))?;
    let mut compiler = Command::new("gcc");
    // Postgres' own code warns with other compilers than its own.
    compiler.args(["-O1", "-w", "-fPIC", "-shared", "-D_GNU_SOURCE", "-o"]);
    compiler
        .arg(tests.join("regress.so"))
        .arg(tests.join("regress.c"));
    for part in ["src/include", "src/backend"] {
        compiler.arg(format!("-I{}", source.join(part).display()));
    }
    compiler.arg(format!("-I{}", made.display()));
    compiler.arg(format!("-I{HEADERS}"));
    command::output(&mut compiler)
        .context("it needs gcc and the headers of libpq: apt-get install gcc libpq-dev")?;
    let libraries = programs()?.with_file_name("lib");
    for library in LIBRARIES {
        let from = libraries.join(library);
        fs::copy(&from, tests.join(library))
            .with_context(|| format!("no {}: apt-get install postgresql", from.display()))?;
    }
    Ok(())
}

/// The folder of Postgres' programs.
fn programs() -> anyhow::Result<PathBuf> {
    let postgres = postgres::program("postgres")?;
    let folder = postgres.parent().context("a program lies in a folder")?;
    Ok(folder.to_owned())
}

fn play(pair: &Pair, place: &Folder, how: &str, address: SocketAddr) -> anyhow::Result<Run> {
    println!("{how}: pg_regress at {address}");
    pair.fresh_database(DATABASE)?;
    let mut client = postgres::wire::Client::connect(pair.direct(), "postgres", "postgres")?;
    for setting in SETTINGS {
        client.run(&format!("ALTER DATABASE {DATABASE} SET {setting}"))?;
    }
    let output = place.path.join(how);
    fs::create_dir_all(&output).context("cannot create a folder")?;
    place.give_to_postgres()?;
    let programs = programs()?;
    let driver = programs.with_file_name("lib/pgxs/src/test/regress/pg_regress");
    anyhow::ensure!(
        driver.exists(),
        "there is no {}: apt-get install postgresql",
        driver.display()
    );
    let tests = place.path.join("tests");
    let mut regress = postgres::as_postgres(&driver)?;
    regress
        .arg("--use-existing")
        .arg(format!("--dbname={DATABASE}"));
    regress.arg(format!("--bindir={}", programs.display()));
    for option in ["inputdir", "dlpath"] {
        regress.arg(format!("--{option}={}", tests.display()));
    }
    regress.arg(format!("--outputdir={}", output.display()));
    regress.arg(format!(
        "--schedule={}",
        tests.join("parallel_schedule").display()
    ));
    regress.arg(format!("--max-concurrent-tests={AT_ONCE}"));
    regress.arg("--user=postgres");
    regress.arg(format!("--host={}", address.ip()));
    regress.arg(format!("--port={}", address.port()));
    let said = regress.output().context("cannot run pg_regress")?;
    let outcomes = outcomes(&String::from_utf8_lossy(&said.stdout));
    anyhow::ensure!(
        !outcomes.is_empty(),
        "pg_regress: {}",
        String::from_utf8_lossy(&said.stderr)
    );
    let differences = fs::read(output.join("regression.diffs")).unwrap_or_default();
    Ok(Run {
        outcomes,
        differences: differences_of(&String::from_utf8_lossy(&differences)),
    })
}

/// `test boolean  ... ok   312 ms`, or without the first word for those that run side by side.
fn outcomes(said: &str) -> BTreeMap<String, bool> {
    let outcome = |line: &str| {
        let (test, rest) = line.split_once(" ... ")?;
        let test = test.trim();
        let test = test.strip_prefix("test ").unwrap_or(test).trim();
        Some((test.to_owned(), rest.trim_start().starts_with("ok")))
    };
    said.lines().filter_map(outcome).collect()
}

/// Of each test, what was expected first and did not come, and what came instead.
fn differences_of(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for part in text.split("\ndiff ") {
        let mut lines = part.lines();
        let header = lines.next().unwrap_or_default();
        let name = header
            .rsplit('/')
            .next()
            .and_then(|file| file.strip_suffix(".out"));
        let Some(name) = name else { continue };
        let body = lines.skip_while(|line| !line.starts_with("@@"));
        let differing = |sign: char| {
            let mut lines = body.clone().filter_map(|line| line.strip_prefix(sign));
            lines.next().map_or("nothing", str::trim).to_owned()
        };
        let (expected, came) = (differing('-'), differing('+'));
        found.insert(name.to_owned(), format!("{came:?} instead of {expected:?}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_says_is_read() {
        let said = "============== running regression test queries  ==============\n\
                    test test_setup                   ... ok          500 ms\n\
                    parallel group (2 tests):  date boolean\n\
                    \u{20}    boolean                      ... ok          312 ms\n\
                    \u{20}    date                         ... FAILED      567 ms\n";
        let read = outcomes(said);
        let expected = [("boolean", true), ("date", false), ("test_setup", true)];
        let expected = expected.map(|(test, passes)| (test.to_owned(), passes));
        assert_eq!(read.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn differences_are_read() {
        let text = "diff -U3 /a/expected/temp.out /b/results/temp.out\n--- /a/expected/temp.out\n\
                    +++ /b/results/temp.out\n@@ -409,4 +409,3 @@\n (1 row)\n \n x;\n-ERROR:  cannot\n\
                    diff -U3 /a/expected/guc.out /b/results/guc.out\n--- a\n+++ b\n@@ -1 +1 @@\n\
                    - Postgres\n+ ISO\n";
        let found = differences_of(text);
        assert_eq!(found["temp"], "\"nothing\" instead of \"ERROR:  cannot\"");
        assert_eq!(found["guc"], "\"ISO\" instead of \"Postgres\"");
    }

    #[test]
    fn what_fails_anyway_is_no_failure() {
        let run = |outcomes: &[(&str, bool)]| Run {
            outcomes: outcomes
                .iter()
                .map(|&(test, passes)| (test.to_owned(), passes))
                .collect(),
            differences: BTreeMap::new(),
        };
        let direct = run(&[("a", true), ("b", true), ("c", false), ("d", true)]);
        let verdict = judge(&direct, &run(&[("a", true), ("b", false), ("c", false)]));
        let verdict = verdict.expect("a verdict");
        let names = |failures: &[Failure]| {
            failures
                .iter()
                .map(|failure| failure.case.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(verdict.passed, 1);
        assert_eq!(names(&verdict.failures), ["b", "d"]);
        assert_eq!(names(&verdict.skipped), ["c"]);
    }
}
