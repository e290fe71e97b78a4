//! Liveness: when it is believed, and that one cause does not end all instances together.

use std::time::Duration;

use outgrow_testkit::{
    outgrow::Outgrow,
    processes::{self, Signal},
};

use super::start;
use crate::shop::{self, SOON, instances, wait_ready};

fn live(path: &str) -> String {
    format!(
        "\n[service.shop.live]\npath = \"{path}\"\ninterval = \"100ms\"\ntimeout = \"300ms\"\n\
         fall = 2\n"
    )
}

fn restarts(outgrow: &Outgrow) -> Vec<u64> {
    let count = |instance: &serde_json::Value| instance["restarts"].as_u64().expect("a number");
    instances(outgrow).iter().map(count).collect()
}

#[test]
fn a_mistyped_path_restarts_nobody() {
    let outgrow = start(&shop::config(2, &live("/mistyped")));
    wait_ready(&outgrow, 2);
    for name in ["shop.1", "shop.2"] {
        outgrow
            .wait_told(&format!("{name} does not answer (status 404)"))
            .expect("it says so");
    }
    outgrow
        .wait_told("is [service.shop.live] right?")
        .expect("a question");
    assert_eq!(restarts(&outgrow), [0, 0]);
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    let held = "outgrow_instance_restart_held{instance=\"shop.1\"} 1";
    assert!(metrics.contains(held), "{metrics}");
}

#[test]
fn all_that_hang_are_restarted_one_after_the_other() {
    let outgrow = start(&shop::config(2, &live("/livez")));
    let before = wait_ready(&outgrow, 2);
    for pid in &before {
        processes::signal(*pid, Signal::STOP).expect("stopped");
    }
    outgrow.wait_told("is ready again").expect("it says so");
    let replaced = |outgrow: &Outgrow| {
        let ready = shop::ready_pids(outgrow);
        let all_new = ready.iter().all(|pid| !before.contains(pid));
        (ready.len() == 2 && all_new).then_some(())
    };
    outgrow
        .wait("both are replaced", SOON, replaced)
        .expect("replaced");
}

#[test]
fn a_reload_changes_the_check_of_instances_that_run() {
    let mut outgrow = start(&shop::config(2, ""));
    let before = wait_ready(&outgrow, 2);
    outgrow
        .reload(&shop::config(2, &live("/livez")))
        .expect("a reload");
    assert_eq!(wait_ready(&outgrow, 2), before, "they stay");
    // Hangs, and is found out by what the new file says.
    processes::signal(before[0], Signal::STOP).expect("stopped");
    let gone = |_: &Outgrow| (!processes::is_running(before[0])).then_some(());
    outgrow
        .wait("it is restarted", SOON, gone)
        .expect("restarted");
}

#[test]
fn a_reload_changes_how_long_the_keeper_waits_for_a_drain() {
    let folder = super::obedient();
    let limited = |limit: &str| {
        super::obedient_config(&folder, 1, "").replace(
            "drain_timeout = \"10s\"",
            &format!("drain_timeout = \"{limit}\""),
        )
    };
    let mut outgrow = start(&limited("100ms"));
    wait_ready(&outgrow, 1);
    outgrow.reload(&limited("60s")).expect("a reload");
    let public = outgrow.address("public").expect("an address");
    let mut client = outgrow_testkit::raw::Client::connect(public).expect("a connection");
    client
        .send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("sent");
    let began = folder.path().join("slow-began");
    let in_flight = |_: &Outgrow| began.exists().then_some(());
    outgrow.wait("in flight", SOON, in_flight).expect("there");
    outgrow.signal(Signal::TERM).expect("told to stop");
    // Longer than the old limit and its margin of five seconds.
    let early = client.receive_to_end(Duration::from_millis(5_700));
    assert_eq!(early.expect("waited").end, outgrow_testkit::raw::End::Open);
    super::touch(folder.path(), "go");
    let whole = client.receive_until(b"OUTGROW_INSTANCE", SOON);
    assert!(whole.expect("received"), "{}", outgrow.stderr());
    outgrow.wait_exit(SOON).expect("everything has ended");
}
