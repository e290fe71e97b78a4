//! What clients of a listener are told of HTTP/3 (`Alt-Svc`, RFC 7838).
//!
//! A connection keeps the plan that it began with, for days if it likes. What it is told of HTTP/3 has to be
//! what is so now: who goes on hearing that HTTP/3 is there when it was taken away tries it in vain. So
//! plans of one listener are linked from the older to the newer, where what they tell differs.

use std::sync::{Arc, OnceLock};

/// What clients of a listener are told, by the newest of its plans.
#[derive(Debug, Default)]
pub struct AltSvc {
    text: Option<Box<str>>,
    /// What is told instead, since a reload.
    next: OnceLock<Arc<Self>>,
}

impl AltSvc {
    /// The value of the field; none: clients are told nothing.
    pub fn new(text: Option<Box<str>>) -> Arc<Self> {
        Arc::new(Self {
            text,
            next: OnceLock::new(),
        })
    }

    /// The value of the field now; none: clients are told nothing.
    #[inline]
    pub fn now(&self) -> Option<&str> {
        let mut newest = self;
        while let Some(next) = newest.next.get() {
            newest = next;
        }
        newest.text.as_deref()
    }

    /// Has whoever has this one, or one before it, tell what `next` says from now on; what the listener's
    /// next plan is to have. To be called by who puts plans in force, one after the other.
    #[must_use]
    pub fn replaced_by(self: &Arc<Self>, next: Arc<Self>) -> Arc<Self> {
        if self.text == next.text {
            return Arc::clone(self);
        }
        // It has none: the last plan's is given here.
        let _ = self.next.set(Arc::clone(&next));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_an_old_plan_tells_what_is_so_now() {
        let told = |text: Option<&str>| AltSvc::new(text.map(Into::into));
        let mut plans = vec![told(None)];
        for text in [
            Some("h3"),
            Some("h3"),
            Some("clear"),
            None,
            None,
            Some("h3"),
        ] {
            let last = plans.last().expect("one");
            plans.push(last.replaced_by(told(text)));
            assert!(plans.iter().all(|plan| plan.now() == text), "{plans:?}");
        }
        // What stays as it is costs nothing.
        assert!(Arc::ptr_eq(&plans[1], &plans[2]) && Arc::ptr_eq(&plans[4], &plans[5]));
    }
}
