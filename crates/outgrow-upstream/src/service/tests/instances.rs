//! Endpoints that are instances: they start, die and come back while requests wait.

use super::*;

fn instance(name: &str) -> EndpointOptions {
    EndpointOptions {
        instance: Some(name.to_owned()),
        initial: Health::Starting,
        ..EndpointOptions::default()
    }
}

#[test]
fn requests_wait_for_an_instance_that_starts() {
    let mut house = House::new(settings(&[], |_| {}));
    assert_eq!(house.choose(at(1)).unwrap_err(), Unavailable::NoEndpoint);
    house.web.expect_instance(true);
    assert_eq!(house.choose(at(1)).unwrap_err(), Unavailable::Busy);
    let mut first = house.web.wait().unwrap();
    let mut second = house.web.wait().unwrap();
    house.web.set_endpoint(address(1), instance("web-1"), at(2));
    house.check(1, Err("connection refused"), Some(Health::Down), at(2));
    assert!(permits::now(&mut first).is_none(), "it is starting");
    assert_eq!(
        house.health(at(2)),
        [("127.0.0.1:1".to_owned(), "starting", false)]
    );
    house.check(1, Ok(()), Some(Health::Up), at(3));
    let permit = permits::now(first).unwrap().unwrap();
    assert_eq!(permit.endpoint().instance(), Some("web-1"));
    drop(permits::now(&mut second).unwrap().unwrap());

    // Killed: out at once, and nobody is refused while the next one starts.
    house.web.fail_endpoint(&address(1), "exited with signal 9");
    assert_eq!(house.choose(at(4)).unwrap_err(), Unavailable::Busy);
    let wait = house.web.wait().unwrap();
    let old = house.endpoint(1);
    house.web.set_endpoint(address(1), instance("web-1"), at(5));
    let states = house.web.state(at(5)).endpoints;
    assert_eq!(states.len(), 1, "an address is told once: {states:?}");
    house.web.checked(
        EndpointId(states[0].id),
        Ok(Duration::ZERO),
        Some(Health::Up),
        at(6),
    );
    let new = permits::now(wait).unwrap().unwrap();
    assert_ne!(new.endpoint().id(), old.id());
    drop(permit);
    house.registry.tick(at(7));
    assert_eq!(house.web.endpoints().load().all.len(), 1);
    let expected = [
        "up 127.0.0.1:1",
        "down 127.0.0.1:1: exited with signal 9",
        "up 127.0.0.1:1",
    ];
    assert_eq!(house.events(), expected);
}

/// In a crash loop nothing is about to come: who asks is told so at once, and who waits as well.
#[test]
fn nobody_waits_for_what_is_not_about_to_come() {
    let mut house = House::new(settings(&[], |_| {}));
    house.web.expect_instance(true);
    house.web.set_endpoint(address(1), instance("web-1"), at(1));
    assert_eq!(house.choose(at(1)).unwrap_err(), Unavailable::Busy);
    assert_eq!(house.web.why_waited(), Cause::NoEndpoint, "none was busy");
    let wait = house.web.wait().unwrap();
    house.web.fail_endpoint(&address(1), "exited with status 1");
    house.web.expect_instance(false);
    assert_eq!(permits::now(wait).unwrap().unwrap_err(), Cause::NoEndpoint);
    assert_eq!(house.choose(at(1)).unwrap_err(), Unavailable::NoEndpoint);
    assert_eq!(house.web.wait().unwrap_err(), Cause::NoEndpoint);

    house.web.set_endpoint(address(2), instance("web-1"), at(2));
    house.check(2, Ok(()), Some(Health::Up), at(2));
    assert!(house.web.is_ready(&address(2)) && !house.web.is_ready(&address(1)));
    assert_eq!(house.web.why_waited(), Cause::QueueTimeout);
    house.check(2, Err("status 503"), Some(Health::Down), at(3));
    assert!(!house.web.is_ready(&address(2)));
}

#[test]
fn a_dead_instance_is_not_used_in_panic() {
    let mut house = House::new(settings(&[], |_| {}));
    for port in 1..=3 {
        house
            .web
            .set_endpoint(address(port), instance(&format!("web-{port}")), at(1));
        house.check(port, Ok(()), Some(Health::Up), at(1));
    }
    house.web.fail_endpoint(&address(1), "exited with status 1");
    house.web.fail_endpoint(&address(2), "exited with status 1");
    assert_eq!(house.used(at(2)), [3]);
    house.check(3, Err("status 503"), Some(Health::Down), at(2));
    assert_eq!(house.used(at(2)), [3], "panic: the only one that lives");
    assert!(house.web.state(at(2)).panic);
}

/// An instance that accepts connections and fails every request: being connected to, which is its
/// check by default, proves nothing.
#[test]
fn a_check_that_only_connects_does_not_end_an_ejection() {
    let mut house = House::new(settings(&[], |_| {}));
    for port in 1..=2 {
        house
            .web
            .set_endpoint(address(port), instance(&format!("web-{port}")), at(1));
        house.check(port, Ok(()), Some(Health::Up), at(1));
    }
    for _ in 0..5 {
        house.endpoint(1).report(Outcome::ServerError, at(10));
    }
    for second in 11..20 {
        house.check(1, Ok(()), None, at(second));
        house.registry.tick(at(second));
        assert_eq!(house.used(at(second)), [2], "after {second} s");
    }
    house.registry.tick(at(20));
    assert_eq!(house.used(at(20)), [1, 2], "its time is over");
}
