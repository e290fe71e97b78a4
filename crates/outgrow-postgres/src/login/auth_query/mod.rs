//! Users that are not in the list: what a server answers when it is asked for them, and the answers
//! of the last moments.
//!
//! The query itself, the session in which it is asked and who asks are the pool's.

mod cache;
mod reader;
#[cfg(test)]
mod tests;

pub use cache::{Cache, CacheSettings};
pub use reader::{Problem, Reader};

use super::secret::Secret;

/// What is known of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is no such user, or the query does not want it to log in.
    Nobody,
    /// There is one, with this secret; `None`: it cannot log in with a password.
    User(Option<Secret>),
}

/// PgBouncer's query: expired passwords are none, roles without LOGIN are not there.
pub const DEFAULT_QUERY: &str = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE \
                                 rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin";
