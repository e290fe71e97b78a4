//! Mistakes of people, and troubles of others: each gets an answer that says what is wrong and
//! what to do, and what runs goes on running.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use outgrow_testkit::{
    backend::{Recorder, Script, Step, response},
    http,
    outgrow::{Launch, Outgrow, OutgrowError, binary},
    ports, processes,
    raw::Client,
};

use crate::shop::{self, SOON};

/// A configuration with one fixed response.
const FIXED: &str = r#"
[access]
to = "access.log"
[listener.public]
address = "%public%"
[route.all]
respond = { status = 200, body = "fixed" }
"#;

/// What outgrow wrote before it gave up.
fn refused(launch: Launch) -> String {
    match launch.start() {
        Err(OutgrowError::Exited { status, stderr }) => {
            assert!(status.code().is_some_and(|code| code != 0), "{status}");
            stderr
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
}

/// What outgrow wrote while it did not become ready.
fn never_ready(text: &str, limit: Duration) -> String {
    match Launch::config(text).ready_limit(limit).start() {
        Err(OutgrowError::Waited { stderr, .. }) => stderr,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it became ready"),
    }
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

fn outgrow(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary().expect("a binary"));
    command.args(arguments).output().expect("it runs")
}

fn serves(outgrow: &Outgrow) {
    let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "fixed"));
}

#[test]
fn a_port_that_is_taken() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("an address");
    let stderr = refused(Launch::config(FIXED).address("public", address));
    says(
        &stderr,
        &[
            &format!("cannot listen at {address}"),
            "taken",
            "choose another",
        ],
    );
    // Every one at once.
    let holds = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = holds.local_addr().expect("an address");
    let both = FIXED.replace(
        "[route.all]",
        "[listener.other]\naddress = \"%other%\"\n[route.all]",
    );
    let launch = Launch::config(&both).address("public", address);
    let stderr = refused(launch.address("other", other));
    let told = |address| format!("cannot listen at {address}");
    says(&stderr, &[&told(address), &told(other)]);
}

#[test]
fn a_file_with_mistakes() {
    let text = r#"
[listener.public]
adress = "%public%"

[route.all]
service = "web"

[service.web]
endpoints = ["127.0.0.1:1"]
idle_timeout = "soon"
"#;
    let stderr = refused(Launch::config(text));
    // All at once, each with its line and what to do.
    says(
        &stderr,
        &["outgrow.toml:3:", "adress", "did you mean `address`?"],
    );
    says(&stderr, &["outgrow.toml:10:", "soon", "hint"]);
    let stderr = refused(Launch::config("[listener.public]\naddress = \"%public%\n"));
    says(&stderr, &["outgrow.toml:2"]);
}

#[test]
fn a_service_that_nobody_knows() {
    let text = "[listener.public]\naddress = \"%public%\"\n[route.all]\nservice = \"wep\"\n\
                [service.web]\nendpoints = [\"127.0.0.1:1\"]\n";
    let stderr = refused(Launch::config(text));
    says(&stderr, &["outgrow.toml:4:", "wep", "web", "hint"]);
}

#[test]
fn a_file_that_is_not_there() {
    let output = outgrow(&["run", "--config", "/nowhere/outgrow.toml"]);
    assert!(!output.status.success());
    says(
        &String::from_utf8_lossy(&output.stderr),
        &["/nowhere/outgrow.toml", "--config"],
    );
}

#[test]
fn a_command_that_is_not_found() {
    let service = |command: &str| {
        format!(
            "[access]\nto = \"off\"\n[listener.public]\naddress = \"%public%\"\n[service.app]\n\
             command = {command}\ninstances = 1\nrestart_backoff = \"50ms\"\n\
             [route.app]\nservice = \"app\"\n"
        )
    };
    let stderr = never_ready(&service("[\"no-such-program\"]"), Duration::from_secs(2));
    says(
        &stderr,
        &["app.1", "command not found", "no-such-program", "PATH"],
    );
    let stderr = never_ready(
        &service("\"no-such-program --flag\""),
        Duration::from_secs(2),
    );
    says(&stderr, &["app.1", "no-such-program", "127"]);
    // It is all that there is to run: not tried again.
    let output = outgrow(&["run", "no-such-program", "x"]);
    assert_eq!(output.status.code(), Some(127));
    says(
        &String::from_utf8_lossy(&output.stderr),
        &["command not found: `no-such-program`", "PATH"],
    );
}

#[test]
fn an_instance_that_listens_elsewhere() {
    let elsewhere = ports::free(1).expect("a port")[0].port();
    let text = format!(
        "[access]\nto = \"off\"\n[listener.public]\naddress = \"%public%\"\n[service.app]\n\
         command = \"exec python3 -m http.server --bind 127.0.0.1 {elsewhere}\"\ninstances = 1\n\
         start_timeout = \"1500ms\"\n[route.app]\nservice = \"app\"\n"
    );
    let stderr = never_ready(&text, Duration::from_secs(5));
    says(
        &stderr,
        &[
            "app.1",
            "not ready after",
            &elsewhere.to_string(),
            "PORT",
            "{port}",
        ],
    );
}

#[test]
fn an_endpoint_that_is_down() {
    let nobody = ports::free(1).expect("a port")[0];
    let text = format!(
        "[access]\nto = \"access.log\"\n[listener.public]\naddress = \"%public%\"\n\
         [service.app]\nendpoints = [\"{nobody}\"]\n[route.app]\nservice = \"app\"\n"
    );
    let outgrow = Outgrow::start(&text).expect("outgrow starts");
    let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
    assert_eq!(answer.status, 502, "{}", answer.text());
    let id = answer.header("X-Request-Id").expect("an id").to_owned();
    says(
        &answer.text(),
        &["could not be reached", "reason: connect_refused", &id],
    );
    assert!(answer.body.len() < 300, "short: {}", answer.text());
    assert!(
        !answer.text().contains(&nobody.to_string()),
        "clients are not told addresses"
    );
    let record = record(&outgrow, &id);
    says(
        &record,
        &[" 502 ", "reason=connect_refused", &nobody.to_string()],
    );
}

#[test]
fn an_endpoint_whose_name_has_no_address() {
    let outgrow = Outgrow::start(
        "[access]\nto = \"access.log\"\n[listener.public]\naddress = \"%public%\"\n\
         [service.app]\nendpoints = [\"no-such-host.invalid:80\"]\n\
         timeouts = { connect = \"60s\" }\n[route.app]\nservice = \"app\"\n",
    );
    let outgrow = outgrow.expect("outgrow starts");
    let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
    assert_eq!(answer.status, 502, "{}", answer.text());
    let id = answer.header("X-Request-Id").expect("an id").to_owned();
    says(&record(&outgrow, &id), &["reason=connect_unresolved"]);
}

#[test]
fn a_request_that_is_refused_is_recorded_with_what_it_asked_for() {
    let outgrow = Outgrow::start(FIXED).expect("outgrow starts");
    let answer = |request: &[u8]| {
        let address = outgrow.address("public").expect("an address");
        let mut client = TcpStream::connect(address).expect("a connection");
        client.write_all(request).expect("it is sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        let id = answer.to_ascii_lowercase();
        let id = id.split("x-request-id: ").nth(1).expect("an id");
        record(&outgrow, id.lines().next().expect("an id"))
    };
    let line = answer(b"POST /buy?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n");
    says(
        &line,
        &["\"POST /buy?a=b HTTP/1.1\" 400", "reason=bad_framing"],
    );
    let line = answer(b"GET /next HTTP/1.1\r\nHost: a\n\r\n");
    says(&line, &["\"GET /next HTTP/1.1\" 400", "LF without CR"]);
    // The beginning of a ClientHello.
    let line = answer(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]);
    says(
        &line,
        &[" 400 ", "the client speaks TLS, and this listener does not"],
    );
}

#[test]
fn endpoints_that_are_all_down_by_their_checks() {
    let nobody = ports::free(1).expect("a port")[0];
    let text = format!(
        "[access]\nto = \"access.log\"\n[listener.public]\naddress = \"%public%\"\n\
         [service.app]\nendpoints = [\"{nobody}\"]\npanic_threshold = 0\n[service.app.check]\n\
         interval = \"100ms\"\nfast_interval = \"50ms\"\nfall = 1\n\
         [route.app]\nservice = \"app\"\n[route.up]\npath = \"/up\"\nrespond = {{ status = 204 }}\n"
    );
    // Not ready, and says why; it serves what it can all the same.
    let launched = Launch::config(&text)
        .ready_limit(Duration::from_secs(1))
        .start();
    let Err(error) = launched else {
        panic!("it became ready")
    };
    says(&error.to_string(), &["is down", &nobody.to_string()]);
}

/// The access record with this id.
fn record(outgrow: &Outgrow, id: &str) -> String {
    let path = outgrow.folder().join("access.log");
    let line = outgrow.wait("the record", SOON, |_| {
        let text = std::fs::read_to_string(&path).ok()?;
        text.lines()
            .find(|line| line.contains(id))
            .map(str::to_owned)
    });
    line.expect("a record")
}

#[test]
fn a_client_that_leaves() {
    let backend = Recorder::start(Script::every([Step::ReadRequest, Step::Silence]));
    let backend = backend.expect("a backend");
    let text = format!(
        "[access]\nto = \"access.log\"\n[listener.public]\naddress = \"%public%\"\n\
         [service.app]\nendpoints = [\"{}\"]\n[route.app]\nservice = \"app\"\n",
        backend.address()
    );
    let outgrow = Outgrow::start(&text).expect("outgrow starts");
    let address = outgrow.address("public").expect("an address");
    let mut client = Client::connect(address).expect("a connection");
    client
        .send(b"GET /gone HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("sent");
    assert!(backend.wait_requests(1, SOON));
    client.reset().expect("reset");
    assert!(
        backend.wait(SOON, |all| all[0].finished),
        "the endpoint need not go on"
    );
    says(&record(&outgrow, "/gone"), &["reason=client_gone"]);
    // Nobody is blamed for it.
    let state = shop::state(&outgrow);
    assert_eq!(
        state["services"][0]["endpoints"][0]["failures"], 0,
        "{state:#}"
    );
}

#[test]
fn an_upgrade_to_something_that_does_not_start() {
    let outgrow_ = Outgrow::start(FIXED).expect("outgrow starts");
    let data = shop::data_pid(&outgrow_);
    let admin = outgrow_.address("admin").expect("an address").to_string();
    for binary in ["/bin/false", "/nowhere/outgrow", "/dev/null"] {
        let output = outgrow(&["upgrade", "--admin", &admin, "--binary", binary]);
        assert!(!output.status.success(), "{binary}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            stderr.starts_with("outgrow: ") && stderr.len() > 20,
            "{binary}: {stderr}"
        );
        serves(&outgrow_);
        assert_eq!(shop::data_pid(&outgrow_), data, "the old one stays");
    }
    // And it can still be upgraded.
    outgrow_.upgrade(None).expect("an upgrade");
    serves(&outgrow_);
    let old_ended = |_: &Outgrow| (!processes::is_running(data)).then_some(());
    outgrow_
        .wait("the old data process has ended", SOON, old_ended)
        .expect("ended");
}

#[test]
fn a_reload_with_mistakes_changes_nothing() {
    let mut running = Outgrow::start(FIXED).expect("outgrow starts");
    let admin = running.address("admin").expect("an address").to_string();
    let broken = FIXED
        .replace("fixed", "other")
        .replace("respond", "resbond");
    running.write_config(&broken).expect("written");
    let output = outgrow(&["reload", "--admin", &admin]);
    assert!(!output.status.success());
    says(
        &String::from_utf8_lossy(&output.stderr),
        &["outgrow.toml:7", "resbond", "respond"],
    );
    serves(&running);
    // By the watch on the file too it was refused, and says so once more in the log.
    let told = running.wait_told("the running configuration stays");
    told.expect("told");
    running
        .reload(&FIXED.replace("\"fixed\"", "\"better\""))
        .expect("a reload");
    let answer = http::get(&running.url("public", "/")).expect("an answer");
    assert_eq!(answer.text(), "better");
}

#[test]
fn a_reload_with_a_port_that_is_taken_changes_nothing() {
    let mut running = Outgrow::start(FIXED).expect("outgrow starts");
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("an address");
    let more = format!(
        "{}\n[listener.free]\naddress = \"%free%\"\n[listener.taken]\naddress = \"{taken}\"\n",
        FIXED.replace("fixed", "other")
    );
    let error = running
        .reload(&more)
        .expect_err("a port is taken")
        .to_string();
    says(
        &error,
        &[
            &format!("cannot listen at {taken}"),
            "taken",
            "choose another",
        ],
    );
    serves(&running);
    let free = running.address("free").expect("an address");
    // The keeper gives it back in its own time.
    let given_back = |_: &Outgrow| Client::connect(free).is_err().then_some(());
    running
        .wait("all or none is bound", SOON, given_back)
        .expect("given back");
    drop(holder);
    running.reload(&more).expect("a reload");
    assert_eq!(
        http::get(&running.url("free", "/"))
            .expect("an answer")
            .text(),
        "other"
    );
}

#[test]
fn nobody_at_the_admin_address() {
    let nobody = ports::free(1).expect("a port")[0].to_string();
    for command in ["state", "reload", "upgrade", "stop"] {
        let output = outgrow(&[command, "--admin", &nobody]);
        assert!(!output.status.success(), "{command}");
        says(
            &String::from_utf8_lossy(&output.stderr),
            &[&nobody, "outgrow: "],
        );
    }
}

#[test]
fn an_admin_listener_with_a_token() {
    let text = format!("{FIXED}\n[admin]\nlisten = \"%admin%\"\ntoken = \"secret\"\n");
    let running = Outgrow::start(&text).expect("outgrow starts");
    let admin = running.address("admin").expect("an address").to_string();
    let without = outgrow(&["state", "--admin", &admin]);
    assert!(!without.status.success());
    says(&String::from_utf8_lossy(&without.stderr), &["token"]);
    let with = outgrow(&["state", "--admin", &admin, "--token", "secret"]);
    assert!(
        with.status.success(),
        "{}",
        String::from_utf8_lossy(&with.stderr)
    );
    says(&String::from_utf8_lossy(&with.stdout), &["\"version\""]);
}

#[test]
fn a_log_file_that_cannot_be_written() {
    let text = FIXED.replace("access.log", "/nowhere/access.log");
    let stderr = refused(Launch::config(&text));
    says(&stderr, &["[access]", "/nowhere/access.log"]);
}

#[test]
fn a_stop_by_command() {
    let backend = Recorder::start(Script::answer(response("ok"))).expect("a backend");
    let text = format!(
        "[access]\nto = \"off\"\n[listener.public]\naddress = \"%public%\"\n[service.app]\n\
         endpoints = [\"{}\"]\n[route.app]\nservice = \"app\"\n",
        backend.address()
    );
    let mut running = Outgrow::start(&text).expect("outgrow starts");
    let admin = running.address("admin").expect("an address").to_string();
    let output = outgrow(&["stop", "--admin", &admin]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        running.wait_exit(SOON).expect("it has ended").code(),
        Some(0)
    );
    assert!(Path::new(&running.folder().join("outgrow.toml")).exists());
}

#[test]
fn another_user_of_the_machine() {
    use std::os::unix::process::CommandExt;
    let running = Outgrow::start(FIXED).expect("outgrow starts");
    let admin = running.address("admin").expect("an address").to_string();
    // Whoever runs the tests may act: without a token.
    assert!(outgrow(&["reload", "--admin", &admin]).status.success());
    let is_root = rustix::process::geteuid().is_root();
    assert!(is_root, "this test needs root, to become somebody else");
    let mut stranger = Command::new(binary().expect("a binary"));
    stranger.args(["stop", "--admin", &admin]).uid(65_533);
    let output = stranger.output().expect("started");
    assert!(!output.status.success());
    says(
        &String::from_utf8_lossy(&output.stderr),
        &["user 65533 may not act here", "hint: ", "token"],
    );
    serves(&running);
}

#[test]
fn options_without_a_command() {
    for option in ["--listen", "--admin", "--access", "--check", "--instances"] {
        let output = outgrow(&["run", option, "1"]);
        assert!(!output.status.success());
        says(
            &String::from_utf8_lossy(&output.stderr),
            &["required", "<COMMAND>"],
        );
    }
}

#[test]
fn a_check_finds_what_a_run_would() {
    let folder = outgrow_testkit::folder::Folder::new("check").expect("a folder");
    let made =
        |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("made");
    let (one, other) = (made("one"), made("other"));
    let path = |name: &str| folder.path().join(name).display().to_string();
    folder.write("c.pem", one.cert.pem()).expect("written");
    let write = |key: String| folder.write("k.pem", key).expect("written");
    let text = format!(
        "[listener.public]\naddress = \"127.0.0.1:1\"\n[[listener.public.tls.certificates]]\n\
         certificate = \"{}\"\nkey = \"{}\"\n[route.all]\nrespond = {{ status = 204 }}\n",
        path("c.pem"),
        path("k.pem")
    );
    folder.write("outgrow.toml", text).expect("written");
    let file = path("outgrow.toml");
    write(one.signing_key.serialize_pem());
    assert!(outgrow(&["check", &file]).status.success());
    write(other.signing_key.serialize_pem());
    let output = outgrow(&["check", &file]);
    assert!(!output.status.success());
    says(&String::from_utf8_lossy(&output.stderr), &["k.pem", "hint"]);
    let output = outgrow(&["check", "/nowhere/outgrow.toml"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    says(&stderr, &["/nowhere/outgrow.toml", "hint"]);
    assert!(!stderr.contains("--config"), "{stderr}");
    // The same for programs: one object a problem.
    for (file, words) in [
        (&file[..], "k.pem"),
        ("/nowhere/outgrow.toml", "No such file"),
    ] {
        let output = outgrow(&["check", "--json", file]);
        assert!(!output.status.success());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let told: Vec<serde_json::Value> = stderr
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        assert_eq!(told.len(), 1, "{stderr}");
        assert_eq!(
            (&told[0]["file"], &told[0]["severity"]),
            (&file.into(), &"error".into())
        );
        let message = told[0]["message"].as_str().expect("a message");
        assert!(message.contains(words), "{stderr}");
        assert!(told[0]["hint"].is_string(), "{stderr}");
    }
}

#[test]
fn every_line_of_the_log_can_be_json() {
    let launch = Launch::config(&shop::config(1, ""));
    let words = ["run", "--log", "json", "--config", "outgrow.toml"];
    let outgrow = launch.words(&words).start().expect("outgrow starts");
    shop::wait_ready(&outgrow, 1);
    outgrow
        .signal(rustix::process::Signal::HUP)
        .expect("signalled");
    let text = outgrow.wait_told("reloaded (SIGHUP)").expect("told");
    for line in text.lines() {
        let told: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(told["ts"].is_string(), "{line}");
    }
    assert!(text.contains(r#""process":"data""#), "{text}");
}

#[test]
fn two_outgrows_with_one_admin_address() {
    let running = Outgrow::start(FIXED).expect("outgrow starts");
    let admin = running.address("admin").expect("an address").to_string();
    let listen = ["run", "--listen", "127.0.0.1:0", "--admin", &admin];
    let output = outgrow(&[&listen[..], &["--", "sleep", "1000"]].concat());
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    says(&stderr, &["the admin listener", "taken", "--admin"]);
}
