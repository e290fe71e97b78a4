//! `cargo xtask tidy`: the house rules that no compiler checks.
//!
//! The map (ARCHITECTURE.md) against every Cargo.toml, and what each file must or must not hold. Each
//! problem says where it is and what to do. Deliberately not here: formatting and lints.

mod documents;
mod map;
mod sources;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::arguments::Arguments;
use crate::workspace::Workspace;

/// Something that is not as the house wants it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// A path below the root.
    place: String,
    /// What is wrong and what to do.
    what: String,
    /// Said, but no failure.
    is_warning: bool,
}

impl Problem {
    fn new(place: &str, what: impl Into<String>) -> Self {
        Self {
            place: place.to_owned(),
            what: what.into(),
            is_warning: false,
        }
    }

    fn warning(place: &str, what: impl Into<String>) -> Self {
        Self {
            is_warning: true,
            ..Self::new(place, what)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_warning { "warning" } else { "error" };
        write!(formatter, "{kind}: {}: {}", self.place, self.what)
    }
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    arguments.finish()?;
    Ok(if check(&Workspace::load()?)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints every problem; false when one of them is an error.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<bool> {
    let map = read(&workspace.root.join(map::FILE))?;
    let mut problems = map::rooms(&map, &workspace.crates);
    problems.extend(map::dependencies(&map, &workspace.crates));
    problems.extend(map::lints(&workspace.crates));
    walk(&workspace.root, "", &mut |path, content| {
        problems.extend(match kind(path) {
            Some(Kind::Source) => sources::check(path, content),
            Some(Kind::Document) => documents::check(path, content),
            None => Vec::new(),
        });
    })?;
    for problem in &problems {
        eprintln!("{problem}");
    }
    let errors = problems.iter().filter(|one| !one.is_warning).count();
    eprintln!(
        "tidy: {errors} errors, {} warnings",
        problems.len() - errors
    );
    Ok(errors == 0)
}

/// What a file is checked as.
enum Kind {
    Source,
    Document,
}

fn kind(path: &str) -> Option<Kind> {
    match Path::new(path).extension()?.to_str()? {
        "rs" => Some(Kind::Source),
        "md" => Some(Kind::Document),
        _ => None,
    }
}

/// Gives every Rust and Markdown file below `folder` to `visit`, in the order of their names.
fn walk(folder: &Path, prefix: &str, visit: &mut impl FnMut(&str, &str)) -> anyhow::Result<()> {
    let mut entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot list {}", folder.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            let is_ours = !name.starts_with('.') && name != "target" && name != "node_modules";
            if is_ours {
                walk(&entry.path(), &format!("{path}/"), visit)?;
            }
        } else if kind(&path).is_some() {
            visit(&path, &read(&entry.path())?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
