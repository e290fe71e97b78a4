//! Three boxes that run `examples/stages/4-boxes.toml`, each with an etcd, under load throughout:
//! what the loss of an instance, a box, an edge and the registry costs.
//!
//! Two groups of shoppers: one uses the floating address, the other one the addresses of all boxes,
//! as a name with several has. All requests may be repeated.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use outgrow_shop::shoppers::{Kind, Plan, Shoppers};
use outgrow_testkit::boxes::Boxes;
use outgrow_testkit::outgrow::{Launch, Outgrow};
use outgrow_testkit::wait;
use rustix::process::{Pid, Signal, kill_process};

use super::registry::Registry;
use super::{LIMIT, PUBLIC, at, plan, shoppers};
use crate::shop;

/// The boxes with the addresses of the file; the second one is the database's, which the shop does
/// not have.
const BOXES: [u8; 3] = [0, 2, 3];
/// Where the shoppers are.
const CLIENTS: u8 = 4;
/// In each group, with one request in flight each.
const SHOPPERS: usize = 6;

/// What an event cost one group.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    requests: u64,
    failed: u64,
    truncated: u64,
    /// The longest time in which the group got no answer.
    silence: Duration,
}

impl fmt::Display for Cost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} requests, {} failed, {} cut off, longest silence {} ms",
            self.requests,
            self.failed,
            self.truncated,
            self.silence.as_millis()
        )
    }
}

struct Three {
    boxes: Boxes,
    registry: Registry,
    running: Vec<(u8, Outgrow)>,
    floating: Shoppers,
    named: Shoppers,
}

/// The stage's file, with the shop instead of the guest book.
fn config() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/stages/4-boxes.toml");
    let text = fs::read_to_string(file).expect("the stage's file");
    let (before, rest) = text.split_once("[service.database]").expect("a database");
    let (_, after) = rest.split_once("[route.own]").expect("a route");
    let text = format!("{before}[route.own]{after}");
    let environment = text.lines().find(|line| line.starts_with("environment"));
    text.replace(environment.expect("a line"), "")
        .replace("[\"python3\", \"app.py\"]", &shop::command())
        .replace(
            "service = \"own\"\n\n",
            "service = \"own\"\nidempotency_key = true\n\n",
        )
        .replace(
            "service = \"app\"\n\n",
            "service = \"app\"\nidempotency_key = true\n\n",
        )
}

fn start(boxes: &Boxes, index: u8) -> Outgrow {
    let address = boxes.address(index).to_string();
    let launch = Launch::config(&config()).environment("BOX", &address);
    boxes.inside(index, || launch.start().expect("outgrow starts"))
}

impl Three {
    fn start() -> Self {
        let boxes = Boxes::new(CLIENTS + 1).expect("boxes");
        let registry = Registry::start(&boxes, &BOXES);
        let running: Vec<_> = BOXES.map(|index| (index, start(&boxes, index))).into();
        let floating = SocketAddr::new(boxes.floating(), PUBLIC);
        let named = BOXES.map(|index| at(&boxes, index, PUBLIC));
        let group = |addresses: &[SocketAddr], seed| Plan {
            shoppers: SHOPPERS,
            mix: vec![
                (Kind::Home, 25),
                (Kind::Product, 45),
                (Kind::Checkout, 10),
                (Kind::Report, 2),
                (Kind::Bytes(50_000), 5),
                (Kind::Chunked(10_000), 5),
            ],
            seed,
            ..plan(addresses)
        };
        // Not before all of them know each other and one has the address.
        let known = || {
            running
                .iter()
                .all(|(index, outgrow)| knows_all(&boxes, *index, outgrow))
                .then_some(())
        };
        wait::until("the boxes know each other", LIMIT, known).expect("known");
        let three = Self {
            floating: shoppers(&boxes, CLIENTS, group(&[floating], 1)),
            named: shoppers(&boxes, CLIENTS, group(&named, 2)),
            boxes,
            registry,
            running,
        };
        three.settle();
        three
    }

    /// The box that has the floating address.
    fn leader(&self) -> u8 {
        let leads = || {
            let mut all = self.running.iter();
            let found = all.find(|(index, outgrow)| {
                let state = self.boxes.inside(*index, || shop::try_state(outgrow));
                state.is_some_and(|state| state["leader"]["leader"] == true)
            });
            found.map(|(index, _)| *index)
        };
        wait::until("somebody leads", LIMIT, leads).expect("a leader")
    }

    /// A box that does not have it.
    fn follower(&self) -> u8 {
        let leader = self.leader();
        let mut others = BOXES.into_iter().filter(|index| *index != leader);
        others.next_back().expect("another box")
    }

    /// Waits until every box sees every box and both groups are answered.
    fn settle(&self) {
        let known = || {
            let mut all = self.running.iter();
            all.all(|(index, outgrow)| knows_all(&self.boxes, *index, outgrow))
                .then_some(())
        };
        wait::until("the boxes know each other", LIMIT, known).expect("known");
        self.leader();
        self.watch(Duration::from_secs(1));
    }

    /// Both groups' costs, from now until it has been this long and both were answered for the last
    /// second without a pause of more than half of one.
    fn watch(&self, least: Duration) -> [Cost; 2] {
        let groups = [&self.floating, &self.named];
        let counts = || groups.map(|group| group.totals().all());
        let before = counts();
        let began = Instant::now();
        let mut known = before.clone();
        let mut since = [began; 2];
        let mut silence = [Duration::ZERO; 2];
        let mut calm = began;
        let watched = wait::until("both groups are answered", LIMIT, || {
            let now = counts();
            for group in 0..2 {
                let pause = since[group].elapsed();
                silence[group] = silence[group].max(pause);
                if now[group].ok > known[group].ok {
                    since[group] = Instant::now();
                } else if pause > Duration::from_millis(500) {
                    calm = Instant::now();
                }
            }
            known = now;
            let enough = began.elapsed() > least && calm.elapsed() > Duration::from_secs(1);
            enough.then_some(())
        });
        watched.expect("answers");
        let cost = |group: usize| Cost {
            requests: known[group].requests - before[group].requests,
            failed: known[group].failed - before[group].failed,
            truncated: known[group].truncated - before[group].truncated,
            silence: silence[group],
        };
        [cost(0), cost(1)]
    }

    /// Does it, and tells what it cost. `lost`: most requests of each group that were in flight on
    /// what died.
    fn event(&mut self, what: &str, lost: [u64; 2], done: impl FnOnce(&mut Self)) {
        done(self);
        // As long as a shopper waits: what was in flight is known by then.
        let costs = self.watch(Duration::from_secs(11));
        eprintln!(
            "{what}: floating address: {}; names: {}",
            costs[0], costs[1]
        );
        for (cost, lost) in costs.iter().zip(lost) {
            let cut = cost.failed + cost.truncated;
            assert!(
                cut <= lost,
                "{what}: {cut} failed or cut off, at most {lost} were in flight on what died\n{}",
                self.complaints()
            );
            assert!(cost.silence < Duration::from_secs(10), "{what}: {costs:?}");
        }
    }

    fn complaints(&self) -> String {
        let mut text = format!(
            "floating: {}\nnames: {}",
            self.floating.totals().complaints(30),
            self.named.totals().complaints(30)
        );
        for (index, outgrow) in &self.running {
            text.push_str(&format!("\nbox {index}:\n{}", outgrow.stderr()));
        }
        text
    }

    fn kill_instances(&self) {
        for (_, outgrow) in &self.running {
            kill(&outgrow.pids().instances[..1]);
        }
    }

    /// Pulls the cable and kills everything behind it, as a loss of power does.
    fn kill_box(&mut self, index: u8) {
        self.boxes.cut(index).expect("cut");
        self.registry.kill_member(index);
        self.kill_edge(index);
    }

    /// Kills every process of the box's outgrow at once.
    fn kill_edge(&mut self, index: u8) {
        let place = self.running.iter().position(|(known, _)| *known == index);
        let (_, outgrow) = self.running.remove(place.expect("it runs"));
        let all: Vec<u32> = outgrow.all_processes().iter().map(|one| one.pid).collect();
        kill(&all);
        wait::until("all are gone", LIMIT, || {
            outgrow.all_processes().is_empty().then_some(())
        })
        .expect("gone");
    }

    /// Starts what was killed in a box.
    fn revive(&mut self, index: u8, whole: bool) {
        if whole {
            self.registry.start_member(&self.boxes, index);
            // A machine that was without power has no address that came later.
            self.boxes.forget_floating(index).expect("forgotten");
            self.boxes.join(index).expect("joined");
            self.registry.wait(&self.boxes);
        }
        let outgrow = start(&self.boxes, index);
        self.running.push((index, outgrow));
        self.settle();
    }
}

/// Whether a box can use all three.
fn knows_all(boxes: &Boxes, index: u8, outgrow: &Outgrow) -> bool {
    let state = boxes.inside(index, || shop::try_state(outgrow));
    let services = state.and_then(|state| state["services"].as_array().cloned());
    let app = services.and_then(|all| all.into_iter().find(|one| one["name"] == "app"));
    let endpoints = app.and_then(|app| app["endpoints"].as_array().cloned());
    endpoints
        .is_some_and(|all| all.len() == BOXES.len() && all.iter().all(|one| one["usable"] == true))
}

fn kill(pids: &[u32]) {
    for pid in pids {
        let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
        // It may have ended with another one.
        let _gone = kill_process(pid.expect("a pid"), Signal::KILL);
    }
}

#[test]
fn any_instance_box_edge_and_the_registry_may_die() {
    let mut three = Three::start();
    let each = SHOPPERS as u64;
    three.event("an instance on each box", [0, 0], |three| {
        three.kill_instances()
    });
    three.settle();

    let dead = three.follower();
    three.event("a box without the address", [each, each], |three| {
        three.kill_box(dead)
    });
    three.event("the box comes back", [0, 0], |three| {
        three.revive(dead, true)
    });

    let dead = three.leader();
    three.event("the box with the address", [each, each], |three| {
        three.kill_box(dead)
    });
    three.event("the box comes back", [0, 0], |three| {
        three.revive(dead, true)
    });

    let dead = three.leader();
    three.event(
        "the edge with the address, kill -9",
        [each, each],
        |three| three.kill_edge(dead),
    );
    three.event("the edge comes back", [0, 0], |three| {
        three.revive(dead, false)
    });

    three.event("the registry", [0, 0], |three| {
        BOXES
            .iter()
            .for_each(|index| three.registry.kill_member(*index));
    });
    three.event(
        "an instance on each box, without a registry",
        [0, 0],
        |three| three.kill_instances(),
    );
    three.event("the registry comes back", [0, 0], |three| {
        BOXES
            .iter()
            .for_each(|index| three.registry.start_member(&three.boxes, *index));
        three.registry.wait(&three.boxes);
        three.settle();
    });

    // A stop is no death: nothing is lost at all.
    let stopped = three.leader();
    three.event("the edge with the address stops", [0, 0], |three| {
        let place = three
            .running
            .iter()
            .position(|(index, _)| *index == stopped);
        let (_, outgrow) = three.running.remove(place.expect("it runs"));
        outgrow.stop().expect("a clean stop");
    });
    let totals = [three.floating.totals(), three.named.totals()];
    eprintln!(
        "in all: {:?}",
        totals.each_ref().map(|one| one.all().requests)
    );
    for (_, outgrow) in three.running.drain(..) {
        outgrow.stop().expect("a clean stop");
    }
}
