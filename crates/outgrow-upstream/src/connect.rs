//! Connecting to an endpoint.
//!
//! A numeric address or a Unix socket is connected to directly. For a name the addresses that
//! [`resolve`](crate::resolve) keeps race, each with a head start before the next (RFC 8305
//! section 5): one that does not answer at all must not use up the time of the others. Only before
//! the first resolution is one done here. What is spoken then is the caller's; how a connection is
//! encrypted is a [`Seal`]'s to know.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use outgrow_core::settings::Address;
use outgrow_core::{Cause, Fault, Phase, Sent, Ticks};
use outgrow_net::Stream;
use outgrow_net::link::{Link, Sealed};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use crate::endpoint::Endpoint;
use crate::pool::Connection;
use crate::resolve;

/// Pause before a Unix socket whose queue of connections is full is tried again.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(2);

/// How long an address of a name is tried alone before the next one is tried as well: the
/// "Connection Attempt Delay" that RFC 8305 section 5 recommends.
const HEAD_START: Duration = Duration::from_millis(250);

/// Most addresses of a name that are tried.
const ATTEMPT_LIMIT: usize = 8;

/// From one question whether the peer's machine is still there to the next.
const KEEP_ALIVE_AGAIN: Duration = Duration::from_secs(1);

/// How long the steps of a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Until it stands.
    pub connect: Duration,
    /// On a connection on which nothing is sent the peer's machine is asked for a sign after as long.
    /// Zero: by the system's own times.
    pub unacknowledged: Duration,
    /// How long what is sent may stay unacknowledged, as of [`limit_silence`]: for what is certainly small
    /// as long as `unacknowledged`. Zero: as long as the system tries.
    pub silence: Duration,
}

/// Which of the addresses of an endpoint's name a connection leads to.
#[derive(Debug)]
pub struct Place {
    /// None where the endpoint's address is no name.
    address: Option<SocketAddr>,
    /// How often addresses of the endpoint had gone when this one was last known to be one of them.
    moves: AtomicU64,
}

impl Place {
    fn new(address: Option<SocketAddr>, moves: u64) -> Self {
        Self {
            address,
            moves: AtomicU64::new(moves),
        }
    }

    /// The address; none where the endpoint's address is no name.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whether the endpoint, of which `moves` addresses have gone, is here; `is_known` says it of one.
    #[inline]
    pub(crate) fn is_of(&self, moves: u64, is_known: impl Fn(SocketAddr) -> bool) -> bool {
        if self.moves.load(Ordering::Relaxed) == moves {
            return true;
        }
        let is_here = self.address.is_none_or(is_known);
        if is_here {
            self.moves.store(moves, Ordering::Relaxed);
        }
        is_here
    }
}

/// A connection that is being encrypted, or why it cannot be, in words for people.
pub type Sealing<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Sealed>, String>> + Send + 'a>>;

/// What is to be spoken on an encrypted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1, or something that TLS has no word for.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Encrypts connections to endpoints of a service.
pub trait Seal: fmt::Debug + Send + Sync {
    /// Does the handshake with this endpoint. Bounded in time by who asks.
    fn seal<'a>(&'a self, stream: Stream, endpoint: &'a Endpoint, speaks: Speaks) -> Sealing<'a>;

    /// Its number, which no other one has, never 0: a connection that another one made is not used
    /// any more, since other rules were in force.
    fn number(&self) -> u64;
}

/// Makes a connection; where to is told with it. It belongs to the calling runtime.
///
/// A failure is not counted here: the caller reports it like any other ([`Endpoint::report`]).
///
/// # Errors
/// [`Cause::ConnectRefused`] when nobody listens there, [`Cause::ConnectTimeout`],
/// [`Cause::ConnectUnresolved`] for a name without an address, [`Cause::ConnectDenied`] where the system
/// does not let us (a Unix socket's mode, a firewall's rule), [`Cause::ConnectUnreachable`] without a way
/// there, else [`Cause::ConnectFailed`]; nothing was sent in any case.
pub async fn dial(endpoint: &Endpoint, opening: Opening) -> Result<(Stream, Place), Fault> {
    let moves = endpoint.pool.moves();
    let opened = open(endpoint, opening.connect);
    let (stream, address) = set_up(endpoint, opening, opened).await?;
    Ok((stream, Place::new(address, moves)))
}

/// As [`dial`], for a caller that has a timer of its own: it takes as long as it takes, and is to be given
/// up after [`Opening::connect`]. The runtime's timer would wake the thread that sets it, by a system
/// call for each connection.
///
/// # Errors
/// As of [`dial`], but for the time.
pub async fn dial_untimed(endpoint: &Endpoint, opening: Opening) -> Result<Stream, Fault> {
    let opened = open(endpoint, opening.connect).await;
    finish(endpoint, opening, opened).map(|(stream, _)| stream)
}

/// Makes a connection to the machine that another connection to the endpoint leads to, which has this
/// address of the endpoint's name ([`Place::address`]), wherever the name leads by now.
///
/// # Errors
/// As of [`dial`].
pub async fn dial_again(
    endpoint: &Endpoint,
    address: Option<SocketAddr>,
    opening: Opening,
) -> Result<Stream, Fault> {
    let Some(address) = address else {
        return Ok(dial(endpoint, opening).await?.0);
    };
    let opened = async { Ok((open_tcp(address).await?, Some(address))) };
    let (stream, _) = set_up(endpoint, opening, opened).await?;
    Ok(stream)
}

/// What is `opened` within the time for it, with its own times.
async fn set_up(
    endpoint: &Endpoint,
    opening: Opening,
    opened: impl Future<Output = io::Result<(Stream, Option<SocketAddr>)>>,
) -> Result<(Stream, Option<SocketAddr>), Fault> {
    let opened = tokio::time::timeout(opening.connect, opened).await;
    let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    finish(endpoint, opening, opened)
}

fn finish(
    endpoint: &Endpoint,
    opening: Opening,
    opened: io::Result<(Stream, Option<SocketAddr>)>,
) -> Result<(Stream, Option<SocketAddr>), Fault> {
    let (stream, address) =
        opened.map_err(|error| Fault::upstream(Phase::Connect, cause_of(&error), Sent::None))?;
    watch_peer(&stream, opening.unacknowledged);
    // A new one has the system's own time.
    if !opening.silence.is_zero() {
        limit_silence(&stream, opening.silence);
    }
    endpoint.count_connect();
    Ok((stream, address))
}

/// Makes a connection that can be pooled, encrypted where there is a `seal`, for what is spoken then; the
/// time for connecting is for both.
///
/// # Errors
/// As of [`dial`]; [`Cause::ConnectTls`] when the handshake failed. What exactly was wrong the `seal`
/// knows, and says where people look.
pub async fn connect(
    endpoint: &Endpoint,
    opening: Opening,
    (seal, speaks): (Option<&dyn Seal>, Speaks),
    now: Ticks,
) -> Result<Connection, Fault> {
    let began = Instant::now();
    let (stream, place) = dial(endpoint, opening).await?;
    let connection = |link, seal| Connection {
        link,
        seal,
        requests: 0,
        created: now,
        endpoint: endpoint.id(),
        place,
    };
    let Some(seal) = seal else {
        return Ok(connection(Link::Plain(stream), 0));
    };
    let left = opening.connect.saturating_sub(began.elapsed());
    let sealed = seal.seal(stream, endpoint, speaks);
    let cause = match tokio::time::timeout(left, sealed).await {
        Ok(Ok(sealed)) => {
            let link = Link::Sealed(sealed);
            return Ok(connection(link, seal.number()));
        }
        Ok(Err(_)) => Cause::ConnectTls,
        Err(_) => Cause::ConnectTimeout,
    };
    Err(Fault::upstream(Phase::Connect, cause, Sent::None))
}

/// Connects to the endpoint's address, for as long as it takes. `timeout` is the caller's: every
/// address of a name gets its turn within it. With the address that was reached, where it is a name.
pub(crate) async fn open(
    endpoint: &Endpoint,
    timeout: Duration,
) -> io::Result<(Stream, Option<SocketAddr>)> {
    let address = endpoint.address();
    if let Address::Unix(path) = address {
        return Ok((open_unix(path).await?, None));
    }
    if let Some(address) = address.socket_address() {
        return Ok((open_tcp(address).await?, None));
    }
    let mut addresses = endpoint.socket_addresses();
    if addresses.is_empty() {
        addresses = match resolve::look_up(address).await {
            Ok(found) if !found.is_empty() => found,
            Ok(_) => return Err(io::Error::other(Unresolved(None))),
            Err(error) => return Err(io::Error::other(Unresolved(Some(error)))),
        };
        endpoint.set_socket_addresses(addresses.clone());
    }
    addresses.truncate(ATTEMPT_LIMIT);
    let turns = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let head_start = HEAD_START.min(timeout / turns);
    let attempts = addresses.iter().map(|&address| open_tcp(address)).collect();
    let (winner, stream) = race(attempts, head_start).await?;
    if winner > 0 {
        endpoint.prefer(addresses[winner]);
    }
    Ok((stream, Some(addresses[winner])))
}

/// The first of the attempts that succeeds, with its place; each next one is begun when one failed
/// or when the last one has had its head start. The last failure when all fail.
async fn race<T>(
    attempts: Vec<impl Future<Output = io::Result<T>>>,
    head_start: Duration,
) -> io::Result<(usize, T)> {
    let mut waiting = attempts.into_iter().enumerate();
    let mut running: Vec<(usize, Pin<Box<_>>)> = Vec::new();
    let mut failure = io::ErrorKind::NotFound.into();
    loop {
        let begun = waiting.next().map(|(place, one)| (place, Box::pin(one)));
        let are_more = waiting.len() > 0;
        running.extend(begun);
        if running.is_empty() {
            return Err(failure);
        }
        let result = poll_fn(|context| {
            for index in 0..running.len() {
                if let Poll::Ready(result) = running[index].1.as_mut().poll(context) {
                    let (place, _) = running.remove(index);
                    return Poll::Ready(result.map(|value| (place, value)));
                }
            }
            Poll::Pending
        });
        let result = if are_more {
            match tokio::time::timeout(head_start, result).await {
                Ok(result) => result,
                Err(_) => continue,
            }
        } else {
            result.await
        };
        match result {
            Ok(won) => return Ok(won),
            Err(error) => failure = error,
        }
    }
}

/// Connects, and asks the system what went wrong only where its readiness says that something did: one
/// that stands can be written to, one that failed is closed as well.
async fn open_tcp(address: SocketAddr) -> io::Result<Stream> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
        _ => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    let ready = stream.ready(Interest::WRITABLE | Interest::ERROR).await?;
    if ready.is_write_closed() || ready.is_error() {
        return Err(stream
            .take_error()?
            .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()));
    }
    Ok(Stream::Tcp(stream))
}

/// Has the system tell when the peer's machine is gone: such a one sends nothing, not even an end. It is
/// asked for a sign when nothing was heard of it for `unacknowledged`, and [`limit_silence`] says after
/// which time without one it is gone; zero: by the system's own times.
fn watch_peer(stream: &Stream, unacknowledged: Duration) {
    if !unacknowledged.is_zero() {
        ask_peer(stream, signs(unacknowledged));
    }
}

/// As [`watch_peer`], without a limit for what is sent ([`limit_silence`]): the machine is gone when it has
/// given no sign for about twice `unacknowledged`. The system asks only while nothing that was sent waits
/// for its acknowledgement; what does is tried for as long as the system tries (`tcp_retries2`), about 15
/// minutes.
pub fn watch_idle_peer(stream: &Stream, unacknowledged: Duration) {
    let (seconds, count) = questions(unacknowledged);
    let signs = signs(unacknowledged)
        .with_interval(Duration::from_secs(seconds))
        .with_retries(count);
    ask_peer(stream, signs);
}

/// After how many seconds it is asked again, and how often, so that the last one is over about as long
/// after the first as that came after the silence began. At least two are: one can be lost.
fn questions(unacknowledged: Duration) -> (u64, u32) {
    /// As many as the system can count (`MAX_TCP_KEEPCNT`).
    const MOST: u64 = 127;
    let seconds = whole_seconds(unacknowledged);
    let interval = seconds.div_ceil(MOST);
    let count = seconds.div_ceil(interval).clamp(2, MOST);
    (interval, u32::try_from(count).unwrap_or(2))
}

/// As the system takes them: at least one, rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    let part = u64::from(duration.subsec_nanos() > 0);
    (duration.as_secs() + part).max(1)
}

fn signs(unacknowledged: Duration) -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(whole_seconds(unacknowledged)))
        .with_interval(KEEP_ALIVE_AGAIN)
}

fn ask_peer(stream: &Stream, signs: TcpKeepalive) {
    if let Stream::Tcp(stream) = stream {
        // Where the system refuses, its own times are in force.
        let _ = SockRef::from(stream).set_tcp_keepalive(&signs);
    }
}

/// How long what is sent may stay unacknowledged; zero: as long as the system tries. The system
/// counts a peer whose window is full like one that is silent, although it answers each probe: so
/// this is for what certainly finds place in the window.
pub fn limit_silence(stream: &Stream, unacknowledged: Duration) {
    if let Stream::Tcp(stream) = stream {
        // Zero is the system's own time. Where it refuses, that is in force too.
        let _ = SockRef::from(stream).set_tcp_user_timeout(Some(unacknowledged));
    }
}

async fn open_unix(path: &Path) -> io::Result<Stream> {
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(Stream::Unix(stream)),
            // The system does not tell when a full queue has room again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(FULL_QUEUE_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The endpoint's name has no address, or nobody could be asked.
#[derive(Debug)]
struct Unresolved(Option<io::Error>);

impl fmt::Display for Unresolved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name does not resolve")?;
        match &self.0 {
            Some(error) => write!(formatter, ": {error}"),
            None => formatter.write_str(" to any address"),
        }
    }
}

impl std::error::Error for Unresolved {}

fn cause_of(error: &io::Error) -> Cause {
    match error.kind() {
        // A Unix socket without a file is what a TCP port without a listener is.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Cause::ConnectRefused,
        io::ErrorKind::TimedOut => Cause::ConnectTimeout,
        io::ErrorKind::PermissionDenied => Cause::ConnectDenied,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Cause::ConnectUnreachable
        }
        _ if error
            .get_ref()
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Unresolved>) =>
        {
            Cause::ConnectUnresolved
        }
        _ => Cause::ConnectFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENING: Opening = Opening {
        connect: Duration::from_secs(1),
        unacknowledged: Duration::ZERO,
        silence: Duration::ZERO,
    };

    /// An endpoint whose address is a name.
    fn named() -> std::sync::Arc<Endpoint> {
        let registry = crate::Registry::new(1);
        let address = Address::tcp("db.internal", 5432);
        let settings = crate::settings::ServiceSettings {
            endpoints: vec![crate::settings::Endpoint::at(address)],
            ..crate::settings::ServiceSettings::default()
        };
        let services = std::collections::BTreeMap::from([("db".to_owned(), settings)]);
        registry.apply(&services, Ticks(1));
        registry.service("db").unwrap().endpoints().load().all[0].clone()
    }

    /// An attempt that ends after so many milliseconds; `None`: never.
    async fn attempt(ends: Option<(u64, Result<(), io::ErrorKind>)>) -> io::Result<()> {
        match ends {
            Some((after, result)) => {
                tokio::time::sleep(Duration::from_millis(after)).await;
                result.map_err(io::Error::from)
            }
            None => std::future::pending().await,
        }
    }

    async fn check(
        attempts: &[Option<(u64, Result<(), io::ErrorKind>)>],
        expected: Result<usize, io::ErrorKind>,
        millis: u64,
    ) {
        let began = tokio::time::Instant::now();
        let racing = attempts.iter().map(|&ends| attempt(ends)).collect();
        let result = race(racing, HEAD_START).await;
        let result = result.map(|won| won.0).map_err(|error| error.kind());
        assert_eq!(result, expected, "{attempts:?}");
        let took = began.elapsed().as_millis() as u64;
        assert!(
            (millis..=millis + 5).contains(&took),
            "{attempts:?}: {took}"
        );
    }

    #[test]
    fn a_machine_is_asked_for_as_long_as_it_was_silent() {
        let check = |millis, expected| {
            assert_eq!(questions(Duration::from_millis(millis)), expected);
        };
        check(1, (1, 2));
        check(1_000, (1, 2));
        check(1_900, (1, 2));
        check(2_500, (1, 3));
        check(5_000, (1, 5));
        check(127_000, (1, 127));
        check(128_000, (2, 64));
        check(600_000, (5, 120));
        check(3_600_000, (29, 125));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_never_answers_costs_its_head_start() {
        const REFUSED: io::ErrorKind = io::ErrorKind::ConnectionRefused;
        check(&[None, Some((10, Ok(())))], Ok(1), 260).await;
        check(&[None, None, Some((10, Ok(())))], Ok(2), 510).await;
        // Slow, but still the first.
        check(&[Some((300, Ok(()))), Some((100, Ok(())))], Ok(0), 300).await;
        // One that fails makes room at once.
        check(&[Some((10, Err(REFUSED))), Some((10, Ok(())))], Ok(1), 20).await;
        let refused = Some((10, Err(REFUSED)));
        check(&[refused, refused], Err(REFUSED), 20).await;
        check(&[], Err(io::ErrorKind::NotFound), 0).await;
    }

    /// The whole of it, with an address whose queue of connections is full: the system says
    /// nothing at all there.
    #[tokio::test]
    async fn a_name_with_a_black_hole_in_front_is_reached() {
        let full = tokio::net::TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(1).unwrap();
        let hole = full.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) =
            tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(hole)).await
        {
            queued.push(stream.unwrap());
            assert!(queued.len() < 100, "the queue is never full");
        }
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = good.local_addr().unwrap();
        let endpoint = named();
        endpoint.set_socket_addresses(vec![hole, good]);
        let connected = connect(&endpoint, OPENING, (None, Speaks::Http1), Ticks(1)).await;
        connected.expect("the other address is tried");
        assert_eq!(endpoint.socket_addresses(), [good, hole], "and preferred");
        // The resolver tells them in its own order, again and again.
        endpoint.set_socket_addresses(vec![hole, good]);
        assert_eq!(endpoint.socket_addresses(), [good, hole]);
    }

    /// Whatever the name leads to by now, and nowhere else when nobody is there.
    #[tokio::test]
    async fn another_connection_leads_to_the_same_machine() {
        let listen = || tokio::net::TcpListener::bind("127.0.0.1:0");
        let (first, second) = (listen().await.unwrap(), listen().await.unwrap());
        let [first_at, second_at] = [&first, &second].map(|one| one.local_addr().unwrap());
        let endpoint = named();
        endpoint.set_socket_addresses(vec![first_at]);
        let peer = |stream: Stream| match stream {
            Stream::Tcp(stream) => stream.peer_addr().unwrap(),
            Stream::Unix(_) => panic!("it is no Unix socket"),
        };
        let (stream, place) = dial(&endpoint, OPENING).await.unwrap();
        assert_eq!((peer(stream), place.address()), (first_at, Some(first_at)));
        endpoint.set_socket_addresses(vec![second_at]);
        for (address, expected) in [(place.address(), first_at), (None, second_at)] {
            let stream = dial_again(&endpoint, address, OPENING).await.unwrap();
            assert_eq!(peer(stream), expected);
        }
        drop(first);
        let fault = dial_again(&endpoint, place.address(), OPENING)
            .await
            .unwrap_err();
        assert_eq!(fault.cause, Cause::ConnectRefused);
    }
}
