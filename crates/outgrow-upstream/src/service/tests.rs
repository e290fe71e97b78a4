//! Tests of the service: endpoints that come, go, fail and drain. Permits and the line are in
//! `permits`, instances in `instances`, who comes before whom in `levels`.

mod compared;
mod instances;
mod levels;
mod permits;

use std::collections::BTreeMap;
use std::task::Context;
use std::time::Duration;

use outgrow_core::{Fault, Phase, Sent};

use super::*;
use crate::endpoint::{Endpoint, Outcome};
use crate::registry::Registry;
use crate::settings::{self, Balance, CheckSettings};

pub(super) fn at(seconds: u64) -> Ticks {
    Ticks::ZERO + Duration::from_secs(seconds)
}

pub(super) fn address(port: u16) -> Address {
    Address::tcp("127.0.0.1", port)
}

/// Settings with endpoints at these ports, and what else is to be set.
pub(super) fn settings(
    ports: &[u16],
    change: impl FnOnce(&mut ServiceSettings),
) -> ServiceSettings {
    let endpoint = |&port: &u16| settings::Endpoint::at(address(port));
    let mut settings = ServiceSettings {
        endpoints: ports.iter().map(endpoint).collect(),
        ..ServiceSettings::default()
    };
    change(&mut settings);
    settings
}

/// A registry with the one service `web`.
pub(super) struct House {
    pub(super) registry: Registry,
    pub(super) web: Arc<Service>,
    view: ServiceView,
    random: Random,
    events: tokio::sync::mpsc::Receiver<Event>,
}

impl House {
    pub(super) fn new(settings: ServiceSettings) -> Self {
        let registry = Registry::new(2);
        let events = registry.subscribe(1_000);
        registry.apply(&BTreeMap::from([("web".to_owned(), settings)]), at(1));
        let web = registry.service("web").unwrap();
        let view = web.view(0);
        Self {
            registry,
            web,
            view,
            random: Random::from_seed(1),
            events,
        }
    }

    fn reload(&self, settings: ServiceSettings, now: Ticks) {
        self.registry
            .apply(&BTreeMap::from([("web".to_owned(), settings)]), now);
    }

    fn choose(&mut self, now: Ticks) -> Result<Permit, Unavailable> {
        self.web
            .choose(&mut self.view, now, &mut self.random, Wish::default())
    }

    /// The ports that get requests when nothing is in flight.
    pub(super) fn used(&mut self, now: Ticks) -> Vec<u16> {
        let mut ports = std::collections::BTreeSet::new();
        for _ in 0..200 {
            if let Ok(permit) = self.choose(now) {
                ports.insert(port_of(permit.endpoint()));
            }
        }
        ports.into_iter().collect()
    }

    pub(super) fn endpoint(&self, port: u16) -> Arc<Endpoint> {
        let set = self.web.endpoints().load();
        let wanted = address(port);
        let found = set
            .all
            .iter()
            .find(|endpoint| *endpoint.address() == wanted);
        Arc::clone(found.unwrap())
    }

    pub(super) fn check(
        &self,
        port: u16,
        result: Result<(), &str>,
        verdict: Option<Health>,
        now: Ticks,
    ) {
        let result = result.map(|()| Duration::from_millis(1));
        self.web
            .checked(self.endpoint(port).id(), result, verdict, now);
    }

    pub(super) fn events(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.events.try_recv().ok())
            .map(|event| text_of(&event))
            .collect()
    }

    fn health(&self, now: Ticks) -> Vec<(String, &'static str, bool)> {
        let endpoints = self.web.state(now).endpoints;
        endpoints
            .into_iter()
            .map(|it| (it.address, it.health, it.usable))
            .collect()
    }
}

fn port_of(endpoint: &Endpoint) -> u16 {
    endpoint.address().socket_address().unwrap().port()
}

fn text_of(event: &Event) -> String {
    match event {
        Event::EndpointUp(subject) => format!("up {}", subject.address),
        Event::EndpointDown { subject, reason } => format!("down {}: {reason}", subject.address),
        Event::Ejected {
            subject,
            cause,
            why,
            time,
            in_a_row,
        } if *cause == crate::EjectionCause::ConsecutiveFailures => {
            assert_eq!(why, "failed too many requests in a row");
            format!("ejected {} {time:?} {in_a_row}", subject.address)
        }
        Event::Ejected {
            subject,
            cause,
            why,
            ..
        } => format!("{} {}: {why}", cause.as_str(), subject.address),
        Event::Returned(subject) => format!("returned {}", subject.address),
        Event::Panic {
            on, healthy, known, ..
        } => format!("panic {on} {healthy}/{known}"),
        Event::Advice { text, .. } => text.clone(),
        Event::NotLive {
            subject, reason, ..
        } => format!("not live {}: {reason}", subject.address),
    }
}

pub(super) fn reset() -> Outcome {
    Outcome::Fault(Fault::upstream(
        Phase::Send,
        Cause::UpstreamReset,
        Sent::Maybe,
    ))
}

#[test]
fn failures_in_a_row_eject_for_a_time_that_grows() {
    let mut house = House::new(settings(&[1, 2, 3, 4], |_| {}));
    let bad = house.endpoint(2);
    for _ in 0..4 {
        bad.report(reset(), at(10));
    }
    bad.report(Outcome::Success, at(10));
    for _ in 0..4 {
        bad.report(Outcome::ServerError, at(10));
    }
    assert_eq!(
        house.used(at(10)),
        [1, 2, 3, 4],
        "nine failures, but not five in a row"
    );
    let of_client = Fault::client(Phase::RequestBody, Cause::ClientGone);
    bad.report(Outcome::Fault(of_client), at(10));
    assert_eq!(bad.failures(), 8);
    bad.report(Outcome::ServerError, at(10));
    assert_eq!(house.used(at(10)), [1, 3, 4]);
    house.registry.tick(at(19));
    assert_eq!(house.used(at(19)), [1, 3, 4]);
    assert_eq!(
        house.web.state(at(19)).endpoints[1].ejected_for,
        Some(Duration::from_secs(1))
    );
    house.registry.tick(at(20));
    assert_eq!(house.used(at(20)), [1, 2, 3, 4]);
    for _ in 0..5 {
        bad.report(reset(), at(21));
    }
    assert_eq!(bad.ejections(), 2);
    let expected = [
        "ejected 127.0.0.1:2 10s 1",
        "returned 127.0.0.1:2",
        "ejected 127.0.0.1:2 20s 2",
    ];
    assert_eq!(house.events(), expected);
}

#[test]
fn ejection_leaves_half_and_never_nothing() {
    let mut house = House::new(settings(&[1, 2, 3, 4], |_| {}));
    for port in 1..=4 {
        for _ in 0..100 {
            house.endpoint(port).report(reset(), at(10));
        }
    }
    assert_eq!(house.used(at(10)), [3, 4]);
    assert!(!house.web.state(at(10)).panic);

    let mut alone = House::new(settings(&[1], |_| {}));
    for _ in 0..100 {
        alone.endpoint(1).report(reset(), at(10));
    }
    assert_eq!(alone.used(at(10)), [1]);
    assert_eq!(alone.events(), Vec::<String>::new());
}

#[test]
fn checks_that_pass_end_an_ejection() {
    let with_check = |it: &mut ServiceSettings| {
        it.check = Some(CheckSettings {
            path: "/readyz".parse().ok(),
            ..CheckSettings::default()
        });
    };
    let mut house = House::new(settings(&[1, 2], with_check));
    house.check(1, Ok(()), Some(Health::Up), at(2));
    house.check(2, Ok(()), Some(Health::Up), at(2));
    house.events();
    for _ in 0..5 {
        house.endpoint(1).report(reset(), at(3));
    }
    assert_eq!(house.used(at(3)), [2]);
    house.check(1, Ok(()), None, at(4));
    house.check(1, Err("status 500"), None, at(5));
    house.check(1, Ok(()), None, at(6));
    assert_eq!(house.used(at(6)), [2], "not two in a row");
    house.check(1, Ok(()), None, at(7));
    assert_eq!(house.used(at(7)), [1, 2]);
    assert_eq!(
        house.events(),
        ["ejected 127.0.0.1:1 10s 1", "returned 127.0.0.1:1"]
    );
}

#[test]
fn panic_uses_all_and_ends() {
    let with_check = |it: &mut ServiceSettings| it.check = Some(CheckSettings::default());
    let mut house = House::new(settings(&[1, 2, 3, 4], with_check));
    assert_eq!(
        house.used(at(1)),
        [1, 2, 3, 4],
        "all of them while none was checked"
    );
    assert!(!house.web.state(at(1)).panic);
    for port in 1..=4 {
        house.check(port, Ok(()), Some(Health::Up), at(2));
    }
    house.events();

    // The database that the checks ask blinks.
    for port in 1..=2 {
        house.check(port, Err("status 503"), Some(Health::Down), at(9));
    }
    assert_eq!(house.used(at(9)), [3, 4], "half of them is enough");
    for port in 3..=4 {
        house.check(port, Err("status 503"), Some(Health::Down), at(9));
    }
    assert_eq!(house.used(at(9)), [1, 2, 3, 4]);
    assert!(house.web.state(at(9)).panic && house.view.set().panic);
    assert_eq!(
        house.web.state(at(9)).endpoints[0].reason.as_deref(),
        Some("status 503")
    );

    house.check(1, Ok(()), Some(Health::Up), at(11));
    assert_eq!(house.used(at(11)), [1, 2, 3, 4]);
    house.check(2, Ok(()), Some(Health::Up), at(11));
    assert_eq!(house.used(at(11)), [1, 2]);
    assert_eq!(house.web.state(at(11)).endpoints[0].reason, None);
    let expected = [
        "down 127.0.0.1:1: status 503",
        "down 127.0.0.1:2: status 503",
        "down 127.0.0.1:3: status 503",
        "panic true 1/4",
        "down 127.0.0.1:4: status 503",
        "up 127.0.0.1:1",
        "up 127.0.0.1:2",
        "panic false 2/4",
    ];
    assert_eq!(house.events(), expected);
}

/// After a start or an upgrade nobody has been asked: the fastest one to answer must not get all
/// the load until the others have answered too.
#[test]
fn a_service_that_is_new_uses_all_until_each_was_asked() {
    let with_check = |it: &mut ServiceSettings| it.check = Some(CheckSettings::default());
    let mut house = House::new(settings(&[1, 2, 3, 4], with_check));
    assert_eq!(house.used(at(1)), [1, 2, 3, 4]);
    house.check(3, Err("status 503"), Some(Health::Down), at(2));
    assert_eq!(house.used(at(2)), [1, 2, 4]);
    assert!(!house.web.state(at(2)).panic, "one of one, but four are");
    house.check(1, Ok(()), Some(Health::Up), at(2));
    assert_eq!(house.used(at(2)), [1, 2, 4]);
    house.check(2, Ok(()), Some(Health::Up), at(2));
    house.check(4, Ok(()), Some(Health::Up), at(2));
    assert_eq!(house.used(at(2)), [1, 2, 4]);
    // One that comes later can wait until it was asked.
    house.reload(settings(&[1, 2, 3, 4, 5], with_check), at(3));
    assert_eq!(house.used(at(3)), [1, 2, 4]);
    house.check(5, Ok(()), Some(Health::Up), at(3));
    assert_eq!(house.used(at(3)), [1, 2, 4, 5]);
}

#[test]
fn without_panic_threshold_down_is_down() {
    let mut house = House::new(settings(&[1, 2], |it| {
        it.check = Some(CheckSettings::default());
        it.panic_threshold = outgrow_core::settings::Percent::new(0);
    }));
    for port in 1..=2 {
        house.check(port, Err("connection refused"), Some(Health::Down), at(2));
    }
    assert_eq!(house.choose(at(2)).unwrap_err(), Unavailable::NoEndpoint);
    assert_eq!(house.web.wait().unwrap_err(), Cause::NoEndpoint);
}

#[test]
fn a_reload_keeps_who_stays_and_drains_who_goes() {
    let mut house = House::new(settings(&[1, 2], |it| it.max_connections = 7));
    let (one, two) = (house.endpoint(1), house.endpoint(2));
    let in_flight = std::iter::repeat_with(|| house.choose(at(2)).unwrap())
        .find(|permit| permit.endpoint().id() == two.id())
        .unwrap();
    let requests_of_one = one.requests();
    house.reload(settings(&[1, 3], |it| it.max_connections = 9), at(3));
    assert_eq!(house.endpoint(1).id(), one.id());
    assert_eq!(
        (house.endpoint(1).requests(), one.limit()),
        (requests_of_one, 9)
    );
    assert_eq!(house.used(at(3)), [1, 3]);
    assert_eq!(house.web.active(&address(2)), 1);
    house.registry.tick(at(3));
    let health = |port: u16, health, usable| (format!("127.0.0.1:{port}"), health, usable);
    assert!(house.health(at(3)).contains(&health(2, "draining", false)));

    // Back before its last request ended: the same endpoint.
    house.reload(settings(&[1, 2, 3], |_| {}), at(4));
    assert_eq!(house.endpoint(2).id(), two.id());
    assert!(two.is_usable());

    house.reload(settings(&[1, 3], |_| {}), at(5));
    drop(in_flight);
    assert_eq!(house.web.active(&address(2)), 0);
    house.registry.tick(at(5));
    assert_eq!(
        house.health(at(5)),
        [health(1, "up", true), health(3, "up", true)]
    );
    house.reload(settings(&[1, 2, 3], |_| {}), at(6));
    assert_ne!(house.endpoint(2).id(), two.id(), "it was forgotten");
}

#[test]
fn a_reload_changes_the_algorithm_the_weights_and_the_check() {
    let with_check = |it: &mut ServiceSettings| it.check = Some(CheckSettings::default());
    let mut house = House::new(settings(&[1, 2], with_check));
    house.check(1, Ok(()), Some(Health::Up), at(2));
    house.check(2, Err("status 404"), Some(Health::Down), at(2));
    assert_eq!(house.used(at(2)), [1]);
    // Without a check nobody can say that it is down.
    house.reload(
        settings(&[1, 2], |it| {
            it.balance = Balance::RoundRobin;
            it.endpoints[0].0.weight = 3;
        }),
        at(3),
    );
    let ports: Vec<u16> = (0..8)
        .map(|_| port_of(house.choose(at(3)).unwrap().endpoint()))
        .collect();
    assert_eq!(ports, [1, 1, 2, 1, 1, 1, 2, 1]);
    assert_eq!(
        house.events(),
        [
            "up 127.0.0.1:1",
            "down 127.0.0.1:2: status 404",
            "up 127.0.0.1:2"
        ]
    );
}

#[test]
fn a_service_that_is_gone_answers_nobody() {
    let mut house = House::new(settings(&[1], |it| it.max_connections = 1));
    let permit = house.choose(at(2)).unwrap();
    let wait = house.web.wait().unwrap();
    house.registry.apply(&BTreeMap::new(), at(3));
    assert!(house.registry.service("web").is_none());
    assert_eq!(house.choose(at(3)).unwrap_err(), Unavailable::NoEndpoint);
    assert_eq!(permits::now(wait).unwrap().unwrap_err(), Cause::NoEndpoint);
    // Who waits for the end of its requests still hears of them, also when the name is back.
    assert_eq!(house.registry.active("web", &address(1)), 1);
    house.reload(settings(&[1], |_| {}), at(4));
    assert_eq!(house.registry.active("web", &address(1)), 1);
    house.registry.tick(at(4));
    assert_eq!(house.registry.active("web", &address(1)), 1);
    drop(permit);
    house.registry.tick(at(5));
    assert_eq!(house.registry.active("web", &address(1)), 0);
    assert_eq!(house.registry.retired(), 0, "it is forgotten");
}

#[test]
fn drain_ends_with_the_last_request() {
    let mut house = House::new(settings(&[1, 2], |_| {}));
    let drained = house.endpoint(1);
    let permit = std::iter::repeat_with(|| house.choose(at(2)).unwrap())
        .find(|permit| permit.endpoint().id() == drained.id())
        .unwrap();
    assert!(house.web.drain_endpoint(&address(1), at(2)));
    assert!(!house.web.drain_endpoint(&address(9), at(2)));
    assert_eq!(house.used(at(2)), [2]);
    assert_eq!(house.web.active(&address(1)), 1);
    drop(permit);
    assert_eq!(house.web.active(&address(1)), 0);
    house.reload(settings(&[1, 2], |_| {}), at(3));
    assert_eq!(
        house.used(at(3)),
        [2],
        "a reload does not take back an order"
    );
    house.web.undrain_endpoint(&address(1));
    assert_eq!(house.used(at(3)), [1, 2]);
    house.web.remove_endpoint(&address(1));
    assert_eq!(house.health(at(4)).len(), 1);
}

#[test]
fn slow_start_is_for_those_that_come_later() {
    for balance in [Balance::PowerOfTwo, Balance::RoundRobin] {
        let slowly = |it: &mut ServiceSettings| {
            it.slow_start = Duration::from_secs(100);
            it.balance = balance;
        };
        let mut house = House::new(settings(&[1, 2], slowly));
        let share_of = |house: &mut House, port: u16, now: Ticks| {
            let picks = 4_000;
            let hits = (0..picks)
                .filter(|_| port_of(house.choose(now).unwrap().endpoint()) == port)
                .count();
            hits as f64 / f64::from(picks)
        };
        let share = share_of(&mut house, 2, at(2));
        assert!(
            (0.45..0.55).contains(&share),
            "{balance}: {share} at the start"
        );
        house.reload(settings(&[1, 2, 3], slowly), at(1_000));
        for (now, expected) in [(1_000, 0.033), (1_050, 0.167), (1_100, 0.333)] {
            let share = share_of(&mut house, 3, at(now));
            let bounds = expected * 0.7 - 0.01..expected * 1.3 + 0.01;
            assert!(bounds.contains(&share), "{balance} at {now}: {share}");
        }
    }
}

#[test]
fn who_stays_at_an_endpoint_goes_when_it_was_gone_for_long_enough() {
    let house = House::new(settings(&[1, 2], |_| {}));
    house.registry.set_parting_over(Duration::from_secs(10));
    let hold = Duration::from_secs(60);
    let tell = |ports: &[u16], seconds| {
        let endpoints = settings(ports, |_| {}).endpoints;
        house.web.set_endpoints(endpoints, hold, at(seconds));
        house.web.tick(at(seconds));
    };
    let set = house.web.endpoints().load();
    let one = set.all.iter().find(|one| *one.address() == address(1));
    let one = Arc::clone(one.unwrap());
    // As long as somebody stays at it, it is not forgotten.
    let _stays = Permit::acquire(&one).unwrap();
    let mut stay = crate::LongStay::new(Arc::clone(&one));
    let cx = Context::from_waker(std::task::Waker::noop());
    let leave_by = |seconds| crate::Part {
        until: at(seconds),
        stops: false,
    };
    // A source that tells another part each time.
    for seconds in (10..200).step_by(20) {
        tell(&[2], seconds);
        tell(&[1], seconds + 10);
        assert_eq!(stay.part(&cx), None, "{seconds}");
    }
    tell(&[2], 300);
    house.web.tick(at(359));
    assert_eq!(stay.part(&cx), None);
    // Other answers in between do not put it off.
    tell(&[2, 3], 359);
    house.web.tick(at(360));
    assert_eq!(stay.part(&cx), Some(leave_by(370)));
    // It comes back while they go.
    tell(&[1, 2], 362);
    assert_eq!(stay.part(&cx), None);
    // Who takes it out of the configuration knows what they do.
    let web = settings(&[2], |_| {});
    house
        .registry
        .apply(&BTreeMap::from([("web".to_owned(), web)]), at(400));
    assert_eq!(stay.part(&cx), Some(leave_by(410)));
}
