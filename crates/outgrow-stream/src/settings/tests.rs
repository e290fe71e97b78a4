//! What may be written, and what may not.

use super::*;

#[test]
fn server_names_are_names() {
    let check = |text: &str, expected: Result<&str, ServerNamePatternError>| {
        let read = text.parse::<ServerNamePattern>();
        let read = read.map(|pattern| pattern.to_string());
        assert_eq!(read.as_deref().map_err(|error| *error), expected, "{text}");
    };
    check("Shop.Example.", Ok("shop.example"));
    check("*.shop.example", Ok("*.shop.example"));
    check("*", Err(ServerNamePatternError::Any));
    check("a.*.example", Err(ServerNamePatternError::Wildcard));
    check("192.0.2.1", Err(ServerNamePatternError::Name));
    check("shop.example:443", Err(ServerNamePatternError::Name));
    check("", Err(ServerNamePatternError::Name));
}

#[test]
fn protocols_are_visible() {
    assert!("http/1.1".parse::<AlpnName>().is_ok());
    for wrong in ["", "a b", "ü", &"x".repeat(256)] {
        assert_eq!(wrong.parse::<AlpnName>(), Err(AlpnNameError), "{wrong:?}");
    }
}
