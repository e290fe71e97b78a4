//! Each fault, seen by a raw client.

use super::*;
use crate::{
    backend::{Recorder, Script},
    raw::{self, Client, End},
};

const SOON: Duration = Duration::from_secs(10);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn start() -> (Recorder, Proxy) {
    let recorder = Recorder::start(Script::answer(ANSWER)).unwrap();
    let proxy = Proxy::start(recorder.address()).unwrap();
    (recorder, proxy)
}

fn ask(proxy: &Proxy, limit: Duration) -> (Vec<u8>, End) {
    let exchange = raw::exchange(proxy.address(), &[REQUEST], Duration::ZERO, limit).unwrap();
    (exchange.received, exchange.end)
}

#[test]
fn passes_bytes_both_ways_and_half_closes() {
    let (recorder, proxy) = start();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.send(REQUEST).unwrap();
    client.finish_sending().unwrap();
    let exchange = client.receive_to_end(SOON).unwrap();
    assert_eq!(
        (exchange.received.as_slice(), exchange.end),
        (ANSWER, End::Closed)
    );
    assert_eq!(recorder.received(), REQUEST);
    assert_eq!(proxy.accepted(), 1);
}

#[test]
fn cuts_and_resets_after_so_many_bytes() {
    let (_recorder, proxy) = start();
    proxy.set(Fault::CutAfter(41)).unwrap();
    assert_eq!(ask(&proxy, SOON), (ANSWER[..41].to_vec(), End::Closed));
    proxy.set(Fault::ResetAfter(0)).unwrap();
    assert_eq!(ask(&proxy, SOON), (vec![], End::Reset));
}

#[test]
fn delays() {
    let (_recorder, proxy) = start();
    proxy.set(Fault::Delay(Duration::from_millis(60))).unwrap();
    let mut client = Client::connect(proxy.address()).unwrap();
    let begin = Instant::now();
    client.send(REQUEST).unwrap();
    assert!(client.receive_bytes(ANSWER.len(), SOON).unwrap());
    // Once on each way.
    assert!(begin.elapsed() >= Duration::from_millis(120));
}

#[test]
fn stalls_and_goes_on() {
    let (_recorder, proxy) = start();
    proxy.set(Fault::Stall).unwrap();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.send(REQUEST).unwrap();
    assert!(!client.receive_bytes(1, Duration::from_millis(50)).unwrap());
    proxy.set(Fault::None).unwrap();
    assert!(client.receive_bytes(ANSWER.len(), SOON).unwrap());
}

#[test]
fn resets_open_and_new_connections() {
    let (_recorder, proxy) = start();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.send(REQUEST).unwrap();
    assert!(client.receive_bytes(ANSWER.len(), SOON).unwrap());
    proxy.set(Fault::Reset).unwrap();
    assert_eq!(client.receive_to_end(SOON).unwrap().end, End::Reset);
    assert_eq!(ask(&proxy, SOON), (vec![], End::Reset));
}

#[test]
fn refuses_and_listens_again() {
    let (_recorder, proxy) = start();
    proxy.set(Fault::Refuse).unwrap();
    let error = Client::connect(proxy.address()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    proxy.set(Fault::None).unwrap();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.send(REQUEST).unwrap();
    assert!(client.receive_bytes(ANSWER.len(), SOON).unwrap());
}
