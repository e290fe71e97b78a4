//! Sources of Debian's packages, for suites that are part of them.
//!
//! apt is asked with lists of its own, so that nothing of the system's is changed. Deliberately not
//! here: what is in a source.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::command;

/// Where the system says that its packages come from.
const PLACES: [&str; 2] = ["/etc/apt/sources.list", "/etc/apt/sources.list.d"];

/// The unpacked source of `package` in this version (its beginning; empty is any), in `folder`; `has` is
/// a path that shows that it is the right one. `given` is one that is there already.
pub(super) fn source(
    folder: &Path,
    given: Option<PathBuf>,
    package: &str,
    version: &str,
    has: &str,
) -> anyhow::Result<PathBuf> {
    let unpacked = match given {
        Some(path) => path
            .canonicalize()
            .with_context(|| format!("--suite: there is no {}", path.display()))?,
        None => match find(folder, has) {
            Some(unpacked) => unpacked,
            None => bring(folder, package, version, has).with_context(|| {
                format!(
                    "cannot get the source of {package}; unpack it elsewhere and pass --suite PATH"
                )
            })?,
        },
    };
    anyhow::ensure!(
        unpacked.join(has).exists(),
        "{} has no {has}: it is no source of {package}",
        unpacked.display()
    );
    Ok(unpacked)
}

fn bring(folder: &Path, package: &str, version: &str, has: &str) -> anyhow::Result<PathBuf> {
    let lists = folder.join("apt");
    let parts = lists.join("parts");
    fs::create_dir_all(lists.join("lists/partial")).context("cannot create a folder")?;
    fs::create_dir_all(&parts).context("cannot create a folder")?;
    for (number, path) in places()?.into_iter().enumerate() {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let ending = path.extension().and_then(|ending| ending.to_str());
        let copy = format!("{number}.{}", ending.unwrap_or("list"));
        fs::write(parts.join(copy), with_sources(&text)).context("cannot write a list")?;
    }
    let apt = |program: &str| {
        let mut apt = Command::new(program);
        apt.current_dir(folder);
        apt.args(["-o", "Dir::Etc::sourcelist=/dev/null", "-o"]);
        apt.arg(format!("Dir::Etc::sourceparts={}", parts.display()));
        apt.arg("-o");
        apt.arg(format!(
            "Dir::State::lists={}",
            lists.join("lists").display()
        ));
        apt
    };
    command::output(apt("apt-get").args(["update", "-qq"]))?;
    let said = command::output(apt("apt-cache").args(["showsrc", package]))?;
    let versions = said
        .lines()
        .filter_map(|line| line.strip_prefix("Version: "));
    let versions: Vec<&str> = versions.filter(|one| one.starts_with(version)).collect();
    anyhow::ensure!(!versions.is_empty(), "Debian has no {package} {version}");
    let is_there = |version: &&str| {
        let wanted = format!("{package}={version}");
        let mut get = apt("apt-get");
        get.args(["source", "--download-only", "-qq", &wanted]);
        command::output(&mut get).is_ok()
    };
    anyhow::ensure!(
        versions.iter().any(is_there),
        "none of {versions:?} can be fetched"
    );
    for entry in fs::read_dir(folder).context("cannot list a folder")? {
        let path = entry?.path();
        if path.to_string_lossy().contains(".orig.tar.") {
            let mut tar = Command::new("tar");
            command::must(tar.arg("-C").arg(folder).arg("-xf").arg(&path))?;
        }
    }
    find(folder, has).with_context(|| format!("it has no {has}"))
}

/// The folder in `folder` that has this path.
fn find(folder: &Path, has: &str) -> Option<PathBuf> {
    let mut entries = fs::read_dir(folder).ok()?.flatten();
    entries.find_map(|entry| {
        let path = entry.path();
        path.join(has).exists().then_some(path)
    })
}

fn places() -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for place in PLACES.map(PathBuf::from) {
        if place.is_file() {
            found.push(place);
        } else if place.is_dir() {
            let entries = fs::read_dir(&place).context("cannot list apt's sources")?;
            found.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    found.retain(|path| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("list" | "sources"))
    });
    if found.is_empty() {
        bail!("this machine has no sources of apt: it is no Debian");
    }
    Ok(found)
}

/// The same places, of sources instead of packages, in either of apt's formats.
fn with_sources(text: &str) -> String {
    let line = |line: &str| {
        let words = line.strip_prefix("Types:").map(str::split_whitespace);
        let has_packages = words.is_some_and(|mut words| words.any(|word| word == "deb"));
        match line.strip_prefix("deb ") {
            Some(rest) => format!("deb-src {rest}\n"),
            None if has_packages => "Types: deb-src\n".to_owned(),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_packages_become_those_of_sources() {
        let check = |text: &str, expected: &str| assert_eq!(with_sources(text), expected);
        check("# x\ndeb http://a b c\n", "# x\ndeb-src http://a b c\n");
        check(
            "Types: deb\nURIs: http://a\n",
            "Types: deb-src\nURIs: http://a\n",
        );
        check("Types: deb deb-src", "Types: deb-src\n");
    }
}
