//! Certificates that outgrow gets itself, from a real authority (pebble) that refuses nonces now and
//! then, and looks at the answers as others do.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use outgrow_testkit::{
    folder::Folder,
    outgrow::{Launch, Outgrow},
    pebble::{Pebble, Rules},
    ports,
    processes::{self, Signal},
    wait,
};
use serde_json::Value;

/// How long an order may take on a busy machine.
const ORDERED: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

/// An authority, a place for the storage, and where the authority asks.
struct Stage {
    pebble: Pebble,
    folder: Folder,
    http: std::net::SocketAddr,
    tls: std::net::SocketAddr,
}

impl Stage {
    fn new(edit: impl FnOnce(&mut Rules)) -> Self {
        let free = ports::free(2).expect("ports");
        let mut rules = Rules::new(free[0].port(), free[1].port());
        edit(&mut rules);
        Self {
            pebble: Pebble::start(rules).expect("an authority"),
            folder: Folder::new("acme").expect("a folder"),
            http: free[0],
            tls: free[1],
        }
    }

    fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// Both listeners where the authority asks; what `[acme]` has besides, and the certificates.
    fn config(&self, acme: &str, certificates: &str) -> String {
        format!(
            r#"
[listener.plain]
address = "%http%"
[listener.public]
address = "%tls%"
[listener.public.tls]
acme = [ {certificates} ]
[route.redirect]
redirect = {{ to = "https://shop.example/" }}
listener = "plain"
[route.hello]
path = "/"
listener = "public"
respond = {{ status = 200, body = "hello" }}
[acme]
directory = "{}"
ca = "{}"
terms_agreed = true
contact = ["admin@shop.example"]
storage = "{}"
{acme}
"#,
            self.pebble.directory(),
            self.pebble.ca_file().expect("a file").display(),
            self.storage().display()
        )
    }

    fn launch(&self, acme: &str, certificates: &str) -> Outgrow {
        Launch::config(&self.config(acme, certificates))
            .address("http", self.http)
            .address("tls", self.tls)
            .start()
            .expect("outgrow")
    }

    /// How many orders were begun.
    fn orders(&self) -> usize {
        self.pebble.log().matches("POST /order-plz ->").count()
    }
}

/// What curl gets from a name, trusting anybody; or why not.
fn get(address: std::net::SocketAddr, name: &str) -> Result<String, String> {
    let port = address.port();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", "--max-time", "10"])
        .args([
            "--noproxy",
            "*",
            "--resolve",
            &format!("{name}:{port}:127.0.0.1"),
        ])
        .arg(format!("https://{name}:{port}/"))
        .output()
        .expect("curl is missing: apt-get install curl");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn certificates(outgrow: &Outgrow) -> Vec<Value> {
    let state = outgrow.admin_get("/state").expect("a state");
    let state = state.json().unwrap_or_default();
    state["certificates"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Waits until the first certificate is as wanted; gives what is told of it.
fn until(outgrow: &Outgrow, what: &str, limit: Duration, is: impl Fn(&Value) -> bool) -> Value {
    let found = wait::until(what, limit, || {
        certificates(outgrow)
            .into_iter()
            .next()
            .filter(|one| is(one))
    });
    found.unwrap_or_else(|waited| {
        panic!(
            "{waited}: {:?}\n{}",
            certificates(outgrow),
            outgrow.stderr()
        )
    })
}

fn until_valid(outgrow: &Outgrow) -> Value {
    until(outgrow, "a certificate", ORDERED, |one| {
        one["state"] == "valid"
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn http_01_is_answered_before_routes_and_renewed_without_a_reload() {
    let stage = Stage::new(|rules| rules.life_seconds = 45);
    let outgrow = stage.launch("", r#"{ names = ["shop.example", "www.shop.example"] }"#);
    let first = until_valid(&outgrow);
    for name in ["shop.example", "www.shop.example"] {
        assert_eq!(get(stage.tls, name).as_deref(), Ok("hello"), "{name}");
    }
    assert_eq!(mode(&stage.storage()), 0o700);
    for entry in fs::read_dir(stage.storage().join("certificates")).expect("there") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let second = until(&outgrow, "a renewal", ORDERED, |one| {
        one["state"] == "valid" && one["not_after"] != first["not_after"]
    });
    assert_eq!(second["failures"], 0, "{second}");
    assert_eq!(get(stage.tls, "shop.example").as_deref(), Ok("hello"));
    assert_eq!(certificates(&outgrow)[0]["problem"], Value::Null);
    let stderr = outgrow.stderr();
    assert!(!stderr.contains("reloaded"), "{stderr}");
}

#[test]
fn until_there_is_one_the_handshake_is_refused_and_readyz_tells() {
    let mut stage = Stage::new(|_| {});
    stage.pebble.kill();
    let outgrow = stage.launch("", r#"{ names = ["shop.example"] }"#);
    let told = until(&outgrow, "a failure", SOON, |one| one["failures"] == 1);
    let problem = told["problem"].as_str().unwrap_or_default().to_owned();
    assert!(problem.contains("cannot be reached"), "{problem}");
    assert!(get(stage.tls, "shop.example").is_err());
    let ready = outgrow.admin_get("/readyz").expect("an answer");
    assert_eq!(ready.status, 200);
    assert!(
        ready
            .text()
            .contains("without a valid certificate: shop.example"),
        "{}",
        ready.text()
    );
    // It comes back, and is asked again by itself.
    stage.pebble.start_again().expect("an authority");
    let limit = Duration::from_secs(120);
    until(&outgrow, "a certificate", limit, |one| {
        one["state"] == "valid"
    });
    assert_eq!(get(stage.tls, "shop.example").as_deref(), Ok("hello"));
    // Once it is there, nobody is asked at a start.
    stage.pebble.kill();
    let pids = outgrow.pids();
    processes::signal(pids.data[0], Signal::KILL).expect("killed");
    wait::until("another process serves it", SOON, || {
        get(stage.tls, "shop.example")
            .ok()
            .filter(|body| body == "hello")
    })
    .expect("served from the storage");
}

#[test]
fn tls_alpn_01_with_rsa_and_an_external_account() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let stage = Stage::new(|rules| rules.external_account = Some(("kid-1".into(), key.into())));
    let acme = format!("external_account = {{ id = \"kid-1\", key = \"{key}\" }}");
    let certificate =
        r#"{ names = ["shop.example"], challenge = "tls-alpn-01", key = "rsa-2048" }"#;
    let outgrow = stage.launch(&acme, certificate);
    until_valid(&outgrow);
    assert_eq!(get(stage.tls, "shop.example").as_deref(), Ok("hello"));
    // Who offers the challenge's protocol gets nothing but the handshake, and that for no name of ours.
    let name = "shop.example";
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &stage.tls.to_string()])
        .args(["-servername", name, "-alpn", "acme-tls/1"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl is missing");
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn dns_01_proves_a_wildcard_and_an_order_outlives_the_process() {
    let stage = Stage::new(|rules| rules.bad_nonces_percent = 0);
    let management = stage.pebble.dns_management();
    let ask = |path: &str, body: &str| {
        format!("curl --silent --fail --noproxy '*' -d '{body}' http://{management}/{path}")
    };
    let present = ask(
        "set-txt",
        r#"{\"host\":\"'$OUTGROW_ACME_RECORD'.\",\"value\":\"'$OUTGROW_ACME_VALUE'\"}"#,
    );
    let clean = ask("clear-txt", r#"{\"host\":\"'$OUTGROW_ACME_RECORD'.\"}"#);
    let acme = format!("dns_present = \"{present}\"\ndns_clean = \"{clean}\"\ndns_wait = \"6s\"");
    let outgrow = stage.launch(&acme, r#"{ names = ["*.shop.example"] }"#);
    wait::until("the record is written", ORDERED, || {
        outgrow
            .stderr()
            .contains("dns_present for shop.example has run")
            .then_some(())
    })
    .expect("written");
    // In the middle of the order.
    processes::signal(outgrow.pids().data[0], Signal::KILL).expect("killed");
    until_valid(&outgrow);
    assert_eq!(get(stage.tls, "any.shop.example").as_deref(), Ok("hello"));
    assert_eq!(
        stage.orders(),
        1,
        "it went on with the order that was there"
    );
    let stderr = outgrow.stderr();
    assert!(
        stderr.contains("dns_clean for shop.example has run"),
        "{stderr}"
    );
}

#[test]
fn of_two_with_one_storage_one_orders_and_both_serve() {
    let stage = Stage::new(|rules| rules.bad_nonces_percent = 0);
    let one = stage.launch("", r#"{ names = ["shop.example"] }"#);
    let config = stage
        .config("", r#"{ names = ["shop.example"] }"#)
        .replace("%http%", "%http2%")
        .replace("%tls%", "%tls2%");
    let two = Outgrow::start(&config).expect("another outgrow");
    until_valid(&one);
    until_valid(&two);
    let address = two.address("tls2").expect("an address");
    let body = wait::until("the other serves it", SOON, || {
        get(address, "shop.example").ok()
    });
    assert_eq!(body.as_deref().ok(), Some("hello"));
    assert_eq!(stage.orders(), 1);
}

#[test]
fn another_name_takes_none_out_of_service_and_open_storage_is_refused() {
    let stage = Stage::new(|_| {});
    let mut outgrow = stage.launch("", r#"{ names = ["shop.example"] }"#);
    until_valid(&outgrow);
    // A name that leads nowhere: there will be no certificate for both.
    stage.pebble.lead("new.example", "127.0.0.9").expect("led");
    let more = stage.config("", r#"{ names = ["shop.example", "new.example"] }"#);
    outgrow.write_config(&more).expect("written");
    let told = until(&outgrow, "a failure", ORDERED, |one| one["failures"] == 1);
    let problem = told["problem"].as_str().unwrap_or_default();
    assert!(
        problem.starts_with("new.example: ") && problem.contains("port 80"),
        "{problem}"
    );
    assert_eq!(get(stage.tls, "shop.example").as_deref(), Ok("hello"));
    let open = fs::Permissions::from_mode(0o750);
    fs::set_permissions(stage.storage(), open).expect("changed");
    let refused = outgrow.admin_post("/reload", "").expect("an answer");
    assert_ne!(refused.status, 200);
    assert!(refused.text().contains("chmod 0700"), "{}", refused.text());
}
