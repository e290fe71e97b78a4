//! The console: a database of a reserved name whose clients give orders. The tier speaks with them
//! ([`crate::pgbouncer::console`]); what they order is done by whoever implements [`Console`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::pgbouncer::console::{Command, Role};

/// What a client of the console is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// These messages.
    Say(Vec<u8>),
    /// Nothing: its connection is closed.
    End,
}

/// An answer that may take time. It is dropped when the client leaves.
pub type Answer = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Who answers clients of the console. Called on the workers' threads.
pub trait Console: Send + Sync + fmt::Debug {
    /// The name of the database that is the console.
    fn database(&self) -> &str;

    /// Whether a client of this user over a Unix socket needs to prove nothing: the system's user
    /// there is this one.
    fn is_own(&self, user: &str, system_user: u32) -> bool;

    /// What a user who has logged in may do; none: nothing at all.
    fn admit(&self, user: &str, is_own: bool) -> Option<Role>;

    /// What clients are told as the version of the server.
    fn version(&self) -> &str;

    /// Does what client number `client` orders.
    fn run(&self, client: u64, command: Command) -> Answer;

    /// Client number `client` does not wait any more for what it ordered last, or has left.
    fn left(&self, client: u64);
}
