//! The leader lease over an upgrade: what happens while the next data process begins.

use std::fs;
use std::thread;
use std::time::Duration;

use outgrow_testkit::databases;
use outgrow_testkit::etcd::Etcd;
use outgrow_testkit::outgrow::{Outgrow, OutgrowError};
use outgrow_testkit::processes;
use rustix::process::Signal;

use super::journal::{Journal, TTL, etcd_at, is_leader, wait_leader};
use crate::moments;
use crate::shop::SOON;

/// The keeper knows that this command has run.
fn wait_command(outgrow: &Outgrow, word: &str) {
    let waited = outgrow.wait(word, SOON, |outgrow| {
        let told = outgrow.admin_get("/leader").ok()?.json().ok()?;
        (told["command"] == word).then_some(())
    });
    waited.expect(word);
}

/// An upgrade to a data process that is greeted, and begins only when a file is gone. `after` comes
/// as soon as it serves. Gives what the old one answers.
fn upgrade_slowly(
    outgrow: &Outgrow,
    meanwhile: impl FnOnce(),
    after: impl FnOnce(),
) -> Result<u32, OutgrowError> {
    let hold = outgrow.folder().join("hold");
    fs::write(&hold, "").expect("written");
    let waits = format!("while [ -e {} ]; do sleep 0.01; done", hold.display());
    let binary = moments::wrapper(outgrow.folder(), &waits);
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| outgrow.upgrade(Some(&binary)));
        outgrow.wait_told("upgrading to").expect("told");
        meanwhile();
        fs::remove_file(&hold).expect("removed");
        outgrow
            .wait_told("upgraded: data process 2 serves")
            .expect("told");
        after();
        upgrade.join().expect("a thread")
    })
}

#[test]
fn what_happens_while_the_next_data_process_begins_is_not_lost_on_it() {
    let redis = databases::redis(&[]).expect("redis");
    let registry = format!("redis = {{ server = \"{}\" }}", redis.address());
    let journal = Journal::new();
    let a = journal.start("a", &registry);
    wait_leader(&a);
    wait_command(&a, "gained");
    // It held the lease when the next one was greeted.
    let loses = || {
        redis.suspend(true).expect("suspended");
        journal.wait(&a, &["gained a", "lost a"]);
    };
    upgrade_slowly(&a, loses, || redis.suspend(false).expect("going on")).expect("an upgrade");
    wait_leader(&a);
    journal.wait(&a, &["gained a", "lost a", "gained a"]);
    a.stop().expect("stopped");
    assert_eq!(
        journal.lines(),
        ["gained a", "lost a", "gained a", "lost a"]
    );
}

#[test]
fn an_upgrade_while_lost_runs_ends_it_and_gains_what_is_held_again() {
    let redis = databases::redis(&[]).expect("redis");
    let journal = Journal::new();
    let path = journal.path();
    let path = path.display();
    let config = format!(
        "[listener.public]\naddress = \"%public%\"\n[route.app]\nrespond = {{ status = 200 }}\n\
         [leader]\nredis = {{ server = \"{}\" }}\nttl = \"3s\"\ncommand_timeout = \"9s\"\n\
         gained = \"echo gained >> {path}\"\n\
         lost = \"echo losing >> {path}; sleep 4; echo lost >> {path}\"\n",
        redis.address()
    );
    let a = Outgrow::start(&config).expect("outgrow starts");
    wait_command(&a, "gained");
    let loses = || {
        redis.suspend(true).expect("suspended");
        wait_command(&a, "losing");
    };
    upgrade_slowly(&a, loses, || redis.suspend(false).expect("going on")).expect("an upgrade");
    wait_leader(&a);
    wait_command(&a, "gained");
    // Longer than `lost` would have taken.
    thread::sleep(Duration::from_secs(4));
    let lines = journal.lines();
    assert!(
        lines.starts_with(&["gained".to_owned(), "losing".to_owned()]),
        "{lines:?}"
    );
    assert_eq!(lines.last().expect("a line"), "gained");
    assert!(!lines.contains(&"lost".to_owned()), "{lines:?}");
    assert!(is_leader(&a));
}

#[test]
fn what_was_gained_while_the_next_data_process_begins_is_lost_by_it() {
    let etcd = Etcd::start().expect("etcd");
    let registry = etcd_at(etcd.address());
    let journal = Journal::new();
    let a = journal.start("a", &registry);
    wait_leader(&a);
    let b = journal.start("b", &registry);
    wait_command(&b, "lost");
    // It did not hold the lease when the next one was greeted.
    let gains = || {
        a.stop().expect("stopped");
        journal.wait(&b, &["gained b"]);
    };
    upgrade_slowly(&b, gains, || ()).expect("an upgrade");
    wait_leader(&b);
    thread::sleep(TTL);
    assert_eq!(
        journal.lines(),
        ["gained a", "lost b", "lost a", "gained b"]
    );
    b.stop().expect("stopped");
    assert!(journal.lines().ends_with(&["lost b".to_owned()]));
}

#[test]
fn a_data_process_that_is_told_nothing_by_the_one_before_it_begins_anew() {
    let etcd = Etcd::start().expect("etcd");
    let journal = Journal::new();
    let a = journal.start("a", &etcd_at(etcd.address()));
    wait_leader(&a);
    wait_command(&a, "gained");
    let old = a.pids().data[0];
    let stops = || processes::signal(old, Signal::STOP).expect("stopped");
    let answered = upgrade_slowly(&a, stops, || {
        a.wait_told("does not say how far it is").expect("told");
        a.kill9(old).expect("killed");
    });
    assert!(answered.is_err(), "it was killed before it could answer");
    wait_leader(&a);
    journal.wait(&a, &["gained a", "gained a"]);
    a.stop().expect("stopped");
    assert_eq!(journal.lines(), ["gained a", "gained a", "lost a"]);
}
