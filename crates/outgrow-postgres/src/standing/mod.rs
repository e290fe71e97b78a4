//! Who is the primary, who is a replica, and how far each has come: what is known of every server
//! of a service, by all workers.
//!
//! A server's role is learned whenever it is spoken to (`in_hot_standby` at a login and in
//! ParameterStatus) and by asking it from time to time ([`monitor`]). A primary of an older
//! timeline than another one's is fenced: it was replaced and does not know.

mod loss;
mod lsn;
pub(crate) mod monitor;
mod positions;
pub(crate) mod watched;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use monitor::Alarm;

use outgrow_core::Ticks;
use outgrow_core::serving::Position;
use outgrow_upstream::{Endpoint, EndpointId};
use tokio::sync::Notify;

use loss::{Failovers, Look, Looks};
use watched::Watched;

pub use loss::{Failover, Fork, Loss};
pub use lsn::Lsn;

/// Positions of a primary that are remembered, and how far apart they are at least: a minute.
const REMEMBERED: usize = 128;
const REMEMBERED_EVERY: Duration = Duration::from_millis(450);

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It follows a primary.
    Replica,
    /// It takes writes although another server has been promoted since.
    Fenced,
}

/// What is known of one server. Plain stores: the newest word counts.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    role: AtomicU8,
    timeline: AtomicU32,
    lsn: AtomicU64,
    /// Where it was as the primary, at which times: the newest last.
    past: Mutex<VecDeque<(Ticks, Lsn)>>,
    /// The same with what it had ended by then, for what a failover lost.
    looks: Mutex<Looks>,
    /// Transactions that it has ended for clients.
    ended: AtomicU64,
    /// What matters for a promotion.
    watched: Mutex<Watched>,
    /// When what is known was asked for, as `Ticks`; 0: never.
    asked: AtomicU64,
    /// Rings its monitor.
    pub(crate) alarm: Alarm,
    /// Changes whenever it was heard.
    news: Notify,
}

impl Standing {
    /// Its role, if it is known.
    #[inline]
    pub(crate) fn role(&self) -> Option<Role> {
        match self.role.load(Ordering::Acquire) {
            1 => Some(Role::Primary),
            2 => Some(Role::Replica),
            3 => Some(Role::Fenced),
            _ => None,
        }
    }

    pub(crate) fn set_role(&self, role: Role) {
        let number = match role {
            Role::Primary => 1,
            Role::Replica => 2,
            Role::Fenced => 3,
        };
        self.role.store(number, Ordering::Release);
    }

    /// How far it has come: what it has written (primary) or replayed (replica).
    #[inline]
    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(self.lsn.load(Ordering::Acquire))
    }

    /// Takes note of a position. It may be behind an earlier one: a replica that was restarted, or
    /// a primary that was rewound, is back where it was.
    pub(crate) fn set_lsn(&self, lsn: Lsn) {
        self.lsn.store(lsn.0, Ordering::Release);
    }

    /// How long ago this primary was where a replica is now, as far as is remembered: by its word
    /// alone, since a replica that has lost its primary knows nothing of what it misses.
    pub(crate) fn lag_of(&self, replica: Lsn, now: Ticks) -> Duration {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        // The first moment at which the primary was further than the replica is.
        let missed = past.iter().find(|(_, lsn)| *lsn > replica);
        missed.map_or(Duration::ZERO, |(at, _)| now.since(*at))
    }

    fn remember(&self, at: Ticks, lsn: Lsn) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = past
            .back()
            .is_none_or(|(last, known)| *known != lsn && at.since(*last) >= REMEMBERED_EVERY);
        if is_new {
            if past.len() >= REMEMBERED {
                past.pop_front();
            }
            past.push_back((at, lsn));
        }
    }

    /// It has ended a transaction for a client, as it said.
    #[inline]
    pub(crate) fn count_ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// How many; what is counted after a question was begun may be in its answer or not.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// The timeline that it writes or follows.
    pub(crate) fn timeline(&self) -> u32 {
        self.timeline.load(Ordering::Relaxed)
    }

    /// How far it has come, on which timeline.
    pub(crate) fn position(&self) -> Position {
        Position {
            timeline: self.timeline(),
            lsn: self.lsn().0,
        }
    }

    /// When what is known of it was asked for.
    pub(crate) fn asked(&self) -> Option<Ticks> {
        match self.asked.load(Ordering::Acquire) {
            0 => None,
            ticks => Some(Ticks(ticks)),
        }
    }

    /// Waits until `is_enough`, and has the server asked without a pause meanwhile. False after
    /// `limit`.
    pub(crate) async fn wait_until(
        &self,
        limit: Duration,
        is_enough: impl Fn(&Self) -> bool,
    ) -> bool {
        let wait = async {
            loop {
                let news = self.news.notified();
                if is_enough(self) {
                    return;
                }
                self.alarm.ring();
                news.await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) is_replica: bool,
    pub(crate) lsn: Lsn,
    pub(crate) timeline: u32,
    /// Of a primary: how far it had replayed when it was promoted, since it was started.
    pub(crate) recovered: Option<Lsn>,
    /// Transactions that it had ended for clients before it was asked.
    pub(crate) ended: u64,
}

/// All servers.
#[derive(Debug, Default)]
pub(crate) struct Standings(Mutex<HashMap<EndpointId, Arc<Standing>>>, Mutex<Failovers>);

impl Standings {
    /// That of a server; made when it is new.
    pub(crate) fn of(&self, endpoint: &Endpoint) -> Arc<Standing> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(endpoint.id()).or_default())
    }

    /// Forgets servers that are none of `known`.
    pub(crate) fn retain(&self, known: &[EndpointId]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|id, _| known.contains(id));
    }

    /// The last failovers, the newest last.
    pub(crate) fn failovers(&self) -> Vec<Failover> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).all()
    }

    /// Takes note of what a server of the service with these `endpoints` said of itself, when it was
    /// `asked`. Gives a failover of which something is new.
    pub(crate) fn note(
        &self,
        endpoint: &Endpoint,
        endpoints: &[Arc<Endpoint>],
        report: Report,
        asked: Ticks,
    ) -> Option<Failover> {
        let standing = self.of(endpoint);
        let as_replica = (standing.role() == Some(Role::Replica)).then(|| standing.lsn());
        standing.timeline.store(report.timeline, Ordering::Relaxed);
        standing.set_lsn(report.lsn);
        standing.asked.store(asked.0.max(1), Ordering::Release);
        standing.note_word();
        standing.news.notify_waiters();
        if report.is_replica {
            standing.set_role(Role::Replica);
            return None;
        }
        let others = endpoints.iter().filter(|other| other.id() != endpoint.id());
        let others: Vec<_> = others.map(|other| (other, self.of(other))).collect();
        let newest = others
            .iter()
            .map(|(_, other)| other)
            .filter(|other| matches!(other.role(), Some(Role::Primary | Role::Fenced)))
            .map(|other| other.timeline())
            .max();
        if newest.is_some_and(|newest| newest > report.timeline) {
            standing.set_role(Role::Fenced);
            let failovers = self.1.lock();
            let mut failovers = failovers.unwrap_or_else(PoisonError::into_inner);
            return failovers.hear(endpoint.label(), report.timeline, report.lsn);
        }
        standing.remember(asked, report.lsn);
        let look = Look {
            lsn: report.lsn,
            transactions: report.ended,
        };
        let looks = standing.looks.lock();
        looks
            .unwrap_or_else(PoisonError::into_inner)
            .note(asked, look);
        standing.set_role(Role::Primary);
        let mut news = None;
        for (old, other) in others {
            if other.role() == Some(Role::Primary) && other.timeline() < report.timeline {
                other.set_role(Role::Fenced);
                let looks = other.looks.lock().unwrap_or_else(PoisonError::into_inner);
                let failover = Failover::new(
                    asked,
                    (old.label(), other.timeline()),
                    (endpoint.label(), report.timeline),
                    Fork::of(report.recovered, report.lsn, as_replica),
                    (&looks, other.ended()),
                );
                let failovers = self.1.lock();
                let mut failovers = failovers.unwrap_or_else(PoisonError::into_inner);
                failovers.note(failover.clone());
                news = Some(failover);
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use outgrow_core::settings::Address;
    use outgrow_upstream::Registry;
    use outgrow_upstream::settings::{Endpoint as Listed, ServiceSettings};

    use super::*;

    fn endpoints(count: u16) -> Vec<Arc<Endpoint>> {
        let registry = Registry::new(1);
        let settings = ServiceSettings {
            endpoints: (0..count)
                .map(|port| Listed::at(Address::tcp("127.0.0.1", 5000 + port)))
                .collect(),
            ..ServiceSettings::default()
        };
        registry.apply(&BTreeMap::from([("db".to_owned(), settings)]), Ticks(1));
        let service = registry.service("db").expect("just made");
        service.endpoints().load().all.to_vec()
    }

    fn report(is_replica: bool, lsn: u64, timeline: u32) -> Report {
        Report {
            is_replica,
            lsn: Lsn(lsn),
            timeline,
            recovered: None,
            ended: 0,
        }
    }

    #[test]
    fn a_primary_that_was_replaced_is_fenced() {
        let servers = endpoints(3);
        let standings = Standings::default();
        let role = |index: usize| standings.of(&servers[index]).role();
        let note = |index: usize, report| {
            standings.note(&servers[index], &servers, report, Ticks(5));
        };
        assert_eq!(role(0), None);
        note(0, report(false, 100, 1));
        note(1, report(true, 90, 1));
        note(2, report(true, 80, 1));
        assert_eq!(
            (role(0), role(1)),
            (Some(Role::Primary), Some(Role::Replica))
        );
        // The second one is promoted while the first one still runs.
        note(1, report(false, 95, 2));
        assert_eq!(
            (role(0), role(1)),
            (Some(Role::Fenced), Some(Role::Primary))
        );
        note(0, report(false, 110, 1));
        assert_eq!(role(0), Some(Role::Fenced), "whatever it says");
        let failovers = standings.failovers();
        assert_eq!(failovers.len(), 1);
        // It was 90 as a replica, and the old one was seen at 100, and at 110 later.
        let (fork, loss) = (failovers[0].fork.expect("told"), failovers[0].loss);
        assert_eq!((fork.at_least, fork.at_most), (Lsn(90), Lsn(95)));
        assert_eq!((failovers[0].known, loss.bytes), (Lsn(110), 15));
        // It comes back as a replica of the new one.
        note(0, report(true, 95, 2));
        assert_eq!(role(0), Some(Role::Replica));
        assert_eq!(standings.of(&servers[0]).lsn(), Lsn(95), "it was rewound");
    }

    #[test]
    fn how_far_a_replica_is_behind_is_the_primarys_word() {
        let servers = endpoints(1);
        let standings = Standings::default();
        let second = 1_000_000_000;
        for at in 1..=20 {
            let report = report(false, at * 100, 1);
            standings.note(&servers[0], &servers, report, Ticks(at * second));
        }
        let primary = standings.of(&servers[0]);
        let lag = |lsn| primary.lag_of(Lsn(lsn), Ticks(20 * second));
        assert_eq!(lag(2_000), Duration::ZERO);
        assert_eq!(lag(2_500), Duration::ZERO);
        assert_eq!(lag(1_900), Duration::ZERO);
        assert_eq!(lag(1_850), Duration::from_secs(1));
        assert_eq!(lag(1_000), Duration::from_secs(9));
    }

    #[test]
    fn a_stale_primary_that_is_heard_first_is_fenced_later() {
        let servers = endpoints(2);
        let standings = Standings::default();
        standings.note(&servers[1], &servers, report(false, 95, 2), Ticks(5));
        standings.note(&servers[0], &servers, report(false, 100, 1), Ticks(6));
        assert_eq!(standings.of(&servers[0]).role(), Some(Role::Fenced));
        assert_eq!(standings.of(&servers[1]).role(), Some(Role::Primary));
    }
}
