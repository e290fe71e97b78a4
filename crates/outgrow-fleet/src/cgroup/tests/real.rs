//! Tests with the real control groups of this machine; they fail where these cannot be written
//! (`cargo xtask test` says so beforehand). The end-to-end tests have whole instances in them.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::super::group::{apply, remove};
use super::super::house::{House, hall_v2, hand_on_by_name, pids, write};
use super::super::parse::mounts;
use crate::protocol::limits::{Limits, Version};

/// A child that ends with the test.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn limits_are_taken_by_the_kernel_of_this_machine() {
    let house = House::build();
    let grant = house.grant("test", 1);
    let wanted = Limits {
        cpu_thousandths: Some(250),
        memory_bytes: Some(64 << 20),
        processes: Some(20),
        required: true,
    };
    let outcome = apply(&grant, wanted, Limits::default());
    let place = grant.memory.as_ref().map(|place| place.directory.clone());
    let removed = || place.as_ref().map(|directory| !directory.exists());
    let before = removed();
    remove(&grant);
    house.leave();
    assert_eq!(outcome.problems, Vec::<String>::new());
    assert_eq!(outcome.in_force, wanted);
    assert_eq!((before, removed()), (Ok(false), Ok(true)));
}

/// The hierarchy of version 2 with the controllers that it has to give.
fn unified() -> Option<(PathBuf, Vec<String>)> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts(&text)
        .into_iter()
        .find(|mount| mount.version == Version::V2)?;
    let offered = fs::read_to_string(mount.point.join("cgroup.controllers")).ok()?;
    let names = offered.split_ascii_whitespace().map(str::to_owned);
    Some((mount.point, names.collect()))
}

/// The kernel's rule that shapes the v2 layout, with a controller that v1 does not hold here: only
/// when our processes are in a leaf does the group hand it on, and those of others are in the way.
#[test]
fn version_2_hands_on_when_the_processes_are_in_a_leaf() {
    // Those that may not be handed on while the group holds processes; processors and pids may.
    let domain = ["memory", "hugetlb", "io"];
    let Some((mount, offered)) = unified() else {
        panic!(
            "no hierarchy of version 2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified"
        );
    };
    let controller = offered.iter().find(|name| domain.contains(&name.as_str()));
    let Some(controller) = controller else {
        panic!("the hierarchy of version 2 has no domain controller free: {offered:?}");
    };
    let control = mount.join("cgroup.subtree_control");
    write(&control, &format!("+{controller}")).unwrap();
    let base = mount.join(format!("outgrow-test-{}", std::process::id()));
    fs::create_dir(&base).unwrap();
    let (own, stranger) = (Sleeper::start(), Sleeper::start());
    let enter = |pid: u32| write(&base.join("cgroup.procs"), &pid.to_string());
    enter(own.pid()).unwrap();
    enter(stranger.pid()).unwrap();
    let result = with_stranger(&base, controller, own.pid(), stranger);
    // Back where they came from, so that the groups can go.
    for directory in [base.join("outgrow-1-2-3/main"), base.clone()] {
        for pid in pids(&directory).unwrap_or_default() {
            write(&mount.join("cgroup.procs"), &pid.to_string()).unwrap();
        }
    }
    drop(own);
    for directory in [
        "outgrow-1-2-3/main",
        "outgrow-1-2-3/web.1-1",
        "outgrow-1-2-3",
        "",
    ] {
        let _ = fs::remove_dir(base.join(directory));
    }
    assert!(!base.exists(), "the groups are left");
    // Another one may use it by now: then it stays.
    let _ = write(&control, &format!("-{controller}"));
    result.unwrap();
}

fn with_stranger(base: &Path, controller: &str, own: u32, stranger: Sleeper) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let build = || hall_v2(base, "outgrow-1-2-3", &|| Ok(vec![own]));
    let told = "other processes are in outgrow's own";
    let refused = build().unwrap_err();
    assert!(refused.contains(told), "{refused}");
    let inside: HashSet<u32> = pids(base).map_err(failed)?.into_iter().collect();
    assert_eq!(inside, HashSet::from([own, stranger.pid()]), "all stay");
    drop(stranger);
    let mut hall = build()?;
    let main = base.join("outgrow-1-2-3/main");
    assert_eq!(pids(&main).map_err(failed)?, [own]);
    // One that comes after that look is the kernel's to refuse.
    let stranger = Sleeper::start();
    write(&base.join("cgroup.procs"), &stranger.pid().to_string()).map_err(failed)?;
    let refused = hand_on_by_name(&mut hall, controller).unwrap_err();
    assert!(refused.contains(told), "{refused}");
    drop(stranger);
    hand_on_by_name(&mut hall, controller)?;
    let leaf = base.join("outgrow-1-2-3/web.1-1");
    fs::create_dir(&leaf).map_err(failed)?;
    let offered = fs::read_to_string(leaf.join("cgroup.controllers")).map_err(failed)?;
    assert_eq!(offered.trim(), controller);
    // In and out again, as a shim does.
    for directory in [&leaf, &main] {
        write(&directory.join("cgroup.procs"), &own.to_string()).map_err(failed)?;
        assert_eq!(pids(directory).map_err(failed)?, [own]);
    }
    Ok(())
}
