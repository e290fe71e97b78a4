//! Static files through the real binary, as curl and raw bytes see them.

mod conditions;
mod limits;
mod nginx;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use outgrow_testkit::folder::Folder;
use outgrow_testkit::outgrow::Outgrow;
use outgrow_testkit::raw::End;

use super::compress::{Got, curl};
use super::{ask_until_close, connect, records};
use crate::shop::SOON;

/// A site: pages, a large file, what is not to be seen.
fn site() -> Folder {
    let folder = Folder::new("site").expect("a folder");
    let path = folder.path();
    for directory in ["docs", ".git", "sub dir", ".well-known"] {
        fs::create_dir(path.join(directory)).expect("a directory");
    }
    for (name, text) in [
        ("index.html", "<h1>home</h1>"),
        ("docs/index.html", "<h1>docs</h1>"),
        ("app.js", "let plain = 1;"),
        ("app.js.gz", "as gzip"),
        ("app.js.br", "as brotli"),
        (".git/config", "secret"),
        (".env", "secret"),
        (".well-known/security.txt", "Contact: a"),
        ("sub dir/é.txt", "letters"),
        ("empty.css", ""),
        ("noext", "bytes"),
    ] {
        folder.write(name, text).expect("a file");
    }
    folder.write("large.bin", large()).expect("a file");
    symlink("/etc/passwd", path.join("outside.txt")).expect("a link");
    symlink("index.html", path.join("home.html")).expect("a link");
    let pipe = Command::new("mkfifo").arg(path.join("pipe")).status();
    assert!(pipe.expect("mkfifo runs").success());
    folder
}

/// More than the largest buffer, no two parts of it alike.
fn large() -> Vec<u8> {
    (0..400_000_u32)
        .flat_map(|number| format!("{number:07}\n").into_bytes())
        .collect()
}

fn start(site: &Path, files: &str, route: &str) -> Outgrow {
    let text = format!(
        "[access]\nto = \"access.log\"\n[listener.public]\naddress = \"%public%\"\n\
         [route.site]\n{route}\n[route.site.files]\ndir = \"{}\"\n{files}\n",
        site.display()
    );
    Outgrow::start(&text).expect("outgrow starts")
}

fn text(got: &Got) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

#[test]
fn files_are_found_by_path() {
    let site = site();
    let outgrow = start(site.path(), "", "");
    let html = Some("text/html; charset=utf-8");
    let table = [
        ("/", 200, html, "<h1>home</h1>"),
        ("/index.html", 200, html, "<h1>home</h1>"),
        ("/home.html", 200, html, "<h1>home</h1>"),
        ("/docs/", 200, html, "<h1>docs</h1>"),
        (
            "/docs/../app.js?v=1",
            200,
            Some("text/javascript; charset=utf-8"),
            "let plain = 1;",
        ),
        (
            "/sub%20dir/%C3%A9.txt",
            200,
            Some("text/plain; charset=utf-8"),
            "letters",
        ),
        ("/empty.css", 200, Some("text/css; charset=utf-8"), ""),
        ("/noext", 200, Some("application/octet-stream"), "bytes"),
        (
            "/.well-known/security.txt",
            200,
            Some("text/plain; charset=utf-8"),
            "Contact: a",
        ),
    ];
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for (path, status, kind, body) in table {
            let got = curl(&outgrow, path, &[version]);
            let told = (got.status(), got.field("Content-Type"), text(&got));
            assert_eq!(told, (status, kind, body.to_owned()), "{path}");
            assert!(got.field("ETag").is_some() && got.field("Last-Modified").is_some());
            let head = curl(&outgrow, path, &[version, "-I"]);
            let length = body.len().to_string();
            assert_eq!(
                head.field("Content-Length"),
                Some(length.as_str()),
                "{path}"
            );
        }
    }
}

#[test]
fn what_is_no_file_is_not_found() {
    let site = site();
    let outgrow = start(site.path(), "", "");
    for path in [
        "/absent",
        "/.git/config",
        "/.env",
        "/%2egit/config",
        "/outside.txt",
        "/pipe",
        "/sub%20dir/",
        "/index.html/",
        "/docs/index.html/x",
        "/..%2f..%2fetc/passwd",
        "/a%2Fb",
        "/sub%20dir%2F%C3%A9.txt",
    ] {
        let got = curl(&outgrow, path, &[]);
        assert!(matches!(got.status(), 404 | 400), "{path}: {}", got.head);
        assert!(
            !text(&got).contains("root:") && !text(&got).contains("secret"),
            "{path}"
        );
    }
    let moved = curl(&outgrow, "/docs?a=b", &[]);
    assert_eq!(
        (moved.status(), moved.field("Location")),
        (308, Some("/docs/?a=b"))
    );
    let post = curl(&outgrow, "/", &["-d", "x"]);
    assert_eq!(
        (post.status(), post.field("Allow")),
        (405, Some("GET, HEAD"))
    );
    let record = records(&outgrow, 1).remove(0);
    assert!(record.contains("reason=no_file"), "{record}");
    // A directory of whose path the whole begins with what could be another host.
    let evil = format!("{}/\\evil.example", site.path().display());
    fs::create_dir_all(&evil).expect("a directory");
    fs::write(format!("{evil}/index.html"), "x").expect("a file");
    let moved = curl(&outgrow, "/%5Cevil.example", &[]);
    assert_eq!(moved.field("Location"), Some("/%5Cevil.example/"));
}

#[test]
fn codings_beside_a_file_and_on_the_way() {
    let site = site();
    site.write("page.html", "<p>text</p>".repeat(1_000))
        .expect("a file");
    let outgrow = start(
        site.path(),
        "precompressed = [\"br\", \"gzip\"]",
        "compress = {}",
    );
    for (accept, coding, body) in [
        ("gzip", Some("gzip"), "as gzip"),
        ("gzip, br", Some("br"), "as brotli"),
        ("gzip, br;q=0.5", Some("gzip"), "as gzip"),
        ("zstd", None, "let plain = 1;"),
        ("identity", None, "let plain = 1;"),
    ] {
        let got = curl(
            &outgrow,
            "/app.js",
            &["-H", &format!("Accept-Encoding: {accept}")],
        );
        assert_eq!(
            (got.field("Content-Encoding"), text(&got).as_str()),
            (coding, body),
            "{accept}"
        );
        assert_eq!(got.field("Vary"), Some("Accept-Encoding"));
        assert_eq!(
            got.field("Content-Type"),
            Some("text/javascript; charset=utf-8")
        );
    }
    let zstd = ["--compressed", "-H", "Accept-Encoding: zstd"];
    let got = curl(&outgrow, "/page.html", &zstd);
    assert_eq!(
        (got.field("Content-Encoding"), got.body.len()),
        (Some("zstd"), 11_000)
    );
    let tag = format!("If-None-Match: {}", got.field("ETag").expect("a tag"));
    let again = curl(
        &outgrow,
        "/page.html",
        &["-H", "Accept-Encoding: zstd", "-H", &tag],
    );
    assert_eq!(again.status(), 304);
    assert_eq!(again.field("Vary"), Some("Accept-Encoding"));
    let part = curl(
        &outgrow,
        "/page.html",
        &["-H", "Accept-Encoding: zstd", "-r", "0-2"],
    );
    assert_eq!(
        (
            part.status(),
            text(&part).as_str(),
            part.field("Content-Encoding")
        ),
        (206, "<p>", None)
    );
}

#[test]
fn a_single_page_application_gets_its_page() {
    let site = site();
    let route = "path = \"/app\"\nstrip_prefix = true";
    let outgrow = start(
        site.path(),
        "fallback = \"index.html\"\ncache_control = \"max-age=9\"",
        route,
    );
    for (path, accept, status) in [
        ("/app/users/7", "*/*", 200),
        ("/app/users/", "*/*", 200),
        ("/app/gone.js", "*/*", 404),
        ("/app/john.doe", "text/html,*/*", 200),
    ] {
        let got = curl(&outgrow, path, &["-H", &format!("Accept: {accept}")]);
        assert_eq!(got.status(), status, "{path}");
        if status == 200 {
            assert_eq!(
                (text(&got).as_str(), got.field("Cache-Control")),
                ("<h1>home</h1>", Some("no-cache"))
            );
        }
    }
    let script = curl(&outgrow, "/app/app.js", &[]);
    assert_eq!(
        (text(&script).as_str(), script.field("Cache-Control")),
        ("let plain = 1;", Some("max-age=9"))
    );
    let moved = curl(&outgrow, "/app/docs", &[]);
    assert_eq!(moved.field("Location"), Some("/app/docs/"));
}

#[test]
fn a_new_file_is_seen_soon() {
    let site = site();
    let outgrow = start(site.path(), "", "");
    assert_eq!(text(&curl(&outgrow, "/app.js", &[])), "let plain = 1;");
    site.write("new.js", "let plain = 2;").expect("a file");
    fs::rename(site.path().join("new.js"), site.path().join("app.js")).expect("renamed");
    let is_new = || text(&curl(&outgrow, "/app.js", &[])) == "let plain = 2;";
    outgrow
        .wait("the new file", SOON, |_| is_new().then_some(()))
        .expect("the new file");
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_never_mixed() {
    const SIZE: usize = 30_000_000;
    let site = site();
    let outgrow = start(site.path(), "", "");
    let large = site.path().join("large.bin");
    for in_place in [false, true] {
        fs::write(&large, vec![b'a'; SIZE]).expect("a file");
        let mut client = connect(&outgrow);
        let ask = b"GET /large.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.send(ask).expect("sent");
        assert!(client.receive_bytes(100_000, SOON).expect("received"));
        if in_place {
            fs::write(&large, vec![b'Z'; SIZE]).expect("written into");
        } else {
            let next = site.write("next.bin", vec![b'Z'; SIZE]).expect("a file");
            fs::rename(next, &large).expect("renamed");
        }
        let exchange = client.receive_to_end(SOON).expect("received");
        assert_ne!(exchange.end, End::Open);
        assert!(!exchange.received.contains(&b'Z'), "in place: {in_place}");
        let is_whole = exchange.received.len() > SIZE;
        assert_eq!(is_whole, !in_place, "{}", exchange.received.len());
    }
    let told = outgrow.wait("a record", SOON, |_| {
        let mut lines = records(&outgrow, 1).into_iter();
        lines.find(|line| line.contains("reason=file_changed"))
    });
    told.expect("a record of the cut");
}

/// Times of reproducible images say nothing: no tag, no date.
#[test]
fn files_without_a_time_have_no_tag() {
    let site = site();
    let file = fs::File::options()
        .write(true)
        .open(site.path().join("app.js"))
        .expect("a file");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
        .expect("a time");
    let outgrow = start(site.path(), "", "");
    let got = curl(&outgrow, "/app.js", &[]);
    assert_eq!(
        (got.status(), got.field("ETag"), got.field("Last-Modified")),
        (200, None, None)
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let site = site();
    let outgrow = start(site.path(), "", "");
    let one = |path: &str, last: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{last}\r\n");
    let all = [
        one("/app.js", ""),
        one("/absent", ""),
        one("/docs/", "Connection: close\r\n"),
    ]
    .concat();
    let answers = ask_until_close(&outgrow, &all);
    let place = |text: &str| {
        answers
            .find(text)
            .unwrap_or_else(|| panic!("{text} in {answers}"))
    };
    assert!(place("let plain") < place(" 404 ") && place(" 404 ") < place("<h1>docs"));
}
