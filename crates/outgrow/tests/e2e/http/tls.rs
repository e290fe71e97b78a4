//! TLS and HTTP/2, spoken to by curl, which knows nothing of us.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use outgrow_testkit::{
    backend::{Recorder, Script, response},
    folder::Folder,
    outgrow::Outgrow,
};

use super::{Front, field, records};
use crate::shop::{self, SOON};

/// A certificate of its own for a name, and its key.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

fn pair(folder: &Folder, name: &str, file: &str) -> Pair {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    let certificate = folder
        .write(&format!("{file}.pem"), made.cert.pem())
        .expect("written");
    let key = folder.write(&format!("{file}.key"), made.signing_key.serialize_pem());
    Pair {
        certificate,
        key: key.expect("written"),
    }
}

impl Pair {
    fn entry(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("{{ certificate = \"{certificate}\", key = \"{key}\" }}")
    }
}

/// What curl says: the status, the version of HTTP and the body; or why not.
fn curl(outgrow: &Outgrow, host: &str, arguments: &[&str]) -> Result<String, String> {
    let port = outgrow.address("public").expect("an address").port();
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
        ])
        .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
        .args(["--write-out", " %{http_code} HTTP/%{http_version}"])
        .args(arguments)
        .output()
        .expect("curl is missing: apt-get install curl");
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn get(outgrow: &Outgrow, host: &str, trust: &Path, more: &[&str]) -> Result<String, String> {
    let port = outgrow.address("public").expect("an address").port();
    let url = format!("https://{host}:{port}/");
    let trust = trust.display().to_string();
    curl(
        outgrow,
        host,
        &[&["--cacert", &trust, &url][..], more].concat(),
    )
}

fn hello() -> Recorder {
    Recorder::start(Script::answer(response("hello"))).expect("a backend")
}

#[test]
fn the_server_name_picks_the_certificate() {
    let folder = Folder::new("tls").expect("a folder");
    let (one, two) = (
        pair(&folder, "one.example", "one"),
        pair(&folder, "two.example", "two"),
    );
    let tls = format!(
        "[listener.public.tls]\ncertificates = [ {}, {} ]",
        one.entry(),
        two.entry()
    );
    let backend = hello();
    let outgrow = Front {
        listener: &tls,
        ..Front::default()
    }
    .before(&backend);
    assert_eq!(
        get(&outgrow, "one.example", &one.certificate, &[]),
        Ok("hello 200 HTTP/2".into())
    );
    let old = get(&outgrow, "two.example", &two.certificate, &["--http1.1"]);
    assert_eq!(old, Ok("hello 200 HTTP/1.1".into()));
    let wrong = get(&outgrow, "two.example", &one.certificate, &[]);
    assert!(wrong.is_err(), "the other certificate was shown: {wrong:?}");
    let requests = backend.requests();
    assert_eq!(requests.len(), 2);
    for (request, via) in requests.iter().zip(["2 outgrow", "1.1 outgrow"]) {
        let request = String::from_utf8_lossy(request).into_owned();
        assert_eq!(
            field(&request, "X-Forwarded-Proto"),
            Some("https"),
            "{request}"
        );
        assert_eq!(field(&request, "Via"), Some(via), "{request}");
        assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
    }
    let lines = records(&outgrow, 2);
    for version in [" HTTP/2\" 200 ", " HTTP/1.1\" 200 "] {
        assert!(
            lines.iter().any(|line| line.contains(version)),
            "{version} in {lines:?}"
        );
    }
}

#[test]
fn renewed_certificates_are_taken_over() {
    let folder = Folder::new("tls").expect("a folder");
    let served = pair(&folder, "one.example", "served");
    let tls = format!(
        "[listener.public.tls]\ncertificates = [ {} ]",
        served.entry()
    );
    let old = folder.path().join("old.pem");
    fs::copy(&served.certificate, &old).expect("copied");
    let backend = hello();
    let outgrow = Front {
        listener: &tls,
        ..Front::default()
    }
    .before(&backend);
    assert!(get(&outgrow, "one.example", &old, &[]).is_ok());
    let new = pair(&folder, "one.example", "new");
    // As certificate tools do: the key first, the certificate last, each in one step.
    fs::copy(&new.key, folder.path().join("key.next")).expect("copied");
    fs::copy(&new.certificate, folder.path().join("certificate.next")).expect("copied");
    fs::rename(folder.path().join("key.next"), &served.key).expect("renamed");
    fs::rename(folder.path().join("certificate.next"), &served.certificate).expect("renamed");
    // Nobody asks for a reload: the files are watched.
    let taken = |outgrow: &Outgrow| get(outgrow, "one.example", &new.certificate, &[]).ok();
    outgrow
        .wait("the new certificate is served", SOON, taken)
        .expect("served");
    assert!(get(&outgrow, "one.example", &old, &[]).is_err());
}

#[test]
fn a_key_that_does_not_fit_changes_nothing() {
    let folder = Folder::new("tls").expect("a folder");
    let served = pair(&folder, "one.example", "served");
    let other = pair(&folder, "one.example", "other");
    let tls = format!(
        "[listener.public.tls]\ncertificates = [ {} ]",
        served.entry()
    );
    let backend = hello();
    let outgrow = Front {
        listener: &tls,
        ..Front::default()
    }
    .before(&backend);
    fs::copy(&other.key, &served.key).expect("copied");
    let answer = outgrow.admin_post("/reload", "").expect("an answer");
    assert_ne!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("served.key"), "{}", answer.text());
    assert!(get(&outgrow, "one.example", &served.certificate, &[]).is_ok());
}

#[test]
fn http2_works_without_tls_by_prior_knowledge() {
    let script = Script::reply(|request| {
        let end = request
            .windows(4)
            .position(|at| at == b"\r\n\r\n")
            .unwrap_or_default()
            + 4;
        response(format!("{} bytes", request.len() - end))
    });
    let backend = Recorder::start(script).expect("a backend");
    let outgrow = Front::default().before(&backend);
    let port = outgrow.address("public").expect("an address").port();
    let url = format!("http://one.example:{port}/up?load");
    let folder = Folder::new("tls").expect("a folder");
    let body = folder.write("body", "x".repeat(300_000)).expect("written");
    let body = format!("@{}", body.display());
    let known = ["--http2-prior-knowledge", "--data-binary", &body, &url];
    assert_eq!(
        curl(&outgrow, "one.example", &known),
        Ok("300000 bytes 200 HTTP/2".into())
    );
    let old = curl(&outgrow, "one.example", &[&url]);
    assert_eq!(old, Ok("0 bytes 200 HTTP/1.1".into()));
    let request = String::from_utf8_lossy(&backend.requests()[0]).into_owned();
    assert!(
        request.starts_with("POST /up?load HTTP/1.1\r\n"),
        "{request}"
    );
    assert_eq!(
        field(&request, "Host"),
        Some(format!("one.example:{port}").as_str())
    );
    assert_eq!(field(&request, "Content-Length"), Some("300000"));
}

#[test]
fn a_listener_may_speak_one_version_only() {
    let backend = hello();
    let outgrow = Front {
        listener: "protocols = [\"http/1.1\"]",
        ..Front::default()
    }
    .before(&backend);
    let port = outgrow.address("public").expect("an address").port();
    let url = format!("http://one.example:{port}/");
    assert_eq!(
        curl(&outgrow, "one.example", &[&url]),
        Ok("hello 200 HTTP/1.1".into())
    );
    assert!(curl(&outgrow, "one.example", &["--http2-prior-knowledge", &url]).is_err());
    drop(outgrow);
    let outgrow = Front {
        listener: "protocols = [\"h2\"]",
        ..Front::default()
    }
    .before(&backend);
    let port = outgrow.address("public").expect("an address").port();
    let url = format!("http://one.example:{port}/");
    let known = curl(&outgrow, "one.example", &["--http2-prior-knowledge", &url]);
    assert_eq!(known, Ok("hello 200 HTTP/2".into()));
    let old = curl(&outgrow, "one.example", &["--http1.1", &url]).expect("an answer");
    assert!(old.ends_with(" 505 HTTP/1.1"), "{old}");
}

#[test]
fn a_large_download_over_http2_is_whole() {
    let shop = shop::Beside::start().expect("a shop");
    let outgrow = Front::default().start(&[shop.address]);
    let port = outgrow.address("public").expect("an address").port();
    let url = format!("http://one.example:{port}/bytes/20000000");
    let arguments = ["--http2-prior-knowledge", "--output", "/dev/null", &url];
    let arguments = [
        &arguments[..],
        &["--write-out", "%{size_download} %{http_code}"],
    ]
    .concat();
    assert_eq!(
        curl(&outgrow, "one.example", &arguments),
        Ok("20000000 200".into())
    );
}
