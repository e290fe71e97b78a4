//! How many clients there may be: the decision. Counting them is the pool's.

use super::refusal::{Cause, Refusal};

/// Most clients at a time; zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of all (`max_client_conn`).
    pub all: u32,
    /// Of the user (`max_user_client_connections`).
    pub user: u32,
    /// Of the database (`max_db_client_connections`).
    pub database: u32,
    /// From the address.
    pub address: u32,
}

/// Clients that are there, without the one that is about to come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub all: u32,
    /// Of its user.
    pub user: u32,
    /// Of its database.
    pub database: u32,
    /// From its address.
    pub address: u32,
}

/// Whether one more may come in. The texts are PgBouncer's, with the name of the setting: what is
/// full is the pooler, not the server.
pub fn admit(limits: &Limits, counts: &Counts) -> Result<(), Refusal> {
    let checks = [
        (
            limits.all,
            counts.all,
            "no more connections allowed (max_client_conn)",
        ),
        (
            limits.database,
            counts.database,
            "client connections exceeded (max_db_client_connections)",
        ),
        (
            limits.user,
            counts.user,
            "client connections exceeded (max_user_client_connections)",
        ),
        (
            limits.address,
            counts.address,
            "client connections exceeded (max_address_client_connections)",
        ),
    ];
    let full = checks
        .into_iter()
        .find(|(limit, count, _)| *limit != 0 && count >= limit);
    match full {
        None => Ok(()),
        Some((limit, _, text)) => {
            let reason = format!("{text}: {limit}");
            Err(Refusal::new(Cause::Full, "53300", text.to_owned(), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_limit_that_is_reached_refuses() {
        let counts = Counts {
            all: 10,
            user: 5,
            database: 7,
            address: 2,
        };
        let check = |limits: Limits, expected: &str| {
            let text =
                admit(&limits, &counts).map_or_else(|refusal| refusal.text, |()| String::new());
            assert!(
                text.ends_with(expected) && text.is_empty() == expected.is_empty(),
                "{text:?} {expected:?}"
            );
        };
        let none = Limits::default();
        check(none, "");
        check(
            Limits {
                all: 11,
                user: 6,
                database: 8,
                address: 3,
            },
            "",
        );
        check(Limits { all: 10, ..none }, "(max_client_conn)");
        check(
            Limits {
                all: 9,
                user: 1,
                ..none
            },
            "(max_client_conn)",
        );
        check(Limits { user: 5, ..none }, "(max_user_client_connections)");
        check(
            Limits {
                database: 7,
                ..none
            },
            "(max_db_client_connections)",
        );
        check(
            Limits { address: 1, ..none },
            "(max_address_client_connections)",
        );
        let refusal = admit(&Limits { all: 1, ..none }, &counts).unwrap_err();
        assert_eq!((refusal.sqlstate, refusal.cause), ("53300", Cause::Full));
        assert_eq!(
            refusal.reason,
            "no more connections allowed (max_client_conn): 1"
        );
    }
}
