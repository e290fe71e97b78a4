//! HTTP through the real binary, against backends that record every byte.
//!
//! Not here: what is no HTTP at all or ambiguous (the hostile tests of `outgrow-http`), lost
//! processes (`survive`).

mod bodies;
mod compress;
mod decompress;
mod error_pages;
mod exchanges;
mod files;
mod http2_endpoints;
mod records;
mod retries;
mod routing;
mod routing_match;
mod routing_mirror;
mod routing_send;
mod sticky;
mod timeouts;
mod tls;
mod tls_endpoints;
mod tls_policy;

use std::{net::SocketAddr, time::Duration};

use outgrow_testkit::{
    backend::Recorder,
    outgrow::Outgrow,
    raw::{Client, End},
};

use crate::shop::SOON;

/// The outgrow of most tests here: one listener, one service, one route.
#[derive(Clone, Copy, Default)]
struct Front<'a> {
    /// In the listener's table, or tables of its own behind it.
    listener: &'a str,
    /// In the service's table.
    service: &'a str,
    /// In the route's table.
    route: &'a str,
    /// Anywhere else: whole tables.
    more: &'a str,
    /// "json" or, by default, text.
    json: bool,
}

impl Front<'_> {
    fn config(&self, endpoints: &[SocketAddr]) -> String {
        let endpoints: Vec<String> = endpoints.iter().map(|one| format!("\"{one}\"")).collect();
        let endpoints = endpoints.join(", ");
        let format = if self.json { "json" } else { "text" };
        let Self {
            listener,
            service,
            route,
            more,
            ..
        } = self;
        format!(
            r#"
[access]
to = "access.log"
format = "{format}"

[listener.public]
address = "%public%"
{listener}

[service.app]
endpoints = [{endpoints}]
{service}

[route.app]
service = "app"
{route}

{more}
"#
        )
    }

    fn start(&self, endpoints: &[SocketAddr]) -> Outgrow {
        Outgrow::start(&self.config(endpoints)).expect("outgrow starts")
    }

    fn before(&self, backend: &Recorder) -> Outgrow {
        self.start(&[backend.address()])
    }
}

/// A connection to the public listener.
fn connect(outgrow: &Outgrow) -> Client {
    let address = outgrow.address("public").expect("a public listener");
    Client::connect(address).expect("a connection")
}

/// Sends `bytes` and waits for an answer that ends in `end`.
fn ask(client: &mut Client, bytes: &str, end: &str) -> String {
    client.send(bytes.as_bytes()).expect("sent");
    let came = client
        .receive_until(end.as_bytes(), SOON)
        .expect("received");
    let text = String::from_utf8_lossy(&client.take_received()).into_owned();
    assert!(came, "no {end:?} in the answer to {bytes:?}: {text:?}");
    text
}

/// Sends `bytes` and gives everything that came until the other side closed.
fn ask_until_close(outgrow: &Outgrow, bytes: &str) -> String {
    let mut client = connect(outgrow);
    client.send(bytes.as_bytes()).expect("sent");
    let exchange = client.receive_to_end(SOON).expect("received");
    assert_ne!(
        exchange.end,
        End::Open,
        "still open after: {}",
        exchange.text()
    );
    exchange.text()
}

/// The lines of the access record, once there are `count`.
fn records(outgrow: &Outgrow, count: usize) -> Vec<String> {
    let path = outgrow.folder().join("access.log");
    let lines = outgrow.wait("access records", SOON, |_| {
        let text = std::fs::read_to_string(&path).ok()?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    });
    lines.expect("access records")
}

/// The value of a field in the bytes of a request or response.
fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let head = message.split("\r\n\r\n").next()?;
    head.split("\r\n").skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The only request that the backend got.
fn only_request(backend: &Recorder) -> String {
    assert!(backend.wait_requests(1, SOON), "no request came");
    let requests = backend.requests();
    assert_eq!(requests.len(), 1, "one request");
    String::from_utf8_lossy(&requests[0]).into_owned()
}

/// Longer than any timeout that a test sets, shorter than the default ones.
const WHILE: Duration = Duration::from_secs(8);
