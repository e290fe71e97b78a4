//! What instances demand of replicas, by cases and by simulation.

use super::*;
use crate::Random;

const DB: Store = Store(7);

fn at(lsn: u64) -> Position {
    Position { timeline: 1, lsn }
}

fn floors(written: &[Floor]) -> Floors {
    Floors {
        written: written.to_vec(),
        after: Vec::new(),
    }
}

fn demand(serving: &Serving, now: u64) -> Demand {
    let mut demand = Demand::default();
    serving.demand(DB, Ticks(now), &mut demand);
    demand
}

#[test]
fn floors_count_while_their_requests_are_in_flight() {
    let serving = Serving::new(1);
    let route = Servings::default().route("shop");
    let begin = |written: &[Floor]| serving.begin(&route, Ticks(1), floors(written));
    assert_eq!(demand(&serving, 5), Demand::default());
    let one = begin(&[Floor::At(DB, at(10))]);
    let other = begin(&[Floor::At(DB, at(20)), Floor::At(Store(8), at(99))]);
    let without = begin(&[]);
    assert_eq!(demand(&serving, 5).position, at(20));
    drop(other);
    assert_eq!(demand(&serving, 5).position, at(10));
    drop(one);
    assert_eq!(demand(&serving, 5), Demand::default());
    let unknown = begin(&[Floor::Unknown(DB, Ticks(50))]);
    assert!(demand(&serving, 49).only_primary);
    assert!(!demand(&serving, 50).only_primary);
    assert_eq!(serving.in_flight(), 2);
    drop((unknown, without));
    assert_eq!(serving.in_flight(), 0);
}

#[test]
fn writes_are_settled_by_what_was_asked_after_them() {
    let serving = Serving::new(1);
    serving.note_write(DB, Ticks(10), Ticks(12));
    assert_eq!(demand(&serving, 15).wrote, Ticks(12));
    serving.settle(DB, Ticks(11), at(100));
    assert_eq!(demand(&serving, 15).wrote, Ticks(12), "asked too early");
    serving.settle(DB, Ticks(13), at(100));
    let settled = Demand {
        position: at(100),
        ..Demand::default()
    };
    assert_eq!(demand(&serving, 15), settled);
    serving.settle(DB, Ticks(20), at(500));
    assert_eq!(
        demand(&serving, 25),
        settled,
        "others' writes are no matter"
    );
    serving.note_write(DB, Ticks(5), Ticks(30));
    assert_eq!(demand(&serving, 31).wrote, Ticks(30));
    let since = |since| serving.written_since(Ticks(since)).len();
    assert_eq!((since(10), since(11)), (1, 0));
}

#[test]
fn what_an_instance_goes_on_to_write_counts_elsewhere_for_a_while() {
    let (first, second) = (Serving::new(1), Serving::new(2));
    let after = vec![(Arc::clone(&first), Ticks(100))];
    let of_user = Floors {
        written: Vec::new(),
        after,
    };
    let _request = second.begin(&Servings::default().route("shop"), Ticks(20), of_user);
    assert_eq!(demand(&second, 30), Demand::default());
    first.note_write(DB, Ticks(25), Ticks(28));
    assert_eq!(demand(&second, 30).wrote, Ticks(28));
    assert_eq!(demand(&second, 100), Demand::default());
    second.settle_all(DB, Ticks(29), at(70));
    assert_eq!(demand(&second, 30).position, at(70));
}

#[test]
fn limits_err_to_the_primary() {
    let serving = Serving::new(1);
    let route = Servings::default().route("shop");
    let mut all = Vec::new();
    for _ in 0..MOST_REQUESTS {
        all.push(serving.begin(&route, Ticks(1), Floors::default()));
    }
    let plain = serving.begin(&route, Ticks(1), Floors::default());
    assert!(!demand(&serving, 5).only_primary);
    let beyond = serving.begin(&route, Ticks(1), floors(&[Floor::At(Store(8), at(1))]));
    assert!(demand(&serving, 5).only_primary);
    assert_eq!(serving.in_flight(), MOST_REQUESTS + 2);
    drop((beyond, plain));
    assert!(!demand(&serving, 5).only_primary);
    drop(all);
    assert_eq!(serving.in_flight(), 0);
    for store in 100..=100 + MOST_STORES as u32 {
        serving.note_write(Store(store), Ticks(1), Ticks(2));
    }
    let mut beyond = Demand::default();
    let last = Store(100 + MOST_STORES as u32);
    serving.demand(last, Ticks(5), &mut beyond);
    assert!(beyond.only_primary);
}

#[test]
fn routes_are_told_while_they_are_in_flight() {
    let servings = Servings::default();
    let (serving, other) = (servings.of(1), servings.of(2));
    let begin = |at: &Arc<Serving>, name: &str, since| {
        at.begin(&servings.route(name), Ticks(since), Floors::default())
    };
    let names = |sample: Sample| -> Vec<String> {
        let names = servings.names(sample.routes()).into_iter().flatten();
        let mut names: Vec<_> = names.map(|name| name.to_string()).collect();
        names.sort();
        names
    };
    assert!(serving.sample().is_empty());
    let all = [
        begin(&serving, "b", 5),
        begin(&serving, "a", 3),
        begin(&serving, "b", 1),
        begin(&serving, "c", 9),
        begin(&other, "d", 9),
    ];
    assert_eq!(names(serving.sample()), ["a", "b", "c"]);
    assert_eq!(names(servings.sample()), ["a", "b", "c", "d"]);
    assert_eq!(names(serving.sample_since(Ticks(3))), ["a", "b"]);
    assert_eq!(names(serving.sample_since(Ticks(2))), ["b"]);
    let plain = serving.begin(servings.nameless(), Ticks(1), Floors::default());
    assert!(serving.sample().has_others());
    drop((all, plain));
    assert!(serving.sample().is_empty() && servings.sample().is_empty());
    let many: Vec<_> = (0..2 * MOST_REQUESTS)
        .map(|number| begin(&serving, &(number % 3).to_string(), 1))
        .collect();
    assert_eq!(names(serving.sample()), ["0", "1", "2"]);
    assert!(serving.sample().has_others(), "some are not listed");
    drop(many);
    assert!(serving.sample().is_empty());
}

#[test]
fn instances_are_forgotten_that_nobody_uses() {
    let servings = Servings::default();
    let used = servings.of(1);
    let _known = servings.of(2).identity();
    let _gone = servings.of(3).identity();
    servings.retain(|identity| identity == 2);
    assert!(servings.find(1).is_some() && servings.find(2).is_some());
    assert!(servings.find(3).is_none());
    assert!(Arc::ptr_eq(&used, &servings.of(1)));
}

#[test]
fn stores_are_told_apart() {
    let names = ["db", "db2", "bd", "", "shop"];
    let all: std::collections::BTreeSet<_> = names.iter().map(|name| Store::of(name)).collect();
    assert_eq!(all.len(), names.len());
    assert_eq!(Store::of("a"), Store(0xe40c_292c), "FNV-1a");
}

/// A request of the simulation.
struct Simulated {
    user: usize,
    instance: usize,
    since: u64,
    /// What its user had been answered about when it began.
    promised: u64,
    /// What it has written itself.
    own: u64,
    guard: InFlight,
}

/// What a user of the simulation has.
#[derive(Clone, Copy, Default)]
struct User {
    /// What was written for it before the head of a response.
    answered: u64,
    /// What was written for it after that.
    after: u64,
    /// Its cookie: a position, an instance and until when that counts.
    ticket: (u64, Option<(usize, u64)>),
}

/// Users with requests at instances that write and read through a primary whose position is only
/// known from questions: no demand is below what was written for the request's user before the head
/// of a response, nor below what the instance itself wrote.
#[test]
fn no_demand_is_below_what_was_written() {
    let mut checked = 0;
    for seed in 0..300 {
        checked += simulate(seed);
    }
    assert!(checked > 10_000, "{checked} demands that mattered");
}

fn simulate(seed: u64) -> u32 {
    const INSTANCES: usize = 3;
    const WINDOW: u64 = 60;
    let mut random = Random::from_seed(seed);
    let mut below = |limit: usize| (random.next_u64() % limit as u64) as usize;
    let servings: Vec<_> = (0..INSTANCES).map(|one| Serving::new(one as u64)).collect();
    let route = Servings::default().route("shop");
    let (mut log, mut now, mut checked) = (0_u64, 1_u64, 0);
    let mut users = [User::default(); 5];
    let mut of_instance = [0_u64; INSTANCES];
    let mut requests: Vec<Simulated> = Vec::new();
    for _ in 0..500 {
        now += 1 + below(3) as u64;
        match below(6) {
            0 if requests.len() < 12 => {
                let (user, instance) = (below(users.len()), below(INSTANCES));
                let (lsn, after) = users[user].ticket;
                let mut known = Floors::default();
                if lsn > 0 {
                    known.written.push(Floor::At(DB, at(lsn)));
                }
                let after = after.map(|(one, until)| (Arc::clone(&servings[one]), Ticks(until)));
                known.after.extend(after);
                requests.push(Simulated {
                    user,
                    instance,
                    since: now,
                    promised: users[user].answered,
                    own: 0,
                    guard: servings[instance].begin(&route, Ticks(now), known),
                });
            }
            1 | 2 if !requests.is_empty() => {
                let index = below(requests.len());
                let request = &mut requests[index];
                log += 1 + below(9) as u64;
                request.own = log;
                of_instance[request.instance] = log;
                let began = request.since + below((now - request.since + 1) as usize) as u64;
                servings[request.instance].note_write(DB, Ticks(began), Ticks(now));
            }
            3 => {
                // Somebody else writes, and the primary is asked.
                log += below(5) as u64;
                let asked = now - (below(3) as u64).min(now);
                servings[below(INSTANCES)].settle_all(DB, Ticks(asked), at(log));
            }
            4 if !requests.is_empty() => {
                let request = requests.remove(below(requests.len()));
                let written = request.guard.serving().written_since(Ticks(request.since));
                let where_at = |one: &Written| one.position.map_or(log, |position| position.lsn);
                let lsn = written.iter().map(where_at).max().unwrap_or(0);
                let user = &mut users[request.user];
                user.answered = user.answered.max(request.own);
                user.after = 0;
                user.ticket.0 = user.ticket.0.max(lsn);
                user.ticket.1 = Some((request.instance, now + WINDOW));
            }
            5 => {
                // Work after a response.
                let user = &mut users[below(5)];
                if let (_, Some((instance, _))) = user.ticket {
                    log += 1;
                    (user.after, of_instance[instance]) = (log, log);
                    servings[instance].note_write(DB, Ticks(now), Ticks(now));
                }
            }
            _ => {}
        }
        let reached = |instance: usize| {
            let demand = demand(&servings[instance], now);
            match demand.wrote {
                Ticks::ZERO => demand.position.lsn,
                _ => log,
            }
        };
        for request in &requests {
            let reached = reached(request.instance);
            assert!(reached >= request.promised, "seed {seed}: before the head");
            assert!(reached >= request.own, "seed {seed}: in the request");
            let user = users[request.user];
            let window = user.ticket.1.map_or(0, |(_, until)| until);
            let knows = request.since > window.saturating_sub(WINDOW);
            if knows && now < window {
                assert!(reached >= user.after, "seed {seed}: after the head");
            }
            checked += u32::from(request.promised > 0);
        }
        for (instance, written) in of_instance.iter().enumerate() {
            assert!(
                reached(instance) >= *written,
                "seed {seed}: of the instance"
            );
        }
    }
    checked
}
