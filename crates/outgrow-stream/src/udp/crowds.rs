//! The workers of each listener of datagrams, so that a session of one can give way to a new one of
//! another: the room at the endpoints is everybody's, and whoever was there first has all of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::listen::Listening;

/// Who listens, by the listener's name.
#[derive(Debug, Default)]
pub(crate) struct Crowds(Mutex<HashMap<String, Vec<Weak<Listening>>>>);

impl Crowds {
    /// A worker begins.
    pub(super) fn join(&self, name: &str, listening: &Arc<Listening>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, crowd| {
            crowd.retain(|one| one.strong_count() > 0);
            !crowd.is_empty()
        });
        let crowd = all.entry(name.to_owned()).or_default();
        crowd.push(Arc::downgrade(listening));
    }

    /// All others of the listener, those that listen no more and have sessions still among them.
    pub(super) fn others(&self, name: &str, own: &Arc<Listening>) -> Vec<Arc<Listening>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let crowd = all.get(name).into_iter().flatten();
        let others = crowd.filter_map(Weak::upgrade);
        others.filter(|one| !Arc::ptr_eq(one, own)).collect()
    }
}
