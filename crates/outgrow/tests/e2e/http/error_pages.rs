//! Pages for errors: ours, and in the place of endpoints' own.

use std::fs;

use outgrow_testkit::backend::{Recorder, Script};
use outgrow_testkit::outgrow::Outgrow;

use super::compress::curl;
use super::{Front, records};
use crate::shop::SOON;

const LISTENER: &str = r#"
[listener.public.error_pages]
"404" = { file = "404.html" }
"4xx" = { text = "client {status}" }
"5xx" = { text = "server {status} {reason}" }
"#;

/// An outgrow whose pages lie in its folder, under absolute paths.
fn start(
    front: &Front<'_>,
    backend: &Recorder,
    page: &str,
) -> (Outgrow, outgrow_testkit::folder::Folder) {
    let folder = outgrow_testkit::folder::Folder::new("pages").expect("a folder");
    let file = folder.write("404.html", page).expect("a page");
    let text = front.config(&[backend.address()]);
    let text = text.replace("404.html", &file.display().to_string());
    (Outgrow::start(&text).expect("outgrow starts"), folder)
}

#[test]
fn our_errors_have_pages_with_the_id_of_the_record() {
    let backend = Recorder::start(Script::silence()).expect("a backend");
    let front = Front {
        listener: LISTENER,
        route: "path = \"/app\"\nmethod = \"GET\"\ntimeouts = { first_byte = \"50ms\" }\n\
                error_pages = { \"504\" = { text = \"<p>slow</p>\", content_type = \"text/html\" } }",
        ..Front::default()
    };
    let (mut outgrow, folder) = start(&front, &backend, "<h1>gone {request_id}</h1>");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let got = curl(&outgrow, "/absent", &[version]);
        assert_eq!(got.field("Content-Type"), Some("text/html; charset=utf-8"));
        let id = got.field("X-Request-Id").expect("an id").to_owned();
        let body = String::from_utf8_lossy(&got.body).into_owned();
        assert_eq!((got.status(), body), (404, format!("<h1>gone {id}</h1>")));
        let told = outgrow.wait("a record", SOON, |_| {
            records(&outgrow, 1)
                .into_iter()
                .find(|line| line.contains(&id))
        });
        assert!(told.expect("a record").contains("reason=no_route"));
    }
    let table = [
        (
            vec!["-X", "POST"],
            "/app",
            405,
            "client 405",
            "text/plain; charset=utf-8",
        ),
        (vec![], "/app", 504, "<p>slow</p>", "text/html"),
        (
            vec!["-H", "Host: a b"],
            "/",
            400,
            "client 400",
            "text/plain; charset=utf-8",
        ),
    ];
    for (arguments, path, status, body, kind) in table {
        let got = curl(&outgrow, path, &arguments);
        let told = String::from_utf8_lossy(&got.body).into_owned();
        assert_eq!(
            (got.status(), told.as_str(), got.field("Content-Type")),
            (status, body, Some(kind))
        );
        assert_eq!(got.field("Cache-Control"), Some("no-store"));
        assert_eq!(got.field("Allow").is_some(), status == 405);
    }
    let head = curl(&outgrow, "/absent", &["-I"]);
    assert_eq!(
        (head.status(), head.field("Content-Length")),
        (404, Some("46"))
    );
    // A page that is changed is read again; one that is gone keeps the configuration from being read.
    fs::write(folder.path().join("404.html"), "new").expect("a page");
    let is_new = || curl(&outgrow, "/absent", &[]).body == b"new";
    outgrow
        .wait("the new page", SOON, |_| is_new().then_some(()))
        .expect("the new page");
    fs::remove_file(folder.path().join("404.html")).expect("removed");
    let text = front.config(&[backend.address()]);
    let gone = folder.path().join("404.html").display().to_string();
    let refused = outgrow.reload(&text.replace("404.html", &gone));
    let refused = format!("{refused:?}");
    assert!(refused.contains("404.html cannot be read"), "{refused}");
    assert_eq!(curl(&outgrow, "/absent", &[]).body, b"new");
}

#[test]
fn endpoints_errors_are_replaced_where_that_is_wanted() {
    let backend = Recorder::start(Script::reply(|request| {
        let text = String::from_utf8_lossy(request).into_owned();
        let status = text
            .split(' ')
            .nth(1)
            .map_or("200", |target| &target[1..])
            .to_owned();
        format!(
            "HTTP/1.1 {status} X\r\nContent-Type: text/x\r\nETag: \"e\"\r\nWWW-Authenticate: Basic\r\n\
             Content-Length: 3\r\n\r\nown"
        )
        .into_bytes()
    }));
    let backend = backend.expect("a backend");
    let front = Front {
        listener: LISTENER,
        route: "error_pages = { \"404\" = { text = \"ours\", intercept = true }, \
                \"401\" = { text = \"who {request_id}\", intercept = true }, \"500\" = { text = \"no\" } }",
        ..Front::default()
    };
    let (outgrow, _folder) = start(&front, &backend, "page");
    for (path, status, body, tag) in [
        ("/200", 200, "own", Some("\"e\"")),
        ("/404", 404, "ours", None),
        ("/500", 500, "own", Some("\"e\"")),
        ("/403", 403, "own", Some("\"e\"")),
        ("/404", 404, "ours", None),
    ] {
        let got = curl(&outgrow, path, &[]);
        let told = String::from_utf8_lossy(&got.body).into_owned();
        assert_eq!(
            (got.status(), told.as_str(), got.field("ETag")),
            (status, body, tag),
            "{path}"
        );
    }
    let got = curl(&outgrow, "/401", &["-d", "a body"]);
    assert_eq!(
        (got.status(), got.field("WWW-Authenticate")),
        (401, Some("Basic"))
    );
    assert!(String::from_utf8_lossy(&got.body).starts_with("who "));
    assert_eq!(
        backend.connections().len(),
        1,
        "the connection is kept over replaced answers"
    );
}

#[test]
fn fixed_answers_come_from_files() {
    let folder = outgrow_testkit::folder::Folder::new("fixed").expect("a folder");
    let page = folder
        .write("down.html", "<h1>back soon</h1>")
        .expect("a page");
    let text = format!(
        "[access]\nto = \"off\"\n[listener.public]\naddress = \"%public%\"\n\
         [route.down]\nrespond = {{ status = 503, file = \"{}\" }}\n",
        page.display()
    );
    let outgrow = Outgrow::start(&text).expect("outgrow starts");
    let got = curl(&outgrow, "/", &[]);
    let told = String::from_utf8_lossy(&got.body).into_owned();
    assert_eq!((got.status(), told.as_str()), (503, "<h1>back soon</h1>"));
    assert_eq!(got.field("Content-Type"), Some("text/html; charset=utf-8"));
}
