//! Instances with real processes: started, ended, killed, cleared away.

use crate::house::{House, PROBE, alive, ask, environment, kill, wait_gone};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_killed_instance_is_started_again_somewhere_else() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let first = data.start(1, &json!([PROBE, "instance", "serve"]));
    house.line_with("web.1 | listening");
    assert_eq!(ask(first.address()), "web.1");
    kill(first.pid(), Signal::KILL);
    let exited = data.instance(1, "exited");
    assert_eq!(
        exited.0["state"]["exit"],
        json!({"kind": "signal", "signal": 9})
    );
    let backoff = data.instance(1, "backoff");
    assert_eq!(backoff.0["state"]["delay_ms"], 250);
    assert!(backoff.last_exit().contains("SIGKILL"), "{backoff:?}");
    let second = data.instance(1, "running");
    assert_eq!(second.0["restarts"], 1);
    assert_ne!(second.address(), first.address());
    house.line_with("web.1 | listening");
    assert_eq!(ask(second.address()), "web.1");
}

#[test]
fn early_exits_back_off_and_become_a_crash_loop() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let policy = json!({"first_ms": 10, "max_ms": 40, "crash_loop": 4});
    data.start_with(1, &json!("exit 3"), &[("restart", policy)]);
    for (state, delay) in [
        ("backoff", 10),
        ("backoff", 20),
        ("backoff", 40),
        ("crash_loop", 40),
    ] {
        let report = loop {
            let report = data.change();
            if !["starting", "running", "exited"].contains(&report.state()) {
                break report;
            }
        };
        assert_eq!(
            (report.state(), &report.0["state"]["delay_ms"]),
            (state, &json!(delay))
        );
        assert_eq!(report.last_exit(), "exit code 3");
    }
    // It goes on trying.
    data.instance(1, "crash_loop");
    // And can be stopped at any time.
    data.tell(&json!({"type": "stop_instance", "id": 1}));
    data.instance(1, "stopped");
}

#[test]
fn what_cannot_be_started_says_why() {
    let house = House::start();
    let (mut data, _) = house.serving();
    data.start_with(1, &json!(["outgrow-no-such-command"]), &[]);
    let report = data.instance(1, "backoff");
    assert!(
        report
            .last_exit()
            .contains("command not found: outgrow-no-such-command"),
        "{report:?}"
    );
    data.start_with(
        2,
        &json!("true"),
        &[("directory", json!("/no/such/directory"))],
    );
    let report = data.instance(2, "backoff");
    assert!(
        report
            .last_exit()
            .contains("/no/such/directory does not exist"),
        "{report:?}"
    );
    data.start_with(3, &json!("outgrow-no-such-command"), &[]);
    let report = data.instance(3, "backoff");
    assert!(
        report
            .last_exit()
            .contains("the shell did not find the command"),
        "{report:?}"
    );
}

#[test]
fn the_environment_says_who_and_where() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let more = [
        ("environment", json!({"MODE": "fast"})),
        ("directory", json!("/")),
    ];
    data.start_with(1, &json!([PROBE, "instance", "serve"]), &more);
    let report = data.instance(1, "running");
    // While it is being executed its environment reads as empty.
    house.line_with("web.1 | listening");
    let pid = report.pid();
    let environment = environment(pid);
    let port = report.address().strip_prefix("127.0.0.1:").unwrap();
    assert_eq!(environment["PORT"], port);
    assert_eq!(environment["HOST"], "127.0.0.1");
    assert_eq!(environment["MODE"], "fast");
    assert_eq!(environment["OUTGROW_INSTANCE"], "web.1");
    assert_eq!(environment["OUTGROW_SERVICE"], "web");
    assert!(environment.contains_key("OUTGROW_KEY"));
    assert_eq!(
        std::fs::read_link(format!("/proc/{pid}/cwd"))
            .unwrap()
            .to_str(),
        Some("/")
    );
    assert_eq!(
        std::fs::read_link(format!("/proc/{pid}/fd/0"))
            .unwrap()
            .to_str(),
        Some("/dev/null")
    );
}

#[test]
fn the_token_of_the_admin_listener_is_not_for_instances() {
    let variables = [("OUTGROW_ADMIN_TOKEN", "s3cret"), ("OTHER", "stays")];
    let house = House::start_with(&[], &variables);
    let (mut data, _) = house.serving();
    let tell = json!("echo \"has $OUTGROW_ADMIN_TOKEN and $OTHER\"; exec sleep 1000");
    data.start(1, &tell);
    house.line_with("web.1 | has  and stays");
    // Who wants it says so.
    let wanted = json!({"OUTGROW_ADMIN_TOKEN": "own"});
    data.start_with(2, &tell, &[("environment", wanted)]);
    house.line_with("web.2 | has own and stays");
}

#[test]
fn a_daemon_ends_with_its_instance() {
    let house = House::start();
    let (mut data, _) = house.serving();
    // Double-forked, in a session of its own, without the environment.
    let command = "env -i setsid -f sh -c 'echo daemon $$; exec sleep 1000'; exec sleep 1000";
    let report = data.start(1, &json!(command));
    let daemon = house.number_after("web.1 | daemon ");
    kill(report.pid(), Signal::KILL);
    data.instance(1, "backoff");
    assert!(!alive(daemon), "the daemon outlived its instance");
    data.instance(1, "running");
    let daemon = house.number_after("web.1 | daemon ");
    data.tell(&json!({"type": "stop_instance", "id": 1}));
    data.instance(1, "stopped");
    assert!(!alive(daemon), "the daemon outlived the stop");
}

#[test]
fn a_stop_gives_time_to_finish() {
    let house = House::start();
    let (mut data, _) = house.serving();
    // The shell ends at once at SIGTERM; what it started needs a moment.
    let worker =
        "trap 'sleep 0.2; echo finished; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let command = format!("sh -c \"{worker}\" & wait");
    let report = data.start(1, &json!(command));
    house.line_with("web.1 | up");
    data.tell(&json!({"type": "stop_instance", "id": 1}));
    data.instance(1, "stopping");
    data.instance(1, "stopped");
    house.line_with("web.1 | finished");
    assert!(!alive(report.shim()));
}

#[test]
fn who_ignores_sigterm_is_killed_with_the_whole_group() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let command = "trap '' TERM; sleep 1000 & echo child $!; while :; do sleep 1000; done";
    data.start_with(1, &json!(command), &[("stop_grace_ms", json!(100))]);
    let report = data.instance(1, "running");
    let child = house.number_after("web.1 | child ");
    data.tell(&json!({"type": "stop_instance", "id": 1}));
    let exited = data.instance(1, "exited");
    assert_eq!(
        exited.0["state"]["exit"],
        json!({"kind": "signal", "signal": 9})
    );
    data.instance(1, "stopped");
    assert!(!alive(report.pid()) && !alive(child) && !alive(report.shim()));
}

#[test]
fn a_hung_instance_is_started_anew_at_once() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let policy = json!({"first_at_once": true, "first_ms": 7, "crash_loop": 3, "max_ms": 60_000});
    data.start_with(1, &json!("exec sleep 1000"), &[("restart", policy)]);
    let report = data.instance(1, "running");
    // It hangs: a stopped process does not even see a SIGTERM.
    kill(report.pid(), Signal::STOP);
    data.tell(&json!({"type": "restart_instance", "id": 1, "reason": "liveness failed"}));
    let mut states = Vec::new();
    let next = loop {
        let report = data.change();
        states.push(report.state().to_owned());
        if report.state() == "running" {
            break report;
        }
    };
    assert_eq!(states, ["stopping", "exited", "starting", "running"]);
    assert_ne!(next.pid(), report.pid());
    house.line_with("web.1 is restarted: liveness failed");
    // If that was no help, later and later, and it is shown as what it is.
    let again = json!({"type": "restart_instance", "id": 1, "reason": "liveness failed"});
    data.tell(&again);
    assert_eq!(data.instance(1, "backoff").0["state"]["delay_ms"], 7);
    data.instance(1, "running");
    data.tell(&again);
    data.instance(1, "crash_loop");
    // Not even asking again makes it faster.
    data.tell(&again);
    data.start(2, &json!("exec sleep 1000"));
    data.tell(&json!({"type": "stop_instance", "id": 1}));
    data.instance(1, "stopped");
}

#[test]
fn what_never_gets_ready_ends_in_a_crash_loop_however_long_it_was_waited_for() {
    let house = House::start();
    let (mut data, _) = house.serving();
    // As by default: the window is over before the wait is.
    let policy = json!({
        "first_at_once": true, "first_ms": 7, "crash_loop": 3, "max_ms": 60_000,
        "crash_loop_window_ms": 1,
    });
    data.start_with(1, &json!("exec sleep 1000"), &[("restart", policy)]);
    let again = json!({
        "type": "restart_instance", "id": 1, "reason": "not ready", "never_ready": true,
    });
    for expected in ["running", "backoff", "crash_loop"] {
        data.instance(1, "running");
        data.tell(&again);
        if expected != "running" {
            data.instance(1, expected);
        }
    }
}

#[test]
fn a_killed_shim_orphans_nothing() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let command = "setsid -f sh -c 'echo daemon $$; exec sleep 1000'; \
                   env -i setsid -f sh -c 'echo naked $$; exec sleep 1000'; \
                   sleep 1000 & echo child $!; wait";
    let report = data.start(1, &json!(command));
    let left = ["daemon ", "naked ", "child "].map(|name| {
        // Each comes on a line of its own, in any order: the pipe keeps it.
        name
    });
    let mut pids = std::collections::BTreeMap::new();
    while pids.len() < 3 {
        let (name, pid) = house.line(|line| {
            let rest = line.strip_prefix("web.1 | ")?;
            let name = left.iter().find(|name| rest.starts_with(**name))?;
            Some((*name, rest[name.len()..].trim().parse::<u32>().ok()?))
        });
        pids.insert(name, pid);
    }
    let other = data.start(2, &json!("exec sleep 1000"));
    kill(report.shim(), Signal::KILL);
    let exited = data.instance(1, "exited");
    assert_eq!(exited.0["state"]["exit"]["kind"], "shim_lost");
    data.instance(1, "backoff");
    for pid in pids.values().chain([&report.pid()]) {
        assert!(!alive(*pid), "{pids:?}: {pid} is left");
    }
    assert!(alive(other.pid()), "another instance must not suffer");
    data.instance(1, "running");
}

#[test]
fn output_comes_in_whole_lines_with_the_name() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let command = "printf 'one\\ntwo'; printf ' halves\\n'; echo problem >&2; printf 'no end'";
    data.start_with(
        1,
        &json!(command),
        &[("restart", json!({"first_ms": 60_000}))],
    );
    for expected in ["web.1 | one", "web.1 | two halves", "web.1 | no end"] {
        house.line(|line| (line == expected).then_some(()));
    }
}

#[test]
fn output_can_be_json() {
    let house = House::start_with(&[], &[("PROBE_JSON", "1")]);
    let (mut data, _) = house.serving();
    data.start(1, &json!("echo 'say \"hi\"' >&2; exec sleep 1000"));
    let line = house.line_with("say");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["instance"], "web.1");
    assert_eq!(value["stream"], "stderr");
    assert_eq!(value["line"], "say \"hi\"");
}

#[test]
fn a_socket_instead_of_a_port() {
    let mut house = House::start();
    let (mut data, _) = house.serving();
    data.start_with(
        1,
        &json!([PROBE, "instance"]),
        &[("listen", json!("socket"))],
    );
    let report = data.instance(1, "running");
    house.line_with("web.1 | listening");
    assert_eq!(ask(report.address()), "web.1");
    let path = std::path::Path::new(report.address().strip_prefix("unix:").unwrap()).to_owned();
    let directory = path.parent().unwrap().to_owned();
    assert!(directory.starts_with(&house.directory), "{directory:?}");
    kill(report.pid(), Signal::KILL);
    let second = data.instance(1, "running");
    assert_ne!(second.address(), report.address());
    assert!(!path.exists(), "a left-over socket");
    assert_eq!(house.stop(&mut data), Some(0));
    assert!(!directory.exists(), "the runtime directory is left");
}

#[test]
fn resources_and_diagnosis_of_a_real_instance() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let report = data.start(1, &json!([PROBE, "instance", "elsewhere"]));
    let port = house.line(|line| {
        line.split_once("listening on 127.0.0.1:")
            .map(|(_, port)| port.to_owned())
    });
    let used = outgrow_fleet::resources::sample(&[report.shim()]).unwrap()[0].unwrap();
    assert_eq!(used.processes, 1);
    assert!(used.resident_bytes > 100_000, "{used:?}");
    let explain = |address| outgrow_fleet::diagnose::explain("web.1", address, report.shim());
    let found = explain(report.address()).unwrap().unwrap();
    let message = &found.sentence;
    assert!(
        found.elsewhere && message.contains(&format!("web.1 listens on {port}, not on PORT=")),
        "{message}"
    );
    assert_eq!(explain(&format!("127.0.0.1:{port}")).unwrap(), None);
    kill(report.pid(), Signal::KILL);
    wait_gone(report.shim());
}

#[test]
fn the_end_can_be_changed_without_touching_the_instance() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let report = data.start(1, &json!("exec sleep 1000"));
    data.tell(&json!({
        "type": "update_instance", "id": 1, "stop_grace_ms": 1,
        "restart": {"first_ms": 7, "max_ms": 7},
    }));
    kill(report.pid(), Signal::KILL);
    let backoff = data.instance(1, "backoff");
    assert_eq!(backoff.0["state"]["delay_ms"], 7);
    assert_eq!(backoff.0["spec"]["stop_grace_ms"], 1);
}

/// All that `seq 1 100000` says is passed on, in order.
fn reads_all(house: &House) {
    for expected in 1..=100_000 {
        let number: u32 = house.line(|line| {
            line.strip_prefix("web.1 | ")
                .and_then(|rest| rest.parse().ok())
        });
        assert_eq!(number, expected, "a line is missing");
    }
}

#[test]
fn a_flood_of_output_is_passed_on_whole_and_does_not_delay_a_stop() {
    let house = House::start();
    let (mut data, _) = house.serving();
    data.start_with(1, &json!("seq 1 100000; exec yes flood"), &[]);
    reads_all(&house);
    data.tell(&json!({"type": "stop_instance", "id": 1}));
    data.instance(1, "stopped");
}

#[test]
fn the_last_output_of_an_instance_that_ends_is_passed_on_whole() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let never = ("restart", json!({"first_ms": 600_000, "max_ms": 600_000}));
    data.start_with(
        1,
        &json!("seq 1 100000; printf the; printf ' end' >&2"),
        &[never],
    );
    reads_all(&house);
    house.line_with("web.1 | the");
}
