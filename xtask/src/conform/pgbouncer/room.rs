//! Where the tests run: a copy of them in a folder with a short name, since paths of Unix sockets
//! are short, and namespaces in which they may do what they want.
//!
//! As root the tests run as `nobody`; else as who we are. Network, mounts and processes are their
//! own: the firewall that they change is nobody else's, names are looked up at a resolver that knows
//! none, and whatever is left of them at the end is killed. Deliberately not here: what is tested.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::command;

/// Of the checkout, what the tests use.
const COPIED: [&str; 3] = ["test", "include/bouncer.h", "pyproject.toml"];
/// What the tests would read of a PgBouncer that was built in the checkout.
const FEATURES: &str = "tls_support = yes\nldap_support = no\n";
/// The user in whose name root runs the tests.
const USER: &str = "nobody";
/// Prepares the namespaces and starts what follows.
const PREPARE: &str = include_str!("prepare.sh");
/// What the tests call for the firewall: they have the rights already.
const SUDO: &str = include_str!("sudo.sh");
/// The resolver.
const RESOLVER: &str = include_str!("resolver.py");

/// What the tests' certificates are made with, and what is put in its place.
const CERTIFICATES: (&str, &str) = (
    "default_md = sha256\n",
    "default_md = sha256\nx509_extensions = version-3\n\n[version-3]\n\
     subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n\n[test-ca]\n",
);

/// The folder; removed when dropped.
pub(super) struct Room {
    folder: PathBuf,
    is_root: bool,
}

impl Room {
    /// Copies the tests and `binary`, which they will start with `word` before their arguments.
    pub(super) fn create(
        checkout: &Path,
        binary: &Path,
        word: Option<&str>,
    ) -> anyhow::Result<Self> {
        let folder = PathBuf::from(format!("/tmp/pgb-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let is_root = command::output(Command::new("id").arg("-u"))?.trim() == "0";
        let room = Self { folder, is_root };
        room.fill(checkout, binary, word)?;
        if is_root {
            let mut own = Command::new("chown");
            command::must(own.args(["-R", USER]).arg(&room.folder))?;
        }
        Ok(room)
    }

    fn fill(&self, checkout: &Path, binary: &Path, word: Option<&str>) -> anyhow::Result<()> {
        let suite = self.folder.join("suite");
        for name in COPIED {
            let place = suite.join(name);
            let parent = place.parent().unwrap_or(&suite);
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
            let mut copy = Command::new("cp");
            command::must(copy.arg("-R").arg(checkout.join(name)).arg(&place))?;
        }
        self.modernise_certificates(&suite)?;
        self.write("suite/config.mak", FEATURES)?;
        // The binary may be where the tests' user cannot go.
        let tested = self.folder.join("tested");
        fs::copy(binary, &tested).with_context(|| format!("cannot copy {}", binary.display()))?;
        let word = word.unwrap_or_default();
        let start = format!("#!/bin/sh\nexec {} {word} \"$@\"\n", tested.display());
        self.write("start", &start)?;
        fs::create_dir(self.folder.join("bin")).context("cannot create a folder")?;
        self.write("bin/sudo", SUDO)?;
        self.write("resolver.py", RESOLVER)?;
        self.write("resolv.conf", "nameserver 127.0.0.1\n")
    }

    /// Has certificates made as OpenSSL makes them since 3.2: of version 3. Older ones make them of
    /// version 1 where nothing is said, which our TLS library refuses, like most.
    fn modernise_certificates(&self, suite: &Path) -> anyhow::Result<()> {
        let name = "test/ssl/newca.sh";
        let path = suite.join(name);
        let script =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::ensure!(
            script.contains(CERTIFICATES.0),
            "{name} is not as it was: look at CERTIFICATES",
        );
        let script = script.replacen(CERTIFICATES.0, CERTIFICATES.1, 1);
        self.write(&format!("suite/{name}"), &script)
    }

    /// Writes a file that may be executed.
    fn write(&self, name: &str, content: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, content)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// A command that runs `program` as the tests are to be run, in the copy of the suite.
    pub(super) fn command(&self, program: &Path) -> anyhow::Result<Command> {
        let mut inside = Command::new("unshare");
        if !self.is_root {
            inside.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        inside
            .args(["--net", "--mount", "--pid", "--mount-proc"])
            .args(["--fork", "--kill-child"])
            .args(["sh", "-c", PREPARE, "sh"])
            .arg(&self.folder);
        if self.is_root {
            let group = command::output(Command::new("id").args(["-g", USER]))?;
            inside
                .args(["setpriv", "--clear-groups", "--reuid", USER])
                .args(["--regid", group.trim()])
                .args(["--inh-caps", "+net_admin,+net_raw"])
                .args(["--ambient-caps", "+net_admin,+net_raw"]);
        }
        let path = format!(
            "{}:{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            self.folder.join("bin").display(),
            postgres()?.display(),
        );
        inside
            .arg(program)
            .current_dir(self.folder.join("suite"))
            .env_clear()
            .env("PATH", path)
            .env("HOME", &self.folder)
            .env("TMPDIR", &self.folder)
            .env("LANG", "C.UTF-8")
            .env("BOUNCER_EXE", self.folder.join("start"))
            .env("USE_SUDO", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // Reasons are not cut off.
            .env("COLUMNS", "1000");
        Ok(inside)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// The folder of the newest Postgres' programs.
fn postgres() -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("there is no Postgres")?;
    versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|folder| folder.join("initdb").exists())
        .max_by_key(|folder| version(folder))
        .context("there is no initdb: apt-get install postgresql")
}

/// `15` of `/usr/lib/postgresql/15/bin`.
fn version(folder: &Path) -> Option<u32> {
    folder.parent()?.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        let check = |folder: &str, expected| assert_eq!(version(Path::new(folder)), expected);
        check("/usr/lib/postgresql/15/bin", Some(15));
        check("/usr/lib/postgresql/9.6/bin", None);
        assert!(version(Path::new("/p/9/bin")) < version(Path::new("/p/15/bin")));
    }
}
