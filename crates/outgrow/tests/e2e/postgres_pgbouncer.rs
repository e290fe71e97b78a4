//! `outgrow pgbouncer` from outside: a real Postgres, PgBouncer's file, psql as the client and as the
//! administrator, signals.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use outgrow_testkit::databases::{self, Server};
use outgrow_testkit::folder::Folder;
use outgrow_testkit::postgres::Session;
use outgrow_testkit::{outgrow, ports, processes, wait};
use rustix::process::Signal;

/// How long anything may take that takes no time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pooler with its database.
struct Pooler {
    child: Child,
    folder: Folder,
    /// Where its Unix socket is: as deep as the path of one may be.
    sockets: PathBuf,
    address: SocketAddr,
    database: Server,
    settings: String,
}

impl Pooler {
    /// With these further settings; none where there is no Postgres.
    fn start(settings: &str) -> Option<Self> {
        if !databases::has_postgres() {
            eprintln!("skipped: apt-get install postgresql");
            return None;
        }
        let database = databases::postgres("host all all 127.0.0.1/32 trust").expect("Postgres");
        let folder = Folder::new("pgbouncer").expect("a folder");
        let address = ports::free(1).expect("a port")[0];
        let sockets = deepest(folder.path(), address.port());
        std::fs::create_dir(&sockets).expect("a folder");
        let file = folder.write("pgbouncer.ini", "").expect("a file");
        let mut pooler = Self {
            child: Command::new("true").spawn().expect("a child"),
            folder,
            sockets,
            address,
            database,
            settings: settings.to_owned(),
        };
        pooler.write("");
        let mut command = Command::new(outgrow::binary().expect("the binary"));
        command.args(["pgbouncer", "--quiet"]).arg(file);
        pooler.child.wait().expect("it ends");
        pooler.child = command.stdin(Stdio::null()).spawn().expect("it starts");
        wait::until("the console answers", PATIENCE, || {
            pooler.order("SHOW VERSION").is_ok().then_some(())
        })
        .expect("it is up");
        Some(pooler)
    }

    /// Writes the file anew, with these further lines.
    fn write(&self, more: &str) {
        let (folder, port) = (self.folder.path().display(), self.address.port());
        let sockets = self.sockets.display();
        let server = self.database.address().port();
        let text = format!(
            "[databases]\n\
             app = host=127.0.0.1 port={server} dbname=postgres user=postgres\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir = {sockets}\n\
             logfile = {folder}/log\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             {}\n{more}\n",
            self.settings
        );
        self.folder.write("pgbouncer.ini", text).expect("a file");
    }

    fn psql(&self, host: &str, database: &str, user: &str) -> Command {
        let mut command = Command::new("psql");
        command
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["-v", "ON_ERROR_STOP=1", "-h", host, "-U", user])
            .args(["-p", &self.address.port().to_string(), database])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A statement, as an application says it.
    fn query(&self, statement: &str) -> Result<String, String> {
        let mut command = self.psql("127.0.0.1", "app", "somebody");
        said(command.args(["-c", statement]).output())
    }

    /// A statement that runs beside us.
    fn query_beside(&self, statement: &str) -> Child {
        let mut command = self.psql("127.0.0.1", "app", "somebody");
        command.args(["-c", statement]).spawn().expect("psql")
    }

    /// An order on the console.
    fn order(&self, order: &str) -> Result<String, String> {
        let folder = self.sockets.display().to_string();
        let mut command = self.psql(&folder, "pgbouncer", "pgbouncer");
        said(command.args(["-c", order]).output())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        processes::signal(self.child.id(), signal).expect("it is there");
    }

    fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait::until("it ends", PATIENCE, || child.try_wait().ok().flatten()).expect("it ends")
    }

    /// Waits until it says no more than `clients` of the database.
    fn wait_clients(&self, wanted: &str) {
        wait::until("the clients are as wanted", PATIENCE, || {
            let pools = self.order("SHOW POOLS").ok()?;
            let line = pools.lines().find(|line| line.starts_with("app|"))?;
            let fields: Vec<&str> = line.split('|').collect();
            (fields[2..4].join("/") == wanted).then_some(())
        })
        .expect(wanted);
    }
}

/// A folder in `folder` in which the path of a Unix socket for `port` is as long as such a path may be.
fn deepest(folder: &Path, port: u16) -> PathBuf {
    const LONGEST: usize = 107;
    let name = format!(".s.PGSQL.{port}");
    let used = folder.as_os_str().len() + name.len() + 2;
    folder.join("s".repeat(LONGEST.saturating_sub(used).max(1)))
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn said(output: std::io::Result<Output>) -> Result<String, String> {
    let output = output.expect("psql runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

#[test]
fn applications_and_administrators_are_served() {
    let Some(pooler) = Pooler::start("") else {
        return;
    };
    assert_eq!(pooler.query("SELECT 40 + 2").as_deref(), Ok("42"));
    let version = pooler.order("SHOW VERSION").expect("it says so");
    assert!(version.starts_with("PgBouncer 1."), "{version}");
    let mut command = Command::new(outgrow::binary().expect("the binary"));
    let first = said(command.args(["pgbouncer", "--version"]).output());
    assert_eq!(first.as_deref(), Ok(version.as_str()));
    let databases = pooler.order("SHOW DATABASES").expect("they are shown");
    assert!(databases.contains("app|127.0.0.1|"), "{databases}");
    let servers = pooler.order("SHOW SERVERS").expect("they are shown");
    assert!(servers.starts_with("S|postgres|app|"), "{servers}");
    let refused = pooler.order("DROP EVERYTHING").expect_err("no order");
    assert!(refused.contains("use SHOW HELP;"), "{refused}");
    let log = pooler.log();
    for words in [
        "login attempt: db=app user=somebody tls=no replication=no",
        "new connection to server (from 127.0.0.1:",
        "closing because: client close request",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn nobody_notices_a_pause() {
    let Some(pooler) = Pooler::start("") else {
        return;
    };
    let mut running: Vec<Child> = (0..4)
        .map(|_| pooler.query_beside("SELECT pg_sleep(3); SELECT 7"))
        .collect();
    pooler.wait_clients("4/0");
    // Answered when what runs has ended.
    assert!(pooler.order("PAUSE").is_ok());
    let before = pooler.order("SHOW SERVERS").expect("they are shown");
    assert!(!before.contains("|active|"), "{before}");
    running.extend((0..4).map(|_| pooler.query_beside("SELECT 7")));
    std::thread::sleep(Duration::from_millis(300));
    let refused = pooler.order("PAUSE").expect_err("twice");
    assert!(refused.contains("already suspended/paused"), "{refused}");
    assert!(pooler.order("RESUME").is_ok());
    for child in running {
        let output = child.wait_with_output();
        let text = said(output).expect("every client is served");
        assert!(text.ends_with('7'), "{text}");
    }
    assert!(pooler.order("RESUME").is_err());
}

#[test]
fn a_reload_changes_all_or_nothing() {
    let Some(pooler) = Pooler::start("") else {
        return;
    };
    assert!(pooler.query("SELECT 1").is_ok());
    pooler.write("pool_mode = nonsense");
    let refused = pooler.order("RELOAD").expect_err("it is refused");
    assert!(refused.contains("RELOAD failed, see logs"), "{refused}");
    assert!(pooler.log().contains("invalid value \"nonsense\""));
    assert!(pooler.query("BEGIN; SELECT 1; COMMIT").is_ok());
    pooler.write("pool_mode = statement\n[databases]\nother = host=127.0.0.1");
    pooler.signal(Signal::HUP);
    wait::until("the new mode is there", PATIENCE, || {
        let config = pooler.order("SHOW CONFIG").ok()?;
        config.contains("pool_mode|statement|").then_some(())
    })
    .expect("it is read again");
    // It has its answer before it is sent away.
    let _answer = pooler.query("BEGIN; SELECT 1");
    let words = "closing because: transaction blocks not allowed in statement pooling mode";
    wait::until("it is sent away", PATIENCE, || {
        pooler.log().contains(words).then_some(())
    })
    .expect("no transactions");
    assert!(pooler.order("SET pool_mode = 'session'").is_ok());
    assert!(pooler.query("BEGIN; SELECT 1; COMMIT").is_ok());
    assert!(pooler.order("SHOW DATABASES").unwrap().contains("\nother|"));
}

#[test]
fn clients_are_killed() {
    let Some(pooler) = Pooler::start("") else {
        return;
    };
    let sleeping = pooler.query_beside("SELECT pg_sleep(60)");
    pooler.wait_clients("1/0");
    let clients = pooler.order("SHOW CLIENTS").expect("they are shown");
    let line = clients.lines().find(|line| line.contains("|app|"));
    let number = line
        .and_then(|line| line.rsplit('|').next())
        .expect("an id");
    assert!(pooler.order(&format!("KILL_CLIENT {number}")).is_ok());
    let told = said(sleeping.wait_with_output()).expect_err("it is killed");
    assert!(told.contains("admin forced disconnect"), "{told}");
    let gone = pooler.order(&format!("KILL_CLIENT {number}"));
    assert!(gone.is_err_and(|error| error.contains("client not found")));
    let sleeping = pooler.query_beside("SELECT pg_sleep(60)");
    pooler.wait_clients("1/0");
    assert!(pooler.order("KILL app").is_ok());
    assert!(said(sleeping.wait_with_output()).is_err());
    assert!(pooler.order("RESUME app").is_ok());
    assert_eq!(pooler.query("SELECT 1").as_deref(), Ok("1"));
}

#[test]
fn the_terminated_wait_for_their_clients() {
    let Some(mut pooler) = Pooler::start("") else {
        return;
    };
    let mut command = pooler.psql("127.0.0.1", "app", "somebody");
    let mut client = command.stdin(Stdio::piped()).spawn().expect("psql");
    let mut input = client.stdin.take().expect("its input");
    writeln!(input, "SELECT 1;").expect("it reads");
    pooler.wait_clients("1/0");
    pooler.signal(Signal::TERM);
    let address = pooler.address;
    wait::until("nobody is let in", PATIENCE, || {
        TcpStream::connect(address).is_err().then_some(())
    })
    .expect("the port is closed");
    assert!(pooler.order("SHOW VERSION").is_ok(), "the console is there");
    assert!(pooler.child.try_wait().expect("a child").is_none());
    writeln!(input, "SELECT 2;").expect("it reads");
    drop(input);
    let text = said(client.wait_with_output());
    assert_eq!(text.as_deref(), Ok("1\n2"));
    assert!(pooler.wait_exit().success());
    assert!(pooler.log().contains("client connections dropped, exiting"));
    let socket = format!(".s.PGSQL.{}", address.port());
    assert!(!pooler.sockets.join(socket).exists());
}

#[test]
fn the_interrupted_wait_for_transactions() {
    let Some(mut pooler) = Pooler::start("default_pool_size = 1") else {
        return;
    };
    let running = pooler.query_beside("SELECT pg_sleep(2); SELECT 7");
    pooler.wait_clients("1/0");
    let waiting = pooler.query_beside("SELECT 1");
    pooler.wait_clients("1/1");
    pooler.signal(Signal::INT);
    let told = said(waiting.wait_with_output()).expect_err("it gets no connection");
    assert!(told.contains("server shutting down"), "{told}");
    assert!(pooler.wait_exit().success());
    drop(running);
    assert!(pooler.log().contains("server connections dropped, exiting"));
}

#[test]
fn a_new_process_takes_sockets_and_clients_over() {
    let Some(mut pooler) = Pooler::start("") else {
        return;
    };
    let open = |address| {
        let parameters = [("user", "postgres"), ("database", "app")];
        Session::start(address, &parameters).expect("let in")
    };
    let (mut idle, mut amid) = (open(pooler.address), open(pooler.address));
    idle.query("SET application_name = 'kept'").expect("set");
    idle.prepare("own", "SELECT 41 + $1::int")
        .expect("prepared");
    amid.query("BEGIN").expect("begun");
    for round in 0..3 {
        let mut command = Command::new(outgrow::binary().expect("the binary"));
        command.args(["pgbouncer", "--quiet", "-R"]);
        command.arg(pooler.folder.path().join("pgbouncer.ini"));
        let next = command.stdin(Stdio::null()).spawn().expect("it starts");
        let mut old = std::mem::replace(&mut pooler.child, next);
        // Who is at rest is the new one's; who is in a transaction ends it first.
        let rows = idle.execute("own", &[Some("1")]).expect("prepared");
        assert_eq!(rows, [[Some("42".to_owned())]]);
        let name = idle.value("SHOW application_name").expect("shown");
        assert_eq!(name, "kept", "round {round}");
        amid.query("SELECT 1").expect("it goes on");
        amid.query("COMMIT").expect("committed");
        let status = wait::until("the old one ends", PATIENCE, || old.try_wait().transpose());
        assert!(status.expect("it ends").expect("it ended").success());
        amid.query("BEGIN").expect("begun again");
        open(pooler.address).leave().expect("it leaves");
        pooler.order("SHOW VERSION").expect("the console answers");
    }
    let log = pooler.folder.path().join("log");
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.contains("2 clients were handed over, exiting"), "{log}");
    // Also what was said before the file was opened.
    assert!(log.contains("2 listening sockets were taken over"), "{log}");
}
