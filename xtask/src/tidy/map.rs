//! ARCHITECTURE.md's two tables against what the Cargo.toml files say.
//!
//! Rooms: who may depend on whom of ours. Dependencies: which work of others enters, through which
//! crate. Deliberately not here: whether a reason is a good one; a reader judges that.

use std::collections::BTreeSet;

use super::Problem;
use crate::workspace::Crate;

/// The map.
pub(crate) const FILE: &str = "ARCHITECTURE.md";
const ROOMS: &str = "## The rooms";
const DEPENDENCIES: &str = "## Dependencies";
/// What a room's row says when it may depend on every room.
const ALL: &str = "all";

/// Every crate has a row, every row a crate, and no crate depends on more of ours than its row says.
pub(crate) fn rooms(map: &str, crates: &[Crate]) -> Vec<Problem> {
    let rows = match table(map, ROOMS) {
        Ok(rows) => rows,
        Err(problem) => return vec![problem],
    };
    let mut problems = Vec::new();
    for row in &rows {
        if !crates.iter().any(|one| one.is_called(&row[0])) {
            problems.push(Problem::new(
                FILE,
                format!(
                    "room `{}` is no crate of the workspace; remove its row",
                    row[0]
                ),
            ));
        }
    }
    for one in crates {
        let Some(row) = rows.iter().find(|row| one.is_called(&row[0])) else {
            problems.push(Problem::new(
                FILE,
                format!(
                    "crate `{}` ({}) has no row under \"{ROOMS}\"; add one",
                    one.name, one.folder
                ),
            ));
            continue;
        };
        let allowed = words(&row[2]);
        // Tests may use what they like of ours; the arrows are about what is built on what.
        let needed = one
            .dependencies
            .iter()
            .filter(|dependency| dependency.is_ours && !dependency.is_development);
        for dependency in needed {
            let Some(other) = crates.iter().find(|other| other.name == dependency.name) else {
                continue;
            };
            if !allowed
                .iter()
                .any(|word| word == ALL || other.is_called(word))
            {
                problems.push(Problem::new(
                    &format!("{}/Cargo.toml", one.folder),
                    format!(
                        "depends on `{}`, which {FILE} does not allow for `{}`; remove it, or add `{}` \
                         to the room's row if the arrow points down",
                        other.name,
                        one.name,
                        other.short_name()
                    ),
                ));
            }
        }
    }
    problems
}

/// Every dependency that is not ours has a row which names every crate that has it, and no more.
pub(crate) fn dependencies(map: &str, crates: &[Crate]) -> Vec<Problem> {
    let rows = match table(map, DEPENDENCIES) {
        Ok(rows) => rows,
        Err(problem) => return vec![problem],
    };
    let mut problems = Vec::new();
    let users_of = |name: &str| -> BTreeSet<&str> {
        crates
            .iter()
            .filter(|one| {
                let mut dependencies = one.dependencies.iter();
                dependencies.any(|dependency| !dependency.is_ours && dependency.name == name)
            })
            .map(Crate::short_name)
            .collect()
    };
    let mut named = BTreeSet::new();
    for row in &rows {
        let name = row[0].as_str();
        if !named.insert(name) {
            problems.push(Problem::new(
                FILE,
                format!("`{name}` has two rows; join them"),
            ));
        }
        let users = users_of(name);
        if users.is_empty() {
            problems.push(Problem::new(
                FILE,
                format!("no crate depends on `{name}`; remove its row"),
            ));
            continue;
        }
        if row[2].is_empty() {
            problems.push(Problem::new(
                FILE,
                format!("`{name}` has no reason; write why it is here"),
            ));
        }
        let entries = words(&row[1]);
        for entry in &entries {
            let is_user = crates
                .iter()
                .any(|one| one.is_called(entry) && users.contains(one.short_name()));
            if !is_user {
                problems.push(Problem::new(
                    FILE,
                    format!("`{name}` does not enter through `{entry}`; remove it from the row"),
                ));
            }
        }
        for one in crates.iter().filter(|one| users.contains(one.short_name())) {
            if !entries.iter().any(|entry| one.is_called(entry)) {
                problems.push(Problem::new(
                    &format!("{}/Cargo.toml", one.folder),
                    format!(
                        "depends on `{name}`, which {FILE} does not let in through `{short}`; remove it, \
                         or add `{short}` to the row",
                        short = one.short_name()
                    ),
                ));
            }
        }
    }
    let external: BTreeSet<&str> = crates
        .iter()
        .flat_map(|one| &one.dependencies)
        .filter(|dependency| !dependency.is_ours)
        .map(|dependency| dependency.name.as_str())
        .collect();
    for name in external.difference(&named) {
        let users: Vec<&str> = users_of(name).into_iter().collect();
        problems.push(Problem::new(
            FILE,
            format!(
                "`{name}` has no row under \"{DEPENDENCIES}\"; add `| {name} | {} | why |`",
                users.join(", ")
            ),
        ));
    }
    problems
}

/// Every crate takes the workspace's lints.
pub(crate) fn lints(crates: &[Crate]) -> Vec<Problem> {
    crates
        .iter()
        .filter(|one| !one.takes_lints)
        .map(|one| {
            Problem::new(
                &format!("{}/Cargo.toml", one.folder),
                "does not take the workspace's lints; add `[lints]` with `workspace = true`",
            )
        })
        .collect()
}

/// The rows of the first table under `heading`, three cells each.
fn table(map: &str, heading: &str) -> Result<Vec<[String; 3]>, Problem> {
    let mut lines = map
        .lines()
        .skip_while(|line| line.trim_end() != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    if lines.by_ref().take(2).count() < 2 {
        return Err(Problem::new(
            FILE,
            format!("there is no table under \"{heading}\"; tidy reads it"),
        ));
    }
    lines.map(cells).collect()
}

fn cells(line: &str) -> Result<[String; 3], Problem> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    // `||` at the end of a row is an empty last cell, which the trimming above took away.
    let mut cells: Vec<String> = inner
        .split('|')
        .map(|cell| cell.trim().trim_matches('`').to_owned())
        .collect();
    if cells.len() == 2 {
        cells.push(String::new());
    }
    cells
        .try_into()
        .map_err(|_| Problem::new(FILE, format!("a row has not three cells: {line}")))
}

/// The names in a cell: by commas, without back-quotes and remarks in parentheses.
fn words(cell: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut depth = 0_u32;
    for character in cell.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '`' => {}
            _ if depth == 0 => plain.push(character),
            _ => {}
        }
    }
    plain
        .split(',')
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}
