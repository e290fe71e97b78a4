//! What pytest says at its end.

use std::collections::BTreeSet;

use anyhow::Context;

use super::super::{Failure, Verdict};

/// Above the lines for each test.
const HEADING: &str = " short test summary info ";
/// Before a test that `prepare.sh` leaves out, and why.
const LEFT_OUT: &str = "LEFT OUT ";

/// Reads a line for each test and the counts of the last line.
pub(super) fn read(text: &str) -> anyhow::Result<Verdict> {
    let (_, lines) = text
        .rsplit_once(HEADING)
        .context("it has no summary at its end")?;
    let mut passed = BTreeSet::new();
    let mut verdict = Verdict::default();
    let mut broken = BTreeSet::new();
    for line in lines.lines() {
        let Some((result, rest)) = line.split_once(' ') else {
            continue;
        };
        let (case, reason) = rest.split_once(" - ").unwrap_or((rest, "no reason given"));
        match result {
            "PASSED" => {
                passed.insert(case);
            }
            "FAILED" => verdict.failures.push(failure(case, reason)),
            // In what surrounds the test, which may have passed itself.
            "ERROR" if broken.insert(case) => verdict.failures.push(failure(case, reason)),
            "SKIPPED" => verdict.skipped.extend(skipped(rest)),
            _ => {}
        }
    }
    let counts = lines
        .lines()
        .find(|line| line.starts_with('=') && line.contains(" in "))
        .context("its last line is missing")?;
    let failed: BTreeSet<_> = verdict.failures.iter().map(|one| &one.case).collect();
    anyhow::ensure!(
        count(counts, "passed") == passed.len()
            && count(counts, "failed") <= failed.len()
            && count(counts, "skipped") == verdict.skipped.len(),
        "its lines and its counts do not agree: {counts}"
    );
    for case in &broken {
        passed.remove(case);
    }
    let left_out = text.lines().filter_map(|line| line.strip_prefix(LEFT_OUT));
    let left_out = left_out.filter_map(|line| line.split_once(" - "));
    let left_out = left_out.map(|(case, reason)| failure(case, reason));
    verdict.skipped.extend(left_out);
    verdict.passed = passed.len();
    Ok(verdict)
}

fn failure(case: &str, reason: &str) -> Failure {
    Failure {
        case: case.to_owned(),
        reason: reason.to_owned(),
    }
}

/// `[2] test/x.py:7: reason`, once for each.
fn skipped(rest: &str) -> Vec<Failure> {
    let Some((times, rest)) = rest
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    else {
        return Vec::new();
    };
    let (case, reason) = rest.split_once(": ").unwrap_or((rest, "no reason given"));
    let times = times.parse().unwrap_or(1);
    vec![failure(case, reason); times]
}

/// `5` of `5 failed` in the last line.
fn count(line: &str, what: &str) -> usize {
    let words: Vec<_> = line
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == what || pair[1].strip_suffix('s') == Some(what))
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
LEFT OUT test/test_x.py::slow - this kernel cannot
test/test_x.py ..F
=========================== short test summary info ============================
PASSED test/test_x.py::one
PASSED test/test_x.py::two[a - b]
PASSED test/test_x.py::three
SKIPPED [2] test/test_y.py:1247: libpq 18+ required: really
ERROR test/test_x.py::three - AssertionError: assert 'a' not in 'b'
FAILED test/test_x.py::four - Failed: DID NOT RAISE <class 'x'>
FAILED test/test_x.py::five
= 2 failed, 3 passed, 2 skipped, 1 deselected, 1 error in 731.18s (0:12:11) =
";

    #[test]
    fn each_failure_has_its_reason() {
        let verdict = read(TEXT).unwrap();
        assert_eq!(verdict.passed, 2);
        let expected = [
            (
                "test/test_x.py::three",
                "AssertionError: assert 'a' not in 'b'",
            ),
            ("test/test_x.py::four", "Failed: DID NOT RAISE <class 'x'>"),
            ("test/test_x.py::five", "no reason given"),
        ];
        assert_eq!(
            verdict.failures,
            expected.map(|(case, reason)| failure(case, reason))
        );
        assert_eq!(verdict.skipped.len(), 3);
        assert_eq!(verdict.skipped[0].reason, "libpq 18+ required: really");
        assert_eq!(verdict.skipped[2].reason, "this kernel cannot");
    }

    #[test]
    fn what_does_not_agree_is_no_verdict() {
        assert!(read("").is_err());
        assert!(read(&TEXT.replace("3 passed", "4 passed")).is_err());
        assert!(read(&TEXT.replace("2 skipped", "1 skipped")).is_err());
        assert!(read(&TEXT.replace(" in 731", " of 731")).is_err());
    }
}
