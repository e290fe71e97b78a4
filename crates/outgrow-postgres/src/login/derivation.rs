//! The one piece of work in a login that takes milliseconds: SCRAM keys of a password.

use std::sync::Arc;

use outgrow_upstream::scram::{Keys, Salt};

use super::secret::Password;

/// Work that an exchange waits for. To be done where it holds up nobody else; its result goes back
/// to the exchange. About half a microsecond for each iteration, of which there are 4096 in
/// Postgres unless somebody wants more.
#[derive(Debug)]
#[must_use = "the exchange waits for its result"]
pub struct Derivation {
    password: Arc<Password>,
    salt: Salt,
}

/// What came out.
#[derive(Debug)]
pub struct Derived {
    pub(super) keys: Keys,
}

impl Derivation {
    pub(super) fn new(password: Arc<Password>, salt: Salt) -> Self {
        Self { password, salt }
    }

    /// Does it, unless somebody else has done it for the same password meanwhile.
    pub fn run(self) -> Derived {
        let password = self.password.expose();
        Derived {
            keys: self.password.memory.keys(password, &self.salt),
        }
    }

    /// How many iterations it takes.
    pub fn iterations(&self) -> u32 {
        self.salt.iterations.get()
    }
}
