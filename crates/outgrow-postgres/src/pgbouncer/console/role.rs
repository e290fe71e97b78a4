//! Who may do what on the console.

use super::super::ini::{AuthType, CONSOLE, Settings, words};

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Look, but not at `SHOW FDS`.
    Stats,
}

impl Role {
    /// The role of a user who has logged in; none for one who is not allowed (`not allowed`).
    ///
    /// `is_own` says that the connection is over a Unix socket and from a process of our own system
    /// user: such a one comes in as `pgbouncer` without a password.
    pub fn of(user: &str, is_own: bool, settings: &Settings) -> Option<Self> {
        let is_in = |list: &str| words(list).any(|word| word == user);
        if (is_own && user == CONSOLE) || is_in(&settings.admin_users) {
            return Some(Self::Admin);
        }
        let may_look = is_in(&settings.stats_users) || settings.auth_type == AuthType::Any;
        may_look.then_some(Self::Stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_by_lists_and_system_user() {
        let check = |user: &str, is_own: bool, any: bool, expected: Option<Role>| {
            let mut settings = Settings {
                admin_users: "marko, kama".to_owned(),
                stats_users: "stats,kama".to_owned(),
                ..Settings::default()
            };
            if any {
                settings.auth_type = AuthType::Any;
            }
            assert_eq!(Role::of(user, is_own, &settings), expected, "{user}");
        };
        check("marko", false, false, Some(Role::Admin));
        check("kama", false, false, Some(Role::Admin));
        check("stats", false, false, Some(Role::Stats));
        check("stats", true, false, Some(Role::Stats));
        check("pgbouncer", true, false, Some(Role::Admin));
        check("pgbouncer", false, false, None);
        check("mark", false, false, None);
        check("other", false, true, Some(Role::Stats));
        check("marko", false, true, Some(Role::Admin));
    }
}
