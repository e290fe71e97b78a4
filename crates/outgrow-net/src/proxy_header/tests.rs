//! Headers as proxies write them, and as nobody should.

use outgrow_core::random::Random;

use super::*;

/// A header of version 2 with this command, family and body.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([0x20 | command, family]);
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The addresses as they stand in version 2.
fn body(addresses: &Addresses) -> (u8, Vec<u8>) {
    let octets = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (source, destination) = (addresses.source, addresses.destination);
    let mut bytes = [octets(source), octets(destination)].concat();
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    (if source.is_ipv4() { 0x11 } else { 0x21 }, bytes)
}

#[test]
fn lines_are_read() {
    let check = |line: &str, expected: Result<Option<(&str, &str)>, &str>| {
        let read = ProxyHeader::read(line.as_bytes());
        let read = read.map(|header| {
            let (header, length) = header.expect("the line is whole");
            assert_eq!((header.version, length), (1, line.len()), "{line:?}");
            let addresses = header.addresses;
            addresses.map(|one| (one.source.to_string(), one.destination.to_string()))
        });
        let read = read.map_err(|error| error.to_string());
        let expected = expected
            .map(|addresses| addresses.map(|(a, b)| (a.to_owned(), b.to_owned())))
            .map_err(str::to_owned);
        assert_eq!(read, expected, "{line:?}");
    };
    check(
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 6432\r\n",
        Ok(Some(("192.0.2.1:56324", "198.51.100.2:6432"))),
    );
    check(
        "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        Ok(Some(("255.255.255.255:65535", "255.255.255.255:65535"))),
    );
    check(
        "PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
        Ok(Some(("[2001:db8::1]:1", "[::1]:2"))),
    );
    check("PROXY UNKNOWN\r\n", Ok(None));
    check("PROXY UNKNOWN ffff::1 anything at all\r\n", Ok(None));
    let malformed = |what: &str| format!("the PROXY header's {what} is malformed");
    for (line, what) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 6432\n", "end"),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n", "end"),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n", "end"),
        ("PROXY \r\n", "protocol"),
        ("PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n", "protocol"),
        ("PROXY tcp4 192.0.2.1 198.51.100.2 1 2\r\n", "protocol"),
        (
            "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
            "source address",
        ),
        (
            "PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
            "source address",
        ),
        (
            "PROXY TCP4 2001:db8::1 198.51.100.2 1 2\r\n",
            "source address",
        ),
        ("PROXY TCP6 192.0.2.1 ::1 1 2\r\n", "source address"),
        ("PROXY TCP4 192.0.2.1 host 1 2\r\n", "destination address"),
        ("PROXY TCP4 192.0.2.1\r\n", "destination address"),
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 2\r\n",
            "source port",
        ),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n", "source port"),
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 -2\r\n",
            "destination port",
        ),
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
            "destination port",
        ),
    ] {
        check(line, Err(&malformed(what)));
    }
    for line in [
        "GET / HTTP/1.1\r\n",
        "proxy TCP4\r\n",
        "PROXY\r\n",
        "\0\0\0\x08\r\n",
    ] {
        check(line, Err("there is no PROXY header"));
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 16));
    assert_eq!(long.len(), LONGEST_LINE);
    check(&long, Ok(None));
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE));
    check(&long, Err("the PROXY header is longer than 107 bytes"));
}

#[test]
fn binary_headers_are_read() {
    let check = |bytes: &[u8], expected: Result<Option<&str>, &str>| {
        let read = ProxyHeader::read(bytes).map(|header| {
            let (header, length) = header.expect("it is whole");
            assert_eq!((header.version, length), (2, bytes.len()), "{bytes:x?}");
            header
                .addresses
                .map(|one| format!("{} {}", one.source, one.destination))
        });
        let read = read.map_err(|error| error.to_string());
        let expected = expected
            .map(|text| text.map(str::to_owned))
            .map_err(str::to_owned);
        assert_eq!(read, expected, "{bytes:x?}");
    };
    let four = [10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 0x19, 0x20];
    let six = [[0; 15].as_slice(), &[1], &[0; 15], &[2], &[0, 1, 0, 2]].concat();
    check(
        &binary(1, 0x11, &four),
        Ok(Some("10.0.0.1:8080 10.0.0.2:6432")),
    );
    check(&binary(1, 0x21, &six), Ok(Some("[::1]:1 [::2]:2")));
    let with_more = [four.as_slice(), &[4, 0, 2, 9, 9]].concat();
    check(
        &binary(1, 0x11, &with_more),
        Ok(Some("10.0.0.1:8080 10.0.0.2:6432")),
    );
    // A health check, with addresses or without.
    check(&binary(0, 0x00, &[]), Ok(None));
    check(&binary(0, 0x11, &four), Ok(None));
    check(&binary(0, 0x11, &[]), Ok(None));
    // Known, and not served here: UDP, a Unix socket, nothing.
    check(&binary(1, 0x12, &four), Ok(None));
    check(&binary(1, 0x31, &[0; 216]), Ok(None));
    check(&binary(1, 0x00, &[7; 9]), Ok(None));
    let unknown = |what: &str| format!("the PROXY header's {what} is unknown");
    check(&binary(2, 0x11, &four), Err(&unknown("command")));
    check(&binary(1, 0x41, &four), Err(&unknown("address family")));
    check(&binary(1, 0x13, &four), Err(&unknown("transport protocol")));
    let mut first = binary(1, 0x11, &four);
    first[12] = 0x11;
    check(&first, Err(&unknown("version")));
    let cut = Err("the PROXY header's addresses are cut off");
    check(&binary(1, 0x11, &four[..11]), cut);
    check(&binary(1, 0x21, &four), cut);
    check(&binary(1, 0x31, &[0; 215]), cut);
    let long = [four.as_slice(), &vec![0; LONGEST_BINARY - 16 - 12]].concat();
    check(
        &binary(1, 0x11, &long),
        Ok(Some("10.0.0.1:8080 10.0.0.2:6432")),
    );
    let long = [long.as_slice(), &[0]].concat();
    check(
        &binary(1, 0x11, &long),
        Err("the PROXY header is longer than 4096 bytes"),
    );
}

/// Whatever addresses are written, the same are read, whatever comes behind them; a part of it is
/// never more than a beginning.
#[test]
fn what_is_written_is_read() {
    for seed in 0..2_000 {
        let mut random = Random::from_seed(seed);
        let is_four = random.below(2) == 0;
        let mut end = || {
            let bits = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
            let ip = match is_four {
                true => IpAddr::V4((bits as u32).into()),
                false => IpAddr::V6(bits.into()),
            };
            SocketAddr::new(ip, random.next_u64() as u16)
        };
        let addresses = Addresses {
            source: end(),
            destination: end(),
        };
        let (source, destination) = (addresses.source, addresses.destination);
        let line = format!(
            "PROXY TCP{} {} {} {} {}\r\n",
            if is_four { 4 } else { 6 },
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        );
        let (family, mut rest) = body(&addresses);
        for _ in 0..random.below(4) {
            let length = random.below(40) as u8;
            rest.extend([0xe0, 0, length]);
            rest.resize(rest.len() + usize::from(length), 7);
        }
        for (version, bytes) in [(1, line.into_bytes()), (2, binary(1, family, &rest))] {
            let header = ProxyHeader {
                version,
                addresses: Some(addresses),
            };
            let followed = [bytes.as_slice(), b"\0\0\0\x08more\n"].concat();
            let read = ProxyHeader::read(&followed);
            assert_eq!(read, Ok(Some((header, bytes.len()))), "seed {seed}");
            for end in 0..bytes.len() {
                assert_eq!(
                    ProxyHeader::read(&bytes[..end]),
                    Ok(None),
                    "seed {seed}, {end}"
                );
            }
        }
    }
}

/// Whatever arrives there is an end to it, and what was said of a part stays true of more.
#[test]
fn anything_is_read_or_refused() {
    for seed in 0..20_000 {
        let mut random = Random::from_seed(seed);
        let mut bytes = match random.below(4) {
            0 => Vec::new(),
            1 => SIGNATURE.to_vec(),
            2 => b"PROXY ".to_vec(),
            _ => binary(1, 0x11, &[9; 12]),
        };
        for _ in 0..random.below(60) {
            bytes.push(random.next_u64() as u8);
        }
        if !bytes.is_empty() {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        let mut before = Ok(None);
        for end in 0..=bytes.len() {
            let now = ProxyHeader::read(&bytes[..end]);
            if before != Ok(None) {
                assert_eq!(now, before, "seed {seed}, {end}");
            }
            if let Ok(Some((_, length))) = now {
                assert!(length <= end, "seed {seed}");
            }
            before = now;
        }
        bytes.resize(LONGEST_BINARY, 0);
        assert_ne!(ProxyHeader::read(&bytes), Ok(None), "seed {seed}");
    }
}

fn ends(source: &str, destination: &str) -> Addresses {
    Addresses {
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
    }
}

fn written(outgoing: &Outgoing<'_>) -> Vec<u8> {
    let mut bytes = b"before".to_vec();
    outgoing.write(&mut bytes);
    bytes.split_off(6)
}

#[test]
fn what_we_write_is_what_others_read() {
    let check = |addresses: Option<Addresses>, expected: Option<Addresses>| {
        for version in [Version::One, Version::Two] {
            let outgoing = Outgoing {
                version,
                addresses,
                received: &[],
                authority: b"",
            };
            let bytes = written(&outgoing);
            let (header, length) = ProxyHeader::read(&bytes).expect("good").expect("whole");
            assert_eq!(
                (header.addresses, length),
                (expected, bytes.len()),
                "{version:?}"
            );
        }
    };
    let plain = ends("192.0.2.1:5", "198.51.100.1:443");
    check(Some(plain), Some(plain));
    check(
        Some(ends("[::ffff:192.0.2.1]:5", "[::ffff:198.51.100.1]:443")),
        Some(plain),
    );
    let mixed = ends("[2001:db8::1]:5", "[::ffff:192.0.2.1]:443");
    check(Some(ends("[2001:db8::1]:5", "192.0.2.1:443")), Some(mixed));
    check(None, None);
}

#[test]
fn fields_are_passed_on_with_a_checksum_of_their_own() {
    let mut first = Vec::new();
    let addresses = ends("192.0.2.1:5", "198.51.100.1:443");
    let (family, mut content) = body(&addresses);
    for (kind, value) in [
        (kind::NOOP, &b"\0\0"[..]),
        (kind::ALPN, b"h2"),
        (kind::UNIQUE_ID, b"name"),
        (kind::NETNS, b"blue"),
        (kind::SSL, b"\x01\0\0\0\0"),
        (0xe0, b"own"),
        (kind::CRC32C, b"\0\0\0\0"),
    ] {
        content.push(kind);
        content.extend((value.len() as u16).to_be_bytes());
        content.extend(value);
    }
    first.extend(binary(1, family, &content));
    let place = first.len() - 4;
    assert_eq!(ProxyHeader::read(&first), Err(ProxyHeaderError::Checksum));
    let sum = checksum::crc32c(&[&first]);
    first[place..].copy_from_slice(&sum.to_be_bytes());
    let read = ProxyHeader::read(&first).expect("good").expect("whole");
    assert_eq!(read.0.addresses, Some(addresses));
    let outgoing = Outgoing {
        version: Version::Two,
        addresses: read.0.addresses,
        received: &first,
        authority: b"shop.example",
    };
    let second = written(&outgoing);
    assert!(ProxyHeader::read(&second).expect("good").is_some());
    let told: Vec<(u8, &[u8])> = fields(&second).collect();
    assert_eq!(told.len(), 6);
    assert_eq!(
        told[..5],
        [
            (kind::ALPN, &b"h2"[..]),
            (kind::UNIQUE_ID, b"name"),
            (kind::SSL, b"\x01\0\0\0\0"),
            (0xe0, b"own"),
            (kind::AUTHORITY, b"shop.example"),
        ]
    );
    let mut spoiled = second.clone();
    spoiled[20] ^= 1;
    assert_eq!(ProxyHeader::read(&spoiled), Err(ProxyHeaderError::Checksum));
    let mut cut = binary(1, family, &content[..content.len() - 9]);
    cut.truncate(cut.len());
    assert_eq!(ProxyHeader::read(&cut), Err(ProxyHeaderError::Fields));
}

#[test]
fn fields_that_would_not_fit_are_left_out() {
    let addresses = ends("192.0.2.1:5", "198.51.100.1:443");
    let (family, mut content) = body(&addresses);
    content.push(0xe1);
    content.extend(4_000_u16.to_be_bytes());
    content.extend([7; 4_000]);
    let received = binary(1, family, &content);
    let outgoing = Outgoing {
        version: Version::Two,
        addresses: Some(addresses),
        received: &received,
        authority: &[b'a'; 200],
    };
    let bytes = written(&outgoing);
    assert!(bytes.len() <= LONGEST_BINARY);
    let kinds: Vec<u8> = fields(&bytes).map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [0xe1]);
}

#[tokio::test]
async fn exactly_the_header_is_taken() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let address = listener.local_addr().expect("an address");
    let headers = [
        b"PROXY TCP4 192.0.2.1 198.51.100.1 5 443\r\n".to_vec(),
        binary(1, 0x11, &body(&ends("192.0.2.1:5", "198.51.100.1:443")).1),
    ];
    for header in headers {
        // In one piece with what follows, and byte by byte.
        for step in [1, 7, 1_000] {
            let mut sender = tokio::net::TcpStream::connect(address)
                .await
                .expect("connected");
            sender.set_nodelay(true).expect("set");
            let (accepted, _) = listener.accept().await.expect("accepted");
            let mut stream = crate::Stream::Tcp(accepted);
            let said = [&header[..], b"what follows"].concat();
            let send = async {
                for piece in said.chunks(step) {
                    sender.write_all(piece).await.expect("sent");
                    tokio::task::yield_now().await;
                }
            };
            let mut bytes = Vec::new();
            let (received, ()) = tokio::join!(receive(&mut stream, &mut bytes), send);
            let received = received.expect("a header");
            assert_eq!(
                received.addresses,
                Some(ends("192.0.2.1:5", "198.51.100.1:443"))
            );
            assert_eq!(bytes, header);
            let mut rest = [0; 12];
            stream.read_exact(&mut rest).await.expect("read");
            assert_eq!(&rest, b"what follows");
        }
    }
}
