//! The harness against stand-ins for outgrow: shell scripts, as what is tested
//! here is that the harness sees, reports and kills. The admin listener of the
//! stand-in is a recorder in this process.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::backend::{Recorder, Script, response};

/// Writes a shell script that stands in for the binary.
fn stand_in(folder: &Folder, script: &str) -> PathBuf {
    let path = folder
        .write("stand-in", format!("#!/bin/sh\n{script}\n"))
        .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn admin() -> Recorder {
    Recorder::start(Script::answer(response("ready\n"))).unwrap()
}

#[test]
fn a_missing_binary_is_named() {
    let error = Launch::config("")
        .binary("/nowhere/outgrow")
        .start()
        .unwrap_err();
    assert!(
        error.to_string().starts_with("outgrow cannot be started"),
        "{error}"
    );
}

#[test]
fn an_exit_is_told_with_what_was_written() {
    let folder = Folder::new("stand-in").unwrap();
    let binary = stand_in(
        &folder,
        "cat outgrow.toml >&2; echo 'line 3: no' >&2; exit 3",
    );
    let error = Launch::config("[listener.public]\naddress = \"%public%\"")
        .binary(binary)
        .start()
        .unwrap_err();
    let OutgrowError::Exited { status, stderr } = &error else {
        panic!("{error}");
    };
    assert_eq!(status.code(), Some(3));
    assert!(stderr.contains("address = \"127.0.0.1:"), "{stderr}");
    assert!(
        stderr.contains("[admin]\nlisten = \"127.0.0.1:"),
        "{stderr}"
    );
    assert!(error.to_string().ends_with("line 3: no\n"), "{error}");
}

#[test]
fn never_ready_is_told() {
    let folder = Folder::new("stand-in").unwrap();
    let binary = stand_in(&folder, "exec sleep 60");
    let error = Launch::config("")
        .binary(binary)
        .ready_limit(Duration::from_millis(100))
        .start()
        .unwrap_err();
    assert!(error.to_string().contains("/readyz is 200"), "{error}");
}

#[test]
fn a_process_left_behind_is_seen_and_killed() {
    let folder = Folder::new("stand-in").unwrap();
    // The child leaves the tree: its parent ends, its session is its own.
    let binary = stand_in(&folder, "setsid sleep 61 & exec sleep 62");
    let admin = admin();
    let outgrow = Launch::config("")
        .binary(binary)
        .address("admin", admin.address())
        .start()
        .unwrap();
    let sleepers = |outgrow: &Outgrow| {
        let all = outgrow.all_processes();
        let asleep = all
            .iter()
            .all(|one| one.command.first().is_some_and(|word| word == "sleep"));
        (all.len() == 2 && asleep).then_some(all)
    };
    let all = outgrow.wait("two sleepers", GONE_LIMIT, sleepers).unwrap();
    let error = outgrow.stop().unwrap_err();
    let OutgrowError::Left { left } = &error else {
        panic!("{error}");
    };
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].command, ["sleep", "61"]);
    // The stop has dropped it.
    assert!(all.iter().all(|one| !processes::is_running(one.pid)));
}

#[test]
fn only_its_own_processes_are_killed() {
    let folder = Folder::new("stand-in").unwrap();
    let binary = stand_in(&folder, "exec sleep 63");
    let admin = admin();
    let launch = Launch::config("")
        .binary(binary)
        .address("admin", admin.address());
    let mut outgrow = launch.start().unwrap();
    assert!(outgrow.kill9(std::process::id()).is_err());
    outgrow.kill9(outgrow.pids().keeper).unwrap();
    assert!(outgrow.wait_exit(GONE_LIMIT).unwrap().code().is_none());
}

#[test]
fn processes_are_told_apart() {
    let process = |pid, parent, words: &[&str]| Process {
        pid,
        parent,
        command: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    let below = vec![
        process(30, 10, &["outgrow", "data", "--config", "x"]),
        process(11, 10, &["outgrow", "data"]),
        process(12, 10, &["outgrow", "shim"]),
        process(13, 12, &["node", "server.js"]),
        process(14, 13, &["node", "shim"]),
        process(15, 10, &["sh", "stray"]),
    ];
    let expected = Pids {
        keeper: 10,
        data: vec![11, 30],
        shims: vec![12],
        instances: vec![13],
        others: vec![14, 15],
    };
    assert_eq!(sort(10, below), expected);
}
