//! Tests of what is found in `/proc`, with what real machines have there; of a directory tree that
//! imitates v2 (`imitation`); and of the real control groups of this machine (`real`).

mod imitation;
mod real;

use std::path::Path;

use super::layout::Layout;
use super::parse::{cpu_max, keyed, limit, memberships, mounts};
use crate::protocol::limits::{Controller, Version};

/// A machine as its files show it.
struct Machine {
    cgroup: &'static str,
    mountinfo: &'static str,
    /// The text of every `cgroup.controllers`.
    controllers: &'static str,
}

/// A systemd service on Debian 12 (v2 only), with `Delegate=yes`.
const SYSTEMD: Machine = Machine {
    cgroup: "0::/system.slice/outgrow.service\n",
    mountinfo: "24 31 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n\
        35 23 0:29 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 \
        rw,nsdelegate,memory_recursiveprot\n",
    controllers: "cpuset cpu io memory hugetlb pids rdma misc\n",
};

/// A user's own session on Debian 12: no processors are delegated to it.
const USER: Machine = Machine {
    cgroup: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/outgrow.scope\n",
    controllers: "memory pids\n",
    ..SYSTEMD
};

/// Docker on v2, with a namespace of its own: mounted read-only.
const DOCKER: Machine = Machine {
    cgroup: "0::/\n",
    mountinfo: "1184 1180 0:29 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup \
        rw,nsdelegate,memory_recursiveprot\n",
    controllers: "cpuset cpu io memory hugetlb pids rdma misc\n",
};

/// Docker on v1: each hierarchy is mounted from the container's group on, read-only.
const DOCKER_V1: Machine = Machine {
    cgroup: "12:pids:/docker/4d5e\n11:memory:/docker/4d5e\n4:cpu,cpuacct:/docker/4d5e\n\
        1:name=systemd:/docker/4d5e\n0::/system.slice/containerd.service\n",
    mountinfo: "934 933 0:30 /docker/4d5e /sys/fs/cgroup/cpu,cpuacct ro,nosuid,nodev,noexec,relatime \
        master:14 - cgroup cgroup rw,cpu,cpuacct\n\
        938 933 0:34 /docker/4d5e /sys/fs/cgroup/memory ro,nosuid master:18 - cgroup cgroup rw,memory\n\
        939 933 0:35 /docker/4d5e /sys/fs/cgroup/pids rw,nosuid master:18 - cgroup cgroup rw,pids\n",
    controllers: "",
};

/// A container with the host's namespace: its group is not in what it sees.
const HOST_NAMESPACE: Machine = Machine {
    cgroup: "0::/../../kubepods.slice/pod1/cri-7\n",
    ..SYSTEMD
};

/// systemd's hybrid layout (Debian 10): limits are v1's, the unified one has no controllers.
const HYBRID: Machine = Machine {
    cgroup: "10:memory:/system.slice/outgrow.service\n9:pids:/system.slice/outgrow.service\n\
        3:cpu,cpuacct:/system.slice/outgrow.service\n1:name=systemd:/system.slice/outgrow.service\n\
        0::/system.slice/outgrow.service\n",
    mountinfo: "28 25 0:24 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
        31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:13 - cgroup cgroup rw,cpu,cpuacct\n\
        34 25 0:30 / /sys/fs/cgroup/memory rw,nosuid shared:16 - cgroup cgroup rw,memory\n\
        35 25 0:31 / /sys/fs/cgroup/pids rw,nosuid shared:17 - cgroup cgroup rw,pids\n",
    controllers: "\n",
};

/// v1 for memory, v2 for the rest (`cgroup_no_v1=cpu`), at a place with a blank.
const MIXED: Machine = Machine {
    cgroup: "4:memory:/\n0::/\n",
    mountinfo: "32 31 0:29 / /my\\040groups/memory rw - cgroup cgroup rw,memory\n\
        41 31 0:38 / /my\\040groups/unified rw - cgroup2 cgroup2 rw\n",
    controllers: "cpu io\n",
};

/// A sandbox without control groups.
const NONE: Machine = Machine {
    cgroup: "",
    mountinfo: "24 31 0:22 / /proc rw - proc proc rw\n",
    controllers: "",
};

/// Nothing is mounted, though there are groups.
const UNMOUNTED: Machine = Machine {
    cgroup: SYSTEMD.cgroup,
    ..NONE
};

fn find(machine: &Machine) -> Layout {
    let offered = |_: &Path| Some(machine.controllers.to_owned());
    Layout::find(machine.cgroup, machine.mountinfo, &offered)
}

/// What is found for cpu, memory and processes: a version and a directory, or a part of the reason.
fn check(machine: &Machine, expected: [Result<(Version, &str), &str>; 3]) {
    let layout = find(machine);
    for (controller, expected) in Controller::ALL.into_iter().zip(expected) {
        let base = layout.of(controller);
        let found = match base {
            Ok(base) => match &base.obstacle {
                None => Ok((base.version, base.directory.to_str().unwrap())),
                Some(obstacle) => Err(obstacle.as_str()),
            },
            Err(problem) => Err(problem.as_str()),
        };
        match (found, expected) {
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => assert_eq!(found, expected, "{controller}"),
        }
    }
}

#[test]
fn what_there_is_is_found_on_real_machines() {
    let v2 = |directory| Ok((Version::V2, directory));
    let v1 = |directory| Ok((Version::V1, directory));
    check(
        &SYSTEMD,
        [v2("/sys/fs/cgroup/system.slice/outgrow.service"); 3],
    );
    let scope =
        "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/outgrow.scope";
    check(&USER, [Err("cpu is not delegated"), v2(scope), v2(scope)]);
    check(&DOCKER, [Err("read-only"); 3]);
    check(
        &DOCKER_V1,
        [
            Err("read-only"),
            Err("read-only"),
            v1("/sys/fs/cgroup/pids"),
        ],
    );
    check(&HOST_NAMESPACE, [Err("not in what is mounted"); 3]);
    check(
        &HYBRID,
        [
            v1("/sys/fs/cgroup/cpu,cpuacct/system.slice/outgrow.service"),
            v1("/sys/fs/cgroup/memory/system.slice/outgrow.service"),
            v1("/sys/fs/cgroup/pids/system.slice/outgrow.service"),
        ],
    );
    check(
        &MIXED,
        [
            v2("/my groups/unified"),
            v1("/my groups/memory"),
            Err("pids is not delegated"),
        ],
    );
    check(&NONE, [Err("the kernel has no control groups"); 3]);
    check(&UNMOUNTED, [Err("are not mounted"); 3]);
}

#[test]
fn a_read_only_group_still_tells_what_it_allows() {
    let layout = find(&DOCKER);
    let base = layout.of(Controller::Memory).as_ref().unwrap();
    assert_eq!(base.directory, Path::new("/sys/fs/cgroup"));
}

#[test]
fn nonsense_is_nothing() {
    for text in [
        "",
        "\n",
        "x",
        "1:",
        "::",
        "0:cpu",
        "a - cgroup",
        "1 2 3 - cgroup2",
    ] {
        let _ = (memberships(text), mounts(text));
        let offered = |_: &Path| None;
        assert!(Layout::find(text, text, &offered).cpu.is_err(), "{text}");
    }
    let found = memberships("7:cpu,cpuacct:/a:b\n");
    assert_eq!(
        (found[0].path.as_str(), found[0].controllers.len()),
        ("/a:b", 2)
    );
}

#[test]
fn numbers_are_read() {
    assert_eq!(limit("536870912\n"), Some(512 << 20));
    assert_eq!(limit("max\n"), None);
    assert_eq!(limit("9223372036854771712\n"), None, "no limit in v1");
    assert_eq!(limit("-1\n"), None);
    assert_eq!(cpu_max("150000 100000\n"), Some(1_500));
    assert_eq!(cpu_max("max 100000\n"), None);
    assert_eq!(cpu_max("5 0\n"), None);
    let events = "low 0\nhigh 0\nmax 18\noom 3\noom_kill 2\noom_group_kill 0\n";
    assert_eq!(keyed(events, "oom_kill"), Some(2));
    let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n";
    assert_eq!(keyed(control, "oom_kill"), Some(1));
    assert_eq!(keyed("", "oom_kill"), None);
}

#[test]
fn bytes_are_short_for_people() {
    let check = |bytes: u64, expected: &str| {
        assert_eq!(super::people_bytes(bytes), expected);
    };
    check(0, "0");
    check(1_000, "1000");
    check(1_500, "1.5KiB");
    check(512 << 20, "512MiB");
    check(5_048 << 20, "5048MiB");
    check(34_508 << 10, "33.7MiB");
    check(24_684_084 << 10, "23.5GiB");
    check(60_000_000, "57.2MiB");
}
