//! Tests of the forms of text: quantities, addresses, networks, paths.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::settings::quantity::{duration_text, parse_duration};
use crate::settings::*;

#[test]
fn durations_and_sizes_are_read_and_written() {
    let durations = [
        ("0s", 0, "0s"),
        ("250ms", 250, "250ms"),
        ("1000ms", 1_000, "1s"),
        ("90s", 90_000, "90s"),
        ("120s", 120_000, "2m"),
        (" 1 h ", 3_600_000, "1h"),
        ("2d", 172_800_000, "48h"),
    ];
    for (text, millis, written) in durations {
        let duration = parse_duration(text).unwrap();
        assert_eq!(duration, Duration::from_millis(millis), "{text}");
        assert_eq!(duration_text(duration), written);
        assert_eq!(parse_duration(written), Some(duration));
    }
    for text in [
        "",
        "s",
        "10",
        "-1s",
        "+1s",
        "1.5s",
        "1h30m",
        "1 S",
        "1us",
        "ü",
        "99999999999999999999s",
        "9999999999999999999d",
    ] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
    let sizes = [
        ("0", 0, "0"),
        ("512", 512, "512"),
        ("512B", 512, "512"),
        ("16KiB", 16 << 10, "16KiB"),
        ("1024 KiB", 1 << 20, "1MiB"),
        ("1GiB", 1 << 30, "1GiB"),
        ("2TiB", 2 << 40, "2TiB"),
        ("1KB", 1_000, "1000"),
        ("3MB", 3_000_000, "3000000"),
    ];
    for (text, bytes, written) in sizes {
        let size = ByteSize::parse(text).unwrap();
        assert_eq!(
            (size.bytes(), size.to_string().as_str()),
            (bytes, written),
            "{text}"
        );
        assert_eq!(ByteSize::parse(written), Some(size));
    }
    for text in [
        "",
        "KiB",
        "-1",
        "1kib",
        "1.5KiB",
        "16777216TiB",
        "99999999999999999999",
    ] {
        assert_eq!(ByteSize::parse(text), None, "{text}");
    }
    assert_eq!((ByteSize(0).limit(), ByteSize(1).limit()), (None, Some(1)));
}

#[test]
fn addresses_are_read_and_written() {
    let right = [
        ("127.0.0.1:80", "127.0.0.1:80", true),
        ("LocalHost:0", "localhost:0", true),
        ("[::1]:65535", "[::1]:65535", true),
        ("[0:0::1]:1", "[::1]:1", true),
        ("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1", true),
        ("[::]:1", "[::]:1", false),
        ("0.0.0.0:1", "0.0.0.0:1", false),
        ("a_b.example.:1", "a_b.example.:1", false),
        ("unix:/run/x", "unix:/run/x", true),
        ("unix:x", "unix:x", true),
    ];
    for (text, written, loopback) in right {
        let address: Address = text.parse().unwrap();
        assert_eq!(
            (address.to_string().as_str(), address.is_loopback()),
            (written, loopback),
            "{text}"
        );
    }
    assert_eq!(
        "[::1]:80".parse::<Address>().unwrap().socket_address(),
        "[::1]:80".parse().ok()
    );
    assert_eq!("a:80".parse::<Address>().unwrap().socket_address(), None);
    let wrong = [
        ("", AddressError::PortMissing),
        ("a", AddressError::PortMissing),
        ("8080", AddressError::HostMissing),
        ("a:", AddressError::PortMissing),
        ("a:+1", AddressError::Port),
        ("a:99999999", AddressError::Port),
        (":1", AddressError::HostMissing),
        ("a b:1", AddressError::Host),
        ("-a:1", AddressError::Host),
        ("a..b:1", AddressError::Host),
        ("1.2.3:1", AddressError::Host),
        ("[]:1", AddressError::Host),
        ("[1.2.3.4]:1", AddressError::Host),
        ("::1", AddressError::Brackets),
        ("http://a:1", AddressError::Scheme),
        ("unix:", AddressError::PathMissing),
        ("unix:/\0", AddressError::PathNul),
    ];
    for (text, error) in wrong {
        assert_eq!(text.parse::<Address>(), Err(error), "{text}");
    }
    let long = format!("unix:/{}", "x".repeat(107));
    assert_eq!(long.parse::<Address>(), Err(AddressError::PathTooLong));
    assert!(long[..long.len() - 1].parse::<Address>().is_ok());
}

#[test]
fn networks_contain_their_addresses() {
    let table = [
        ("10.0.0.0/8", "10.255.255.255", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("10.0.0.0/8", "::ffff:10.1.2.3", true),
        ("10.0.0.0/8", "::10.1.2.3", false),
        ("0.0.0.0/0", "1.2.3.4", true),
        ("0.0.0.0/0", "::1", false),
        ("192.168.1.128/25", "192.168.1.127", false),
        ("192.168.1.128/25", "192.168.1.128", true),
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "127.0.0.2", false),
        ("::/0", "2001:db8::1", true),
        ("::/0", "10.0.0.1", false),
        ("2001:db8::/33", "2001:db8:7fff::", true),
        ("2001:db8::/33", "2001:db8:8000::", false),
        ("::1", "::1", true),
    ];
    for (network, address, expected) in table {
        let parsed: Network = network.parse().unwrap();
        assert_eq!(
            parsed.contains(address.parse().unwrap()),
            expected,
            "{network} {address}"
        );
        assert_eq!(parsed.to_string(), network);
    }
    for text in [
        "",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "10.0.0.0/-1",
        "10.0.0.1/8",
        "::/129",
        "10/8",
        "a/8",
        "1::/8/8",
    ] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
}

#[test]
fn request_paths_can_stand_in_a_request_line() {
    for text in ["/", "/a?b=c&d", "/%20"] {
        assert_eq!(text.parse::<RequestPath>().unwrap().as_str(), text);
    }
    for text in [
        "",
        "a",
        "http://a/",
        "/a b",
        "/a\r\nX: y",
        "/#a",
        "/ü",
        "/\0",
    ] {
        assert!(text.parse::<RequestPath>().is_err(), "{text:?}");
    }
    assert!(
        format!("/{}", "a".repeat(1024))
            .parse::<RequestPath>()
            .is_err()
    );
}

#[test]
fn texts_are_written_as_toml() {
    let text = |text: &str| text.to_owned().text().unwrap();
    assert_eq!(text("a\"b\\c\n\t\u{1}ü"), "\"a\\\"b\\\\c\\n\\t\\u0001ü\"");
    let map: BTreeMap<String, u8> = [("a".to_owned(), 1), ("b c".to_owned(), 2)].into();
    assert_eq!(map.text().unwrap(), "{ a = 1, \"b c\" = 2 }");
    assert_eq!(OneOrMany(vec![1_u8]).text().unwrap(), "1");
    assert_eq!(OneOrMany(vec![1_u8, 2]).text().unwrap(), "[1, 2]");
}

#[test]
fn secrets_are_hidden() {
    let secret = Secret::new("s3cret");
    assert_eq!(
        format!("{secret:?} {:?}", secret.text()),
        "Secret(***) Some(\"\\\"***\\\"\")"
    );
    assert_eq!(secret.expose(), "s3cret");
}
