//! `cargo xtask conform NAME`: public conformance suites against a fresh outgrow, and outgrow against
//! a real Kubernetes API server.
//!
//! `diagnosis` and `attacks` are ours: real applications with faults, and clients that mean ill. For HTTP's suites outgrow stands in front of a backend of ours that answers as they expect;
//! PgBouncer's brings its own Postgres, and those of Postgres' clients are compared with a Postgres that
//! is asked directly. A suite's files are never part of this repository: they are a checkout that `--suite` names or that is cloned at
//! the revision below. Deliberately not here: what our own tests say about the same (`crates/`).

mod attacks;
mod backend;
mod checkout;
mod diagnosis;
mod h1spec;
mod h2spec;
mod kosoku;
mod kubernetes;
mod pgbouncer;
mod postgres;
mod python;
mod sslyze;
mod target;
mod testssl;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;

use crate::arguments::Arguments;
use crate::binary;
use crate::workspace::Workspace;
use backend::Backend;
use target::Target;

/// A suite.
struct Suite {
    name: &'static str,
    /// Where its files come from; none is the registry of its language.
    source: Option<checkout::Source>,
    /// How outgrow listens for it.
    listener: target::Listener,
    /// Prepares it in the folder and runs it against the target.
    run: fn(&Path, &Path, &Target) -> anyhow::Result<Verdict>,
}

const SUITES: [Suite; 4] = [
    Suite {
        name: "h1spec",
        source: Some(checkout::Source {
            repository: "https://github.com/uNetworking/h1spec",
            revision: "f0a5650a20c575fbea0f7179a3a9cfa50f20ba6e",
            has: "http_test.ts",
        }),
        listener: target::Listener::Cleartext,
        run: h1spec::run,
    },
    Suite {
        name: "h2spec",
        source: Some(checkout::Source {
            repository: "https://github.com/summerwind/h2spec",
            revision: "af83a65f0b6273ef38bf778d400d98892e7653d8",
            has: "cmd/h2spec",
        }),
        // As browsers come; a cleartext listener takes a broken preface for HTTP/1.1 and says 400.
        listener: target::Listener::Tls,
        run: h2spec::run,
    },
    Suite {
        name: "sslyze",
        source: None,
        listener: target::Listener::Tls,
        run: sslyze::run,
    },
    Suite {
        name: "testssl",
        source: Some(checkout::Source {
            repository: "https://github.com/testssl/testssl.sh",
            revision: "9fdf8028baba86d83218db294a5776384ec8c332",
            has: "testssl.sh",
        }),
        listener: target::Listener::Tls,
        run: testssl::run,
    },
];

/// What became of a suite's cases.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    passed: usize,
    failures: Vec<Failure>,
    /// Cases that cannot run here.
    skipped: Vec<Failure>,
    /// Of failures that are as they should be, the case and why.
    explained: &'static [(&'static str, &'static str)],
}

impl Verdict {
    /// Why a failure of this case is as it should be.
    fn explanation(&self, case: &str) -> Option<&'static str> {
        let mut all = self.explained.iter();
        all.find(|(known, _)| *known == case).map(|(_, why)| *why)
    }

    /// Prints everything, the counts last; whether nothing failed without an explanation.
    fn tell(&self) -> bool {
        for Failure { case, reason } in &self.skipped {
            println!("{case}: skipped: {}", brief(reason));
        }
        let mut unexplained = 0;
        for Failure { case, reason } in &self.failures {
            println!("{case}: {}", brief(reason));
            match self.explanation(case) {
                Some(why) => println!("    as it should be: {why}"),
                None => unexplained += 1,
            }
        }
        let (passed, failed) = (self.passed, self.failures.len());
        if failed > unexplained {
            println!(
                "{} of the failures are as they should be",
                failed - unexplained
            );
        }
        let skipped = match self.skipped.len() {
            0 => String::new(),
            skipped => format!(", {skipped} skipped"),
        };
        println!("{passed} passed, {failed} failed{skipped}");
        unexplained == 0
    }
}

/// The beginning and the end of a long text: some programs say millions of lines.
fn brief(text: &str) -> String {
    const HALF: usize = 500;
    if text.len() <= 2 * HALF {
        return text.to_owned();
    }
    let boundary = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (boundary(HALF), boundary(text.len() - HALF));
    format!("{} […] {}", &text[..start], &text[end..])
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
    let of_attacks = (name.as_deref() == Some(attacks::NAME))
        .then(|| attacks::Options::take(&mut arguments))
        .transpose()?;
    arguments.finish()?;
    let names = format!(
        "{}, {}, {}, {}, {}, {}",
        SUITES.map(|suite| suite.name).join(", "),
        attacks::NAME,
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
    } else if let Some(options) = of_attacks {
        let binary = binary::given_or_built(&workspace, given)?;
        attacks::run(&workspace, &binary, &options)?
    } else if name == diagnosis::NAME {
        let binary = binary::given_or_built(&workspace, given)?;
        diagnosis::run(&workspace, &binary)?
    } else if name == kosoku::NAME {
        let binary = binary::given_or_built(&workspace, given)?;
        kosoku::run(&workspace, &binary)?
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
    Ok(if verdict.tell() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs a suite's program, started by `timeout`, and gives what it has written into the file `result`.
/// One that has found something ends with another status than 0, so that it wrote its result counts.
fn result_of(mut program: Command, result: &Path) -> anyhow::Result<String> {
    // An earlier run's would be taken for this one's.
    let _ = fs::remove_file(result);
    let output = program.output().context("cannot start timeout")?;
    fs::read_to_string(result).with_context(|| {
        let said = String::from_utf8_lossy(&output.stdout);
        format!("there is no {}; the suite said:\n{said}", result.display())
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
    let checkout = match &suite.source {
        Some(source) => source.bring(&folder.join(name), checkout)?,
        None => folder.clone(),
    };
    let binary = binary::given_or_built(workspace, given)?;
    let backend = Backend::start()?;
    let target = Target::start(&binary, &folder, suite.listener, backend.address(), "")?;
    (suite.run)(&folder, &checkout, &target).with_context(|| {
        let said = target.last_lines();
        format!("{name} did not run to its end; outgrow said: {said}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_cut_in_their_middle() {
        assert_eq!(brief("short"), "short");
        let long = format!("{}ä{}", "a".repeat(499), "b".repeat(3000));
        let cut = brief(&long);
        assert!(
            cut.starts_with("aaa") && cut.ends_with("bbb") && cut.len() < 1100,
            "{cut}"
        );
    }

    #[test]
    fn only_what_is_explained_may_fail() {
        let failure = |case: &str| Failure {
            case: case.to_owned(),
            reason: "it failed".to_owned(),
        };
        let mut verdict = Verdict {
            passed: 1,
            failures: vec![failure("known")],
            explained: &[("known", "better so")],
            ..Verdict::default()
        };
        assert!(verdict.tell());
        verdict.failures.push(failure("new"));
        assert!(!verdict.tell());
    }
}
