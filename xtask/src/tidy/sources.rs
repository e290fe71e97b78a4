//! What every Rust file must begin with, must not hold, and how long it may be.
//!
//! By lines, without a parser: wrong only where somebody tries hard. Deliberately not here: the length
//! of functions and names; reviewers see those.

use super::Problem;

/// Lines of a file, its tests aside, from which on it is a sign that a room is missing.
const LONG_LINES: usize = 400;
/// Lines from which on it is an error.
const TOO_LONG_LINES: usize = 600;
/// What must not be left behind. In two pieces, so that this file is not found by its own rule.
const UNFINISHED: [&str; 2] = [concat!("todo", "!("), concat!("unimplemented", "!(")];

/// Everything about one file.
pub(crate) fn check(path: &str, content: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !content.starts_with("//!") {
        problems.push(Problem::new(
            path,
            "does not open with `//!`; say what the file is for and what is deliberately not here",
        ));
    }
    for unfinished in UNFINISHED {
        if content.contains(unfinished) {
            problems.push(Problem::new(
                path,
                format!("holds `{unfinished}…)`; finish it or take it out"),
            ));
        }
    }
    if is_test_file(path) {
        return problems;
    }
    let lines = lines_without_tests(content);
    let advice = "look for the room that is missing; tests go to a tests.rs beside it";
    if lines > TOO_LONG_LINES {
        problems.push(Problem::new(
            path,
            format!("{lines} lines, more than {TOO_LONG_LINES}: {advice}"),
        ));
    } else if lines > LONG_LINES {
        problems.push(Problem::warning(
            path,
            format!("{lines} lines, more than {LONG_LINES}: {advice}"),
        ));
    }
    problems
}

fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "tests.rs"
        || name.ends_with("_tests.rs")
        || path
            .split('/')
            .any(|folder| folder == "tests" || folder == "fuzz_targets")
}

/// Lines before the test module at the file's end.
fn lines_without_tests(content: &str) -> usize {
    let lines: Vec<&str> = content.lines().collect();
    lines
        .windows(2)
        .position(|pair| {
            pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
        })
        .unwrap_or(lines.len())
}
