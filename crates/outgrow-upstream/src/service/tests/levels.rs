//! Priorities, zones, backups, limits of one endpoint, and keys: which endpoints get requests when.

use std::collections::BTreeMap;

use super::*;

/// Endpoints at ports from 1 on, each changed by its own rule.
fn endpoints(changes: &[&dyn Fn(&mut settings::EndpointTable)]) -> ServiceSettings {
    let ports: Vec<u16> = (1..=changes.len() as u16).collect();
    settings(&ports, |it| {
        it.panic_threshold = outgrow_core::settings::Percent::new(0);
        it.check = Some(CheckSettings::default());
        for (endpoint, change) in it.endpoints.iter_mut().zip(changes) {
            change(&mut endpoint.0);
        }
    })
}

fn all_up(house: &House) {
    for port in 1..=house.web.endpoints().load().all.len() as u16 {
        house.check(port, Ok(()), Some(Health::Up), at(2));
    }
}

#[test]
fn a_backup_is_used_when_nothing_else_can_be() {
    let mut house = House::new(endpoints(&[&|_| {}, &|_| {}, &|it| it.backup = true]));
    all_up(&house);
    assert_eq!(house.used(at(3)), [1, 2]);
    house.check(1, Err("no"), Some(Health::Down), at(3));
    // One of two healthy takes 70 %.
    assert_eq!(house.used(at(3)), [2, 3]);
    house.check(2, Err("no"), Some(Health::Down), at(3));
    assert_eq!(house.used(at(3)), [3]);
    house.check(1, Ok(()), Some(Health::Up), at(4));
    house.check(2, Ok(()), Some(Health::Up), at(4));
    assert_eq!(house.used(at(5)), [1, 2]);
}

#[test]
fn what_the_first_level_cannot_take_goes_to_the_next_one() {
    let mut house = House::new(endpoints(&[
        &|it| it.max_connections = 2,
        &|it| it.priority = 1,
        &|it| it.priority = 2,
    ]));
    all_up(&house);
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(house.choose(at(3)).unwrap());
    }
    let ports: Vec<u16> = held
        .iter()
        .map(|permit| port_of(permit.endpoint()))
        .collect();
    assert_eq!(ports, [1, 1, 2, 2, 2], "its own limit, not the service's");
}

#[test]
fn our_own_zone_comes_first() {
    let zone = |name: &'static str| move |it: &mut settings::EndpointTable| it.zone = name.into();
    let settings = endpoints(&[&zone("a"), &zone("b"), &zone("a"), &|_| {}]);
    let mut house = House::new(settings.clone());
    all_up(&house);
    assert_eq!(house.used(at(3)), [1, 2, 3, 4], "we are in no zone");
    house.registry.set_zone("a");
    house.reload(settings.clone(), at(4));
    assert_eq!(house.used(at(4)), [1, 3]);
    house.check(1, Err("no"), Some(Health::Down), at(5));
    assert_eq!(house.used(at(5)), [2, 3, 4]);
    house.registry.set_zone("c");
    house.reload(settings, at(6));
    assert_eq!(house.used(at(6)), [2, 3, 4], "none is near");
}

/// A key has its endpoint, in every process that knows the same endpoints in any order; one that
/// goes moves its own keys only.
#[test]
fn keys_stay_at_their_endpoints() {
    for balance in [Balance::Maglev, Balance::RingHash, Balance::IpHash] {
        let with = |ports: &[u16]| settings(ports, |it| it.balance = balance);
        let owners = |house: &mut House| -> BTreeMap<u64, u16> {
            let owner = |key: u64| {
                let key = outgrow_balance::hash::hash(&key.to_le_bytes());
                let House {
                    web, view, random, ..
                } = &mut *house;
                let wish = Wish {
                    key: Some(key),
                    ..Wish::default()
                };
                let permit = web.choose(view, at(3), random, wish).unwrap();
                (key, port_of(permit.endpoint()))
            };
            (0..500).map(owner).collect()
        };
        let mut house = House::new(with(&[1, 2, 3, 4, 5]));
        let before = owners(&mut house);
        assert_eq!(owners(&mut house), before, "{balance:?}");
        let mut other = House::new(with(&[5, 3, 1, 2, 4]));
        assert_eq!(owners(&mut other), before, "{balance:?}");
        house.reload(with(&[1, 2, 4, 5]), at(2));
        let after = owners(&mut house);
        for (key, owner) in &before {
            assert!(*owner == 3 || after[key] == *owner, "{balance:?}");
        }
        assert!(after.values().all(|owner| *owner != 3), "{balance:?}");
    }
}

#[test]
fn a_slow_endpoint_gets_little_and_comes_back() {
    let mut house = House::new(settings(&[1, 2], |it| it.balance = Balance::LeastTime));
    let (slow, fast) = (house.endpoint(1), house.endpoint(2));
    let mut counts = |start: Ticks| {
        let mut of_slow = 0;
        for pick in 0..1_000 {
            let now = start + Duration::from_millis(100 * pick);
            let permit = house.choose(now).unwrap();
            of_slow += usize::from(port_of(permit.endpoint()) == 1);
            // What it would measure: the slow one is not slow any more.
            let fast_again = Duration::from_millis(10);
            permit.endpoint().note_response_time(fast_again, false, now);
        }
        of_slow
    };
    slow.note_response_time(Duration::from_secs(2), false, at(2));
    fast.note_response_time(Duration::from_millis(10), false, at(2));
    assert!(counts(at(2)) < 300);
    let later = counts(at(202));
    assert!((300..700).contains(&later), "{later} of 1000");
    fast.note_response_time(Duration::ZERO, true, at(400));
    let others: Vec<u16> = (0..50)
        .map(|_| port_of(house.choose(at(400)).unwrap().endpoint()))
        .collect();
    assert_eq!(others, [1; 50], "a failure counts as slow");
}
