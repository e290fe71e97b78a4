//! What the tests need from the machine: found, installed where we may, else said exactly.
//!
//! A test part that cannot run is a failure, not a skip; `--allow-missing` is for machines where the
//! rest is wanted all the same. Deliberately not here: the bench's peers (`bench/peers.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;

/// A program that some step needs.
struct Need {
    program: &'static str,
    how: How,
    /// Which tests cannot run without it.
    why: &'static str,
}

/// Where a program comes from.
#[derive(Clone, Copy)]
enum How {
    /// A Debian package.
    Debian(&'static str),
    /// A component of the Rust toolchain.
    Rustup(&'static str),
    /// A crate with a binary.
    Cargo(&'static str),
}

const NEEDS: [Need; 21] = [
    Need {
        program: "gcc",
        how: How::Debian("gcc"),
        why: "building aws-lc (TLS) and linking",
    },
    Need {
        program: "python3",
        how: How::Debian("python3"),
        why: "end-to-end tests with a Python application and with Python's static server",
    },
    Need {
        program: "node",
        how: How::Debian("nodejs"),
        why: "end-to-end tests with a Node application",
    },
    Need {
        program: "npm",
        how: How::Debian("npm"),
        why: "end-to-end tests with applications of the npm registry",
    },
    Need {
        program: "pip3",
        how: How::Debian("python3-pip"),
        why: "end-to-end tests with applications of PyPI",
    },
    Need {
        program: "curl",
        how: How::Debian("curl"),
        why: "end-to-end tests with a foreign HTTP/2 client",
    },
    Need {
        program: "nghttp",
        how: How::Debian("nghttp2-client"),
        why: "end-to-end tests of answers that come before a body is sent, over HTTP/2",
    },
    Need {
        program: "zstd",
        how: How::Debian("zstd"),
        why: "end-to-end tests with compressed requests",
    },
    Need {
        program: "redis-server",
        how: How::Debian("redis-server"),
        why: "end-to-end tests of the checks of Redis servers",
    },
    Need {
        program: "pg_ctlcluster",
        how: How::Debian("postgresql"),
        why: "end-to-end tests of the checks of Postgres servers",
    },
    Need {
        program: "setpriv",
        how: How::Debian("util-linux"),
        why: "running Postgres as another user when the tests run as root",
    },
    Need {
        program: "etcd",
        how: How::Debian("etcd-server"),
        why: "tests of discovery against a real etcd",
    },
    Need {
        program: "pebble",
        how: How::Debian("pebble"),
        why: "end-to-end tests of certificates that are got by ACME, from a real authority",
    },
    Need {
        program: "ip",
        how: How::Debian("iproute2"),
        why: "end-to-end tests with several boxes, and with outgrow as pid 1, in namespaces",
    },
    Need {
        program: "arping",
        how: How::Debian("iputils-arping"),
        why: "end-to-end tests with an address that floats between boxes",
    },
    Need {
        program: "dpkg-deb",
        how: How::Debian("dpkg"),
        why: "building and trying the Debian package",
    },
    Need {
        program: "strip",
        how: How::Debian("binutils"),
        why: "building the Debian package",
    },
    Need {
        program: "strace",
        how: How::Debian("strace"),
        why: "the gate on system calls per request",
    },
    Need {
        program: "cargo-fmt",
        how: How::Rustup("rustfmt"),
        why: "the format step",
    },
    Need {
        program: "cargo-clippy",
        how: How::Rustup("clippy"),
        why: "the lints step",
    },
    Need {
        program: "cargo-nextest",
        how: How::Cargo("cargo-nextest"),
        why: "all tests: it is the runner",
    },
];

impl Need {
    fn is_there(&self) -> bool {
        // Asked through cargo, because rustup puts names in the PATH for components that it lacks.
        match self.program.strip_prefix("cargo-") {
            Some(subcommand) => {
                command::output(command::cargo().args([subcommand, "--version"])).is_ok()
            }
            None => command::find(self.program).is_some(),
        }
    }
}

impl How {
    fn hint(self) -> String {
        match self {
            Self::Debian(package) => format!("apt-get install {package}"),
            Self::Rustup(component) => format!("rustup component add {component}"),
            Self::Cargo(name) => format!("cargo install {name} --locked"),
        }
    }
}

/// Installs what is missing as far as we may; false when something is still missing (it is printed).
pub(crate) fn run() -> anyhow::Result<bool> {
    let missing = || NEEDS.iter().filter(|need| !need.is_there());
    let packages: Vec<&str> = missing()
        .filter_map(|need| match need.how {
            How::Debian(package) => Some(package),
            How::Rustup(_) | How::Cargo(_) => None,
        })
        .collect();
    install_debian(&packages)?;
    for need in missing() {
        let mut install = match need.how {
            How::Debian(_) => continue,
            How::Rustup(component) => {
                let mut rustup = Command::new("rustup");
                rustup.args(["component", "add", component]);
                rustup
            }
            How::Cargo(name) => {
                let mut cargo = command::cargo();
                cargo.args(["install", name, "--locked"]);
                cargo
            }
        };
        // A failure is seen below: the program is still missing then.
        if let Err(error) = command::must(&mut install) {
            eprintln!("{error:#}");
        }
    }
    let mut complete = has_hypothetical_indexes()?;
    let controllers = missing_controllers();
    if !controllers.is_empty() {
        complete = false;
        eprintln!(
            "missing: control groups that can be written, for {} (for tests of the limits of \
             instances); run as root, or in a session with Delegate=yes",
            controllers.join(", ")
        );
    }
    for need in missing() {
        complete = false;
        eprintln!(
            "missing: {} (for {}); install it with `{}`",
            need.program,
            need.why,
            need.how.hint()
        );
    }
    Ok(complete)
}

/// The newest Postgres' extension that tries an index without making it; its package is named by the
/// version. Installed when it is missing; false (and said) when it is still missing.
fn has_hypothetical_indexes() -> anyhow::Result<bool> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let number = |name: &std::ffi::OsStr| name.to_str()?.parse::<u32>().ok();
    let versions = versions
        .flatten()
        .filter_map(|entry| number(&entry.file_name()));
    let Some(newest) = versions.max() else {
        // That Postgres itself is missing is said with the programs.
        return Ok(true);
    };
    let control = format!("/usr/share/postgresql/{newest}/extension/hypopg.control");
    let package = format!("postgresql-{newest}-hypopg");
    if !Path::new(&control).exists() {
        install_debian(&[&package])?;
    }
    let is_there = Path::new(&control).exists();
    if !is_there {
        eprintln!(
            "missing: hypopg (for tests of indexes that are proposed); install it with \
             `apt-get install {package}`"
        );
    }
    Ok(is_there)
}

/// The controllers of the limits that instances can have.
const LIMITED: [&str; 3] = ["cpu", "memory", "pids"];

/// Those of them with which we cannot make control groups.
pub(crate) fn missing_controllers() -> Vec<&'static str> {
    LIMITED
        .into_iter()
        .filter(|controller| !may_limit(controller))
        .collect()
}

/// Whether a control group with this controller can be made below the one that we are in.
fn may_limit(controller: &str) -> bool {
    let Some(own) = own_group(controller) else {
        return false;
    };
    let trial = own.join(format!("outgrow-xtask-{}", std::process::id()));
    let made = fs::create_dir(&trial).is_ok();
    made && fs::remove_dir(&trial).is_ok()
}

/// Our group in the hierarchy that has the controller, where distributions mount it.
fn own_group(controller: &str) -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let lines = || text.lines().map(|line| line.splitn(3, ':').skip(1));
    let top = Path::new("/sys/fs/cgroup");
    for mut parts in lines() {
        let (names, path) = (parts.next()?, parts.next()?);
        if names.split(',').any(|name| name == controller) {
            return Some(top.join(names).join(path.trim_start_matches('/')));
        }
    }
    for mut parts in lines() {
        let (names, path) = (parts.next()?, parts.next()?);
        let group = top.join(path.trim_start_matches('/'));
        let offered = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
        if names.is_empty() && offered.split_whitespace().any(|name| name == controller) {
            return Some(group);
        }
    }
    None
}

/// Installs Debian packages when we are root and apt-get is there; what fails is said, not fatal.
pub(crate) fn install_debian(packages: &[&str]) -> anyhow::Result<()> {
    let is_root = command::output(Command::new("id").arg("-u"))?.trim() == "0";
    if packages.is_empty() || !is_root || command::find("apt-get").is_none() {
        return Ok(());
    }
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    eprintln!("installing: {}", packages.join(" "));
    let mut install = apt();
    install.args(["install", "-y", "-qq", "--no-install-recommends"]);
    install.args(packages);
    if !command::succeeds(apt().args(["update", "-qq"]))? || !command::succeeds(&mut install)? {
        eprintln!("apt-get could not install {}", packages.join(" "));
    }
    Ok(())
}
