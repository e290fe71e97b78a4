//! Connections that are passed on as they are, through the real binary: `[tcp.NAME]`.

mod balance;
mod datagrams;
mod life;
mod names;
mod proxied;
mod relay;
mod roles;

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use outgrow_testkit::{outgrow::Outgrow, raw::Client};
use rustix::net::sockopt;

use crate::shop::SOON;

/// A server that does the same with each connection, each on a thread of its own.
struct Server {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
}

impl Server {
    fn start(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { address, taken }
    }

    /// Says its name first, and then everything that it hears, to its end.
    fn echo(name: &'static str) -> Self {
        Self::start(move |mut stream| {
            let _ = stream.write_all(name.as_bytes());
            let mut bytes = [0; 64 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..read]).is_err() {
                    return;
                }
            }
            let _ = stream.shutdown(Shutdown::Write);
        })
    }

    /// Connections that it has taken.
    fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("an address")
}

/// Ends a connection with a reset.
fn reset(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("set");
}

/// A listener `public` before a service `app` with these endpoints. `tcp` and `service` are in their
/// tables, `more` anywhere else.
fn config(endpoints: &[SocketAddr], tcp: &str, service: &str, more: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|one| format!("\"{one}\"")).collect();
    let endpoints = endpoints.join(", ");
    format!(
        r#"
[access]
to = "access.log"

[tcp.public]
address = "%public%"
service = "app"
{tcp}

[service.app]
endpoints = [{endpoints}]
{service}

{more}
"#
    )
}

fn start(endpoints: &[SocketAddr], tcp: &str, service: &str) -> Outgrow {
    Outgrow::start(&config(endpoints, tcp, service, "")).expect("outgrow starts")
}

fn connect(outgrow: &Outgrow) -> Client {
    let address = outgrow.address("public").expect("a public listener");
    Client::connect(address).expect("a connection")
}

/// Says this and no more, and gives what came back, and whether it ended with a reset. For connections
/// that may be reset at once: the system tells of a reset once, to whichever call comes first.
fn said(outgrow: &Outgrow, bytes: &[u8]) -> (Vec<u8>, bool) {
    let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
    let address = outgrow.address("public").expect("a public listener");
    let mut stream = match TcpStream::connect(address) {
        Err(error) if is_reset(&error) => return (Vec::new(), true),
        connected => connected.expect("a connection"),
    };
    stream.set_read_timeout(Some(SOON)).expect("set");
    let sent = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut received = Vec::new();
    let ended = stream.read_to_end(&mut received).map(|_| ());
    let is_reset = [sent, ended]
        .iter()
        .any(|done| done.as_ref().is_err_and(is_reset));
    (received, is_reset)
}

/// Sends it, and waits until it has come back.
fn echoed(client: &mut Client, text: &str) {
    client.send(text.as_bytes()).expect("sent");
    let came = client
        .receive_until(text.as_bytes(), SOON)
        .expect("received");
    assert!(came, "{text:?} does not come back");
    client.take_received();
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

/// The only record says all of this.
fn recorded(outgrow: &Outgrow, words: &[&str]) {
    let lines = records(outgrow, 1);
    assert_eq!(lines.len(), 1, "{lines:?}");
    for word in words {
        assert!(lines[0].contains(word), "no {word:?} in {}", lines[0]);
    }
}
