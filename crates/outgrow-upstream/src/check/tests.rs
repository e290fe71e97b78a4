//! Tests of the checks against small listeners on loopback. Nothing sleeps: events are waited for.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;

use outgrow_core::Ticks;
use outgrow_core::settings::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::service::EndpointOptions;
use crate::settings::{self, ServiceSettings};

const LONG: Duration = Duration::from_secs(20);

/// A server that answers each connection with what it is told to at the moment, and tells the
/// request that it heard.
struct Server {
    address: Address,
    status: Arc<AtomicU32>,
    requests: mpsc::Receiver<String>,
    task: JoinHandle<()>,
}

/// As a status: accept and say nothing.
const SILENT: u32 = 0;

impl Server {
    async fn start(status: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::tcp("127.0.0.1", listener.local_addr().unwrap().port());
        let status = Arc::new(AtomicU32::new(status));
        let (heard, requests) = mpsc::channel(1);
        let answer = Arc::clone(&status);
        let task = tokio::spawn(async move {
            let mut silent = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 1024];
                let length = stream.read(&mut request).await.unwrap_or(0);
                // Only the newest need be looked at.
                let _ = heard.try_send(String::from_utf8_lossy(&request[..length]).into_owned());
                match answer.load(Ordering::SeqCst) {
                    SILENT => silent.push(stream),
                    status => {
                        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
            }
        });
        Self {
            address,
            status,
            requests,
            task,
        }
    }

    fn answer(&self, status: u32) {
        self.status.store(status, Ordering::SeqCst);
    }
}

/// Lets the other tasks work until it is so.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, wait)
        .await
        .expect("the condition comes true");
}

fn quick_check(change: impl FnOnce(&mut CheckSettings)) -> CheckSettings {
    let mut check = CheckSettings {
        path: "/ready?deep=0".parse().ok(),
        interval: Duration::from_millis(20),
        fast_interval: Duration::from_millis(10),
        timeout: Duration::from_secs(10),
        ..CheckSettings::default()
    };
    change(&mut check);
    check
}

struct House {
    registry: Arc<Registry>,
    events: mpsc::Receiver<Event>,
    checks: JoinHandle<()>,
}

impl House {
    fn new(addresses: &[&Address], check: Option<CheckSettings>) -> Self {
        let registry = Arc::new(Registry::new(1));
        let events = registry.subscribe(1_000);
        let checks = tokio::spawn(run(Arc::clone(&registry), Clock::start()));
        let house = Self {
            registry,
            events,
            checks,
        };
        house.apply(addresses, check);
        house
    }

    fn apply(&self, addresses: &[&Address], check: Option<CheckSettings>) {
        let endpoint = |address: &&Address| settings::Endpoint::at((*address).clone());
        let settings = ServiceSettings {
            endpoints: addresses.iter().map(endpoint).collect(),
            check,
            ..ServiceSettings::default()
        };
        self.registry
            .apply(&BTreeMap::from([("web".to_owned(), settings)]), Ticks(1));
    }

    fn web(&self) -> Arc<Service> {
        self.registry.service("web").unwrap()
    }

    async fn next(&mut self) -> Event {
        tokio::time::timeout(LONG, self.events.recv())
            .await
            .expect("an event")
            .unwrap()
    }

    async fn next_is_up(&mut self, address: &Address) {
        let event = self.next().await;
        assert!(
            matches!(&event, Event::EndpointUp(subject) if subject.address == address.to_string()),
            "{event:?}"
        );
    }

    /// The next `EndpointDown`, and why; a panic that comes with it is let pass.
    async fn next_is_down(&mut self) -> String {
        loop {
            match self.next().await {
                Event::EndpointDown { reason, .. } => return reason,
                Event::Panic { .. } => {}
                event => panic!("{event:?}"),
            }
        }
    }

    async fn next_is_panic(&mut self, expected: bool) {
        let event = self.next().await;
        assert!(
            matches!(event, Event::Panic { on, .. } if on == expected),
            "{event:?}"
        );
    }
}

#[tokio::test]
async fn an_endpoint_goes_down_and_comes_up_with_its_answers() {
    let mut server = Server::start(200).await;
    let mut house = House::new(&[&server.address], Some(quick_check(|_| {})));
    house.next_is_up(&server.address).await;
    let expected = format!(
        "GET /ready?deep=0 HTTP/1.1\r\nHost: {}\r\nUser-Agent: outgrow-check\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        server.address
    );
    assert_eq!(server.requests.recv().await.unwrap(), expected);
    server.answer(503);
    assert_eq!(house.next_is_down().await, "status 503");
    house.next_is_panic(true).await;
    let state = &house.web().state(Ticks(1)).endpoints[0];
    assert_eq!(
        (state.health, state.reason.as_deref()),
        ("down", Some("status 503"))
    );
    assert!(state.usable, "panic: it is the only one");
    server.answer(301);
    house.next_is_up(&server.address).await;
    house.next_is_panic(false).await;
}

#[tokio::test]
async fn reasons_are_told() {
    let refused = {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket
    };
    let port = refused.local_addr().unwrap().port();
    let silent = Server::start(SILENT).await;
    let check = |timeout: u64| {
        Some(quick_check(|it| {
            it.timeout = Duration::from_millis(timeout);
        }))
    };
    let mut house = House::new(&[&Address::tcp("127.0.0.1", port)], check(10_000));
    assert_eq!(house.next_is_down().await, "connection refused");
    let mut house = House::new(&[&silent.address], check(50));
    assert_eq!(house.next_is_down().await, "timed out after 50 ms");
    let gone = Address::Unix("/nonexistent/outgrow/socket".into());
    let mut house = House::new(&[&gone], check(10_000));
    assert_eq!(house.next_is_down().await, "nothing is at the address");
}

/// All fail at the same moment because what they ask blinks: traffic goes on.
#[tokio::test]
async fn all_down_at_once_is_panic_and_serves() {
    let servers = [
        Server::start(200).await,
        Server::start(200).await,
        Server::start(200).await,
    ];
    let addresses: Vec<&Address> = servers.iter().map(|server| &server.address).collect();
    let mut house = House::new(&addresses, Some(quick_check(|_| {})));
    for _ in 0..3 {
        assert!(matches!(house.next().await, Event::EndpointUp(_)));
    }
    for server in &servers {
        server.answer(500);
    }
    for _ in 0..3 {
        assert_eq!(house.next_is_down().await, "status 500");
    }
    let web = house.web();
    assert_eq!(web.endpoints().load().usable.len(), 3);
    assert!(web.endpoints().load().panic);
    let mut view = web.view(0);
    assert!(
        web.choose(
            &mut view,
            Ticks(1),
            &mut Random::from_seed(1),
            crate::Wish::default()
        )
        .is_ok()
    );
}

#[tokio::test]
async fn a_reload_changes_checks_in_place() {
    let mut server = Server::start(200).await;
    let other = Server::start(200).await;
    let mut house = House::new(&[&server.address], Some(quick_check(|_| {})));
    house.next_is_up(&server.address).await;
    let id = house.web().endpoints().load().all[0].id();
    let changed = quick_check(|it| {
        it.path = "/health".parse().ok();
        it.host = "shop.example".to_owned();
        it.status = "204".parse().unwrap();
        it.fall = 1;
    });
    house.apply(&[&server.address, &other.address], Some(changed));
    let mut reasons = Vec::new();
    while reasons.len() < 2 {
        reasons.push(house.next_is_down().await);
    }
    assert_eq!(reasons, ["status 200", "status 200"]);
    assert_eq!(house.web().endpoints().load().all[0].id(), id);
    loop {
        let request = tokio::time::timeout(LONG, server.requests.recv())
            .await
            .unwrap()
            .unwrap();
        if request.starts_with("GET /health HTTP/1.1\r\nHost: shop.example\r\n") {
            break;
        }
    }
    // Without a check both count as healthy, and nobody asks any more.
    house.apply(&[&server.address, &other.address], None);
    until(|| !house.web().endpoints().load().panic).await;
    let states = house.web().state(Ticks(1)).endpoints;
    assert!(
        states
            .iter()
            .all(|state| state.health == "up" && state.reason.is_none())
    );
}

fn instance(live: Option<Live>) -> EndpointOptions {
    EndpointOptions {
        instance: Some("web-1".to_owned()),
        initial: Health::Starting,
        live,
        ..EndpointOptions::default()
    }
}

/// An instance is checked by connecting when its service has no check, and becomes ready with the
/// first success however often it was refused before.
#[tokio::test]
async fn an_instance_becomes_ready_when_it_listens() {
    let mut house = House::new(&[], None);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = Address::tcp("127.0.0.1", socket.local_addr().unwrap().port());
    house
        .web()
        .set_endpoint(address.clone(), instance(None), Ticks(1));
    let reason = || house.web().state(Ticks(1)).endpoints[0].reason.clone();
    until(|| reason().as_deref() == Some("connection refused")).await;
    assert_eq!(house.web().state(Ticks(1)).endpoints[0].health, "starting");
    let listener = socket.listen(8).unwrap();
    house.next_is_up(&address).await;
    drop(listener);
}

#[tokio::test]
async fn an_instance_that_hangs_is_told() {
    let server = Server::start(SILENT).await;
    let mut house = House::new(&[], None);
    let live = Live {
        path: "/livez".parse().ok(),
        interval: Duration::from_millis(10),
        timeout: Duration::from_millis(100),
        fall: 2,
    };
    house
        .web()
        .set_endpoint(server.address.clone(), instance(Some(live)), Ticks(1));
    // It accepts, which is ready enough, but says nothing.
    house.next_is_up(&server.address).await;
    for _ in 0..2 {
        match house.next().await {
            Event::NotLive {
                subject,
                reason,
                doubtful,
            } => {
                assert!(!doubtful, "it says nothing");
                assert_eq!(subject.instance.as_deref(), Some("web-1"));
                assert_eq!(reason, "timed out after 100 ms");
            }
            event => panic!("{event:?}"),
        }
    }
    // One that is known to be dead is not asked any more.
    house
        .web()
        .fail_endpoint(&server.address, "exited with signal 9");
    while !matches!(house.next().await, Event::EndpointDown { .. }) {}
}

/// A path that gives 404 from the start says more about the path than about the instance.
#[tokio::test]
async fn a_check_that_never_passed_is_in_doubt() {
    let server = Server::start(404).await;
    let mut house = House::new(&[], None);
    let live = Live {
        path: "/mistyped".parse().ok(),
        interval: Duration::from_millis(10),
        timeout: Duration::from_secs(5),
        fall: 2,
    };
    house
        .web()
        .set_endpoint(server.address.clone(), instance(Some(live)), Ticks(1));
    house.next_is_up(&server.address).await;
    match house.next().await {
        Event::NotLive { doubtful, .. } => assert!(doubtful),
        event => panic!("{event:?}"),
    }
}

#[tokio::test]
async fn checks_end_with_their_endpoint_and_with_their_runner() {
    let mut server = Server::start(200).await;
    let mut house = House::new(&[&server.address], Some(quick_check(|_| {})));
    house.next_is_up(&server.address).await;
    house.checks.abort();
    assert!((&mut house.checks).await.unwrap_err().is_cancelled());
    let endpoint = Arc::clone(&house.web().endpoints().load().all[0]);
    // The task of the check held one. Left are ours, the member's and the two of the set.
    until(|| Arc::strong_count(&endpoint) == 4).await;
    server.requests.close();
    server.task.abort();
}

#[test]
fn pauses_follow_the_health_and_are_not_in_step() {
    let check = CheckSettings {
        interval: Duration::from_secs(10),
        fast_interval: Duration::from_secs(1),
        down_interval: Some(Duration::from_secs(30)),
        rise: 2,
        fall: 2,
        ..CheckSettings::default()
    };
    let mut streak = Streak::new(Health::Unknown, check.rise, check.fall);
    let mut pauses = Vec::new();
    for passed in [true, false, false, false, true, true] {
        streak.note(passed);
        pauses.push(pause_of(&check, &streak).as_secs());
    }
    assert_eq!(pauses, [10, 1, 30, 30, 1, 10]);
    let usual = CheckSettings::default();
    let mut streak = Streak::new(Health::Down, 2, 2);
    streak.note(false);
    assert_eq!(pause_of(&usual, &streak), usual.fast_interval);
    for percent in [0, 10, 50] {
        let mut random = Random::from_seed(u64::from(percent));
        let pauses: Vec<f64> = (0..1_000)
            .map(|_| jittered(Duration::from_secs(1), percent, &mut random).as_secs_f64())
            .collect();
        let share = f64::from(percent) / 100.0;
        let bounds = 1.0 - share - 1e-6..=1.0 + share + 1e-6;
        assert!(pauses.iter().all(|pause| bounds.contains(pause)));
        let mean = pauses.iter().sum::<f64>() / 1_000.0;
        assert!(
            (mean - 1.0).abs() < 0.05 * share + 1e-6,
            "{percent}: {mean}"
        );
    }
}

/// Endpoints that came up at the same moment are not asked at the same moment again.
#[test]
fn the_first_steady_interval_parts_them() {
    let check = CheckSettings::default();
    let mut streak = Streak::new(Health::Unknown, check.rise, check.fall);
    streak.note(true);
    let mut random = Random::from_seed(1);
    let pauses: Vec<(f64, f64)> = (0..1_000)
        .map(|_| {
            let mut rhythm = Rhythm { in_step: true };
            let mut next = || rhythm.pause(&check, &streak, &mut random).as_secs_f64();
            (next(), next())
        })
        .collect();
    for quarter in [0.0, 0.5, 1.0, 1.5] {
        let bounds = quarter..quarter + 0.5;
        let inside = pauses.iter().filter(|(first, _)| bounds.contains(first));
        assert!((150..350).contains(&inside.count()), "{quarter}");
    }
    assert!(
        pauses
            .iter()
            .all(|(_, second)| (1.8..=2.2).contains(second))
    );
}

/// Answers of each protocol with bytes changed, left out and put in: whatever comes, a check ends
/// with a result.
#[tokio::test]
async fn what_a_server_sends_never_ends_but_in_a_result() {
    use crate::settings::{CheckKind, Role};
    use outgrow_core::settings::Secret;

    const ANSWERS: [&[u8]; 7] = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd",
        b"+OK\r\n+PONG\r\n$37\r\nrole:slave\r\nmaster_link_status:up\r\n1\r\n\r\n",
        b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0R\0\0\0\x1a\0\0\0\x0br=x,s=AAAA,i=4096",
        b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05ID\0\0\0\x0b\0\x01\0\0\0\x01t",
        b"E\0\0\0\x10C57P03\0Mx\0\0\0",
        b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x88",
    ];
    let settings = |kind| CheckSettings {
        kind: Some(kind),
        body: "xyz".to_owned(),
        expect: "xyz".to_owned(),
        role: Role::Replica,
        user: "u".to_owned(),
        password: Secret::new("pw"),
        ..CheckSettings::default()
    };
    let kinds = [
        CheckKind::Http,
        CheckKind::Tcp,
        CheckKind::Grpc,
        CheckKind::Postgres,
        CheckKind::Redis,
    ];
    let checks = kinds.map(settings);
    for seed in 0..2_000 {
        let mut random = Random::from_seed(seed);
        let mut answer = ANSWERS[random.below(ANSWERS.len())].to_vec();
        for _ in 0..random.below(6) {
            let place = random.below(answer.len().max(1)).min(answer.len());
            match random.below(3) {
                0 if place < answer.len() => answer[place] = random.below(256) as u8,
                1 if place < answer.len() => drop(answer.remove(place)),
                _ => answer.insert(place, random.below(256) as u8),
            }
        }
        for check in &checks {
            let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
            theirs.write_all(&answer).await.unwrap();
            theirs.shutdown().await.unwrap();
            let question = Question::new(check, "a");
            let asked = tokio::time::timeout(LONG, question.ask(&mut ours, (false, "http"))).await;
            let result = asked.unwrap_or_else(|_| panic!("seed {seed}: it waits for ever"));
            assert!(check.kind() != CheckKind::Tcp || result.is_err(), "{seed}");
        }
    }
}
