//! TLS that is passed on by what its ClientHello says, without being decrypted.

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    time::Duration,
};

use outgrow_testkit::{
    authority::Authority,
    outgrow::Outgrow,
    ports,
    raw::{self, Client, End},
    wait,
};

use super::{Server, recorded};
use crate::shop::SOON;

/// A TLS server of OpenSSL's that says its name to who speaks to it.
struct TlsServer {
    child: Child,
    address: std::net::SocketAddr,
}

impl TlsServer {
    fn start(authority: &Authority, name: &str) -> Self {
        let address = ports::free(1).expect("a port")[0];
        let issued = authority.issue(&[name]).expect("issued");
        let (certificate, key) = authority.files(name, &issued).expect("written");
        let child = Command::new("openssl")
            .args([
                "s_server",
                "-quiet",
                "-accept",
                &address.to_string(),
                "-rev",
            ])
            .args(["-alpn", "h2,imap", "-cert"])
            .arg(certificate)
            .arg("-key")
            .arg(key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl starts");
        let up = || std::net::TcpStream::connect(address).ok();
        wait::until("openssl accepts", SOON, up).expect("it accepts");
        Self { child, address }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client of OpenSSL's sees: the subject of the certificate and the answer to `olleh`.
fn ask(outgrow: &Outgrow, arguments: &[&str]) -> String {
    let address = outgrow.address("public").expect("one").to_string();
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl starts");
    let mut input = child.stdin.take().expect("an input");
    let _ = input.write_all(b"olleh\n");
    // Its end would be the end of the answer as well.
    std::thread::sleep(Duration::from_millis(300));
    drop(input);
    let mut said = String::new();
    let mut output = child.stdout.take().expect("an output");
    let _ = output.read_to_string(&mut said);
    let _ = child
        .stderr
        .take()
        .expect("an output")
        .read_to_string(&mut said);
    let _ = child.wait();
    said
}

fn start(a: &TlsServer, b: &TlsServer, rest: Option<&Server>) -> Outgrow {
    let rest_service = rest.map_or(String::new(), |rest| {
        format!("[service.rest]\nendpoints = [\"{}\"]\n", rest.address)
    });
    let default = if rest.is_some() {
        "service = \"rest\""
    } else {
        ""
    };
    let text = format!(
        r#"
[access]
to = "access.log"
[tcp.public]
address = "%public%"
timeouts = {{ hello = "600ms" }}
{default}
[tcp.public.route.a]
server_name = "a.example"
service = "a"
[tcp.public.route.below]
server_name = "*.b.example"
service = "b"
[tcp.public.route.mail]
server_name = "a.example"
alpn = "imap"
service = "b"
[service.a]
endpoints = ["{}"]
[service.b]
endpoints = ["{}"]
{rest_service}
"#,
        a.address, b.address
    );
    Outgrow::start(&text).expect("outgrow starts")
}

#[test]
fn connections_go_by_server_name_and_protocol() {
    let authority = Authority::new().expect("an authority");
    let (a, b) = (
        TlsServer::start(&authority, "a.example"),
        TlsServer::start(&authority, "b.example"),
    );
    let outgrow = start(&a, &b, None);
    let check = |arguments: &[&str], name: &str| {
        let said = ask(&outgrow, arguments);
        assert!(said.contains("hello"), "{arguments:?}: {said}");
        let seen = said
            .lines()
            .find(|line| line.contains("subject="))
            .unwrap_or_default();
        let other = if name == "a" {
            "b.example"
        } else {
            "a.example"
        };
        assert!(!seen.contains(other), "{arguments:?}: {seen}");
    };
    check(&["-servername", "a.example"], "a");
    check(&["-servername", "A.Example", "-alpn", "h2"], "a");
    check(&["-servername", "x.y.b.example"], "b");
    check(&["-servername", "a.example", "-alpn", "http/1.1,imap"], "b");
    check(&["-servername", "a.example", "-tls1_2"], "a");
    let lines = super::records(&outgrow, 5);
    let routes: Vec<_> = ["route=a", "route=below", "route=mail"]
        .iter()
        .map(|route| lines.iter().filter(|line| line.contains(route)).count())
        .collect();
    assert_eq!(routes, [3, 1, 1], "{lines:#?}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("server_name=x.y.b.example"))
    );
    // Nobody is for these.
    for arguments in [&["-servername", "c.example"][..], &["-noservername"]] {
        let said = ask(&outgrow, arguments);
        assert!(said.contains("unrecognized name"), "{said}");
    }
}

#[test]
fn what_is_no_client_hello_is_refused_and_bounded() {
    let authority = Authority::new().expect("an authority");
    let a = TlsServer::start(&authority, "a.example");
    let before = std::time::Instant::now();
    let hostile: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\n\r\n", "reason=no_client_hello"),
        (
            b"\x16\x03\x01\x40\x00\x01\x00\x40\x00",
            "reason=no_client_hello",
        ),
        (b"\x16\x03\x01\x00\x40\x01\x00", "reason=hello_timeout"),
        (b"", "reason=hello_timeout"),
    ];
    for (bytes, reason) in hostile {
        let outgrow = start(&a, &a, None);
        let mut client =
            Client::connect(outgrow.address("public").expect("one")).expect("connected");
        client.send(bytes).expect("sent");
        let exchange = client.receive_to_end(SOON).expect("received");
        assert_ne!(exchange.end, End::Open, "{reason}");
        recorded(&outgrow, &[reason, "in=0 out=0"]);
    }
    assert!(before.elapsed() < Duration::from_secs(60));
}

/// A ClientHello in pieces goes on as it came, byte for byte, with what is behind it.
#[test]
fn what_comes_in_pieces_is_whole() {
    let authority = Authority::new().expect("an authority");
    let a = TlsServer::start(&authority, "a.example");
    let rest = Server::echo("");
    let outgrow = start(&a, &a, Some(&rest));
    let hello = no_name();
    for size in [1, 3, 1_000] {
        let address = outgrow.address("public").expect("one");
        let pieces = raw::split_every(&hello, size);
        let mut client = Client::connect(address).expect("connected");
        for piece in pieces {
            client.send(piece).expect("sent");
        }
        client.finish_sending().expect("ended");
        let exchange = client.receive_to_end(SOON).expect("received");
        assert_eq!(exchange.received, hello, "{size}");
    }
}

/// A ClientHello without extensions, in two records, and some bytes of the next one.
fn no_name() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut bytes = Vec::new();
    for piece in message.chunks(20) {
        bytes.extend([22, 3, 1, 0, piece.len() as u8]);
        bytes.extend(piece);
    }
    bytes.extend([23, 3, 3, 0, 9, 1, 2]);
    bytes
}
