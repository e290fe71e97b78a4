//! Tests of the configuration: loading, cross-checks, printing, explaining, golden documents.

mod acme;
mod documents;
mod errors;
mod explained;
mod garbage;
mod loaded;
mod printed;
mod promotions;
mod resources;
mod routes;
mod rules;
mod schema_validator;
mod streams;

use super::*;

/// Surroundings with the variables that the examples use, in which every file can be read.
fn with_surroundings<R>(run: impl FnOnce(&Surroundings<'_>) -> R) -> R {
    let environment = |name: &str| match name {
        "OUTGROW_ADMIN_TOKEN" => Some("f00d".to_owned()),
        "OUTGROW_TICKET_SECRET" => Some("0123456789abcdef0123456789abcdef".to_owned()),
        "WORKERS" => Some("3".to_owned()),
        "WORD" => Some("word".to_owned()),
        _ => None,
    };
    let readable = |path: &Path| match path.to_str() {
        Some("missing.pem") => Err("No such file or directory".to_owned()),
        _ => Ok(()),
    };
    run(&Surroundings {
        environment: &environment,
        readable: &readable,
        machine: None,
    })
}

fn asked(url: &str, method: &str) -> Question {
    Question {
        url: url.to_owned(),
        method: method.to_owned(),
        ..Question::default()
    }
}

fn load_text(text: &str) -> Result<Loaded, Vec<Problem>> {
    with_surroundings(|surroundings| load(text, surroundings))
}

/// A small configuration that is right; tests put something behind it.
const SMALL: &str = "\
[listener.public]
address = \"0.0.0.0:8080\"
[service.web]
endpoints = [\"127.0.0.1:3000\"]
[route.web]
service = \"web\"
";

/// The problems as `line: path: message | hint`.
fn told(text: &str, problems: &[Problem]) -> Vec<String> {
    let line = |problem: &Problem| text[..problem.span.start].matches('\n').count() + 1;
    let tell = |problem: &Problem| {
        let hint = problem.hint.as_deref().unwrap_or("-");
        let warning = if problem.severity == Severity::Warning {
            "warning: "
        } else {
            ""
        };
        format!(
            "{}: {}: {warning}{} | {hint}",
            line(problem),
            problem.path,
            problem.message
        )
    };
    problems.iter().map(tell).collect()
}

/// Loads `SMALL` with `more` behind it; `expected` are beginnings of `line: path: message | hint`
/// where line 1 is the first of `more`.
#[track_caller]
fn check(more: &str, expected: &[&str]) {
    check_whole(&format!("{SMALL}{more}"), expected, SMALL.lines().count());
}

#[track_caller]
fn check_whole(text: &str, expected: &[&str], lines_before: usize) {
    let problems = match load_text(text) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    };
    let told: Vec<String> = told(text, &problems)
        .into_iter()
        .map(|told| {
            let (line, rest) = told.split_once(": ").unwrap();
            let line: usize = line.parse().unwrap();
            format!("{}:{rest}", line.saturating_sub(lines_before))
        })
        .collect();
    let fits = told.len() == expected.len()
        && told
            .iter()
            .zip(expected)
            .all(|(told, expected)| told.starts_with(expected));
    assert!(fits, "expected {expected:#?}\ngot {told:#?}\nfor\n{text}");
}
