//! What is shown of the Postgres tier.

use std::sync::{Arc, PoisonError};

use outgrow_postgres::Shared;

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
}
