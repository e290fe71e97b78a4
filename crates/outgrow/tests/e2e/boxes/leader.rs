//! The leader lease in etcd and Redis, and what follows from it wherever it is.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::databases;
use outgrow_testkit::etcd::Etcd;
use outgrow_testkit::outgrow::Outgrow;
use rustix::process::Signal;

use super::journal::{
    Journal, TTL, Watcher, etcd_at, from_one_to_the_other, is_leader, kill_whole,
    lose_while_stopped, metric, wait_leader, wait_other_data,
};
use crate::shop::SOON;

#[test]
fn the_lease_outlives_data_processes_and_moves_at_once_on_a_stop() {
    let mut etcd = Etcd::start().expect("etcd");
    let journal = Journal::new();
    let a = journal.start("a", &etcd_at(etcd.address()));
    wait_leader(&a);
    let told = a
        .wait_told("leader: gained: gained by outgrow/leader")
        .expect("told");
    assert!(told.contains("leader: gained has run"), "{told}");
    let b = journal.start("b", &etcd_at(etcd.address()));
    // A fresh box undoes what a killed one may have left.
    journal.wait(&b, &["gained a", "lost b"]);
    let answer = b.admin_get("/leader").expect("an answer");
    assert_eq!(answer.status, 503);
    let holder = answer.json().expect("JSON")["holder"].clone();
    assert!(
        holder.as_str().expect("a holder").starts_with("a-"),
        "{holder}"
    );
    let watcher = Watcher::start(&[&a, &b]);
    for _ in 0..3 {
        let data = a.pids().data[0];
        a.kill9(data).expect("killed");
        wait_other_data(&a, data);
    }
    a.upgrade(None).expect("an upgrade");
    wait_leader(&a);
    // Longer than a lease lasts that nobody renews.
    thread::sleep(TTL * 2);
    assert!(is_leader(&a));
    assert_eq!(
        journal.lines(),
        ["gained a", "lost b"],
        "nothing was run again"
    );
    assert_eq!(metric(&a, "outgrow_leader"), "1");
    assert_eq!(metric(&b, "outgrow_leader"), "0");
    // Without its registry it is lost in time.
    etcd.kill();
    let begin = Instant::now();
    journal.wait(&a, &["lost b", "lost a"]);
    assert!(begin.elapsed() < TTL, "{:?}", begin.elapsed());
    assert!(!is_leader(&a));
    etcd.start_again().expect("etcd again");
    let (first, second) = loop {
        if is_leader(&a) {
            break (a, b);
        }
        if is_leader(&b) {
            break (b, a);
        }
        assert!(begin.elapsed() < SOON, "nobody gains it");
        thread::sleep(Duration::from_millis(10));
    };
    // A stop runs `lost`, gives it back, and the other one has it at once.
    let begin = Instant::now();
    first.signal(Signal::TERM).expect("told to stop");
    wait_leader(&second);
    let took = begin.elapsed();
    assert!(took < TTL / 2, "{took:?}");
    watcher.end();
    first.stop().expect("stopped");
    journal.check();
    assert_eq!(metric(&second, "outgrow_leader"), "1");
    second.stop().expect("stopped");
    journal.check();
    assert!(journal.lines().last().expect("a line").starts_with("lost"));
    assert!(
        etcd.list("outgrow/leader").expect("keys").is_empty(),
        "given back"
    );
}

#[test]
fn a_killed_keeper_gives_back_and_a_killed_box_costs_its_time() {
    let etcd = Etcd::start().expect("etcd");
    let journal = Journal::new();
    let registry = etcd_at(etcd.address());
    let a = journal.start("a", &registry);
    wait_leader(&a);
    let b = journal.start("b", &registry);
    journal.wait(&b, &["gained a", "lost b"]);
    // The data process sees that its keeper is gone: it loses in order.
    let begin = Instant::now();
    a.kill9(a.pids().keeper).expect("killed");
    wait_leader(&b);
    assert!(begin.elapsed() < TTL, "{:?}", begin.elapsed());
    journal.wait(&b, &["lost b", "lost a", "gained b"]);
    let c = journal.start("c", &registry);
    journal.wait(&c, &["gained b", "lost c"]);
    // All of it at once: nobody is left to lose anything.
    kill_whole(&b);
    let begin = Instant::now();
    let lines = format!("{}\n", journal.lines().join("\n")) + "killed b\n";
    fs::write(journal.path(), lines).expect("written");
    wait_leader(&c);
    let took = begin.elapsed();
    assert!(took < TTL + Duration::from_secs(1), "{took:?}");
    journal.wait(&c, &["killed b", "gained c"]);
    journal.check();
    c.stop().expect("stopped");
}

#[test]
fn a_process_that_was_stopped_knows_at_once_that_it_lost() {
    let etcd = Etcd::start().expect("etcd");
    let journal = Journal::new();
    let a = journal.start("a", &etcd_at(etcd.address()));
    wait_leader(&a);
    let b = journal.start("b", &etcd_at(etcd.address()));
    lose_while_stopped(&journal, &a, &b);
    assert!(is_leader(&b));
    a.stop().expect("stopped");
    b.stop().expect("stopped");
}

#[test]
fn in_redis_it_is_held_by_one_and_lost_in_time() {
    let mut redis = databases::redis(&["--requirepass", "good"]).expect("redis");
    let journal = Journal::new();
    let address = redis.address();
    let registry = format!("redis = {{ server = \"{address}\", password = \"good\" }}");
    let b = from_one_to_the_other(&journal, &registry);
    redis.kill();
    let begin = Instant::now();
    journal.wait(&b, &["gained b", "lost b"]);
    assert!(begin.elapsed() < TTL, "{:?}", begin.elapsed());
    let told = b.wait_told("could not be renewed in time").expect("told");
    assert!(!told.contains("good"), "a password is told: {told}");
    let redis = databases::redis_at(address, &["--requirepass", "good"]).expect("redis again");
    wait_leader(&b);
    journal.check();
    b.stop().expect("stopped");
    drop(redis);
}

#[test]
fn commands_are_bounded_and_reloads_move_the_lease() {
    let etcd = Etcd::start().expect("etcd");
    let config = |leader: &str| {
        format!(
            r#"
[listener.public]
address = "%public%"
[route.app]
respond = {{ status = 200, body = "ok" }}
{leader}
"#
        )
    };
    let registry = etcd_at(etcd.address());
    let slow = format!(
        "[leader]\n{registry}\nttl = \"3s\"\ncommand_timeout = \"300ms\"\n\
         gained = \"sleep 1000 & sleep 1000\"\nlost = \"exit 3\""
    );
    let mut outgrow = Outgrow::start(&config(&slow)).expect("outgrow starts");
    outgrow
        .wait_told("leader: gained was killed: it took longer")
        .expect("told");
    assert!(is_leader(&outgrow));
    let sleeping = || {
        outgrow
            .all_processes()
            .iter()
            .any(|one| one.command.iter().any(|word| word.contains("sleep")))
    };
    assert!(!sleeping(), "the whole group is killed");
    assert!(etcd.list("outgrow/leader").expect("keys").len() == 1);
    // Another lease: the first one is lost and given back.
    let other = slow.replace("ttl", "name = \"other\"\nttl");
    outgrow.reload(&config(&other)).expect("reloaded");
    outgrow
        .wait_told("leader: lost failed: exit status: 3")
        .expect("told");
    let moved = outgrow.wait("the other lease", SOON, |_| {
        let left = etcd.list("outgrow/leader").expect("keys");
        (left.is_empty() && etcd.list("other").expect("keys").len() == 1).then_some(())
    });
    moved.expect("the other lease");
    wait_leader(&outgrow);
    // None at all.
    outgrow.reload(&config("")).expect("reloaded");
    let gone = outgrow.wait("no lease", SOON, |outgrow| {
        let status = outgrow.admin_get("/leader").ok()?.status;
        (status == 404 && etcd.list("other").ok()?.is_empty()).then_some(())
    });
    gone.expect("no lease");
    outgrow.stop().expect("stopped");
}

#[test]
fn what_is_kept_while_the_registry_is_away_is_kept_whatever_is_done_here() {
    let mut etcd = Etcd::start().expect("etcd");
    let journal = Journal::new();
    let registry = etcd_at(etcd.address());
    let config = |ttl: &str, more: &str| {
        let path = journal.path();
        let path = path.display();
        format!(
            "[listener.public]\naddress = \"%public%\"\n[route.app]\nrespond = {{ status = 200 }}\n\
             [leader]\n{registry}\nwhen_unreachable = \"keep\"\nttl = \"{ttl}\"\n{more}\
             gained = \"echo gained a >> {path}\"\nlost = \"echo lost a >> {path}\"\n"
        )
    };
    let mut a = Outgrow::start(&config("9s", "")).expect("outgrow starts");
    wait_leader(&a);
    journal.wait(&a, &["gained a"]);
    etcd.kill();
    let holds_after = |a: &Outgrow, what: &str| {
        // Longer than anything that is believed without a further word.
        let end = Instant::now() + TTL;
        while Instant::now() < end {
            assert!(is_leader(a), "{what}: {}", a.stderr());
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(journal.lines(), ["gained a"], "{what}: {}", a.stderr());
    };
    holds_after(&a, "the registry is away");
    let data = a.pids().data[0];
    a.kill9(data).expect("killed");
    wait_other_data(&a, data);
    holds_after(&a, "a data process was killed");
    a.reload(&config("3s", "")).expect("reloaded");
    holds_after(&a, "another ttl");
    a.reload(&config("3s", "command_timeout = \"2s\"\n"))
        .expect("reloaded");
    holds_after(&a, "another limit of commands");
    a.upgrade(None).expect("an upgrade");
    wait_leader(&a);
    holds_after(&a, "an upgrade");
    etcd.start_again().expect("etcd again");
    a.wait_told("answers again").expect("told");
    holds_after(&a, "the registry is back");
    a.stop().expect("stopped");
    assert_eq!(journal.lines(), ["gained a", "lost a"]);
}

#[test]
fn a_command_of_a_killed_data_process_undoes_nothing_later() {
    let etcd = Etcd::start().expect("etcd");
    let journal = Journal::new();
    let path = journal.path();
    let path = path.display();
    let registry = etcd_at(etcd.address());
    let config = format!(
        "[listener.public]\naddress = \"%public%\"\n[route.app]\nrespond = {{ status = 200 }}\n\
         [leader]\n{registry}\n\
         gained = \"echo begun >> {path}; sleep 2; echo ended >> {path}\"\n"
    );
    let a = Outgrow::start(&config).expect("outgrow starts");
    journal.wait(&a, &["begun"]);
    a.kill9(a.pids().data[0]).expect("killed");
    // The next one's comes to its end after that of the killed one would have.
    a.wait_told("leader: gained has run").expect("told");
    assert_eq!(journal.lines(), ["begun", "begun", "ended"]);
    a.stop().expect("stopped");
}
