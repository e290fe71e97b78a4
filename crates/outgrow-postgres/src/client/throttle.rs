//! Slowing down those who fail to log in. Known and unknown users are treated alike.

use std::sync::{MutexGuard, PoisonError};

use super::login::{End, Login};
use crate::events::{Level, Topic};
use crate::login::throttle::{Judgement, Throttle};
use crate::login::{self, Cause, Facts, Method};
use crate::plan::Plan;
use crate::problem::{Refusal, TOO_MANY};

impl Login {
    /// The table, where the plan wants one for such a proof.
    fn throttle(&self, plan: &Plan, method: Method) -> Option<MutexGuard<'_, Throttle>> {
        // Who need not prove anything can fail nothing by guessing.
        if matches!(method, Method::Trust | Method::Reject) {
            return None;
        }
        let settings = plan.house.throttle.as_ref()?;
        let throttle = self.worker.shared.throttle.lock();
        let mut throttle = throttle.unwrap_or_else(PoisonError::into_inner);
        throttle.set(settings);
        Some(throttle)
    }

    /// Waits for as long as those must who have failed before, before anything is asked of it.
    pub(super) async fn slow_down(
        &self,
        plan: &Plan,
        method: Method,
        facts: &Facts<'_>,
    ) -> Result<(), End> {
        let now = self.worker.now();
        let judgement = match self.throttle(plan, method) {
            Some(mut throttle) => throttle.judge(facts.source, facts.user, now),
            None => return Ok(()),
        };
        let numbers = &self.worker.shared.login_numbers;
        match judgement {
            Judgement::Go => Ok(()),
            Judgement::Wait(wait) => {
                numbers.slowed.add_shared(1);
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Judgement::Refuse => {
                numbers.refused.add_shared(1);
                let message = "too many failed logins: try again later";
                Err(Refusal::new(TOO_MANY, message).into())
            }
        }
    }

    /// Takes note of how a login went.
    pub(super) fn note_login(
        &self,
        plan: &Plan,
        method: Method,
        facts: &Facts<'_>,
        refusal: Option<&login::Refusal>,
    ) {
        let is_failure = refusal.is_some_and(|refusal| {
            matches!(
                refusal.cause,
                Cause::NoSuchUser | Cause::Password | Cause::Identity
            )
        });
        if is_failure {
            self.worker.shared.login_numbers.failed.add_shared(1);
        }
        let now = self.worker.now();
        let Some(mut throttle) = self.throttle(plan, method) else {
            return;
        };
        if is_failure {
            let was_empty = throttle.is_empty();
            throttle.failed(facts.source, facts.user, now);
            drop(throttle);
            if was_empty {
                self.entry.say(Level::Log, Topic::Other, || {
                    "a login failed: further ones may have to wait".to_owned()
                });
            }
        } else if refusal.is_none() {
            throttle.succeeded(facts.source, facts.user);
        }
    }
}
