//! Connections that cannot be made: who is told, and when it is tried again.

use outgrow_core::Ticks;

use super::Pool;
use crate::lanes::Wish;
use crate::problem::Refusal;
use crate::server::open::Failure;

impl Pool {
    /// An attempt that failed. When nothing else can serve those who wait they are told, unless
    /// only the network failed: then it is tried again for as long as they wait.
    pub(crate) fn fail(&self, failure: Failure, now: Ticks) {
        self.numbers.connect_failures.add_shared(1);
        let mut inner = self.lock();
        inner.coming -= 1;
        let is_starting = matches!(&failure, Failure::Refused(refusal) if refusal.code == "57P03");
        // Who waits for a replica is served by another server instead.
        let is_final = matches!(failure, Failure::Refused(_) | Failure::Login(_)) && !is_starting;
        let is_told = (is_final || inner.is_for_replica) && inner.has_none();
        let told = is_told.then(|| failure.refusal());
        inner.failed = Some((now, failure.clone()));
        if let Some(told) = &told {
            inner.refuse_all(told);
        }
        let is_split = inner.in_lanes.is_some();
        drop(inner);
        if is_split {
            self.tell_failed(now, &failure, told.as_ref());
        }
    }

    /// An attempt that was not made after all, for want of room.
    pub(crate) fn postpone(&self) {
        self.lock().coming -= 1;
    }

    /// Whether it has no connection to give, and the last attempt to get one came to nothing.
    pub(crate) fn is_failing(&self) -> bool {
        let inner = self.lock();
        inner.failed.is_some() && inner.has_none()
    }

    /// Why there is no connection, when the last attempt failed and none is left.
    pub(crate) fn why_failed(&self) -> Option<Refusal> {
        let inner = self.lock();
        if inner.whole().standing > 0 {
            return None;
        }
        inner.failed.as_ref().map(|(_, failure)| failure.refusal())
    }

    /// Has a connection tried although nobody waits for it.
    pub(crate) fn try_again(&self, now: Ticks) -> u32 {
        let mut inner = self.lock();
        let retry = inner.plan.limits.connect_retry;
        let failed = inner.failed.as_ref();
        if failed.is_none_or(|(at, _)| now.since(*at) < retry) {
            return 0;
        }
        let wish = Wish {
            lacking: 1,
            most: u32::MAX,
            has_failed: true,
            ..Wish::default()
        };
        let granted = inner.count(|ledger| ledger.grant(wish));
        inner.coming += granted;
        granted
    }

    /// Why a client that comes now is sent away at once, where that is done: the last login failed, and
    /// there is no connection.
    pub(crate) fn refuses_at_once(&self) -> Option<Refusal> {
        let inner = self.lock();
        if !inner.has_none() {
            return None;
        }
        let (_, failure) = inner.failed.as_ref()?;
        let (Failure::Refused(_) | Failure::Login(_)) = failure else {
            return None;
        };
        let message = format!(
            "server login has been failing, cached error: {} (server_login_retry)",
            failure.refusal().message
        );
        Some(Refusal::new(crate::problem::PROTOCOL, message))
    }
}
