//! A Postgres of Debian's packages for the bench and for `conform`: on a free port, in a folder of its
//! own, with everybody trusted.
//!
//! The test kit has one as well (`outgrow_testkit::databases`); it is not used here so that xtask needs
//! no TLS library to be built. Deliberately not here: what is asked of it.

pub(crate) mod wire;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::bench::process::Running;
use crate::{command, setup};

/// The user that its package makes.
const USER: &str = "postgres";

/// A server; ended when dropped.
pub(crate) struct Server {
    /// Before the folder: dropped first.
    _running: Running,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _folder: Folder,
}

impl Server {
    /// Makes and starts one. `settings` are `name=value`; `cores` are as taskset takes them, none is
    /// all.
    pub(crate) fn start(settings: &[String], cores: Option<&str>) -> anyhow::Result<Self> {
        let folder = Folder::create("postgres")?;
        folder.give_to_postgres()?;
        let data = folder.path.join("data");
        let mut initdb = as_postgres(&program("initdb")?)?;
        initdb.args(["--username=postgres", "--auth=trust", "--no-sync", "-D"]);
        command::output(initdb.arg(&data))?;
        let address = free_address()?;
        let postgres = as_postgres(&program("postgres")?)?;
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", cores.unwrap_or("0-1023")]);
        pinned.arg(postgres.get_program()).args(postgres.get_args());
        pinned
            .arg("-D")
            .arg(&data)
            .args(["-p", &address.port().to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", "autovacuum=off", "-k"])
            .arg(&folder.path)
            .args(settings.iter().flat_map(|one| ["-c", one]))
            .current_dir("/");
        let output = folder.path.join("output.log");
        let mut running = Running::spawn("postgres", pinned, &output, None)?;
        running.wait_until(&format!("let a client in at {address}"), || {
            wire::Client::connect(address, USER, USER).is_ok()
        })?;
        Ok(Self {
            _running: running,
            address,
            _folder: folder,
        })
    }
}

/// A folder that a user of another name may enter; removed when dropped.
pub(crate) struct Folder {
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl Folder {
    /// Creates it. Its path is short, since those of Unix sockets are.
    pub(crate) fn create(name: &str) -> anyhow::Result<Self> {
        let name = format!("outgrow-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }

    /// Lets the programs that do not run as root write into it.
    pub(crate) fn give_to_postgres(&self) -> anyhow::Result<()> {
        give_to_postgres(&self.path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Gives a folder and what is in it to the user of [`as_postgres`].
pub(crate) fn give_to_postgres(folder: &Path) -> anyhow::Result<()> {
    if is_root()? {
        command::must(Command::new("chown").args(["-R", USER]).arg(folder))?;
    }
    Ok(())
}

/// `program`, as a user that is not root: for those that refuse to run as root.
pub(crate) fn as_postgres(program: &Path) -> anyhow::Result<Command> {
    if !is_root()? {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]);
    command.arg(program).current_dir("/");
    Ok(command)
}

fn is_root() -> anyhow::Result<bool> {
    Ok(command::output(Command::new("id").arg("-u"))?.trim() == "0")
}

/// A program of the newest Postgres, which is installed when it is missing.
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let find = || {
        let path = newest_folder()?.join(name);
        path.exists().then_some(path)
    };
    if find().is_none() {
        setup::install_debian(&["postgresql"])?;
    }
    find().with_context(|| format!("there is no {name}: apt-get install postgresql"))
}

/// The folder of its programs: Debian keeps each version in one of its own.
fn newest_folder() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .flatten()
        .filter_map(|version| {
            let number: u32 = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin")))
        })
        .max()
        .map(|(_, folder)| folder)
}

/// An address of loopback at which nobody listens.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}
