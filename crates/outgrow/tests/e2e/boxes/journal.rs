//! Boxes with a leader lease whose commands write into one journal; whoever says that it holds is
//! counted all the time.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::folder::Folder;
use outgrow_testkit::http;
use outgrow_testkit::outgrow::Outgrow;
use outgrow_testkit::processes;
use rustix::process::Signal;

use crate::shop::{SOON, try_state};

/// How long a lease lasts.
pub(crate) const TTL: Duration = Duration::from_secs(3);

/// Where the commands of all boxes write.
pub(crate) struct Journal {
    folder: Folder,
}

impl Journal {
    pub(crate) fn new() -> Self {
        let folder = Folder::new("leader").expect("a folder");
        folder.write("journal", "").expect("written");
        Self { folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path()).expect("a journal");
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until these are the last lines.
    pub(crate) fn wait(&self, outgrow: &Outgrow, last: &[&str]) {
        let waited = outgrow.wait(&format!("{last:?}"), SOON, |_| {
            let lines = self.lines();
            let is_it = lines.ends_with(&last.iter().map(ToString::to_string).collect::<Vec<_>>());
            is_it.then_some(())
        });
        waited.unwrap_or_else(|error| panic!("{:?}: {error}", self.lines()));
    }

    /// A box of this name, with its lease at `registry`.
    pub(crate) fn start(&self, name: &str, registry: &str) -> Outgrow {
        let journal = self.path();
        let journal = journal.display();
        let config = format!(
            r#"
[process]
name = "{name}"
[listener.public]
address = "%public%"
[route.app]
respond = {{ status = 200, body = "ok" }}
[leader]
{registry}
ttl = "3s"
gained = "echo gained by $OUTGROW_LEADER; echo gained {name} >> {journal}"
lost = ["/bin/sh", "-c", "echo lost {name} >> {journal}"]
"#
        );
        Outgrow::start(&config).expect("outgrow starts")
    }

    /// At no moment had two boxes gained it and not lost it; a box that is killed whole is written
    /// in by the test.
    pub(crate) fn check(&self) {
        let mut holder: Option<String> = None;
        for line in self.lines() {
            let (word, name) = line.split_once(' ').expect("a word and a name");
            match (word, &holder) {
                ("gained", None) => holder = Some(name.to_owned()),
                ("gained", Some(other)) => {
                    panic!("{name} gained it from {other}: {:?}", self.lines())
                }
                (_, Some(other)) if other == name => holder = None,
                _ => {}
            }
        }
    }
}

pub(crate) fn etcd_at(address: SocketAddr) -> String {
    format!("etcd = {{ servers = [\"http://{address}\"] }}")
}

pub(crate) fn is_leader(outgrow: &Outgrow) -> bool {
    let answer = outgrow.admin_get("/leader");
    answer.is_ok_and(|answer| answer.status == 200)
}

pub(crate) fn wait_leader(outgrow: &Outgrow) -> Duration {
    let begin = Instant::now();
    let waited = outgrow.wait("it holds the lease", SOON, |one| {
        is_leader(one).then_some(())
    });
    waited.expect("the lease");
    begin.elapsed()
}

pub(crate) fn metric(outgrow: &Outgrow, name: &str) -> String {
    let text = outgrow.admin_get("/metrics").expect("metrics").text();
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")));
    line.expect(name)
        .rsplit(' ')
        .next()
        .expect("a value")
        .to_owned()
}

/// Asks all the time who holds: one, another and the one again, so that two did at one moment if all
/// three say yes.
pub(crate) struct Watcher {
    ended: Arc<AtomicBool>,
    thread: thread::JoinHandle<(u64, Vec<String>)>,
}

impl Watcher {
    pub(crate) fn start(boxes: &[&Outgrow]) -> Self {
        let urls: Vec<String> = boxes
            .iter()
            .map(|one| one.url("admin", "/leader"))
            .collect();
        let ended = Arc::<AtomicBool>::default();
        let until = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let holds = |url: &String| http::get(url).is_ok_and(|answer| answer.status == 200);
            let (mut looks, mut wrong) = (0, Vec::new());
            while !until.load(Ordering::Relaxed) {
                for (at, one) in urls.iter().enumerate() {
                    for other in &urls[at + 1..] {
                        looks += 1;
                        if holds(one) && holds(other) && holds(one) {
                            wrong.push(format!("{one} and {other}"));
                        }
                    }
                }
                thread::sleep(Duration::from_millis(2));
            }
            (looks, wrong)
        });
        Self { ended, thread }
    }

    pub(crate) fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        let (looks, wrong) = self.thread.join().expect("a thread");
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(looks > 100, "{looks} looks");
    }
}

/// Another data process than this one holds on to the lease.
pub(crate) fn wait_other_data(outgrow: &Outgrow, data: u32) {
    let back = outgrow.wait("another data process holds on", SOON, |one| {
        let is_other = one.pids().data.first().is_some_and(|pid| *pid != data);
        (is_other && is_leader(one)).then_some(())
    });
    back.expect("another data process");
}

/// The keeper knows that `gained` has run: who is killed before that runs it again.
fn wait_gained(outgrow: &Outgrow) {
    let gained = outgrow.wait("the keeper knows of it", SOON, |one| {
        let state = try_state(one)?;
        (state["leader"]["command"] == "gained").then_some(())
    });
    gained.expect("gained");
}

/// What goes the same way wherever the lease is: data processes, an upgrade and a stop. Gives the box
/// that holds it in the end.
pub(crate) fn from_one_to_the_other(journal: &Journal, registry: &str) -> Outgrow {
    let a = journal.start("a", registry);
    wait_leader(&a);
    let b = journal.start("b", registry);
    journal.wait(&b, &["gained a", "lost b"]);
    wait_gained(&a);
    let watcher = Watcher::start(&[&a, &b]);
    let data = a.pids().data[0];
    a.kill9(data).expect("killed");
    wait_other_data(&a, data);
    a.upgrade(None).expect("an upgrade");
    wait_leader(&a);
    // Longer than a lease lasts that nobody renews.
    thread::sleep(TTL * 2);
    assert_eq!(journal.lines(), ["gained a", "lost b"]);
    let begin = Instant::now();
    a.signal(Signal::TERM).expect("told to stop");
    wait_leader(&b);
    assert!(begin.elapsed() < TTL * 2 / 3, "{:?}", begin.elapsed());
    watcher.end();
    a.stop().expect("stopped");
    journal.check();
    b
}

/// Stops the data process of `a`, which holds the lease of the box `b` then, and lets it go on: it
/// knows that it lost.
pub(crate) fn lose_while_stopped(journal: &Journal, a: &Outgrow, b: &Outgrow) {
    let data = a.pids().data[0];
    processes::signal(data, Signal::STOP).expect("stopped");
    let took = wait_leader(b);
    assert!(took < TTL + Duration::from_secs(1), "{took:?}");
    processes::signal(data, Signal::CONT).expect("going on");
    // The first answer after it: no moment of belief.
    assert!(!is_leader(a));
    journal.wait(a, &["gained b", "lost a"]);
}

/// Kills all processes of a box at once.
pub(crate) fn kill_whole(outgrow: &Outgrow) {
    let pids = outgrow.pids();
    processes::signal(pids.keeper, Signal::STOP).expect("stopped");
    for pid in pids.data.iter().chain([&pids.keeper]) {
        outgrow.kill9(*pid).expect("killed");
    }
}
