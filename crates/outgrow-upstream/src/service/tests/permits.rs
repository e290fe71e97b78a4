//! Permits and the line of those who wait: against a model over many seeds, and between threads.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use super::*;

/// What the future has to say at this moment.
pub(super) fn now<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[test]
fn the_line_is_bounded() {
    let mut house = House::new(settings(&[1], |it| {
        it.max_connections = 1;
        it.queue = 2;
    }));
    let permit = house.choose(at(1)).unwrap();
    assert_eq!(house.choose(at(1)).unwrap_err(), Unavailable::Busy);
    let first = house.web.wait().unwrap();
    let second = house.web.wait().unwrap();
    assert_eq!(house.web.wait().unwrap_err(), Cause::QueueFull);
    assert_eq!((house.web.waiting(), house.web.state(at(1)).queue), (2, 2));
    drop(first);
    assert_eq!(house.web.waiting(), 1);
    let third = house.web.wait().unwrap();
    drop(permit);
    // Handed over, but given up before it was taken: goes to the next.
    assert_eq!(house.web.waiting(), 1);
    drop(second);
    assert_eq!(house.web.waiting(), 0);
    let permit = now(third).unwrap().unwrap();
    assert_eq!(permit.endpoint().active(), 1);
    drop(permit);
    assert_eq!(house.endpoint(1).active(), 0);
}

#[test]
fn what_became_free_before_joining_the_line_is_not_lost() {
    let mut house = House::new(settings(&[1], |it| it.max_connections = 1));
    let permit = house.choose(at(1)).unwrap();
    assert_eq!(house.choose(at(1)).unwrap_err(), Unavailable::Busy);
    drop(permit);
    assert!(now(house.web.wait().unwrap()).unwrap().is_ok());
}

#[test]
fn those_to_avoid_are_taken_when_there_is_no_other() {
    let mut house = House::new(settings(&[1, 2], |it| it.max_connections = 3));
    let (one, two) = (house.endpoint(1).id(), house.endpoint(2).id());
    let choose = |house: &mut House, avoid: &[EndpointId]| {
        house
            .web
            .choose(
                &mut house.view,
                at(1),
                &mut house.random,
                Wish {
                    avoid,
                    ..Wish::default()
                },
            )
            .unwrap()
    };
    let others: Vec<Permit> = (0..3).map(|_| choose(&mut house, &[one])).collect();
    assert!(others.iter().all(|permit| permit.endpoint().id() == two));
    assert_eq!(
        choose(&mut house, &[one]).endpoint().id(),
        one,
        "the other is full"
    );
    drop(others);
    assert_eq!(choose(&mut house, &[one, two]).endpoint().requests(), 1 + 1);
}

#[test]
fn more_permits_by_reload_serve_those_who_wait() {
    let mut house = House::new(settings(&[1], |it| it.max_connections = 1));
    let permit = house.choose(at(1)).unwrap();
    let mut waits: Vec<Wait> = (0..3).map(|_| house.web.wait().unwrap()).collect();
    house.reload(settings(&[1], |it| it.max_connections = 3), at(2));
    let got: Vec<_> = waits.iter_mut().map(now).collect();
    assert!(
        got[0].is_some() && got[1].is_some() && got[2].is_none(),
        "{got:?}"
    );
    house.reload(settings(&[1, 2], |it| it.max_connections = 1), at(3));
    assert_eq!(house.web.waiting(), 0, "the new endpoint took the third");
    drop(permit);
}

#[test]
fn who_waits_for_one_endpoint_is_served_by_a_reload_and_not_overtaken() {
    let mut house = House::new(settings(&[1], |it| it.max_connections = 1));
    let permit = house.choose(at(1)).unwrap();
    let mut wait = house.endpoint(1).wait(10).unwrap();
    assert!(now(&mut wait).is_none());
    house.reload(settings(&[1], |it| it.max_connections = 2), at(2));
    let granted = now(wait).expect("there is one free").unwrap();
    drop((permit, granted));
    // Taken out of turn there is none for who stands in line.
    let one = house.endpoint(1);
    let held = [one.permit().unwrap(), one.permit().unwrap()];
    let wait = one.wait(10).unwrap();
    one.limit.store(3, Ordering::SeqCst);
    assert_eq!(house.choose(at(3)).unwrap_err(), Unavailable::Busy);
    drop(held);
    assert!(now(wait).is_some());
}

/// The model: who stands in line, in order; and how many permits each endpoint has out.
struct Model {
    house: House,
    ports: u16,
    limit: u32,
    permits: Vec<Permit>,
    line: VecDeque<Wait>,
}

impl Model {
    /// Collects what was handed over, which must be from the front of the line.
    fn collect(&mut self, seed: u64) {
        let mut still = VecDeque::new();
        let mut someone_waits = false;
        while let Some(mut wait) = self.line.pop_front() {
            match now(&mut wait) {
                Some(permit) => {
                    assert!(!someone_waits, "seed {seed}: one overtook another");
                    self.permits.push(permit.unwrap());
                }
                None => {
                    someone_waits = true;
                    still.push_back(wait);
                }
            }
        }
        self.line = still;
    }

    fn check(&mut self, seed: u64) {
        self.collect(seed);
        assert_eq!(self.house.web.waiting(), self.line.len(), "seed {seed}");
        let mut free = 0;
        for port in 1..=self.ports {
            let endpoint = self.house.endpoint(port);
            let out = self
                .permits
                .iter()
                .filter(|permit| permit.endpoint().id() == endpoint.id());
            let out = out.count() as u32;
            assert_eq!(endpoint.active(), out, "seed {seed}");
            assert!(out <= self.limit, "seed {seed}");
            if endpoint.is_usable() {
                free += self.limit - out;
            }
        }
        assert!(
            self.line.is_empty() || free == 0,
            "seed {seed}: {free} are free, someone waits"
        );
    }

    fn step(&mut self, random: &mut Random, seed: u64) {
        match random.below(12) {
            0..=4 => match self.house.choose(at(1)) {
                Ok(permit) => {
                    assert!(self.line.is_empty(), "seed {seed}: a newcomer overtook");
                    self.permits.push(permit);
                }
                Err(Unavailable::Busy) => self.line.extend(self.house.web.wait().ok()),
                Err(Unavailable::NoEndpoint | Unavailable::Full(_)) => {
                    panic!("seed {seed}: there are endpoints")
                }
            },
            5..=8 if !self.permits.is_empty() => {
                drop(self.permits.swap_remove(random.below(self.permits.len())));
            }
            9 if !self.line.is_empty() => {
                // Leaves, perhaps with a permit already handed over.
                drop(self.line.remove(random.below(self.line.len())));
            }
            10 => {
                // Gives several back without looking who got them.
                let keep = random.below(self.permits.len() + 1);
                self.permits.truncate(keep);
                if !self.line.is_empty() {
                    drop(self.line.remove(random.below(self.line.len())));
                }
            }
            11 => {
                let port = address(1 + random.below(usize::from(self.ports)) as u16);
                if random.below(3) == 0 {
                    self.house.web.drain_endpoint(&port, at(1));
                } else {
                    self.house.web.undrain_endpoint(&port);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn permits_follow_the_model() {
    for seed in 0..300 {
        let mut random = Random::from_seed(seed);
        let ports = 1 + random.below(4) as u16;
        let limit = 1 + random.below(3) as u32;
        let listed: Vec<u16> = (1..=ports).collect();
        let house = House::new(settings(&listed, |it| {
            it.max_connections = limit;
            it.queue = 1 + random.below(8) as u32;
            it.balance = if seed % 2 == 0 {
                Balance::PowerOfTwo
            } else {
                Balance::RoundRobin
            };
        }));
        house.web.expect_instance(true);
        let mut model = Model {
            house,
            ports,
            limit,
            permits: Vec::new(),
            line: VecDeque::new(),
        };
        for _ in 0..400 {
            model.step(&mut random, seed);
            model.check(seed);
        }
    }
}

/// Threads that choose and wait as workers do: nobody waits for ever, the limit holds at every
/// moment, and nothing is in flight at the end. Endpoints come and go meanwhile.
#[test]
fn threads_share_permits() {
    const LIMIT: u32 = 2;
    const LONG: Duration = Duration::from_secs(20);
    let house = House::new(settings(&[1, 2], |it| it.max_connections = LIMIT));
    house.web.expect_instance(true);
    let in_flight = [AtomicU32::new(0), AtomicU32::new(0)];
    let worker = |worker: usize| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let service = Arc::clone(&house.web);
        let in_flight = &in_flight;
        runtime.block_on(async move {
            let mut view = service.view(worker);
            let mut random = Random::from_seed(worker as u64);
            for round in 0..3_000_u64 {
                let permit = match service.choose(&mut view, at(1), &mut random, Wish::default()) {
                    Ok(permit) => permit,
                    Err(_) => {
                        let wait = tokio::time::timeout(LONG, service.wait().unwrap());
                        wait.await.expect("nobody waits for ever").unwrap()
                    }
                };
                let counter = &in_flight[usize::from(port_of(permit.endpoint())) - 1];
                assert!(counter.fetch_add(1, Ordering::SeqCst) < LIMIT);
                if round % 7 == 0 {
                    tokio::task::yield_now().await;
                }
                // A place given up, with or without a permit handed over.
                if round % 5 == 0 {
                    drop(service.wait());
                }
                counter.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
            }
        });
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|index| scope.spawn(move || worker(index)))
            .collect();
        // Then it stops: a permit that was forgotten in the line would stay so.
        for _ in 0..300 {
            house.web.drain_endpoint(&address(1), at(1));
            std::thread::yield_now();
            house.web.undrain_endpoint(&address(1));
            std::thread::yield_now();
        }
        for worker in workers {
            worker.join().unwrap();
        }
    });
    assert_eq!(
        (house.endpoint(1).active(), house.endpoint(2).active()),
        (0, 0)
    );
    assert_eq!(house.web.waiting(), 0);
}
