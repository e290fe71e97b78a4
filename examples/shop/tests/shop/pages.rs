//! What each page answers.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use outgrow_shop::content;
use outgrow_testkit::{http, raw};

use crate::running::{RunningShop, SOON};

#[test]
fn pages_are_byte_exact() {
    let shop = RunningShop::start();
    let check = |path: &str, kind: &str, body: &[u8]| {
        let response = http::get(&shop.url(path)).unwrap();
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.body, body, "{path}");
        assert_eq!(response.header("content-type"), Some(kind), "{path}");
        response
    };
    check("/", "text/html; charset=utf-8", &content::home());
    check(
        "/product/7",
        "application/json",
        &content::product(7).unwrap(),
    );
    check("/livez", "text/plain; charset=utf-8", b"alive\n");
    check("/readyz", "text/plain; charset=utf-8", b"ready\n");
    let binary = "application/octet-stream";
    for length in [0_usize, 1, 16_384, 16_385, 300_000] {
        let body = content::pattern(0, length);
        let whole = check(&format!("/bytes/{length}"), binary, &body);
        assert_eq!(
            whole.header("content-length"),
            Some(length.to_string().as_str())
        );
        let chunked = check(&format!("/chunked/{length}"), binary, &body);
        assert_eq!(chunked.header("transfer-encoding"), Some("chunked"));
    }
}

#[test]
fn the_report_takes_its_time_and_comes_in_pieces() {
    let shop = RunningShop::start();
    // The id of which the pieces are furthest apart.
    let id = (0..50).max_by_key(|id| content::report_time(*id)).unwrap();
    let begin = Instant::now();
    let request = format!("GET /report?id={id} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let exchange = raw::exchange(shop.address, &[request.as_bytes()], Duration::ZERO, SOON);
    let text = exchange.unwrap().text();
    assert!(begin.elapsed() >= content::report_time(id));
    let mut chunks = String::new();
    for piece in 0..content::REPORT_PIECES {
        let piece = String::from_utf8(content::report_piece(id, piece).to_vec()).unwrap();
        write!(chunks, "{:X}\r\n{piece}\r\n", piece.len()).unwrap();
    }
    assert!(
        text.ends_with(&format!("\r\n\r\n{chunks}0\r\n\r\n")),
        "{text}"
    );
}

#[test]
fn who_answers() {
    let shop = RunningShop::start();
    let me = http::get(&shop.url("/whoami")).unwrap().json().unwrap();
    assert_eq!(me["instance"], "shop");
    assert_eq!(me["pid"], std::process::id());
}

#[test]
fn what_is_not_there_or_not_allowed() {
    let shop = RunningShop::start();
    let check = |method: &str, path: &str, status: u16| {
        let response = http::request(method, &shop.url(path), &[], b"").unwrap();
        assert_eq!(response.status, status, "{method} {path}");
    };
    check("GET", "/nothing", 404);
    check("GET", "/product/0", 404);
    check("GET", "/product/x", 404);
    check("GET", "/product/1/2", 404);
    check("GET", "/bytes/67108865", 404);
    check("GET", "/bytes/-1", 404);
    check("POST", "/", 405);
    check("GET", "/checkout", 405);
    check("DELETE", "/product/1", 405);
    check("GET", "/ws", 426);
    check("HEAD", "/product/1", 200);
    // Without SHOP_FAULTS they do not exist.
    check("GET", "/crash", 404);
    check("GET", "/hang", 404);
}
