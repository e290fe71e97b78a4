//! Binding for real, on loopback with port 0.

use std::net::{TcpListener, TcpStream};

use super::*;

fn wanted<'a>(key: &'a str, address: &'a str, sockets: u32) -> Wanted<'a> {
    Wanted {
        key,
        name: "",
        address,
        sockets,
        private: false,
    }
}

#[test]
fn a_key_keeps_its_sockets_and_only_grows() {
    let mut listeners = Listeners::default();
    let address = listeners
        .bind(&wanted("public", "127.0.0.1:0", 2))
        .unwrap()
        .address
        .clone();
    assert!(!address.ends_with(":0"), "{address}");
    let count = |listeners: &mut Listeners, sockets| {
        let bound = listeners
            .bind(&wanted("public", "127.0.0.1:0", sockets))
            .unwrap();
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
            .bind(&wanted("key", address, sockets))
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
        .bind(&wanted("public", "127.0.0.1:0", 2))
        .unwrap()
        .address
        .clone();
    let message = other
        .bind(&wanted("public", &address, 2))
        .unwrap_err()
        .to_string();
    assert!(message.contains("taken"), "{message}");
    let message = one
        .bind(&wanted("public", "127.0.0.1:1", 2))
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
    assert_eq!(
        one.bind(&wanted("public", &address, 8))
            .unwrap()
            .sockets
            .len(),
        1
    );
    UnixStream::connect(&path).unwrap();
    let message = Listeners::default()
        .bind(&wanted("public", &address, 1))
        .unwrap_err()
        .to_string();
    assert!(message.contains("taken"), "{message}");
    one.close_all();
    assert!(!path.exists());
}

#[test]
fn a_wider_or_a_narrower_address_of_ours_is_not_in_the_way() {
    let mut listeners = Listeners::default();
    let first = listeners.bind(&wanted("first", "127.0.0.1:0", 2)).unwrap();
    let port: SocketAddr = first.address.parse().unwrap();
    let port = port.port();
    for host in ["0.0.0.0", "[::]", "127.0.0.2", "[::1]"] {
        let address = format!("{host}:{port}");
        let bound = listeners.bind(&wanted(host, &address, 2));
        assert!(bound.is_ok(), "{address}: {bound:?}");
    }
    for key in ["first", "0.0.0.0", "127.0.0.2"] {
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        listeners.release(key);
    }
    // [::] alone.
    TcpStream::connect(("127.0.0.1", port)).unwrap();
}

#[test]
fn another_name_of_an_address_gets_the_same_sockets() {
    let mut listeners = Listeners::default();
    let first = listeners.bind(&wanted("first", "127.0.0.1:0", 2)).unwrap();
    let address = first.address.replace("127.0.0.1", "localhost");
    // A connection that waits in a queue is there for the other name as well.
    let _waiting = TcpStream::connect(&first.address).unwrap();
    listeners.bind(&wanted("second", &address, 1)).unwrap();
    assert!(listeners.release("first"));
    let sockets = &listeners.entries["second"].sockets;
    assert_eq!(sockets.len(), 2);
    let accepted = sockets
        .iter()
        .filter(|one| rustix::net::accept(one).is_ok());
    assert_eq!(accepted.count(), 1);
}

#[test]
fn a_private_unix_socket_is_for_this_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let token = super::super::token().unwrap();
    let path = std::env::temp_dir().join(format!("outgrow-test-{token}.sock"));
    let address = format!("unix:{}", path.display());
    let private = Wanted {
        private: true,
        ..wanted("admin", &address, 1)
    };
    let mut listeners = Listeners::default();
    listeners.bind(&private).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    listeners.close_all();
}

#[test]
fn datagrams_have_sockets_of_their_own() {
    // The same port is free for connections, unless another test has some at the one that is found.
    let mut tries = 0;
    let (mut listeners, address, plain) = loop {
        let mut listeners = Listeners::default();
        let udp = listeners.bind(&wanted("udp", "udp:127.0.0.1:0", 3));
        let address = udp.unwrap().address.clone();
        let plain = address.strip_prefix("udp:").unwrap().to_owned();
        match listeners.bind(&wanted("tcp", &plain, 1)) {
            Ok(_) => break (listeners, address, plain),
            Err(problem) => assert!(tries < 20, "{problem}"),
        }
        tries += 1;
        listeners.close_all();
    };
    let sockets = listeners.entries().iter().map(|entry| entry.sockets).max();
    assert_eq!(sockets, Some(3));
    // It is taken for others' datagrams.
    assert!(std::net::UdpSocket::bind(&plain).is_err());
    let again = listeners.bind(&wanted("other", &address, 1)).unwrap();
    assert_eq!(again.address, address);
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = format!("udp:{}", taken.local_addr().unwrap());
    let problem = listeners.bind(&wanted("taken", &taken, 1)).unwrap_err();
    assert!(problem.to_string().contains("taken by another process"));
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"hello", &plain).unwrap();
    assert!(listeners.release("udp"));
}
