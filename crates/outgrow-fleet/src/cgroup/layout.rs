//! Where limits could be written: for each controller the group that outgrow is in, or why there is
//! none. Pure, from the text of `/proc/self/cgroup` and `/proc/self/mountinfo`; whether one may
//! write there is found out by doing it (`house`).

use std::path::{Path, PathBuf};

use super::parse::{Membership, Mount, directory, memberships, mounts};
use crate::protocol::limits::{Controller, Version};

/// A group that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) version: Version,
    pub(super) directory: PathBuf,
    /// Up to where groups around it can be seen.
    pub(super) top: PathBuf,
    /// Why nothing can be written there all the same.
    pub(super) obstacle: Option<String>,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) cpu: Result<Base, String>,
    pub(super) memory: Result<Base, String>,
    pub(super) processes: Result<Base, String>,
}

impl Layout {
    /// `offered` tells which controllers a v2 group has (the text of its `cgroup.controllers`).
    pub(super) fn find(
        cgroup: &str,
        mountinfo: &str,
        offered: &dyn Fn(&Path) -> Option<String>,
    ) -> Self {
        let (own, mounted) = (memberships(cgroup), mounts(mountinfo));
        let find = |controller| find(controller, &own, &mounted, offered);
        Self {
            cpu: find(Controller::Cpu),
            memory: find(Controller::Memory),
            processes: find(Controller::Processes),
        }
    }

    pub(super) fn of(&self, controller: Controller) -> &Result<Base, String> {
        match controller {
            Controller::Cpu => &self.cpu,
            Controller::Memory => &self.memory,
            Controller::Processes => &self.processes,
        }
    }
}

/// A controller belongs to one hierarchy only: to a v1 one when there is such, else to v2.
fn find(
    controller: Controller,
    own: &[Membership],
    mounted: &[Mount],
    offered: &dyn Fn(&Path) -> Option<String>,
) -> Result<Base, String> {
    let name = controller.kernel_name();
    let has_it = |controllers: &[String]| controllers.iter().any(|one| one == name);
    if let Some(member) = own.iter().find(|one| has_it(&one.controllers)) {
        let mount = mounted
            .iter()
            .filter(|mount| mount.version == Version::V1 && has_it(&mount.controllers));
        return base(name, member, mount);
    }
    let Some(member) = own.iter().find(|one| one.version == Version::V2) else {
        return Err(format!(
            "the kernel has no control groups for {name} (/proc/self/cgroup names none)"
        ));
    };
    let unified = mounted.iter().filter(|mount| mount.version == Version::V2);
    let mut base = base(name, member, unified)?;
    let offers = |text: &str| text.split_ascii_whitespace().any(|one| one == name);
    let obstacle = match offered(&base.directory) {
        Some(text) if offers(&text) => None,
        Some(_) => Some(format!(
            "the controller {name} is not delegated to outgrow's control group {}: under systemd \
             set Delegate=yes in the unit's [Service] section (without DelegateSubgroup=), in a \
             user's own session add it to Delegate= of user@.service",
            base.directory.display()
        )),
        None => Some(format!(
            "{} cannot be read",
            base.directory.join("cgroup.controllers").display()
        )),
    };
    base.obstacle = base.obstacle.or(obstacle);
    Ok(base)
}

fn base<'m>(
    name: &str,
    member: &Membership,
    mounts: impl Iterator<Item = &'m Mount>,
) -> Result<Base, String> {
    let (mut is_mounted, mut found) = (false, None);
    for mount in mounts {
        is_mounted = true;
        let Some(directory) = directory(mount, &member.path) else {
            continue;
        };
        let obstacle = mount.read_only.then(|| {
            format!(
                "the control groups at {} are mounted read-only: in a container mount them for \
                 writing (docker run --privileged, or -v /sys/fs/cgroup:/sys/fs/cgroup:rw \
                 --cgroupns=host), or let the container's own limits do",
                directory.display()
            )
        });
        let is_writable = obstacle.is_none();
        found = Some(Base {
            version: mount.version,
            directory,
            top: mount.point.clone(),
            obstacle,
        });
        if is_writable {
            break;
        }
    }
    found.ok_or_else(|| {
        if is_mounted {
            format!(
                "outgrow's own control group {} is not in what is mounted of {name}: in a \
                 container use a cgroup namespace of its own (docker run --cgroupns=private)",
                member.path
            )
        } else {
            format!(
                "the control groups for {name} are not mounted: mount /sys/fs/cgroup in this \
                 container"
            )
        }
    })
}
