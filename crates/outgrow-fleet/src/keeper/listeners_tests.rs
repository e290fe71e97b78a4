//! Binding for real, on loopback with port 0.

use std::net::{TcpListener, TcpStream};

use super::*;

#[test]
fn a_key_keeps_its_sockets_and_only_grows() {
    let mut listeners = Listeners::default();
    let address = listeners
        .bind("public", "127.0.0.1:0", 2)
        .unwrap()
        .address
        .clone();
    assert!(!address.ends_with(":0"), "{address}");
    let count = |listeners: &mut Listeners, sockets| {
        let bound = listeners.bind("public", "127.0.0.1:0", sockets).unwrap();
        assert_eq!(bound.address, address);
        bound.sockets.len()
    };
    assert_eq!(count(&mut listeners, 2), 2);
    assert_eq!(count(&mut listeners, 1), 2);
    assert_eq!(count(&mut listeners, 4), 4);
    assert_eq!(listeners.entries()[0].sockets, 4);
    assert_eq!(listeners.descriptors().len(), 4);
    TcpStream::connect(&address).unwrap();
    assert!(listeners.release("public"));
    assert!(TcpStream::connect(&address).is_err());
    assert!(!listeners.release("public"));
}

#[test]
fn mistakes_are_explained() {
    let mut listeners = Listeners::default();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let mut check = |address: &str, sockets, expected: &str| {
        let message = listeners
            .bind("key", address, sockets)
            .unwrap_err()
            .to_string();
        assert!(message.contains(expected), "{address}: {message}");
    };
    check("8080", 1, "not an address");
    check("example.com:80", 1, "not an address");
    check("127.0.0.1:99999", 1, "not an address");
    check("192.0.2.1:0", 1, "no address of this machine");
    check("unix:/no/such/directory/socket", 1, "could not be bound");
    check("unix:/etc/hostname", 1, "not a socket");
    check("127.0.0.1:0", 0, "1 to 256");
    check("127.0.0.1:0", 257, "1 to 256");
    let _ = taken;
}

#[test]
fn a_port_is_not_shared_with_another_outgrow() {
    let mut one = Listeners::default();
    let mut other = Listeners::default();
    let address = one
        .bind("public", "127.0.0.1:0", 2)
        .unwrap()
        .address
        .clone();
    let message = other.bind("public", &address, 2).unwrap_err().to_string();
    assert!(message.contains("taken"), "{message}");
    let message = one
        .bind("public", "127.0.0.1:1", 2)
        .unwrap_err()
        .to_string();
    assert!(message.contains("already"), "{message}");
    assert_eq!(
        one.entries().len(),
        1,
        "a refused address must not cost the bound one"
    );
}

#[test]
fn a_left_over_unix_socket_is_replaced_and_a_live_one_is_not() {
    let token = super::super::token().unwrap();
    let path = std::env::temp_dir().join(format!("outgrow-test-{token}.sock"));
    let address = format!("unix:{}", path.display());
    drop(UnixListener::bind(&path).unwrap());
    let mut one = Listeners::default();
    assert_eq!(one.bind("public", &address, 8).unwrap().sockets.len(), 1);
    UnixStream::connect(&path).unwrap();
    let message = Listeners::default()
        .bind("public", &address, 1)
        .unwrap_err()
        .to_string();
    assert!(message.contains("taken"), "{message}");
    one.close_all();
    assert!(!path.exists());
}
