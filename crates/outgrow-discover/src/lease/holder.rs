//! Whether this box may believe that it holds the lease, and when it asks again: pure, the time is
//! an argument.
//!
//! The registry's time for the lease begins when it gets the question, which is not before the
//! question was sent: so the lease is not over for others before `sent + ttl`, however late the
//! answer comes. This box believes until `sent + 2/3 ttl` (as the renew deadline of Kubernetes'
//! leader election does), so the last third is for what must be undone before another begins, and
//! for clocks that do not go equally fast. An answer that comes after that gives nothing.

use std::time::Duration;

use super::time::BootTime;

/// What is believed of one lease.
#[derive(Clone, Debug)]
pub struct Holder {
    ttl: Duration,
    /// How often one who does not hold asks.
    look: Duration,
    /// Whether what is held stays so while the registry does not answer.
    keeps: bool,
    until: Option<BootTime>,
    due: BootTime,
    holder: Option<String>,
}

/// For how long of a lease it is believed in.
pub fn believed(ttl: Duration) -> Duration {
    ttl * 2 / 3
}

impl Holder {
    /// Of a lease of this length. `until` is what an earlier process of the same identity knew.
    pub fn new(ttl: Duration, look: Duration, until: Option<BootTime>) -> Self {
        Self {
            ttl,
            look,
            keeps: false,
            until,
            due: BootTime::default(),
            holder: None,
        }
    }

    /// The same of one that stays held while the registry does not answer.
    #[must_use]
    pub fn keeping(mut self, keeps: bool) -> Self {
        self.keeps = keeps;
        self
    }

    /// How long a question may take.
    pub fn patience(&self) -> Duration {
        self.ttl / 4
    }

    /// Until when it is held; what is not later than now is over.
    pub fn until(&self) -> Option<BootTime> {
        self.until
    }

    /// Whether it is held.
    pub fn believes(&self, now: BootTime) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Who holds it, by what the registry said last.
    pub fn holder(&self) -> Option<&str> {
        self.holder.as_deref()
    }

    /// When the next question is due.
    pub fn due(&self) -> BootTime {
        self.due
    }

    /// The registry says that this box holds it, to a question that was sent then.
    pub fn confirmed(&mut self, identity: &str, sent: BootTime) {
        let until = sent + believed(self.ttl);
        self.until = self.until.max(Some(until));
        self.due = sent + self.ttl / 3;
        self.holder = Some(identity.to_owned());
    }

    /// It says that another one does.
    pub fn refused(&mut self, by: &str, now: BootTime) {
        self.until = None;
        self.due = now + self.look;
        self.holder = Some(by.to_owned());
    }

    /// It did not answer, or not what can be understood.
    pub fn failed(&mut self, now: BootTime) {
        if self.keeps && self.believes(now) {
            self.until = Some(now + believed(self.ttl));
        }
        self.due = now + self.ttl / 12;
    }

    /// It may be free.
    pub fn freed(&mut self, now: BootTime) {
        self.due = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(12);

    fn at(seconds: u64) -> BootTime {
        BootTime::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn belief_counts_from_the_question_and_ends_before_the_lease() {
        let mut holder = Holder::new(TTL, Duration::from_secs(1), None);
        assert!(!holder.believes(at(0)));
        holder.confirmed("me", at(100));
        assert!(holder.believes(at(100)) && holder.believes(at(107)));
        assert!(!holder.believes(at(108)), "the last third is not believed");
        assert_eq!(holder.due(), at(104));
        // A failure takes nothing away, and is followed by the next question soon.
        holder.failed(at(105));
        assert_eq!((holder.due(), holder.until()), (at(106), Some(at(108))));
        // What was asked long ago gives nothing now.
        holder.confirmed("me", at(101));
        assert!(!holder.believes(at(109)));
        holder.refused("other", at(109));
        assert_eq!(holder.holder(), Some("other"));
        holder.confirmed("me", at(110));
        holder.refused("other", at(111));
        assert!(
            !holder.believes(at(111)),
            "the registry's word counts at once"
        );
    }

    #[test]
    fn what_is_kept_stays_until_the_registry_says_otherwise() {
        let mut holder = Holder::new(TTL, Duration::from_secs(1), None).keeping(true);
        // What was never held is not kept.
        holder.failed(at(1));
        assert!(!holder.believes(at(1)));
        holder.confirmed("me", at(100));
        for second in 0..60 {
            holder.failed(at(105 + 7 * second));
        }
        assert!(holder.believes(at(525)));
        holder.refused("other", at(526));
        assert!(!holder.believes(at(526)));
        // A process that was asleep for longer knows nothing.
        holder.confirmed("me", at(600));
        holder.failed(at(608));
        assert!(!holder.believes(at(608)));
    }

    #[test]
    fn an_answer_out_of_order_shortens_nothing() {
        let mut holder = Holder::new(TTL, Duration::from_secs(1), Some(at(50)));
        assert!(holder.believes(at(49)));
        holder.confirmed("me", at(40));
        assert_eq!(holder.until(), Some(at(50)));
    }
}
