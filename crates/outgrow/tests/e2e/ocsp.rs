//! OCSP stapling with a real responder (`openssl ocsp`), as `openssl s_client -status` sees it.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use outgrow_testkit::{
    ocsp::{OcspAuthority, Pair, Responder, Wish, asked},
    outgrow::{Launch, Outgrow},
    ports,
    processes::{self, Signal},
    wait,
};
use serde_json::Value;

const HOST: &str = "shop.example";
const SERIAL: u64 = 0x2a;
const DAY: u32 = 24 * 60;
/// How long a response may take on a busy machine, a failure before it included.
const SOON: Duration = Duration::from_secs(60);

/// An authority, where it is asked, and a certificate of it.
struct Stage {
    authority: OcspAuthority,
    responder: SocketAddr,
    tls: SocketAddr,
    pair: Pair,
}

impl Stage {
    fn new(must_staple: bool) -> Self {
        let free = ports::free(2).expect("ports");
        let mut authority = OcspAuthority::new().expect("an authority");
        let wish = Wish {
            responder: Some(free[0]),
            must_staple,
        };
        let pair = authority.issue(HOST, SERIAL, wish).expect("issued");
        Self {
            authority,
            responder: free[0],
            tls: free[1],
            pair,
        }
    }

    fn respond(&self, minutes: u32) -> Responder {
        let own = self.authority.own();
        let started = self.authority.start(self.responder, &own, minutes);
        started.expect("a responder; openssl: apt-get install openssl")
    }

    /// With more for the certificate and for the listener's TLS.
    fn config(&self, certificate: &str, tls: &str) -> String {
        format!(
            r#"
[listener.public]
address = "%tls%"
[listener.public.tls]
certificates = [ {{ certificate = "{}", key = "{}"{certificate} }} ]
{tls}
[route.hello]
path = "/"
respond = {{ status = 200, body = "hello" }}
"#,
            self.pair.chain.display(),
            self.pair.key.display(),
        )
    }

    fn launch(&self, config: &str) -> Outgrow {
        let launch = Launch::config(config).address("tls", self.tls);
        launch.start().expect("outgrow")
    }

    /// What a client is told.
    fn asked(&self) -> String {
        let ca: &Path = &self.authority.own().chain;
        asked(self.tls, HOST, ca).expect("openssl is missing")
    }

    fn is_good(&self) -> bool {
        let told = self.asked();
        told.contains("OCSP Response Status: successful") && told.contains("Cert Status: good")
    }

    fn has_none(&self) -> bool {
        let told = self.asked();
        told.contains("OCSP response: no response sent") && told.contains("Verify return code: 0")
    }

    fn until_good(&self, outgrow: &Outgrow) {
        let good = || self.is_good().then_some(());
        let waited = wait::until("a good staple", SOON, good);
        waited.unwrap_or_else(|waited| panic!("{waited}\n{}", outgrow.stderr()));
    }
}

/// What the state says of the one staple.
fn state(outgrow: &Outgrow) -> Value {
    let state = outgrow.admin_get("/state").expect("a state");
    let state = state.json().unwrap_or_default();
    state["ocsp"][0].clone()
}

fn until_state(outgrow: &Outgrow, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let found = wait::until(what, SOON, || Some(state(outgrow)).filter(|one| is(one)));
    found.unwrap_or_else(|waited| panic!("{waited}: {}\n{}", state(outgrow), outgrow.stderr()))
}

#[test]
fn it_comes_by_itself_and_outlives_its_responder_reloads_and_processes() {
    let stage = Stage::new(false);
    let responder = stage.respond(DAY);
    let config = stage.config("", "");
    let mut outgrow = stage.launch(&config);
    stage.until_good(&outgrow);
    let told = state(&outgrow);
    assert_eq!(
        (&told["status"], &told["serial"]),
        (&"good".into(), &"2a".into())
    );
    assert_eq!(told["problem"], Value::Null);
    // Nobody answers any more, so whatever is stapled from now on was kept.
    drop(responder);
    outgrow.reload(&config).expect("reloaded");
    assert!(stage.is_good(), "after a reload: {}", outgrow.stderr());
    outgrow.upgrade(None).expect("upgraded");
    assert!(stage.is_good(), "after an upgrade: {}", outgrow.stderr());
    processes::signal(outgrow.pids().data[0], Signal::KILL).expect("killed");
    stage.until_good(&outgrow);
    assert_eq!(state(&outgrow)["responses"], 1, "the one that was kept");
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    let stapled = format!("outgrow_ocsp_stapled{{name=\"{HOST}\",serial=\"2a\"}} 1");
    assert!(metrics.contains(&stapled), "{metrics}");
    // Whoever does not want it has none.
    outgrow
        .reload(&stage.config("", "ocsp = \"off\""))
        .expect("reloaded");
    assert!(stage.has_none(), "{}", stage.asked());
    until_state(&outgrow, "nobody looks after it", |one| {
        // Each worker notices with the next connection that it takes.
        one.is_null() || !stage.has_none()
    });
    assert_eq!(state(&outgrow), Value::Null);
    outgrow.reload(&config).expect("reloaded");
    stage.until_good(&outgrow);
}

#[test]
fn a_responder_that_is_down_or_hangs_stops_nothing_and_is_asked_again() {
    let stage = Stage::new(true);
    // It takes connections, and never says a word.
    let mute = TcpListener::bind(stage.responder).expect("free");
    let outgrow = stage.launch(&stage.config("", ""));
    assert!(stage.has_none(), "{}", stage.asked());
    let told = until_state(&outgrow, "a failure", |one| one["failures"] == 1);
    let problem = told["problem"].as_str().unwrap_or_default();
    assert!(problem.ends_with("no answer in time"), "{problem}");
    assert!(
        outgrow.stderr().contains("(must-staple)"),
        "{}",
        outgrow.stderr()
    );
    drop(mute);
    let _responder = stage.respond(DAY);
    stage.until_good(&outgrow);
}

#[test]
fn a_wrong_signer_is_refused() {
    let stage = Stage::new(false);
    let other = OcspAuthority::new().expect("another authority");
    // It has the same name and answers for the same numbers.
    let started = stage.authority.start(stage.responder, &other.own(), DAY);
    let responder = started.expect("a responder");
    let outgrow = stage.launch(&stage.config("", ""));
    let told = until_state(&outgrow, "a failure", |one| one["failures"] != 0);
    let problem = told["problem"].as_str().unwrap_or_default();
    assert!(
        problem.contains("not signed by the certificate's issuer"),
        "{problem}"
    );
    assert!(stage.has_none(), "{}", stage.asked());
    drop(responder);
    let _responder = stage.respond(DAY);
    stage.until_good(&outgrow);
}

#[test]
fn revoked_is_told_loudly_and_to_clients() {
    let mut stage = Stage::new(false);
    stage.authority.revoke(SERIAL).expect("revoked");
    let _responder = stage.respond(DAY);
    let outgrow = stage.launch(&stage.config("", ""));
    let told = until_state(&outgrow, "it is revoked", |one| one["status"] == "revoked");
    assert_eq!(told["revoked_at"], "2026-01-02T03:04:05Z");
    assert!(
        stage.asked().contains("Cert Status: revoked"),
        "{}",
        stage.asked()
    );
    let stderr = outgrow.stderr();
    assert!(stderr.contains("THE CERTIFICATE IS REVOKED"), "{stderr}");
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    let revoked = format!("outgrow_ocsp_revoked{{name=\"{HOST}\",serial=\"2a\"}} 1");
    assert!(metrics.contains(&revoked), "{metrics}");
}

#[test]
fn it_is_renewed_in_its_middle_and_gone_at_its_end() {
    let stage = Stage::new(false);
    let responder = stage.respond(1);
    let outgrow = stage.launch(&stage.config("", ""));
    stage.until_good(&outgrow);
    let first = state(&outgrow);
    let renewed = until_state(&outgrow, "a newer one", |one| {
        one["next_update"] != first["next_update"]
    });
    assert_eq!(renewed["failures"], 0, "{renewed}");
    drop(responder);
    until_state(&outgrow, "a failure", |one| one["failures"] != 0);
    assert!(stage.is_good(), "until its end: {}", stage.asked());
    let limit = Duration::from_secs(70);
    let gone = wait::until("its end", limit, || stage.has_none().then_some(()));
    gone.unwrap_or_else(|waited| panic!("{waited}\n{}", outgrow.stderr()));
    assert_eq!(state(&outgrow)["status"], "none");
}

#[test]
fn a_file_that_somebody_else_keeps_fresh() {
    let mut stage = Stage::new(false);
    let file = stage.pair.chain.with_extension("der");
    let config = stage.config(&format!(", ocsp_file = \"{}\"", file.display()), "");
    // It is not there yet, and what is asked is the file alone.
    let outgrow = stage.launch(&config);
    assert!(stage.has_none(), "{}", stage.asked());
    assert!(
        outgrow.stderr().contains("it is not stapled"),
        "{}",
        outgrow.stderr()
    );
    let own = stage.authority.own();
    let day = &["-ndays", "1"];
    let good = stage
        .authority
        .response(&stage.pair, &own, day)
        .expect("made");
    fs::write(&file, good).expect("written");
    stage.until_good(&outgrow);
    fs::write(&file, "half").expect("written");
    until_state(&outgrow, "it is told", |one| one["problem"] != Value::Null);
    assert!(stage.is_good(), "what was there stays: {}", stage.asked());
    stage.authority.revoke(SERIAL).expect("revoked");
    let revoked = stage
        .authority
        .response(&stage.pair, &own, day)
        .expect("made");
    fs::write(&file, revoked).expect("written");
    until_state(&outgrow, "it is revoked", |one| one["status"] == "revoked");
}
