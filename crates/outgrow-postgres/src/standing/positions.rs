//! Where the primaries of services are, for those who promise users to read what they wrote.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_core::serving::{Position, Positions, Store};

use super::Role;
use crate::shared::Shared;

/// How long the head of a response may wait for the primary's word.
const LIMIT: Duration = Duration::from_millis(250);

impl Positions for Shared {
    fn position(
        &self,
        store: Store,
        after: Ticks,
    ) -> Pin<Box<dyn Future<Output = Option<Position>> + Send + '_>> {
        Box::pin(async move {
            let plan = self.plan.load();
            let services = plan.services(|_| true);
            let service = services.into_iter();
            let service = service.filter(|service| Store::of(service.name()) == store);
            let set = service.map(|service| service.endpoints().load()).next()?;
            let standings = set.all.iter().map(|endpoint| self.standings.of(endpoint));
            let mut primaries = standings.filter(|one| one.role() == Some(Role::Primary));
            let primary = primaries.next()?;
            drop(plan);
            let is_after = |primary: &super::Standing| primary.asked() >= Some(after);
            let is_known = is_after(&primary) || primary.wait_until(LIMIT, is_after).await;
            is_known.then(|| primary.position())
        })
    }
}
