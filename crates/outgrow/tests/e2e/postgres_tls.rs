//! The Postgres tier over TLS, to clients and to servers, and behind proxies. Clients are psql and
//! OpenSSL, which know nothing of us; the server is a Postgres with and without TLS.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use outgrow_testkit::{
    authority::{Authority, Issued},
    databases::{self, Server},
    folder::Folder,
    outgrow::{Launch, Outgrow},
    postgres::{Session, message},
};

use crate::{checks::is_there, shop::SOON};

/// Who may come in where at the server.
const ACCESS: &str = "\
    hostssl   all bound  127.0.0.1/32 scram-sha-256\n\
    hostssl   all shown  127.0.0.1/32 cert\n\
    hostssl   all strict 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n\
    host      all all    127.0.0.1/32 trust";

/// A query that tells whether the server connection is encrypted.
const ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// A Postgres with these users.
fn database() -> Option<Server> {
    if !is_there(databases::has_postgres(), "postgresql") {
        return None;
    }
    let database = databases::postgres(ACCESS).expect("Postgres starts");
    for role in ["bound", "shown", "strict", "ann"] {
        let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'apple'");
        database.query(&create).expect("created");
    }
    Some(database)
}

/// A pool in front of `server` with these lines in `[postgres]` and after it.
fn config(settings: &str, tables: &str, server: &str) -> String {
    format!(
        "[postgres]\nlisten = [\"%pooler%\"]\nservice = \"db\"\n{settings}\n\
         timeouts = {{ wait = \"3s\", connect_retry = \"20ms\" }}\n{tables}\n\
         [service.db]\nendpoints = [\"{server}\"]\n"
    )
}

/// The users that have a password.
const USERS: &str = "[postgres.user]\nann = { password = \"apple\" }\nbob = { password = \"apple\" }\n\
                     bound = { password = \"apple\" }\nshown = { password = \"apple\" }\n\
                     strict = { password = \"apple\" }\npostgres = {}\n";

fn start(config: &str) -> Outgrow {
    Launch::config(config).start().expect("outgrow starts")
}

fn pooler(outgrow: &Outgrow) -> SocketAddr {
    outgrow.address("pooler").expect("an address")
}

/// What psql shows of a statement, or the last line of what is wrong.
fn psql(at: SocketAddr, options: &str, sql: &str) -> Result<String, String> {
    let target = format!("hostaddr=127.0.0.1 port={} {options}", at.port());
    let target = match target.contains(" host=") || options.contains("host=/") {
        true => target,
        false => format!("{target} host=localhost"),
    };
    run_psql(&target, sql)
}

fn run_psql(target: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "-c",
            sql,
            target,
        ])
        .env("PGPASSWORD", "apple")
        .env("PGCONNECT_TIMEOUT", "30")
        .env("HOME", "/nonexistent")
        .output()
        .expect("psql is missing: apt-get install postgresql-client");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

#[track_caller]
fn check(met: Result<String, String>, expected: Result<&str, &str>) {
    match (&met, expected) {
        (Ok(met), Ok(expected)) if met.contains(expected) => {}
        (Err(met), Err(expected)) if met.contains(expected) => {}
        _ => panic!("{met:?} instead of {expected:?}"),
    }
}

/// A certificate's files, where libpq takes the key.
fn files(authority: &Authority, name: &str, issued: &Issued) -> (PathBuf, PathBuf) {
    let (certificate, key) = authority.files(name, issued).expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("private");
    (certificate, key)
}

/// A `[postgres.tls]` with this certificate and these further lines.
fn tls((certificate, key): &(PathBuf, PathBuf), settings: &str) -> String {
    let (certificate, key) = (certificate.display(), key.display());
    format!(
        "[postgres.tls]\ncertificates = [{{ certificate = \"{certificate}\", key = \"{key}\" }}]\n\
         {settings}\n"
    )
}

#[test]
fn clients_verify_us_and_bind_their_logins() {
    let Some(database) = database() else { return };
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let own = authority.issue(&["localhost"]).unwrap();
    let own = files(&authority, "own", &own);
    let server = database.address().to_string();
    let folder = Folder::new("socket").unwrap();
    let with = |mode: &str| {
        let text = config(
            "",
            &(tls(&own, &format!("mode = \"{mode}\"")) + USERS),
            &server,
        );
        let unix = format!("unix:{}/.s.PGSQL.6432", folder.path().display());
        text.replace("\"%pooler%\"", &format!("\"%pooler%\", \"{unix}\""))
    };
    let mut outgrow = start(&with("prefer"));
    let at = pooler(&outgrow);
    let (ca, foreign) = (authority.ca_file().unwrap(), other.ca_file().unwrap());
    let (ca, foreign) = (ca.display(), foreign.display());
    let info = "\\conninfo";
    check(
        psql(at, "user=ann dbname=postgres sslmode=require", info),
        Ok("SSL connection (protocol: TLSv1.3"),
    );
    let full = format!("user=ann dbname=postgres sslmode=verify-full sslrootcert={ca}");
    check(psql(at, &full, info), Ok("SSL connection"));
    check(
        psql(at, &format!("{full} channel_binding=require"), "SELECT 1"),
        Ok("1"),
    );
    check(
        psql(
            at,
            &format!("{full} ssl_max_protocol_version=TLSv1.2 channel_binding=require"),
            info,
        ),
        Ok("TLSv1.2"),
    );
    let wrong_name = format!("{full} host=db.example");
    check(
        psql(at, &wrong_name, info),
        Err("does not match host name \"db.example\""),
    );
    let wrong = format!("user=ann dbname=postgres sslmode=verify-ca sslrootcert={foreign}");
    check(psql(at, &wrong, info), Err("SSL error"));
    let wrong_password = psql(
        at,
        "user=ann dbname=postgres password=pear sslmode=require channel_binding=require",
        "SELECT 1",
    );
    check(
        wrong_password,
        Err("password authentication failed for user \"ann\""),
    );
    let plain = "user=ann dbname=postgres sslmode=disable";
    check(psql(at, plain, "SELECT 1"), Ok("1"));
    check(
        psql(at, &format!("{plain} channel_binding=require"), "SELECT 1"),
        Err("channel binding"),
    );
    outgrow.reload(&with("require")).expect("reloaded");
    check(psql(at, plain, "SELECT 1"), Err("SSL required"));
    check(psql(at, &full, "SELECT 1"), Ok("1"));
    // There it is as safe without.
    let local = format!(
        "host={} port=6432 user=ann dbname=postgres",
        folder.path().display()
    );
    check(run_psql(&local, info), Ok("via socket"));
    let encrypted = run_psql(&format!("{local} sslmode=require"), info).unwrap();
    assert!(!encrypted.contains("SSL connection"), "{encrypted}");
}

#[test]
fn certificates_are_taken_over_at_a_reload() {
    let Some(database) = database() else { return };
    let (before, after) = (Authority::new().unwrap(), Authority::new().unwrap());
    let served = Folder::new("served").unwrap();
    let put = |issued: &Issued| {
        let certificate = served.write("own.pem", &issued.certificate).unwrap();
        (certificate, served.write("own.key", &issued.key).unwrap())
    };
    let own = put(&before.issue(&["localhost"]).unwrap());
    let text = config(
        "",
        &(tls(&own, "") + USERS),
        &database.address().to_string(),
    );
    let mut outgrow = start(&text);
    let at = pooler(&outgrow);
    let with = |authority: &Authority| {
        let ca = authority.ca_file().unwrap();
        let options = format!(
            "user=ann dbname=postgres sslmode=verify-full channel_binding=require sslrootcert={}",
            ca.display()
        );
        psql(at, &options, "SELECT 1")
    };
    check(with(&before), Ok("1"));
    check(with(&after), Err("SSL error"));
    put(&after.issue(&["localhost"]).unwrap());
    outgrow.reload(&text).expect("reloaded");
    check(with(&after), Ok("1"));
    check(with(&before), Err("SSL error"));
    // A key of another certificate: what there was stays.
    served
        .write("own.key", &before.issue(&["localhost"]).unwrap().key)
        .unwrap();
    let refused = outgrow.reload(&text).expect_err("refused").to_string();
    assert!(
        refused.contains("[postgres.tls]") && refused.contains("does not belong"),
        "{refused}"
    );
    check(with(&after), Ok("1"));
}

#[test]
fn clients_log_in_with_certificates() {
    let Some(database) = database() else { return };
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let own = files(&authority, "own", &authority.issue(&["localhost"]).unwrap());
    let shown = |authority: &Authority, name: &str, names: &[&str]| {
        let (certificate, key) = files(authority, name, &authority.issue(names).unwrap());
        format!("sslcert={} sslkey={}", certificate.display(), key.display())
    };
    let ann = shown(&authority, "ann", &["ann"]);
    let either = shown(&authority, "either", &["carol", "ann"]);
    let foreign = shown(&other, "foreign", &["ann"]);
    let ca = format!("ca = \"{}\"", authority.ca_file().unwrap().display());
    let rules = authority.files(
        "rules",
        &Issued {
            certificate: "hostssl all bob all scram-sha-256 clientcert=verify-ca\n\
                      hostssl all all all cert\n"
                .to_owned(),
            key: String::new(),
        },
    );
    let rules = rules.unwrap().0;
    let server = database.address().to_string();
    let with = |settings: &str, mode: &str| {
        config(
            settings,
            &(tls(&own, &format!("{ca}\nmode = \"{mode}\"")) + USERS),
            &server,
        )
    };
    let base =
        |user: &str, shown: &str| format!("user={user} dbname=postgres sslmode=require {shown}");
    let mut outgrow = start(&with("auth = \"cert\"", "prefer"));
    let at = pooler(&outgrow);
    let select = "SELECT current_user";
    let is_not = "certificate authentication failed for user";
    check(psql(at, &base("ann", &ann), select), Ok("ann"));
    check(psql(at, &base("ann", &either), select), Ok("ann"));
    check(psql(at, &base("bob", &ann), select), Err(is_not));
    check(psql(at, &base("ann", ""), select), Err(is_not));
    check(
        psql(at, "user=ann dbname=postgres sslmode=disable", select),
        Err(is_not),
    );
    let unknown = psql(at, &base("ann", &foreign), select).unwrap_err();
    assert!(
        unknown.contains("alert") || unknown.contains("SSL"),
        "{unknown}"
    );
    // Rules say so for each.
    let hba = format!("auth_hba = \"{}\"", rules.display());
    outgrow.reload(&with(&hba, "require")).expect("reloaded");
    check(psql(at, &base("ann", &ann), select), Ok("ann"));
    check(psql(at, &base("ann", ""), select), Err(is_not));
    let valid = "connection requires a valid client certificate";
    check(psql(at, &base("bob", ""), "SELECT 1"), Err(valid));
    // The password, and a certificate that is somebody else's; the server has no bob.
    check(
        psql(at, &base("bob", &ann), "SELECT 1"),
        Err("role \"bob\" does not exist"),
    );
    // For everybody, beside the password.
    outgrow.reload(&with("", "verify-ca")).expect("reloaded");
    check(psql(at, &base("ann", &either), select), Ok("ann"));
    check(
        psql(at, &base("postgres", &ann), select),
        Err("password authentication failed"),
    );
    assert!(psql(at, &base("ann", ""), select).is_err());
    check(
        psql(at, "user=ann dbname=postgres sslmode=disable", select),
        Err("SSL required"),
    );
    outgrow.reload(&with("", "verify-full")).expect("reloaded");
    check(psql(at, &base("ann", &ann), select), Ok("ann"));
    check(
        psql(at, &base("bound", &ann), select),
        Err("authentication failed for user \"bound\""),
    );
    outgrow
        .reload(&with("auth = \"any\"", "verify-full"))
        .expect("reloaded");
    check(psql(at, &base("ann", &ann), select), Ok("ann"));
    check(
        psql(at, &base("postgres", &ann), select),
        Err("authentication failed for user \"postgres\""),
    );
}

/// One database for each way to its servers, all of them the same server.
fn ways(ways: &[(&str, &str)]) -> String {
    let mut tables = String::new();
    for (name, way) in ways {
        tables +=
            &format!("[postgres.database.{name}]\nname = \"postgres\"\nserver_tls = {{ {way} }}\n");
    }
    tables
}

#[test]
fn servers_are_reached_as_it_is_said() {
    let Some(database) = database() else { return };
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let (ca, foreign) = (authority.ca_file().unwrap(), other.ca_file().unwrap());
    let (ca, foreign) = (ca.display(), foreign.display());
    let named =
        |name: &str| format!("mode = \"verify-full\", ca = \"{ca}\", server_name = \"{name}\"");
    let all = [
        ("disable", "mode = \"disable\"".to_owned()),
        ("prefer", "mode = \"prefer\"".to_owned()),
        ("require", "mode = \"require\"".to_owned()),
        (
            "newest",
            "mode = \"require\", min_version = \"1.3\"".to_owned(),
        ),
        ("ca", format!("mode = \"verify-ca\", ca = \"{ca}\"")),
        ("full", format!("mode = \"verify-full\", ca = \"{ca}\"")),
        ("named", named("db.internal")),
        ("misnamed", named("other.internal")),
        (
            "foreign",
            format!("mode = \"verify-ca\", ca = \"{foreign}\""),
        ),
        ("system", "mode = \"verify-ca\"".to_owned()),
    ];
    let all: Vec<_> = all
        .iter()
        .map(|(name, way)| (*name, way.as_str()))
        .collect();
    let tables = ways(&all) + USERS;
    let server = format!("localhost:{}", database.address().port());
    let outgrow = start(&config("auth = \"trust\"", &tables, &server));
    let at = pooler(&outgrow);
    let ask = |name: &str| psql(at, &format!("user=ann dbname={name}"), ENCRYPTED);
    // It has no TLS yet.
    check(ask("disable"), Ok("f"));
    check(ask("prefer"), Ok("f"));
    for name in ["require", "ca", "full"] {
        check(
            ask(name),
            Err("TLS with the server failed: the server has no TLS"),
        );
    }
    database
        .encrypt(
            &authority.issue(&["localhost", "db.internal"]).unwrap(),
            None,
        )
        .unwrap();
    let told = "certificate verify failed: the certificate";
    for (name, expected) in [
        ("disable", Ok("f")),
        ("require", Ok("t")),
        ("newest", Ok("t")),
        ("ca", Ok("t")),
        ("full", Ok("t")),
        ("named", Ok("t")),
        (
            "misnamed",
            Err(
                "is not for other.internal, but for localhost, db.internal: set server_tls.server_name",
            ),
        ),
        (
            "foreign",
            Err("has an unknown issuer (trusted are those of"),
        ),
        (
            "system",
            Err("has an unknown issuer (trusted are those of the system): set server_tls.ca"),
        ),
    ] {
        let met = ask(name);
        if let (Err(met), Err(_)) = (&met, expected) {
            assert!(met.contains(told), "{met}");
        }
        check(met, expected);
    }
    // What is there from before stays until it goes; a new connection has it.
    database
        .query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ann'")
        .unwrap();
    check(ask("prefer"), Ok("t"));
    outgrow
        .wait_told("TLS handshake error: certificate verify failed")
        .expect("it is in the log");
}

/// Health checks reach the servers as the pool does: here one that takes nobody without TLS.
#[test]
fn checks_are_encrypted_as_the_pool_is() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let access = "hostssl all bound        127.0.0.1/32 scram-sha-256\n\
                  host    all postgres,ann 127.0.0.1/32 trust";
    let database = databases::postgres(access).expect("Postgres starts");
    for role in ["bound", "ann"] {
        let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'apple'");
        database.query(&create).expect("created");
    }
    let authority = Authority::new().unwrap();
    let ca = authority.ca_file().unwrap();
    database
        .encrypt(&authority.issue(&["localhost"]).unwrap(), None)
        .unwrap();
    let server = format!("localhost:{}", database.address().port());
    let check_table = "\n[service.db.check]\nkind = \"postgres\"\nuser = \"bound\"\n\
                       password = \"apple\"\ndatabase = \"postgres\"\n\
                       interval = \"50ms\"\nfast_interval = \"20ms\"\nrise = 1\nfall = 1\n";
    let with = |server_tls: &str| {
        let settings = format!("auth = \"trust\"\nserver_tls = {{ {server_tls} }}");
        start(&(config(&settings, USERS, &server) + check_table))
    };
    // In the clear the server has no entry for the user.
    let outgrow = with("mode = \"disable\"");
    outgrow
        .wait_told("no pg_hba.conf entry")
        .expect("the check fails");
    for mode in [
        "mode = \"require\"".to_owned(),
        format!("mode = \"verify-full\", ca = \"{}\"", ca.display()),
    ] {
        let outgrow = with(&mode);
        // A first check may have come before the pool's settings.
        let is_up = |_: &_| psql(pooler(&outgrow), "user=ann dbname=postgres", "SELECT 1").ok();
        outgrow.wait("it is up", SOON, is_up).expect("it is");
        for _ in 0..10 {
            check(
                psql(pooler(&outgrow), "user=ann dbname=postgres", ENCRYPTED),
                Ok("t"),
            );
        }
    }
    // Who is not the one that it must be is not healthy either.
    let outgrow = with(&format!(
        "mode = \"verify-full\", ca = \"{}\", server_name = \"other\"",
        ca.display()
    ));
    outgrow
        .wait_told("certificate verify failed: the certificate is not for other")
        .expect("the check fails");
}

#[test]
fn we_show_servers_who_we_are() {
    let Some(database) = database() else { return };
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let own = authority.issue(&["localhost"]).unwrap();
    database
        .encrypt(&own, Some(authority.certificate()))
        .unwrap();
    let ca = authority.ca_file().unwrap();
    let shown = |authority: &Authority, name: &str, user: &str| {
        let (certificate, key) = files(authority, name, &authority.issue(&[user]).unwrap());
        format!(
            "mode = \"verify-full\", ca = \"{}\", certificate = \"{}\", key = \"{}\"",
            ca.display(),
            certificate.display(),
            key.display()
        )
    };
    let ways = ways(&[
        ("none", "mode = \"require\""),
        ("shown", &shown(&authority, "shown", "shown")),
        ("strict", &shown(&authority, "strict", "strict")),
        ("foreign", &shown(&other, "shown", "shown")),
        ("binds", "mode = \"require\", channel_binding = \"require\""),
        (
            "unbound",
            "mode = \"require\", channel_binding = \"disable\"",
        ),
        ("plain", "mode = \"prefer\", channel_binding = \"require\""),
    ]);
    let server = format!("localhost:{}", database.address().port());
    let outgrow = start(&config("auth = \"plain\"", &(ways + USERS), &server));
    let at = pooler(&outgrow);
    let ask = |user: &str, name: &str| psql(at, &format!("user={user} dbname={name}"), ENCRYPTED);
    check(ask("shown", "shown"), Ok("t"));
    check(ask("strict", "strict"), Ok("t"));
    let wants = "connection requires a valid client certificate";
    check(ask("strict", "none"), Err(wants));
    check(ask("shown", "none"), Err(wants));
    check(
        ask("shown", "strict"),
        Err("certificate authentication failed for user \"shown\""),
    );
    check(
        ask("shown", "foreign"),
        Err("the server does not accept our certificate"),
    );
    // A login that is bound to the server's certificate, without anybody to verify that.
    check(ask("bound", "binds"), Ok("t"));
    check(ask("bound", "unbound"), Ok("t"));
    check(
        ask("ann", "binds"),
        Err("did not bind the login to its certificate"),
    );
    check(ask("bound", "plain"), Ok("t"));
}

/// Hands on to a server, and keeps the first bytes of each connection's client.
struct Relay {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Relay {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&seen);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (
                    client.expect("a connection"),
                    TcpStream::connect(server).expect("a connection"),
                );
                let number = all.lock().expect("nobody panicked").len();
                all.lock().expect("nobody panicked").push(Vec::new());
                let (from, to) = (
                    server.try_clone().expect("a copy"),
                    client.try_clone().expect("a copy"),
                );
                thread::spawn(move || hand_on(from, to, |_| {}));
                let all = Arc::clone(&all);
                thread::spawn(move || {
                    hand_on(client, server, |bytes| {
                        all.lock().expect("nobody panicked")[number].extend(bytes);
                    });
                });
            }
        });
        Self { address, seen }
    }
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, see: impl Fn(&[u8])) {
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        see(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ended = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn cancel_requests_are_encrypted_as_their_session_is() {
    let Some(database) = database() else { return };
    let authority = Authority::new().unwrap();
    database
        .encrypt(&authority.issue(&["localhost"]).unwrap(), None)
        .unwrap();
    let relay = Relay::start(database.address());
    for mode in ["require", "disable"] {
        relay.seen.lock().unwrap().clear();
        let ways = ways(&[("way", &format!("mode = \"{mode}\""))]);
        let server = relay.address.to_string();
        let outgrow = start(&config("auth = \"trust\"", &(ways + USERS), &server));
        let mut client = Session::of(pooler(&outgrow), "way").unwrap();
        client.send(&message::query("SELECT pg_sleep(60)")).unwrap();
        let sleeps = "DO $$ BEGIN ASSERT (SELECT count(*) = 1 FROM pg_stat_activity WHERE query = \
                      'SELECT pg_sleep(60)'); END $$";
        let sleeps = |_: &_| database.query(sleeps).ok();
        outgrow.wait("it sleeps", SOON, sleeps).unwrap();
        client.cancel().unwrap();
        assert_eq!(client.answer().unwrap_err().code(), "57014");
        let seen = relay.seen.lock().unwrap().clone();
        let last = seen.last().unwrap();
        let (request, cancel) = (message::tls_request(), [0, 0, 0, 16, 4, 210, 22, 46]);
        match mode {
            "require" => {
                assert!(last.starts_with(&request) && last[8] == 0x16, "{last:x?}");
                let is_plain = |one: &Vec<u8>| one.windows(8).any(|part| part == cancel);
                assert!(!seen.iter().any(is_plain));
            }
            _ => assert!(last.starts_with(&cancel), "{last:x?}"),
        }
    }
}

#[test]
fn what_is_put_in_before_the_handshake_is_noticed() {
    for (answer, expected) in [
        (
            &b"S\x15\x03\x03\x00\x02\x02\x28"[..],
            "there are bytes behind the answer",
        ),
        (b"NR\0\0\0\x08\0\0\0\0", "there are bytes behind the answer"),
        (
            b"Eanything at all\0\0",
            "answers a request for TLS with an error",
        ),
        (b"X", "does not speak Postgres"),
        (b"", "ended the connection when it was asked for TLS"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, mut request) = (client.unwrap(), [0; 8]);
                let _read = client.read_exact(&mut request);
                let _said = client.write_all(answer);
            }
        });
        let ways = ways(&[("a", "mode = \"prefer\""), ("b", "mode = \"require\"")]);
        let text = config("auth = \"trust\"", &(ways + USERS), &at.to_string());
        let outgrow = start(&text.replace("wait = \"3s\"", "wait = \"300ms\""));
        for database in ["a", "b"] {
            let options = format!("user=ann dbname={database}");
            check(psql(pooler(&outgrow), &options, "SELECT 1"), Err(expected));
        }
    }
}

/// A server connection that ended while nobody used it is noticed before it is lent.
#[test]
fn an_encrypted_connection_that_ended_is_not_lent() {
    let Some(database) = database() else { return };
    let authority = Authority::new().unwrap();
    database
        .encrypt(&authority.issue(&["localhost"]).unwrap(), None)
        .unwrap();
    let ways = ways(&[("way", "mode = \"require\"")]);
    let server = database.address().to_string();
    let outgrow = start(&config(
        "auth = \"trust\"\npool_size = 1",
        &(ways + USERS),
        &server,
    ));
    let mut client = Session::of(pooler(&outgrow), "way").unwrap();
    let mut before = String::new();
    for _ in 0..5 {
        let process = client.value("SELECT pg_backend_pid()").unwrap();
        assert_ne!(process, before);
        assert_eq!(client.value("SELECT pg_backend_pid()").unwrap(), process);
        assert_eq!(client.value(ENCRYPTED).unwrap(), "t");
        database
            .query(&format!("SELECT pg_terminate_backend({process}, 10000)"))
            .unwrap();
        before = process;
    }
}

/// What OpenSSL's client gets for these bytes, over TLS that begins at once: until [`ANSWER`] is in
/// it, or the end.
fn at_once(at: SocketAddr, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &at.to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is missing: apt-get install openssl");
    // Open for as long as it runs.
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(bytes).expect("written");
    let mut output = child.stdout.take().expect("a pipe");
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = output.read(&mut buffer) {
        all.extend_from_slice(&buffer[..count]);
        if has(&all, ANSWER) {
            break;
        }
    }
    let _killed = child.kill();
    let _ended = child.wait();
    all
}

/// What [`words`] are answered with.
const ANSWER: &str = "as ann";

/// A start and a query.
fn words() -> Vec<u8> {
    let start = message::startup(&[("user", "ann"), ("database", "postgres")]);
    [start, message::query("SELECT 'as ' || current_user")].concat()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[test]
fn tls_may_begin_at_once() {
    let Some(database) = database() else { return };
    let authority = Authority::new().unwrap();
    let own = files(&authority, "own", &authority.issue(&["localhost"]).unwrap());
    let server = database.address().to_string();
    let settings = tls(&own, "mode = \"require\"") + USERS;
    let inner = start(&config("auth = \"trust\"", &settings, &server));
    let at = pooler(&inner);
    let answer = at_once(at, &["-alpn", "postgresql"], &words());
    assert!(has(&answer, ANSWER), "{}", String::from_utf8_lossy(&answer));
    let answer = at_once(at, &[], &words());
    assert!(has(&answer, "without ALPN protocol negotiation extension"));
    assert!(!has(&answer, ANSWER));
    let answer = at_once(at, &["-alpn", "http/1.1"], &words());
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    // A second request for TLS inside of it leads nowhere.
    let twice = [message::tls_request(), words()].concat();
    let answer = at_once(at, &["-alpn", "postgresql"], &twice);
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    // To servers as well: another outgrow stands for one that knows it.
    let ca = authority.ca_file().unwrap();
    let way = format!(
        "mode = \"verify-full\", direct = true, ca = \"{}\"",
        ca.display()
    );
    let server = format!("localhost:{}", at.port());
    let outer = start(&config(
        "auth = \"trust\"",
        &(ways(&[("way", &way)]) + USERS),
        &server,
    ));
    check(
        psql(pooler(&outer), "user=ann dbname=way", "SELECT current_user"),
        Ok("ann"),
    );
    // One that does not know it.
    database
        .encrypt(&authority.issue(&["localhost"]).unwrap(), None)
        .unwrap();
    let server = format!("localhost:{}", database.address().port());
    let outer = start(&config(
        "auth = \"trust\"",
        &(ways(&[("way", &way)]) + USERS),
        &server,
    ));
    check(
        psql(pooler(&outer), "user=ann dbname=way", "SELECT 1"),
        Err("TLS with the server failed"),
    );
}

/// Bytes behind a request for TLS would be taken for what was said under encryption.
#[test]
fn clients_say_nothing_between_request_and_handshake() {
    let authority = Authority::new().unwrap();
    let own = files(&authority, "own", &authority.issue(&["localhost"]).unwrap());
    let outgrow = start(&config(
        "auth = \"trust\"",
        &(tls(&own, "") + USERS),
        "127.0.0.1:1",
    ));
    let mut session = Session::open(pooler(&outgrow)).unwrap();
    let startup = message::startup(&[("user", "ann"), ("database", "postgres")]);
    session
        .send(&[message::tls_request(), startup].concat())
        .unwrap();
    let said = session.receive().unwrap().problem().unwrap();
    assert_eq!(said.message, "received unencrypted data after SSL request");
    session.is_over().unwrap();
}

/// A session behind a proxy that says this first, or why there is none.
fn behind(at: SocketAddr, header: &[u8], user: &str) -> Result<String, String> {
    let mut session = Session::open(at).map_err(|error| error.to_string())?;
    let startup = message::startup(&[("user", user), ("database", "postgres")]);
    let sent = session.send(&[header, &startup].concat());
    sent.map_err(|error| error.to_string())?;
    session.answer().map_err(|error| error.to_string())?;
    session
        .value("SELECT 'in'")
        .map_err(|error| error.to_string())
}

fn write_rules(folder: &Path) -> PathBuf {
    let file = folder.join("rules");
    let rules = "host all all 203.0.113.7/32 trust\nhost all all 2001:db8::7/128 trust\n\
                 host all all 127.0.0.1/32 trust\nhost all all all reject\n";
    fs::write(&file, rules).expect("written");
    file
}

#[test]
fn a_proxys_clients_are_where_it_says() {
    let Some(database) = database() else { return };
    let folder = Folder::new("rules").unwrap();
    let rules = write_rules(folder.path());
    let authority = Authority::new().unwrap();
    let own = files(&authority, "own", &authority.issue(&["localhost"]).unwrap());
    let with = |proxies: &str| {
        let settings = format!("auth_hba = \"{}\"\n{proxies}", rules.display());
        config(
            &settings,
            &(tls(&own, "") + USERS),
            &database.address().to_string(),
        )
    };
    let trusted = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let mut outgrow = start(&with(trusted));
    let at = pooler(&outgrow);
    let line = |address: &str| format!("PROXY TCP4 {address} 10.0.0.1 50000 5432\r\n").into_bytes();
    let binary = |command: u8, family: u8, body: &[u8]| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        bytes.extend([command, family, 0, body.len() as u8]);
        bytes.extend(body);
        bytes
    };
    let four = [203, 0, 113, 7, 10, 0, 0, 1, 0, 1, 0, 2];
    let six = "PROXY TCP6 2001:db8::7 ::1 1 2\r\n";
    let rejects = "pg_hba.conf rejects connection for host \"203.0.113.8\"";
    for (header, expected) in [
        (line("203.0.113.7"), Ok("in")),
        (line("203.0.113.8"), Err(rejects)),
        (six.as_bytes().to_vec(), Ok("in")),
        (binary(0x21, 0x11, &four), Ok("in")),
        // It speaks for itself.
        (binary(0x20, 0, &[]), Ok("in")),
        (b"PROXY UNKNOWN\r\n".to_vec(), Ok("in")),
        (Vec::new(), Err("there is no PROXY header")),
        (
            b"PROXY TCP4 nowhere 10.0.0.1 1 2\r\n".to_vec(),
            Err("the PROXY header's source address is malformed"),
        ),
        (binary(0x21, 0x11, &four[..8]), Err("addresses are cut off")),
        (
            binary(0x31, 0x11, &four),
            Err("the PROXY header's version is unknown"),
        ),
    ] {
        check(behind(at, &header, "ann"), expected);
    }
    // TLS comes after it, at once or on request.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let header = line("203.0.113.7");
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut server = TcpStream::connect(at).unwrap();
            // Header and hello in one piece.
            let mut first = vec![0; 4096];
            let count = client.read(&mut first).unwrap();
            server
                .write_all(&[&header, &first[..count]].concat())
                .unwrap();
            let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || hand_on(from, to, |_| {}));
            thread::spawn(move || hand_on(client, server, |_| {}));
        }
    });
    let answer = at_once(proxy, &["-alpn", "postgresql"], &words());
    assert!(has(&answer, ANSWER), "{}", String::from_utf8_lossy(&answer));
    check(
        psql(
            proxy,
            "user=ann dbname=postgres sslmode=require",
            "\\conninfo",
        ),
        Ok("SSL connection"),
    );
    // From others nobody takes a word.
    let others = "proxy_protocol = true\ntrusted_proxies = [\"192.0.2.0/24\"]";
    outgrow.reload(&with(others)).expect("reloaded");
    let said = "127.0.0.1 is none of the proxies that may connect here";
    check(behind(at, &line("203.0.113.7"), "ann"), Err(said));
    check(behind(at, b"", "ann"), Err(said));
    // And where nobody is asked, it is nothing that is understood.
    outgrow.reload(&with("")).expect("reloaded");
    check(behind(at, b"", "ann"), Ok("in"));
    assert!(behind(at, &line("203.0.113.7"), "ann").is_err());
}

/// In an upgrade who has TLS is told to reconnect, since its keys are of the process that leaves;
/// who logged in with SCRAM and no TLS goes along, with what proves it to the server.
#[test]
fn an_upgrade_keeps_those_without_tls() {
    let Some(database) = database() else { return };
    let authority = Authority::new().unwrap();
    let own = files(&authority, "own", &authority.issue(&["localhost"]).unwrap());
    let text = config(
        "",
        &(tls(&own, "") + USERS),
        &database.address().to_string(),
    );
    let outgrow = start(&text);
    let port = pooler(&outgrow).port();
    let session = |mode: &str| {
        let target = format!("host=localhost port={port} user=ann dbname=postgres sslmode={mode}");
        let mut child = Command::new("psql")
            .args(["--no-psqlrc", "--tuples-only", "--no-align", &target])
            .env("PGPASSWORD", "apple")
            .env("HOME", "/nonexistent")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql is missing: apt-get install postgresql-client");
        let input = child.stdin.as_mut().expect("it has one");
        input.write_all(b"SELECT 'begun';\n").expect("said");
        let mut begun = [0; 6];
        let output = child.stdout.as_mut().expect("it has one");
        output.read_exact(&mut begun).expect("it has begun");
        assert_eq!(&begun, b"begun\n");
        child
    };
    let (encrypted, plain) = (session("require"), session("disable"));
    outgrow.upgrade(None).expect("another one");
    outgrow
        .wait_told("1 clients were handed to the next data process, 1 told to reconnect (1 tls)")
        .expect("told");
    let end = |mut child: std::process::Child| {
        let input = child.stdin.as_mut().expect("it has one");
        let _ = input.write_all(b"SELECT 'here ' || current_user;\n");
        let output = child.wait_with_output().expect("it ends");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    };
    assert_eq!(end(plain), "here ann\n");
    let told = end(encrypted);
    assert!(told.contains("FATAL:  server shutting down"), "{told}");
}
