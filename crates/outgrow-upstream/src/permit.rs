//! A permit: the right to have one request in flight at an endpoint.
//!
//! Permits are counted per endpoint over all workers. One that is given back goes to the first
//! request that waits, never to a newcomer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::endpoint::Endpoint;

/// The right to have one request in flight at an endpoint; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    endpoint: Arc<Endpoint>,
}

impl Permit {
    /// Takes one of the endpoint's permits; `None` when all are taken, or when the endpoint is not
    /// to get any request.
    #[inline]
    pub(crate) fn acquire(endpoint: &Arc<Endpoint>) -> Option<Self> {
        Self::acquire_while(endpoint, Endpoint::is_usable)
    }

    /// The same for somebody who stays at the endpoint, which may drain already.
    #[inline]
    pub(crate) fn acquire_to_stay(endpoint: &Arc<Endpoint>) -> Option<Self> {
        Self::acquire_while(endpoint, Endpoint::is_kept)
    }

    #[inline]
    fn acquire_while(
        endpoint: &Arc<Endpoint>,
        is_open: impl Fn(&Endpoint) -> bool,
    ) -> Option<Self> {
        if !is_open(endpoint) {
            return None;
        }
        let limit = endpoint.limit.load(Ordering::Relaxed);
        let mut active = endpoint.active.load(Ordering::SeqCst);
        loop {
            if active >= limit {
                return None;
            }
            // Never above the limit, not even for a moment: whoever gives a permit back at that
            // moment would find none to hand over, and the one who waits would wait on.
            match endpoint.active.compare_exchange_weak(
                active,
                active + 1,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => break,
                Err(now) => active = now,
            }
        }
        let permit = Self {
            endpoint: Arc::clone(endpoint),
        };
        // Again after the count, so that whoever takes the endpoint out and then finds no request
        // in flight can be sure that none follows.
        if !is_open(endpoint) {
            return None;
        }
        endpoint.requests.add_shared(1);
        Some(permit)
    }

    /// The endpoint that the request is to go to.
    #[inline]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        self.endpoint.active.fetch_sub(1, Ordering::SeqCst);
        if self.endpoint.own_queue.has_waiters() {
            hand_over_own(&self.endpoint);
        }
        if self.endpoint.queue.has_waiters() {
            hand_over(&self.endpoint);
        }
    }
}

/// Gives the endpoint's free permits to those who wait for it alone: they can go nowhere else, so
/// they come before those who wait for any.
#[cold]
pub(crate) fn hand_over_own(endpoint: &Arc<Endpoint>) {
    while endpoint.own_queue.has_waiters() {
        let Some(permit) = Permit::acquire_to_stay(endpoint) else {
            return;
        };
        if let Err(permit) = endpoint.own_queue.grant(permit) {
            // Everybody gave up in between. The permit may be wanted by others.
            drop(permit);
            return;
        }
    }
}

/// Gives the endpoint's free permits to those who wait.
#[cold]
fn hand_over(endpoint: &Arc<Endpoint>) {
    while endpoint.queue.has_waiters() {
        let Some(permit) = Permit::acquire(endpoint) else {
            return;
        };
        if let Err(permit) = endpoint.queue.grant(permit) {
            // Everybody gave up in between.
            drop(permit);
            return;
        }
    }
}
