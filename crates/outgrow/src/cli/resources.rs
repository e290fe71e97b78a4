//! `outgrow resources`: what instances may use and use, and what the machine has left, as tables for
//! people, or as JSON. All of it is from the state of a running outgrow.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use outgrow_admin::client::Verb;
use outgrow_fleet::cgroup::people_bytes;
use serde_json::{Value, json};

use super::ask::{AdminArgs, request};
use super::table::{self, list, text, words};
use super::{complain, print};

/// What `outgrow resources` takes.
#[derive(Debug, Args)]
pub struct ResourcesArgs {
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs the command.
pub fn resources(args: &ResourcesArgs) -> ExitCode {
    let text = match request(&args.admin, Verb::Get, "/state", b"") {
        Ok(text) => text,
        Err(problem) => return complain(&problem),
    };
    let Ok(state) = serde_json::from_str::<Value>(&text) else {
        return complain("the admin listener's answer is no state of an outgrow");
    };
    print(&if args.json {
        format!("{}\n", as_json(&state))
    } else {
        as_tables(&state)
    });
    ExitCode::SUCCESS
}

/// The parts of the state that this is about.
fn as_json(state: &Value) -> Value {
    let keep = |value: &Value, keys: &[&str]| -> Value {
        let each = keys
            .iter()
            .map(|key| ((*key).to_owned(), value[*key].clone()));
        Value::Object(each.collect())
    };
    let keys = [
        "name",
        "service",
        "state",
        "pid",
        "cpu_cores",
        "memory_bytes",
        "processes",
        "restarts",
        "last_exit",
        "limits",
    ];
    let instances = list(state, "instances").map(|one| keep(one, &keys));
    let services = list(state, "services").map(|one| keep(one, &["name", "room"]));
    json!({
        "machine": state["machine"],
        "services": services.collect::<Vec<_>>(),
        "instances": instances.collect::<Vec<_>>(),
    })
}

fn as_tables(state: &Value) -> String {
    let mut out = String::new();
    let mut notes = Vec::new();
    let mut rows = vec![words(&[
        "INSTANCE",
        "STATE",
        "CPU",
        "LIMIT",
        "MEMORY",
        "LIMIT",
        "PROCESSES",
        "THROTTLED",
        "KILLS",
        "LIMITS",
    ])];
    for one in list(state, "instances") {
        rows.push(instance_row(one, &mut notes));
    }
    if rows.len() == 1 {
        out.push_str("no instances\n");
    } else {
        table::write(&mut out, &rows);
    }
    for note in notes {
        let _ = writeln!(out, "{note}");
    }
    write_services(&mut out, state);
    write_machine(&mut out, &state["machine"]);
    out
}

fn instance_row(one: &Value, notes: &mut Vec<String>) -> Vec<String> {
    let (limits, name) = (&one["limits"], text(&one["name"]));
    let in_force = &limits["in_force"];
    for reason in list(limits, "reasons") {
        notes.push(format!("{name}: {}", text(reason)));
    }
    // What the kernel counts begins anew with each start.
    if let (Some(exit), Some(count @ 1..)) = (one["last_exit"].as_str(), one["restarts"].as_u64()) {
        notes.push(format!("{name}: restarts {count}, the last end: {exit}"));
    }
    let throttled = limits["throttled_ms"].as_u64();
    vec![
        name,
        text(&one["state"]),
        percent(&one["cpu_cores"]),
        percent(&in_force["cpu_cores"]),
        bytes(&one["memory_bytes"]),
        bytes(&in_force["memory_bytes"]),
        match (one["processes"].as_u64(), in_force["processes"].as_u64()) {
            (None, _) => "-".to_owned(),
            (Some(count), None) => count.to_string(),
            (Some(count), Some(limit)) => format!("{count} of {limit}"),
        },
        throttled.map_or("-".to_owned(), |ms| format!("{:.1}s", ms as f64 / 1e3)),
        text(&limits["oom_kills"]),
        text(&limits["state"]),
    ]
}

fn write_services(out: &mut String, state: &Value) {
    for service in list(state, "services").filter(|one| !one["room"].is_null()) {
        let (name, room) = (text(&service["name"]), &service["room"]);
        let more = match room["more_instances"].as_u64() {
            Some(0) => "no room for another instance".to_owned(),
            Some(1) => "room for 1 more instance".to_owned(),
            Some(count) => format!("room for {count} more instances"),
            None => "cannot tell how many more instances would fit".to_owned(),
        };
        let by = |key: &str| {
            room[key]
                .as_u64()
                .map_or("unknown".to_owned(), |count| count.to_string())
        };
        let _ = writeln!(
            out,
            "\n{name}: {more} (by cpu {}: {} left, {} each; by memory {}: {} left, {} each)",
            by("by_cpu"),
            percent(&room["cpu_cores_left"]),
            percent(&room["cpu_cores_each"]),
            by("by_memory"),
            bytes(&room["memory_bytes_left"]),
            bytes(&room["memory_bytes_each"]),
        );
        for reason in list(room, "cannot_tell") {
            let _ = writeln!(out, "  {}", text(reason));
        }
    }
}

fn write_machine(out: &mut String, machine: &Value) {
    if machine.is_null() {
        out.push_str("\nmachine: not measured yet\n");
        return;
    }
    let load: Vec<String> = list(machine, "load").map(text).collect();
    let share = |value: &Value| {
        value
            .as_f64()
            .map_or("-".to_owned(), |share| format!("{:.0}%", share * 100.0))
    };
    let pressure = &machine["pressure"];
    let _ = writeln!(
        out,
        "\nmachine: {} cores, {} of the processors in use, load {}; memory {} of {} available; \
         pressure cpu {}, memory {}, io {}",
        text(&machine["cores"]),
        share(&machine["cpu_used_share"]),
        if load.is_empty() {
            "-".to_owned()
        } else {
            load.join(" ")
        },
        bytes(&machine["memory_available_bytes"]),
        bytes(&machine["memory_total_bytes"]),
        share(&pressure["cpu"]),
        share(&pressure["memory"]),
        share(&pressure["io"]),
    );
}

/// Cores as percent of one.
fn percent(cores: &Value) -> String {
    cores
        .as_f64()
        .map_or("-".to_owned(), |cores| format!("{:.0}%", cores * 100.0))
}

fn bytes(value: &Value) -> String {
    value.as_u64().map_or("-".to_owned(), people_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Value {
        json!({
            "machine": {
                "cores": 2.0, "load": [0.5, 0.25, 0.1], "cpu_used_share": 0.431,
                "memory_total_bytes": 8_u64 << 30, "memory_available_bytes": 5_u64 << 30,
                "pressure": { "cpu": 0.02, "memory": null, "io": 0.0 },
            },
            "services": [
                { "name": "web", "room": {
                    "more_instances": null, "by_cpu": null, "by_memory": 40,
                    "cannot_tell": ["the instances are idle"], "cpu_cores_each": 0.001,
                    "memory_bytes_each": 128_u64 << 20, "cpu_cores_left": 1.138,
                    "memory_bytes_left": 5_u64 << 30 } },
                { "name": "elsewhere", "room": null },
            ],
            "instances": [
                { "name": "web.1", "service": "web", "state": "ready", "cpu_cores": 0.253,
                  "memory_bytes": 100 << 20, "processes": 3, "secret": "not asked for",
                  "limits": { "state": "partly enforced", "reasons": ["cpu: not delegated"],
                    "in_force": { "cpu_cores": null, "memory_bytes": 512 << 20, "processes": 50 },
                    "throttled_ms": 1500, "oom_kills": 2 } },
                { "name": "web.2", "service": "web", "state": "starting", "limits": null,
                  "restarts": 3, "last_exit": "killed: it used more" },
            ],
        })
    }

    #[test]
    fn people_see_tables() {
        let expected = "\
INSTANCE  STATE     CPU  LIMIT  MEMORY  LIMIT   PROCESSES  THROTTLED  KILLS  LIMITS
web.1     ready     25%  -      100MiB  512MiB  3 of 50    1.5s       2      partly enforced
web.2     starting  -    -      -       -       -          -          -      -
web.1: cpu: not delegated
web.2: restarts 3, the last end: killed: it used more

web: cannot tell how many more instances would fit (by cpu unknown: 114% left, 0% each; by memory 40: 5GiB left, 128MiB each)
  the instances are idle

machine: 2.0 cores, 43% of the processors in use, load 0.5 0.25 0.1; memory 5GiB of 8GiB available; pressure cpu 2%, memory -, io 0%
";
        assert_eq!(as_tables(&state()), expected);
        let empty = as_tables(&json!({}));
        assert_eq!(empty, "no instances\n\nmachine: not measured yet\n");
    }

    #[test]
    fn programs_get_what_is_asked_for_and_no_more() {
        let told = as_json(&state());
        assert_eq!(told["machine"]["cores"], 2.0);
        assert_eq!(told["services"][0]["room"]["by_memory"], 40);
        assert_eq!(told["instances"][0]["limits"]["oom_kills"], 2);
        assert_eq!(told["instances"][0].get("secret"), None);
    }
}
