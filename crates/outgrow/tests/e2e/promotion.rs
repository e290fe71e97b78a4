//! A primary that is gone, frozen, out of our reach or to be another one, with two replicas: what is
//! promoted, what is not, and what it costs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::databases::{self, Server};
use outgrow_testkit::faults::{Fault, Proxy};
use outgrow_testkit::outgrow::{Outgrow, binary};
use serde_json::Value;

use crate::replicas::{ACCESS, Session, at, wait_roles, write_until};
use crate::shop::{SOON, try_state};

const USERS: usize = 4;
/// Who promotes, with the least that it needs.
const SET_UP: &str = "CREATE ROLE replicator LOGIN REPLICATION; CREATE ROLE outgrow LOGIN; \
    GRANT pg_monitor, pg_checkpoint TO outgrow; \
    GRANT EXECUTE ON FUNCTION pg_promote TO outgrow; CREATE TABLE notes (id int, text int)";

/// A fence for a primary that is down already.
const ECHO: &str = "echo fenced $OUTGROW_ADDRESS for $OUTGROW_SERVICE";

/// A primary and two replicas.
struct Cluster {
    primary: Server,
    replicas: [Server; 2],
}

impl Cluster {
    fn new(settings: &[&str]) -> Self {
        let primary = databases::postgres_with(ACCESS, settings).expect("a primary");
        for statement in SET_UP.split("; ") {
            primary.query(statement).expect("set up");
        }
        let replicas = [(); 2].map(|()| primary.postgres_replica().expect("a replica"));
        Self { primary, replicas }
    }

    /// Commits wait for one of the replicas.
    fn synchronous(self) -> Self {
        for statement in [
            "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'",
            "SELECT pg_reload_conf()",
        ] {
            self.primary.query(statement).expect("synchronous");
        }
        self
    }

    /// An outgrow before them, once it knows who is what. The primary is reached at `first`.
    fn outgrow(&self, first: SocketAddr, promote: &str) -> Outgrow {
        let [one, other] = &self.replicas;
        let config = format!(
            "[postgres]\nlisten = [\"%pg%\"]\nservice = \"db\"\nauth = \"any\"\npool_size = 4\n\
             [service.db]\nendpoints = [\"{first}\", \"{}\", \"{}\"]\n[service.db.promote]\n\
             user = \"outgrow\"\nafter = \"1s\"\n{promote}\n",
            one.address(),
            other.address()
        );
        let outgrow = Outgrow::start(&config).expect("outgrow starts");
        wait_roles(&outgrow, &["primary", "replica", "replica"]);
        outgrow
    }

    /// A command that stops the primary in order, and ends when it is down.
    fn stop(&self) -> String {
        let (pid, file) = (
            self.primary.pid(),
            self.primary.data().join("postmaster.pid"),
        );
        let file = file.display();
        format!(
            "echo fenced $OUTGROW_ADDRESS for $OUTGROW_SERVICE; kill -INT {pid}; \
             while [ -e {file} ]; do sleep 0.02; done"
        )
    }

    /// One that takes its power.
    fn kill_command(&self) -> String {
        let pid = self.primary.pid();
        format!("echo fenced $OUTGROW_ADDRESS for $OUTGROW_SERVICE; kill -9 {pid}")
    }

    /// Whether a replica is none any more.
    fn is_promoted(&self) -> bool {
        self.replicas.iter().any(|replica| {
            let told = Session::new(replica.address()).ask("SELECT pg_is_in_recovery()");
            told == Some(vec!["f".to_owned()])
        })
    }
}

fn told(outgrow: &Outgrow) -> Option<Value> {
    try_state(outgrow)?["postgres"]["promotions"]
        .as_array()?
        .first()
        .cloned()
}

/// Waits until something is told of it.
fn wait_told(outgrow: &Outgrow, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let wait = |outgrow: &Outgrow| told(outgrow).filter(|told| is_it(told));
    let waited = outgrow.wait(what, SOON * 2, wait);
    waited.unwrap_or_else(|problem| panic!("{problem}: {:?}\n{}", told(outgrow), outgrow.stderr()))
}

fn problem_says(told: &Value, words: &str) -> bool {
    told["problem"]
        .as_str()
        .is_some_and(|problem| problem.contains(words))
}

fn promote(outgrow: &Outgrow, arguments: &[&str]) -> Output {
    let admin = outgrow.address("admin").expect("it has one");
    Command::new(binary().expect("a binary"))
        .args(["postgres", "promote", "--timeout", "60", "--admin"])
        .arg(admin.to_string())
        .args(arguments)
        .output()
        .expect("it runs")
}

fn text(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    [String::from_utf8_lossy(out), String::from_utf8_lossy(error)].concat()
}

/// Writes by several users while something happens: what was acknowledged, the longest time that one
/// of them could not write, the sessions that were lost.
fn under_load(outgrow: &Outgrow, happens: impl FnOnce()) -> (BTreeSet<String>, Duration, usize) {
    let (address, is_over) = (at(outgrow), AtomicBool::new(false));
    thread::scope(|scope| {
        let is_over = &is_over;
        let write = |user| scope.spawn(move || write_until(is_over, address, user));
        let users: Vec<_> = (0..USERS).map(write).collect();
        happens();
        is_over.store(true, Ordering::SeqCst);
        let mut all = (BTreeSet::new(), Duration::ZERO, 0);
        for user in users {
            let (acknowledged, worst, lost) = user.join().expect("a user");
            all.0.extend(acknowledged);
            all.1 = all.1.max(worst);
            all.2 += lost;
        }
        all
    })
}

fn assert_all_there(outgrow: &Outgrow, acknowledged: &BTreeSet<String>) {
    let rows = Session::new(at(outgrow)).ask("SELECT id || ' ' || text FROM notes");
    let there: BTreeSet<String> = rows.expect("the new primary").into_iter().collect();
    let missing: Vec<_> = acknowledged.difference(&there).collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    assert!(acknowledged.len() > 50, "{} writes", acknowledged.len());
}

#[test]
fn a_primary_that_is_killed_is_fenced_and_replaced_and_nothing_is_lost() {
    let mut cluster = Cluster::new(&[]).synchronous();
    let more = format!("mode = \"automatic\"\nfence = '{ECHO}'");
    let outgrow = cluster.outgrow(cluster.primary.address(), &more);
    let old = cluster.primary.address();
    let (acknowledged, worst, lost) = under_load(&outgrow, || {
        thread::sleep(Duration::from_secs(1));
        cluster.primary.kill();
        wait_told(&outgrow, "a new primary", |told| told["done"] == 1);
        thread::sleep(Duration::from_secs(2));
    });
    eprintln!(
        "promoted: the longest time without a write was {worst:?}, {lost} sessions were lost"
    );
    assert_all_there(&outgrow, &acknowledged);
    assert!(
        lost <= USERS,
        "{lost} sessions ended, more than were under way"
    );
    // `after` is one second; the rest is for the machine to say.
    assert!(worst < SOON, "{worst:?} without a write");
    let log = outgrow.stderr();
    assert!(log.contains(&format!("fenced {old} for db")), "{log}");
    let told = told(&outgrow).expect("told");
    assert_eq!(
        (&told["failed"], &told["problem"]),
        (&0.into(), &Value::Null),
        "{told}"
    );
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    let line = "outgrow_postgres_promotions_total{service=\"db\",result=\"done\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn a_fence_that_fails_keeps_everything_as_it_is_until_somebody_decides() {
    let mut cluster = Cluster::new(&[]);
    let more = "mode = \"automatic\"\nfence = \"echo no power switch; exit 3\"";
    let outgrow = cluster.outgrow(cluster.primary.address(), more);
    cluster.primary.kill();
    let told = wait_told(&outgrow, "the fence fails", |told| {
        problem_says(
            told,
            "could not be fenced (the command failed: exit status: 3)",
        )
    });
    assert!(
        told["next_step"]
            .as_str()
            .is_some_and(|step| step.contains("--force-without-fence"))
    );
    assert!(
        outgrow
            .stderr()
            .contains("promotion: db: fence: no power switch")
    );
    assert!(!cluster.is_promoted(), "without the fence");
    let findings = Command::new(binary().expect("a binary"))
        .args(["postgres", "findings", "--admin"])
        .arg(outgrow.address("admin").expect("one").to_string())
        .output()
        .expect("it runs");
    assert!(
        text(&findings).contains("promotion_stuck"),
        "{}",
        text(&findings)
    );
    // It is tried again, and asked for it fails as well.
    wait_told(&outgrow, "it is tried again", |told| {
        told["failed"].as_u64() >= Some(2)
    });
    let asked = promote(&outgrow, &[]);
    assert!(!asked.status.success(), "{}", text(&asked));
    assert!(!cluster.is_promoted(), "without the fence");
    let dry = promote(&outgrow, &["--dry-run", "--force-without-fence"]);
    assert!(text(&dry).contains("would be promoted"), "{}", text(&dry));
    assert!(!cluster.is_promoted(), "by telling what would be done");
    let forced = promote(&outgrow, &["db", "--force-without-fence"]);
    assert!(
        forced.status.success(),
        "{}\n{}",
        text(&forced),
        outgrow.stderr()
    );
    let mut session = Session::new(at(&outgrow));
    let written = session.ask("INSERT INTO notes VALUES (1, 1) RETURNING 'done'");
    assert_eq!(written, Some(vec!["done".to_owned()]));
}

#[test]
fn a_primary_that_only_we_do_not_reach_stays() {
    let cluster = Cluster::new(&[]);
    let proxy = Proxy::start(cluster.primary.address()).expect("a proxy");
    let more = format!("mode = \"automatic\"\nfence = '{ECHO}'");
    let outgrow = cluster.outgrow(proxy.address(), &more);
    for fault in [Fault::Reset, Fault::Stall] {
        proxy.set(fault).expect("it is set");
        let end = Instant::now() + Duration::from_secs(6);
        wait_told(&outgrow, "the replicas hear it", |told| {
            problem_says(told, "hears it")
        });
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(200));
            assert_eq!(
                told(&outgrow).map(|told| told["begun"].clone()),
                Some(0.into())
            );
        }
        assert!(!cluster.is_promoted() && !outgrow.stderr().contains("fencing"));
        proxy.set(Fault::None).expect("it is set");
        let mut session = Session::new(at(&outgrow));
        let written = session.ask("INSERT INTO notes VALUES (1, 1) RETURNING 'done'");
        assert_eq!(written, Some(vec!["done".to_owned()]));
        wait_told(&outgrow, "it is well again", |told| {
            told["problem"].is_null()
        });
    }
}

#[test]
fn a_primary_that_is_frozen_is_replaced_when_the_replicas_know() {
    let cluster = Cluster::new(&["wal_receiver_timeout=3s"]);
    let more = format!(
        "mode = \"automatic\"\nfence = '{}'\ncommand = '''\n\
         echo $OUTGROW_ADDRESS for $OUTGROW_OLD_ADDRESS on $OUTGROW_OLD_TIMELINE\n\
         psql -U postgres -h $OUTGROW_HOST -p $OUTGROW_PORT -c 'SELECT pg_promote()' '''",
        cluster.kill_command()
    );
    let outgrow = cluster.outgrow(cluster.primary.address(), &more);
    let frozen = Frozen::new(&cluster.primary);
    let began = Instant::now();
    wait_told(&outgrow, "a new primary", |told| told["done"] == 1);
    eprintln!("frozen: replaced after {:?}", began.elapsed());
    let log = outgrow.stderr();
    let told = format!("for {} on 1", cluster.primary.address());
    assert!(
        log.contains(&told) && log.contains("command has run"),
        "{log}"
    );
    let mut session = Session::new(at(&outgrow));
    let written = session.ask("INSERT INTO notes VALUES (1, 1) RETURNING 'done'");
    assert_eq!(written, Some(vec!["done".to_owned()]));
    drop(frozen);
}

/// All processes of a server, stopped. Killed on drop: whoever ends the first of them alone leaves
/// the others behind, which cannot notice.
struct Frozen(Vec<String>);

impl Frozen {
    fn new(server: &Server) -> Self {
        server.suspend(true).expect("it stops");
        let mut command = Command::new("pgrep");
        let output = command.args(["-P", &server.pid().to_string()]).output();
        let output = output.expect("pgrep").stdout;
        let output = String::from_utf8_lossy(&output);
        let frozen = Self(output.lines().map(str::to_owned).collect());
        frozen.signal("-STOP");
        frozen
    }

    fn signal(&self, signal: &str) {
        // One that has ended by itself is no failure.
        let _ended = Command::new("kill").arg(signal).args(&self.0).status();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal("-KILL");
    }
}

#[test]
fn a_switchover_under_load_fails_no_statement_and_loses_nothing() {
    let cluster = Cluster::new(&[]);
    let more = format!("fence = '{}'", cluster.stop());
    let outgrow = cluster.outgrow(cluster.primary.address(), &more);
    let to = cluster.replicas[1].address().to_string();
    let dry = promote(&outgrow, &["--to", &to, "--dry-run"]);
    assert!(
        text(&dry).contains(&format!("{to} would be promoted")),
        "{}",
        text(&dry)
    );
    assert!(
        text(&dry).contains("the fence command runs"),
        "{}",
        text(&dry)
    );
    let refused = promote(&outgrow, &["--to", &cluster.primary.address().to_string()]);
    assert!(
        text(&refused).contains("is the primary"),
        "{}",
        text(&refused)
    );
    let (acknowledged, worst, lost) = under_load(&outgrow, || {
        thread::sleep(Duration::from_secs(1));
        let done = promote(&outgrow, &["--to", &to]);
        assert!(
            done.status.success(),
            "{}\n{}",
            text(&done),
            outgrow.stderr()
        );
        assert!(
            text(&done).contains(&format!("{to} (timeline 2) is the primary")),
            "{}",
            text(&done)
        );
        thread::sleep(Duration::from_secs(2));
    });
    eprintln!("switched over: the longest time without a write was {worst:?}, {lost} failed");
    assert_eq!(lost, 0, "statements failed");
    assert_all_there(&outgrow, &acknowledged);
    wait_roles(&outgrow, &["fenced", "replica", "primary"]);
}

#[test]
fn a_transaction_that_stays_open_keeps_a_switchover_from_happening() {
    let cluster = Cluster::new(&[]);
    let more = format!("hold = \"2s\"\nfence = '{}'", cluster.stop());
    let outgrow = cluster.outgrow(cluster.primary.address(), &more);
    let mut session = Session::new(at(&outgrow));
    session.ask("BEGIN").expect("it begins");
    session
        .ask("INSERT INTO notes VALUES (1, 1)")
        .expect("a row");
    let asked = promote(&outgrow, &[]);
    assert!(!asked.status.success(), "{}", text(&asked));
    assert!(text(&asked).contains("still open"), "{}", text(&asked));
    assert!(!cluster.is_promoted());
    assert_eq!(session.ask("COMMIT"), Some(Vec::new()));
    let count = Session::new(at(&outgrow)).ask("SELECT count(*) FROM notes");
    assert_eq!(count, Some(vec!["1".to_owned()]), "queries go on");
}

#[test]
fn without_the_lease_nothing_is_done() {
    let mut cluster = Cluster::new(&[]);
    let more =
        format!("mode = \"automatic\"\nfence = '{ECHO}'\n[leader.redis]\nserver = \"127.0.0.1:1\"");
    let outgrow = cluster.outgrow(cluster.primary.address(), &more);
    cluster.primary.kill();
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(200));
        let begun = told(&outgrow).map(|told| told["begun"].clone());
        assert_eq!(begun, Some(0.into()));
    }
    let asked = promote(&outgrow, &[]);
    assert!(
        text(&asked).contains("does not hold the leader lease"),
        "{}",
        text(&asked)
    );
    assert!(!cluster.is_promoted());
}

#[test]
fn a_data_process_that_dies_on_the_way_is_followed_by_one_that_knows_the_primary() {
    let mut cluster = Cluster::new(&[]);
    let more = "mode = \"automatic\"\nfence = \"echo begins; sleep 2; echo is over\"";
    let outgrow = cluster.outgrow(cluster.primary.address(), more);
    // The keeper is told how far the primary is once a second.
    thread::sleep(Duration::from_secs(2));
    cluster.primary.kill();
    outgrow.wait_told("fence: begins").expect("it is fenced");
    let first = outgrow.pids().data[0];
    outgrow.kill9(first).expect("it dies");
    let told = wait_told(&outgrow, "the next one promotes", |told| told["done"] == 1);
    let old = cluster.primary.address().to_string();
    let text = told["last"]["text"].as_str().unwrap_or_default();
    assert!(
        text.contains(&format!("in place of {old} (timeline 1)")),
        "{told}"
    );
    let log = outgrow.stderr();
    assert_eq!(log.matches("fence: begins").count(), 2, "{log}");
    assert_eq!(
        log.matches("fence: is over").count(),
        1,
        "the first is ended: {log}"
    );
    assert_ne!(outgrow.pids().data[0], first);
}
