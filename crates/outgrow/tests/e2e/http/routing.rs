//! Which route a request takes, what routes do to headers, and what endpoints are told about the
//! client.

use outgrow_testkit::{
    backend::{Recorder, Script, response},
    http,
    outgrow::Outgrow,
};

use super::{Front, field, only_request};

fn backend(name: &'static str) -> Recorder {
    Recorder::start(Script::answer(response(name))).expect("a backend")
}

#[test]
fn the_most_exact_host_and_the_longest_path_win() {
    let (exact, wild, any, deep) = (
        backend("exact"),
        backend("wild"),
        backend("any"),
        backend("deep"),
    );
    let config = format!(
        r#"
[access]
to = "off"
[listener.public]
address = "%public%"
[service.exact]
endpoints = ["{}"]
[service.wild]
endpoints = ["{}"]
[service.any]
endpoints = ["{}"]
[service.deep]
endpoints = ["{}"]
[route.exact]
host = ["shop.example", "www.shop.example"]
service = "exact"
[route.wild]
host = "*.example"
service = "wild"
[route.any]
path = "/any"
service = "any"
[route.deep]
host = "shop.example"
path = "/api/deep"
service = "deep"
"#,
        exact.address(),
        wild.address(),
        any.address(),
        deep.address()
    );
    let outgrow = Outgrow::start(&config).expect("outgrow starts");
    let check = |host: &str, path: &str, status: u16, text: &str| {
        let url = outgrow.url("public", path);
        let answer = http::request("GET", &url, &[("Host", host)], b"").expect("an answer");
        assert_eq!(answer.status, status, "{host}{path}: {}", answer.text());
        assert!(
            answer.text().contains(text),
            "{host}{path}: {}",
            answer.text()
        );
    };
    check("shop.example", "/", 200, "exact");
    check("SHOP.example:81", "/x?y", 200, "exact");
    check("www.shop.example", "/api/deep", 200, "exact");
    check("shop.example", "/api/deep", 200, "deep");
    check("shop.example", "/api/deep/er", 200, "deep");
    check("shop.example", "/api/deeper", 200, "exact");
    check("shop.example", "/api/x/../deep", 200, "deep");
    check("other.example", "/any", 200, "wild");
    check("elsewhere.test", "/any/thing", 200, "any");
    check("elsewhere.test", "/anything", 404, "no_route");
    check("example", "/", 404, "no_route");
}

#[test]
fn headers_are_set_and_removed() {
    let answer = "HTTP/1.1 200 OK\r\nServer: secret/1\r\nX-Kept: yes\r\nX-Powered-By: php\r\n\
                  Content-Length: 2\r\n\r\nok";
    let backend = Recorder::start(Script::answer(answer)).expect("a backend");
    let outgrow = Front {
        route: r#"
request_headers = { set = { X-Tier = "edge", Host = "inner.example" }, remove = ["Cookie"] }
response_headers = { set = { X-Frame-Options = "DENY" }, remove = ["Server", "X-Powered-By"] }
"#,
        ..Front::default()
    }
    .before(&backend);
    let headers = [("Cookie", "a=b"), ("X-Tier", "mine"), ("X-Own", "1")];
    let url = outgrow.url("public", "/");
    let answer = http::request("GET", &url, &headers, b"").expect("an answer");
    assert_eq!(answer.header("Server"), None);
    assert_eq!(answer.header("X-Powered-By"), None);
    assert_eq!(answer.header("X-Kept"), Some("yes"));
    assert_eq!(answer.header("X-Frame-Options"), Some("DENY"));
    let request = only_request(&backend);
    assert_eq!(field(&request, "Cookie"), None);
    assert_eq!(field(&request, "X-Tier"), Some("edge"));
    assert_eq!(field(&request, "X-Own"), Some("1"));
    assert_eq!(field(&request, "Host"), Some("inner.example"));
    assert_eq!(request.matches("X-Tier").count(), 1, "{request}");
}

#[test]
fn fixed_responses_need_no_service() {
    let outgrow = Outgrow::start(
        r#"
[access]
to = "off"
[listener.public]
address = "%public%"
[route.gone]
path = "/gone"
respond = { status = 410, body = "gone\n", headers = { X-Why = "moved" } }
[route.empty]
path = "/empty"
respond = { status = 204 }
"#,
    )
    .expect("outgrow starts");
    let gone = http::get(&outgrow.url("public", "/gone")).expect("an answer");
    assert_eq!((gone.status, gone.text().as_str()), (410, "gone\n"));
    assert_eq!(gone.header("X-Why"), Some("moved"));
    let head = http::request("HEAD", &outgrow.url("public", "/gone"), &[], b"");
    let head = head.expect("an answer");
    assert_eq!(
        (head.status, head.header("Content-Length")),
        (410, Some("5"))
    );
    // The body that nobody wants is passed over.
    let posted = http::request("POST", &outgrow.url("public", "/gone"), &[], b"0123456789");
    assert_eq!(posted.expect("an answer").status, 410);
    let empty = http::get(&outgrow.url("public", "/empty")).expect("an answer");
    assert_eq!((empty.status, empty.body.len()), (204, 0));
    assert_eq!(empty.header("Content-Length"), None);
}

#[test]
fn an_untrusted_client_is_described_not_believed() {
    let backend = backend("ok");
    let outgrow = Front::default().before(&backend);
    let headers = [
        ("Host", "shop.example"),
        ("X-Forwarded-For", "1.1.1.1"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=1.1.1.1"),
        ("X-Request-Id", "mine"),
    ];
    let url = outgrow.url("public", "/");
    http::request("GET", &url, &headers, b"").expect("an answer");
    let request = only_request(&backend);
    assert_eq!(field(&request, "X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(field(&request, "X-Forwarded-Proto"), Some("http"));
    assert_eq!(field(&request, "X-Forwarded-Host"), Some("shop.example"));
    assert_eq!(field(&request, "Forwarded"), None);
    assert_eq!(field(&request, "Via"), Some("1.1 outgrow"));
    let id = field(&request, "X-Request-Id").expect("an id");
    assert!(
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    assert!(!request.contains("mine"), "{request}");
}

#[test]
fn a_trusted_proxy_is_believed_and_appended_to() {
    let backend = backend("ok");
    let outgrow = Front {
        listener: "trusted_proxies = [\"127.0.0.0/8\"]",
        ..Front::default()
    }
    .before(&backend);
    let headers = [
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Request-Id", "theirs-1"),
        ("Via", "2 cdn"),
    ];
    let url = outgrow.url("public", "/");
    http::request("GET", &url, &headers, b"").expect("an answer");
    let request = only_request(&backend);
    assert_eq!(
        field(&request, "X-Forwarded-For"),
        Some("192.0.2.7, 127.0.0.1")
    );
    assert_eq!(field(&request, "X-Forwarded-Proto"), Some("https"));
    assert_eq!(field(&request, "X-Request-Id"), Some("theirs-1"));
    assert_eq!(field(&request, "Via"), Some("2 cdn, 1.1 outgrow"));
    let record = super::records(&outgrow, 1).remove(0);
    assert!(record.ends_with("id=theirs-1"), "{record}");
}

#[test]
fn fields_of_one_hop_stay_there() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: X-Inner\r\nX-Inner: 1\r\nKeep-Alive: timeout=5\r\n\
                  Content-Length: 2\r\n\r\nok";
    let backend = Recorder::start(Script::answer(answer)).expect("a backend");
    let outgrow = Front::default().before(&backend);
    let headers = [
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "gzip"),
    ];
    let url = outgrow.url("public", "/");
    let answer = http::request("GET", &url, &headers, b"").expect("an answer");
    assert_eq!(answer.header("X-Inner"), None);
    assert_eq!(answer.header("Keep-Alive"), None);
    let request = only_request(&backend);
    for name in ["X-Hop", "Proxy-Connection", "TE"] {
        assert_eq!(field(&request, name), None, "{request}");
    }
}
