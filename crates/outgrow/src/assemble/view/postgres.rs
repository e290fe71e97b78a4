//! What is shown of the Postgres tier.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use outgrow_postgres::Shared;
use outgrow_postgres::promotion::Told;
use serde_json::Value;

use super::super::numbers;
use super::View;

impl View {
    /// Shows the tier from now on.
    pub(in super::super) fn set_postgres(&self, shared: Option<Arc<Shared>>) {
        *self.postgres.lock().unwrap_or_else(PoisonError::into_inner) = shared;
    }

    /// The tier, once it was wanted.
    pub(in super::super) fn postgres(&self) -> Option<Arc<Shared>> {
        let postgres = self.postgres.lock();
        postgres.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows how promotions stand from now on.
    pub(in super::super) fn set_promotions(&self, told: BTreeMap<String, Told>) {
        *self
            .promotions
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = told;
    }

    /// How promotions stand, by service.
    pub(in super::super) fn promotions(&self) -> BTreeMap<String, Told> {
        let promotions = self.promotions.lock();
        promotions.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The tier for `/state`.
    pub(super) fn postgres_state(&self) -> Value {
        let mut state = numbers::postgres::state(self.postgres().as_deref());
        if !state.is_null() {
            state["promotions"] = numbers::promotions::state(&self.promotions());
        }
        state
    }
}
