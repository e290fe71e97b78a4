//! Anything is killed at any time, by a seed: what must always hold holds.

use std::collections::BTreeSet;

use crate::house::{Data, House, alive, kill};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The same seed gives the same disasters (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

const INSTANCES: u64 = 4;

/// How the instances are, by asking: the answer to a bind that must fail comes
/// after every report that was sent before.
struct Watched {
    data: Data,
    reports: std::collections::BTreeMap<u64, Value>,
}

impl Watched {
    fn new(data: Data, hello: &Value) -> Self {
        let mut watched = Self {
            data,
            reports: std::collections::BTreeMap::new(),
        };
        for report in hello["instances"].as_array().unwrap() {
            watched.note(report.clone());
        }
        watched
    }

    fn note(&mut self, report: Value) {
        self.reports
            .insert(report["spec"]["id"].as_u64().unwrap(), report);
    }

    fn pid(&self, id: u64, which: &str) -> Option<u32> {
        let report = self.reports.get(&id)?;
        (report["state"]["state"] == "running").then_some(())?;
        u32::try_from(report[which].as_u64()?).ok()
    }

    /// Reads everything that was said until now.
    fn catch_up(&mut self) {
        self.data
            .tell(&json!({"type": "bind", "key": "-", "address": "-", "sockets": 1}));
        loop {
            let event = self.data.next().expect("it lives");
            match event["type"].as_str() {
                Some("instance") => self.note(event),
                Some("bind_failed") => return,
                _ => {}
            }
        }
    }

    /// Waits until every instance runs.
    fn all_run(&mut self) {
        while (1..=INSTANCES).any(|id| self.pid(id, "pid").is_none_or(|pid| !alive(pid))) {
            let event = self.data.next().expect("it lives");
            if event["type"] == "instance" {
                self.note(event);
            }
        }
    }
}

fn disasters(seed: u64) {
    eprintln!("seed {seed}");
    let mut random = Random(seed);
    let mut house = House::start();
    let (mut data, hello) = house.serving();
    data.tell(&json!({"type": "set_limits", "stop_drain_ms": 200, "upgrade_drain_ms": 200}));
    let policy = json!({"first_ms": 1, "max_ms": 5, "crash_loop": 0});
    for id in 1..=INSTANCES {
        // A child in the group and a daemon outside of it each.
        let command = "setsid -f sleep 1000; sleep 1000 & exec sleep 1000";
        data.start_with(id, &json!(command), &[("restart", policy.clone())]);
    }
    let mut watched = Watched::new(data, &hello);
    watched.all_run();
    let mut deaths = 0;
    for _ in 0..40 {
        let id = random.below(INSTANCES) + 1;
        match random.below(6) {
            0 => watched
                .pid(id, "pid")
                .into_iter()
                .for_each(|pid| kill(pid, Signal::KILL)),
            1 | 2 => watched
                .pid(id, "shim")
                .into_iter()
                .for_each(|pid| kill(pid, Signal::KILL)),
            3 => watched
                .data
                .tell(&json!({"type": "restart_instance", "id": id, "reason": "chaos"})),
            // Each costs a longer delay than the one before.
            4 if deaths < 4 => {
                deaths += 1;
                kill(watched.data.pid, Signal::KILL);
                let (data, hello) = house.serving();
                watched = Watched::new(data, &hello);
            }
            _ => {
                house.signal(Signal::USR2);
                house.signal(Signal::HUP);
                let (data, hello) = house.serving();
                watched = Watched::new(data, &hello);
            }
        }
        watched.catch_up();
    }
    watched.all_run();
    // Each instance is what it was meant to be, and nothing else is there: the
    // keeper, the data process, and four processes per instance.
    let shims: BTreeSet<u32> = (1..=INSTANCES)
        .filter_map(|id| watched.pid(id, "shim"))
        .collect();
    assert_eq!(shims.len(), 4);
    assert_eq!(house.stop(&mut watched.data), Some(0));
    house.nothing_left();
}

#[test]
fn disasters_with_seed_1() {
    disasters(1);
}

#[test]
fn disasters_with_seed_2() {
    disasters(2);
}

#[test]
fn disasters_with_a_new_seed_each_time() {
    disasters(std::process::id().into());
}
