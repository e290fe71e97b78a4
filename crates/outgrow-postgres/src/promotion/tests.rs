//! Single courses of a promotion, step by step.

use std::time::Duration;

use outgrow_core::Ticks;

use super::{
    Fencing, Leading, Machine, Moment, Seen, Sight, Step, Terms, Upstream, Wish, Work, judge,
};
use crate::standing::{Lsn, Role};

const SECOND: Duration = Duration::from_secs(1);

fn terms() -> Terms {
    Terms {
        is_automatic: true,
        fencing: Fencing::Command,
        after: SECOND * 10,
        min_replicas: None,
        max_lag: 1_000,
        promote_timeout: SECOND * 60,
        hold: SECOND * 10,
        min_interval: SECOND * 300,
    }
}

fn at(millis: u64) -> Ticks {
    Ticks(1_000_000_000 + millis * 1_000_000)
}

/// A course of events: a primary `a` and replicas `b` and `c`, seen at each step unless they are
/// down.
struct Course {
    machine: Machine,
    terms: Terms,
    sight: Sight,
    millis: u64,
    leading: Leading,
    down: Vec<&'static str>,
    work: Work,
    lines: Vec<String>,
}

fn primary(name: &str, lsn: u64, timeline: u32) -> Seen {
    Seen {
        address: name.to_owned(),
        role: Some(Role::Primary),
        timeline,
        received: Lsn(lsn),
        replayed: Lsn(lsn),
        ..Seen::default()
    }
}

fn replica(name: &str, lsn: u64, timeline: u32) -> Seen {
    Seen {
        role: Some(Role::Replica),
        upstream: Some(Upstream {
            from: Some("a".to_owned()),
            silent: Some(Duration::ZERO),
            timeout: SECOND * 60,
        }),
        ..primary(name, lsn, timeline)
    }
}

impl Course {
    fn new(terms: Terms) -> Self {
        let servers = vec![
            primary("a", 500, 1),
            replica("b", 480, 1),
            replica("c", 500, 1),
        ];
        Self {
            machine: Machine::default(),
            terms,
            sight: Sight {
                servers,
                is_quiet: false,
            },
            millis: 0,
            leading: Leading::Alone,
            down: Vec::new(),
            work: Work::None,
            lines: Vec::new(),
        }
    }

    fn server(&mut self, name: &str) -> &mut Seen {
        let all = &mut self.sight.servers;
        all.iter_mut()
            .find(|one| one.address == name)
            .expect("there")
    }

    /// The primary is gone, and the replicas know.
    fn kill(&mut self, name: &'static str) {
        self.down.push(name);
        for one in &mut self.sight.servers {
            one.upstream = None;
        }
    }

    /// Half a second; gives the steps.
    fn step(&mut self) -> Vec<Step> {
        self.millis += 500;
        let now = at(self.millis);
        for one in &mut self.sight.servers {
            match self.down.contains(&one.address.as_str()) {
                true => drop(one.failing.get_or_insert(now)),
                false => (one.heard, one.failing) = (Some(now), None),
            }
        }
        let work = std::mem::replace(&mut self.work, Work::None);
        let steps = (self.machine).step(now, &self.terms, &self.sight, self.leading, work);
        self.lines
            .extend(self.machine.take_lines().into_iter().map(|line| line.text));
        steps
    }

    /// Until something is to be done, at most for so many seconds.
    fn wait(&mut self, seconds: u64) -> Vec<Step> {
        for _ in 0..seconds * 2 {
            let steps = self.step();
            if !steps.is_empty() {
                return steps;
            }
        }
        Vec::new()
    }

    fn ask(&mut self, wish: Wish) -> Result<Vec<Step>, String> {
        let now = at(self.millis);
        let asked = (&self.sight, Leading::Alone);
        let steps = (self.machine).ask(now, &self.terms, asked, (wish, &Work::None));
        steps.map_err(|problem| problem.why)
    }

    fn problem(&self) -> String {
        let told = self.machine.told(at(self.millis));
        told.problem.map(|problem| problem.why).unwrap_or_default()
    }
}

fn fence(server: &str) -> Vec<Step> {
    vec![Step::Fence {
        server: server.to_owned(),
    }]
}

fn promoted(steps: &[Step]) -> Option<&str> {
    match steps {
        [Step::Promote { server, .. }] => Some(server),
        _ => None,
    }
}

#[test]
fn a_dead_primary_is_fenced_and_the_furthest_replica_promoted() {
    let mut course = Course::new(terms());
    assert!(course.wait(30).is_empty(), "it answers");
    course.kill("a");
    assert!(course.wait(9).is_empty(), "too early");
    assert_eq!(course.wait(3), fence("a"));
    course.work = Work::Running;
    assert!(course.step().is_empty());
    course.work = Work::Done(Ok(()));
    assert!(course.step().is_empty());
    let steps = course.wait(2);
    assert_eq!(promoted(&steps), Some("c"), "{steps:?}");
    course.work = Work::Done(Ok(()));
    assert!(course.step().is_empty());
    *course.server("c") = primary("c", 510, 2);
    course.server("a").role = Some(Role::Fenced);
    assert!(course.wait(30).is_empty());
    let told = course.machine.told(at(course.millis));
    assert_eq!((told.done, told.phase), (1, "watching"));
    assert!(
        told.last
            .expect("told")
            .1
            .contains("c (timeline 2) is the primary in place of a")
    );
    // The next one comes too early.
    course.down.push("c");
    assert!(course.wait(60).is_empty());
    assert!(
        course.problem().contains("min_interval"),
        "{}",
        course.problem()
    );
}

#[test]
fn a_primary_that_a_replica_hears_stays() {
    let mut course = Course::new(terms());
    course.step();
    course.down.push("a");
    assert!(course.wait(120).is_empty(), "b and c hear it");
    assert!(
        course.problem().contains("hears it"),
        "{}",
        course.problem()
    );
    // One that hears nothing is asked for a sign of life after half of its timeout only.
    course.server("c").upstream = None;
    let silent = |course: &mut Course, seconds: u32| {
        course.server("b").upstream.as_mut().expect("one").silent = Some(SECOND * seconds);
    };
    silent(&mut course, 20);
    assert!(course.wait(5).is_empty());
    assert!(
        course.problem().contains("wal_receiver_timeout"),
        "{}",
        course.problem()
    );
    silent(&mut course, 33);
    assert_eq!(course.wait(60), fence("a"));
    // Without the privilege nobody knows for how long.
    let mut course = Course::new(terms());
    course.step();
    course.kill("a");
    course.server("b").upstream = Some(Upstream::default());
    assert!(course.wait(60).is_empty());
    assert!(
        course.problem().contains("is connected to it"),
        "{}",
        course.problem()
    );
    // One that follows another replica knows nothing of the primary.
    let from = Some("c".to_owned());
    course.server("b").upstream.as_mut().expect("one").from = from;
    assert_eq!(course.wait(15), fence("a"));
}

#[test]
fn nothing_is_promoted_without_the_fence() {
    let mut course = Course::new(terms());
    course.step();
    course.kill("a");
    assert_eq!(course.wait(15), fence("a"));
    course.work = Work::Done(Err("exit status: 1".to_owned()));
    assert!(course.step().is_empty());
    assert!(
        course.problem().contains("could not be fenced"),
        "{}",
        course.problem()
    );
    // It is tried again.
    assert_eq!(course.wait(12), fence("a"));
    // It says that it is done, and the primary answers.
    course.work = Work::Done(Ok(()));
    course.down.clear();
    course.step();
    course.step();
    assert!(
        course.problem().contains("heard by us"),
        "{}",
        course.problem()
    );
    let check = |change: fn(&mut Terms), expected: &str| {
        let mut terms = terms();
        change(&mut terms);
        let mut course = Course::new(terms);
        course.step();
        course.kill("a");
        let steps = course.wait(30);
        assert!(steps.is_empty(), "{steps:?}");
        assert!(course.problem().contains(expected), "{}", course.problem());
    };
    check(|terms| terms.fencing = Fencing::Unsaid, "there is no fence");
    check(|terms| terms.is_automatic = false, "manual");
    let mut never = Course::new(Terms {
        fencing: Fencing::Never,
        ..terms()
    });
    never.step();
    never.kill("a");
    assert_eq!(promoted(&never.wait(15)), Some("c"));
    assert!(
        never
            .lines
            .iter()
            .any(|line| line.contains("is not fenced"))
    );
}

#[test]
fn which_replica_is_judged_by_what_it_has() {
    let seen = |change: fn(&mut Course)| {
        let mut course = Course::new(terms());
        course.step();
        course.kill("a");
        change(&mut course);
        course.step();
        let known = course.machine.known().cloned();
        let moment = Moment {
            now: at(course.millis),
            since: Ticks::ZERO,
            is_planned: false,
        };
        let verdict = judge(&course.terms, &course.sight, known.as_ref(), moment, None);
        verdict
            .chosen()
            .map(str::to_owned)
            .map_err(|problem| problem.why)
    };
    assert_eq!(seen(|_| {}), Ok("c".to_owned()));
    assert_eq!(
        seen(|course| course.server("c").received = Lsn(480)),
        Ok("b".to_owned())
    );
    assert_eq!(
        seen(|course| course.server("c").timeline = 2),
        Ok("b".to_owned())
    );
    let behind = |course: &mut Course| {
        course.sight.servers[1..]
            .iter_mut()
            .for_each(|one| one.received = Lsn(0));
    };
    let far = seen(|course| course.server("a").received = Lsn(5_000));
    assert!(far.expect_err("max_lag").contains("c lacks 4500 bytes"));
    assert_eq!(seen(behind), Ok("b".to_owned()));
    let few = seen(|course| {
        course.down.push("c");
        course.millis += 10_000;
    });
    assert!(few.expect_err("one of two").contains("min_replicas"));
    let mut course = Course::new(terms());
    course.step();
    course.kill("a");
    course.step();
    let to = Some("b".to_owned());
    let refused = course
        .ask(Wish {
            to,
            ..Wish::default()
        })
        .expect_err("c has more");
    assert!(
        refused.contains("b lacks 20 bytes that another replica has"),
        "{refused}"
    );
    // What was acknowledged may be on the one that does not answer.
    let mut course = Course::new(Terms {
        min_replicas: Some(1),
        ..terms()
    });
    course.server("a").synchronous = 1;
    course.step();
    course.kill("a");
    course.down.push("c");
    assert!(course.wait(30).is_empty());
    assert!(
        course.problem().contains("acknowledged"),
        "{}",
        course.problem()
    );
    let refused = course.ask(Wish::default()).expect_err("it could be lost");
    assert!(refused.contains("acknowledged"), "{refused}");
    let wish = Wish {
        accepts_loss: true,
        ..Wish::default()
    };
    assert_eq!(course.ask(wish), Ok(fence("a")));
}

#[test]
fn a_switchover_holds_waits_fences_and_promotes() {
    let mut course = Course::new(terms());
    course.step();
    let wish = Wish {
        to: Some("b".to_owned()),
        ..Wish::default()
    };
    let steps = course.ask(wish).expect("it can");
    assert_eq!(
        steps,
        [Step::Checkpoint {
            server: "a".to_owned()
        }]
    );
    course.work = Work::Done(Ok(()));
    assert_eq!(course.step(), [Step::Hold]);
    assert!(course.wait(2).is_empty(), "transactions are open");
    course.sight.is_quiet = true;
    assert!(course.wait(2).is_empty(), "b lacks something");
    course.server("b").received = Lsn(500);
    assert_eq!(course.wait(2), fence("a"));
    course.work = Work::Done(Ok(()));
    course.kill("a");
    assert!(course.step().is_empty());
    assert!(course.wait(2).is_empty(), "b has not replayed it");
    course.server("b").replayed = Lsn(500);
    assert_eq!(promoted(&course.wait(2)), Some("b"));
    course.work = Work::Done(Ok(()));
    *course.server("b") = primary("b", 510, 2);
    let mut steps = course.step();
    steps.extend(course.step());
    assert_eq!(steps, [Step::Release]);
    // What does not come to rest changes nothing.
    let mut course = Course::new(terms());
    course.step();
    course.ask(Wish::default()).expect("it can");
    course.work = Work::Done(Err("permission denied".to_owned()));
    assert_eq!(course.step(), [Step::Hold]);
    assert_eq!(course.wait(15), [Step::Release]);
    assert!(
        course.problem().contains("still open"),
        "{}",
        course.problem()
    );
    assert!(course.ask(Wish::default()).is_ok(), "again");
}

#[test]
fn one_that_was_told_and_vanished_may_be_a_primary() {
    let mut course = Course::new(terms());
    course.step();
    course.kill("a");
    assert_eq!(course.wait(15), fence("a"));
    course.work = Work::Done(Ok(()));
    course.step();
    assert_eq!(promoted(&course.wait(3)), Some("c"));
    course.down.push("c");
    course.work = Work::Done(Err("the connection was lost".to_owned()));
    assert!(course.wait(200).is_empty(), "never another one");
    assert!(course.problem().contains('c'), "{}", course.problem());
    // Somebody decides: then it is fenced as well.
    let wish = Wish {
        to: Some("b".to_owned()),
        ..Wish::default()
    };
    let mut fenced = course.ask(wish).expect("it can");
    course.work = Work::Done(Ok(()));
    fenced.extend(course.step());
    assert_eq!(fenced, [fence("c"), fence("a")].concat());
    course.work = Work::Done(Ok(()));
    course.step();
    assert_eq!(promoted(&course.wait(3)), Some("b"));
}

#[test]
fn one_that_answers_is_told_again() {
    let mut course = Course::new(terms());
    course.step();
    course.kill("a");
    assert_eq!(course.wait(15), fence("a"));
    course.work = Work::Done(Ok(()));
    course.step();
    assert_eq!(promoted(&course.wait(3)), Some("c"));
    course.work = Work::Done(Err("permission denied for function pg_promote".to_owned()));
    let steps = course.wait(15);
    assert_eq!(promoted(&steps), Some("c"));
    assert!(
        course
            .lines
            .iter()
            .any(|line| line.contains("GRANT EXECUTE"))
    );
    // The lease goes to another box.
    course.millis += 500;
    let steps = course.machine.step(
        at(course.millis),
        &course.terms,
        &course.sight,
        Leading::NotHeld,
        Work::Running,
    );
    assert_eq!(steps, [Step::Kill]);
    assert!(!course.machine.is_busy());
}

#[test]
fn what_cannot_be_is_refused() {
    let mut course = Course::new(terms());
    course.step();
    let to = |name: &str| Wish {
        to: Some(name.to_owned()),
        ..Wish::default()
    };
    let check = |course: &mut Course, wish: Wish, expected: &str| {
        let refused = course.ask(wish).expect_err("it cannot be");
        assert!(refused.contains(expected), "{refused}");
    };
    check(&mut course, to("x"), "no server x");
    check(&mut course, to("a"), "is the primary");
    course.server("b").timeline = 7;
    check(&mut course, to("b"), "timeline 7");
    course.terms.fencing = Fencing::Unsaid;
    check(&mut course, to("c"), "no fence");
    course.terms.fencing = Fencing::Command;
    assert!(course.ask(to("c")).is_ok());
    check(&mut course, to("c"), "under way");
}

#[test]
fn who_has_just_got_the_lease_looks_first() {
    let mut course = Course::new(terms());
    course.leading = Leading::NotHeld;
    course.step();
    course.kill("a");
    assert!(course.wait(60).is_empty(), "it is another box's");
    assert_eq!(course.problem(), "");
    course.leading = Leading::Held;
    assert!(course.wait(19).is_empty(), "that may have begun something");
    assert_eq!(course.wait(3), fence("a"));
}

#[test]
fn a_primary_that_nobody_asks_any_more_is_told() {
    let mut course = Course::new(terms());
    course.step();
    course.kill("a");
    course.sight.servers.remove(0);
    assert!(course.wait(30).is_empty());
    assert!(
        course.problem().contains("none of the service's endpoints"),
        "{}",
        course.problem()
    );
}

#[test]
fn what_came_to_nothing_is_tried_again_later_and_told_in_words() {
    let mut course = Course::new(Terms {
        after: SECOND,
        ..terms()
    });
    course.step();
    course.kill("a");
    assert_eq!(course.wait(5), fence("a"));
    course.work = Work::Done(Err("exit status: 1".to_owned()));
    assert!(course.step().is_empty());
    // It answers for a moment, and is gone again.
    course.down.clear();
    assert!(course.wait(2).is_empty());
    assert_eq!(course.problem(), "", "it is well");
    course.down.push("a");
    assert!(course.wait(5).is_empty(), "too early");
    assert_eq!(course.wait(10), fence("a"));
    assert!(course.lines.iter().all(|line| !line.starts_with(';')));
}
