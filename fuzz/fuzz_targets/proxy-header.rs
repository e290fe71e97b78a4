//! The PROXY protocol: nothing panics, there is an end to every header, what was said of a part stays
//! true of more, and what is read can be written and read again, its fields included.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outgrow_net::ProxyHeader;
use outgrow_net::proxy_header::{Addresses, LONGEST_BINARY, Outgoing, Version, begins, fields, kind};

fuzz_target!(|input: &[u8]| {
    let mut before = Ok(None);
    let mut first = 0;
    for end in 0..=input.len().min(LONGEST_BINARY) {
        let now = ProxyHeader::read(&input[..end]);
        if before != Ok(None) {
            assert_eq!(now, before, "more bytes change what was said");
            // It stays so; a few more are enough to see.
            if end > first + 4 {
                break;
            }
        } else {
            first = end;
        }
        before = now;
    }
    let mut long = input.to_vec();
    long.resize(LONGEST_BINARY.max(input.len()), 0);
    assert_ne!(ProxyHeader::read(&long), Ok(None), "there is no end to it");
    let Ok(Some((header, length))) = before else {
        return;
    };
    assert!(length <= input.len());
    assert_eq!(begins(input), Some(true));
    let received = &input[..length];
    for version in [Version::One, Version::Two] {
        let mut bytes = Vec::new();
        let outgoing = Outgoing {
            version,
            addresses: header.addresses,
            received,
            authority: b"shop.example",
        };
        outgoing.write(&mut bytes);
        let (again, written) = ProxyHeader::read(&bytes).expect("a header").expect("whole");
        assert_eq!(written, bytes.len());
        let plain = |end: std::net::SocketAddr| (end.ip().to_canonical(), end.port());
        let both = |one: Addresses| (plain(one.source), plain(one.destination));
        assert_eq!(again.addresses.map(both), header.addresses.map(both));
        if version == Version::Two && header.addresses.is_some() && length < 3_000 {
            let is_ours = |kind: u8| [kind::CRC32C, kind::NOOP, kind::NETNS].contains(&kind);
            let kept = |bytes| fields(bytes).filter(|(kind, _)| !is_ours(*kind)).count();
            let added = fields(received).all(|(kind, _)| kind != kind::AUTHORITY);
            assert_eq!(kept(&bytes), kept(received) + usize::from(added));
        }
    }
    if let Some(addresses) = header.addresses {
        let text = line(&addresses);
        let read = ProxyHeader::read(text.as_bytes());
        let (again, length) = read.expect("a header").expect("whole");
        assert_eq!((again.addresses, length), (Some(addresses), text.len()));
    }
});

/// The same in version 1.
fn line(addresses: &Addresses) -> String {
    let (source, destination) = (addresses.source, addresses.destination);
    format!(
        "PROXY TCP{} {} {} {} {}\r\n",
        if source.is_ipv4() { 4 } else { 6 },
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    )
}
