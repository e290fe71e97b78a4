//! What one process knows about endpoints and its successor should not have to find out again:
//! health and ejections. Whoever hands it over, and in which form, is deliberately not here.

use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_core::settings::Address;

use super::{Health, Member, Service};
use crate::event::EjectionCause;

/// What is known about one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recollection {
    /// Where it is.
    pub address: Address,
    /// The name of the instance that answers there, when outgrow runs it.
    pub instance: Option<String>,
    /// [`Health::Up`] or [`Health::Down`].
    pub health: Health,
    /// Why the last check failed.
    pub reason: Option<String>,
    /// For how long it gets no requests yet because it failed too many.
    pub ejected_for: Option<Duration>,
    /// By which rule it is ejected, and what it did.
    pub ejected_because: Option<(EjectionCause, String)>,
    /// Ejections in a row.
    pub ejections_in_a_row: u32,
}

impl Service {
    /// What is known about the endpoints that were asked already.
    pub fn recollections(&self, now: Ticks) -> Vec<Recollection> {
        let members = self.lock();
        let asked = members.list.iter().filter(|member| {
            !member.leaving && !member.failed && matches!(member.health, Health::Up | Health::Down)
        });
        asked.map(|member| member.recollection(now)).collect()
    }

    /// Takes over what an earlier process knew about an endpoint that was not asked yet.
    pub fn recall(&self, known: &Recollection, now: Ticks) {
        self.change(|members, aftermath| {
            aftermath.publish = true;
            members.recall(known, now);
        });
    }
}

impl Member {
    fn recollection(&self, now: Ticks) -> Recollection {
        Recollection {
            address: self.endpoint.address().clone(),
            instance: self.endpoint.instance().map(str::to_owned),
            health: self.health,
            reason: self.reason.clone(),
            ejected_for: self.history.until().map(|until| until.since(now)),
            ejected_because: self.ejected.clone(),
            ejections_in_a_row: self.history.in_a_row(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{House, address, at, reset, settings};
    use super::*;
    use crate::settings::{CheckSettings, ServiceSettings};

    #[test]
    fn a_successor_knows_what_was_known() {
        let with_check = |it: &mut ServiceSettings| it.check = Some(CheckSettings::default());
        let old = House::new(settings(&[1, 2, 3, 4], with_check));
        for port in 1..=3 {
            old.check(port, Ok(()), Some(Health::Up), at(2));
        }
        old.check(2, Err("status 503"), Some(Health::Down), at(2));
        for _ in 0..5 {
            old.endpoint(3).report(reset(), at(3));
        }
        let known = old.web.recollections(at(8));
        let told = |one: &Recollection| (one.health, one.ejected_for.map(|left| left.as_secs()));
        assert_eq!(
            known.iter().map(told).collect::<Vec<_>>(),
            [
                (Health::Up, None),
                (Health::Down, None),
                (Health::Up, Some(5))
            ]
        );

        // Its clock begins anew.
        let mut new = House::new(settings(&[1, 2, 3, 4], with_check));
        for one in &known {
            new.web.recall(one, at(1));
        }
        assert_eq!(new.used(at(1)), [1, 4], "4 was not asked yet");
        let states = new.web.state(at(1)).endpoints;
        assert_eq!(states[1].reason.as_deref(), Some("status 503"));
        let why = states[2].ejected_because.as_deref();
        assert_eq!(why, Some("failed too many requests in a row"));
        assert_eq!(new.events(), Vec::<String>::new(), "nothing happened");
        new.registry.tick(at(6));
        assert_eq!(new.used(at(6)), [1, 3, 4]);
        for _ in 0..5 {
            new.endpoint(3).report(reset(), at(6));
        }
        assert_eq!(
            new.web.state(at(6)).endpoints[2].ejected_for,
            Some(Duration::from_secs(20)),
            "the second in a row"
        );
        // What it found out itself counts more.
        new.check(4, Ok(()), Some(Health::Up), at(7));
        let down = Recollection {
            address: address(4),
            health: Health::Down,
            ..known[1].clone()
        };
        new.web.recall(&down, at(7));
        assert_eq!(new.used(at(7)), [1, 4]);
    }
}
