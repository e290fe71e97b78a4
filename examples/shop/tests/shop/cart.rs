//! Requests with bodies: checkout and echo, and their limits.

use outgrow_shop::content;
use outgrow_testkit::http::{self, Response};

use crate::running::RunningShop;

const CART: &[u8] = br#"{"items":[{"product":3,"quantity":2}]}"#;

fn checkout(shop: &RunningShop, key: &str, body: &[u8]) -> Response {
    let headers = [("Idempotency-Key", key)];
    http::request("POST", &shop.url("/checkout"), &headers, body).unwrap()
}

#[test]
fn the_same_key_gives_the_same_order() {
    let shop = RunningShop::start();
    let first = checkout(&shop, "key-1", CART);
    let second = checkout(&shop, "key-1", CART);
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.body, second.body);
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    let order = first.json().unwrap();
    assert_eq!(order["total_cents"], 2 * content::price_cents(3));
    assert_eq!(order["order"], content::order_number("key-1"));
    let other = br#"{"items":[{"product":3,"quantity":3}]}"#;
    assert_eq!(checkout(&shop, "key-1", other).status, 422);
    // Another instance, which knows nothing of the first.
    let elsewhere = RunningShop::start();
    assert_eq!(checkout(&elsewhere, "key-1", CART).body, first.body);
}

#[test]
fn a_body_comes_back() {
    let shop = RunningShop::start();
    let body = content::pattern(5, 1024 * 1024);
    let url = shop.url("/echo");
    let response = http::request("POST", &url, &[], &body).unwrap();
    assert!(response.status == 200 && response.body == body);
    let chunked = [("Transfer-Encoding", "chunked")];
    let body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let response = http::request("POST", &url, &chunked, body).unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "abcde"));
}

#[test]
fn more_than_a_mebibyte_is_413() {
    let shop = RunningShop::start();
    let body = content::pattern(0, 1024 * 1024 + 1);
    for path in ["/checkout", "/echo", "/nothing"] {
        let response = http::request("POST", &shop.url(path), &[], &body).unwrap();
        assert_eq!(response.status, 413, "{path}");
    }
    let chunked = [("Transfer-Encoding", "chunked")];
    let whole = [b"100001\r\n".as_slice(), &body, b"\r\n0\r\n\r\n"].concat();
    let response = http::request("POST", &shop.url("/checkout"), &chunked, &whole).unwrap();
    assert_eq!(response.status, 413);
}
