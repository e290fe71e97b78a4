//! Tests of the pool, on real sockets over loopback.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;

use outgrow_core::settings::Address;
use outgrow_net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::Opening;
use crate::endpoint::Endpoint;
use crate::registry::Registry;
use crate::settings::{self, ServiceSettings};

fn within(connect: Duration) -> Opening {
    Opening {
        connect,
        unacknowledged: Duration::ZERO,
        silence: Duration::ZERO,
    }
}

fn at(millis: u64) -> Ticks {
    Ticks::ZERO + Duration::from_millis(millis)
}

/// An endpoint at this address, for two workers.
fn endpoint(address: Address, idle_connections: u32) -> (Registry, Arc<Endpoint>) {
    let registry = Registry::new(2);
    let settings = ServiceSettings {
        endpoints: vec![settings::Endpoint::at(address)],
        idle_connections,
        idle_timeout: Duration::from_secs(30),
        ..ServiceSettings::default()
    };
    registry.apply(&BTreeMap::from([("web".to_owned(), settings)]), at(1));
    let set = registry.service("web").unwrap().endpoints().load();
    let endpoint = Arc::clone(&set.all[0]);
    (registry, endpoint)
}

/// An endpoint that listens on loopback.
async fn listening() -> (Registry, Arc<Endpoint>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (registry, endpoint) = endpoint(Address::tcp("127.0.0.1", port), 3);
    (registry, endpoint, listener)
}

/// A connection and the server's end of it.
async fn connected(endpoint: &Endpoint, listener: &TcpListener) -> (Connection, TcpStream) {
    let connection = crate::connect(
        endpoint,
        within(Duration::from_secs(5)),
        (None, crate::Speaks::Http1),
        at(1),
    )
    .await
    .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (connection, server)
}

/// The stream of a connection that is not encrypted.
fn plain(connection: &mut Connection) -> &mut Stream {
    match &mut connection.link {
        Link::Plain(stream) => stream,
        Link::Sealed(_) => panic!("it is encrypted"),
    }
}

/// Until the runtime has seen what arrived on the connection; it stays where it is.
async fn arrived(connection: &Connection) {
    std::future::poll_fn(|cx| connection.link.stream().poll_read_ready(cx))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_last_one_back_is_the_first_one_out() {
    let (_registry, endpoint, listener) = listening().await;
    let mut servers = Vec::new();
    for number in 1..=4 {
        let (mut connection, server) = connected(&endpoint, &listener).await;
        connection.created = at(number);
        endpoint.release(0, connection, at(number), None);
        servers.push(server);
    }
    assert_eq!(endpoint.idle(), 3, "the one that was idle longest gave way");
    assert_eq!(servers[0].read(&mut [0]).await.unwrap(), 0, "it was closed");
    let mut out = Vec::new();
    while let Some(connection) = endpoint.checkout(0, at(5), Freshness::Any) {
        assert_eq!(connection.requests, 1);
        out.push(connection.created);
    }
    assert_eq!(out, [at(4), at(3), at(2)]);
    assert_eq!(endpoint.connects(), 4);
}

#[tokio::test]
async fn dead_connections_are_skipped() {
    let (_registry, endpoint, listener) = listening().await;
    let (open, _server_of_open) = connected(&endpoint, &listener).await;
    let (closed, server_of_closed) = connected(&endpoint, &listener).await;
    let (talking, mut server_of_talking) = connected(&endpoint, &listener).await;
    drop(server_of_closed);
    arrived(&closed).await;
    server_of_talking
        .write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        .await
        .unwrap();
    arrived(&talking).await;
    for connection in [open, closed, talking] {
        endpoint.release(0, connection, at(2), None);
    }
    assert!(endpoint.checkout(0, at(3), Freshness::Any).is_some());
    assert!(endpoint.checkout(0, at(3), Freshness::Any).is_none());
    assert_eq!(server_of_talking.read(&mut [0]).await.unwrap_or(0), 0);
}

/// A read that fills its buffer leaves the stream marked as readable: such a connection is good.
#[tokio::test]
async fn a_filled_buffer_is_not_a_dead_connection() {
    let (_registry, endpoint, listener) = listening().await;
    let (mut connection, mut server) = connected(&endpoint, &listener).await;
    server.write_all(b"12345678").await.unwrap();
    plain(&mut connection)
        .read_exact(&mut [0; 8])
        .await
        .unwrap();
    endpoint.release(0, connection, at(2), None);
    assert!(endpoint.checkout(0, at(3), Freshness::Any).is_some());
}

#[tokio::test]
async fn connections_expire() {
    let (_registry, endpoint, listener) = listening().await;
    let mut servers = Vec::new();
    let second = Duration::from_secs(1);
    for keep_alive in [None, Some(5 * second), Some(second), Some(Duration::ZERO)] {
        let (connection, server) = connected(&endpoint, &listener).await;
        endpoint.release(0, connection, at(1_000), keep_alive);
        servers.push(server);
    }
    assert_eq!(
        endpoint.idle(),
        3,
        "a server that keeps nothing is believed"
    );
    endpoint.sweep(1, at(100_000));
    assert_eq!(endpoint.idle(), 3, "they are another worker's");
    endpoint.sweep(0, at(1_499));
    assert_eq!(endpoint.idle(), 3);
    endpoint.sweep(0, at(1_500));
    assert_eq!(endpoint.idle(), 2, "half of one second");
    endpoint.sweep(0, at(5_000));
    assert_eq!(endpoint.idle(), 1, "five seconds less one");
    assert!(
        endpoint.checkout(0, at(31_000), Freshness::Any).is_none(),
        "idle_timeout"
    );
    assert_eq!(endpoint.idle(), 0);
}

#[tokio::test]
async fn sweep_closes_what_the_server_closed() {
    let (_registry, endpoint, listener) = listening().await;
    let (connection, server) = connected(&endpoint, &listener).await;
    drop(server);
    arrived(&connection).await;
    endpoint.release(0, connection, at(2), None);
    assert_eq!(endpoint.idle(), 1);
    endpoint.sweep(0, at(3));
    assert_eq!(endpoint.idle(), 0);
}

#[tokio::test]
async fn freshness_is_respected() {
    let (_registry, endpoint, listener) = listening().await;
    let (connection, _server) = connected(&endpoint, &listener).await;
    endpoint.release(0, connection, at(1_000), None);
    let within = |millis| Freshness::UsedWithin(Duration::from_millis(millis));
    assert!(endpoint.checkout(0, at(1_500), within(500)).is_none());
    assert!(endpoint.checkout(1, at(1_500), within(500)).is_none());
    assert!(endpoint.checkout(0, at(1_500), within(501)).is_some());
}

#[tokio::test]
async fn a_closed_pool_takes_nothing_back() {
    let (registry, endpoint, listener) = listening().await;
    let (idle, mut server_of_idle) = connected(&endpoint, &listener).await;
    let (in_use, mut server_of_in_use) = connected(&endpoint, &listener).await;
    endpoint.release(0, idle, at(2), None);
    registry
        .service("web")
        .unwrap()
        .drain_endpoint(endpoint.address(), Ticks(1));
    assert_eq!(endpoint.idle(), 0);
    assert_eq!(server_of_idle.read(&mut [0]).await.unwrap(), 0);
    endpoint.release(0, in_use, at(3), None);
    assert_eq!(endpoint.idle(), 0);
    assert_eq!(server_of_in_use.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_of_another_endpoint_is_closed() {
    let (_one_registry, one, listener) = listening().await;
    let (_registry, _, _) = listening().await;
    let (mut connection, mut server) = connected(&one, &listener).await;
    connection.endpoint = EndpointId(77);
    one.release(0, connection, at(2), None);
    assert_eq!(one.idle(), 0);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}

/// A worker takes over an idle connection of another one's runtime and speaks on it; a dead one
/// among them is skipped although the new runtime has not seen it yet.
fn take_over_between_threads(address: Address, may_be_late: bool, accept: impl Fn() -> Server) {
    let (_registry, endpoint) = endpoint(address, 8);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (released, wait_for_release) = mpsc::channel();
    let (finish, wait_for_finish) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let first = &endpoint;
        scope.spawn(move || {
            runtime().block_on(async {
                for number in 1..=2 {
                    let connecting = crate::connect(
                        first,
                        within(Duration::from_secs(5)),
                        (None, crate::Speaks::Http1),
                        at(number),
                    );
                    first.release(0, connecting.await.unwrap(), at(number), None);
                }
                released.send(()).unwrap();
                // The runtime works on while its connections are taken.
                wait_for_finish.await.unwrap_err();
            });
        });
        wait_for_release.recv().unwrap();
        let (mut open, dead) = (accept(), accept());
        drop(dead);
        runtime().block_on(async {
            // The dead one is newer, so it is tried first.
            let mut connection = endpoint.checkout(1, at(3), Freshness::Any).unwrap();
            if connection.created == at(2) && may_be_late {
                // Its end had not arrived yet at our socket.
                connection = endpoint.checkout(1, at(3), Freshness::Any).unwrap();
            }
            assert_eq!(connection.created, at(1));
            assert_eq!(connection.requests, 1);
            plain(&mut connection).write_all(b"hello").await.unwrap();
            let mut heard = [0; 5];
            open.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"hello");
            open.write_all(b"there").unwrap();
            plain(&mut connection).read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"there");
            endpoint.release(1, connection, at(4), None);
            assert_eq!(endpoint.idle(), 1);
        });
        drop(finish);
    });
}

trait Both: Read + io::Write {}
impl<T: Read + io::Write> Both for T {}
type Server = Box<dyn Both>;

#[test]
fn connections_are_taken_over_between_runtimes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::tcp("127.0.0.1", listener.local_addr().unwrap().port());
    take_over_between_threads(address, true, || Box::new(listener.accept().unwrap().0));
}

#[test]
fn unix_connections_are_taken_over_too() {
    let directory = Directory::new("takeover");
    let listener = std::os::unix::net::UnixListener::bind(directory.socket()).unwrap();
    let address = Address::Unix(directory.socket());
    take_over_between_threads(address, false, || Box::new(listener.accept().unwrap().0));
}

/// A directory for sockets, removed when dropped.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("outgrow-upstream-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> std::path::PathBuf {
        self.0.join("s")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn failures_to_connect_have_their_cause() {
    use outgrow_core::{Cause, Phase, Sent, Side};

    async fn failure(address: Address, timeout: Duration) -> Cause {
        let (_registry, endpoint) = endpoint(address, 1);
        let fault = crate::connect(
            &endpoint,
            within(timeout),
            (None, crate::Speaks::Http1),
            at(1),
        )
        .await
        .unwrap_err();
        assert_eq!(fault.side, Side::Upstream);
        assert_eq!((fault.phase, fault.sent), (Phase::Connect, Sent::None));
        assert!(fault.another_may_help() && fault.blames_endpoint());
        fault.cause
    }
    let long = Duration::from_secs(5);
    // Bound but not listening: nobody else can take the port meanwhile.
    let port = tokio::net::TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = port.local_addr().unwrap().port();
    assert_eq!(
        failure(Address::tcp("127.0.0.1", port), long).await,
        Cause::ConnectRefused
    );

    let directory = Directory::new("connect");
    let socket = Address::Unix(directory.socket());
    assert_eq!(failure(socket.clone(), long).await, Cause::ConnectRefused);
    // Accepts nobody, so that its queue is full after a few.
    let _listener = std::os::unix::net::UnixListener::bind(directory.socket()).unwrap();
    let mut waiting = Vec::new();
    let cause = loop {
        let (registry, endpoint) = endpoint(socket.clone(), 1);
        match crate::connect(
            &endpoint,
            within(Duration::from_millis(50)),
            (None, crate::Speaks::Http1),
            at(1),
        )
        .await
        {
            Ok(connection) => waiting.push((registry, connection)),
            Err(fault) => break fault.cause,
        }
        assert!(waiting.len() < 10_000);
    };
    assert_eq!(cause, Cause::ConnectTimeout);
    // The system lets nobody connect to a broadcast address.
    let all = Address::tcp("255.255.255.255", 80);
    assert_eq!(failure(all, long).await, Cause::ConnectUnreachable);
    let name = Address::tcp("no-such-name.invalid", 80);
    let cause = failure(name, long).await;
    // A machine without a resolver may take its time.
    assert!(
        matches!(cause, Cause::ConnectUnresolved | Cause::ConnectTimeout),
        "{cause:?}"
    );
}

#[tokio::test]
async fn names_are_resolved_and_each_address_is_tried() {
    // Only on IPv4, while the name may have an IPv6 address in front.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (registry, endpoint) = endpoint(Address::tcp("localhost", port), 1);
    assert_eq!(endpoint.socket_addresses(), []);
    let v6: SocketAddr = format!("[::1]:{port}").parse().unwrap();
    let v4 = listener.local_addr().unwrap();
    let (connection, _server) = connected(&endpoint, &listener).await;
    drop(connection);
    assert!(
        endpoint.socket_addresses().contains(&v4),
        "looked up on the way"
    );
    endpoint.set_socket_addresses(vec![v6, v4]);
    endpoint.prefer(v6);
    let (connection, _server) = connected(&endpoint, &listener).await;
    drop(connection);
    assert_eq!(
        endpoint.socket_addresses(),
        [v4, v6],
        "the one that answered is in front"
    );
    endpoint.set_socket_addresses(vec![v6, v4]);
    assert_eq!(endpoint.socket_addresses(), [v4, v6], "and stays there");
    endpoint.set_socket_addresses(Vec::new());
    assert_eq!(
        endpoint.socket_addresses(),
        [v4, v6],
        "no answer changes nothing"
    );
    drop(registry);
}

#[tokio::test]
async fn a_connection_to_an_address_that_went_is_not_used_again() {
    let old = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let new = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (was, is) = (old.local_addr().unwrap(), new.local_addr().unwrap());
    let (_registry, endpoint) = endpoint(Address::tcp("web.internal", was.port()), 3);
    endpoint.set_socket_addresses(vec![was]);
    let (idle, mut server_of_idle) = connected(&endpoint, &old).await;
    let (in_use, mut server_of_in_use) = connected(&endpoint, &old).await;
    endpoint.release(0, idle, at(1), None);
    // One more is no reason to close anything.
    endpoint.set_socket_addresses(vec![was, is]);
    assert_eq!(endpoint.idle(), 1);
    // A name may be told in part, and in another part after a while.
    for answer in [vec![is], vec![was, is]] {
        (0..59).for_each(|_| endpoint.set_socket_addresses(answer.clone()));
        assert_eq!(endpoint.idle(), 1);
    }
    // And it may move.
    endpoint.set_socket_addresses(vec![was]);
    endpoint.set_socket_addresses(vec![is]);
    endpoint.set_socket_addresses(vec![is]);
    assert_eq!(endpoint.idle(), 1);
    endpoint.set_socket_addresses(vec![is]);
    assert_eq!(endpoint.idle(), 0, "missing three times in a row");
    assert_eq!(server_of_idle.read(&mut [0]).await.unwrap(), 0);
    endpoint.release(0, in_use, at(2), None);
    assert_eq!(endpoint.idle(), 0, "it went while it was in use");
    assert_eq!(server_of_in_use.read(&mut [0]).await.unwrap(), 0);
    let (connection, _server) = connected(&endpoint, &new).await;
    endpoint.release(0, connection, at(3), None);
    assert_eq!(endpoint.idle(), 1);
}
