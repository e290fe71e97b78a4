//! What is said about requests.

use super::*;
use crate::config::explain::{Outcome, UrlError};

const EXAMPLE: &str = include_str!("../../../../../examples/static-endpoints.toml");

fn explained(text: &str, url: &str) -> String {
    let config = load_text(text).unwrap().config;
    explain(&config, &asked(url, "GET")).unwrap().to_string()
}

#[test]
fn the_route_and_the_reasons_are_told() {
    let expected = "\
GET www.SHOP.example:8080/api/users
  + listener public
  + route api
  - route other: matches too, but route api is more specific
  - route web: matches too, but route api is more specific
→ service api: unix:/run/api.sock
  a body above 10MiB gets 413
";
    let got = explained(
        EXAMPLE,
        "http://www.SHOP.example:8080/x/../api//users?a=b#c",
    );
    assert_eq!(got, expected);
    let expected = "\
GET elsewhere.test:8080/
  + listener public
  - route api: host shop.example, www.shop.example does not match: elsewhere.test
  + route other
  - route web: host shop.example, www.shop.example does not match: elsewhere.test
→ a fixed answer with status 404
";
    assert_eq!(explained(EXAMPLE, "elsewhere.test:8080"), expected);
    let expected = "\
GET shop.example:8080/apis
  + listener public
  - route api: path /api is not a prefix, by segment
  - route other: matches too, but route web is more specific
  + route web
→ service web: 10.1.0.11:3000, 10.1.0.12:3000, 10.1.0.13:3000 (weight 3)
  a body above 10MiB gets 413
";
    assert_eq!(
        explained(EXAMPLE, "ws://user@shop.example:8080/apis"),
        expected
    );
}

const ROUTES: &str = include_str!("../../../../../examples/routes.toml");

fn told(url: &str, method: &str, headers: &[(&str, &str)], cookies: &[&str]) -> String {
    let config = load_text(ROUTES).unwrap().config;
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let question = Question {
        headers: headers.iter().map(owned).collect(),
        cookies: cookies.iter().map(|cookie| (*cookie).to_owned()).collect(),
        ..asked(url, method)
    };
    explain(&config, &question).unwrap().to_string()
}

/// Everything that a route can ask and do, in the words that people read.
#[test]
fn conditions_parameters_and_shares_are_told() {
    let host = "http://shop.example:8080";
    let check = |told: &str, lines: &[&str]| {
        for line in lines {
            assert!(
                told.lines().any(|found| found == *line),
                "{line:?} in\n{told}"
            );
        }
    };
    let got = told(
        &format!("{host}/api/users/7?x=1"),
        "GET",
        &[("X-Beta", "0")],
        &["session=u1"],
    );
    check(
        &got,
        &[
            "  - route beta: header X-Beta is to be 1, it is 0",
            "  - route reports: path /reports is not a prefix, by segment",
            "  - route app: matches too, but route user is more specific",
            "  + route user",
            "    {id} = 7",
            "→ service users: 10.0.0.20:3000",
            "  sent as users.internal/v2/users/7?x=1",
        ],
    );
    let got = told(&format!("{host}/"), "GET", &[], &["session=u1"]);
    check(
        &got,
        &[
            "→ split by cookie:session",
            "    service app, 95%: 10.0.0.10:3000, 10.0.0.11:3000 ← this request",
            "    service next, 5%: 10.0.0.12:3000",
            "  a copy of 10% of the requests goes to service shadow",
        ],
    );
    check(
        &told("api.shop.example:8080/orders", "DELETE", &[], &[]),
        &[
            "  - route orders: method is to be POST, it is DELETE",
            "→ 405: the method is none of POST",
        ],
    );
    check(
        &told(&format!("{host}/old/a/b?c"), "GET", &[], &[]),
        &["→ 308: to https://shop.example/new/a/b?c"],
    );
    check(
        &told("/", "GET", &[("Host", "shop.example")], &[]),
        &["  + route app"],
    );
}

#[test]
fn listeners_are_told_by_port_and_tls() {
    let text = format!(
        "{SMALL}[listener.tls]\naddress = \"[::]:8443\"\ntls.certificates = [{{ certificate = \"a\", key = \"b\" }}]\n\
         [listener.unix]\naddress = \"unix:/run/x\"\n"
    );
    let listeners = |url: &str| {
        let config = load_text(&text).unwrap().config;
        let told = explain(&config, &asked(url, "GET")).unwrap();
        let each = |(name, verdict): &(Name, Result<(), String>)| match verdict {
            Ok(()) => name.to_string(),
            Err(reason) => reason.clone(),
        };
        (
            told.listeners.iter().map(each).collect::<Vec<_>>(),
            told.outcome,
        )
    };
    let (told, outcome) = listeners("https://a:8443/");
    assert_eq!(
        told,
        [
            "listens at port 8080, the URL has 8443",
            "tls",
            "listens at the socket /run/x"
        ]
    );
    assert!(matches!(outcome, Outcome::Service { .. }));
    let (told, outcome) = listeners("http://a:8443/");
    assert_eq!(told[1], "speaks TLS only, the URL is http");
    assert_eq!(outcome, Outcome::NoListener);
    assert_eq!(
        listeners("https://[::1]:8080/").0[0],
        "does not speak TLS, the URL is https"
    );
    assert_eq!(
        listeners("https://a").0[1],
        "listens at port 8443, the URL has 443"
    );
    assert!(matches!(listeners("/x").1, Outcome::Service { .. }));
}

#[test]
fn of_several_listeners_it_is_told_which_one_is_taken() {
    let text = "[listener.b]\naddress = \"10.0.0.1:80\"\nbody_limit = \"1KiB\"\n\
                [listener.a]\naddress = \"10.0.0.2:80\"\nbody_limit = \"2KiB\"\n\
                [listener.c]\naddress = \"10.0.0.3:81\"\n\
                [service.x]\nendpoints = [\"127.0.0.1:1\"]\n[route.x]\nservice = \"x\"\n\
                [route.only]\nlistener = \"b\"\nhost = \"h\"\nrespond = { status = 204 }\n";
    let check = |url: &str, listener: Option<&str>, taken: &str, lines: &[&str]| {
        let config = load_text(text).unwrap().config;
        let question = Question {
            listener: listener.map(str::to_owned),
            ..asked(url, "GET")
        };
        let told = explain(&config, &question).unwrap();
        assert_eq!(told.to_json()["listener"], taken, "{url} {listener:?}");
        let shown = told.to_string();
        for line in lines {
            let is_there = shown.lines().any(|found| found == *line);
            assert!(is_there, "{line:?} in\n{shown}");
        }
        let says = shown.contains("taken:");
        assert_eq!(
            says,
            lines.iter().any(|line| line.contains("taken:")),
            "{shown}"
        );
    };
    let others = "    taken: a, the first that is reached; for another: --listener b";
    let limit = "  a body above 2KiB gets 413";
    check("http://h/", None, "a", &[others, "  + route x", limit]);
    let others = "    taken: a, the first that is reached; for another: --listener b or c";
    check("/", None, "a", &[others]);
    let answer = "→ a fixed answer with status 204";
    check("http://h/", Some("b"), "b", &["  + route only", answer]);
    check(
        "http://i/",
        Some("b"),
        "b",
        &["  a body above 1KiB gets 413"],
    );
    check(
        "http://h:81/",
        None,
        "c",
        &["  + listener c", "  + route x"],
    );
}

#[test]
fn instances_and_missing_routes_are_told() {
    let text = "[listener.a]\naddress = \"0.0.0.0:80\"\n[service.app]\ncommand = \"run\"\n[route.app]\nhost = \"a\"\nservice = \"app\"\n";
    let got = explained(text, "http://a");
    assert!(
        got.ends_with("→ service app: an instance per core, at least 2, of \"run\"\n"),
        "{got}"
    );
    let got = explained(text, "http://b");
    assert!(got.ends_with("→ 404: no route matches\n"), "{got}");
}

#[test]
fn json_says_the_same() {
    let config = load_text(EXAMPLE).unwrap().config;
    let json = explain(&config, &asked("http://shop.example:8080/api", "POST"))
        .unwrap()
        .to_json();
    assert_eq!(json["route"], "api");
    assert_eq!(json["method"], "POST");
    assert_eq!(json["outcome"]["service"], "api");
    assert_eq!(json["outcome"]["body_limit"], 10 << 20);
    assert_eq!(json["routes"][1]["matches"], false);
}

#[test]
fn wrong_urls_are_told() {
    let config = load_text(SMALL).unwrap().config;
    let error = |url: &str| explain(&config, &asked(url, "GET")).unwrap_err();
    assert_eq!(error("ftp://a/"), UrlError::Scheme("ftp".to_owned()));
    assert_eq!(error(""), UrlError::Host);
    assert_eq!(error("http:///x"), UrlError::Host);
    assert_eq!(error("GET /x"), UrlError::NoHost("GET ".to_owned()));
    assert_eq!(
        error("http://[1::2::3]/"),
        UrlError::NoHost("[1::2::3]".to_owned())
    );
    assert_eq!(error("http://a:x/"), UrlError::Port);
    assert_eq!(error("http://a:0/"), UrlError::Port);
    assert!(matches!(error("http://a/%zz"), UrlError::Path(_)));
}

#[test]
fn routes_of_other_listeners_are_told_apart() {
    let text = "\
[listener.inner]
address = \"127.0.0.1:8081\"
[listener.public]
address = \"127.0.0.1:8080\"
[route.all]
listener = \"public\"
respond = { status = 200 }
[route.own]
listener = \"inner\"
respond = { status = 204 }
";
    let expected = "\
GET a.test:8081/
  + listener inner
  - listener public: listens at port 8080, the URL has 8081
  - route all: it is for listener public, and this comes to inner
  + route own
→ a fixed answer with status 204
";
    assert_eq!(explained(text, "http://a.test:8081/"), expected);
    let config = load_text(text).unwrap().config;
    let question = Question {
        listener: Some("public".to_owned()),
        ..asked("/", "GET")
    };
    let told = explain(&config, &question).unwrap();
    assert_eq!(told.outcome, Outcome::Respond(200));
    let same = text.replace("listener = \"inner\"", "listener = [\"inner\", \"public\"]");
    let problems = load_text(&same).unwrap_err();
    assert!(
        problems[0].message.contains("route all matches the same"),
        "{problems:?}"
    );
}
