//! TLS: large and half ClientHellos, handshakes for nothing, keys without end; renegotiation and early
//! data, which are not there.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
    time::Duration,
};

use outgrow_testkit::tls::{TlsClient, client_hello};

use super::{
    field::{NAME, Tally, Target, Watch},
    http1::one_after_another,
    line::Crowd,
};

/// The most that a record holds.
const RECORD: usize = 16_384;

/// The first `count` bytes of a ClientHello that says it has `length`, in records.
fn hello(length: u32, count: usize) -> Vec<u8> {
    let mut message = vec![1];
    message.extend(&length.to_be_bytes()[1..]);
    message.extend([3, 3]);
    message.resize(count, 7);
    let mut bytes = Vec::new();
    for piece in message.chunks(RECORD) {
        bytes.extend([22, 3, 1]);
        bytes.extend((piece.len() as u16).to_be_bytes());
        bytes.extend(piece);
    }
    bytes
}

/// ClientHellos that say they have 16 MiB, and send a part of it, where TLS ends and where it passes.
pub(super) fn huge_hellos(target: &Target, watch: &Watch<'_>) -> Tally {
    let bytes = hello(0x00ff_ffff, 100_000);
    let mut all = Tally::default();
    let (secure, passed) = (target.address("secure"), target.address("passed"));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| one_after_another(passed, watch, 50.0, |_| bytes.clone()));
        all.add(&one_after_another(secure, watch, 50.0, |_| bytes.clone()));
        all.add(&other.join().expect("it is well"));
    });
    all
}

/// ClientHellos as large as may be, but for the end, which never comes.
pub(super) fn half_hellos(target: &Target, watch: &Watch<'_>) -> Tally {
    let bytes = hello(0xfff0, 60_000);
    let mut crowd = Crowd::gather(target.address("secure"), watch, (500, 250.0), &bytes);
    watch.turns(Duration::from_millis(100), |_| {
        for line in &mut crowd.lines {
            line.say(&[]);
        }
    });
    let sent = crowd.lines.len() as u64;
    crowd.tally(sent)
}

/// Handshakes for which outgrow makes keys and signs, and which go no further.
pub(super) fn handshakes(target: &Target, watch: &Watch<'_>) -> Tally {
    let bytes = client_hello(NAME, target.trusted()).expect("a ClientHello");
    one_after_another(target.address("secure"), watch, 200.0, |_| bytes.clone())
}

/// New keys again and again (RFC 8446 section 4.6.3).
pub(super) fn key_updates(target: &Target, watch: &Watch<'_>) -> Tally {
    let mut tally = Tally::default();
    let mut current: Option<TlsClient> = None;
    while let Some(due) = watch.due(2_000.0, tally.sent) {
        let Some(client) = &mut current else {
            let made = TlsClient::connect(target.address("secure"), NAME, target.trusted(), &[]);
            let mut client = made.expect("a connection");
            let mut answer = [0; 4_096];
            client
                .write_all(b"GET /fixed HTTP/1.1\r\nHost: a.example\r\n\r\n")
                .expect("sent");
            assert!(client.read(&mut answer).expect("an answer") > 0);
            tally.connections += 1;
            current = Some(client);
            continue;
        };
        for _ in 0..due.min(100) {
            tally.sent += 1;
            if client.update_keys().is_err() {
                tally.tell("closed");
                current = None;
                break;
            }
        }
    }
    tally
}

/// What OpenSSL's client says, with this on its standard input after the handshake.
fn openssl(target: &Target, arguments: &[&str], input: &str) -> String {
    let address = target.address("secure").to_string();
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-servername", NAME])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl starts");
    let mut stdin = child.stdin.take().expect("an input");
    std::thread::sleep(Duration::from_millis(500));
    // It may have ended already.
    let _ended = stdin.write_all(input.as_bytes());
    std::thread::sleep(Duration::from_millis(500));
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn nobody_renegotiates() {
    let target = Target::start();
    let said = openssl(&target, &["-tls1_2"], "R\n");
    assert!(said.contains("RENEGOTIATING"), "{said}");
    let refused = said.contains("no renegotiation") || said.contains("unexpected message");
    assert!(refused, "{said}");
}

/// There is no early data over TCP, so none that could be sent again: a POST with the first bytes of a
/// resumed connection is neither taken nor carried out. (Over QUIC: `http3::early`.)
#[test]
fn a_post_with_the_first_bytes_is_not_carried_out() {
    let target = Target::start();
    let folder = target.outgrow.folder();
    let (session, post) = (folder.join("session"), folder.join("post"));
    let (session, post) = (session.display().to_string(), post.display().to_string());
    let request = "POST /attacked HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nagain";
    std::fs::write(&post, request).expect("written");
    let get = "GET /fixed HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let said = openssl(&target, &["-tls1_3", "-sess_out", &session], get);
    assert!(said.contains("Max Early Data: 0"), "{said}");
    for _ in 0..2 {
        let resumed = ["-tls1_3", "-sess_in", &session, "-early_data", &post];
        let said = openssl(&target, &resumed, get);
        assert!(said.contains("Early data was not sent"), "{said}");
    }
    let metrics = target
        .outgrow
        .admin_get("/metrics")
        .expect("metrics")
        .text();
    let is_asked =
        |line: &&str| line.starts_with("outgrow_requests_total") && line.contains("\"attacked\"");
    let asked = metrics.lines().filter(is_asked);
    assert!(asked.clone().all(|line| line.ends_with(" 0")), "{metrics}");
}
