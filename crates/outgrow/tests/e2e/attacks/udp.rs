//! Datagrams: sources without end, and answers that are larger than what was asked.

use std::net::UdpSocket;

use super::field::{Tally, Target, Watch};

/// Sockets that are asked from, one after the other.
const SOURCES: usize = 4_000;

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_nonblocking(true).expect("a mode");
    socket
}

/// Everything that has come, in bytes.
fn heard(socket: &UdpSocket) -> u64 {
    let mut bytes = [0; 65_535];
    let mut all = 0;
    while let Ok(length) = socket.recv(&mut bytes) {
        all += length as u64;
    }
    all
}

/// A new source for each datagram: half of them nobody answers, half get the same back.
pub(super) fn sources(target: &Target, watch: &Watch<'_>) -> Tally {
    let mut tally = Tally::default();
    let address = target.address("datagrams");
    let mut held: Vec<UdpSocket> = Vec::new();
    while let Some(due) = watch.due(2_000.0, tally.sent) {
        for _ in 0..due.min(200) {
            let socket = socket();
            let datagram = if tally.sent.is_multiple_of(2) {
                [b'?'; 100]
            } else {
                [b'x'; 100]
            };
            tally.sent += 1;
            if let Ok(count) = socket.send_to(&datagram, address) {
                tally.bytes_out += count as u64;
            }
            held.push(socket);
        }
        if held.len() > SOURCES {
            let old: Vec<_> = held.drain(..SOURCES / 2).collect();
            tally.bytes_in += old.iter().map(heard).sum::<u64>();
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    tally.bytes_in += held.iter().map(heard).sum::<u64>();
    tally.connections = tally.sent;
    tally
}

/// What could be a connection of QUIC's, from an address that may be forged: a version that nobody
/// knows, a connection that nobody has, noise. None may bring more than three times as much.
pub(super) fn quic_noise(target: &Target, watch: &Watch<'_>) -> Tally {
    let mut tally = Tally::default();
    let address = target.address("secure");
    let long = |version: u32, length: usize| {
        let mut bytes = vec![0xc0];
        bytes.extend(version.to_be_bytes());
        bytes.extend([8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 7, 6, 5, 4, 3, 2, 1]);
        bytes.resize(length, 0x55);
        bytes
    };
    let unknown = long(0x1a2a_3a4a, 1_200);
    let small = long(0x1a2a_3a4a, 60);
    let spoiled = long(1, 1_200);
    let mut short = vec![0x40; 43];
    short.extend([9; 30]);
    let kinds = [unknown, small, spoiled, short];
    let socket = socket();
    while let Some(due) = watch.due(4_000.0, tally.sent) {
        for _ in 0..due.min(200) {
            let datagram = &kinds[(tally.sent % 4) as usize];
            tally.sent += 1;
            if let Ok(count) = socket.send_to(datagram, address) {
                tally.bytes_out += count as u64;
            }
        }
        tally.bytes_in += heard(&socket);
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    tally.bytes_in += heard(&socket);
    tally
}

/// First packets of a library's, from addresses that never answer: each brings at most three times as
/// much, and what is left of one datagram, which QUIC's library begins as long as a single byte may be
/// sent; whatever is sent again. What is kept for it is little.
#[cfg(feature = "http3")]
#[test]
fn an_address_that_is_not_verified_gets_little() {
    use std::process::Command;

    use crate::apps::{From, install};
    use crate::limits::resident_memory;
    use crate::shop;

    /// What a handshake may hold: 64 KiB, and as much again for what the allocator keeps.
    const MOST_HELD: u64 = 128 * 1024;
    /// Of a datagram.
    const LONGEST: u64 = 1_500;
    let Some(library) = install("aioquic", From::PyPi, &["aioquic==1.7.2"]) else {
        return;
    };
    let target = Target::start();
    let pid = shop::data_pid(&target.outgrow);
    let mut command = Command::new("python3");
    let command =
        command
            .env("PYTHONPATH", library)
            .args(["-c", include_str!("initials.py"), "200"]);
    let output = command.output().expect("python3 runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("text");
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("text");
        u8::from_str_radix(pair, 16).expect("hexadecimal")
    };
    let before = resident_memory(pid);
    let mut asked = Vec::new();
    for line in text.lines() {
        let datagram: Vec<u8> = line.as_bytes().chunks(2).map(byte).collect();
        let socket = socket();
        let sent = socket
            .send_to(&datagram, target.address("secure"))
            .expect("sent");
        asked.push((socket, sent as u64));
    }
    // What is lost is sent again, for a while.
    std::thread::sleep(std::time::Duration::from_secs(4));
    let answered: Vec<(u64, u64)> = asked
        .iter()
        .map(|(socket, sent)| (*sent, heard(socket)))
        .collect();
    for (sent, came) in &answered {
        assert!(*came <= 3 * sent + LONGEST, "{came} bytes for {sent}");
    }
    let (sent, came) = answered.iter().max_by_key(|(_, came)| *came).expect("some");
    eprintln!(
        "{} first packets, at most {came} bytes for {sent}",
        answered.len()
    );
    assert!(*came > 0, "nobody was answered");
    let held = resident_memory(pid).saturating_sub(before);
    let most = answered.len() as u64 * MOST_HELD;
    assert!(
        held <= most,
        "{held} bytes for {} handshakes",
        answered.len()
    );
}
