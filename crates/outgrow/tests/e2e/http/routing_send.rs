//! What a route does with its requests: splits, rewrites, redirects, its own timeouts and limits.

use std::collections::BTreeMap;

use outgrow_testkit::{
    backend::{Recorder, Script, response},
    http,
    outgrow::Outgrow,
};

use super::{Front, field, only_request};

fn backend(name: &'static str) -> Recorder {
    Recorder::start(Script::answer(response(name))).expect("a backend")
}

/// Two services, one route; `route` is the rest of its table.
fn two(app: &Recorder, next: &Recorder, route: &str) -> String {
    format!(
        "[access]\nto = \"access.log\"\n[listener.public]\naddress = \"%public%\"\n\
         trusted_proxies = [\"127.0.0.0/8\"]\n\
         [service.app]\nendpoints = [\"{}\"]\n[service.next]\nendpoints = [\"{}\"]\n\
         [route.main]\n{route}\n",
        app.address(),
        next.address()
    )
}

fn weights(app: u32, next: u32, by: &str) -> String {
    format!(
        "split = [{{ service = \"app\", weight = {app} }}, {{ service = \"next\", weight = {next} \
         }}]\nsplit_by = \"{by}\""
    )
}

/// Which service each of 200 users gets.
fn shares(outgrow: &Outgrow, name: &str) -> BTreeMap<usize, String> {
    let ask = |user: usize| {
        let value = match name {
            "Cookie" => format!("a=b; session=user-{user}"),
            _ => format!("198.51.{}.{}", user / 200, user % 200),
        };
        let answer = http::request("GET", &outgrow.url("public", "/"), &[(name, &value)], b"");
        (user, answer.expect("an answer").text())
    };
    (0..200).map(ask).collect()
}

#[test]
fn users_stay_with_their_service_and_move_only_when_they_must() {
    let (app, next) = (backend("app"), backend("next"));
    for (by, name) in [("cookie:session", "Cookie"), ("address", "X-Forwarded-For")] {
        let text = two(&app, &next, &weights(80, 20, by));
        let mut outgrow = Outgrow::start(&text).expect("outgrow starts");
        let before = shares(&outgrow, name);
        assert_eq!(before, shares(&outgrow, name), "{by}: the same again");
        let count = |shares: &BTreeMap<usize, String>| {
            shares.values().filter(|service| *service == "next").count()
        };
        // Five standard deviations of 200 draws with a fifth.
        assert!(
            (12..=68).contains(&count(&before)),
            "{by}: {}",
            count(&before)
        );
        outgrow
            .reload(&two(&app, &next, &weights(60, 40, by)))
            .expect("a reload");
        let after = shares(&outgrow, name);
        assert!(count(&after) > count(&before), "{by}");
        for (user, service) in &before {
            let left = service == "next" && after[user] != "next";
            assert!(!left, "{by}: user {user} left the share that grew");
        }
        outgrow
            .reload(&two(&app, &next, &weights(1, 0, by)))
            .expect("a reload");
        assert_eq!(count(&shares(&outgrow, name)), 0, "{by}");
    }
}

#[test]
fn chance_shares_single_requests_and_the_record_names_the_service() {
    let (app, next) = (backend("app"), backend("next"));
    let text = two(&app, &next, &weights(50, 50, "random"));
    let outgrow = Outgrow::start(&text).expect("outgrow starts");
    let url = outgrow.url("public", "/");
    let of_next = (0..100).filter(|_| http::get(&url).expect("an answer").text() == "next");
    let of_next = of_next.count();
    assert!((25..=75).contains(&of_next), "{of_next}");
    let records = super::records(&outgrow, 100);
    let told = records
        .iter()
        .filter(|record| record.contains("next"))
        .count();
    assert_eq!(told, of_next, "{}", records[0]);
}

#[test]
fn paths_and_hosts_are_rewritten() {
    let table = [
        (
            "path = \"/api\"\nstrip_prefix = true",
            "/api/a%2Fb//c?d=/e",
            "/a%2Fb/c?d=/e",
            "shop.example",
        ),
        (
            "path = \"/api\"\nstrip_prefix = true",
            "/api",
            "/",
            "shop.example",
        ),
        (
            "path = \"/t/{shop}\"\nrewrite = { path = \"/v2/{rest}\", host = \"{shop}.inner:81\" }",
            "/t/north/x/../y",
            "/v2/y",
            "north.inner:81",
        ),
    ];
    for (route, target, path, host) in table {
        let backend = backend("ok");
        let outgrow = Front {
            route,
            ..Front::default()
        }
        .before(&backend);
        let url = outgrow.url("public", target);
        let answer = http::request("GET", &url, &[("Host", "shop.example")], b"");
        assert_eq!(answer.expect("an answer").status, 200, "{route}");
        let request = only_request(&backend);
        assert!(
            request.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
            "{request}"
        );
        assert_eq!(field(&request, "Host"), Some(host));
        assert_eq!(field(&request, "X-Forwarded-Host"), Some("shop.example"));
        // The record says what the client asked for.
        let record = super::records(&outgrow, 1).remove(0);
        let asked = target.split('?').next().unwrap_or_default();
        assert!(record.contains(asked), "{record}");
    }
}

#[test]
fn redirects_lead_where_they_should_and_nowhere_else() {
    let outgrow = Outgrow::start(
        r#"
[access]
to = "off"
[listener.public]
address = "%public%"
[route.secure]
host = "shop.example"
redirect = { to = "https://{host}{path}" }
response_headers = { set = { X-Moved = "1" } }
[route.old]
path = "/old"
redirect = { to = "/{rest}", status = 302 }
[route.user]
path = { exact = "/u/{id}" }
redirect = { to = "https://users.example/?id={id}&{query}", status = 307 }
"#,
    )
    .expect("outgrow starts");
    let table = [
        (
            "shop.example:80",
            "/a//b/../c?d=e",
            308,
            "https://shop.example/a/c?d=e",
        ),
        ("x", "/old//evil.example/%2e%2e/%2Fa", 302, "/%2Fa"),
        ("x", "/old/\\evil.example", 302, "/%5Cevil.example"),
        ("x", "/old/%0d%0aSet-Cookie:a", 302, "/%0D%0ASet-Cookie:a"),
        ("x", "/old", 302, "/"),
        ("x", "/u/7?a=b", 307, "https://users.example/?id=7&a=b"),
    ];
    for (host, target, status, to) in table {
        let url = outgrow.url("public", target);
        let answer = http::request("POST", &url, &[("Host", host)], b"body").expect("an answer");
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.header("Location"), Some(to), "{target}");
        assert_eq!(answer.header("Set-Cookie"), None, "{target}");
        assert_eq!(
            answer.header("X-Moved").is_some(),
            status == 308,
            "{target}"
        );
    }
}

#[test]
fn a_route_has_its_own_timeouts_and_body_limit() {
    let silent = Recorder::start(Script::silence()).expect("a backend");
    let outgrow = Front {
        service: "timeouts = { first_byte = \"1h\", queue = \"3s\" }",
        route: "timeouts = { first_byte = \"200ms\" }\nbody_limit = \"4B\"",
        ..Front::default()
    }
    .before(&silent);
    let url = outgrow.url("public", "/");
    let answer = http::get(&url).expect("an answer");
    assert_eq!(answer.status, 504);
    assert!(
        answer.text().contains("first_byte_timeout"),
        "{}",
        answer.text()
    );
    let answer = http::request("POST", &url, &[], b"hello").expect("an answer");
    assert_eq!(answer.status, 413);
}
