//! Whose rights the processes have. Started as root with `--user`, everything
//! becomes that user for good, before the configuration is read: one right
//! stays, to bind ports below 1024 (`CAP_NET_BIND_SERVICE`), and only the
//! keeper has it. Data processes, shims and instances have none and can gain
//! none (`no_new_privs`).
//!
//! The one right goes over the keeper's own re-exec in the ambient set, which
//! is otherwise kept empty of it, so that no child ever inherits it. The same
//! holds when it was given from outside (systemd's `AmbientCapabilities=`).
//! Other capabilities that are given so are the instances' and commands'
//! business, and stay.
//!
//! Deliberately not here: a keeper that stays root. It does what a data process
//! tells it, and that one talks to the world.

mod account;

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
};

pub use account::{Account, AccountError};

/// To bind ports below 1024.
const LOW_PORTS: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;
/// Of the user that everything was started by, and of no use to another one.
const FOREIGN_VARIABLES: [&str; 3] = ["XDG_RUNTIME_DIR", "MAIL", "DBUS_SESSION_BUS_ADDRESS"];

/// Why the rights could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// There is no such user or group.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// Root stays root.
    #[error("`--user {0}` is root: name a user without rights, or leave --user out")]
    Root(String),
    /// Only root can become another user.
    #[error(
        "`--user {wanted}` needs root, and this is user {own}: start outgrow as root, or as \
         {wanted} without --user (systemd: User={wanted} and \
         AmbientCapabilities=CAP_NET_BIND_SERVICE for ports below 1024)"
    )]
    NotRoot {
        /// As it was given.
        wanted: String,
        /// The user that runs this.
        own: u32,
    },
    /// A step was refused.
    #[error("the rights of root could not be given up: {step}: {source}")]
    Refused {
        /// Which step.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// All steps were taken, and yet.
    #[error("the rights of root could not be given up: {0} is left")]
    Left(String),
}

/// Becomes `user` (a name or a number), with `group` instead of the user's own
/// one. As root it does not return but starts this program anew as that user,
/// in place of this process: nothing that root has read or opened stays but
/// standard streams and passed sockets. As that user already it returns.
pub fn become_user(user: &str, group: Option<&str>) -> Result<(), PrivilegeError> {
    let account = Account::find(user, group)?;
    let own = Uid::effective();
    if own.as_raw() == account.user && !own.is_root() {
        return Ok(());
    }
    if account.user == 0 {
        return Err(PrivilegeError::Root(user.to_owned()));
    }
    if !own.is_root() {
        return Err(PrivilegeError::NotRoot {
            wanted: user.to_owned(),
            own: own.as_raw(),
        });
    }
    give_up(&account)?;
    Err(start_anew(&account))
}

fn give_up(account: &Account) -> Result<(), PrivilegeError> {
    let has_low_ports = held().is_ok_and(|sets| sets.permitted.contains(LOW_PORTS));
    for number in 0..CapabilitySet::all().bits().count_ones() {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if one != LOW_PORTS {
            // Those above the kernel's last one do not exist; and where root may
            // not do this, `no_new_privs` does what it is for.
            let _ = remove_capability_from_bounding_set(one);
        }
    }
    let step = |step| move |source: io::Error| PrivilegeError::Refused { step, source };
    set_keep_capabilities(true).map_err(|error| step("capabilities")(error.into()))?;
    let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(|error| step("groups")(error.into()))?;
    let group = Gid::from_raw(account.group);
    setresgid(group, group, group).map_err(|error| step("group")(error.into()))?;
    let user = Uid::from_raw(account.user);
    setresuid(user, user, user).map_err(|error| step("user")(error.into()))?;
    let kept = if has_low_ports {
        LOW_PORTS
    } else {
        CapabilitySet::empty()
    };
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: kept,
    };
    set_capabilities(None, sets).map_err(|error| step("capabilities")(error.into()))?;
    if has_low_ports {
        configure_capability_in_ambient_set(LOW_PORTS, true)
            .map_err(|error| step("the right to bind low ports")(error.into()))?;
    }
    set_no_new_privs(true).map_err(|error| step("no_new_privs")(error.into()))?;
    make_sure(account, kept)
}

/// What the kernel says now, rather than what was asked of it.
fn make_sure(account: &Account, kept: CapabilitySet) -> Result<(), PrivilegeError> {
    let left = |what: String| Err(PrivilegeError::Left(what));
    let (user, group) = (Uid::from_raw(account.user), Gid::from_raw(account.group));
    if [Uid::current(), Uid::effective()] != [user, user]
        || setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok()
    {
        return left("the user".to_owned());
    }
    if [Gid::current(), Gid::effective()] != [group, group] {
        return left("the group".to_owned());
    }
    match held() {
        Ok(sets) if kept.contains(sets.permitted) => Ok(()),
        Ok(sets) => left(format!("{:?}", sets.permitted.difference(kept))),
        Err(error) => left(format!("nobody knows what ({error})")),
    }
}

/// The same program with the same arguments, in the surroundings of that user.
fn start_anew(account: &Account) -> PrivilegeError {
    // The magic link last: a process that was started by it is called `exe`.
    let own = std::env::current_exe().unwrap_or_default();
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for program in [own.as_path(), Path::new("/proc/self/exe")] {
        let mut command = Command::new(program);
        let mut words = std::env::args_os();
        if let Some(name) = words.next() {
            command.arg0(name);
        }
        command.args(words);
        for name in FOREIGN_VARIABLES {
            command.env_remove(name);
        }
        command
            .env("HOME", &account.home)
            .env("SHELL", &account.shell)
            .env("USER", &account.name)
            .env("LOGNAME", &account.name);
        error = command.exec();
    }
    PrivilegeError::Refused {
        step: "this program cannot be started as that user",
        source: error,
    }
}

fn held() -> io::Result<CapabilitySets> {
    Ok(capabilities(None)?)
}

/// Takes the right to bind low ports, if there is one, out of what children
/// inherit. Root's children have every right whatever this does.
pub(crate) fn keep_low_ports_to_ourselves() {
    if Uid::effective().is_root() {
        return;
    }
    // Without it in the set there is nothing to lower.
    let _ = configure_capability_in_ambient_set(LOW_PORTS, false);
    if let Ok(mut sets) = held() {
        sets.inheritable.remove(LOW_PORTS);
        if sets.permitted.contains(LOW_PORTS) {
            sets.effective.insert(LOW_PORTS);
        }
        let _ = set_capabilities(None, sets);
    }
}

/// Puts the right to bind low ports, if there is one, where the program that
/// this process becomes finds it.
pub(crate) fn pass_low_ports_on() -> io::Result<()> {
    let mut sets = held()?;
    if Uid::effective().is_root() || !sets.permitted.contains(LOW_PORTS) {
        return Ok(());
    }
    sets.inheritable.insert(LOW_PORTS);
    set_capabilities(None, sets)?;
    Ok(configure_capability_in_ambient_set(LOW_PORTS, true)?)
}

/// For what serves and needs no right of its own: gives the right to bind low
/// ports up, which a file with capabilities (`setcap`) gives to every process
/// that executes it.
pub fn give_low_ports_up() {
    if Uid::effective().is_root() {
        return;
    }
    let _ = configure_capability_in_ambient_set(LOW_PORTS, false);
    if let Ok(mut sets) = held() {
        for set in [
            &mut sets.effective,
            &mut sets.permitted,
            &mut sets.inheritable,
        ] {
            set.remove(LOW_PORTS);
        }
        let _ = set_capabilities(None, sets);
    }
}
