//! What must not stand in a document.
//!
//! Line numbers of sources: they are wrong a week later; a symbol's name is found for years.
//! Deliberately not here: style and spelling.

use super::Problem;

/// What comes before a line number.
const SOURCE: &str = ".rs:";

/// Everything about one document.
pub(crate) fn check(path: &str, content: &str) -> Vec<Problem> {
    content
        .lines()
        .enumerate()
        .filter(|(_, line)| cites_line(line))
        .map(|(index, line)| {
            Problem::new(
                path,
                format!(
                    "line {}: cites a line number, name the symbol instead: {}",
                    index + 1,
                    line.trim()
                ),
            )
        })
        .collect()
}

fn cites_line(line: &str) -> bool {
    line.match_indices(SOURCE).any(|(at, _)| {
        let after = &line[at + SOURCE.len()..];
        after.starts_with(|next: char| next.is_ascii_digit())
    })
}
