//! The keeper's side: a control group of outgrow's own, below the one that it was started in, with
//! a group for each instance that has limits. Made when the first limit is wanted, remembered over
//! upgrades, removed at the end.
//!
//! In v2 no group that hands controllers on may hold processes itself, unless it is the root of the
//! machine: so all processes of ours go to the leaf `main` first. With other processes in the group
//! that is not possible; they are not touched.
//!
//! Which limits there are and how they are written is in `group`; what is left behind when all of
//! an outgrow is killed, in `leftovers`.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layout::{Base, Layout};
use super::leftovers;
use crate::processes::Processes;
use crate::protocol::limits::{Controller, Grant, Place, Version};

/// The leaf for outgrow's own processes.
const MAIN: &str = "main";
/// How often the processes of a group are looked for again: they may fork while they are moved.
const MOVE_ROUNDS: usize = 16;

/// Outgrow's own groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct House {
    cpu: Result<Hall, String>,
    memory: Result<Hall, String>,
    processes: Result<Hall, String>,
}

/// The group for the instances' groups, in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hall {
    version: Version,
    /// The group that outgrow was started in.
    base: PathBuf,
    directory: PathBuf,
    /// Where our own processes are.
    outside: PathBuf,
    /// Which controllers we had `base` hand on.
    enabled: Vec<String>,
}

impl House {
    /// Makes it, as far as it is possible.
    pub(crate) fn build() -> Self {
        let layout = match super::layout() {
            Ok(layout) => layout,
            Err(problem) => return Self::impossible(&problem),
        };
        let Some(name) = leftovers::own_name() else {
            return Self::impossible("/proc cannot be read");
        };
        Self::in_layout(&layout, &name)
    }

    fn impossible(problem: &str) -> Self {
        let none = || Err(problem.to_owned());
        Self {
            cpu: none(),
            memory: none(),
            processes: none(),
        }
    }

    pub(super) fn in_layout(layout: &Layout, name: &str) -> Self {
        let unified = unified(layout, name);
        let hall = |controller: Controller| {
            let base = layout.of(controller).as_ref().map_err(String::clone)?;
            if let Some(obstacle) = &base.obstacle {
                return Err(obstacle.clone());
            }
            match base.version {
                Version::V1 => hall_v1(base, name),
                Version::V2 => {
                    let mut hall = unified.clone()?;
                    hand_on(&mut hall, controller)?;
                    Ok(hall)
                }
            }
        };
        Self {
            cpu: hall(Controller::Cpu),
            memory: hall(Controller::Memory),
            processes: hall(Controller::Processes),
        }
    }

    fn of(&self, controller: Controller) -> &Result<Hall, String> {
        match controller {
            Controller::Cpu => &self.cpu,
            Controller::Memory => &self.memory,
            Controller::Processes => &self.processes,
        }
    }

    fn halls(&self) -> impl Iterator<Item = &Hall> {
        Controller::ALL
            .iter()
            .filter_map(|controller| self.of(*controller).as_ref().ok())
    }

    /// Whether nothing at all can be limited: what is in the way may have gone meanwhile.
    pub(crate) fn is_void(&self) -> bool {
        self.halls().next().is_none()
    }

    /// Where one run of an instance has its group. Nothing is made yet.
    pub(crate) fn grant(&self, instance: &str, run: u64) -> Grant {
        let place = |controller: Controller| {
            self.of(controller)
                .as_ref()
                .map_err(String::clone)
                .map(|hall| Place {
                    version: hall.version,
                    directory: hall.directory.join(format!("{instance}-{run}")),
                    outside: hall.outside.clone(),
                })
        };
        Grant {
            cpu: place(Controller::Cpu),
            memory: place(Controller::Memory),
            processes: place(Controller::Processes),
        }
    }

    /// Removes it when everything has ended. What cannot be removed is left to the next outgrow.
    pub(crate) fn leave(&self) {
        for hall in self.halls() {
            if hall.version == Version::V2 && hall.outside != hall.base {
                for name in &hall.enabled {
                    let _ = write(
                        &hall.directory.join("cgroup.subtree_control"),
                        &format!("-{name}"),
                    );
                    let _ = write(
                        &hall.base.join("cgroup.subtree_control"),
                        &format!("-{name}"),
                    );
                }
                let pid = std::process::id().to_string();
                let _ = write(&hall.base.join("cgroup.procs"), &pid);
            }
            for group in leftovers::subdirectories(&hall.directory) {
                let _ = fs::remove_dir(group);
            }
            let _ = fs::remove_dir(&hall.directory);
        }
    }
}

fn hall_v1(base: &Base, name: &str) -> Result<Hall, String> {
    let directory = base.directory.join(name);
    make(&directory)?;
    Ok(Hall {
        version: Version::V1,
        base: base.directory.clone(),
        directory,
        outside: base.directory.clone(),
        enabled: Vec::new(),
    })
}

/// The group for all controllers of v2, if there is one at all.
fn unified(layout: &Layout, name: &str) -> Result<Hall, String> {
    let bases = Controller::ALL
        .iter()
        .filter_map(|controller| layout.of(*controller).as_ref().ok());
    let base = bases
        .into_iter()
        .find(|base| base.version == Version::V2 && base.obstacle.is_none())
        .ok_or_else(|| "no controller is offered by control groups of version 2".to_owned())?;
    hall_v2(&base.directory, name, &|| {
        Processes::scan().map(|all| own_processes(&all, std::process::id()))
    })
}

/// Makes the group and moves our own processes out of `base`. `ours` gives their pids.
pub(super) fn hall_v2(
    base: &Path,
    name: &str,
    ours: &dyn Fn() -> io::Result<Vec<u32>>,
) -> Result<Hall, String> {
    // Only the machine's root has no events: it alone may hold processes and hand controllers on.
    let is_root = !base.join("cgroup.events").exists();
    // Seen before anything is moved: from within `main` it could not be told again.
    if !is_root && has_others(base, ours)? {
        return Err(occupied(base));
    }
    let directory = base.join(name);
    make(&directory)?;
    let outside = if is_root {
        base.to_path_buf()
    } else {
        let main = directory.join(MAIN);
        make(&main)?;
        move_out(base, &main, ours)?;
        main
    };
    Ok(Hall {
        version: Version::V2,
        base: base.to_path_buf(),
        directory,
        outside,
        enabled: Vec::new(),
    })
}

/// Whether there are processes in `base` that are not ours.
fn has_others(base: &Path, ours: &dyn Fn() -> io::Result<Vec<u32>>) -> Result<bool, String> {
    let look = || -> Result<HashSet<u32>, String> {
        let mut others: HashSet<u32> = pids(base)
            .map_err(|error| cannot(base, "read", &error))?
            .into_iter()
            .collect();
        for pid in ours().map_err(|error| format!("/proc cannot be read: {error}"))? {
            others.remove(&pid);
        }
        Ok(others)
    };
    let others = look()?;
    // One of ours may have ended between the two lists; it is not there the next time.
    Ok(!others.is_empty() && !others.is_disjoint(&look()?))
}

fn occupied(base: &Path) -> String {
    format!(
        "other processes are in outgrow's own control group {}, and a group that holds processes \
         cannot hand controllers on: start outgrow in a group of its own (a systemd service with \
         Delegate=yes, or systemd-run --scope -p Delegate=yes)",
        base.display()
    )
}

fn move_out(
    base: &Path,
    main: &Path,
    ours: &dyn Fn() -> io::Result<Vec<u32>>,
) -> Result<(), String> {
    let mut moved: HashSet<u32> = HashSet::new();
    for _ in 0..MOVE_ROUNDS {
        let in_base = pids(base).map_err(|error| cannot(base, "read", &error))?;
        let ours = ours().map_err(|error| format!("/proc cannot be read: {error}"))?;
        let before = moved.len();
        for pid in in_base {
            if !ours.contains(&pid) || moved.contains(&pid) {
                continue;
            }
            match write(&main.join("cgroup.procs"), &pid.to_string()) {
                Ok(()) => {
                    moved.insert(pid);
                }
                // It has ended.
                Err(error) if error.raw_os_error() == Some(3) => {}
                Err(error) => return Err(cannot(base, "leave", &error)),
            }
        }
        if moved.len() == before {
            return Ok(());
        }
    }
    Err(format!(
        "outgrow's processes cannot be moved within {}: they fork too fast",
        base.display()
    ))
}

/// Has the group and the one around it hand a controller on to the instances' groups.
fn hand_on(hall: &mut Hall, controller: Controller) -> Result<(), String> {
    hand_on_by_name(hall, controller.kernel_name())
}

pub(super) fn hand_on_by_name(hall: &mut Hall, name: &str) -> Result<(), String> {
    let control = "cgroup.subtree_control";
    let has_it = |directory: &Path| {
        fs::read_to_string(directory.join(control))
            .is_ok_and(|text| text.split_ascii_whitespace().any(|one| one == name))
    };
    if !has_it(&hall.base) {
        if let Err(error) = write(&hall.base.join(control), &format!("+{name}")) {
            return Err(match error.raw_os_error() {
                Some(16) => occupied(&hall.base),
                _ => cannot(&hall.base, &format!("have {name} handed on"), &error),
            });
        }
        hall.enabled.push(name.to_owned());
    }
    write(&hall.directory.join(control), &format!("+{name}"))
        .map_err(|error| cannot(&hall.directory, &format!("have {name} handed on"), &error))
}

fn make(directory: &Path) -> Result<(), String> {
    match fs::create_dir(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(cannot(
            directory.parent().unwrap_or(directory),
            "make control groups in",
            &error,
        )),
    }
}

/// What is not possible, and what to do about it.
fn cannot(directory: &Path, what: &str, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": run it as root, or as a systemd service with Delegate=yes"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ": in a container mount /sys/fs/cgroup for writing (docker run --privileged)"
        }
        _ => "",
    };
    format!(
        "outgrow cannot {what} {} ({error}){hint}",
        directory.display()
    )
}

/// The processes of a group.
pub(super) fn pids(directory: &Path) -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(directory.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)
}

fn own_processes(processes: &Processes, keeper: u32) -> Vec<u32> {
    let below = processes.descendants(keeper).into_iter().map(|one| one.pid);
    std::iter::once(keeper).chain(below).collect()
}
