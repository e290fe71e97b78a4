//! Started as root with `--user`: what of root's rights is left in whom, and that everything which
//! needs one goes on working: ports below 1024 at the start, after a reload and after an upgrade.
//!
//! Needs root, as the tests in namespaces do.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use outgrow_testkit::{
    http,
    outgrow::{Launch, Outgrow, binary},
};

use crate::shop;

/// A user without rights that every Debian has.
const USER: &str = "nobody";
/// `CAP_NET_BIND_SERVICE`.
const LOW_PORTS: u64 = 1 << 10;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A field of `/proc/PID/status`, whole.
fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.expect("a field").trim().to_owned()
}

fn set(pid: u32, field: &str) -> u64 {
    u64::from_str_radix(&status(pid, field), 16).expect("a set")
}

/// All four of a process's user and group numbers are those of [`USER`], and it can gain nothing.
fn is_dropped(pid: u32, capabilities: u64) {
    for field in ["Uid:", "Gid:"] {
        let numbers = status(pid, field);
        let numbers: Vec<u32> = numbers.split_whitespace().flat_map(str::parse).collect();
        assert_eq!(numbers, [65534; 4], "{field} of {pid}");
    }
    assert_eq!(status(pid, "NoNewPrivs:"), "1", "{pid}");
    for field in ["CapPrm:", "CapEff:"] {
        assert_eq!(set(pid, field), capabilities, "{field} of {pid}");
    }
    for field in ["CapInh:", "CapAmb:"] {
        assert_eq!(set(pid, field), 0, "{field} of {pid}");
    }
    assert_eq!(set(pid, "CapBnd:"), LOW_PORTS, "CapBnd of {pid}");
}

fn all_are_dropped(outgrow: &Outgrow) {
    let pids = outgrow.pids();
    is_dropped(pids.keeper, LOW_PORTS);
    assert!(!pids.data.is_empty() && !pids.instances.is_empty());
    let others = [&pids.data, &pids.shims, &pids.instances, &pids.others];
    for pid in others.into_iter().flatten() {
        is_dropped(*pid, 0);
    }
}

fn config(low: &[u16]) -> String {
    let mut config = shop::config(1, "listen = \"socket\"");
    for (number, port) in low.iter().enumerate() {
        config += &format!("\n[listener.low{number}]\naddress = \"127.0.0.3:{port}\"\n");
    }
    config
}

fn launch(config: &str, more: &[&str]) -> Launch {
    let words = [&["run", "--config", "outgrow.toml"], more].concat();
    Launch::config(config).words(&words)
}

/// Two ports below 1024 of an address that nobody else uses.
fn low_ports() -> [u16; 2] {
    let first = 300 + u16::try_from(std::process::id() % 300).expect("small");
    [first, first + 301]
}

fn answers(port: u16) {
    let answer = http::get(&format!("http://127.0.0.3:{port}/whoami")).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn ports_below_1024_are_bound_and_nobody_keeps_more_than_that() {
    assert!(is_root(), "this test needs root");
    let [first, second] = low_ports();
    let launch = launch(&config(&[first]), &["--user", USER]);
    let mut outgrow = launch.open_folder().start().expect("outgrow starts");
    shop::wait_ready(&outgrow, 1);
    all_are_dropped(&outgrow);
    answers(first);
    outgrow.reload(&config(&[first, second])).expect("a reload");
    answers(second);
    let keeper = outgrow.pids().keeper;
    outgrow.upgrade(None).expect("an upgrade");
    // The keeper becomes the new binary after that, with what it has.
    outgrow.wait_told("the keeper is of version").expect("told");
    assert_eq!(outgrow.pids().keeper, keeper);
    all_are_dropped(&outgrow);
    outgrow.reload(&config(&[first])).expect("a reload");
    outgrow.reload(&config(&[first, second])).expect("a reload");
    answers(first);
    answers(second);
    // A data process that dies is followed by one with as little.
    let data = outgrow.pids().data;
    outgrow.kill9(data[0]).expect("killed");
    let next =
        |outgrow: &Outgrow| (outgrow.is_ready() && outgrow.pids().data != data).then_some(());
    let limit = Duration::from_secs(20);
    outgrow
        .wait("another data process", limit, next)
        .expect("one");
    all_are_dropped(&outgrow);
    assert!(outgrow.stop().expect("it stops").success());
}

#[test]
fn an_instance_finds_the_surroundings_of_its_user() {
    assert!(is_root(), "this test needs root");
    let config = shop::config(1, "");
    let launch = launch(&config, &["--user", USER, "--group", "daemon"]);
    let launch = launch.environment("XDG_RUNTIME_DIR", "/root");
    let outgrow = launch.open_folder().start().expect("outgrow starts");
    shop::wait_ready(&outgrow, 1);
    let instance = outgrow.pids().instances[0];
    let environment = fs::read(format!("/proc/{instance}/environ")).expect("an environment");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let has = |entry: &str| environment.split('\0').any(|one| one == entry);
    assert!(has("USER=nobody") && has("LOGNAME=nobody"), "{environment}");
    assert!(has("HOME=/nonexistent"), "{environment}");
    assert!(!environment.contains("XDG_RUNTIME_DIR"), "{environment}");
    // Of the group that was named, and none of root's.
    assert_eq!(status(instance, "Gid:"), "1\t1\t1\t1");
    assert_eq!(status(instance, "Groups:"), "1");
}

#[test]
fn what_the_user_cannot_read_is_said_before_anything_starts() {
    assert!(is_root(), "this test needs root");
    let folder = outgrow_testkit::folder::Folder::new("rights").expect("a folder");
    open(folder.path());
    let file = folder.write("secret.toml", config(&[])).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("closed");
    let run = |user: &str| {
        let mut command = Command::new(binary().expect("a binary"));
        command.args(["run", "--user", user, "--config"]).arg(&file);
        let output = command.output().expect("it ran");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = run(USER);
    assert!(said.contains("secret.toml: Permission denied"), "{said}");
    let said = run("no-such-user");
    assert!(said.contains("no user `no-such-user`"), "{said}");
    let said = run("root");
    assert!(said.contains("`--user root` is root"), "{said}");
}

#[test]
fn who_is_not_root_cannot_become_another_user() {
    assert!(is_root(), "this test needs root");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(binary().expect("a binary"));
    let output = command
        .args(["run", "--user", "daemon"])
        .output()
        .expect("it ran");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("needs root, and this is user 65534"),
        "{said}"
    );
}

/// A right that was given from outside is the keeper's alone.
#[test]
fn a_given_right_to_low_ports_is_not_inherited() {
    assert!(is_root(), "this test needs root");
    let [port, _] = low_ports();
    let port = port + 1;
    let ours = binary().expect("a binary");
    let ours = ours.to_str().expect("a path");
    let words = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all,+net_bind_service",
        "--ambient-caps=-all,+net_bind_service",
        ours,
        "run",
        "--config",
        "outgrow.toml",
    ];
    let launch = Launch::config(&config(&[port]))
        .words(&words)
        .binary("/usr/bin/setpriv");
    let outgrow = launch.open_folder().start().expect("outgrow starts");
    shop::wait_ready(&outgrow, 1);
    answers(port);
    outgrow.upgrade(None).expect("an upgrade");
    outgrow.wait_told("the keeper is of version").expect("told");
    let pids = outgrow.pids();
    assert_eq!(set(pids.keeper, "CapEff:"), LOW_PORTS);
    for pid in pids.data.iter().chain(&pids.shims).chain(&pids.instances) {
        for field in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
            assert_eq!(set(*pid, field), 0, "{field} of {pid}");
        }
    }
}

fn open(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("opened");
}
