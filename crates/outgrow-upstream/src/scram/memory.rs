//! What was derived from a password, for the next time.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::keys::{Keys, Salt};

/// Most salts that are remembered: a user has one at each cluster of servers.
const MOST: usize = 4;

/// The keys of one password, by salt: deriving them takes milliseconds, a server's salt seldom
/// changes.
#[derive(Default)]
pub struct Memory(Mutex<Vec<(Salt, Keys)>>);

impl Memory {
    /// The keys for this salt, if they are known.
    pub fn known(&self, salt: &Salt) -> Option<Keys> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(one, _)| one == salt);
        found.map(|(_, keys)| keys.clone())
    }

    /// Remembers them; forgets the oldest ones of more than four.
    pub fn remember(&self, salt: &Salt, keys: &Keys) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(one, _)| one != salt);
        known.truncate(MOST - 1);
        known.insert(0, (salt.clone(), keys.clone()));
    }

    /// The keys for this salt, derived if they are not known. Nothing is locked meanwhile: others
    /// may derive the same.
    pub fn keys(&self, password: &[u8], salt: &Salt) -> Keys {
        self.known(salt).unwrap_or_else(|| {
            let keys = Keys::derive(password, salt);
            self.remember(salt, &keys);
            keys
        })
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Memory(***)")
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn what_is_known_is_not_derived_again() {
        let salt = |byte| Salt {
            bytes: vec![byte],
            iterations: NonZeroU32::MIN,
        };
        let memory = Memory::default();
        let first = memory.keys(b"pencil", &salt(0));
        assert_eq!(memory.known(&salt(0)), Some(first.clone()));
        // Remembered, whatever the password.
        assert_eq!(memory.keys(b"other", &salt(0)), first);
        for byte in 1..=MOST as u8 {
            assert_ne!(memory.keys(b"pencil", &salt(byte)), first);
        }
        assert_eq!(memory.known(&salt(0)), None);
        assert!(memory.known(&salt(1)).is_some());
    }
}
