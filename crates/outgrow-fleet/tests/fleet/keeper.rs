//! The keeper with real data processes: what survives what.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use crate::house::{self, House, LIMIT, PROBE, alive, ask, kill, wait_gone};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_killed_data_process_costs_no_connection_that_waits() {
    let house = House::start();
    let (mut first, hello) = house.serving();
    assert_eq!(hello["generation"], 1);
    assert_eq!(hello["upgrade"], false);
    let address = first.bind("127.0.0.1:0", 2);
    first.tell(&json!({"type": "keep", "key": "configuration", "value": {"a": 1}}));
    let instance = first.start(1, &json!("exec sleep 1000"));
    first.serve();
    assert_eq!(ask(&address), "generation 1\n");
    kill(first.pid, Signal::KILL);
    wait_gone(first.pid);
    // Nobody accepts now, but the sockets are there.
    let mut waiting = TcpStream::connect(&address).unwrap();
    waiting.set_read_timeout(Some(LIMIT)).unwrap();
    let (mut second, hello) = house.serving();
    assert_eq!(hello["generation"], 2);
    assert_eq!(hello["data_restarts"], 1);
    assert_eq!(hello["descriptors"], 2);
    assert_eq!(hello["listeners"][0]["address"], address.as_str());
    assert_eq!(hello["kept"], json!({"configuration": {"a": 1}}));
    assert_eq!(hello["instances"][0]["pid"], instance.pid());
    assert_eq!(hello["instances"][0]["state"]["state"], "running");
    second.serve();
    let mut text = String::new();
    waiting.read_to_string(&mut text).unwrap();
    assert_eq!(text, "generation 2\n");
    assert!(alive(instance.pid()));
}

#[test]
fn a_killed_keeper_leaves_nothing() {
    let mut house = House::start();
    let (mut data, _) = house.serving();
    let daemon = "env -i setsid -f sh -c 'echo daemon $$; exec sleep 1000'; exec sleep 1000";
    let one = data.start(1, &json!(daemon));
    let daemon = house.number_after("web.1 | daemon ");
    let stubborn = "trap '' TERM; echo up; while :; do sleep 1000; done";
    data.start_with(2, &json!(stubborn), &[("stop_grace_ms", json!(300))]);
    let two = data.instance(2, "running");
    house.line_with("web.2 | up");
    data.start_with(
        3,
        &json!([PROBE, "instance"]),
        &[("listen", json!("socket"))],
    );
    let three = data.instance(3, "running");
    house.line_with("web.3 | listening");
    let path = three.address().strip_prefix("unix:").unwrap().to_owned();
    house.signal(Signal::KILL);
    house.end();
    data.wait("gone");
    house.nothing_left();
    for pid in [
        one.pid(),
        one.shim(),
        two.pid(),
        two.shim(),
        three.pid(),
        daemon,
        data.pid,
    ] {
        assert!(!alive(pid), "{pid} is left");
    }
    let directory = std::path::Path::new(&path).parent().unwrap();
    assert!(!directory.exists(), "the runtime directory is left");
}

#[test]
fn a_keeper_and_shims_that_are_killed_together_leave_nothing() {
    let mut house = House::start();
    let (mut data, _) = house.serving();
    // A daemon, whose parent is the shim.
    let daemon = "(setsid sh -c 'echo daemon; exec sleep 1000' &); sleep 1000 & exec sleep 1000";
    let one = data.start(1, &json!(daemon));
    house.line_with("web.1 | daemon");
    let outside = "setsid sh -c 'echo outside $$; exec sleep 1000' & exec sleep 1000";
    let two = data.start(2, &json!(outside));
    house.line_with("web.2 | outside ");
    let three = data.start(
        3,
        &json!("trap '' TERM; echo up; while :; do sleep 1000; done"),
    );
    house.line_with("web.3 | up");
    // Stopped, none of them can do anything about the death of another.
    let killed = [house.pid(), one.shim(), two.shim()];
    for signal in [Signal::STOP, Signal::KILL] {
        for pid in killed {
            kill(pid, signal);
        }
    }
    house.end();
    // The third still has its shim, which gives it its time.
    house.nothing_left();
    assert!(!alive(three.pid()));
}

/// A keeper that writes to pipes which nobody reads, and which are full.
fn unread(output: &str) -> (House, house::Data, std::fs::File) {
    use std::os::unix::fs::OpenOptionsExt;
    let thread = std::thread::current().id();
    let name = format!("fleet-pipe-{}-{thread:?}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let path = path.to_str().unwrap();
    let pipe = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .unwrap();
    let script = format!("pipe=$1; shift; exec \"$@\" {output}");
    let house = House::start_with(&["sh", "-c", &script, "sh", path], &[]);
    // Whoever is there has opened it.
    let (data, _) = house.serving();
    std::fs::remove_file(path).unwrap();
    (house, data, pipe)
}

/// Waits until nothing more goes into the pipe.
fn wait_full(pipe: &std::fs::File) {
    let until = std::time::Instant::now() + LIMIT;
    let has_room = || {
        let mut poll = [PollFd::new(pipe, PollFlags::OUT)];
        rustix::event::poll(&mut poll, Some(&Timespec::default())).unwrap() == 1
    };
    while has_room() {
        assert!(std::time::Instant::now() < until, "it never was full");
        std::thread::yield_now();
    }
}

/// Lines of 8 KiB, which are more than one page of a pipe.
const FLOOD: &str = "line=$(head -c 8000 /dev/zero | tr '\\0' x); while :; do echo $line; done";

#[test]
fn a_log_reader_that_stops_does_not_keep_an_instance_from_its_end() {
    let (mut house, mut data, pipe) = unread("> \"$pipe\" 2>&1");
    // Several, for each may take the room that another one saw.
    for id in 1..=4 {
        data.start_with(id, &json!(FLOOD), &[]);
    }
    for _ in 1..=4 {
        while data.change().state() != "running" {}
    }
    wait_full(&pipe);
    // A stop gives the grace: SIGTERM, and not SIGKILL from the keeper later.
    data.tell(&json!({"type": "stop_instance", "id": 1}));
    let stopped = data.instance(1, "stopped");
    assert!(stopped.last_exit().contains("SIGTERM"), "{stopped:?}");
    // And the end of the keeper is seen.
    house.signal(Signal::KILL);
    house.end();
    house.nothing_left();
}

#[test]
fn output_that_nobody_reads_in_time_is_told_as_lost() {
    let (house, mut data, pipe) = unread("> \"$pipe\"");
    data.start(1, &json!(FLOOD));
    wait_full(&pipe);
    data.tell(&json!({"type": "stop_instance", "id": 1}));
    let lost = house.number_after("web.1 | warn: the last ");
    // How much of the pipe and of what waits here was filled by then is a matter of turns.
    assert!(lost >= 8_000, "{lost}: a line at least");
    data.instance(1, "stopped");
}

#[test]
fn a_log_reader_that_stops_does_not_stop_the_keeper() {
    let (mut house, mut data, pipe) = unread("> \"$pipe\" 2>&1");
    let report = data.start(1, &json!(FLOOD));
    wait_full(&pipe);
    // One page of room, which nobody else takes, and a line that needs more.
    kill(report.shim(), Signal::STOP);
    let mut room = vec![0; 4096];
    assert!(rustix::io::read(&pipe, &mut room[..]).unwrap() > 0);
    data.tell(&json!({"type": "fatal", "message": "x".repeat(60_000)}));
    data.tell(&json!({"type": "bind", "key": "none", "address": "none", "sockets": 1}));
    data.wait("bind_failed");
    kill(report.shim(), Signal::CONT);
    assert_eq!(house.stop(&mut data), Some(0));
}

#[test]
fn a_stop_drains_first_and_then_stops_instances() {
    let mut house = House::start();
    let (mut data, _) = house.serving();
    let address = data.bind("127.0.0.1:0", 1);
    let instance = data.start(
        1,
        &json!("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"),
    );
    house.line_with("web.1 | up");
    house.signal(Signal::TERM);
    let drain = data.wait("drain");
    assert_eq!(drain["reason"], "stop");
    assert!(
        alive(instance.pid()),
        "instances serve while the data process drains"
    );
    data.tell(&json!({"type": "drained"}));
    data.exit(0);
    house.line_with("web.1 | bye");
    assert_eq!(house.end().code(), Some(0));
    house.nothing_left();
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn a_unix_listener_is_there_while_its_process_drains() {
    let mut house = House::start();
    let (mut data, _) = house.serving();
    let address = format!("unix:{}", house.file("public.sock"));
    data.bind(&address, 1);
    data.serve();
    house.signal(Signal::TERM);
    data.wait("drain");
    assert_eq!(ask(&address), "generation 1\n");
    data.exit(0);
    assert_eq!(house.end().code(), Some(0));
    assert!(!std::path::Path::new(&house.file("public.sock")).exists());
}

#[test]
fn who_does_not_drain_in_time_is_killed() {
    let mut house = House::start();
    let (mut data, _) = house.serving();
    data.tell(&json!({"type": "set_limits", "stop_drain_ms": 100, "upgrade_drain_ms": 100}));
    let instance = data.start(1, &json!("exec sleep 1000"));
    data.tell(&json!({"type": "stop"}));
    data.wait("drain");
    assert_eq!(house.end().code(), Some(0));
    assert!(!alive(data.pid) && !alive(instance.pid()));
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut house = House::start();
    let (mut data, _) = house.serving();
    let stubborn = "trap '' TERM; echo up; while :; do sleep 1000; done";
    data.start_with(1, &json!(stubborn), &[("stop_grace_ms", json!(600_000))]);
    house.line_with("web.1 | up");
    house.signal(Signal::TERM);
    data.wait("drain");
    house.signal(Signal::INT);
    assert_eq!(house.end().code(), Some(130));
    house.nothing_left();
}

#[test]
fn a_first_start_that_fails_ends_the_keeper() {
    let mut house = House::start();
    let (mut data, _) = house.data();
    data.start(1, &json!("exec sleep 1000"));
    data.tell(&json!({"type": "fatal", "message": "line 3: no such key"}));
    house.line_with("line 3: no such key");
    assert_eq!(house.end().code(), Some(1));
    house.nothing_left();
}

#[test]
fn a_data_process_that_never_gets_ready_ends_the_keeper() {
    let mut house = House::start();
    for generation in 1..=5 {
        let (mut data, hello) = house.data();
        assert_eq!(hello["generation"], generation);
        data.exit(9);
    }
    house.line_with("never served");
    assert_eq!(house.end().code(), Some(1));
}

#[test]
fn a_fatal_error_later_does_not_end_the_keeper() {
    let house = House::start();
    let (mut first, _) = house.serving();
    first.exit(1);
    let (mut second, _) = house.data();
    second.tell(&json!({"type": "fatal", "message": "the file is broken"}));
    second.exit(1);
    let (_third, hello) = house.serving();
    assert_eq!(hello["generation"], 3);
}

#[test]
fn bind_failures_are_told() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    data.tell(&json!({"type": "bind", "key": "public", "address": address, "sockets": 2}));
    let failed = data.wait("bind_failed");
    assert_eq!(failed["key"], "public");
    assert!(
        failed["reason"]
            .as_str()
            .unwrap()
            .contains("taken by another process")
    );
    // More sockets than one packet carries.
    drop(taken);
    data.bind("127.0.0.1:0", 256);
    data.tell(&json!({"type": "release", "key": "public"}));
    data.bind("127.0.0.1:0", 1);
}

#[test]
fn sighup_asks_for_a_reload() {
    let house = House::start();
    let (mut data, _) = house.serving();
    house.signal(Signal::HUP);
    data.wait("reload");
}

#[test]
fn unknown_messages_are_ignored() {
    let house = House::start();
    let (mut data, _) = house.serving();
    data.tell(&json!({"type": "unknown"}));
    house.line_with("unknown type `unknown`");
    data.start(1, &json!("exec sleep 1000"));
}

#[test]
fn it_works_as_process_1() {
    let before = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let permitted = std::process::Command::new(before[0])
        .args(&before[1..])
        .arg("true")
        .output()
        .is_ok_and(|output| output.status.success());
    if !permitted {
        eprintln!("not tested: unshare --pid is not permitted here");
        return;
    }
    let mut house = House::start_with(&before, &[]);
    let (mut data, hello) = house.serving();
    assert_eq!(hello["keeper"], 1);
    let command = "env -i setsid -f sh -c 'echo daemon $$; exec sleep 1000'; exec sleep 1000";
    data.start(1, &json!(command));
    house.line_with("web.1 | daemon ");
    // Whatever is orphaned below is reaped, and SIGTERM is not ignored as it
    // is for a process 1 without a handler.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", house.pid()));
    let keeper: u32 = children.unwrap().trim().parse().unwrap();
    kill(keeper, Signal::TERM);
    data.wait("drain");
    data.exit(0);
    assert_eq!(house.end().code(), Some(0));
    house.nothing_left();
}

#[test]
fn twenty_instances_end_together() {
    let mut house = House::start();
    let (mut data, _) = house.serving();
    for id in 1..=20 {
        data.start_with(
            id,
            &json!("trap '' TERM; while :; do sleep 1000; done"),
            &[("stop_grace_ms", json!(500))],
        );
    }
    // They come to run in any order.
    let mut running = 0;
    while running < 20 {
        running += usize::from(data.change().state() == "running");
    }
    let started = std::time::Instant::now();
    assert_eq!(house.stop(&mut data), Some(0));
    // One after the other it would take ten seconds.
    assert!(
        started.elapsed() < Duration::from_secs(7),
        "{:?}",
        started.elapsed()
    );
    house.nothing_left();
}

#[test]
fn a_child_that_was_there_before_the_keeper_is_left_alone() {
    let script = "sleep 1000 & exec \"$@\"";
    let house = House::start_with(&["sh", "-c", script, "sh"], &[]);
    let (mut data, _) = house.serving();
    let instance = data.start(1, &json!("sleep 1000 & exec sleep 1000"));
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", house.pid()));
    let sidecar: u32 = children
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(house::command_line(sidecar).contains("sleep"));
    kill(instance.shim(), Signal::KILL);
    data.instance(1, "backoff");
    assert!(!alive(instance.pid()));
    assert!(alive(sidecar), "a stranger was killed");
}

#[test]
fn the_keeper_has_many_descriptors_and_instances_have_what_the_user_set() {
    let script = "ulimit -Sn 512; exec \"$@\"";
    let house = House::start_with(&["sh", "-c", script, "sh"], &[]);
    let (mut data, _) = house.serving();
    for upgrade in [false, true] {
        if upgrade {
            house.signal(Signal::USR2);
            (data, _) = house.serving();
            house.line_with("the keeper is of version");
        }
        // More than 512 with the copies on their way.
        let key = format!("public {upgrade}");
        data.tell(&json!({"type": "bind", "key": key, "address": "127.0.0.1:0", "sockets": 256}));
        assert_eq!(data.wait("bound")["descriptors"], 256);
        let id = 1 + u64::from(upgrade);
        data.start(id, &json!("ulimit -Sn; exec sleep 1000"));
        let line = format!("web.{id} | 512");
        house.line(|text| (text == line).then_some(()));
    }
}

#[test]
fn who_has_no_more_descriptors_loses_only_those() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let bind =
        |key: &str| json!({"type": "bind", "key": key, "address": "127.0.0.1:0", "sockets": 2});
    let long = format!("exec sleep 1000 # {}", "x".repeat(100_000));
    data.start(1, &json!(long));
    data.tell(&json!({"probe": "open_files", "most": 3}));
    data.tell(&bind("one"));
    let bound = data.wait("bound");
    assert_eq!(
        (&bound["sockets"], &bound["descriptors"]),
        (&json!(2), &json!(0))
    );
    // What was said in a file that did not arrive is lost, and no more than that.
    data.tell(&json!({"type": "stop_instance", "id": 1}));
    let ignored = data.wait("ignored");
    let line = ignored["line"].as_str().unwrap();
    assert!(line.contains("ulimit -n"), "{line}");
    data.tell(&json!({"probe": "open_files", "most": 200}));
    data.tell(&bind("two"));
    let bound = data.wait("bound");
    assert_eq!(
        (&bound["sockets"], &bound["descriptors"]),
        (&json!(2), &json!(2))
    );
}

#[test]
fn what_does_not_fit_is_not_kept_in_an_older_form() {
    let house = House::start();
    let (mut first, _) = house.serving();
    let keep =
        |key: &str, length: usize| json!({"type": "keep", "key": key, "value": "x".repeat(length)});
    let mib = 1024 * 1024;
    first.tell(&keep("a", 5 * mib));
    first.tell(&keep("b", 1));
    for _ in 0..2 {
        first.tell(&keep("b", 4 * mib));
    }
    house.line_with("`b` is not kept");
    first.tell(&keep("c", mib));
    first.bind("127.0.0.1:0", 1);
    kill(first.pid, Signal::KILL);
    let (_, hello) = house.data();
    let kept: Vec<&String> = hello["kept"].as_object().unwrap().keys().collect();
    assert_eq!(kept, ["a", "c"]);
}

#[test]
fn signals_for_the_keeper_do_nothing_to_the_others() {
    let house = House::start();
    let (mut data, _) = house.serving();
    let report = data.start(1, &json!("exec sleep 1000"));
    for signal in [Signal::HUP, Signal::USR2] {
        kill(data.pid, signal);
        kill(report.shim(), signal);
    }
    data.bind("127.0.0.1:0", 1);
    kill(report.pid(), Signal::KILL);
    let again = data.instance(1, "running");
    assert!(again.last_exit().contains("SIGKILL"), "{again:?}");
    assert_eq!(again.0["restarts"], 1);
}
