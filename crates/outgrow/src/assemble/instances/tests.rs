//! Instances against a real registry; the keeper and the checks are played.

use std::time::Duration;

use outgrow_core::settings::Address;
use outgrow_core::{Random, Ticks};
use outgrow_upstream::{Outcome, Permit, Recollection, Service};

use super::super::compile;
use super::super::discover::Discoveries;
use super::*;
use crate::config::{Surroundings, load};

fn at(seconds: u64) -> Ticks {
    Ticks::ZERO + Duration::from_secs(seconds)
}

/// A configuration with the service web: two instances of `command`, and what else is set.
fn config(command: &str, more: &str) -> Config {
    parsed(&format!(
        "[service.web]\ncommand = \"{command}\"\ninstances = 2\n{more}\n[route.r]\nservice = \"web\""
    ))
}

fn parsed(tables: &str) -> Config {
    let text = format!("[listener.l]\naddress = \"127.0.0.1:80\"\n{tables}");
    let surroundings = Surroundings {
        environment: &|_| None,
        readable: &|_| Ok(()),
        machine: None,
    };
    load(&text, &surroundings)
        .expect("a good configuration")
        .config
}

struct House {
    registry: Registry,
    instances: Instances,
    handover: Option<Handover>,
}

impl House {
    fn new(config: &Config) -> Self {
        let mut house = Self {
            registry: Registry::new(1),
            instances: Instances::new(1, Deploys::default()),
            handover: None,
        };
        house.apply(config);
        house
    }

    /// The data process after this one.
    fn successor(&self, config: &Config, now: Ticks) -> Self {
        let handover = Handover::new(&self.registry, &self.instances, now);
        let DataMessage::Keep { key, value } = handover.message() else {
            panic!("it is kept");
        };
        let hello = serde_json::json!({
            "generation": 2, "protocol": 1, "version": "1", "keeper": 1, "upgrade": true,
            "listeners": [], "instances": [], "kept": { key: value },
        });
        let hello = serde_json::from_value(hello).expect("a hello");
        let mut house = Self::new(config);
        house.handover = Handover::from_keeper(&hello);
        assert_eq!(house.handover, Some(handover));
        for known in self.instances.all() {
            let report = known.report.clone();
            let handover = house.handover.as_ref();
            house
                .instances
                .inherit(report, handover, &house.registry, at(0));
        }
        house
    }

    fn apply(&mut self, config: &Config) {
        compile::services(config, &self.registry, &Discoveries::default(), at(0));
        self.instances.configure(config, 1);
    }

    fn web(&self) -> std::sync::Arc<Service> {
        self.registry.service("web").expect("it is configured")
    }

    /// What the keeper is told, in short.
    fn steps(&mut self, now: Ticks) -> Vec<String> {
        let messages = self.instances.steps(&self.registry, now);
        let text = |message: &DataMessage| match message {
            DataMessage::StartInstance { spec } => format!("start {}", spec.name),
            DataMessage::StopInstance { id } => {
                format!("stop {}", self.instances.known[id].report.spec.name)
            }
            DataMessage::RestartInstance { id, .. } => {
                format!("restart {}", self.instances.known[id].report.spec.name)
            }
            message => format!("{message:?}"),
        };
        messages.iter().map(text).collect()
    }

    /// The newest instance of that name gets into a state; a running one has its port as its pid.
    fn report(&mut self, name: &str, state: InstanceState, port: u16, now: Ticks) {
        let of_name = |known: &&Known| known.report.spec.name == name;
        let known = self.instances.all().filter(of_name).last();
        let mut report = known.expect("it was started").report.clone();
        let runs = state == InstanceState::Running;
        report.state = state;
        report.address = runs.then(|| format!("127.0.0.1:{port}"));
        report.pid = runs.then_some(u32::from(port));
        report.shim = report.pid;
        self.instances.note(report, &self.registry, now);
    }

    fn runs(&mut self, name: &str, port: u16, now: Ticks) {
        self.report(name, InstanceState::Running, port, now);
    }

    /// Its checks pass for the first time.
    fn comes_up(&self, port: u16, now: Ticks) {
        let up = Recollection {
            address: Address::tcp("127.0.0.1", port),
            instance: None,
            health: Health::Up,
            reason: None,
            ejected_for: None,
            ejected_because: None,
            ejections_in_a_row: 0,
        };
        self.web().recall(&up, now);
    }

    /// It fails so many requests that it gets none for a while.
    fn is_ejected(&self, port: u16, now: Ticks) {
        let set = self.web().endpoints().load();
        let address = Address::tcp("127.0.0.1", port);
        let endpoint = set.all.iter().find(|one| *one.address() == address);
        for _ in 0..5 {
            endpoint
                .expect("an endpoint")
                .report(Outcome::ServerError, now);
        }
    }

    fn used(&self) -> Vec<String> {
        let set = self.web().endpoints().load();
        let mut used: Vec<_> = set
            .usable
            .iter()
            .map(|one| one.label().to_owned())
            .collect();
        used.sort();
        used
    }

    fn is_expected(&self) -> bool {
        self.web().endpoints().load().expected
    }

    fn permit(&self, now: Ticks) -> Permit {
        let web = self.web();
        let mut view = web.view(0);
        web.choose(
            &mut view,
            now,
            &mut Random::from_seed(1),
            outgrow_upstream::Wish::default(),
        )
        .expect("an endpoint")
    }

    fn ready(&self) -> Vec<&str> {
        let ready = self.instances.all().filter(|known| known.ready);
        ready.map(|known| known.report.spec.name.as_str()).collect()
    }
}

/// Two instances that are ready and have been for a while, at second 10.
fn two_ready(config: &Config) -> House {
    let mut house = House::new(config);
    assert_eq!(house.steps(at(0)), ["start web.1", "start web.2"]);
    for (name, port) in [("web.1", 1), ("web.2", 2)] {
        house.runs(name, port, at(0));
        house.comes_up(port, at(0));
    }
    assert_eq!(house.steps(at(0)), Vec::<String>::new());
    assert_eq!(house.steps(at(10)), Vec::<String>::new());
    house
}

#[test]
fn ready_is_what_the_checks_say_now() {
    let mut house = two_ready(&config("serve", ""));
    assert_eq!(house.ready(), ["web.1", "web.2"]);
    assert!(house.instances.take_changed());
    house.is_ejected(2, at(11));
    house.steps(at(11));
    assert_eq!(house.ready(), ["web.1"]);
    assert!(house.instances.take_changed(), "it is shown");
    house.registry.tick(at(30));
    house.steps(at(30));
    assert_eq!(house.ready(), ["web.1", "web.2"]);
    assert_eq!(house.steps(at(1_000)), Vec::<String>::new());
}

#[test]
fn one_that_was_never_ready_is_not_ready_in_the_next_data_process() {
    let config = config("serve", "start_timeout = \"30s\"");
    let mut house = House::new(&config);
    house.steps(at(0));
    house.runs("web.1", 1, at(0));
    house.runs("web.2", 2, at(0));
    house.comes_up(1, at(0));
    house.steps(at(1));
    let mut next = house.successor(&config, at(1));
    assert_eq!(next.used(), ["127.0.0.1:1"]);
    assert_eq!(next.steps(at(0)), Vec::<String>::new());
    assert_eq!(next.ready(), ["web.1"]);
    assert_eq!(next.steps(at(31)), ["restart web.2"], "start_timeout");

    // Another process at the same address is another one.
    let mut report = next.instances.all().next().expect("web.1").report.clone();
    report.pid = Some(77);
    let mut other = House::new(&config);
    let handover = next.handover.as_ref();
    other
        .instances
        .inherit(report.clone(), handover, &other.registry, at(0));
    assert_eq!(other.used(), Vec::<String>::new());

    // A version that told nothing: used until its first check.
    let mut after_old = House::new(&config);
    after_old
        .instances
        .inherit(report, None, &after_old.registry, at(0));
    assert_eq!(after_old.used(), ["127.0.0.1:1"]);
}

#[test]
fn a_new_version_must_stay_ready_before_the_next_is_replaced() {
    let mut house = two_ready(&config("serve", ""));
    house.apply(&config("serve --new", ""));
    assert_eq!(house.steps(at(20)), ["start web.3"]);
    house.runs("web.3", 3, at(20));
    house.comes_up(3, at(20));
    assert_eq!(house.steps(at(20)), Vec::<String>::new());
    house.is_ejected(3, at(21));
    assert_eq!(house.steps(at(25)), Vec::<String>::new(), "ready for 1 s");
    house.registry.tick(at(31));
    assert_eq!(house.steps(at(31)), Vec::<String>::new());
    assert_eq!(house.steps(at(33)), Vec::<String>::new());
    assert_eq!(house.steps(at(34)), ["start web.4", "stop web.2"]);
    assert_eq!(house.used(), ["127.0.0.1:1", "127.0.0.1:3"]);
}

/// It gets ready each time, fails its first requests, and is ejected for longer and longer.
#[test]
fn a_new_version_that_is_ejected_again_and_again_is_given_up() {
    for more in ["", "deploy = { canary = 1 }"] {
        let mut house = two_ready(&config("serve", more));
        house.apply(&config("serve --new", more));
        assert_eq!(house.steps(at(20)), ["start web.3"], "{more}");
        house.runs("web.3", 3, at(20));
        house.comes_up(3, at(20));
        house.steps(at(20));
        for (second, end) in [(21, 32), (33, 54)] {
            house.is_ejected(3, at(second));
            assert_eq!(house.steps(at(second)), Vec::<String>::new(), "{more}");
            house.registry.tick(at(end));
            assert_eq!(house.steps(at(end)), Vec::<String>::new());
            assert!(house.ready().contains(&"web.3"), "it gets requests again");
        }
        house.is_ejected(3, at(55));
        let last = [house.steps(at(55)), house.steps(at(56))].concat();
        let told = house.instances.standings()["web"].word;
        assert_eq!(told, "rolled_back", "{more}");
        assert_eq!(house.ready(), ["web.1", "web.2"]);
        assert_eq!(last, ["stop web.3"], "{more}");
    }
}

#[test]
fn a_reload_does_not_begin_a_canary_anew() {
    let canary = "deploy = { canary = 1, observe = \"60s\" }";
    let mut house = two_ready(&config("serve", canary));
    house.apply(&config("serve --new", canary));
    assert_eq!(house.steps(at(20)), ["start web.3"]);
    house.runs("web.3", 3, at(20));
    house.comes_up(3, at(20));
    house.steps(at(20));
    assert_eq!(house.steps(at(30)), Vec::<String>::new(), "it is watched");
    house.apply(&config(
        "serve --new",
        &format!("{canary}\ndrain_timeout = \"9s\""),
    ));
    assert_eq!(house.steps(at(300)), Vec::<String>::new());
    // Without requests it goes on after five times 60 s: from 30 on, not from 300.
    assert_eq!(house.steps(at(331)), ["start web.4", "stop web.2"]);
    house.apply(&config("serve --new", canary));
    assert_eq!(house.steps(at(332)), Vec::<String>::new());
    house.runs("web.4", 4, at(332));
    house.comes_up(4, at(332));
    house.steps(at(332));
    assert_eq!(house.steps(at(340)), ["stop web.1"], "it has passed");
}

#[test]
fn instances_of_a_service_that_is_gone_finish_their_requests() {
    let mut house = two_ready(&config("serve", ""));
    let permit = house.permit(at(10));
    house.apply(&parsed("[route.r]\nrespond = { status = 204 }"));
    let address = permit.endpoint().label().to_owned();
    let (stays, goes) = if address.ends_with(":1") {
        ("web.1", "web.2")
    } else {
        ("web.2", "web.1")
    };
    assert_eq!(house.steps(at(11)), [format!("stop {goes}")]);
    house.registry.tick(at(12));
    assert_eq!(house.steps(at(12)), Vec::<String>::new());
    drop(permit);
    house.registry.tick(at(13));
    assert_eq!(house.steps(at(13)), [format!("stop {stays}")]);
}

#[test]
fn a_drain_has_its_limit() {
    let mut house = two_ready(&config("serve", "drain_timeout = \"5s\""));
    let _permits = [house.permit(at(10)), house.permit(at(10))];
    house.apply(&config("serve --new", "drain_timeout = \"5s\""));
    house.steps(at(20));
    house.runs("web.3", 3, at(20));
    house.comes_up(3, at(20));
    house.steps(at(20));
    house.steps(at(30));
    assert_eq!(house.steps(at(34)), Vec::<String>::new());
    assert_eq!(house.steps(at(35)), ["stop web.2"]);
}

#[test]
fn requests_wait_for_what_is_about_to_come() {
    let mut house = House::new(&config("serve", "timeouts = { queue = \"5s\" }"));
    assert!(house.is_expected(), "before anything was looked at");
    house.steps(at(0));
    assert!(house.is_expected());
    let both = |house: &mut House, state: &InstanceState, now| {
        house.report("web.1", state.clone(), 0, now);
        house.report("web.2", state.clone(), 0, now);
        house.steps(now);
        house.is_expected()
    };
    let exited = InstanceState::Exited {
        exit: outgrow_fleet::protocol::Exit::Code { code: 1 },
    };
    assert!(both(&mut house, &exited, at(1)));
    let soon = InstanceState::Backoff { delay_ms: 4_000 };
    assert!(both(&mut house, &soon, at(2)));
    let later = InstanceState::Backoff { delay_ms: 20_000 };
    assert!(!both(&mut house, &later, at(3)));
    house.steps(at(18));
    assert!(house.is_expected(), "now it is soon");
    let crash_loop = InstanceState::CrashLoop { delay_ms: 4_000 };
    assert!(!both(&mut house, &crash_loop, at(30)));
    house.runs("web.1", 1, at(34));
    house.steps(at(34));
    assert!(house.is_expected(), "one runs");
}

#[test]
fn it_is_told_early_why_one_is_not_ready() {
    let mut house = House::new(&config("serve", ""));
    house.steps(at(0));
    house.runs("web.1", 1, at(0));
    house.runs("web.2", 2, at(0));
    house.comes_up(2, at(0));
    house.steps(at(0));
    assert_eq!(house.instances.puzzles(at(4)), []);
    let puzzles = house.instances.puzzles(at(5));
    let expected = Puzzle {
        id: puzzles[0].id,
        name: "web.1".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        shim: 1,
    };
    assert_eq!(puzzles, [expected]);
    assert_eq!(house.instances.puzzles(at(6)), [], "asked already");
    assert_eq!(house.instances.puzzles(at(10)).len(), 1, "and again");

    house.report("web.2", InstanceState::CrashLoop { delay_ms: 1 }, 2, at(10));
    house.steps(at(10));
    assert!(house.is_expected());
    let why = Diagnosis {
        sentence: "web.1 listens on 3000, not on PORT=1".to_owned(),
        elsewhere: true,
    };
    house
        .instances
        .solve(&puzzles[0], Some(why), &house.registry);
    house.steps(at(10));
    assert!(!house.is_expected(), "waiting for it is in vain");
    let messages = house.instances.steps(&house.registry, at(60));
    assert!(
        matches!(&messages[0], DataMessage::RestartInstance { reason, never_ready: true, .. }
            if reason.contains("listens on 3000")),
        "{messages:?}"
    );
}

#[test]
fn an_instance_is_not_stopped_under_the_requests_of_an_earlier_process() {
    let old_config = config("serve", "");
    let house = two_ready(&old_config);
    let permit = house.permit(at(10));
    let busy = house.instances.in_flight(&house.registry);
    assert_eq!(busy.len(), 1);
    let mut next = house.successor(&old_config, at(10));
    next.apply(&parsed("[route.r]\nrespond = { status = 204 }"));
    assert_eq!(next.steps(at(0)), Vec::<String>::new());
    assert_eq!(
        next.steps(at(1)),
        Vec::<String>::new(),
        "none has said so yet"
    );
    next.instances.note_elsewhere(busy.clone());
    assert_eq!(next.steps(at(3)).len(), 1, "one has no requests");
    assert_eq!(next.steps(at(20)), Vec::<String>::new());
    drop(permit);
    assert_eq!(house.instances.in_flight(&house.registry), []);
    next.instances.note_elsewhere(Vec::new());
    let name = &next.instances.known[&busy[0]].report.spec.name;
    let expected = format!("stop {name}");
    assert_eq!(next.steps(at(20)), [expected]);
}
