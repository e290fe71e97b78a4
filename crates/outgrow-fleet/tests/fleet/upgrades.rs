//! Upgrades with real processes: old and new side by side, and the keeper
//! becoming the new binary.

use crate::house::{House, PROBE, alive, ask, environment, executable, kill, wait_gone};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn an_upgrade_keeps_everything_and_the_keeper_becomes_the_new_binary() {
    let mut house = House::start();
    let (mut old, _) = house.serving();
    let address = old.bind("127.0.0.1:0", 2);
    old.serve();
    old.tell(&json!({"type": "keep", "key": "k", "value": "v"}));
    let instance = old.start(1, &json!("echo up; exec sleep 1000"));
    let binary = house.file("probe-new");
    std::fs::copy(PROBE, &binary).unwrap();
    old.tell(&json!({"type": "upgrade", "binary": binary}));
    let (mut new, hello) = house.data();
    assert_eq!(hello["upgrade"], true);
    assert_eq!(hello["descriptors"], 2);
    assert_eq!(hello["kept"], json!({"k": "v"}));
    assert_eq!(executable(new.pid).to_str(), Some(binary.as_str()));
    // A command before the promotion waits for it.
    new.start_with(2, &json!("exec sleep 1000"), &[]);
    new.serve();
    new.ready();
    assert_eq!(old.wait("upgrade_result")["ok"], true);
    assert_eq!(old.wait("drain")["reason"], "upgrade");
    new.instance(2, "running");
    house.line_with("the keeper is of version");
    assert_eq!(executable(house.pid()).to_str(), Some(binary.as_str()));
    assert!(alive(instance.pid()) && alive(old.pid));
    assert!(!environment(new.pid).contains_key("OUTGROW_KEEPER_RESUME"));
    // The old one's commands do not count any more; both hear of instances.
    old.tell(&json!({"type": "stop_instance", "id": 1}));
    // What it would keep the new one hears, which decides.
    old.tell(&json!({"type": "keep", "key": "k", "value": "last"}));
    let kept = new.wait("kept");
    assert_eq!(
        (&kept["key"], &kept["value"]),
        (&json!("k"), &json!("last"))
    );
    kill(instance.pid(), Signal::KILL);
    assert_eq!(old.instance(1, "running").0["restarts"], 1);
    let restarted = new.instance(1, "running");
    assert!(!environment(restarted.pid()).contains_key("OUTGROW_KEEPER_RESUME"));
    assert_eq!(executable(restarted.shim()).to_str(), Some(binary.as_str()));
    old.exit(0);
    wait_gone(old.pid);
    // Only the new one is there, so all connections are its.
    for _ in 0..8 {
        assert_eq!(ask(&address), "generation 2\n");
    }
    // The sockets survive a death of the new one, too.
    kill(new.pid, Signal::KILL);
    let (mut third, hello) = house.serving();
    assert_eq!(
        (&hello["generation"], &hello["descriptors"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(hello["kept"], json!({"k": "v"}));
    assert_eq!(house.stop(&mut third), Some(0));
    house.nothing_left();
}

#[test]
fn upgrades_follow_each_other_and_old_ones_end_in_time() {
    let mut house = House::start();
    let (mut first, _) = house.serving();
    let instance = first.start(1, &json!("exec sleep 1000"));
    first.tell(&json!({"type": "set_limits", "stop_drain_ms": 100, "upgrade_drain_ms": 60_000}));
    let mut drained = vec![first];
    for generation in 2..=4 {
        house.signal(Signal::USR2);
        let (new, hello) = house.serving();
        assert_eq!(hello["generation"], generation);
        assert_eq!(
            drained.last_mut().unwrap().wait("drain")["reason"],
            "upgrade"
        );
        house.line_with("the keeper is of version");
        drained.push(new);
    }
    assert!(drained.iter().all(|data| alive(data.pid)));
    let last = drained.last_mut().unwrap();
    last.tell(&json!({"type": "set_limits", "stop_drain_ms": 100, "upgrade_drain_ms": 50}));
    let pid = last.pid;
    house.signal(Signal::USR2);
    let (mut new, _) = house.serving();
    wait_gone(pid);
    assert!(alive(instance.pid()));
    drained.iter_mut().take(3).for_each(|data| data.exit(0));
    assert_eq!(house.stop(&mut new), Some(0));
    house.nothing_left();
}

#[test]
fn the_new_one_hears_which_instances_old_ones_still_need() {
    let mut house = House::start();
    let (mut first, _) = house.serving();
    house.signal(Signal::USR2);
    let (mut second, _) = house.serving();
    first.wait("drain");
    house.line_with("the keeper is of version");
    first.tell(&json!({"type": "in_flight", "instances": [3, 1]}));
    assert_eq!(second.wait("in_flight")["instances"], json!([1, 3]));
    // The next one hears of all, before anything changes.
    house.signal(Signal::USR2);
    let (mut third, _) = house.serving();
    second.wait("drain");
    assert_eq!(third.wait("in_flight")["instances"], json!([1, 3]));
    second.tell(&json!({"type": "in_flight", "instances": [2]}));
    assert_eq!(third.wait("in_flight")["instances"], json!([1, 2, 3]));
    first.exit(0);
    assert_eq!(third.wait("in_flight")["instances"], json!([2]));
    second.tell(&json!({"type": "in_flight", "instances": []}));
    assert_eq!(third.wait("in_flight")["instances"], json!([]));
    second.exit(0);
    assert_eq!(house.stop(&mut third), Some(0));
    house.nothing_left();
}

#[test]
fn an_upgrade_that_never_gets_ready_changes_nothing() {
    let house = House::start_with(&[], &[("PROBE_READY_MS", "400")]);
    let (mut old, _) = house.serving();
    let pid = executable(house.pid());
    // Never ready.
    house.signal(Signal::USR2);
    let (new, _) = house.data();
    let result = old.wait("upgrade_result");
    assert_eq!(result["ok"], false);
    wait_gone(new.pid);
    // Says itself that it cannot.
    house.signal(Signal::USR2);
    let (mut new, _) = house.data();
    new.tell(&json!({"type": "fatal", "message": "I do not like it"}));
    assert_eq!(old.wait("upgrade_result")["message"], "I do not like it");
    // No such file, no executable one.
    for (binary, expected) in [
        ("/no/such/binary", "No such file"),
        ("/etc/passwd", "not an exec"),
    ] {
        old.tell(&json!({"type": "upgrade", "binary": binary}));
        let result = old.wait("upgrade_result");
        let message = result["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message}");
    }
    // One that somebody else could have written.
    let copy = house.file("writable");
    std::fs::copy(PROBE, &copy).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o757);
    std::fs::set_permissions(&copy, open).unwrap();
    old.tell(&json!({"type": "upgrade", "binary": copy}));
    let result = old.wait("upgrade_result");
    let message = result["message"].as_str().unwrap();
    assert!(message.contains("written by others"), "{message}");
    if rustix::process::geteuid().is_root() {
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&copy, own).unwrap();
        std::os::unix::fs::chown(&copy, Some(4242), None).unwrap();
        old.tell(&json!({"type": "upgrade", "binary": copy}));
        let result = old.wait("upgrade_result");
        let message = result["message"].as_str().unwrap();
        assert!(message.contains("belongs to user 4242"), "{message}");
    }
    // A program that is none of ours.
    old.tell(&json!({"type": "upgrade", "binary": "/bin/true"}));
    assert_eq!(old.wait("upgrade_result")["ok"], false);
    old.start(1, &json!("exec sleep 1000"));
    assert_eq!(executable(house.pid()), pid);
}

#[test]
fn a_data_process_may_die_during_an_upgrade() {
    let house = House::start();
    let (old, _) = house.serving();
    house.signal(Signal::USR2);
    let (mut candidate, hello) = house.data();
    assert_eq!(hello["generation"], 2);
    kill(old.pid, Signal::KILL);
    let (mut again, hello) = house.serving();
    assert_eq!(
        (&hello["generation"], &hello["upgrade"]),
        (&json!(3), &json!(false))
    );
    candidate.ready();
    assert_eq!(again.wait("drain")["reason"], "upgrade");
    candidate.start(1, &json!("exec sleep 1000"));
}

#[test]
fn a_replaced_binary_starts_only_by_an_upgrade() {
    let mut house = House::start();
    // The keeper of this house runs from a copy that is replaced on disk.
    let binary = house.file("outgrow");
    let next = house.file("outgrow.next");
    std::fs::copy(PROBE, &binary).unwrap();
    std::fs::copy(PROBE, &next).unwrap();
    let (mut data, _) = house.serving();
    data.tell(&json!({"type": "upgrade", "binary": binary}));
    let (new, _) = house.serving();
    house.line_with("the keeper is of version");
    std::fs::rename(&next, &binary).unwrap();
    data.exit(0);
    kill(new.pid, Signal::KILL);
    let (mut again, _) = house.serving();
    assert!(
        executable(again.pid)
            .to_string_lossy()
            .ends_with("outgrow (deleted)")
    );
    house.signal(Signal::USR2);
    let (mut upgraded, _) = house.serving();
    house.line_with("the keeper is of version");
    assert_eq!(executable(upgraded.pid).to_str(), Some(binary.as_str()));
    assert_eq!(executable(house.pid()).to_str(), Some(binary.as_str()));
    again.exit(0);
    assert_eq!(house.stop(&mut upgraded), Some(0));
}

#[test]
fn upgrades_leak_no_descriptor_and_keep_instances_in_every_state() {
    let mut house = House::start();
    let (mut data, _) = house.serving();
    data.bind("127.0.0.1:0", 3);
    let stubborn = "trap '' TERM; echo up; while :; do sleep 1000; done";
    data.start_with(1, &json!(stubborn), &[("stop_grace_ms", json!(700))]);
    let stopping = data.instance(1, "running");
    house.line_with("web.1 | up");
    // One waits for its restart, one is being stopped, one runs.
    let policy = json!({"first_ms": 1500, "max_ms": 1500});
    data.start_with(2, &json!("exit 1"), &[("restart", policy)]);
    data.instance(2, "backoff");
    let running = data.start(3, &json!("exec sleep 1000"));
    data.tell(&json!({"type": "stop_instance", "id": 1}));
    data.instance(1, "stopping");
    let descriptors = |pid: u32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        open.count()
    };
    let mut counts = Vec::new();
    for _ in 0..5 {
        house.signal(Signal::USR2);
        let (mut new, hello) = house.serving();
        data.wait("drain");
        data.exit(0);
        house.line_with("the keeper is of version");
        wait_gone(data.pid);
        assert_eq!(hello["descriptors"], 3);
        // A round trip: the keeper is done with what came before.
        new.tell(&json!({"type": "bind", "key": "none", "address": "none", "sockets": 1}));
        new.wait("bind_failed");
        data = new;
        counts.push(descriptors(house.pid()));
    }
    assert!(counts[4] <= counts[0], "descriptors leak: {counts:?}");
    data.instance(2, "running");
    wait_gone(stopping.shim());
    assert!(!alive(stopping.pid()) && alive(running.pid()));
    assert_eq!(house.stop(&mut data), Some(0));
    house.nothing_left();
}

#[test]
fn no_signal_is_deadly_while_the_keeper_becomes_the_new_binary() {
    let mut house = House::start();
    let (mut data, _) = house.serving();
    let keeper = house.pid();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let sender = std::thread::spawn(move || {
        let mut sent = 0_u32;
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            kill(keeper, Signal::HUP);
            sent += 1;
        }
        sent
    });
    for _ in 0..20 {
        house.signal(Signal::USR2);
        let (new, _) = house.serving();
        data.wait("drain");
        data.exit(0);
        house.line_with("the keeper is of version");
        data = new;
    }
    stop.send(()).unwrap();
    assert!(sender.join().unwrap() > 1_000);
    house.signal(Signal::HUP);
    data.wait("reload");
    assert_eq!(house.stop(&mut data), Some(0));
}

#[test]
fn who_drains_for_an_upgrade_may_end_by_itself() {
    let house = House::start_with(&[], &[("PROBE_MARGIN_MS", "60000")]);
    let (mut old, _) = house.serving();
    old.tell(&json!({"type": "set_limits", "stop_drain_ms": 0, "upgrade_drain_ms": 0}));
    house.signal(Signal::USR2);
    let (mut new, _) = house.serving();
    old.wait("drain");
    house.line_with("the keeper is of version");
    // Its time is over, and it is still there to end in order.
    new.tell(&json!({"type": "bind", "key": "none", "address": "none", "sockets": 1}));
    new.wait("bind_failed");
    old.exit(7);
    house.line_with("has drained (exit code 7)");
}

#[test]
fn what_only_a_dead_candidate_wanted_is_not_held() {
    let house = House::start();
    let (mut old, _) = house.serving();
    let kept = old.bind("127.0.0.1:0", 1);
    for dies in [true, false] {
        house.signal(Signal::USR2);
        let (mut new, _) = house.data();
        new.tell(&json!({"type": "bind", "key": "new", "address": "127.0.0.1:0", "sockets": 1}));
        let address = new.wait("bound")["address"].as_str().unwrap().to_owned();
        // One that was there before it came stays.
        assert_eq!(new.bind("127.0.0.1:0", 1), kept);
        if dies {
            new.exit(9);
        } else {
            new.tell(&json!({"type": "release", "key": "new"}));
            new.tell(&json!({"type": "release", "key": "public"}));
            new.tell(&json!({"type": "fatal", "message": "no"}));
        }
        assert_eq!(old.wait("upgrade_result")["ok"], false);
        wait_gone(new.pid);
        assert!(std::net::TcpStream::connect(&address).is_err(), "{address}");
        std::net::TcpStream::connect(&kept).unwrap();
    }
}
