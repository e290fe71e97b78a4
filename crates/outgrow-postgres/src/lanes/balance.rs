//! When a pool gets another lane, which clients move, and when lanes are given up again: pure. What is
//! measured is the share of their time that the workers' threads run.

use std::time::Duration;

use outgrow_core::Ticks;

use crate::settings::LaneCount;

/// From this share of its time on (in thousandths) a worker is hot.
const HOT: u32 = 750;
/// For how long it must be.
const HOT_FOR: Duration = Duration::from_secs(3);
/// So much less than a hot one a worker must run to be given clients of it.
const GAP: u32 = 300;
/// A pool matters on a worker from this share of its lendings on, in thousandths.
const MATTERS: u64 = 200;
/// After a move, until what came of it can be seen.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest such time; each move that is followed by another one doubles it.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// With less than this on all its workers together a pool needs only one.
const COOL: u32 = 400;
/// For how long it must be.
const COOL_FOR: Duration = Duration::from_secs(60);

/// One lane, since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneUse {
    pub(super) worker: usize,
    pub(super) clients: u32,
    /// Connections that it lent.
    pub(super) lendings: u64,
}

/// A worker, since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WorkerUse {
    /// The share of its time that its thread ran, in thousandths.
    pub(super) busy: u32,
    /// Connections that all its pools lent.
    pub(super) lendings: u64,
}

/// A pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolUse<'u> {
    pub(super) home: usize,
    pub(super) lanes: &'u [LaneUse],
    /// The workers whose lanes new clients go to.
    pub(super) open: &'u [usize],
}

impl PoolUse<'_> {
    /// The clients of a worker's lane.
    fn clients(&self, worker: usize) -> u32 {
        let lane = self.lanes.iter().find(|lane| lane.worker == worker);
        lane.map_or(0, |lane| lane.clients)
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// New clients go to the lanes of these workers.
    Open(Vec<usize>),
    /// Of the clients of one lane that do something at the moment so many thousandths go to another one,
    /// which is opened if it is not.
    Move { from: usize, to: usize, share: u32 },
    /// So many clients of one lane, whatever they do, go to another one.
    Even { from: usize, to: usize, count: u32 },
}

/// What is remembered of a pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Heat {
    hot_since: Option<Ticks>,
    cool_since: Option<Ticks>,
    /// The last move, and for how long nothing follows.
    moved: Option<(Ticks, Duration)>,
    /// Which clients of closed lanes were told to go, and have not gone yet: some cannot, or take long.
    told: Option<Order>,
}

impl Heat {
    /// Looks at a pool.
    pub(super) fn judge(
        &mut self,
        now: Ticks,
        count: LaneCount,
        workers: &[WorkerUse],
        pool: PoolUse<'_>,
    ) -> Option<Order> {
        match count {
            LaneCount::Auto => self.follow(now, workers, pool),
            LaneCount::Count(count) => {
                *self = Self {
                    told: self.told.take(),
                    ..Self::default()
                };
                self.keep(usize::from(count), workers.len(), pool)
            }
        }
    }

    fn follow(&mut self, now: Ticks, workers: &[WorkerUse], pool: PoolUse<'_>) -> Option<Order> {
        if self.is_cool(now, workers, pool) {
            self.cool_since = None;
            return Some(Order::Open(vec![pool.home]));
        }
        if let Some(stray) = self.new_stray(pool) {
            return Some(stray);
        }
        let hottest = hottest(workers, pool);
        let Some(hottest) = hottest else {
            self.hot_since = None;
            return None;
        };
        let since = *self.hot_since.get_or_insert(now);
        let pauses = self.moved.is_some_and(|(at, pause)| now.since(at) < pause);
        if now.since(since) < HOT_FOR || pauses || hottest.clients < 2 {
            return None;
        }
        let busy = |worker: usize| workers[worker].busy;
        let coolest = (0..workers.len()).min_by_key(|worker| busy(*worker))?;
        let (from, to) = (busy(hottest.worker), busy(coolest));
        if coolest == hottest.worker || from < to + GAP {
            return None;
        }
        // Half of the difference goes there.
        let share = (from - to) * 500 / from.max(1);
        let pause = self.next_pause(now);
        self.moved = Some((now, pause));
        Some(Order::Move {
            from: hottest.worker,
            to: coolest,
            share,
        })
    }

    /// Clients of a lane that is not open any more, unless they were told already: who cannot go keeps
    /// nothing else from being looked at.
    fn new_stray(&mut self, pool: PoolUse<'_>) -> Option<Order> {
        let stray = stray(pool);
        if stray == self.told {
            return None;
        }
        self.told.clone_from(&stray);
        stray
    }

    /// As many lanes as are wanted, with about as many clients each.
    fn keep(&mut self, count: usize, workers: usize, pool: PoolUse<'_>) -> Option<Order> {
        let count = count.clamp(1, workers.max(1));
        let wanted: Vec<usize> = (0..count)
            .map(|place| (pool.home + place) % workers)
            .collect();
        if pool.open != wanted {
            return Some(Order::Open(wanted));
        }
        if let Some(stray) = self.new_stray(pool) {
            return Some(stray);
        }
        let all = || wanted.iter().copied();
        let most = all().max_by_key(|worker| pool.clients(*worker))?;
        let fewest = all().min_by_key(|worker| pool.clients(*worker))?;
        let (more, fewer) = (pool.clients(most), pool.clients(fewest));
        // A small difference is not worth it: newcomers go to the fewest.
        let is_uneven = more - fewer > (more / 4).max(1);
        is_uneven.then_some(Order::Even {
            from: most,
            to: fewest,
            count: (more - fewer) / 2,
        })
    }

    /// A move soon after another one's pause shows that it did not help.
    fn next_pause(&self, now: Ticks) -> Duration {
        match self.moved {
            Some((at, pause)) if now.since(at) < pause + COOL_FOR => (pause * 2).min(LONGEST_PAUSE),
            _ => PAUSE,
        }
    }

    /// Whether it has several lanes, and has not needed them for long.
    fn is_cool(&mut self, now: Ticks, workers: &[WorkerUse], pool: PoolUse<'_>) -> bool {
        let all = pool.open.iter().map(|worker| workers[*worker].busy);
        if pool.open.len() < 2 || all.sum::<u32>() >= COOL {
            self.cool_since = None;
            return false;
        }
        let since = *self.cool_since.get_or_insert(now);
        now.since(since) >= COOL_FOR
    }
}

/// The lane on the hottest worker that is hot because of this pool, among others.
fn hottest(workers: &[WorkerUse], pool: PoolUse<'_>) -> Option<LaneUse> {
    let is_hot = |lane: &&LaneUse| {
        let worker = workers[lane.worker];
        worker.busy >= HOT && lane.lendings * 1_000 >= worker.lendings.max(1) * MATTERS
    };
    let hot = pool.lanes.iter().filter(is_hot);
    hot.max_by_key(|lane| workers[lane.worker].busy).copied()
}

/// Clients of a lane that is not open any more go to one that is.
fn stray(pool: PoolUse<'_>) -> Option<Order> {
    let mut closed = pool.lanes.iter();
    let closed = closed.find(|lane| lane.clients > 0 && !pool.open.contains(&lane.worker))?;
    let open = pool.open.iter().copied();
    let to = open.min_by_key(|worker| pool.clients(*worker));
    Some(Order::Even {
        from: closed.worker,
        to: to?,
        count: closed.clients,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn lanes(all: &[(usize, u32, u64)]) -> Vec<LaneUse> {
        let lane = |&(worker, clients, lendings)| LaneUse {
            worker,
            clients,
            lendings,
        };
        all.iter().map(lane).collect()
    }

    /// What is ordered at each second, of a pool whose home is worker 0.
    fn run(
        seconds: u64,
        busy: &[u32],
        all: &[(usize, u32, u64)],
        open: &[usize],
    ) -> Vec<(u64, Order)> {
        let mut heat = Heat::default();
        let lanes = lanes(all);
        let used = |(worker, busy): (usize, &u32)| WorkerUse {
            busy: *busy,
            lendings: lanes
                .iter()
                .filter(|lane| lane.worker == worker)
                .map(|lane| lane.lendings)
                .sum(),
        };
        let workers: Vec<_> = busy.iter().enumerate().map(used).collect();
        let pool = PoolUse {
            home: 0,
            lanes: &lanes,
            open,
        };
        let look = |second| {
            let now = Ticks(second * SECOND);
            heat.judge(now, LaneCount::Auto, &workers, pool)
                .map(|order| (second, order))
        };
        (1..=seconds).filter_map(look).collect()
    }

    #[test]
    fn what_is_hot_for_long_gets_another_lane() {
        let told = run(8, &[900, 100], &[(0, 10, 50_000)], &[0]);
        let expected = Order::Move {
            from: 0,
            to: 1,
            share: 444,
        };
        assert_eq!(told, [(4, expected)]);
        for (busy, all) in [
            (&[700, 0][..], &[(0, 10, 50_000)][..]),
            (&[950, 700], &[(0, 10, 50_000)]),
            (&[950], &[(0, 10, 50_000)]),
            // A single client can be served by one only.
            (&[950, 0], &[(0, 1, 50_000)]),
            (&[950, 0], &[]),
        ] {
            assert_eq!(run(60, busy, all, &[0]), [], "{busy:?} {all:?}");
        }
    }

    #[test]
    fn what_does_not_help_is_tried_less_and_less() {
        let told = run(400, &[900, 100], &[(0, 10, 9), (1, 10, 9)], &[0, 1]);
        let at: Vec<u64> = told.iter().map(|(at, _)| *at).collect();
        assert_eq!(at, [4, 9, 19, 39, 79, 159, 319]);
    }

    #[test]
    fn who_makes_a_worker_hot_is_split_and_not_its_neighbour() {
        let mut heat = Heat::default();
        let workers = [
            WorkerUse {
                busy: 900,
                lendings: 1_000,
            },
            WorkerUse::default(),
        ];
        let lanes = lanes(&[(0, 10, 150)]);
        let pool = PoolUse {
            home: 0,
            lanes: &lanes,
            open: &[0],
        };
        for second in 1..60 {
            let told = heat.judge(Ticks(second * SECOND), LaneCount::Auto, &workers, pool);
            assert_eq!(told, None);
        }
    }

    #[test]
    fn lanes_that_are_not_needed_are_given_up() {
        let all = [(0, 10, 5), (1, 12, 5)];
        let told = run(70, &[150, 200], &all, &[0, 1]);
        assert_eq!(told, [(61, Order::Open(vec![0]))]);
        assert_eq!(run(200, &[150, 300], &all, &[0, 1]), []);
        // Who is still in it goes.
        let expected = Order::Even {
            from: 1,
            to: 0,
            count: 12,
        };
        assert_eq!(run(1, &[150, 200], &all, &[0]), [(1, expected)]);
    }

    #[test]
    fn who_cannot_go_is_told_once_and_keeps_nothing_back() {
        let all = [(0, 10, 50_000), (1, 1, 0)];
        let told = run(8, &[900, 100], &all, &[0]);
        let gone = Order::Even {
            from: 1,
            to: 0,
            count: 1,
        };
        let split = Order::Move {
            from: 0,
            to: 1,
            share: 444,
        };
        assert_eq!(told, [(1, gone), (5, split)]);
    }

    #[test]
    fn as_many_as_are_configured() {
        let check = |count, all: &[(usize, u32, u64)], open: &[usize], expected: Option<Order>| {
            let lanes = lanes(all);
            let pool = PoolUse {
                home: 1,
                lanes: &lanes,
                open,
            };
            let workers = [WorkerUse::default(); 3];
            let told = Heat::default().judge(Ticks(0), LaneCount::Count(count), &workers, pool);
            assert_eq!(told, expected, "{count} {all:?} {open:?}");
        };
        let all = &[(1, 10, 0), (2, 10, 0)][..];
        check(2, all, &[1], Some(Order::Open(vec![1, 2])));
        check(9, all, &[1, 2], Some(Order::Open(vec![1, 2, 0])));
        check(2, all, &[1, 2], None);
        let even = |from, to, count| Some(Order::Even { from, to, count });
        check(1, all, &[1], even(2, 1, 10));
        check(2, &[(1, 10, 0)], &[1, 2], even(1, 2, 5));
        check(2, &[(1, 12, 0), (2, 9, 0)], &[1, 2], None);
    }
}
