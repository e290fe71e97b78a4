//! What nginx says to the same requests, where it is installed.

use std::process::Command;
use std::time::{Duration, Instant};

use outgrow_testkit::child::TestChild;
use outgrow_testkit::folder::Folder;

use super::super::compress::{Got, curl_at};
use super::{SOON, site, start};

/// nginx before the same files; its port.
fn nginx(site: &Folder, settings: &str) -> (u16, TestChild, Folder) {
    let port = outgrow_testkit::ports::free(1).expect("a port")[0].port();
    let folder = Folder::new("nginx").expect("a folder");
    let config = format!(
        "daemon off; master_process off; pid {0}/pid; error_log stderr; events {{}} http {{ access_log off; \
         types {{ text/plain txt; text/html html; }} client_body_temp_path {0}/b; proxy_temp_path {0}/p; \
         fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; {settings} \
         server {{ listen 127.0.0.1:{port}; root {1}; }} }}",
        folder.path().display(),
        site.path().display()
    );
    let file = folder.write("nginx.conf", config).expect("a file");
    let nginx = TestChild::start(Command::new("nginx").arg("-c").arg(&file));
    let nginx = nginx.expect("nginx starts");
    let deadline = Instant::now() + SOON;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nginx does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    (port, nginx, folder)
}

/// Conditions on a file that both compress, with the tags and dates that each has given it.
#[test]
fn nginx_says_the_same_of_what_is_compressed() {
    if Command::new("nginx").arg("-v").output().is_err() {
        return;
    }
    let site = site();
    site.write("page.html", "<p>text</p>".repeat(1_000))
        .expect("a file");
    let outgrow = start(site.path(), "", "compress = {}");
    let (port, _nginx, _folder) = nginx(&site, "gzip on; gzip_vary on; gzip_http_version 1.0;");
    let head_file = outgrow.folder().join("head.txt");
    let answers = |url: &str| {
        let ask = |arguments: &[&str]| curl_at(url, arguments, &head_file);
        let gzip = ["-H", "Accept-Encoding: gzip"];
        let coded = ask(&gzip);
        let plain = ask(&[]);
        let told = |got: &Got, name: &str| got.field(name).expect("told").to_owned();
        let (weak, strong) = (told(&coded, "ETag"), told(&plain, "ETag"));
        assert!(weak.starts_with("W/\"") && strong.starts_with('"'));
        let date = told(&coded, "Last-Modified");
        assert_eq!(date, told(&plain, "Last-Modified"));
        let table: &[(bool, &[&str], String)] = &[
            (true, &[], format!("If-None-Match: {weak}")),
            (true, &[], format!("If-None-Match: {strong}")),
            (false, &[], format!("If-None-Match: {strong}")),
            (true, &[], format!("If-Match: {weak}")),
            (true, &[], format!("If-Match: {strong}")),
            (true, &["-r", "0-9"], format!("If-Range: {weak}")),
            (true, &["-r", "0-9"], format!("If-Range: {date}")),
            (false, &["-r", "0-9"], format!("If-Range: {weak}")),
            (false, &["-r", "0-9"], format!("If-Range: {strong}")),
            (false, &["-r", "0-9"], format!("If-Range: {date}")),
            (true, &[], format!("If-Modified-Since: {date}")),
        ];
        let mut answers = Vec::new();
        for (takes_gzip, arguments, condition) in table {
            let mut sent = arguments.to_vec();
            sent.extend(["-H", condition]);
            sent.extend(takes_gzip.then_some(gzip).into_iter().flatten());
            let got = ask(&sent);
            let name = condition.split(':').next().unwrap_or_default().to_owned();
            let coding = got.field("Content-Encoding").map(str::to_owned);
            answers.push((name, *takes_gzip, got.status(), coding));
        }
        answers
    };
    let ours = answers(&outgrow.url("public", "/page.html"));
    let theirs = answers(&format!("http://127.0.0.1:{port}/page.html"));
    assert_eq!(ours, theirs);
}

/// What nginx says to the same requests.
#[test]
fn nginx_says_the_same() {
    let Ok(found) = Command::new("nginx").arg("-v").output() else {
        return;
    };
    assert!(found.status.success());
    let site = site();
    let outgrow = start(site.path(), "", "");
    let (port, _nginx, _folder) = nginx(&site, "");
    let ask = |url: String, arguments: &[&str]| {
        let output = Command::new("curl")
            .args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{size_download} %header{content-range}",
            ])
            .args(arguments)
            .arg(url)
            .output()
            .expect("curl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let date = "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT";
    let table: &[(&str, &[&str])] = &[
        ("/app.js", &[]),
        ("/large.bin", &["-r", "10-19"]),
        ("/large.bin", &["-r", "-5"]),
        ("/large.bin", &["-r", "3199999-4000000"]),
        ("/large.bin", &["-r", "4000000-"]),
        ("/large.bin", &["-H", "Range: bytes=9-2"]),
        ("/large.bin", &["-H", "Range: lines=1-2"]),
        ("/large.bin", &["-r", "0-1", "-H", "If-Range: \"x\""]),
        ("/app.js", &["-H", date]),
        ("/app.js", &["-H", "If-None-Match: *"]),
        ("/app.js", &["-H", "If-Match: \"x\""]),
        ("/app.js", &["-H", "If-Match: *"]),
        ("/empty.css", &[]),
        ("/absent", &[]),
        ("/docs/", &[]),
    ];
    for (path, arguments) in table {
        let ours = ask(outgrow.url("public", path), arguments);
        let theirs = ask(format!("http://127.0.0.1:{port}{path}"), arguments);
        // The pages of errors differ in length, and nginx sends the range of a 416 with one.
        let (ours, theirs) = match theirs.starts_with('4') {
            true => (ours[..3].to_owned(), theirs[..3].to_owned()),
            false => (ours, theirs),
        };
        // nginx ignores a range that is upside down as we do, but answers 416.
        if arguments.contains(&"Range: bytes=9-2") {
            continue;
        }
        assert_eq!(ours, theirs, "{path} {arguments:?}");
    }
}
