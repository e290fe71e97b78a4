//! What cargo knows about the workspace: its folders, its crates and what they depend on.
//!
//! Deliberately not here: judgement; see `tidy/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use crate::command;

/// The workspace.
pub(crate) struct Workspace {
    /// The folder of the root Cargo.toml.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    /// Every member.
    pub(crate) crates: Vec<Crate>,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Crate {
    /// The package's name.
    pub(crate) name: String,
    /// Its folder below the root, as `crates/outgrow`.
    pub(crate) folder: String,
    /// Whether its Cargo.toml takes the workspace's lints.
    pub(crate) takes_lints: bool,
    /// What its Cargo.toml names.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a Cargo.toml.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dependency {
    /// The package's name.
    pub(crate) name: String,
    /// A member of this workspace.
    pub(crate) is_ours: bool,
    /// For tests only.
    pub(crate) is_development: bool,
}

impl Crate {
    /// The name without the product's: `outgrow-http` is `http`.
    pub(crate) fn short_name(&self) -> &str {
        self.name.strip_prefix("outgrow-").unwrap_or(&self.name)
    }

    /// Whether the map may mean this crate by `word`.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        word == self.name || word == self.short_name() || word == self.folder
    }
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> anyhow::Result<Self> {
        // The manifest of this crate, so that the working folder does not matter.
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let arguments = ["metadata", "--no-deps", "--format-version", "1"];
        let mut cargo = command::cargo();
        cargo.args(arguments).args(["--manifest-path", manifest]);
        let output = cargo.output().context("cannot start cargo")?;
        anyhow::ensure!(
            output.status.success(),
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let root = PathBuf::from(text(&metadata, "workspace_root")?);
        let crates = list(&metadata, "packages")?
            .iter()
            .map(|package| read_crate(&root, package))
            .collect::<anyhow::Result<_>>()?;
        let target = PathBuf::from(text(&metadata, "target_directory")?);
        Ok(Self {
            root,
            target,
            crates,
        })
    }
}

fn read_crate(root: &Path, package: &Value) -> anyhow::Result<Crate> {
    let manifest = PathBuf::from(text(package, "manifest_path")?);
    let content = fs::read_to_string(&manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let folder = manifest.parent().unwrap_or(root);
    let folder = folder.strip_prefix(root).unwrap_or(folder);
    let dependencies = list(package, "dependencies")?
        .iter()
        .map(|dependency| {
            Ok(Dependency {
                name: text(dependency, "name")?.to_owned(),
                is_ours: dependency["path"].is_string(),
                is_development: dependency["kind"] == "dev",
            })
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Crate {
        name: text(package, "name")?.to_owned(),
        folder: folder.to_string_lossy().into_owned(),
        takes_lints: takes_lints(&content),
        dependencies,
    })
}

fn takes_lints(manifest: &str) -> bool {
    manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[lints]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.replace(' ', "") == "workspace=true")
}

fn text<'a>(value: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    value[key]
        .as_str()
        .with_context(|| format!("cargo metadata has no text `{key}`"))
}

fn list<'a>(value: &'a Value, key: &str) -> anyhow::Result<&'a Vec<Value>> {
    value[key]
        .as_array()
        .with_context(|| format!("cargo metadata has no list `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lints_table_is_found() {
        assert!(takes_lints("[package]\n[lints]\nworkspace = true\n"));
        assert!(!takes_lints("[package]\n[lints]\n[x]\nworkspace = true\n"));
        assert!(!takes_lints("[package]\nworkspace = true\n"));
    }

    #[test]
    fn cargo_knows_this_crate() {
        let workspace = Workspace::load().unwrap();
        let ours = workspace.crates.iter().find(|one| one.name == "xtask");
        let ours = ours.expect("xtask is a member");
        assert_eq!(ours.folder, "xtask");
        assert!(
            ours.dependencies
                .iter()
                .any(|one| one.name == "anyhow" && !one.is_ours)
        );
    }
}
