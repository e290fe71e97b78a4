//! An attempt between two simulated wires, by seed: what the endpoint and the client get is what was meant,
//! or visibly cut off, and what decides about connections and repetitions is true.

mod meant;
// The wire and the decoder of the HTTP room's own simulation.
#[path = "../../../outgrow-http/src/conn/tests/reference.rs"]
mod reference;
#[path = "../../../outgrow-http/src/conn/tests/wire.rs"]
#[expect(dead_code, reason = "not everything of it is needed here")]
mod wire;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::{Clock, Random, Sent, Side, Ticks};
use outgrow_http::Downstream;
use outgrow_http::conn::{AtHand, ClientExchange, ClientSide, ServerConnection};
use outgrow_http::h1::Limits;
use outgrow_message::{Blocks, Ledger};
use outgrow_net::Timer;

use self::meant::{Break, Meant};
use self::wire::{Then, Wire, over_seeds, run};
use super::*;
use crate::pages::Pages;
use crate::plan::{Action, Edits};
use crate::record::{RecordSink, RecordWriter};
use crate::respond;
use crate::worker::{Exchange, Shared};

const LONG: Duration = Duration::from_secs(3_600);

/// What attempts need that is the same for all.
struct House {
    worker: Arc<Worker>,
    route: RoutePlan,
}

impl House {
    fn new() -> Self {
        let shared = Shared::new(Clock::start(), Ledger::new(0), 1);
        let records = RecordWriter::start().expect("a thread");
        Self {
            route: RoutePlan {
                name: "app".into(),
                action: Action::Respond {
                    status: 200,
                    body: Vec::new(),
                    fields: Vec::new(),
                },
                rewrite: None,
                mirror: None,
                request_edits: Edits::default(),
                response_edits: Edits::default(),
                idempotency_key: false,
                grpc_web: false,
                body_limit: None,
                error_pages: Pages::default(),
                body_rate: None,
                send_rate: None,
                decompress: None,
                compress: None,
                cells: shared.metrics.route("app"),
            },
            worker: Worker::new(0, shared, RecordSink::new(records)),
        }
    }
}

/// One request, its client's connection, and what it goes to.
struct Scene<'a> {
    house: &'a House,
    blocks: &'a Arc<Blocks>,
    client: &'a Wire,
    down: ServerConnection<Wire>,
    exchange: Exchange,
    may_repeat: bool,
    body_limit: Option<u64>,
    /// The client may have many exchanges under way.
    is_one_of_many: bool,
}

impl Scene<'_> {
    /// One attempt at an endpoint; none when it waits for somebody who will say nothing.
    fn attempt(&mut self, endpoint: &Wire) -> Option<Result<Done, Fault>> {
        let worker = &*self.house.worker;
        self.exchange.begin_attempt(worker.now());
        let (side, rest, _) = self.exchange.split();
        *side = match self.is_one_of_many {
            true => ClientSide::one_of_many(),
            false => ClientSide::default(),
        };
        assert!(side.begin(rest.request, b"a", None, self.blocks));
        let mut io = endpoint.clone();
        let mut up = ClientExchange {
            side,
            io: &mut io,
            blocks: self.blocks,
        };
        let mut timer = Timer::new(&worker.wheel);
        let mut attempt = Attempt {
            around: Surroundings {
                worker,
                blocks: self.blocks,
                timer: &mut timer,
                patience: Patience {
                    body_idle: LONG,
                    body_rate: 0,
                    first_byte: LONG,
                    stream_idle: LONG,
                    send_idle: LONG,
                    send_rate: 0,
                    request_deadline: Ticks::NEVER,
                    is_clients: false,
                },
                route: &self.house.route,
                listener: None,
                body_limit: self.body_limit,
            },
            rest,
            reporter: None,
            up: &mut up,
            down: &mut self.down,
            keep_body: self.may_repeat,
            may_repeat: self.may_repeat,
        };
        run(&[self.client, endpoint], poll_fn(|cx| attempt.poll(cx)))
    }

    /// What is left of the response goes to the client without the endpoint.
    fn deliver(&mut self) -> Option<Result<(), Fault>> {
        let Exchange {
            side,
            progress,
            compressing,
            ..
        } = &mut self.exchange;
        let mut rest = AtHand(&mut side.incoming);
        let mut pass = Pass {
            down: &mut self.down,
            compressing,
            progress,
            is_grpc: false,
        };
        run(&[self.client], poll_fn(|cx| pass.poll(cx, &mut rest)))
    }
}

/// A request as an endpoint sees it: none when its head is not whole.
fn seen(wire: &Wire) -> Option<reference::Response> {
    let bytes = wire.output();
    let line = bytes.windows(2).position(|at| at == b"\r\n")?;
    // The same grammar but for the first line; without a length it has no body.
    let rest = &bytes[line..];
    let mut seen = reference::response(&[b"HTTP/1.1 200 OK", rest].concat(), false, true)?;
    if seen.field("content-length").is_none() && seen.field("transfer-encoding").is_none() {
        assert!(seen.body.is_empty(), "more was sent than was meant");
        seen.complete = true;
    }
    Some(seen)
}

/// What the client got of the final response: none when its head is not whole.
fn got(wire: &Wire, meant: &Meant) -> Option<reference::Response> {
    let bytes = wire.output();
    let mut rest = &bytes[..];
    loop {
        let response = reference::response(rest, meant.is_head, false)?;
        if response.status >= 200 {
            assert!(
                !response.complete || response.length == rest.len(),
                "more than was meant"
            );
            return Some(response);
        }
        rest = &rest[response.length..];
    }
}

/// What an endpoint got of a request is what was meant, or visibly a part of it.
fn check_request(endpoint: &Wire, meant: &Meant) -> bool {
    let Some(seen) = seen(endpoint) else {
        return false;
    };
    assert!(meant.body.starts_with(&seen.body), "another body");
    assert!(
        !seen.complete || seen.body == meant.body,
        "a part looks whole"
    );
    seen.complete
}

fn check_answered(scene: &mut Scene<'_>, endpoint: &Wire, meant: &Meant, reusable: bool) {
    let is_whole = check_request(endpoint, meant);
    let was_sent = scene.exchange.progress.request_sent;
    assert!(is_whole || !was_sent, "it counts as sent");
    if reusable {
        assert!(
            was_sent && meant.stays,
            "a connection that ends is used again"
        );
        assert_eq!(
            endpoint.unread(),
            meant.surplus,
            "something of an answer is left on it"
        );
    }
    if scene.exchange.progress.delivering {
        // The client takes again what it is given; the endpoint's connection is somebody else's by now.
        scene.client.limit_output(usize::MAX, Then::Reset);
        assert_eq!(scene.deliver(), Some(Ok(())));
    }
    let got = got(scene.client, meant).expect("a response");
    assert!(got.complete, "the end is missing");
    assert!(got.body == meant.answer_body, "another body");
    assert_eq!(got.trailers.len(), usize::from(meant.has_trailers));
    let bytes = scene.exchange.progress.response_bytes;
    assert_eq!(bytes, meant.answer_body.len() as u64);
}

fn check_failed(scene: &mut Scene<'_>, endpoint: &Wire, meant: &Meant, fault: Fault) {
    let is_whole = check_request(endpoint, meant);
    if fault.sent == Sent::None && fault.side == Side::Upstream {
        assert!(endpoint.output().is_empty(), "some of it was sent");
    }
    if let Some(got) = got(scene.client, meant) {
        assert!(meant.answer_body.starts_with(&got.body), "another body");
        let all_of_it = got.body == meant.answer_body;
        assert!(!got.complete || all_of_it, "cut off, and looks whole");
    }
    // As the way does: again, where nothing was sent, or it may be repeated.
    let progress = &scene.exchange.progress;
    let silent = !progress.any_received && !progress.interim_forwarded;
    let again = fault.side == Side::Upstream
        && silent
        && !scene.down.has_responded()
        && (fault.sent == Sent::None || scene.may_repeat);
    let exchange = &mut scene.exchange;
    let framed = exchange.request.length == BodyLength::Unknown;
    let outgoing = &exchange.side.outgoing.buffer;
    let kept = exchange.replay.recover(outgoing, framed, scene.blocks);
    if !again || !kept {
        return;
    }
    assert!(scene.may_repeat || !is_whole);
    let another = Wire::new(7, b"", Then::Silence, meant.bytes());
    another.feed(meant.request_bytes(), &meant.answer, meant.then());
    let length = meant.body.len() as u64;
    scene.body_limit = Some(length);
    match scene.attempt(&another) {
        Some(Ok(Done::Answered { reusable })) => {
            let progress = &scene.exchange.progress;
            // It may have answered before it had all.
            assert!(!progress.request_sent || progress.request_bytes == length);
            check_answered(scene, &another, meant, reusable);
        }
        other => panic!("{other:?} at an endpoint that is well"),
    }
}

/// An attempt in which this breaks.
fn simulate(
    house: &House,
    seed: u64,
    meant: &Meant,
    broken: Break,
    wires: impl Fn(&[u8], Then) -> Wire,
) {
    let ledger = Ledger::new(64 << 20);
    let blocks = Blocks::new(Arc::clone(&ledger));
    let client = match broken {
        Break::Client(at, then) => wires(&meant.request[..at], then),
        _ => wires(&meant.request, Then::Silence),
    };
    let endpoint = wires(b"", Then::Silence);
    match broken {
        Break::Endpoint(at, then) => endpoint.feed(meant.after, &meant.answer[..at], then),
        Break::EndpointTakes(at) if at < meant.after => endpoint.feed(at, b"", Then::Reset),
        Break::EndpointTakes(_) => endpoint.feed(meant.after, &meant.answer, Then::Reset),
        _ => endpoint.feed(meant.after, &meant.answer, meant.then()),
    }
    match broken {
        Break::EndpointTakes(at) => endpoint.limit_output(at, Then::Reset),
        Break::ClientTakes(at, then) => client.limit_output(at, then),
        _ => {}
    }
    let mut scene = Scene {
        house,
        blocks: &blocks,
        down: ServerConnection::new(client.clone(), Arc::clone(&blocks), Limits::default()),
        client: &client,
        exchange: Exchange::default(),
        may_repeat: meant.may_repeat,
        body_limit: None,
        is_one_of_many: seed.is_multiple_of(2),
    };
    let (down, request) = (&mut scene.down, &mut scene.exchange.request);
    if run(&[&client], poll_fn(|cx| down.poll_head(cx, request))) != Some(Ok(())) {
        assert!(matches!(broken, Break::Client(..)), "the request is well");
        return;
    }
    request.fields.remove_hop_by_hop();
    match scene.attempt(&endpoint) {
        Some(Ok(Done::Answered { reusable })) => {
            check_answered(&mut scene, &endpoint, meant, reusable);
        }
        Some(Err(fault)) => {
            assert_ne!(broken, Break::Nothing, "{fault:?}");
            check_failed(&mut scene, &endpoint, meant, fault);
        }
        Some(Ok(other)) => panic!("{other:?}"),
        None => {
            check_request(&endpoint, meant);
            assert!(
                broken.is_silence() && !meant.is_released(broken),
                "it waits for nobody: {broken:?}"
            );
        }
    }
    drop(scene);
    assert_eq!(ledger.used_bytes(), 0, "blocks are left behind");
}

#[test]
fn what_is_meant_arrives_or_is_visibly_cut_off() {
    let house = House::new();
    over_seeds(6_000, |seed| {
        let mut random = Random::from_seed(seed);
        let meant = Meant::new(&mut random, 40_000);
        let broken = Break::new(&mut random, &meant);
        let bytes = meant.bytes();
        simulate(&house, seed, &meant, broken, |input, then| {
            Wire::new(seed, input, then, bytes)
        });
    });
}

/// Small exchanges of every kind, broken at every byte in every way, in pieces of several sizes.
#[test]
fn every_byte_is_a_place_to_break() {
    let house = House::new();
    over_seeds(24, |seed| {
        let mut random = Random::from_seed(seed);
        let meant = Meant::new(&mut random, 60);
        for piece in [1, 7, 1 << 20] {
            for broken in Break::all(&meant) {
                simulate(&house, seed, &meant, broken, |input, then| {
                    Wire::in_pieces(piece, input, then)
                });
            }
        }
    });
}

/// A body that nobody wants keeps the worker for a turn: what is left of it is not parsed.
#[test]
fn a_body_that_nobody_wants_is_passed_over_for_a_turn() {
    for (chunks, goes_on) in [(0, true), (1_000, true), (1_100, false), (100_000, false)] {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let input = format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(chunks));
        let wire = Wire::in_pieces(1 << 20, input.as_bytes(), Then::Silence);
        let blocks = Blocks::new(Ledger::new(1 << 20));
        let mut down = ServerConnection::new(wire.clone(), blocks, Limits::default());
        let mut request = RequestHead::default();
        let head = run(&[&wire], poll_fn(|cx| down.poll_head(cx, &mut request)));
        assert_eq!(head, Some(Ok(())));
        run(&[&wire], respond::abandon_request_body(&mut down)).expect("it waits for nobody");
        assert_eq!(down.can_continue(), goes_on, "{chunks}");
    }
}
