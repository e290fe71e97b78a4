//! Registration as others see it: two boxes tell a registry where they are, and a third one, which
//! discovers them there, sends requests all the time.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::backend::Recorder;
use outgrow_testkit::consul::FakeConsul;
use outgrow_testkit::etcd::Etcd;
use outgrow_testkit::outgrow::{Launch, Outgrow};
use outgrow_testkit::ports;
use serde_json::Value;

use crate::discover::{self, Load, backends, service, wait_endpoints};
use crate::shop::SOON;
use crate::supervise::obedient;

/// A box in front of a backend, which tells `registry` its own listener.
fn start_box(name: &str, backend: &Recorder, registry: &str) -> Outgrow {
    let config = format!(
        r#"
[process]
name = "{name}"
zone = "z"
[listener.public]
address = "%public%"
[service.app]
endpoints = ["{}"]
[service.app.register]
{registry}
address = "%public%"
ttl = "2s"
[route.app]
service = "app"
"#,
        backend.address()
    );
    Outgrow::start(&config).expect("outgrow starts")
}

fn in_etcd(etcd: &Etcd) -> String {
    let server = etcd.address();
    format!("etcd = {{ servers = [\"http://{server}\"], prefix = \"/services/app/\" }}")
}

/// What is registered: names of boxes with addresses and weights.
fn registered(etcd: &Etcd) -> Vec<(String, Value)> {
    let list = etcd.list("/services/app/").expect("keys");
    let read = |(key, value): (String, String)| {
        let key = key.trim_start_matches("/services/app/").to_owned();
        (key, serde_json::from_str(&value).expect("JSON"))
    };
    list.into_iter().map(read).collect()
}

fn wait_registered(outgrow: &Outgrow, etcd: &Etcd, count: usize) -> Vec<(String, Value)> {
    let waited = outgrow.wait(&format!("{count} entries"), SOON, |_| {
        let entries = registered(etcd);
        (entries.len() == count).then_some(entries)
    });
    waited.expect("the entries")
}

#[test]
fn boxes_come_and_go_under_load_and_no_request_fails() {
    let backends = backends(2);
    let mut etcd = Etcd::start().expect("etcd");
    let registry = in_etcd(&etcd);
    let a = start_box("a", &backends[0], &registry);
    let b = start_box("b", &backends[1], &registry);
    let at = |one: &Outgrow| one.address("public").expect("an address");
    let entries = wait_registered(&a, &etcd, 2);
    assert!(
        entries[0].0.starts_with("a-") && entries[0].0.ends_with("/app"),
        "{entries:?}"
    );
    assert_eq!(entries[0].1["address"], at(&a).to_string());
    assert_eq!(entries[0].1["zone"], "z");
    let front = discover::config(&registry);
    let front = Outgrow::start(&front).expect("outgrow starts");
    wait_endpoints(&front, &[at(&a), at(&b)]);
    let load = Load::start(&front);
    // An upgrade and a stop, while others send requests.
    let known = registered(&etcd);
    a.upgrade(None).expect("an upgrade");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        assert_eq!(
            registered(&etcd),
            known,
            "{:?} after the upgrade",
            begin.elapsed()
        );
        thread::sleep(Duration::from_millis(20));
    }
    // The registry starts anew with all that it knew, and with nothing: the boxes come back.
    for forgets in [false, true] {
        etcd.kill();
        let told = a.wait("the problem", SOON, |a| {
            service(a)["registration"]["problem"].as_str().map(drop)
        });
        told.expect("the problem");
        if forgets {
            etcd.forget().expect("forgotten");
        }
        etcd.start_again().expect("etcd again");
        wait_registered(&a, &etcd, 2);
    }
    let good = a.wait("no problem", SOON, |a| {
        let state = service(a)["registration"].clone();
        (state["problem"].is_null() && state["entries"] == 1).then_some(state)
    });
    assert!(
        good.expect("no problem")["age_ms"]
            .as_u64()
            .expect("an age")
            < 5_000
    );
    wait_endpoints(&front, &[at(&a), at(&b)]);
    let gone = at(&a);
    a.stop().expect("stopped");
    let left = registered(&etcd);
    assert_eq!(left.len(), 1, "{left:?}");
    wait_endpoints(&front, &[at(&b)]);
    assert!(load.end() > 100);
    // One that is killed whole is forgotten when its time is over.
    let c = start_box("c", &backends[0], &registry);
    wait_endpoints(&front, &[at(&b), at(&c)]);
    assert_ne!(at(&c), gone);
    let pids = c.pids();
    for pid in [pids.keeper, pids.data[0]] {
        c.kill9(pid).expect("killed");
    }
    wait_endpoints(&front, &[at(&b)]);
    assert_eq!(registered(&etcd).len(), 1);
    front.stop().expect("stopped");
    b.stop().expect("stopped");
    assert!(registered(&etcd).is_empty());
}

#[test]
fn a_killed_data_process_leaves_no_gap() {
    let backends = backends(1);
    let etcd = Etcd::start().expect("etcd");
    let a = start_box("a", &backends[0], &in_etcd(&etcd));
    let known = wait_registered(&a, &etcd, 1);
    for _ in 0..2 {
        a.kill9(a.pids().data[0]).expect("killed");
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(4) {
            assert_eq!(
                registered(&etcd),
                known,
                "{:?} after the kill",
                begin.elapsed()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
    a.stop().expect("stopped");
    assert!(registered(&etcd).is_empty());
}

#[test]
fn only_what_is_ready_is_told_with_weights() {
    let etcd = Etcd::start().expect("etcd");
    let folder = obedient();
    let directory = folder.path().display();
    let config = |register: &str| {
        format!(
            r#"
[listener.public]
address = "%public%"
[route.app]
service = "app"
[service.app]
command = ["python3", "app.py"]
directory = "{directory}"
instances = 2
{register}
[service.app.check]
path = "/readyz"
interval = "100ms"
fast_interval = "50ms"
fall = 2
"#
        )
    };
    let register = |address: &str, weight: u32| {
        let registry = in_etcd(&etcd);
        config(&format!(
            "register = {{ {registry}, address = \"{address}\", weight = {weight}, ttl = \"2s\" }}"
        ))
    };
    let mut outgrow = Outgrow::start(&register("%public%", 10)).expect("outgrow starts");
    let wait_weight = |outgrow: &Outgrow, weight: Option<u64>| {
        let waited = outgrow.wait(&format!("weight {weight:?}"), SOON, |_| {
            let entries = registered(&etcd);
            let told = entries
                .first()
                .and_then(|(_, entry)| entry["weight"].as_u64());
            (entries.len() <= 1 && told == weight).then_some(())
        });
        waited.expect("the weight");
    };
    wait_weight(&outgrow, Some(20));
    let not_ready = |name: &str| folder.path().join(format!("{name}.not-ready"));
    fs::write(not_ready("app.1"), "").expect("written");
    wait_weight(&outgrow, Some(10));
    fs::write(not_ready("app.0"), "").expect("written");
    fs::write(not_ready("app.2"), "").expect("written");
    wait_weight(&outgrow, None);
    for name in ["app.0", "app.1", "app.2"] {
        fs::remove_file(not_ready(name)).expect("removed");
    }
    wait_weight(&outgrow, Some(20));
    // An entry for each instance, and those of before end by their time.
    outgrow.reload(&register("127.0.0.1", 7)).expect("reloaded");
    let waited = outgrow.wait("two instances", SOON, |_| {
        let entries = registered(&etcd);
        let is_it = entries.len() == 2 && entries.iter().all(|(_, entry)| entry["weight"] == 7);
        is_it.then_some(entries)
    });
    for (key, entry) in waited.expect("two instances") {
        let address = entry["address"].as_str().expect("an address");
        let (_, port) = address.rsplit_once(':').expect("a port");
        assert!(
            key.contains("/app.") && key.ends_with(&format!(":{port}")),
            "{key}"
        );
        let answer = outgrow_testkit::http::get(&format!("http://{address}/"));
        assert_eq!(answer.expect("an answer").status, 200);
    }
    // Without the table it is withdrawn at once.
    outgrow.reload(&config("")).expect("reloaded");
    let begin = Instant::now();
    wait_registered(&outgrow, &etcd, 0);
    assert!(
        begin.elapsed() < Duration::from_millis(1_500),
        "{:?}",
        begin.elapsed()
    );
    outgrow.stop().expect("stopped");
}

#[test]
fn a_registry_that_is_away_delays_neither_a_start_nor_a_stop_for_long() {
    let backends = backends(1);
    let nobody = ports::free(1).expect("a port")[0];
    let registry = format!("etcd = {{ servers = [\"http://{nobody}\"], prefix = \"/x/\" }}");
    let begin = Instant::now();
    let a = start_box("a", &backends[0], &registry);
    let problem = a.wait("the problem", SOON, |a| {
        let problem = service(a)["registration"]["problem"].as_str()?.to_owned();
        Some(problem)
    });
    assert!(problem.expect("the problem").contains(&nobody.to_string()));
    let url = a.url("public", "/");
    assert_eq!(
        outgrow_testkit::http::get(&url).expect("an answer").status,
        200
    );
    a.stop().expect("stopped");
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_fake_consul_is_told_and_others_discover_it_there() {
    let backends = backends(1);
    let consul = FakeConsul::start("").expect("a fake");
    let consul_at = format!(
        "server = \"http://{}\", service = \"app\"",
        consul.address()
    );
    let registry = format!("consul = {{ {consul_at}, tags = [\"v1\"] }}");
    let a = start_box("a", &backends[0], &registry);
    let front = discover::config(&format!("consul = {{ {consul_at} }}"));
    let front = Launch::config(&front).start().expect("outgrow starts");
    let at = a.address("public").expect("an address");
    wait_endpoints(&front, &[at]);
    let load = Load::start(&front);
    a.upgrade(None).expect("an upgrade");
    // Longer than its check passes by itself.
    thread::sleep(Duration::from_secs(4));
    wait_endpoints(&front, &[at]);
    assert_eq!(consul.registered().len(), 1);
    assert!(load.end() > 100);
    a.stop().expect("stopped");
    assert!(consul.registered().is_empty());
    front.stop().expect("stopped");
}

#[test]
fn what_is_told_elsewhere_from_now_on_is_withdrawn_at_once_where_it_was() {
    let backends = backends(1);
    let etcd = Etcd::start().expect("etcd");
    let consul = FakeConsul::start("").expect("a fake");
    let config = |registry: &str| {
        format!(
            "[listener.public]\naddress = \"%public%\"\n[route.app]\nservice = \"app\"\n\
             [service.app]\nendpoints = [\"{}\"]\n[service.app.register]\n{registry}\n\
             address = \"%public%\"\nttl = \"60s\"\n",
            backends[0].address()
        )
    };
    let in_etcd = |prefix: &str| {
        let server = etcd.address();
        format!("etcd = {{ servers = [\"http://{server}\"], prefix = \"{prefix}\" }}")
    };
    let in_consul = format!(
        "consul = {{ server = \"http://{}\", service = \"app\" }}",
        consul.address()
    );
    let entries = |prefix: &str| etcd.list(prefix).expect("keys").len();
    let wait = |outgrow: &Outgrow, expected: [usize; 3]| {
        let begin = Instant::now();
        let found = || {
            [
                entries("/old/"),
                entries("/new/"),
                consul.registered().len(),
            ]
        };
        let waited = outgrow.wait("the entries", SOON, |_| (found() == expected).then_some(()));
        waited.unwrap_or_else(|error| panic!("{expected:?} {:?}: {error}", found()));
        begin.elapsed()
    };
    let mut a = Outgrow::start(&config(&in_etcd("/old/"))).expect("outgrow starts");
    wait(&a, [1, 0, 0]);
    let moves = [
        (in_etcd("/new/"), [0, 1, 0]),
        (in_consul, [0, 0, 1]),
        (in_etcd("/old/"), [1, 0, 0]),
    ];
    for (registry, expected) in moves {
        a.reload(&config(&registry)).expect("reloaded");
        let took = wait(&a, expected);
        assert!(took < Duration::from_secs(3), "{registry}: {took:?}");
    }
    // In the same place there is no moment without it.
    let key = etcd.list("/old/").expect("keys")[0].0.clone();
    a.reload(&config(&in_etcd("/old/")).replace("60s", "30s"))
        .expect("reloaded");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        let now = etcd.list("/old/").expect("keys");
        assert_eq!((now.len(), now[0].0.as_str()), (1, key.as_str()));
        thread::sleep(Duration::from_millis(5));
    }
    a.stop().expect("stopped");
    assert_eq!([entries("/old/"), consul.registered().len()], [0, 0]);
}
