//! `cargo xtask docs`: the golden tests write the files under docs/ anew, and we say what changed.
//!
//! A golden test is one whose name contains `golden`; with OUTGROW_GOLDEN=write it writes its file
//! instead of comparing. Deliberately not here: the content.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::arguments::Arguments;
use crate::command;
use crate::workspace::Workspace;

/// Files by their path below docs/.
type Files = BTreeMap<String, Vec<u8>>;

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    arguments.finish()?;
    let workspace = Workspace::load()?;
    let folder = workspace.root.join("docs");
    let before = read(&folder)?;
    let mut cargo = command::cargo();
    cargo
        .current_dir(&workspace.root)
        .args(["test", "--quiet", "--workspace", "--", "golden"])
        .env("OUTGROW_GOLDEN", "write");
    command::must(&mut cargo)?;
    let changes = compare(&before, &read(&folder)?);
    if changes.is_empty() {
        println!("docs/: nothing changed");
    }
    for change in changes {
        println!("docs/{change}");
    }
    Ok(ExitCode::SUCCESS)
}

fn read(folder: &Path) -> anyhow::Result<Files> {
    let mut files = Files::new();
    if folder.is_dir() {
        collect(folder, "", &mut files)?;
    }
    Ok(files)
}

fn collect(folder: &Path, prefix: &str, files: &mut Files) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// One line per file that is not as it was.
fn compare(before: &Files, after: &Files) -> Vec<String> {
    let mut changes: Vec<String> = after
        .iter()
        .filter_map(|(name, new)| match before.get(name) {
            None => Some(format!("{name}: new")),
            Some(old) if old == new => None,
            Some(old) => {
                let (gone, come) = (only_in(old, new), only_in(new, old));
                Some(format!("{name}: changed (+{come} -{gone} lines)"))
            }
        })
        .collect();
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    changes.extend(removed.map(|name| format!("{name}: removed")));
    changes
}

/// Lines of `one` that `other` does not have.
fn only_in(one: &[u8], other: &[u8]) -> usize {
    let known: HashSet<&[u8]> = other.split(|&byte| byte == b'\n').collect();
    one.split(|&byte| byte == b'\n')
        .filter(|line| !known.contains(line))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_change_is_named() {
        let files = |pairs: &[(&str, &str)]| -> Files {
            pairs
                .iter()
                .map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec()))
                .collect()
        };
        let before = files(&[("a.md", "1\n2\n"), ("b.md", "same"), ("c.md", "gone")]);
        let after = files(&[("a.md", "1\n3\n4\n"), ("b.md", "same"), ("d/e.md", "new")]);
        assert_eq!(
            compare(&before, &after),
            [
                "a.md: changed (+2 -1 lines)",
                "d/e.md: new",
                "c.md: removed"
            ]
        );
    }
}
