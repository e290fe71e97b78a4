//! How the shop stops, in this process and as a program.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use outgrow_shop::{ServerOptions, content};
use outgrow_testkit::{
    folder::Folder,
    http,
    processes::{self, Signal},
    raw::{Client, End},
    wait,
};

use crate::running::{RunningShop, SOON};

#[test]
fn readiness_fails_first_and_requests_in_flight_finish() {
    let mut shop = RunningShop::with(ServerOptions {
        drain_delay: Duration::from_millis(400),
        ..ServerOptions::default()
    });
    let id = (0..50).max_by_key(|id| content::report_time(*id)).unwrap();
    let mut idle = Client::connect(shop.address).unwrap();
    idle.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert!(idle.receive_until(b"alive\n", SOON).unwrap());
    shop.terminate();
    wait::until("/readyz fails", SOON, || {
        let response = http::get(&shop.url("/readyz")).ok()?;
        (response.status == 503).then_some(())
    })
    .unwrap();
    // Not ready, yet whoever comes is served.
    let response = http::get(&shop.url("/product/1")).unwrap();
    assert_eq!(response.body, content::product(1).unwrap());
    let mut busy = Client::connect(shop.address).unwrap();
    busy.send(format!("GET /report?id={id} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
        .unwrap();
    let whole = busy.receive_to_end(SOON).unwrap();
    assert!(
        whole.received.ends_with(b"\r\n0\r\n\r\n"),
        "{}",
        whole.text()
    );
    assert_eq!(whole.end, End::Closed);
    assert_eq!(idle.receive_to_end(SOON).unwrap().end, End::Closed);
    shop.join();
    assert!(Client::connect(shop.address).is_err());
}

/// The program `shop`, killed on drop.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

fn program(environment: &[(&str, &str)]) -> (Program, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_shop"))
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut program = Program(child);
    let mut line = String::new();
    let stdout = program.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    (program, line.trim_end().to_owned())
}

#[test]
fn the_program_stops_by_sigterm_on_port_and_socket() {
    let environment = [
        ("PORT", "0"),
        ("OUTGROW_INSTANCE", "web-1"),
        ("SHOP_DRAIN_DELAY_MS", "0"),
    ];
    let (mut shop, line) = program(&environment);
    let address = line.strip_prefix("web-1 listens on ").unwrap();
    let me = http::get(&format!("http://{address}/whoami"))
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(
        (&me["instance"], &me["pid"]),
        (&"web-1".into(), &shop.0.id().into())
    );
    processes::signal(shop.0.id(), Signal::TERM).unwrap();
    assert!(shop.0.wait().unwrap().success());

    let folder = Folder::new("shop").unwrap();
    let path = folder.path().join("shop.sock");
    // A stale one, as a killed process leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let socket = path.to_str().unwrap();
    let (mut shop, line) = program(&[("PORT", socket), ("SHOP_DRAIN_DELAY_MS", "0")]);
    assert_eq!(line, format!("shop listens on unix:{socket}"));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("alive\n"), "{answer}");
    processes::signal(shop.0.id(), Signal::TERM).unwrap();
    assert!(shop.0.wait().unwrap().success());
    assert!(!fs::exists(&path).unwrap());
}

#[test]
fn faults_crash_and_hang_only_when_allowed() {
    let (mut shop, line) = program(&[("PORT", "0"), ("SHOP_FAULTS", "1")]);
    let address = line.strip_prefix("shop listens on ").unwrap().to_owned();
    let mut hung = Client::connect(address.parse().unwrap()).unwrap();
    hung.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(!hung.receive_bytes(1, Duration::from_millis(50)).unwrap());
    // Nobody else is answered either.
    let mut other = Client::connect(address.parse().unwrap()).unwrap();
    other
        .send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert!(!other.receive_bytes(1, Duration::from_millis(50)).unwrap());
    assert_eq!(shop.0.try_wait().unwrap(), None);
    drop(shop);

    let (mut shop, line) = program(&[("PORT", "0"), ("SHOP_FAULTS", "1")]);
    let address = line.strip_prefix("shop listens on ").unwrap();
    assert!(http::get(&format!("http://{address}/crash")).is_err());
    assert_eq!(shop.0.wait().unwrap().code(), Some(70));
}

#[test]
fn a_taken_port_is_told() {
    let shop = RunningShop::start();
    let port = shop.address.port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_shop"))
        .env("PORT", &port)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        said.contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{said}"
    );
}
