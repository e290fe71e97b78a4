//! Tests of the tables of the edge: the forms of text. The rules of the tables are tested with
//! whole files in the binary.

use outgrow_core::settings::{ByteSize, Setting, Table};

use super::*;

#[test]
fn host_patterns_are_normalised() {
    let table = [
        ("Shop.Example", "shop.example"),
        ("shop.example.", "shop.example"),
        ("*.Shop.example", "*.shop.example"),
        ("localhost", "localhost"),
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]", "[::1]"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ];
    for (text, expected) in table {
        assert_eq!(
            text.parse::<HostPattern>().unwrap().to_string(),
            expected,
            "{text}"
        );
    }
    for text in ["[::1]:80", "[::1", "*.", "*.[::1]", "a b", ".a", "a..b"] {
        assert!(text.parse::<HostPattern>().is_err(), "{text}");
    }
}

#[test]
fn header_names_are_tokens_and_compare_without_case() {
    let name: HeaderName = "X-Frame-Options".parse().unwrap();
    assert_eq!(name, "x-frame-OPTIONS".parse().unwrap());
    assert_eq!(name.to_string(), "X-Frame-Options");
    assert!(name.is("x-frame-options") && !name.is("x-frame"));
    let mut names: Vec<HeaderName> = ["b", "A", "C"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names.iter().map(HeaderName::as_str).collect::<Vec<_>>(),
        ["A", "b", "C"]
    );
    for byte in 0_u8..=255 {
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let text = format!("X{}", char::from(byte));
        assert_eq!(text.parse::<HeaderName>().is_ok(), is_token, "{text:?}");
    }
    for text in [
        "",
        "connection",
        "Transfer-Encoding",
        "CONTENT-LENGTH",
        "TE",
        "upgrade",
    ] {
        assert!(text.parse::<HeaderName>().is_err(), "{text}");
    }
    assert!("x".repeat(257).parse::<HeaderName>().is_err());
}

#[test]
fn header_texts_cannot_end_a_line() {
    for byte in 0_u8..0x80 {
        let text = format!("a{}b", char::from(byte));
        let expected = byte == b'\t' || (0x20..0x7f).contains(&byte);
        assert_eq!(text.parse::<HeaderText>().is_ok(), expected, "{text:?}");
    }
    for text in [" a", "a ", "\ta", "a\u{85}b"] {
        assert!(text.parse::<HeaderText>().is_err(), "{text:?}");
    }
    assert!("x".repeat(8193).parse::<HeaderText>().is_err());
}

#[test]
fn the_defaults_are_the_languages() {
    let listener = ListenerSettings::default();
    assert_eq!(listener.head_limit, ByteSize::kib(16));
    assert_eq!(
        listener.timeouts.text().unwrap(),
        "{ head = \"10s\", body_idle = \"30s\", body_rate = \"500\", keep_alive = \"75s\", send_idle = \"1m\", send_rate = \"500\" }"
    );
    assert_eq!(RouteSettings::default().path.to_string(), "/");
    assert_eq!(
        AccessSettings::default().text().unwrap(),
        "{ to = \"stdout\", format = \"text\" }"
    );
    let required: Vec<&str> = ListenerSettings::describe()
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    assert_eq!(required, ["address"]);
}
