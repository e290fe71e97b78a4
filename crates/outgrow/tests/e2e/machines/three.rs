//! Three boxes that run `examples/stages/4-boxes.toml`, each with an etcd, under load throughout:
//! what the loss of an instance, a box, an edge and the registry costs.
//!
//! Two groups of shoppers: one uses the floating address, the other one the addresses of all boxes,
//! as a name with several has. All requests may be repeated.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use outgrow_shop::shoppers::{Kind, Plan, Reason, Shoppers, Totals};
use outgrow_testkit::boxes::{Boxes, BoxesError};
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

/// How long nobody may have the address: the lease's time, what its registry takes to choose a leader
/// of its own, and the command.
const AWAY: Duration = Duration::from_secs(12);
/// How long a probe of it may take.
const PROBE: Duration = Duration::from_millis(300);

/// What an event cost one group.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    requests: u64,
    /// Failed, but for those that could not connect.
    failed: u64,
    /// Could not connect.
    refused: u64,
    truncated: u64,
    /// The longest time in which the group got no answer.
    silence: Duration,
}

impl fmt::Display for Cost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} requests, {} failed, {} could not connect, {} cut off, longest silence {} ms",
            self.requests,
            self.failed,
            self.refused,
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
    fn start() -> Result<Self, BoxesError> {
        let boxes = Boxes::new(CLIENTS + 1)?;
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
        Ok(three)
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

    /// Waits until it has been this long and both groups were answered for the last second without a
    /// pause of more than half of one; gives the longest time in which each was not.
    fn watch(&self, least: Duration) -> [Duration; 2] {
        let groups = [&self.floating, &self.named];
        let counts = || groups.map(|group| group.totals().all().ok);
        let began = Instant::now();
        let (mut known, mut calm) = (counts(), began);
        let (mut since, mut silence) = ([began; 2], [Duration::ZERO; 2]);
        let watched = wait::until("both groups are answered", LIMIT, || {
            let now = counts();
            for group in 0..2 {
                let pause = since[group].elapsed();
                silence[group] = silence[group].max(pause);
                if now[group] > known[group] {
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
        silence
    }

    /// Does it, and tells what it cost. `lost`: most requests of each group that were in flight on
    /// what died and could not be repeated by anybody: failed, and cut off; and how many could not
    /// connect.
    fn event(&mut self, what: &str, lost: [[u64; 3]; 2], done: impl FnOnce(&mut Self)) {
        let totals = |three: &Self| [three.floating.totals(), three.named.totals()];
        let before = totals(self);
        done(self);
        let away = self.reachable_after();
        // As long as a shopper waits where something was in flight: it is known by then.
        let may_wait = lost.iter().any(|[failed, ..]| *failed > 0);
        let silence = self.watch(Duration::from_secs(if may_wait { 11 } else { 4 }));
        let after = totals(self);
        let cost = |group: usize| {
            let refused = |totals: &Totals| totals.reasons.get(&Reason::Connect).copied();
            let refused = |totals| refused(totals).unwrap_or(0);
            let (was, is) = (before[group].all(), after[group].all());
            let refused = refused(&after[group]) - refused(&before[group]);
            Cost {
                requests: is.requests - was.requests,
                failed: is.failed - was.failed - refused,
                refused,
                truncated: is.truncated - was.truncated,
                silence: silence[group],
            }
        };
        let costs = [cost(0), cost(1)];
        eprintln!(
            "{what}: address reachable again after {} ms; floating address: {}; names: {}",
            away.as_millis(),
            costs[0],
            costs[1]
        );
        for (cost, [failed, truncated, refused]) in costs.iter().zip(lost) {
            assert!(
                cost.failed <= failed && cost.truncated <= truncated && cost.refused <= refused,
                "{what}: at most {failed} and {truncated} were in flight on what died\n{}",
                self.complaints()
            );
        }
        assert!(
            away < AWAY,
            "{what}: away for {away:?}\n{}",
            self.complaints()
        );
    }

    /// How long it takes from now until a new connection to the floating address is answered.
    fn reachable_after(&self) -> Duration {
        let began = Instant::now();
        let to = SocketAddr::new(self.boxes.floating(), PUBLIC);
        let ask = || {
            let mut stream = TcpStream::connect_timeout(&to, PROBE).ok()?;
            stream.set_read_timeout(Some(PROBE)).ok()?;
            let head = b"HEAD /product/1 HTTP/1.1\r\nHost: a\r\n\r\n";
            stream.write_all(head).ok()?;
            (stream.read(&mut [0; 16]).ok()? > 0).then_some(())
        };
        let answered = self
            .boxes
            .inside(CLIENTS, || wait::until("the address answers", LIMIT, ask));
        answered.unwrap_or_else(|error| panic!("{error:?}\n{}", self.complaints()));
        began.elapsed()
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
fn any_instance_box_edge_and_the_registry_may_die() -> Result<(), BoxesError> {
    let mut three = Three::start()?;
    let each = SHOPPERS as u64;
    // Instances and boxes behind an edge: only a response that had begun is lost. An edge: what its
    // clients waited for. A return: nothing.
    let (nothing, begun, all) = ([[0; 3]; 2], [[0, each, 0]; 2], [[each, each, 0]; 2]);
    three.event("an instance on each box", begun, |three| {
        three.kill_instances();
    });
    three.settle();

    let dead = three.follower();
    let lost = [begun[0], all[1]];
    three.event("a box without the address", lost, |three| {
        three.kill_box(dead);
    });
    three.event("it comes back", nothing, |three| three.revive(dead, true));

    let dead = three.leader();
    three.event("the box with the address", all, |three| {
        three.kill_box(dead);
    });
    three.event("it comes back", nothing, |three| three.revive(dead, true));

    three.event("the registry", nothing, |three| {
        let members = BOXES.iter();
        members.for_each(|index| three.registry.kill_member(*index));
    });
    three.event(
        "an instance on each box, without a registry",
        begun,
        |three| {
            three.kill_instances();
        },
    );
    three.event("the registry comes back", nothing, |three| {
        let members = BOXES.iter();
        members.for_each(|index| three.registry.start_member(&three.boxes, *index));
        three.registry.wait(&three.boxes);
        three.settle();
    });

    // What is under way while an address moves cannot follow it; who has several loses nothing.
    let stopped = three.leader();
    let lost = [all[0], nothing[1]];
    three.event("the edge with the address stops", lost, |three| {
        let place = three
            .running
            .iter()
            .position(|(index, _)| *index == stopped);
        let (_, outgrow) = three.running.remove(place.expect("it runs"));
        outgrow.stop().expect("a clean stop");
    });
    three.event("it comes back", nothing, |three| {
        three.revive(stopped, false);
    });

    // All processes at once, on a machine that lives on: it refuses who knows its address only, for
    // as long as the lease lasts. The others find the next one.
    let dead = three.leader();
    let lost = [[each, each, u64::MAX], all[1]];
    three.event("the edge with the address, kill -9", lost, |three| {
        three.kill_edge(dead);
    });
    let totals = [three.floating.totals(), three.named.totals()];
    eprintln!(
        "in all: {:?}",
        totals.each_ref().map(|one| one.all().requests)
    );
    for (_, outgrow) in three.running.drain(..) {
        outgrow.stop().expect("a clean stop");
    }
    Ok(())
}
