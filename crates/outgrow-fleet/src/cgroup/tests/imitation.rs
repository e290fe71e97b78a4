//! Tests of the v2 side against a directory tree that imitates it: files are files, and the kernel's
//! rules are not there. What is written where is all that these show; the one rule that shapes the
//! layout, that a group which hands controllers on holds no processes, is tested in `real`.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::group::{self, apply, usage};
use super::super::house::{House, hall_v2};
use super::super::layout::{Base, Layout};
use super::super::leftovers::{is_dead, sweep_in};
use crate::protocol::limits::{Controller, Grant, Limits, Version};

/// A directory that is removed with it.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let name = format!("outgrow-imitation-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A group of a v2 hierarchy that is not the root, with this process in it.
fn delegated(name: &str) -> (Tree, Layout) {
    let tree = Tree::new(name);
    tree.write("cgroup.events", "populated 1\nfrozen 0\n");
    tree.write("cgroup.procs", &format!("{}\n", std::process::id()));
    tree.write("cgroup.subtree_control", "");
    let base = || {
        Ok(Base {
            version: Version::V2,
            directory: tree.0.clone(),
            top: tree.0.clone(),
            obstacle: None,
        })
    };
    let layout = Layout {
        cpu: base(),
        memory: base(),
        processes: base(),
    };
    (tree, layout)
}

fn limits() -> Limits {
    Limits {
        cpu_thousandths: Some(1_500),
        memory_bytes: Some(64 << 20),
        processes: Some(50),
        required: false,
    }
}

#[test]
fn an_instance_has_a_group_of_its_own_with_its_limits() {
    let (tree, layout) = delegated("limits");
    let house = House::in_layout(&layout, "outgrow-1-2-3");
    let own = tree.0.join("outgrow-1-2-3");
    let pid = std::process::id().to_string();
    assert_eq!(read(&own.join("main/cgroup.procs")), pid, "we went first");
    assert_eq!(read(&tree.0.join("cgroup.subtree_control")), "+pids");
    let grant = house.grant("web.1", 7);
    let outcome = apply(&grant, limits(), Limits::default());
    assert_eq!((outcome.in_force, outcome.problems), (limits(), Vec::new()));
    let group = own.join("web.1-7");
    assert_eq!(read(&group.join("cpu.max")), "150000 100000");
    assert_eq!(read(&group.join("memory.max")), "67108864");
    assert_eq!(read(&group.join("pids.max")), "50");
    assert_eq!(grant.places().len(), 1, "one group for all controllers");

    let (inside, problems) = group::within(&grant, |problems| {
        assert!(problems.is_empty(), "{problems:?}");
        read(&group.join("cgroup.procs"))
    });
    assert_eq!((inside, problems), (pid.clone(), Vec::new()));
    assert_eq!(read(&own.join("main/cgroup.procs")), pid, "and back");

    let fewer = Limits {
        cpu_thousandths: None,
        memory_bytes: None,
        ..limits()
    };
    let outcome = apply(&grant, fewer, limits());
    assert_eq!(outcome.in_force, fewer);
    assert_eq!(read(&group.join("cpu.max")), "max 100000");
    assert_eq!(read(&group.join("memory.max")), "max");
}

#[test]
fn memory_that_is_in_use_is_not_killed_for() {
    let (_tree, layout) = delegated("shrink");
    let grant = House::in_layout(&layout, "outgrow-1-2-3").grant("web.1", 1);
    apply(&grant, limits(), Limits::default());
    let group = &grant.memory.as_ref().unwrap().directory;
    let stat = "anon 50000000\nfile 9000000\nkernel_stack 100\nslab 5\n";
    fs::write(group.join("memory.stat"), stat).unwrap();
    fs::write(group.join("memory.current"), "60000000\n").unwrap();
    let less = Limits {
        memory_bytes: Some(40 << 20),
        ..limits()
    };
    let outcome = apply(&grant, less, limits());
    assert_eq!(outcome.in_force, limits(), "the one before stays");
    let problem = &outcome.problems[0];
    assert!(
        problem.contains("more than 40MiB (57.2MiB now)") && problem.contains("64MiB stays"),
        "{problem}"
    );
    assert_eq!(read(&group.join("memory.max")), "67108864");
    // Files can be given up.
    let enough = Limits {
        memory_bytes: Some(50 << 20),
        ..limits()
    };
    assert_eq!(apply(&grant, enough, limits()).in_force, enough);
}

#[test]
fn what_the_kernel_counts_is_read() {
    let (_tree, layout) = delegated("usage");
    let grant = House::in_layout(&layout, "outgrow-1-2-3").grant("web.1", 1);
    apply(&grant, limits(), Limits::default());
    let group = &grant.memory.as_ref().unwrap().directory;
    let stat = "usage_usec 9\nnr_periods 5\nnr_throttled 2\nthrottled_usec 250000\n";
    fs::write(group.join("cpu.stat"), stat).unwrap();
    fs::write(group.join("memory.events"), "oom 3\noom_kill 2\n").unwrap();
    fs::write(group.join("memory.current"), "4096\n").unwrap();
    fs::write(group.join("pids.current"), "12\n").unwrap();
    let usage = usage(&grant);
    assert_eq!(usage.throttled, Some(std::time::Duration::from_millis(250)));
    assert_eq!(
        (usage.oom_kills, usage.memory_bytes, usage.processes),
        (Some(2), Some(4096), Some(12))
    );
}

#[test]
fn what_is_not_there_is_told_for_what_is_wanted_only() {
    let (_tree, layout) = delegated("partly");
    let layout = Layout {
        cpu: Err("no cpu here".to_owned()),
        ..layout
    };
    let house = House::in_layout(&layout, "outgrow-1-2-3");
    assert!(!house.is_void());
    let grant: Grant = house.grant("web.1", 1);
    let outcome = apply(&grant, limits(), Limits::default());
    assert_eq!(outcome.problems, ["cpu: no cpu here"]);
    assert_eq!(outcome.in_force.cpu_thousandths, None);
    assert_eq!(outcome.in_force.memory_bytes, limits().memory_bytes);
    let memory_only = Limits {
        memory_bytes: Some(8 << 20),
        ..Limits::default()
    };
    let outcome = apply(&grant, memory_only, Limits::default());
    assert_eq!(
        (outcome.in_force, outcome.problems),
        (memory_only, Vec::new())
    );
    // It goes to the next keeper as it is.
    let text = serde_json::to_string(&house).unwrap();
    assert_eq!(serde_json::from_str::<House>(&text).unwrap(), house);
}

#[test]
fn processes_of_others_stay_where_they_are() {
    let (tree, _) = delegated("others");
    tree.write("cgroup.procs", "17\n18\n19\n");
    let build = |ours: &'static [u32]| hall_v2(&tree.0, "outgrow-1-2-3", &|| Ok(ours.to_vec()));
    // And so do ours then: what is in the way can be told at the next start as well.
    let problem = build(&[7, 18]).unwrap_err();
    assert!(problem.contains("other processes are in"), "{problem}");
    assert!(!tree.0.join("outgrow-1-2-3").exists());
    build(&[7, 17, 18, 19]).unwrap();
    let main = tree.0.join("outgrow-1-2-3/main/cgroup.procs");
    assert_eq!(read(&main), "19", "the last one that was moved");
}

#[test]
fn only_groups_of_dead_keepers_are_leftovers() {
    let start_of = |pid: u32| (pid == 10).then_some(500);
    let check = |name: &str, expected: bool| {
        assert_eq!(is_dead(name, 4, &start_of), expected, "{name}");
    };
    check("outgrow-4-10-500", false);
    check("outgrow-4-10-499", true);
    check("outgrow-4-11-500", true);
    // Of another pid namespace: nothing is known of it.
    check("outgrow-5-11-500", false);
    for name in [
        "outgrow-4-11",
        "outgrow-4-11-500-1",
        "outgrow-x-11-500",
        "outgrow",
        "other-4-11-500",
        "outgrow-4-99999999999-1",
    ] {
        check(name, false);
    }
}

#[test]
fn leftovers_go_and_others_stay() {
    let tree = Tree::new("sweep");
    for directory in [
        "outgrow-dead/web.1-3",
        "outgrow-dead/main",
        "outgrow-lives/web.1-4",
        "system.slice/a.service",
    ] {
        fs::create_dir_all(tree.0.join(directory)).unwrap();
    }
    let removed = sweep_in(&tree.0, &|name| name == "outgrow-dead");
    assert_eq!(removed, 3);
    assert!(!tree.0.join("outgrow-dead").exists());
    assert!(tree.0.join("outgrow-lives/web.1-4").exists());
    assert!(tree.0.join("system.slice/a.service").exists());
    assert_eq!(sweep_in(&tree.0.join("none"), &|_| true), 0);
}

#[test]
fn controllers_have_the_kernels_names() {
    let names = Controller::ALL.map(Controller::kernel_name);
    assert_eq!(names, ["cpu", "memory", "pids"]);
}
