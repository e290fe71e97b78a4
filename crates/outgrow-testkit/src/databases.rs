//! Real database servers of Debian's packages on free ports, each with a folder of its own:
//! Postgres and Redis, as primaries and replicas. Stopped on drop.
//!
//! Postgres does not run as root: for root it runs as the user that its package made.

mod encrypted;

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

use crate::{
    folder::Folder,
    ports,
    postgres::{PostgresError, Session},
    wait,
};

/// How long a server may take until it does what it was started for.
const START_TIME: Duration = Duration::from_secs(60);

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    folder: Folder,
    /// Settings of Postgres besides the usual ones (`name=value`), for a second start.
    settings: Vec<String>,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process; for Postgres that from which all others come.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where a Postgres has its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }

    fn start(mut command: Command, address: SocketAddr, folder: Folder) -> io::Result<Self> {
        let mut child = start_child(&mut command, folder.path())?;
        if accepts_soon(&mut child, address) {
            return Ok(Self {
                child,
                address,
                folder,
                settings: Vec::new(),
            });
        }
        let said = fs::read_to_string(folder.path().join(LOG)).unwrap_or_default();
        Err(io::Error::other(format!("it does not start: {said}")))
    }
}

/// The file in a server's folder with what it says.
const LOG: &str = "log";

fn start_child(command: &mut Command, folder: &Path) -> io::Result<Child> {
    let output = File::options()
        .create(true)
        .append(true)
        .open(folder.join(LOG))?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
}

/// Waits until it accepts; one that does not is ended.
fn accepts_soon(child: &mut Child, address: SocketAddr) -> bool {
    let up = wait::until("the server accepts", START_TIME, || {
        let exited = child.try_wait().is_ok_and(|status| status.is_some());
        let accepts = !exited && TcpStream::connect(address).is_ok();
        (exited || accepts).then_some(accepts)
    });
    let accepts = up == Ok(true);
    if !accepts {
        // It may have ended by itself.
        let _ended = child.kill();
        let _ended = child.wait();
    }
    accepts
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
    postgres_as(address, access, &[])
}

/// The same on a free port with further settings (`max_connections=300`).
///
/// # Errors
/// As [`postgres`].
pub fn postgres_with(access: &str, settings: &[&str]) -> io::Result<Server> {
    postgres_as(ports::free(1)?[0], access, settings)
}

fn postgres_as(address: SocketAddr, access: &str, settings: &[&str]) -> io::Result<Server> {
    let (folder, data) = postgres_folder()?;
    let template = postgres_template()?;
    run(Command::new("cp").arg("-a").arg(template).arg(&data))?;
    fs::write(
        data.join("pg_hba.conf"),
        format!("local all all trust\n{access}\n"),
    )?;
    let settings = settings.iter().map(|&one| one.to_owned()).collect();
    start_postgres(folder, &data, address, settings)
}

/// The data of a new server, made once for all tests of a user: making them takes seconds, a copy
/// does not.
fn postgres_template() -> io::Result<PathBuf> {
    let program = postgres_program("initdb").ok_or_else(|| missing("initdb"))?;
    let version = command_output(Command::new(&program).arg("--version"))?;
    let mut words = version.split_whitespace();
    let version = words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    let user = rustix::process::getuid().as_raw();
    let name = format!(
        "outgrow-testkit-postgres-{}-{user}",
        version.unwrap_or("any")
    );
    let folder = env::temp_dir().join(&name);
    let turns = File::create(env::temp_dir().join(format!("{name}.lock")))?;
    turns.lock()?;
    let data = folder.join("data");
    if data.is_dir() {
        return Ok(data);
    }
    fs::create_dir_all(&folder)?;
    own_by_postgres(&folder)?;
    // One that was not finished.
    let part = folder.join("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    let mut command = as_postgres("initdb")?;
    command.args(["--username=postgres", "--auth=trust", "--no-sync", "-D"]);
    run(command.arg(&part))?;
    fs::rename(&part, &data)?;
    Ok(data)
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

    /// Starts Postgres again at the same address on the same data, after [`Server::kill`].
    ///
    /// # Errors
    /// When it does not start; says what it wrote.
    pub fn restart(&mut self) -> io::Result<()> {
        let data = self.folder.path().join("data");
        let again = || {
            let command = postgres_command(self.folder.path(), &data, self.address, &self.settings);
            start_child(&mut command?, self.folder.path())
        };
        // The last processes of the one before may still end.
        let child = wait::until("Postgres starts again", START_TIME, || {
            let mut child = again().ok()?;
            accepts_soon(&mut child, self.address).then_some(child)
        });
        self.child = child.map_err(io::Error::other)?;
        wait_started(self.address)
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
        start_postgres(folder, &data, ports::free(1)?[0], self.settings.clone())
    }
}

fn postgres_folder() -> io::Result<(Folder, PathBuf)> {
    let folder = Folder::new("postgres")?;
    own_by_postgres(folder.path())?;
    let data = folder.path().join("data");
    Ok((folder, data))
}

/// Postgres runs as another user than root.
fn own_by_postgres(folder: &Path) -> io::Result<()> {
    if rustix::process::getuid().is_root() {
        run(Command::new("chown").arg("postgres").arg(folder))?;
    }
    Ok(())
}

fn start_postgres(
    folder: Folder,
    data: &Path,
    address: SocketAddr,
    settings: Vec<String>,
) -> io::Result<Server> {
    let command = postgres_command(folder.path(), data, address, &settings)?;
    let mut server = Server::start(command, address, folder)?;
    server.settings = settings;
    wait_started(address)?;
    Ok(server)
}

/// Postgres accepts before it has read its data, and sends everybody away until then.
fn wait_started(address: SocketAddr) -> io::Result<()> {
    let started = || {
        let start = [("user", "postgres"), ("database", "postgres")];
        match Session::start(address, &start) {
            Err(PostgresError::Said(problem)) => (problem.code != "57P03").then_some(()),
            // A demand for a password is an answer as well.
            Ok(_) | Err(PostgresError::Unexpected(_)) => Some(()),
            Err(PostgresError::Io(_)) => None,
        }
    };
    wait::until("Postgres has started", START_TIME, started).map_err(io::Error::other)
}

fn postgres_command(
    folder: &Path,
    data: &Path,
    address: SocketAddr,
    settings: &[String],
) -> io::Result<Command> {
    let mut command = as_postgres("postgres")?;
    command
        .arg("-D")
        .arg(data)
        .args(["-p", &address.port().to_string()])
        .args(["-c", &format!("listen_addresses={}", address.ip())])
        .args(["-c", "fsync=off"])
        .args(["-c", "shared_buffers=8MB", "-c", "autovacuum=off"])
        .args(settings.iter().flat_map(|one| ["-c", one]))
        .arg("-k")
        .arg(folder);
    Ok(command)
}

/// A program of Postgres, run as a user that it runs as.
fn as_postgres(program: &str) -> io::Result<Command> {
    let path = postgres_program(program).ok_or_else(|| missing(program))?;
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

fn missing(program: &str) -> io::Error {
    io::Error::other(format!("{program}: apt-get install postgresql"))
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
    command_output(command).map(|_| ())
}

fn command_output(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{command:?}: {said}")))
}
