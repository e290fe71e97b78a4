//! A Python environment of its own below the target folder, with packages of the registry.
//!
//! Deliberately not here: which packages; who runs a suite knows its versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::command;

/// The system's Python: other ones may be where the tests' user cannot go.
const PYTHON: &str = "/usr/bin/python3";

/// The folder of an environment's programs, made when it is not there or has other packages.
pub(super) fn environment(folder: &Path, name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let place = folder.join(format!("{name}-python"));
    let programs = place.join("bin");
    let (note, wanted) = (place.join("packages"), packages.join("\n"));
    if fs::read_to_string(&note).is_ok_and(|there| there == wanted) {
        return Ok(programs);
    }
    eprintln!("installing: {}", packages.join(" "));
    let mut create = Command::new(PYTHON);
    create.args(["-m", "venv", "--clear"]).arg(&place);
    let mut install = Command::new(programs.join("python"));
    install
        .args(["-m", "pip", "install", "--quiet"])
        .args(["--disable-pip-version-check", "--no-input"])
        .args(packages);
    command::output(&mut create)
        .and_then(|_| command::output(&mut install))
        .context("the tests need Python's venv and pip: apt-get install python3-venv")?;
    fs::write(&note, wanted).with_context(|| format!("cannot write {}", note.display()))?;
    Ok(programs)
}
