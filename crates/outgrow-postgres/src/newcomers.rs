//! Clients that have not logged in yet: how many there may be at a time.
//!
//! Who comes when there are enough waits, unaccepted, in the kernel's queue; who has taken long to log
//! in is sent away for them. So neither many that come at once nor many that say nothing keep others
//! out. Pure, but for the bell.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use tokio::sync::Notify;

use crate::numbers::LoginNumbers;
use crate::shared::Shared;

/// How long a login may take before it makes room for others, where there is a lack of it.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Newcomers {
    /// The oldest in front.
    all: Mutex<VecDeque<Entry>>,
    /// Somebody has logged in, or gone.
    freed: Notify,
}

#[derive(Debug)]
struct Entry {
    since: Ticks,
    sent_away: Arc<Notify>,
}

/// One of them; counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Newcomer {
    newcomers: Arc<Newcomers>,
    sent_away: Arc<Notify>,
}

/// What came of coming in.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// There is room, since who was there for longest is sent away if need be.
    Room(Newcomer),
    /// There is none, at least for this long.
    Wait(Duration),
}

impl Newcomers {
    /// One more, of at most `limit`; 0 is no limit.
    pub(crate) fn enter(self: &Arc<Self>, limit: u32, now: Ticks) -> Entrance {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if limit > 0 && all.len() >= limit as usize {
            let since = all.front().map_or(now, |oldest| oldest.since);
            let age = now.since(since);
            if age < GRACE {
                return Entrance::Wait(GRACE.saturating_sub(age));
            }
            if let Some(oldest) = all.pop_front() {
                oldest.sent_away.notify_one();
            }
        }
        let sent_away = Arc::new(Notify::new());
        all.push_back(Entry {
            since: now,
            sent_away: Arc::clone(&sent_away),
        });
        Entrance::Room(Newcomer {
            newcomers: Arc::clone(self),
            sent_away,
        })
    }

    /// Waits until there may be room, at most for `limit`.
    pub(crate) async fn wait(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.freed.notified()).await;
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

impl Newcomer {
    /// Until it is sent away.
    pub(crate) async fn sent_away(&self) {
        self.sent_away.notified().await;
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let all = &self.newcomers.all;
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all
            .iter()
            .position(|one| Arc::ptr_eq(&one.sent_away, &self.sent_away));
        if let Some(own) = own {
            all.remove(own);
        }
        drop(all);
        self.newcomers.freed.notify_one();
    }
}

impl Shared {
    /// Clients that have not logged in yet.
    pub fn newcomers(&self) -> usize {
        self.newcomers.count()
    }

    /// What is counted of logins.
    pub fn login_numbers(&self) -> &LoginNumbers {
        &self.login_numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_than_there_may_be() {
        let newcomers = Arc::new(Newcomers::default());
        let at = |seconds: u64| Ticks(seconds * 1_000_000_000);
        let enter = |seconds| newcomers.enter(2, at(seconds));
        let Entrance::Room(first) = enter(1) else {
            panic!("there is room");
        };
        let Entrance::Room(second) = enter(3) else {
            panic!("there is room");
        };
        let Entrance::Wait(wait) = enter(4) else {
            panic!("there is none");
        };
        assert_eq!(wait, Duration::from_secs(2));
        // The first one has had its time.
        let Entrance::Room(third) = enter(6) else {
            panic!("in place of the first");
        };
        assert_eq!(newcomers.count(), 2);
        drop(first);
        assert_eq!(newcomers.count(), 2, "it did not count any more");
        assert!(matches!(enter(7), Entrance::Wait(_)));
        drop(second);
        assert!(matches!(enter(7), Entrance::Room(_)));
        drop(third);
        assert_eq!(newcomers.count(), 0);
        assert!(matches!(newcomers.enter(0, at(8)), Entrance::Room(_)));
    }
}
