//! Ready, crashed, hanging.

use std::{collections::BTreeSet, fs, time::Duration};

use outgrow_testkit::{
    http,
    outgrow::Outgrow,
    processes::{self, Signal},
};
use serde_json::Value;

use super::{config, obedient, obedient_config, start, touch};
use crate::shop::{self, SOON, instances, wait_ready};

/// Which instances answer a number of requests.
pub(super) fn answering(outgrow: &Outgrow) -> BTreeSet<String> {
    let url = outgrow.url("public", "/");
    let name = |_| {
        let answer = http::get(&url).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json().expect("JSON")["OUTGROW_INSTANCE"]
            .as_str()
            .expect("a name")
            .to_owned()
    };
    (0..30).map(name).collect()
}

pub(super) fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The instance of this name in the state.
fn named(outgrow: &Outgrow, name: &str) -> Option<Value> {
    instances(outgrow)
        .into_iter()
        .find(|instance| instance["name"] == name)
}

pub(super) fn wait_state(outgrow: &Outgrow, name: &str, state: &str) -> Value {
    let what = format!("{name} is {state}");
    let seen = |outgrow: &Outgrow| named(outgrow, name).filter(|one| one["state"] == state);
    let seen = outgrow.wait(&what, SOON, seen);
    seen.unwrap_or_else(|error| panic!("{error}\n{:#?}", instances(outgrow)))
}

#[test]
fn an_instance_that_is_not_ready_gets_nothing() {
    let folder = obedient();
    touch(folder.path(), "app.2.not-ready");
    let outgrow = start(&obedient_config(&folder, 2, ""));
    wait_state(&outgrow, "app.1", "ready");
    wait_state(&outgrow, "app.2", "running");
    assert_eq!(answering(&outgrow), names(&["app.1"]));
    fs::remove_file(folder.path().join("app.2.not-ready")).expect("removed");
    wait_state(&outgrow, "app.2", "ready");
    assert_eq!(answering(&outgrow), names(&["app.1", "app.2"]));
    // It says itself that it should get nothing for a while, as on a drain of its own.
    touch(folder.path(), "app.1.not-ready");
    let alone = |outgrow: &Outgrow| (answering(outgrow) == names(&["app.2"])).then_some(());
    outgrow
        .wait("the other gets everything", SOON, alone)
        .expect("it does");
}

#[test]
fn a_crashed_instance_is_restarted() {
    let outgrow = start(&shop::config(2, ""));
    let before = wait_ready(&outgrow, 2);
    let address = named(&outgrow, "shop.2").expect("an instance")["address"].clone();
    let url = format!("http://{}/crash", address.as_str().expect("an address"));
    assert!(http::get(&url).is_err(), "a crash has no answer");
    let again = |outgrow: &Outgrow| named(outgrow, "shop.2").filter(|one| one["restarts"] == 1);
    let again = outgrow.wait("a restart", SOON, again).expect("a restart");
    let exit = again["last_exit"].as_str().unwrap_or_default().to_owned();
    assert!(exit.contains("70"), "the exit status is told: {again}");
    let after = wait_ready(&outgrow, 2);
    let stayed = after.iter().filter(|pid| before.contains(pid)).count();
    assert_eq!(stayed, 1, "one was replaced: {before:?} {after:?}");
    let stderr = outgrow.wait_told("shop.2").expect("told");
    assert!(stderr.contains("70"), "{stderr}");
}

#[test]
fn a_crash_loop_is_shown_and_left_when_the_cause_is_gone() {
    let binary = outgrow_testkit::outgrow::binary().expect("a binary");
    let command = format!(
        "if [ $OUTGROW_INSTANCE = app.2 ] && [ ! -e well ]; then exit 3; fi; exec {} shop",
        binary.display()
    );
    let service = format!(
        "command = '{command}'\ninstances = 2\nrestart_backoff = \"10ms\"\n\
         restart_backoff_max = \"300ms\"\ncrash_loop = 3"
    );
    let outgrow = start(&config(&service));
    let looping = wait_state(&outgrow, "app.2", "crash_loop");
    assert_eq!(looping["restart_delay_ms"], 300, "{looping}");
    assert!(looping["restarts"].as_u64() >= Some(2), "{looping}");
    assert!(
        looping["last_exit"]
            .as_str()
            .is_some_and(|exit| exit.contains('3')),
        "{looping}"
    );
    let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
    assert_eq!(answer.status, 200, "the other one serves");
    touch(outgrow.folder(), "well");
    wait_state(&outgrow, "app.2", "ready");
}

#[test]
fn a_hanging_instance_is_restarted() {
    let live = "\n[service.shop.live]\npath = \"/livez\"\ninterval = \"200ms\"\ntimeout = \"300ms\"\n\
                fall = 3\n";
    let outgrow = start(&shop::config(2, live));
    let before = wait_ready(&outgrow, 2);
    processes::signal(before[0], Signal::STOP).expect("stopped");
    let replaced = |outgrow: &Outgrow| {
        // Nobody notices meanwhile: what waits at the one that hangs is asked again elsewhere.
        let answer = http::get(&outgrow.url("public", "/product/1")).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let ready = shop::ready_pids(outgrow);
        (ready.len() == 2 && !ready.contains(&before[0])).then_some(ready)
    };
    let after = outgrow
        .wait("another in its place", SOON, replaced)
        .expect("another");
    assert!(
        after.contains(&before[1]),
        "the other one stays: {before:?} {after:?}"
    );
    assert!(!processes::is_running(before[0]));
    outgrow.wait_told("hangs").expect("told");
}

#[test]
fn an_instance_that_never_becomes_ready_is_restarted_with_the_reason() {
    let folder = obedient();
    touch(folder.path(), "app.2.not-ready");
    let outgrow = start(&obedient_config(&folder, 2, "start_timeout = \"3s\""));
    let again = |outgrow: &Outgrow| {
        named(outgrow, "app.2").filter(|one| one["restarts"].as_u64() >= Some(1))
    };
    outgrow.wait("a restart", SOON, again).expect("a restart");
    let why = outgrow.wait_told("app.2: not ready after");
    why.expect("told");
    assert_eq!(
        named(&outgrow, "app.1").expect("an instance")["restarts"],
        0
    );
}

#[test]
fn what_instances_use_is_shown() {
    let outgrow = start(&shop::config(2, ""));
    wait_ready(&outgrow, 2);
    for _ in 0..50 {
        http::get(&outgrow.url("public", "/chunked/100000")).expect("an answer");
    }
    let used = |outgrow: &Outgrow| {
        let all = instances(outgrow);
        let shown = all.iter().all(|one| {
            one["memory_bytes"].as_u64() > Some(500_000) && one["cpu_ms"].as_u64().is_some()
        });
        (all.len() == 2 && shown).then_some(all)
    };
    for instance in outgrow
        .wait("the instances' use", SOON, used)
        .expect("shown")
    {
        assert_eq!(instance["processes"], 1, "{instance}");
        assert!(
            instance["memory_bytes"].as_u64() < Some(500_000_000),
            "{instance}"
        );
    }
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    for name in [
        "outgrow_instance_cpu_seconds",
        "outgrow_instance_memory_bytes",
    ] {
        let of = |instance: &str| {
            metrics
                .lines()
                .any(|line| line.starts_with(name) && line.contains(instance))
        };
        assert!(of("\"shop.1\"") && of("\"shop.2\""), "{name} in {metrics}");
    }
}

#[test]
fn a_database_that_blinks_fails_all_checks_and_no_request() {
    let folder = obedient();
    let outgrow = start(&obedient_config(&folder, 2, ""));
    wait_ready(&outgrow, 2);
    touch(folder.path(), "app.1.not-ready");
    touch(folder.path(), "app.2.not-ready");
    let panic = |outgrow: &Outgrow| {
        let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        (shop::state(outgrow)["services"][0]["panic"] == true).then_some(())
    };
    outgrow
        .wait("all are used though none is healthy", SOON, panic)
        .expect("panic");
    assert_eq!(answering(&outgrow), names(&["app.1", "app.2"]));
    outgrow.wait_told("panic_threshold").expect("told");
    fs::remove_file(folder.path().join("app.1.not-ready")).expect("removed");
    fs::remove_file(folder.path().join("app.2.not-ready")).expect("removed");
    let calm =
        |outgrow: &Outgrow| (shop::state(outgrow)["services"][0]["panic"] == false).then_some(());
    outgrow
        .wait("no panic any more", Duration::from_secs(10), calm)
        .expect("calm");
}
