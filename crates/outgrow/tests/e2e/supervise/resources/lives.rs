//! What limits do to instances, and that they stay with them.

use outgrow_testkit::{outgrow::Outgrow, processes};
use serde_json::{Value, json};

use super::super::start;
use super::{
    ask, assert_gone, greedy, greedy_config, groups, instance, one_pid, share, stop_clean,
    wait_limits,
};
use crate::shop::SOON;

#[test]
fn an_instance_gets_its_share_of_processor_time_and_no_more() {
    let folder = greedy();
    let mut outgrow = start(&greedy_config(&folder, "resources = { cpu = 0.3 }"));
    let pid = one_pid(&outgrow);
    wait_limits(&outgrow, "enforced", "cpu_cores", json!(0.3));
    ask(&outgrow, "/burn");
    let first = share(pid);
    assert!(first < 0.4, "{first} of a core");
    // While it runs.
    outgrow
        .reload(&greedy_config(&folder, "resources = { cpu = 0.1 }"))
        .expect("a reload");
    wait_limits(&outgrow, "enforced", "cpu_cores", json!(0.1));
    let second = share(pid);
    assert!(second < 0.15, "{second} of a core");
    // On a machine with much to do it might not have got more than 0.3.
    let throttled = |outgrow: &Outgrow| {
        let time = instance(outgrow)["limits"]["throttled_ms"].as_u64();
        time.filter(|time| *time > 0)
    };
    outgrow
        .wait("it is held back", SOON, throttled)
        .expect("told");
    assert_eq!(one_pid(&outgrow), pid, "it is the same one");
    let groups = groups(pid);
    stop_clean(outgrow, &groups);
}

#[test]
fn the_first_limit_reaches_all_processes_of_an_instance_that_runs() {
    let folder = greedy();
    let mut outgrow = start(&greedy_config(&folder, ""));
    let pid = one_pid(&outgrow);
    assert_eq!(instance(&outgrow)["limits"], Value::Null);
    assert_eq!(groups(pid).len(), 0, "no group without a limit");
    ask(&outgrow, "/burn");
    outgrow
        .reload(&greedy_config(&folder, "resources = { cpu = 0.2 }"))
        .expect("a reload");
    wait_limits(&outgrow, "enforced", "cpu_cores", json!(0.2));
    let mine = groups(pid);
    assert_eq!(mine.len(), 1);
    let busy = processes::under(pid);
    assert_eq!(busy.len(), 2, "{busy:?}");
    for process in busy {
        assert_eq!(groups(process.pid), mine);
    }
    let fifth = share(pid);
    assert!(fifth < 0.27, "{fifth} of a core");
    // And without one again.
    outgrow
        .reload(&greedy_config(&folder, ""))
        .expect("a reload");
    let free = |outgrow: &Outgrow| (instance(outgrow)["limits"] == Value::Null).then_some(());
    outgrow.wait("no limit", SOON, free).expect("free");
    assert_eq!(one_pid(&outgrow), pid, "it is the same one");
    stop_clean(outgrow, &mine);
}

#[test]
fn the_memory_limit_kills_and_that_is_told() {
    let folder = greedy();
    let resources = "resources = { memory = \"64MiB\" }";
    let outgrow = start(&greedy_config(&folder, resources));
    let first = one_pid(&outgrow);
    // A child that is killed is told, and the instance goes on.
    let answer = ask(&outgrow, "/eat-child");
    assert_eq!(answer["STATUS"], "9", "{answer}");
    outgrow
        .wait_told("app.1: processes killed because it used more than its memory limit of 64MiB")
        .expect("told");
    let counted = |outgrow: &Outgrow| {
        let metrics = outgrow.admin_get("/metrics").ok()?.text();
        metrics
            .contains("outgrow_instance_oom_kills_total{instance=\"app.1\"} 1")
            .then_some(())
    };
    outgrow.wait("the metric", SOON, counted).expect("counted");
    assert_eq!(one_pid(&outgrow), first);
    // The instance itself.
    let _ended = outgrow_testkit::http::get(&outgrow.url("public", "/eat"));
    let reason = "killed: it used more than its memory limit of 64MiB (resources.memory)";
    outgrow.wait_told(reason).expect("told");
    let again = |outgrow: &Outgrow| {
        let instance = instance(outgrow);
        let is_new = instance["state"] == "ready" && instance["pid"] != first;
        is_new.then_some(instance)
    };
    let instance = outgrow.wait("it is started again", SOON, again);
    let instance = instance.expect("started again");
    assert_eq!(instance["last_exit"], reason);
    assert_eq!(instance["restarts"], 1);
    let groups = groups(one_pid(&outgrow));
    stop_clean(outgrow, &groups);
}

#[test]
fn memory_is_resized_live_and_never_below_what_is_held() {
    let folder = greedy();
    let memory = |size: &str| {
        let resources = format!("resources = {{ memory = \"{size}\" }}");
        greedy_config(&folder, &resources)
    };
    let mut outgrow = start(&memory("64MiB"));
    let pid = one_pid(&outgrow);
    wait_limits(&outgrow, "enforced", "memory_bytes", json!(64 << 20));
    outgrow.reload(&memory("256MiB")).expect("a reload");
    wait_limits(&outgrow, "enforced", "memory_bytes", json!(256 << 20));
    ask(&outgrow, "/eat");
    outgrow.reload(&memory("32MiB")).expect("a reload");
    let limits = wait_limits(
        &outgrow,
        "partly enforced",
        "memory_bytes",
        json!(256 << 20),
    );
    let reason = limits["reasons"][0].as_str().expect("a reason");
    assert!(
        reason.contains("it uses more than 32MiB") && reason.contains("256MiB stays in force"),
        "{reason}"
    );
    outgrow.wait_told(reason).expect("told");
    assert_eq!(one_pid(&outgrow), pid, "it is the same one");
    // The next start has it.
    outgrow.kill9(pid).expect("killed");
    wait_limits(&outgrow, "enforced", "memory_bytes", json!(32 << 20));
    let groups = groups(one_pid(&outgrow));
    stop_clean(outgrow, &groups);
}

#[test]
fn processes_are_limited() {
    let folder = greedy();
    let outgrow = start(&greedy_config(&folder, "resources = { processes = 20 }"));
    let groups = groups(one_pid(&outgrow));
    let answer = ask(&outgrow, "/fork");
    let forked = answer["FORKED"].as_str().expect("told");
    assert!(
        forked.contains("Resource temporarily unavailable"),
        "{forked}"
    );
    stop_clean(outgrow, &groups);
}

#[test]
fn limits_stay_over_upgrades_and_crashes_of_outgrows_own() {
    let folder = greedy();
    let config = |cpu: &str| {
        let resources = format!("resources = {{ cpu = {cpu}, memory = \"128MiB\" }}");
        greedy_config(&folder, &resources)
    };
    let mut outgrow = start(&config("0.5"));
    let pid = one_pid(&outgrow);
    let before = groups(pid);
    assert_eq!(before.len(), 2, "a group in each hierarchy: {before:?}");
    outgrow.upgrade(None).expect("an upgrade");
    outgrow
        .wait_told("the keeper is of version")
        .expect("upgraded");
    assert_eq!(one_pid(&outgrow), pid);
    wait_limits(&outgrow, "enforced", "cpu_cores", json!(0.5));
    outgrow.reload(&config("0.25")).expect("a reload");
    wait_limits(&outgrow, "enforced", "cpu_cores", json!(0.25));
    assert_eq!(groups(pid), before);
    // Another data process knows them as well.
    outgrow
        .kill9(crate::shop::data_pid(&outgrow))
        .expect("killed");
    assert_eq!(one_pid(&outgrow), pid);
    wait_limits(&outgrow, "enforced", "cpu_cores", json!(0.25));
    // A start by the upgraded keeper has the newest ones, in groups of its own.
    outgrow.kill9(pid).expect("killed");
    let gone = |_: &Outgrow| before.iter().all(|group| !group.exists()).then_some(());
    outgrow
        .wait("the groups are removed", SOON, gone)
        .expect("removed");
    wait_limits(&outgrow, "enforced", "cpu_cores", json!(0.25));
    let after = groups(one_pid(&outgrow));
    assert!(after.len() == 2 && after != before, "{after:?}");
    // So has one whose shim is killed.
    outgrow.kill9(outgrow.pids().shims[0]).expect("killed");
    let gone = |_: &Outgrow| after.iter().all(|group| !group.exists()).then_some(());
    outgrow
        .wait("the groups are removed", SOON, gone)
        .expect("removed");
    let last = groups(one_pid(&outgrow));
    stop_clean(outgrow, &last);
}

#[test]
fn whoever_is_killed_no_group_is_left_after_the_next_start() {
    let folder = greedy();
    let config = greedy_config(&folder, "resources = { memory = \"128MiB\" }");
    // The keeper alone: its shims clear up.
    let mut outgrow = start(&config);
    let first = groups(one_pid(&outgrow));
    assert_eq!(first.len(), 1);
    outgrow.kill9(outgrow.pids().keeper).expect("killed");
    outgrow.wait_exit(SOON).expect("nobody is left");
    assert_gone(&first);
    // All together: nobody can.
    let mut outgrow = start(&config);
    let pid = one_pid(&outgrow);
    let second = groups(pid);
    for process in outgrow.all_processes() {
        // Some may have ended by themselves by then.
        let _gone = outgrow.kill9(process.pid);
    }
    outgrow.wait_exit(SOON).expect("nobody is left");
    let next = start(&config);
    let third = groups(one_pid(&next));
    assert_gone(&second);
    assert!(!third.is_empty() && third != second);
    stop_clean(next, &third);
}

#[test]
fn a_group_of_another_outgrow_that_lives_is_left_alone() {
    let folder = greedy();
    let config = greedy_config(&folder, "resources = { memory = \"128MiB\" }");
    let one = start(&config);
    let pid = one_pid(&one);
    let own = groups(pid);
    let other = start(&config);
    let others = groups(one_pid(&other));
    assert_ne!(own, others);
    stop_clean(other, &others);
    assert!(own.iter().all(|group| group.exists()));
    assert_eq!(one_pid(&one), pid);
    stop_clean(one, &own);
}
