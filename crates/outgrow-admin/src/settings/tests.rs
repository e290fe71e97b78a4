//! Tests of `[admin]`. The rules of the table are tested with whole files in the binary.

use super::*;

#[test]
fn the_default_is_loopback_without_a_token() {
    let admin = AdminSettings::default();
    assert!(admin.listen.address().is_some_and(Address::is_loopback));
    assert!(admin.token.is_empty());
    assert_eq!(
        admin.text().unwrap(),
        "{ listen = \"127.0.0.1:9900\", token = \"\" }"
    );
}

#[test]
fn off_is_an_address_too() {
    assert_eq!(AdminListen::Off.text().unwrap(), "\"off\"");
    assert_eq!(AdminListen::Off.address(), None);
}
