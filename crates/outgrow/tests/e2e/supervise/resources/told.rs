//! Workers, what is told of instances and of the machine, and warnings.

use std::process::Command;

use outgrow_testkit::outgrow::{Outgrow, binary};
use serde_json::Value;

use super::super::start;
use super::{ask, greedy, greedy_config, one_pid};
use crate::shop::{SOON, state};

#[test]
fn workers_are_told_and_a_change_replaces() {
    let folder = greedy();
    let mut outgrow = start(&greedy_config(&folder, "workers = 3"));
    let first = one_pid(&outgrow);
    assert_eq!(ask(&outgrow, "/")["WEB_CONCURRENCY"], "3");
    let auto = "workers = \"auto\"\nworkers_variable = \"PROCS\"\nresources = { cpu = 1.5 }";
    outgrow
        .reload(&greedy_config(&folder, auto))
        .expect("a reload");
    let told = |outgrow: &Outgrow| {
        let pids = crate::shop::ready_pids(outgrow);
        (pids.len() == 1 && pids[0] != first).then_some(())
    };
    outgrow
        .wait("it is replaced", SOON, told)
        .expect("replaced");
    let environment = ask(&outgrow, "/");
    assert_eq!(environment["PROCS"], "2", "1.5 cores, rounded up");
    assert_eq!(environment.get("WEB_CONCURRENCY"), None);
    outgrow.stop().expect("everything has ended");
}

/// What `outgrow resources` says.
fn resources(outgrow: &Outgrow, arguments: &[&str]) -> String {
    let admin = outgrow.address("admin").expect("an address").to_string();
    let output = Command::new(binary().expect("a binary"))
        .args(["resources", "--admin", &admin])
        .args(arguments)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_machine_and_its_rest_are_told() {
    let folder = greedy();
    let resources_table = "resources = { cpu = 0.5, memory = \"128MiB\" }";
    let outgrow = start(&greedy_config(&folder, resources_table));
    one_pid(&outgrow);
    // Idle instances say nothing about processors.
    let idle = |outgrow: &Outgrow| {
        let room = state(outgrow)["services"][0]["room"].clone();
        let is_told = room["cpu_cores_each"].is_number() && room["by_memory"].as_u64()? > 0;
        is_told.then_some(room)
    };
    let room = outgrow.wait("the room is measured", SOON, idle);
    let room = room.expect("measured");
    if room["by_cpu"] == Value::Null {
        let reason = room["cannot_tell"][0].as_str().expect("a reason");
        assert!(reason.contains("idle"), "{room}");
        assert_eq!(room["more_instances"], Value::Null, "{room}");
    }
    ask(&outgrow, "/burn");
    let busy = |outgrow: &Outgrow| {
        let state = state(outgrow);
        let room = state["services"][0]["room"].clone();
        let cpu = room["cpu_cores_each"].as_f64()? > 0.1;
        (cpu && room["more_instances"].is_u64()).then_some(state)
    };
    let measured = outgrow.wait("the load is measured", SOON, busy);
    let state = measured.unwrap_or_else(|error| panic!("{error}\n{:#}", state(&outgrow)));
    let machine = &state["machine"];
    for key in [
        "cores",
        "cpu_used_share",
        "cpu_cores_left",
        "memory_total_bytes",
        "memory_available_bytes",
    ] {
        assert!(machine[key].is_number(), "{key}: {machine:#}");
    }
    let room = &state["services"][0]["room"];
    let number = |key: &str| room[key].as_f64().expect("a number");
    let fits = (number("cpu_cores_left") / number("cpu_cores_each")).floor();
    assert!((fits - number("by_cpu")).abs() <= 1.0, "{room:#}");
    let least = room["by_cpu"].as_u64().min(room["by_memory"].as_u64());
    assert_eq!(room["more_instances"].as_u64(), least);

    let table = resources(&outgrow, &[]);
    for part in [
        "INSTANCE",
        "app.1",
        "50%",
        "128MiB",
        "enforced",
        "machine: ",
    ] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    let json: Value = serde_json::from_str(&resources(&outgrow, &["--json"])).expect("JSON");
    assert_eq!(json["instances"][0]["limits"]["in_force"]["cpu_cores"], 0.5);
    assert!(json["machine"]["cores"].is_number(), "{json:#}");
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    for name in [
        "outgrow_machine_cores ",
        "outgrow_machine_cpu_used_ratio ",
        "outgrow_machine_memory_available_bytes ",
        "outgrow_service_room_instances{service=\"app\"} ",
        "outgrow_instance_cpu_limit_cores{instance=\"app.1\"} 0.5",
        "outgrow_instance_memory_limit_bytes{instance=\"app.1\"} 134217728",
        "outgrow_instance_limits_enforced{instance=\"app.1\"} 1",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    outgrow.stop().expect("everything has ended");
}

#[test]
fn more_than_the_machine_has_is_warned_of() {
    let folder = greedy();
    let text = greedy_config(&folder, "resources = { cpu = 1000, memory = \"100TiB\" }");
    let text = text.replace("%public%", "127.0.0.1:8080");
    let file = folder.write("much.toml", text).expect("written");
    let output = Command::new(binary().expect("a binary"))
        .arg("check")
        .arg(file)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("processor limits of all instances together are 1000 cores"),
        "{told}"
    );
    assert!(
        told.contains("memory limits of all instances together are 100TiB"),
        "{told}"
    );
}
