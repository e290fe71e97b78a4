//! Real database servers of Debian's packages on free ports, each with a folder of its own:
//! Postgres and Redis, as primaries and replicas. Stopped on drop.
//!
//! Postgres does not run as root: for root it runs as the user that its package made.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{folder::Folder, ports, wait};

/// How long a server may take until it does what it was started for.
const START_TIME: Duration = Duration::from_secs(60);

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    folder: Folder,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }

    fn start(mut command: Command, address: SocketAddr, folder: Folder) -> io::Result<Self> {
        let log = folder.path().join("log");
        let output = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut server = Self {
            child,
            address,
            folder,
        };
        let up = wait::until("the server accepts", START_TIME, || {
            let exited = server.child.try_wait().is_ok_and(|status| status.is_some());
            let accepts = !exited && TcpStream::connect(address).is_ok();
            (exited || accepts).then_some(accepts)
        });
        if up == Ok(true) {
            return Ok(server);
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        Err(io::Error::other(format!("it does not start: {said}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether this machine has Redis.
pub fn has_redis() -> bool {
    find("redis-server", &[]).is_some()
}

/// Starts Redis with these further settings (`--requirepass x`).
///
/// # Errors
/// When it does not start; says what it wrote.
pub fn redis(settings: &[&str]) -> io::Result<Server> {
    redis_at(ports::free(1)?[0], settings)
}

/// The same at this address: for one that starts again, without what it knew.
///
/// # Errors
/// As [`redis`].
pub fn redis_at(address: SocketAddr, settings: &[&str]) -> io::Result<Server> {
    let folder = Folder::new("redis")?;
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &address.port().to_string()])
        .arg("--dir")
        .arg(folder.path())
        .args(settings)
        .current_dir(folder.path());
    Server::start(command, address, folder)
}

/// Whether this machine has Postgres.
pub fn has_postgres() -> bool {
    postgres_program("initdb").is_some()
}

/// Starts a Postgres primary; `access` is its `pg_hba.conf`. The superuser `postgres` gets in from
/// its folder's socket (see [`Server::query`]); replicas connect as `replicator`, without a
/// password where `access` says so.
///
/// # Errors
/// When it does not start; says what it wrote.
pub fn postgres(access: &str) -> io::Result<Server> {
    postgres_at(ports::free(1)?[0], access)
}

/// The same at an address of this machine's (or box's) own; its superuser is reached as before.
///
/// # Errors
/// As [`postgres`].
pub fn postgres_at(address: SocketAddr, access: &str) -> io::Result<Server> {
    let (folder, data) = postgres_folder()?;
    let mut command = as_postgres("initdb")?;
    command.args(["--username=postgres", "--auth=trust", "--no-sync", "-D"]);
    run(command.arg(&data))?;
    fs::write(
        data.join("pg_hba.conf"),
        format!("local all all trust\n{access}\n"),
    )?;
    start_postgres(folder, &data, address)
}

impl Server {
    /// Has it draw no breath, and then again.
    ///
    /// # Errors
    /// When it is gone.
    pub fn suspend(&self, suspended: bool) -> io::Result<()> {
        let signal = match suspended {
            true => rustix::process::Signal::STOP,
            false => rustix::process::Signal::CONT,
        };
        crate::processes::signal(self.child.id(), signal)
    }

    /// Has Postgres execute a statement, as the superuser.
    ///
    /// # Errors
    /// When it does not; says what it wrote.
    pub fn query(&self, statement: &str) -> io::Result<()> {
        let mut command = Command::new("psql");
        command
            .args(["--no-psqlrc", "--quiet", "-U", "postgres", "-d", "postgres"])
            .args(["-p", &self.address.port().to_string(), "-h"])
            .arg(self.folder.path())
            .args(["-c", statement]);
        run(&mut command)
    }

    /// Starts a Postgres replica of this one.
    ///
    /// # Errors
    /// When it does not start; says what it wrote.
    pub fn postgres_replica(&self) -> io::Result<Self> {
        let (folder, data) = postgres_folder()?;
        let mut command = as_postgres("pg_basebackup")?;
        command
            .args(["-h", "127.0.0.1", "-p", &self.address.port().to_string()])
            .args(["-U", "replicator", "-R", "--no-sync", "-c", "fast", "-D"]);
        run(command.arg(&data))?;
        start_postgres(folder, &data, ports::free(1)?[0])
    }
}

fn postgres_folder() -> io::Result<(Folder, PathBuf)> {
    let folder = Folder::new("postgres")?;
    if rustix::process::getuid().is_root() {
        run(Command::new("chown").arg("postgres").arg(folder.path()))?;
    }
    let data = folder.path().join("data");
    Ok((folder, data))
}

fn start_postgres(folder: Folder, data: &Path, address: SocketAddr) -> io::Result<Server> {
    let mut command = as_postgres("postgres")?;
    command
        .arg("-D")
        .arg(data)
        .args(["-p", &address.port().to_string()])
        .args(["-c", &format!("listen_addresses={}", address.ip())])
        .args(["-c", "fsync=off"])
        .args(["-c", "shared_buffers=8MB", "-c", "autovacuum=off", "-k"])
        .arg(folder.path());
    Server::start(command, address, folder)
}

/// A program of Postgres, run as a user that it runs as.
fn as_postgres(program: &str) -> io::Result<Command> {
    let path = postgres_program(program)
        .ok_or_else(|| io::Error::other(format!("{program}: apt-get install postgresql")))?;
    let mut command = if rustix::process::getuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--",
        ]);
        command.arg(path);
        command
    } else {
        Command::new(path)
    };
    // Not a folder that the other user may not see.
    command.current_dir("/");
    Ok(command)
}

/// Debian keeps them outside of the PATH, in a folder for each version.
fn postgres_program(name: &str) -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok();
    let mut folders: Vec<PathBuf> = versions
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    folders.sort();
    find(name, &folders)
}

/// The program in one of these folders, the last one first, or in the PATH.
fn find(name: impl AsRef<OsStr>, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path);
    let mut all = folders.iter().rev().cloned().chain(in_path);
    all.find_map(|folder| {
        let program = folder.join(name.as_ref());
        program.is_file().then_some(program)
    })
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{command:?}: {said}")))
}
