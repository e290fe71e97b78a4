//! `cargo xtask conform NAME`: public conformance suites against a fresh outgrow, and outgrow against
//! a real Kubernetes API server.
//!
//! `diagnosis` is ours: real applications with faults. For HTTP's suites outgrow stands in front of a backend of ours that answers as they expect;
//! PgBouncer's brings its own Postgres, and those of Postgres' clients are compared with a Postgres that
//! is asked directly. A suite's files are never part of this repository: they are a checkout that `--suite` names or that is cloned at
//! the revision below. Deliberately not here: what our own tests say about the same (`crates/`).

mod backend;
mod checkout;
mod diagnosis;
mod h1spec;
mod h2spec;
mod kubernetes;
mod pgbouncer;
mod postgres;
mod target;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::arguments::Arguments;
use crate::binary;
use crate::workspace::Workspace;
use backend::Backend;
use target::Target;

/// A suite.
struct Suite {
    name: &'static str,
    /// Where its files come from.
    source: checkout::Source,
    /// How outgrow listens for it.
    listener: target::Listener,
    /// Prepares it in the folder and runs it against the target.
    run: fn(&Path, &Path, &Target) -> anyhow::Result<Verdict>,
}

const SUITES: [Suite; 2] = [
    Suite {
        name: "h1spec",
        source: checkout::Source {
            repository: "https://github.com/uNetworking/h1spec",
            revision: "f0a5650a20c575fbea0f7179a3a9cfa50f20ba6e",
            has: "http_test.ts",
        },
        listener: target::Listener::Cleartext,
        run: h1spec::run,
    },
    Suite {
        name: "h2spec",
        source: checkout::Source {
            repository: "https://github.com/summerwind/h2spec",
            revision: "af83a65f0b6273ef38bf778d400d98892e7653d8",
            has: "cmd/h2spec",
        },
        // As browsers come; a cleartext listener takes a broken preface for HTTP/1.1 and says 400.
        listener: target::Listener::Tls,
        run: h2spec::run,
    },
];

/// What became of a suite's cases.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    passed: usize,
    failures: Vec<Failure>,
    /// Cases that cannot run here.
    skipped: Vec<Failure>,
}

/// A case that failed or was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    case: String,
    reason: String,
}

/// Runs the command.
pub(crate) fn run(mut arguments: Arguments) -> anyhow::Result<ExitCode> {
    let name = arguments.word();
    let checkout = arguments.parsed::<PathBuf>("--suite")?;
    let given = arguments.parsed("--binary")?;
    let is_pgbouncer = name.as_deref() == Some(pgbouncer::NAME);
    let options = is_pgbouncer
        .then(|| pgbouncer::Options::take(&mut arguments))
        .transpose()?;
    arguments.finish()?;
    let names = format!(
        "{}, {}, {}, {}, {}",
        SUITES.map(|suite| suite.name).join(", "),
        diagnosis::NAME,
        kubernetes::NAME,
        pgbouncer::NAME,
        postgres::SUITES.map(|suite| suite.name).join(", ")
    );
    let of_postgres = postgres::SUITES.into_iter();
    let name = name.with_context(|| format!("which suite? there are {names}"))?;
    let workspace = Workspace::load()?;
    let mut of_postgres = of_postgres.filter(|suite| suite.name == name);
    let verdict = if let Some(suite) = of_postgres.next() {
        postgres::run(&suite, &workspace, checkout, given)?
    } else if let Some(options) = options {
        pgbouncer::run(&workspace, checkout, given, &options)?
    } else if name == diagnosis::NAME {
        let binary = binary::given_or_built(&workspace, given)?;
        diagnosis::run(&workspace, &binary)?
    } else if name == kubernetes::NAME {
        let binary = binary::given_or_built(&workspace, given)?;
        kubernetes::run(&workspace, checkout, &binary)?
    } else {
        let suite = SUITES
            .iter()
            .find(|suite| suite.name == name)
            .with_context(|| format!("there is no suite `{name}`; there are {names}"))?;
        run_suite(suite, &workspace, checkout, given)?
    };
    for Failure { case, reason } in &verdict.skipped {
        println!("{case}: skipped: {reason}");
    }
    for Failure { case, reason } in &verdict.failures {
        println!("{case}: {reason}");
    }
    let (passed, failed) = (verdict.passed, verdict.failures.len());
    let skipped = match verdict.skipped.len() {
        0 => String::new(),
        skipped => format!(", {skipped} skipped"),
    };
    println!("{passed} passed, {failed} failed{skipped}");
    Ok(if verdict.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run_suite(
    suite: &Suite,
    workspace: &Workspace,
    checkout: Option<PathBuf>,
    given: Option<PathBuf>,
) -> anyhow::Result<Verdict> {
    let name = suite.name;
    let folder = workspace.target.join("conform");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let checkout = suite.source.bring(&folder.join(name), checkout)?;
    let binary = binary::given_or_built(workspace, given)?;
    let backend = Backend::start()?;
    let target = Target::start(&binary, &folder, suite.listener, backend.address())?;
    (suite.run)(&folder, &checkout, &target).with_context(|| {
        let said = target.last_lines();
        format!("{name} did not run to its end; outgrow said: {said}")
    })
}
