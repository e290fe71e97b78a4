//! Several boxes (network namespaces): edges and applications on machines of their own, and what it
//! costs when one of them says nothing any more.
//!
//! Not here: what one machine can show.

mod registry;
mod stages;
mod three;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use outgrow_shop::shoppers::{Pace, Plan, Shoppers, Totals};
use outgrow_testkit::boxes::{Boxes, BoxesError};
use outgrow_testkit::outgrow::Outgrow;
use outgrow_testkit::wait;

use crate::shop;

/// How long anything may take on the way back to normal.
const LIMIT: Duration = Duration::from_secs(40);
/// Where a box serves its own instances.
const INNER: u16 = 8_081;
/// Where an edge serves clients.
const PUBLIC: u16 = 8_080;

/// Starts an outgrow in a box and waits until it is ready.
fn start(boxes: &Boxes, index: u8, config: &str) -> Outgrow {
    boxes.inside(index, || Outgrow::start(config).expect("outgrow starts"))
}

/// A box that serves the shop with two instances for the other boxes.
fn application() -> String {
    shop::config(2, "").replace("%public%", &format!("0.0.0.0:{INNER}"))
}

fn at(boxes: &Boxes, index: u8, port: u16) -> SocketAddr {
    SocketAddr::new(boxes.address(index), port)
}

/// Shoppers in a box.
fn shoppers(boxes: &Boxes, index: u8, plan: Plan) -> Shoppers {
    boxes.inside(index, || Shoppers::start(plan).expect("shoppers"))
}

/// Eight shoppers who give up after ten seconds.
fn plan(addresses: &[SocketAddr]) -> Plan {
    Plan {
        others: addresses[1..].to_vec(),
        host: "shop.test".to_owned(),
        pace: Pace::Think(Duration::from_millis(8)),
        time_limit: Duration::from_secs(10),
        ..Plan::new(addresses[0])
    }
}

/// The longest time in which no request was answered, from now on, until `count` more are.
fn longest_silence(shoppers: &Shoppers, count: u64) -> Duration {
    let ok = || shoppers.totals().all().ok;
    let (begun, mut known) = (ok(), ok());
    let (mut since, mut longest) = (Instant::now(), Duration::ZERO);
    let seen = wait::until("requests are answered", LIMIT, || {
        let now = ok();
        if now > known {
            longest = longest.max(since.elapsed());
            (known, since) = (now, Instant::now());
        }
        (now >= begun + count).then_some(())
    });
    seen.expect("answers");
    longest
}

fn failed(totals: &Totals) -> u64 {
    totals.all().failed
}

#[test]
fn a_machine_that_goes_silent_costs_no_request() -> Result<(), BoxesError> {
    let boxes = Boxes::new(4)?;
    let applications = [1, 2].map(|index| start(&boxes, index, &application()));
    let endpoints = [1, 2].map(|index| format!("\"{}\"", at(&boxes, index, INNER)));
    let edge = format!(
        "[listener.public]\naddress = \"0.0.0.0:{PUBLIC}\"\n\
         [service.shop]\nendpoints = [{}]\ntimeouts = {{ unacknowledged = \"2s\" }}\n\
         [service.shop.check]\npath = \"/readyz\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
         [route.shop]\nservice = \"shop\"\nidempotency_key = true\n",
        endpoints.join(", ")
    );
    let edge = start(&boxes, 0, &edge);
    let shoppers = shoppers(&boxes, 3, plan(&[at(&boxes, 0, PUBLIC)]));
    longest_silence(&shoppers, 500);
    assert_eq!(
        failed(&shoppers.totals()),
        0,
        "{}",
        shoppers.totals().complaints(9)
    );

    boxes.cut(2).expect("cut");
    let silence = longest_silence(&shoppers, 2_000);
    let after = shoppers.totals();
    eprintln!(
        "silent machine: longest silence {silence:?}, truncated {}",
        after.all().truncated
    );
    assert_eq!(
        failed(&after),
        0,
        "{}{}",
        after.complaints(20),
        edge.stderr()
    );
    assert!(after.all().truncated <= 8, "{}", after.complaints(20));

    boxes.join(2).expect("joined");
    let back = || {
        let state = boxes.inside(0, || shop::state(&edge));
        let endpoints = state["services"][0]["endpoints"].as_array()?.clone();
        endpoints
            .iter()
            .all(|one| one["usable"] == true)
            .then_some(())
    };
    wait::until("both are used again", LIMIT, back).expect("back");
    longest_silence(&shoppers, 500);
    let totals = shoppers.stop();
    assert_eq!(failed(&totals), 0, "{}", totals.complaints(20));
    for outgrow in applications.into_iter().chain([edge]) {
        outgrow.stop().expect("a clean stop");
    }
    Ok(())
}

/// Nothing is sent on it, so only the system's own questions show that nobody is there any more. The
/// idle time, which would end it too, is an hour.
#[test]
fn a_passed_on_connection_to_a_machine_that_goes_silent_ends() -> Result<(), BoxesError> {
    let boxes = Boxes::new(2)?;
    let inner = at(&boxes, 1, INNER);
    let listener = boxes.inside(1, || TcpListener::bind(inner).expect("bound"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"hello").expect("written");
        // For as long as the test lasts.
        stream
    });
    let config = format!(
        "[tcp.passed]\naddress = \"127.0.0.1:{PUBLIC}\"\nservice = \"there\"\n\
         [service.there]\nendpoints = [\"{inner}\"]\n\
         timeouts = {{ unacknowledged = \"2s\" }}\n"
    );
    let edge = start(&boxes, 0, &config);
    let mut client = boxes.inside(0, || {
        TcpStream::connect(("127.0.0.1", PUBLIC)).expect("connected")
    });
    let mut said = [0; 5];
    client.read_exact(&mut said).expect("it is passed on");
    let _server = server.join().expect("no panic");
    // From when on it is watched.
    std::thread::sleep(Duration::from_secs(3));

    boxes.cut(1).expect("cut");
    let began = Instant::now();
    client.set_read_timeout(Some(LIMIT)).expect("a limit");
    let end = client.read(&mut said).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "{}", edge.stderr());
    // Twice two seconds, counted from what was heard last.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(9), "{took:?}");
    edge.stop().expect("a clean stop");
    Ok(())
}
