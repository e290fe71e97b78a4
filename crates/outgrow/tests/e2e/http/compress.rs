//! Compressed responses as curl sees them, which decodes gzip, Brotli and zstd with the libraries that
//! browsers have.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use outgrow_testkit::backend::{Gate, Recorder, Script, Step};
use outgrow_testkit::outgrow::Outgrow;

use super::{Front, field, records};
use crate::shop::SOON;

/// What curl got: the last head, and the body as it decoded it.
pub(super) struct Got {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Got {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(super) fn status(&self) -> u16 {
        let mut words = self.head.split(' ');
        words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }
}

/// Asks with curl; `arguments` before the URL.
pub(super) fn curl(outgrow: &Outgrow, path: &str, arguments: &[&str]) -> Got {
    let head_file = outgrow.folder().join("head.txt");
    curl_at(&outgrow.url("public", path), arguments, &head_file)
}

/// The same of any server; the head is written to a file.
pub(super) fn curl_at(url: &str, arguments: &[&str], head_file: &Path) -> Got {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "30", "--path-as-is", "-D"])
        .arg(head_file)
        .args(arguments)
        .arg(url)
        .output()
        .expect("curl runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{url} {arguments:?}: {told}");
    let heads = std::fs::read_to_string(head_file).expect("a head");
    let head = heads
        .trim_end()
        .rsplit("\r\n\r\n")
        .next()
        .unwrap_or_default();
    Got {
        head: format!("{}\r\n\r\n", head.trim_end()),
        body: output.stdout,
    }
}

fn page(length: usize) -> String {
    let mut page = String::from("<!doctype html>");
    let mut item = 0_u64;
    while page.len() < length {
        item += 1;
        page.push_str(&format!(
            "<li class=\"item\">number {item}, of {}</li>\n",
            item * 7_919
        ));
    }
    page.truncate(length);
    page
}

/// A 200 with fields and a body.
fn answer(fields: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn front(route: &str) -> Front<'_> {
    Front {
        route,
        json: true,
        ..Front::default()
    }
}

#[test]
fn every_coding_is_what_clients_decode() {
    let pages = [200, 5_000, 60_000, 3_000_000].map(page);
    let served = pages.clone();
    let backend = Recorder::start(Script::reply(move |request| {
        let text = String::from_utf8_lossy(request);
        let place = text
            .split(' ')
            .nth(1)
            .and_then(|target| target[1..].split('?').next()?.parse::<usize>().ok());
        let fields =
            "Content-Type: text/html; charset=utf-8\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n";
        answer(fields, &served[place.unwrap_or(0)])
    }));
    let backend = backend.expect("a backend");
    let outgrow = front("compress = {}").before(&backend);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for coding in ["gzip", "br", "zstd"] {
            for (place, page) in pages.iter().enumerate() {
                let accept = format!("Accept-Encoding: {coding}");
                let path = format!("/{place}?{version}-{coding}");
                let got = curl(&outgrow, &path, &[version, "--compressed", "-H", &accept]);
                assert!(got.body == page.as_bytes(), "{version} {coding} {path}");
                if place == 0 {
                    assert_eq!(got.field("Content-Encoding"), None, "too small");
                    assert_eq!(got.field("ETag"), Some("\"v1\""));
                    continue;
                }
                assert_eq!(got.field("Content-Encoding"), Some(coding));
                assert_eq!(got.field("Vary"), Some("Accept-Encoding"));
                let tag = format!("W/\"v1--coded-{coding}\"");
                assert_eq!(got.field("ETag"), Some(tag.as_str()));
                assert_eq!(
                    (got.field("Accept-Ranges"), got.field("Content-Length")),
                    (None, None)
                );
                let query = format!("\"query\":\"{version}-{coding}\"");
                let path = format!("\"path\":\"/{place}\"");
                let is_it = |line: &String| line.contains(&query) && line.contains(&path);
                let record = outgrow.wait("a record", SOON, |_| {
                    records(&outgrow, 1).into_iter().find(is_it)
                });
                let record = record.expect("a record");
                assert!(
                    record.contains(&format!("\"coding\":\"{coding}\"")),
                    "{record}"
                );
                assert!(
                    record.contains(&format!("\"plain_bytes\":{}", page.len())),
                    "{record}"
                );
                assert!(
                    !record.contains(&format!("\"response_bytes\":{}", page.len())),
                    "{record}"
                );
            }
        }
    }
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    let counted = "outgrow_compressed_responses_total{route=\"app\",coding=\"br\"} 6";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(
        !metrics.contains("outgrow_uncompressed_responses_total{"),
        "{metrics}"
    );
}

#[test]
fn what_is_not_compressed_stays_byte_by_byte() {
    let page = page(20_000);
    let html = "Content-Type: text/html\r\n";
    let table = [
        ("", html, "Accept-Encoding;", false),
        ("", html, "Accept-Encoding: gzip;q=0, identity", true),
        (
            "",
            "Content-Type: image/png\r\n",
            "Accept-Encoding: gzip",
            false,
        ),
        (
            "",
            "Content-Type: text/html\r\nContent-Encoding: x-own\r\n",
            "Accept-Encoding: gzip",
            false,
        ),
        (
            "",
            "Content-Type: text/html\r\nCache-Control: no-transform\r\n",
            "Accept-Encoding: gzip",
            false,
        ),
        (
            "types = [\"text/css\"]",
            html,
            "Accept-Encoding: gzip",
            false,
        ),
        ("min_size = \"1MiB\"", html, "Accept-Encoding: gzip", false),
        (
            "codings = [\"br\"]",
            html,
            "Accept-Encoding: gzip, zstd",
            true,
        ),
    ];
    for (settings, fields, accept, varies) in table {
        let backend = Recorder::start(Script::answer(answer(fields, &page))).expect("a backend");
        let outgrow = front(&format!("compress = {{ {settings} }}")).before(&backend);
        let got = curl(&outgrow, "/", &["-H", accept]);
        assert!(got.body == page.as_bytes(), "{settings} {fields} {accept}");
        let length = page.len().to_string();
        assert_eq!(got.field("Content-Length"), Some(length.as_str()));
        let vary = got.field("Vary");
        let expected = (varies || accept == "Accept-Encoding;" && settings.is_empty())
            .then_some("Accept-Encoding");
        assert_eq!(vary, expected, "{settings} {fields} {accept}");
    }
    // No table, no change.
    let backend = Recorder::start(Script::answer(answer(html, &page))).expect("a backend");
    let outgrow = front("").before(&backend);
    let got = curl(&outgrow, "/", &["-H", "Accept-Encoding: gzip"]);
    assert_eq!(
        (got.field("Vary"), got.body == page.as_bytes()),
        (None, true)
    );
}

#[test]
fn heads_say_what_a_get_would_and_have_no_body() {
    let page = page(20_000);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"a\"\r\nContent-Length: {}\r\n\r\n",
        page.len()
    );
    let backend = Recorder::start(Script::answer(head)).expect("a backend");
    let outgrow = front("compress = {}").before(&backend);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let got = curl(
            &outgrow,
            "/",
            &[version, "-I", "-H", "Accept-Encoding: gzip"],
        );
        assert_eq!(got.field("Content-Encoding"), Some("gzip"));
        assert_eq!(got.field("Content-Length"), None);
        assert_eq!(got.field("ETag"), Some("W/\"a--coded-gzip\""));
    }
}

/// An endpoint that compares tags letter by letter, as many do.
#[test]
fn tags_come_back_as_the_endpoint_knows_them() {
    let page = page(20_000);
    let backend = Recorder::start(Script::reply(move |request| {
        let text = String::from_utf8_lossy(request).into_owned();
        if field(&text, "If-None-Match") == Some("\"v1\"") {
            return b"HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n".to_vec();
        }
        if text.starts_with("PUT") {
            let is_it = field(&text, "If-Match") == Some("\"v1\"");
            let status = if is_it {
                "204 No Content"
            } else {
                "412 Precondition Failed"
            };
            return format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes();
        }
        if field(&text, "If-Match").is_some_and(|tag| tag != "\"v1\"") {
            return b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n".to_vec();
        }
        answer("Content-Type: text/html\r\nETag: \"v1\"\r\n", &page)
    }));
    let backend = backend.expect("a backend");
    let outgrow = front("compress = {}").before(&backend);
    let gzip = "Accept-Encoding: gzip";
    let first = curl(&outgrow, "/", &["--compressed", "-H", gzip]);
    let tag = first.field("ETag").expect("a tag").to_owned();
    let again = format!("If-None-Match: {tag}");
    let got = curl(&outgrow, "/", &["-H", gzip, "-H", &again]);
    assert_eq!((got.status(), got.field("ETag")), (304, Some(tag.as_str())));
    assert_eq!(got.field("Vary"), Some("Accept-Encoding"));
    let got = curl(&outgrow, "/", &["-H", "If-None-Match: \"v1\""]);
    assert_eq!((got.status(), got.field("ETag")), (304, Some("\"v1\"")));
    assert_eq!(got.field("Vary"), Some("Accept-Encoding"));
    // A cache that has this variant, and asks for somebody who does not take it.
    for accept in ["Accept-Encoding: br", "Accept-Encoding;"] {
        let got = curl(&outgrow, "/", &["-H", accept, "-H", &again]);
        assert_eq!(got.status(), 200, "{accept}");
    }
    // Who reads compares strongly with If-Match, who changes something means what it read.
    let read = curl(
        &outgrow,
        "/",
        &["-H", gzip, "-H", &format!("If-Match: {tag}")],
    );
    assert_eq!(read.status(), 412);
    let put = curl(
        &outgrow,
        "/",
        &["-X", "PUT", "-H", &format!("If-Match: {tag}")],
    );
    assert_eq!(put.status(), 204);
}

/// An endpoint that takes a weak tag, or a date, in `If-Range` for what it has, as Express does: a client that has
/// a part of what we made of it must not get a part of what it is made of.
#[test]
fn parts_are_of_what_the_client_has() {
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let page = page(20_000);
    let backend = Recorder::start(Script::reply(move |request| {
        let text = String::from_utf8_lossy(request).into_owned();
        let fields =
            format!("Content-Type: text/html\r\nETag: W/\"v1\"\r\nLast-Modified: {DATE}\r\n");
        if field(&text, "Range").is_none() {
            return answer(&fields, &page);
        }
        let part = &page[..100];
        format!(
            "HTTP/1.1 206 Partial Content\r\n{fields}Content-Range: bytes 0-99/20000\r\n\
             Content-Length: 100\r\n\r\n{part}"
        )
        .into_bytes()
    }));
    let backend = backend.expect("a backend");
    let outgrow = front("compress = {}").before(&backend);
    let date = format!("If-Range: {DATE}");
    for (accept, condition, status) in [
        ("gzip", "If-Range: W/\"v1\"", 200),
        ("gzip", "If-Range: W/\"v1--coded-gzip\"", 200),
        ("gzip", date.as_str(), 200),
        // Such a client has nothing that we made.
        ("identity", date.as_str(), 206),
        ("identity", "If-Range: W/\"v1\"", 200),
        ("gzip", "If-Range: \"v1\"", 206),
        ("gzip", "X-None: 1", 206),
    ] {
        let accept = format!("Accept-Encoding: {accept}");
        let sent = ["-r", "0-99", "-H", accept.as_str(), "-H", condition];
        let got = curl(&outgrow, "/", &sent);
        assert_eq!(got.status(), status, "{accept} {condition}");
        assert_eq!(got.field("Vary"), Some("Accept-Encoding"), "{condition}");
        let is_coded = status == 200 && accept.ends_with("gzip");
        let coding = is_coded.then_some("gzip");
        assert_eq!(
            got.field("Content-Encoding"),
            coding,
            "{accept} {condition}"
        );
    }
}

/// Each event is with the client before the next one is made.
#[test]
fn events_are_not_held_back() {
    let event = |number: u32| {
        let text = format!("data: {number}\n\n");
        format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
    };
    let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut steps = vec![Step::ReadRequest, Step::Send(head.into())];
    for (number, gate) in (0..3).zip(&gates) {
        steps.push(Step::Send(event(number)));
        steps.push(Step::Wait(gate.clone()));
    }
    steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
    steps.push(Step::Silence);
    for coding in ["gzip", "br", "zstd"] {
        let script = Script::every(steps.clone());
        let backend = Recorder::start(script).expect("a backend");
        let outgrow = front("compress = { types = [\"text/event-stream\"] }").before(&backend);
        let mut child = Command::new("curl")
            .args(["-sSN", "--compressed", "--max-time", "30", "-H"])
            .arg(format!("Accept-Encoding: {coding}"))
            .arg(outgrow.url("public", "/"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        for (number, gate) in (0..3).zip(&gates) {
            // This waits for ever, or until curl gives up, if the event is held back.
            let line = lines.next().expect("an event").expect("text");
            assert_eq!(line, format!("data: {number}"), "{coding}");
            assert_eq!(lines.next().expect("its end").expect("text"), "");
            gate.open();
        }
        assert!(lines.next().is_none());
        assert!(child.wait().expect("an end").success());
    }
}

#[test]
fn a_response_that_is_cut_off_never_looks_whole() {
    let page = page(300_000);
    let mut part = answer("Content-Type: text/html\r\n", &page);
    part.truncate(part.len() - 10);
    let steps = [Step::ReadRequest, Step::Send(part), Step::Close];
    let backend = Recorder::start(Script::every(steps)).expect("a backend");
    let outgrow = front("compress = {}").before(&backend);
    for coding in ["gzip", "br", "zstd"] {
        for version in ["--http1.1", "--http1.0", "--http2-prior-knowledge"] {
            let output = Command::new("curl")
                .args(["-sS", version, "--compressed", "--max-time", "30", "-H"])
                .arg(format!("Accept-Encoding: {coding}"))
                .arg(outgrow.url("public", "/"))
                .output()
                .expect("curl runs");
            assert!(!output.status.success(), "{coding} {version}");
        }
    }
}

/// A response under way holds a compressor; others go out without one once memory is short.
#[test]
fn compressors_are_bounded() {
    let gate = Gate::new();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n";
    let backend = Recorder::start(Script::every([
        Step::ReadRequest,
        Step::Send(format!("{head}4\r\npart\r\n").into_bytes()),
        Step::Wait(gate.clone()),
        Step::Send(b"0\r\n\r\n".to_vec()),
        Step::Silence,
    ]));
    let backend = backend.expect("a backend");
    let front = Front {
        route: "compress = { codings = [\"br\"], br_level = 6 }",
        more: "[process]\nmemory = \"16MiB\"\n",
        ..Front::default()
    };
    let outgrow = front.before(&backend);
    let mut clients = Vec::new();
    for is_first in [true, false] {
        let mut client = super::connect(&outgrow);
        let ask = b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n";
        client.send(ask).expect("sent");
        assert!(client.receive_until(b"\r\n\r\n", SOON).expect("received"));
        let text = String::from_utf8_lossy(client.received()).into_owned();
        let coding = is_first.then_some("br");
        assert_eq!(field(&text, "Content-Encoding"), coding, "{text}");
        assert_eq!(field(&text, "Vary"), Some("Accept-Encoding"));
        clients.push(client);
    }
    gate.open();
    let counted = "outgrow_uncompressed_responses_total{route=\"app\"} 1\n";
    let told = outgrow.wait("the metric", SOON, |outgrow| {
        let metrics = outgrow.admin_get("/metrics").ok()?.text();
        metrics.contains(counted).then_some(())
    });
    told.expect("the metric");
}
