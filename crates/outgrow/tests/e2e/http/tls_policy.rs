//! What a listener demands of TLS clients, and what it tells endpoints and browsers: spoken to by curl
//! and OpenSSL, which know nothing of us.

use std::{
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
};

use outgrow_testkit::{
    authority::{Authority, Issued},
    backend::{Recorder, Script, response},
    folder::Folder,
    outgrow::Outgrow,
};

use super::{Front, field, records};
use crate::shop::SOON;

fn port(outgrow: &Outgrow) -> u16 {
    outgrow.address("public").expect("an address").port()
}

/// What curl says of `https://one.example/`: the head, the body and the status; or why not.
fn curl(outgrow: &Outgrow, more: &[&str]) -> Result<String, String> {
    let port = port(outgrow);
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
            "--include",
        ])
        .args([
            "--insecure",
            "--resolve",
            &format!("one.example:{port}:127.0.0.1"),
        ])
        .args(more)
        .arg(format!("https://one.example:{port}/"))
        .output()
        .expect("curl is missing: apt-get install curl");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// What `openssl s_client` says of a handshake, and whether there was one.
fn openssl(outgrow: &Outgrow, more: &[&str]) -> (bool, String) {
    let mut client = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &format!("127.0.0.1:{}", port(outgrow)),
        ])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is missing: apt-get install openssl");
    // A request, so that the tickets of TLS 1.3 have come before its answer; the client ends when the
    // server does.
    let request = b"GET / HTTP/1.1\r\nHost: one.example\r\nConnection: close\r\n\r\n";
    let mut input = client.stdin.take().expect("an input");
    let _ = input.write_all(request);
    let mut output = client.stdout.take().expect("an output");
    let mut errors = client.stderr.take().expect("errors");
    let mut text = Vec::new();
    let _ = output.read_to_end(&mut text);
    let _ = errors.read_to_end(&mut text);
    drop(input);
    client.wait().expect("it ends");
    let text = String::from_utf8_lossy(&text).into_owned();
    (text.contains(" 200 OK"), text)
}

/// A server's certificate in a `[listener.public.tls]`, with these lines behind.
fn tls(authority: &Authority, names: &[&str], settings: &str) -> String {
    let own = authority.issue(names).expect("issued");
    let (certificate, key) = authority.files(names[0], &own).expect("written");
    let (certificate, key) = (certificate.display(), key.display());
    format!(
        "[listener.public.tls]\ncertificates = [{{ certificate = \"{certificate}\", key = \"{key}\" }}]\n{settings}\n"
    )
}

fn front(backend: &Recorder, listener: &str) -> Outgrow {
    Front {
        listener,
        ..Front::default()
    }
    .before(backend)
}

fn hello() -> Recorder {
    Recorder::start(Script::answer(response("hello"))).expect("a backend")
}

fn with_serial(authority: &Authority, name: &str, serial: u64) -> Issued {
    let issued = authority.issue_with(&[name], |params| {
        params.serial_number = Some(serial.into());
    });
    issued.expect("issued")
}

/// curl's arguments for showing this certificate.
fn shown(authority: &Authority, name: &str, issued: &Issued) -> [String; 4] {
    let (certificate, key) = authority.files(name, issued).expect("written");
    let text = |path: &Path| path.display().to_string();
    [
        "--cert".into(),
        text(&certificate),
        "--key".into(),
        text(&key),
    ]
}

#[test]
fn clients_show_certificates_and_endpoints_are_told() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let folder = Folder::new("revoked").unwrap();
    let good = with_serial(&authority, "app.example", 1001);
    let revoked = with_serial(&authority, "old.example", 1002);
    let foreign = with_serial(&other, "app.example", 1003);
    let list = authority.revocations(&[1002]).unwrap();
    let list = folder.write("crl.pem", list).unwrap();
    let ca = authority.ca_file().unwrap();
    let clients = |more: &str| {
        format!(
            "[listener.public.tls.clients]\nca = \"{}\"\nrevoked = [\"{}\"]\n{more}",
            ca.display(),
            list.display()
        )
    };
    let listener = tls(&authority, &["one.example"], &clients(""));
    let backend = hello();
    let mut outgrow = front(&backend, &listener);
    let get = |outgrow: &Outgrow, who: &[String], more: &[&str]| {
        let who: Vec<&str> = who.iter().map(String::as_str).collect();
        curl(outgrow, &[&who, more].concat())
    };
    let good = shown(&authority, "good", &good);
    let lies = [
        "--header",
        "X-Client-Cert-CN: admin",
        "--header",
        "client_cert: :AAAA:",
    ];
    // Together, and alone: one may be what makes the other be looked for.
    for version in ["--http1.1", "--http2"] {
        for lies in [&lies[..], &lies[..2], &lies[2..]] {
            let answer = get(&outgrow, &good, &[lies, &[version]].concat()).expect("an answer");
            assert!(answer.contains("hello"), "{answer}");
        }
    }
    for request in backend.requests() {
        let request = String::from_utf8_lossy(&request).into_owned();
        assert_eq!(
            field(&request, "X-Client-Cert-CN"),
            Some("app.example"),
            "{request}"
        );
        assert_eq!(
            field(&request, "X-Client-Cert-SAN"),
            Some("DNS:app.example"),
            "{request}"
        );
        let fingerprint = field(&request, "X-Client-Cert-SHA256").expect("a fingerprint");
        assert_eq!(fingerprint.len(), 64);
        assert!(
            !request.contains("admin") && !request.contains("AAAA"),
            "{request}"
        );
    }
    for (who, of, name) in [
        (&revoked, &authority, "revoked"),
        (&foreign, &other, "foreign"),
    ] {
        let refused = get(&outgrow, &shown(of, name, who), &[]);
        assert!(refused.is_err(), "{name}: {refused:?}");
    }
    let nobody = curl(&outgrow, &lies);
    assert!(nobody.is_err(), "{nobody:?}");
    assert_eq!(backend.requests().len(), 6);
    // Who need not show one, and does not, cannot say that it did.
    let optional = clients("required = false\nforward = [\"certificate\"]");
    let optional = Front {
        listener: &tls(&authority, &["one.example"], &optional),
        ..Front::default()
    };
    let answer = outgrow
        .reload(&optional.config(&[backend.address()]))
        .expect("reloaded");
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The one of RFC 9440 alone.
    assert!(curl(&outgrow, &lies[2..]).is_ok());
    assert!(get(&outgrow, &good, &[]).is_ok());
    assert!(get(&outgrow, &shown(&authority, "revoked", &revoked), &[]).is_err());
    let requests = backend.requests();
    let last: Vec<String> = requests[6..]
        .iter()
        .map(|request| String::from_utf8_lossy(request).to_lowercase())
        .collect();
    assert!(
        !last[0].contains("client-cert") && !last[0].contains("client_cert"),
        "{}",
        last[0]
    );
    assert!(last[1].contains("client-cert: :mii"), "{}", last[1]);
    // A list that is none changes nothing.
    folder.write("crl.pem", "nothing").unwrap();
    let answer = outgrow.admin_post("/reload", "").expect("an answer");
    assert!(answer.text().contains("crl.pem"), "{}", answer.text());
    assert!(get(&outgrow, &good, &[]).is_ok());
}

#[test]
fn versions_suites_and_names_are_as_they_are_said() {
    let authority = Authority::new().unwrap();
    let backend = hello();
    let settings = "min_version = \"1.2\"\nunknown_name = \"refuse\"\n\
        cipher_suites = [\"TLS_AES_128_GCM_SHA256\", \"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]";
    let mut outgrow = front(
        &backend,
        &tls(&authority, &["one.example", "*.two.example"], settings),
    );
    let named = ["-servername", "one.example"];
    let check = |outgrow: &Outgrow, more: &[&str], expected: Option<&str>| {
        let (there, text) = openssl(outgrow, more);
        let agreed = text.lines().find_map(|line| line.split_once("Cipher is "));
        let agreed = agreed.map(|(_, suite)| suite.trim());
        assert_eq!(agreed.filter(|_| there), expected, "{more:?}: {text}");
    };
    check(&outgrow, &named, Some("TLS_AES_128_GCM_SHA256"));
    check(
        &outgrow,
        &["-servername", "a.two.example"],
        Some("TLS_AES_128_GCM_SHA256"),
    );
    check(&outgrow, &["-servername", "three.example"], None);
    check(&outgrow, &["-noservername"], None);
    let older = |more: &[&'static str]| [&named[..], &["-tls1_2"], more].concat();
    check(&outgrow, &older(&[]), Some("ECDHE-ECDSA-AES256-GCM-SHA384"));
    let other = older(&["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]);
    check(&outgrow, &other, None);
    check(
        &outgrow,
        &[&named[..], &["-ciphersuites", "TLS_AES_256_GCM_SHA384"]].concat(),
        None,
    );
    let newer = Front {
        listener: &tls(&authority, &["one.example"], "min_version = \"1.3\""),
        ..Front::default()
    };
    outgrow
        .reload(&newer.config(&[backend.address()]))
        .expect("reloaded");
    check(&outgrow, &older(&[]), None);
    check(&outgrow, &["-noservername"], Some("TLS_AES_256_GCM_SHA384"));
    // Older versions, which this OpenSSL speaks only when it is told to.
    for version in ["-tls1", "-tls1_1"] {
        check(
            &outgrow,
            &[&named[..], &[version, "-cipher", "DEFAULT:@SECLEVEL=0"]].concat(),
            None,
        );
    }
}

#[test]
fn a_session_goes_on_at_another_edge_with_the_same_secret() {
    let authority = Authority::new().unwrap();
    let folder = Folder::new("session").unwrap();
    let backend = hello();
    let (one, two) = ("a".repeat(32), "b".repeat(32));
    let with = |secrets: &str| {
        let settings = format!("ticket_secret = {secrets}");
        front(&backend, &tls(&authority, &["one.example"], &settings))
    };
    let first = with(&format!("\"{one}\""));
    let same = with(&format!("[\"{two}\", \"{one}\"]"));
    let other = with(&format!("\"{two}\""));
    for version in ["-tls1_2", "-tls1_3"] {
        let session = folder.path().join("session.pem").display().to_string();
        let (there, text) = openssl(&first, &[version, "-sess_out", &session]);
        assert!(there && text.contains("New, TLS"), "{text}");
        for (outgrow, expected) in [(&same, "Reused, TLS"), (&other, "New, TLS")] {
            let (there, text) = openssl(outgrow, &[version, "-sess_in", &session]);
            assert!(
                there && text.contains(expected),
                "{version} {expected}: {text}"
            );
        }
    }
}

#[test]
fn browsers_are_told_to_come_with_tls() {
    let authority = Authority::new().unwrap();
    let backend = Recorder::start(Script::reply(|request| {
        let own = request.starts_with(b"GET /own");
        let field = if own {
            "Strict-Transport-Security: max-age=5\r\n"
        } else {
            ""
        };
        format!("HTTP/1.1 200 OK\r\n{field}Content-Length: 0\r\n\r\n").into_bytes()
    }))
    .expect("a backend");
    let hsts = "[listener.public.tls.hsts]\nmax_age = \"1h\"\nsubdomains = true";
    let listener = tls(&authority, &["one.example"], hsts);
    let plain =
        "[listener.plain]\naddress = \"%plain%\"\nredirect_to_https = true\nhttps_port = 8443";
    let outgrow = Front {
        listener: &listener,
        route: "path = \"/own\"",
        more: plain,
        ..Front::default()
    }
    .before(&backend);
    let told = "strict-transport-security: max-age=3600; includesubdomains\r\n";
    // Our own answer: there is no route.
    let answer = curl(&outgrow, &[]).expect("an answer").to_lowercase();
    assert!(answer.contains(" 404") && answer.contains(told), "{answer}");
    let own = curl(&outgrow, &["--request-target", "/own"]).expect("an answer");
    let own = own.to_lowercase();
    assert_eq!(own.matches("strict-transport-security").count(), 1, "{own}");
    assert!(own.contains("max-age=5\r\n"), "{own}");
    let address = outgrow.address("plain").expect("an address");
    let ask = |request: &str| {
        let mut client = outgrow_testkit::raw::Client::connect(address).expect("connected");
        client.send(request.as_bytes()).expect("sent");
        assert!(client.receive_until(b"\r\n\r\n", SOON).expect("an answer"));
        let answer = client.take_received();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer =
        ask("POST /a%20b?c=d&e HTTP/1.1\r\nHost: one.example:80\r\nContent-Length: 0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    let to = "\r\nLocation: https://one.example:8443/a%20b?c=d&e\r\n";
    assert!(answer.contains(to), "{answer}");
    assert!(!answer.contains("Strict-Transport-Security"), "{answer}");
    let lines = records(&outgrow, 3);
    assert!(lines.iter().any(|line| line.contains(" 308 ")), "{lines:?}");
}
