//! Cases, and a simulated fleet under seeded random change.

use super::*;

fn service(hash: u64, count: u32) -> DesiredService {
    DesiredService {
        name: "web".into(),
        hash,
        count,
        surge: 1,
        unavailable: 0,
        canary: 0,
        exclusive: false,
    }
}

/// `(id, slot, hash, marks)`: `r` ready, `l` leaving.
fn instance((id, slot, hash, marks): (u64, u32, u64, &str)) -> ExistingInstance {
    ExistingInstance {
        id: InstanceId(id),
        service: "web".into(),
        slot,
        hash,
        ready: marks.contains('r'),
        leaving: marks.contains('l'),
    }
}

/// Actions as short text: `+slot`, `-id`.
fn steps(desired: &[DesiredService], existing: &[(u64, u32, u64, &str)]) -> String {
    let existing: Vec<_> = existing.iter().copied().map(instance).collect();
    let text = |action: Action| match action {
        Action::Start { slot, .. } => format!("+{slot}"),
        Action::DrainAndStop { id } => format!("-{id}"),
    };
    reconcile(desired, &existing)
        .into_iter()
        .map(text)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn each_situation_has_its_step() {
    let check = |wanted: (u64, u32), existing: &[(u64, u32, u64, &str)], expected: &str| {
        assert_eq!(
            steps(&[service(wanted.0, wanted.1)], existing),
            expected,
            "{existing:?}"
        );
    };
    // From nothing, and back.
    check((1, 3), &[], "+1 +2 +3");
    check((1, 2), &[(1, 1, 1, "r"), (2, 2, 1, "r")], "");
    check((1, 0), &[(1, 1, 1, "r"), (2, 2, 1, "")], "-2 -1");
    // Scaling takes free slots, and the highest go.
    check((1, 3), &[(1, 1, 1, "r"), (3, 3, 1, "r")], "+2");
    check(
        (1, 1),
        &[(1, 1, 1, "r"), (2, 2, 1, "r"), (3, 3, 1, "r")],
        "-3 -2",
    );
    check((1, 1), &[(1, 1, 1, ""), (2, 2, 1, "r")], "-1");
    // A leaving one holds its slot and counts as gone.
    check((1, 2), &[(1, 1, 1, "r"), (2, 2, 1, "rl")], "+3");
    // Replacement: start one beside, wait, stop one, go on.
    check((2, 2), &[(1, 1, 1, "r"), (2, 2, 1, "r")], "+3");
    check((2, 2), &[(1, 1, 1, "r"), (2, 2, 1, "r"), (3, 3, 2, "")], "");
    check(
        (2, 2),
        &[(1, 1, 1, "r"), (2, 2, 1, "r"), (3, 3, 2, "r")],
        "-2 +4",
    );
    check(
        (2, 2),
        &[(1, 1, 1, "r"), (2, 2, 1, "rl"), (3, 3, 2, "r")],
        "+4",
    );
    check(
        (2, 2),
        &[(1, 1, 1, "r"), (3, 3, 2, "r"), (4, 4, 2, "r")],
        "-1",
    );
    // A mended specification takes the place of one that never got ready.
    check(
        (3, 2),
        &[(1, 1, 1, "r"), (2, 2, 1, "r"), (3, 3, 2, "")],
        "-3 +4",
    );
    // Old ones that are not ready anyway go at once.
    check((2, 1), &[(1, 1, 1, ""), (2, 2, 2, "")], "-1");
    // Scaling down in the middle of a replacement keeps what is ready.
    check(
        (2, 1),
        &[(1, 1, 1, "r"), (2, 2, 2, ""), (3, 3, 2, "")],
        "-3",
    );
}

#[test]
fn a_replacement_goes_as_far_as_its_limits() {
    let check = |limits: (u32, u32), existing: &[(u64, u32, u64, &str)], expected: &str| {
        let service = DesiredService {
            surge: limits.0,
            unavailable: limits.1,
            ..service(2, 3)
        };
        let existing: Vec<_> = existing.iter().copied().map(instance).collect();
        let actions = reconcile(std::slice::from_ref(&service), &existing);
        let text = |action: &Action| match action {
            Action::Start { slot, .. } => format!("+{slot}"),
            Action::DrainAndStop { id } => format!("-{id}"),
        };
        let got: Vec<String> = actions.iter().map(text).collect();
        assert_eq!(got.join(" "), expected, "{limits:?} {existing:?}");
    };
    let old = [(1, 1, 1, "r"), (2, 2, 1, "r"), (3, 3, 1, "r")];
    let canary = |existing: &[(u64, u32, u64, &str)]| {
        let service = DesiredService {
            canary: 2,
            ..service(2, 3)
        };
        steps(&[service], existing)
    };
    assert_eq!(canary(&old), "+4 +5");
    let [one, two, three] = old;
    let beside = [one, two, three, (4, 4, 2, "r"), (5, 5, 2, "r")];
    assert_eq!(canary(&beside), "", "nothing until it is judged");
    assert_eq!(canary(&[]), "+1 +2 +3", "nothing to compare with");
    check((2, 0), &old, "+4 +5");
    check((9, 0), &old, "+4 +5 +6");
    check((0, 1), &old, "-3 +4");
    check((0, 2), &old, "-3 -2 +4 +5");
    check((1, 1), &old, "-3 +4 +5");
    check((1, 9), &old, "-3 -2 -1 +4 +5 +6");
    // One new is not ready yet: the step is not over.
    check((0, 1), &[(1, 1, 1, "r"), (2, 2, 1, "r"), (4, 4, 2, "")], "");
    check(
        (0, 1),
        &[(1, 1, 1, "r"), (2, 2, 1, "r"), (4, 4, 2, "r")],
        "-2 +3",
    );
}

#[test]
fn a_fixed_port_is_replaced_without_overlap() {
    let fixed = DesiredService {
        exclusive: true,
        ..service(2, 1)
    };
    let check = |existing: &[(u64, u32, u64, &str)], expected: &str| {
        assert_eq!(
            steps(std::slice::from_ref(&fixed), existing),
            expected,
            "{existing:?}"
        );
    };
    check(&[(1, 1, 1, "r")], "-1");
    check(&[(1, 1, 1, "l")], "");
    check(&[], "+1");
    check(&[(2, 1, 2, "")], "");
}

#[test]
fn a_service_that_is_not_desired_any_more_loses_everything() {
    let mut other = instance((9, 1, 1, "r"));
    other.service = "old".into();
    let actions = reconcile(&[service(1, 0)], &[other]);
    assert_eq!(actions, [Action::DrainAndStop { id: InstanceId(9) }]);
}

/// A small generator: the same seed gives the same fleet (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

struct Fleet {
    desired: DesiredService,
    instances: Vec<ExistingInstance>,
    next_id: u64,
}

impl Fleet {
    fn ready(&self) -> usize {
        self.instances
            .iter()
            .filter(|one| one.ready && !one.leaving)
            .count()
    }

    fn staying(&self) -> usize {
        self.instances.iter().filter(|one| !one.leaving).count()
    }

    /// Applies one answer and checks what must always hold.
    fn step(&mut self) -> usize {
        let (ready_before, staying_before) = (self.ready(), self.staying());
        let actions = reconcile(std::slice::from_ref(&self.desired), &self.instances);
        let count = self.desired.count as usize;
        for action in &actions {
            match action {
                Action::Start { service, slot } => {
                    assert!(
                        !self.instances.iter().any(|one| one.slot == *slot),
                        "slot in use"
                    );
                    self.next_id += 1;
                    self.instances.push(ExistingInstance {
                        id: InstanceId(self.next_id),
                        service: service.clone(),
                        slot: *slot,
                        hash: self.desired.hash,
                        ready: false,
                        leaving: false,
                    });
                }
                Action::DrainAndStop { id } => {
                    let one = self.instances.iter_mut().find(|one| one.id == *id).unwrap();
                    assert!(!one.leaving, "stopped twice");
                    one.leaving = true;
                }
            }
        }
        if !self.desired.exclusive {
            let (surge, unavailable) = (self.desired.surge, self.desired.unavailable);
            let least = count.saturating_sub(unavailable as usize);
            assert!(
                self.ready() >= ready_before.min(least),
                "a step cost ready instances"
            );
            assert!(
                self.staying() <= staying_before.max(count + surge as usize),
                "more than may be beside"
            );
        } else {
            assert!(
                self.instances.len() <= staying_before.max(count),
                "a fixed port is shared"
            );
        }
        actions.len()
    }

    fn disturb(&mut self, random: &mut Random) {
        match random.below(6) {
            0 => self.desired.hash = random.below(4),
            1 if !self.desired.exclusive => self.desired.count = random.below(7) as u32,
            2 => self
                .instances
                .retain(|one| !one.leaving || random.below(2) == 0),
            _ => {
                for one in &mut self.instances {
                    if random.below(3) == 0 {
                        one.ready = random.below(3) > 0;
                    }
                }
            }
        }
    }

    /// All calm: everything becomes ready, what leaves is gone.
    fn calm(&mut self) {
        self.instances.retain(|one| !one.leaving);
        self.instances.iter_mut().for_each(|one| one.ready = true);
    }
}

#[test]
fn a_thousand_fleets_never_lose_and_always_arrive() {
    for seed in 0..1_000 {
        let mut random = Random(seed);
        let exclusive = seed % 5 == 0;
        let unavailable = random.below(3) as u32;
        let desired = DesiredService {
            exclusive,
            unavailable,
            surge: (random.below(4) as u32).max(u32::from(unavailable == 0)),
            ..service(1, if exclusive { 1 } else { 3 })
        };
        let mut fleet = Fleet {
            desired,
            instances: Vec::new(),
            next_id: 0,
        };
        for _ in 0..100 {
            fleet.disturb(&mut random);
            fleet.step();
        }
        let mut steps = 0;
        loop {
            fleet.calm();
            if fleet.step() == 0 {
                break;
            }
            steps += 1;
            assert!(steps < 40, "seed {seed} does not arrive");
        }
        let right = fleet
            .instances
            .iter()
            .all(|one| one.hash == fleet.desired.hash);
        assert!(right, "seed {seed} ends with old instances");
        assert_eq!(
            fleet.instances.len(),
            fleet.desired.count as usize,
            "seed {seed}"
        );
    }
}
