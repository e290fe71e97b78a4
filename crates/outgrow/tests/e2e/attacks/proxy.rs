//! The PROXY protocol: headers of nobody's, and those that never end.

use std::time::Duration;

use super::{
    field::{Tally, Target, Watch},
    http1::one_after_another,
    line::Crowd,
};

const LINE: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\r\n";
const REQUEST: &[u8] = b"GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n";

/// The beginning of a header of version 2 that says it has so many bytes.
fn binary(length: u16) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    bytes.extend(length.to_be_bytes());
    bytes.extend([198, 51, 100, 7, 203, 0, 113, 1, 0x12, 0x67, 0x01, 0xbb]);
    bytes
}

/// Headers of whom nobody trusts, where proxies must come, may come and are not known.
pub(super) fn untrusted(target: &Target, watch: &Watch<'_>) -> Tally {
    let mut all = Tally::default();
    std::thread::scope(|scope| {
        let attackers = ["proxied", "mixed", "public"].map(|listener| {
            let address = target.address(listener);
            scope.spawn(move || {
                one_after_another(address, watch, 200.0, |at| {
                    let header = if at % 2 == 0 {
                        LINE.to_vec()
                    } else {
                        binary(12)
                    };
                    [&header, REQUEST].concat()
                })
            })
        });
        for attacker in attackers {
            all.add(&attacker.join().expect("it is well"));
        }
    });
    all
}

/// Headers of a proxy's that never end, of both versions, the second with 60 KB of fields.
pub(super) fn endless(target: &Target, watch: &Watch<'_>) -> Tally {
    let address = target.address("believing");
    let mut long = binary(u16::MAX);
    long.resize(60_000, 4);
    let mut crowds = [
        Crowd::gather(
            address,
            watch,
            (500, 500.0),
            b"PROXY TCP4 198.51.100.7 203.0",
        ),
        Crowd::gather(address, watch, (500, 250.0), &long),
    ];
    watch.turns(Duration::from_secs(1), |_| {
        for line in crowds.iter_mut().flat_map(|crowd| &mut crowd.lines) {
            line.say(b".");
        }
    });
    let mut all = Tally::default();
    for crowd in crowds {
        let sent = crowd.lines.len() as u64;
        all.add(&crowd.tally(sent));
    }
    all
}
