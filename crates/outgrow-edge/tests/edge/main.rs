//! The edge as a whole, in this process, over loopback: hostile clients, hostile endpoints.

mod blame;
mod canonical;
mod endings;
mod exchanges;
mod gateway;
mod house;
mod http2;
#[path = "../../../outgrow-http/tests/hostile/list/mod.rs"]
mod list;
mod readers;
mod repeats;
mod smuggling;
mod stalls;
mod tunnels;
mod turns;
mod websockets;

use std::net::SocketAddr;
use std::time::Duration;

use outgrow_testkit::backend::{Recorder, Script, Step};
use outgrow_testkit::raw::{self, Client, Exchange};

/// Longer than anything takes that goes well.
const LIMIT: Duration = Duration::from_secs(10);

/// A backend whose connections all do these steps.
fn backend(steps: impl Into<Vec<Step>>) -> Recorder {
    Recorder::start(Script::every(steps)).expect("a port")
}

/// A connected client that has sent `bytes`.
fn client(address: SocketAddr, bytes: &[u8]) -> Client {
    let mut client = Client::connect(address).expect("a connection");
    client.send(bytes).expect("the edge reads");
    client
}

/// Sends `bytes` and receives until the edge closes.
fn talk(address: SocketAddr, bytes: &[u8]) -> Exchange {
    raw::exchange(address, &[bytes], Duration::ZERO, LIMIT).expect("a connection")
}

/// A GET after which the client wants the connection to end.
fn last(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").into_bytes()
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n").into_bytes()
}
