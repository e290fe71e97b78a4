//! ClientHellos as clients send them, and as nobody should.

use outgrow_core::Random;

use super::*;

/// An extension.
fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend((content.len() as u16).to_be_bytes());
    bytes.extend(content);
    bytes
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn server_name(name: &str) -> Vec<u8> {
    let entry = [&[0][..], &with_length(name.as_bytes())].concat();
    extension(0, &with_length(&entry))
}

fn protocols(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = names
        .iter()
        .flat_map(|name| [&[name.len() as u8][..], name.as_bytes()].concat())
        .collect();
    extension(16, &with_length(&list))
}

/// The message, in records of at most `step` bytes.
fn hello(extensions: &[Vec<u8>], step: usize) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(32);
    body.extend([9; 32]);
    // One of GREASE among the suites.
    body.extend(with_length(&[0x1a, 0x1a, 0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(with_length(&extensions.concat()));
    let mut message = vec![1];
    message.extend(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend(body);
    records(&message, step)
}

fn records(message: &[u8], step: usize) -> Vec<u8> {
    let record = |piece: &[u8]| [&[22, 3, 1][..], &with_length(piece)].concat();
    message.chunks(step).flat_map(record).collect()
}

fn read(bytes: &[u8]) -> Result<ClientHello, HelloError> {
    ClientHello::read(bytes).map(|hello| hello.expect("it is whole"))
}

#[test]
fn names_and_protocols_are_found_however_it_comes() {
    let grease = extension(0x2a2a, &[0]);
    let parts = [
        grease,
        server_name("Shop.Example"),
        protocols(&["\x0a\x0a", "h2", "http/1.1"]),
        extension(0xfe0d, b"\0encrypted"),
    ];
    for step in [1, 2, 3, 5, 50, 16_384] {
        let bytes = hello(&parts, step);
        let found = read(&bytes).expect("good");
        assert_eq!(found.server_name.as_deref(), Some("shop.example"));
        let offered: Vec<_> = found.protocols().collect();
        assert_eq!(offered, [&b"\x0a\x0a"[..], b"h2", b"http/1.1"]);
        assert!(found.is_outer);
        for end in 0..bytes.len() {
            assert_eq!(ClientHello::read(&bytes[..end]), Ok(None), "{step}: {end}");
        }
    }
    let plain = read(&hello(&[], 16_384)).expect("good");
    assert_eq!(plain, ClientHello::default());
}

#[test]
fn an_address_is_no_name() {
    for address in ["192.0.2.1", "2001:db8::1"] {
        let found = read(&hello(&[server_name(address)], 16_384)).expect("good");
        assert_eq!(found.server_name, None);
    }
}

#[test]
fn what_no_client_sends_is_refused() {
    let check = |bytes: &[u8], expected: HelloError| {
        assert_eq!(ClientHello::read(bytes), Err(expected), "{bytes:?}");
    };
    let malformed = HelloError::Malformed;
    check(b"GET / HTTP/1.1\r\n", HelloError::NotTls);
    check(b"\x80\x2e\x01\x03\x01", HelloError::NotTls);
    check(b"\x16\x02", HelloError::NotTls);
    check(b"\x16\x03\x05\0\x01", HelloError::NotTls);
    check(b"\x16\x03\x01\0\0", malformed("the length of a record"));
    check(b"\x16\x03\x01\x40\x01", malformed("the length of a record"));
    check(b"\x16\x03\x01\0\x05\x02", HelloError::NotHello);
    check(b"\x16\x03\x01\x40\0\x01\0\x40\0", HelloError::TooLong);
    let twice = hello(&[extension(5, b""), extension(5, b"")], 16_384);
    check(&twice, malformed("an extension comes twice"));
    for name in [
        "",
        "a..b",
        "-x.",
        "a b",
        "shop.example.",
        "x\0y",
        &"a".repeat(64),
    ] {
        let bytes = hello(&[server_name(name)], 16_384);
        check(&bytes, malformed("the server name"));
    }
    let two = [&[0][..], &with_length(b"a"), &[0], &with_length(b"b")].concat();
    let two = hello(&[extension(0, &with_length(&two))], 16_384);
    check(&two, malformed("the server name"));
    let empty = hello(&[protocols(&["h2", ""])], 16_384);
    check(&empty, malformed("the protocols"));
    let mut more = vec![1, 0, 0, 38, 3, 3];
    more.extend([0; 32]);
    more.extend([0, 0, 2, 1, 1, 1, 0]);
    check(&records(&more, 100), malformed("bytes behind its end"));
    // Records that never come to an end.
    let message = [&[1, 0, 0x3f, 0xf0][..], &[0; 16_384]].concat();
    let endless = records(&message, 1);
    check(&endless[..LONGEST], HelloError::TooLong);
}

/// Nothing panics, what was said of a part stays true of more, and there is an end to it.
#[test]
fn anything_is_read_or_refused() {
    let seed = 11;
    let mut random = Random::from_seed(seed);
    let parts = [server_name("shop.example"), protocols(&["h2"])];
    for _ in 0..3_000 {
        let mut bytes = hello(&parts, 1 + random.below(80));
        for _ in 0..=random.below(4) {
            let place = random.below(bytes.len());
            bytes[place] = random.below(256) as u8;
        }
        let mut before = Ok(None);
        for end in 0..=bytes.len() {
            let now = ClientHello::read(&bytes[..end]);
            if before != Ok(None) {
                assert_eq!(now, before, "seed {seed}: {bytes:?}");
            }
            before = now;
        }
        bytes.resize(LONGEST, 0);
        assert_ne!(ClientHello::read(&bytes), Ok(None), "seed {seed}");
    }
}

#[test]
fn the_most_specific_route_wins() {
    let asked = |names: &[&str], protocols: &[&str]| Asked {
        server_names: names
            .iter()
            .map(|one| one.parse().expect("a name"))
            .collect(),
        protocols: protocols
            .iter()
            .map(|one| one.parse().expect("one"))
            .collect(),
    };
    let routes = Routes::new(
        vec![
            (asked(&["a.example", "b.example"], &[]), "exact"),
            (asked(&["a.example"], &["h2", "h3"]), "exact h2"),
            (asked(&["*.example"], &[]), "below"),
            (asked(&["*.a.example"], &["imap"]), "below imap"),
            (asked(&[], &["h2"]), "any h2"),
        ],
        Some("rest"),
    );
    let check = |name: Option<&str>, offers: &[&str], expected: &str| {
        let protocols = (!offers.is_empty()).then(|| protocols(offers));
        let parts: Vec<_> = name.map(server_name).into_iter().chain(protocols).collect();
        let hello = read(&hello(&parts, 16_384)).expect("good");
        assert_eq!(routes.find(&hello), Some(&expected), "{name:?} {offers:?}");
    };
    check(Some("a.example"), &[], "exact");
    check(Some("a.example"), &["http/1.1", "h3"], "exact h2");
    check(Some("b.example"), &["h2"], "exact");
    check(Some("x.a.example"), &["imap"], "below imap");
    check(Some("x.a.example"), &["h2"], "below");
    check(Some("example"), &["h2"], "any h2");
    check(Some("example"), &[], "rest");
    check(None, &["h2"], "any h2");
    check(None, &[], "rest");
    assert!(routes.looks());
    let plain: Routes<&str> = Routes::new(Vec::new(), Some("rest"));
    assert!(!plain.looks());
}
