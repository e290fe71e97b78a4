//! Python with what the tests need, in an environment of its own below the target folder.
//!
//! The versions are those that our scores are for: two tests depend on psycopg's. Deliberately not
//! here: libpq; psycopg takes the system's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::command;

/// The system's Python: other ones may be where the tests' user cannot go.
const PYTHON: &str = "/usr/bin/python3";

const PACKAGES: [&str; 6] = [
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "pytest-timeout==2.4.0",
    "pytest-xdist==3.8.0",
    "psycopg==3.3.9",
    "filelock==4.3.1",
];

/// The Python of the environment, made when it is not there or has other packages.
pub(super) fn environment(folder: &Path) -> anyhow::Result<PathBuf> {
    let place = folder.join("pgbouncer-python");
    let python = place.join("bin/python");
    let (note, wanted) = (place.join("packages"), PACKAGES.join("\n"));
    if fs::read_to_string(&note).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    eprintln!("installing: {}", PACKAGES.join(" "));
    let mut create = Command::new(PYTHON);
    create.args(["-m", "venv", "--clear"]).arg(&place);
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet"])
        .args(["--disable-pip-version-check", "--no-input"])
        .args(PACKAGES);
    command::output(&mut create)
        .and_then(|_| command::output(&mut install))
        .context("the tests need Python's venv and pip: apt-get install python3-venv")?;
    fs::write(&note, wanted).with_context(|| format!("cannot write {}", note.display()))?;
    Ok(python)
}
