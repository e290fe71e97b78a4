//! The user that everything is to run as, in the system's list of users.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name; the number where it has none.
    pub name: String,
    /// Its number.
    pub user: u32,
    /// Its group's number.
    pub group: u32,
    /// All groups that it is a member of.
    pub groups: Vec<u32>,
    /// Its home; `/` where it has none.
    pub home: PathBuf,
    /// Its shell; `/bin/sh` where it has none.
    pub shell: PathBuf,
}

/// Why it was not found.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is none of that name.
    #[error(
        "there is no {kind} `{name}` on this machine: `getent {list}` shows which there are; \
         `adduser --system --group {name}` makes one"
    )]
    Unknown {
        /// What was looked for.
        kind: &'static str,
        /// As it was given.
        name: String,
        /// The list that it should be in.
        list: &'static str,
    },
    /// A number has no entry that would tell its group.
    #[error("user {0} is in no list, so its group is unknown: name one with --group")]
    NoGroup(u32),
    /// The list cannot be read.
    #[error("the list of {list} cannot be read for `{name}`: {source}")]
    Unreadable {
        /// Which.
        list: &'static str,
        /// Who was looked for.
        name: String,
        /// What the system said.
        source: nix::Error,
    },
}

impl Account {
    /// Looks a user up by name or number, and the group likewise.
    pub fn find(user: &str, group: Option<&str>) -> Result<Self, AccountError> {
        let unreadable = |list, name: &str| {
            let name = name.to_owned();
            move |source| AccountError::Unreadable { list, name, source }
        };
        let group = group.map(find_group).transpose()?;
        let by_name = User::from_name(user).map_err(unreadable("passwd", user))?;
        let number = user.parse::<u32>().ok();
        let entry = match (by_name, number) {
            (Some(entry), _) => Some(entry),
            (None, Some(number)) => {
                User::from_uid(Uid::from_raw(number)).map_err(unreadable("passwd", user))?
            }
            (None, None) => {
                return Err(AccountError::Unknown {
                    kind: "user",
                    name: user.to_owned(),
                    list: "passwd",
                });
            }
        };
        let Some(entry) = entry else {
            let number = number.unwrap_or_default();
            let group = group.ok_or(AccountError::NoGroup(number))?;
            return Ok(Self {
                name: user.to_owned(),
                user: number,
                group,
                groups: vec![group],
                home: PathBuf::from("/"),
                shell: PathBuf::from("/bin/sh"),
            });
        };
        let group = group.unwrap_or_else(|| entry.gid.as_raw());
        // A name with a NUL is in no list.
        let name = CString::new(entry.name.as_bytes()).unwrap_or_default();
        let groups =
            getgrouplist(&name, Gid::from_raw(group)).map_err(unreadable("group", user))?;
        Ok(Self {
            user: entry.uid.as_raw(),
            group,
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            home: or_else(entry.dir, "/"),
            shell: or_else(entry.shell, "/bin/sh"),
            name: entry.name,
        })
    }
}

fn or_else(path: PathBuf, other: &str) -> PathBuf {
    if path.as_os_str().is_empty() {
        PathBuf::from(other)
    } else {
        path
    }
}

fn find_group(group: &str) -> Result<u32, AccountError> {
    let found = Group::from_name(group).map_err(|source| AccountError::Unreadable {
        list: "group",
        name: group.to_owned(),
        source,
    })?;
    let number = found.map(|group| group.gid.as_raw());
    number
        .or_else(|| group.parse().ok())
        .ok_or_else(|| AccountError::Unknown {
            kind: "group",
            name: group.to_owned(),
            list: "group",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let root = Account::find("root", None).unwrap();
        assert_eq!((root.user, root.group), (0, 0));
        assert_eq!(Account::find("0", None).unwrap(), root);
    }

    #[test]
    fn a_number_without_an_entry_needs_a_group() {
        let unknown = "3999999999";
        let error = Account::find(unknown, None).unwrap_err().to_string();
        assert!(error.contains("--group"), "{error}");
        let account = Account::find(unknown, Some("3999999998")).unwrap();
        assert_eq!(
            (account.user, account.group),
            (3_999_999_999, 3_999_999_998)
        );
        assert_eq!(account.groups, [3_999_999_998]);
    }

    #[test]
    fn who_is_not_there_is_named() {
        let check = |user, group, part: &str| {
            let error = Account::find(user, group).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check("no-such-user", None, "no user `no-such-user`");
        check("root", Some("no-such-group"), "no group `no-such-group`");
    }
}
