//! Whole files: what is read of them, all that is wrong with them, reloads.

use std::collections::HashMap;
use std::time::Duration;

use super::*;

fn no_include(_: &str) -> Result<String, String> {
    Err("no files here".to_owned())
}

fn read(text: &str) -> Result<Ini, Vec<String>> {
    said(Ini::read("x.ini", text, &mut no_include))
}

fn said(outcome: Result<Ini, Vec<Problem>>) -> Result<Ini, Vec<String>> {
    outcome.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn good(text: &str) -> Ini {
    read(text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
}

#[test]
fn a_file_of_all_sections_is_read() {
    let ini = good(
        "; the first\n\
         [databases]\n\
         p0 = port=6666 host=127.0.0.1 dbname=p0 user=bouncer pool_size=2 reserve_pool=3\n\
         lists = host=a,b,/run load_balance_hosts=disable server_lifetime=0\n\
         empty =\n\
         'odd name' = connect_query='set a=''1''; set b=2' password=secret\n\
         * = host=other auth_user=looker query_wait_timeout=-1\n\
         [users]\n\
         kama = pool_mode=Transaction query_timeout=1.5 query_wait_timeout=0 max_user_connections=0\n\
         [peers]\n\
         2 = host=/tmp/two port=5555 pool_size=7\n\
         [pgbouncer]\n\
         listen_port = 6000\n\
         listen_port = 6001\n\
         logfile =\n\
         auth_type = scram-sha-256\n\
         ignore_startup_parameters = a, b\n",
    );
    let p0 = &ini.databases["p0"];
    assert_eq!(
        (p0.hosts.as_slice(), p0.port),
        (&["127.0.0.1".to_owned()][..], 6666)
    );
    assert_eq!((p0.pool_size, p0.reserve_pool_size), (Some(2), Some(3)));
    assert_eq!(
        (p0.user.as_deref(), p0.min_pool_size),
        (Some("bouncer"), None)
    );
    let lists = &ini.databases["lists"];
    assert_eq!(lists.hosts, ["a", "b", "/run"]);
    assert_eq!(lists.load_balance_hosts, LoadBalanceHosts::Disable);
    assert_eq!(lists.server_lifetime, None);
    let expected = Database {
        port: 5432,
        ..Database::default()
    };
    assert_eq!(ini.databases["empty"], expected);
    let odd = &ini.databases["odd name"];
    assert_eq!(odd.connect_query.as_deref(), Some("set a='1'; set b=2"));
    assert_eq!(odd.password.expose(), "secret");
    assert!(!format!("{odd:?}").contains("secret"));
    assert_eq!(ini.databases.len(), 4);
    let fallback = ini.fallback.as_ref().expect("a fallback");
    assert_eq!(fallback.auth_user.as_deref(), Some("looker"));
    assert_eq!(fallback.query_wait_timeout, None);
    let kama = &ini.users["kama"];
    assert_eq!(kama.pool_mode, Some(PoolMode::Transaction));
    assert_eq!(kama.query_timeout, Some(Duration::from_millis(1500)));
    assert_eq!(kama.query_wait_timeout, Some(Duration::ZERO));
    assert_eq!(kama.max_user_connections, None);
    let two = &ini.peers[&2];
    assert_eq!(
        (two.host.as_str(), two.port, two.pool_size),
        ("/tmp/two", 5555, Some(7))
    );
    assert_eq!(ini.settings.listen_port, 6001);
    assert_eq!(ini.settings.logfile, "");
    assert_eq!(ini.settings.auth_type, AuthType::ScramSha256);
    let ignored: Vec<_> = words(&ini.settings.ignore_startup_parameters).collect();
    assert_eq!(ignored, ["a", "b"]);
}

#[test]
fn sections_may_come_again() {
    let ini = good(
        "[pgbouncer]\nlisten_port = 1\nauth_user = a\nverbose = 2\n\
         [databases]\na = host=1\nb = host=2\n\
         [pgbouncer]\nlisten_addr = *\n\
         [databases]\na = port=7\n",
    );
    // Settings start anew, but for those without a default; databases do not.
    assert_eq!(ini.settings.listen_port, 6432);
    assert_eq!(ini.settings.auth_user.as_deref(), Some("a"));
    assert_eq!(ini.settings.verbose, 2);
    assert_eq!(ini.settings.listen_addr, "*");
    assert_eq!(
        (ini.databases["a"].port, ini.databases["a"].hosts.len()),
        (7, 0)
    );
    assert_eq!(ini.databases.len(), 2);
}

#[test]
fn all_problems_are_told_with_their_places() {
    let problems = read(
        "early = 1\n\
         [databases]\n\
         pgbouncer = host=a\n\
         a = host=a hots=b password=secret\n\
         b = password=secret pool_size=many\n\
         c = port=0\n\
         d = password='secret\n\
         nonsense\n\
         [pools]\n\
         x = 1\n\
         [users]\n\
         u = pool_mode=fast\n\
         v = password=secret\n\
         w = pool_mode\n\
         [peers]\n\
         0 = host=a\n\
         3 = port=1\n\
         [pgbouncer]\n\
         listen_prot = 1\n\
         listen_port = one\n\
         server_lifetime = invalid_server_lifetime\n\
         auth_dbname = pgbouncer\n\
         %include other.ini\n",
    )
    .unwrap_err();
    let expected = [
        "value without section: early (x.ini:1)",
        "database name \"pgbouncer\" is reserved (x.ini:3)",
        "unrecognized connection parameter: hots (did you mean host?) (x.ini:4)",
        "invalid pool_size: it must be a whole number (x.ini:5)",
        "invalid port: invalid port (x.ini:6)",
        "syntax error in connection string (x.ini:7)",
        "syntax error in configuration (x.ini:8)",
        "invalid section \"pools\" in configuration (x.ini:9)",
        "invalid pool_mode: it must be one of session, transaction, statement (x.ini:12)",
        "unrecognized connection parameter: password (x.ini:13)",
        "syntax error in user settings (x.ini:14)",
        "ids of peers must be a number larger than 0 and at most 65535 (x.ini:16)",
        "host was not provided for peer 3 (x.ini:17)",
        "unknown parameter: pgbouncer/listen_prot (did you mean listen_port?) (x.ini:19)",
        "invalid value \"one\" for parameter listen_port in configuration: it must be a whole number \
         (x.ini:20)",
        "invalid value \"invalid_server_lifetime\" for parameter server_lifetime in configuration: it \
         must be seconds, such as 10 or 0.5 (x.ini:21)",
        "invalid value \"pgbouncer\" for parameter auth_dbname in configuration: cannot use the \
         reserved \"pgbouncer\" database as an auth_dbname (x.ini:22)",
        "could not load file \"other.ini\": no files here (x.ini:23)",
    ];
    assert_eq!(problems, expected);
    assert!(problems.iter().all(|problem| !problem.contains("secret")));
}

#[test]
fn a_file_needs_the_main_section() {
    let check = |text: &str, line: usize| {
        let expected = format!("main section missing from config file (x.ini:{line})");
        assert_eq!(read(text), Err(vec![expected]), "{text:?}");
    };
    check("", 1);
    check("[databases]\na =\n", 2);
    assert_eq!(good("[pgbouncer]"), Ini::default());
}

#[test]
fn long_names_are_refused() {
    let name = "n".repeat(64);
    assert!(read(&format!("[databases]\n{name} =\n[pgbouncer]")).is_err());
    assert!(read(&format!("[users]\n{name} =\n[pgbouncer]")).is_ok());
    assert!(read(&format!("[users]\n{name}{name} =\n[pgbouncer]")).is_err());
}

#[test]
fn included_files_are_read_where_they_are_named() {
    let files = HashMap::from([
        ("dbs", "a = host=1\n[users]\n"),
        ("users", "u = pool_size=1\nbad\n"),
        ("circle", "%include circle\n"),
        ("twice", "%include twice\n%include twice\n%include twice\n"),
    ]);
    let read = |text: &str| {
        let mut include = |name: &str| {
            let text = files.get(name).copied().map(str::to_owned);
            text.ok_or_else(|| "No such file or directory".to_owned())
        };
        said(Ini::read("x.ini", text, &mut include))
    };
    let ini = read("[databases]\n%include dbs\nu = pool_size=3\n[pgbouncer]").expect("good");
    assert_eq!(ini.databases["a"].hosts, ["1"]);
    assert_eq!(ini.users["u"].pool_size, Some(3));
    let problems = read("[pgbouncer]\n[users]\n%include users\n%include none");
    let expected = [
        "syntax error in configuration (users:2)",
        "could not load file \"none\": No such file or directory (x.ini:4)",
    ];
    assert_eq!(problems.unwrap_err(), expected);
    let problems = read("[pgbouncer]\n%include circle").unwrap_err();
    assert_eq!(problems, ["include nesting level too deep (circle:1)"]);
    let problems = read("[pgbouncer]\n%include twice").unwrap_err();
    let too_many = problems
        .iter()
        .filter(|problem| problem.contains("too many"));
    assert_eq!(too_many.count(), 1, "{problems:?}");
    assert!(problems.len() < INCLUDE_COUNT);
}

#[test]
fn a_reload_keeps_what_cannot_change() {
    let mut running = good("[pgbouncer]\nlisten_port=1\nlisten_addr=a\nquery_timeout=5").settings;
    running.set("auth_user", "looker").expect("a setting");
    running.set("pool_mode", "statement").expect("a setting");
    let text = "[databases]\na =\n[pgbouncer]\nlisten_port=2\nquery_timeout=6\nverbose=1";
    let ini = Ini::reread("x.ini", text, &running, &mut no_include).expect("good");
    // Fixed, whether the file names them or not.
    assert_eq!(
        (ini.settings.listen_port, ini.settings.listen_addr.as_str()),
        (1, "a")
    );
    // Without a default: what SET said stays.
    assert_eq!(ini.settings.auth_user.as_deref(), Some("looker"));
    // The file's, else the default.
    assert_eq!(ini.settings.query_timeout, Duration::from_secs(6));
    assert_eq!(ini.settings.pool_mode, PoolMode::Session);
    assert_eq!(ini.settings.verbose, 1);
    assert_eq!(ini.databases.len(), 1);
    // A value of what cannot change is not looked at.
    let text = "[pgbouncer]\nlisten_port=many";
    assert!(Ini::reread("x.ini", text, &running, &mut no_include).is_ok());
}

#[test]
fn nothing_that_is_read_panics() {
    let pieces = [
        "[",
        "]",
        "pgbouncer",
        "databases",
        "users",
        "peers",
        "=",
        " ",
        "\n",
        "'",
        "\"",
        "%include",
        "*",
        "a",
        "host",
        "port",
        "pool_mode",
        "1",
        "-",
        "ä",
        "\0",
        "\r",
        ";",
        "#",
        "listen_port",
        "0x",
    ];
    let mut state = 7_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        }
        // A file has problems, or it has none: both are told.
        if let Err(problems) = read(&text) {
            assert!(!problems.is_empty(), "{text:?}");
        }
    }
}
