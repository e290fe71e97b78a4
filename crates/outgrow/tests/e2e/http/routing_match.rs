//! Which requests a route takes: paths with parameters, conditions, priority, 405; and that
//! `outgrow explain` says the same as what happens.

use outgrow_testkit::{
    backend::{Recorder, Script, response},
    http,
    outgrow::Outgrow,
};

use std::process::Command;

/// One fixed answer for each route: its name.
fn config(routes: &[(&str, &str)]) -> String {
    let mut text = "[access]\nto = \"off\"\n[listener.public]\naddress = \"%public%\"\n".to_owned();
    for (name, rule) in routes {
        text += &format!("[route.{name}]\n{rule}\nrespond = {{ body = \"{name}\" }}\n");
    }
    text
}

const ROUTES: [(&str, &str); 11] = [
    ("root", "host = \"shop.example\""),
    ("user", "path = { exact = \"/users/{id}\" }"),
    ("users", "path = \"/users\""),
    ("me", "path = \"/users/me\""),
    ("orders", "path = \"/{kind}/{id}/orders\""),
    ("read", "path = \"/things\"\nmethod = \"GET\""),
    ("write", "path = \"/things\"\nmethod = [\"POST\", \"PUT\"]"),
    (
        "beta",
        "path = \"/users\"\nheader = { X-Beta = \"1\", X-Team = \"a*\" }",
    ),
    ("query", "path = \"/users\"\nquery = { \"a b\" = \"*c\" }"),
    (
        "cookie",
        "path = \"/users\"\ncookie = { plan = \"*\" }\npriority = 1",
    ),
    (
        "deep",
        "host = \"shop.example\"\npath = \"/deep\"\nmethod = \"DELETE\"",
    ),
];

type Case<'c> = (&'c str, &'c str, &'c [(&'c str, &'c str)], u16, &'c str);

const CASES: &[Case<'_>] = &[
    ("GET", "/users/7", &[], 200, "user"),
    ("GET", "/users/7/", &[], 200, "users"),
    ("GET", "/users/7/x", &[], 200, "users"),
    ("GET", "/users/me", &[], 200, "me"),
    ("GET", "/users/%6De/x", &[], 200, "me"),
    ("GET", "/users/7/orders", &[], 200, "users"),
    ("GET", "/shops/7/orders/9", &[], 200, "orders"),
    ("GET", "/shops//orders", &[], 404, "no_route"),
    ("HEAD", "/things", &[], 200, ""),
    ("PUT", "/things/3", &[], 200, "write"),
    ("DELETE", "/things", &[], 405, "method_not_allowed"),
    (
        "GET",
        "/users",
        &[("X-Beta", "1"), ("X-Team", "b"), ("X-Team", "a1")],
        200,
        "beta",
    ),
    (
        "GET",
        "/users",
        &[("X-Beta", "1"), ("X-Team", "b")],
        200,
        "users",
    ),
    ("GET", "/users?a+b=ccc", &[], 200, "query"),
    ("GET", "/users?a%20b=%63", &[], 200, "query"),
    ("GET", "/users?a+b=d", &[], 200, "users"),
    (
        "GET",
        "/users?a+b=c",
        &[("Cookie", "x=1; plan=2")],
        200,
        "cookie",
    ),
    ("DELETE", "/deep", &[("Host", "shop.example")], 200, "deep"),
    // The conditions of the more specific host and path do not hold: the next one takes it.
    ("GET", "/deep", &[("Host", "shop.example")], 200, "root"),
    ("GET", "/users/7", &[("Host", "shop.example")], 200, "root"),
];

#[test]
fn paths_and_conditions_decide_as_explained() {
    let text = config(&ROUTES);
    let outgrow = Outgrow::start(&text).expect("outgrow starts");
    let file = outgrow.folder().join("explained.toml");
    let text = text.replace("%public%", "127.0.0.1:8080");
    std::fs::write(&file, text).expect("a file");
    for (method, path, headers, status, expected) in CASES {
        let url = outgrow.url("public", path);
        let answer = http::request(method, &url, headers, b"").expect("an answer");
        let about = format!("{method} {path} {headers:?}: {}", answer.text());
        assert_eq!(answer.status, *status, "{about}");
        assert!(answer.text().contains(expected), "{about}");
        let allow = (*status == 405).then_some("GET, HEAD, POST, PUT");
        assert_eq!(answer.header("Allow"), allow, "{about}");
        let mut explain = Command::new(outgrow_testkit::outgrow::binary().expect("a binary"));
        explain
            .args(["explain", "--json", path, "--method", method, "--config"])
            .arg(&file);
        for (name, value) in *headers {
            explain.arg("--header").arg(format!("{name}: {value}"));
        }
        let told = explain.output().expect("it runs");
        assert_eq!(told.status.success(), *status == 200, "{about}");
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
        match status {
            200 if !expected.is_empty() => assert_eq!(told["route"], *expected, "{told}"),
            200 => {}
            status => assert_eq!(told["outcome"]["respond"], *status, "{told}"),
        }
    }
}

/// A request that only another method would have goes to the record with its reason.
#[test]
fn a_method_that_no_route_takes_is_405_on_a_connection_that_stays() {
    let backend = Recorder::start(Script::answer(response("ok"))).expect("a backend");
    let outgrow = super::Front {
        route: "path = \"/x\"\nmethod = \"GET\"",
        ..super::Front::default()
    }
    .before(&backend);
    let mut client = super::connect(&outgrow);
    let post = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let refused = super::ask(&mut client, post, "\nrequest: ");
    assert!(
        refused.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
        "{refused}"
    );
    assert_eq!(super::field(&refused, "Allow"), Some("GET, HEAD"));
    let get = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    super::ask(&mut client, get, "\r\n\r\nok");
    let record = super::records(&outgrow, 1).remove(0);
    assert!(record.contains(" reason=method_not_allowed"), "{record}");
}
