//! Read-your-writes from one HTTP request to the next: an application with a pool of connections in
//! several instances, over a primary and two replicas that are behind.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::child::TestChild;
use outgrow_testkit::databases::{self, Server};
use outgrow_testkit::http::{self, Response};
use outgrow_testkit::outgrow::Outgrow;
use outgrow_testkit::ports;
use serde_json::Value;

use crate::shop::{SOON, try_state};

const ACCESS: &str = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust";
const APPLICATION: &str = include_str!("floors/notes.py");
/// How far replicas are behind at least.
const DELAY: &str = "5ms";

/// A primary, two replicas that are behind, and an outgrow with instances of the application.
struct World {
    outgrow: Outgrow,
    primary: Server,
    _replicas: Vec<Server>,
    config: String,
}

impl World {
    fn new(settings: &str, service: &str) -> Self {
        let primary = databases::postgres(ACCESS).expect("a primary");
        primary
            .query(
                "CREATE ROLE replicator LOGIN REPLICATION; CREATE TABLE notes (id int, text int)",
            )
            .expect("set up");
        let replicas: Vec<Server> = (0..2)
            .map(|_| primary.postgres_replica().expect("a replica"))
            .collect();
        for replica in &replicas {
            let delay = format!("ALTER SYSTEM SET recovery_min_apply_delay = '{DELAY}'");
            replica
                .query(&delay)
                .and_then(|()| replica.query("SELECT pg_reload_conf()"))
                .expect("behind");
        }
        let servers =
            [&replicas[0], &primary, &replicas[1]].map(|one| format!("\"{}\"", one.address()));
        let config = format!(
            "[listener.public]\naddress = \"%public%\"\n\
             [postgres]\nlisten = [\"%pg%\"]\nservice = \"db\"\nauth = \"any\"\npool_size = 6\n\
             reads = \"replicas\"\n[postgres.replicas]\nwait = \"200ms\"\n{settings}\n\
             [service.db]\nendpoints = [{}]\n\
             [service.notes]\n{service}\n[service.notes.check]\npath = \"/\"\ninterval = \"500ms\"\n\
             fast_interval = \"50ms\"\n\
             [route.notes]\nservice = \"notes\"\n",
            servers.join(", "),
        );
        let outgrow = Outgrow::start(&config).expect("outgrow starts");
        Self {
            outgrow,
            primary,
            _replicas: replicas,
            config,
        }
    }

    /// With so many instances that outgrow runs.
    fn supervised(instances: usize, settings: &str) -> Self {
        let service = format!(
            "command = {}\ninstances = {instances}\nenvironment = {{ DB = \"%pg%\" }}",
            command()
        );
        let world = Self::new(settings, &service);
        world.wait_ready();
        world
    }

    fn wait_ready(&self) {
        let is_ready = |outgrow: &Outgrow| outgrow.is_ready().then_some(());
        self.outgrow
            .wait("the instances", SOON, is_ready)
            .expect("ready");
        self.wait_reads();
    }

    /// Until so many reads in a row as there are connections went to replicas.
    fn wait_reads(&self) {
        const ROUND: u64 = 24;
        let end = Instant::now() + SOON;
        loop {
            let before = self.count("on_replicas");
            for _ in 0..ROUND {
                self.request("GET", "/last?user=0", None);
            }
            if self.count("on_replicas") >= before + ROUND {
                return;
            }
            assert!(
                Instant::now() < end,
                "reads stay away from replicas: {}",
                self.state()
            );
        }
    }

    fn state(&self) -> Value {
        try_state(&self.outgrow).unwrap_or_default()["postgres"].clone()
    }

    /// What is counted of all pools.
    fn count(&self, key: &str) -> u64 {
        let state = self.state();
        let pools = state["pools"].as_array().cloned().unwrap_or_default();
        pools.iter().filter_map(|pool| pool[key].as_u64()).sum()
    }

    fn request(&self, method: &str, path: &str, cookie: Option<&str>) -> Response {
        let cookie = cookie.map(|cookie| ("Cookie", cookie));
        let fields: Vec<_> = cookie.into_iter().collect();
        let url = self.outgrow.url("public", path);
        let response = http::request(method, &url, &fields, &[]).expect("an answer");
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response
    }

    fn tickets(&self, result: &str) -> u64 {
        let metrics = self.outgrow.admin_get("/metrics").expect("metrics").text();
        let name = format!("outgrow_floor_tickets_total{{result=\"{result}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.and_then(|number| number.trim().parse().ok())
            .unwrap_or(0)
    }
}

fn command() -> String {
    format!("[\"python3\", \"-c\", '''{APPLICATION}''']")
}

/// A user with a jar for one cookie.
#[derive(Default)]
struct User {
    cookie: Option<String>,
}

impl User {
    fn ask(&mut self, world: &World, method: &str, path: &str) -> Response {
        let response = world.request(method, path, self.cookie.as_deref());
        if let Some(cookie) = cookie_of(&response) {
            self.cookie = Some(cookie);
        }
        response
    }
}

fn cookie_of(response: &Response) -> Option<String> {
    let fields = response.headers.iter();
    let mut cookies = fields.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    let (_, cookie) = cookies.find(|(_, value)| value.starts_with("outgrow_floor="))?;
    Some(cookie.split(';').next()?.to_owned())
}

#[test]
fn users_see_what_they_wrote_at_whichever_instance() {
    const USERS: usize = 6;
    const ROUNDS: usize = 25;
    let world = World::supervised(3, "");
    let (stale, reads) = (AtomicU64::new(0), AtomicU64::new(0));
    let check = |seen: &str, number: usize, what: &str| {
        reads.fetch_add(1, Ordering::SeqCst);
        if seen != number.to_string() {
            stale.fetch_add(1, Ordering::SeqCst);
            eprintln!("{what}: {seen} instead of {number}");
        }
    };
    let on_replicas = world.count("on_replicas");
    thread::scope(|scope| {
        for id in 1..=USERS {
            let (world, check) = (&world, &check);
            scope.spawn(move || {
                let mut user = User::default();
                for round in 0..ROUNDS {
                    let number = 10 * round + 1;
                    let read = format!("/last?user={id}");
                    // Over several connections in one request; then at other instances.
                    let wrote = user.ask(world, "POST", &format!("/note?user={id}&n={number}"));
                    check(&wrote.text(), number, "in the request that wrote");
                    for _ in 0..4 {
                        check(
                            &user.ask(world, "GET", &read).text(),
                            number,
                            "after a POST",
                        );
                    }
                    let number = number + 1;
                    user.ask(world, "GET", &format!("/touch?user={id}&n={number}"));
                    for _ in 0..4 {
                        check(&user.ask(world, "GET", &read).text(), number, "after a GET");
                    }
                    let number = number + 1;
                    user.ask(world, "POST", &format!("/later?user={id}&n={number}"));
                    wait_written(world, id, number);
                    check(
                        &user.ask(world, "GET", &read).text(),
                        number,
                        "after the response",
                    );
                }
            });
        }
    });
    for _ in 0..12 {
        assert_eq!(world.request("GET", "/lost", None).text(), "");
    }
    let (stale, reads) = (stale.into_inner(), reads.into_inner());
    let served = world.count("on_replicas") - on_replicas;
    // Those of the work after responses as well.
    let reads = reads + (USERS * ROUNDS) as u64;
    println!(
        "{stale} stale of {reads} reads, {served} on replicas, {} behind, {} unplaced, {} tickets",
        world.count("kept_from_replicas"),
        world.count("reads_unplaced"),
        world.tickets("given")
    );
    assert_eq!(stale, 0, "stale reads");
    assert!(
        served * 10 > reads * 9,
        "{served} of {reads} reads on replicas"
    );
    world.outgrow.stop().expect("everything has ended");
}

/// Until the primary has it: what nobody has written yet nobody can miss.
fn wait_written(world: &World, user: usize, number: usize) {
    let question = format!(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM notes WHERE id = {user} AND text = {number}) \
         THEN RAISE 'not yet'; END IF; END $$"
    );
    let end = Instant::now() + SOON;
    while world.primary.query(&question).is_err() {
        assert!(
            Instant::now() < end,
            "nothing is written after the response"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// What psql answers over the pool.
fn psql(world: &World, user: &str, sql: &str) -> String {
    let address = world.outgrow.address("pg").expect("it listens");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let output = Command::new("psql")
        .args(["--no-psqlrc", "-Atq", "-U", user, "-d", "postgres"])
        .args(["-h", &host, "-p", &port, "-c", sql, "-c", sql])
        .output()
        .expect("psql");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn tickets_are_given_and_taken_for_what_they_are() {
    let world = World::supervised(1, "");
    // Who has written nothing gets none.
    assert_eq!(cookie_of(&world.request("GET", "/last?user=1", None)), None);
    let wrote = world.request("POST", "/note?user=1&n=1", None);
    let field = wrote
        .header("Outgrow-Floor")
        .expect("the ticket as a field");
    let cookie = cookie_of(&wrote).expect("the ticket as a cookie");
    assert_eq!(cookie, format!("outgrow_floor={field}"));
    assert!(cookie_of(&world.request("GET", "/touch?user=1&n=2", None)).is_some());
    // What everybody may cache holds nobody's cookie.
    assert_eq!(cookie_of(&world.request("GET", "/public", None)), None);
    let read = |cookie: &str| {
        let response = world.request("GET", "/last?user=1", Some(cookie));
        assert_eq!(
            (response.text().as_str(), cookie_of(&response)),
            ("2", None)
        );
        world.tickets("refused")
    };
    assert_eq!(read(&cookie), 0);
    assert_eq!(read("outgrow_floor=made-up"), 1);
    let forged = cookie.replace("outgrow_floor=A", "outgrow_floor=B");
    assert_ne!(forged, cookie);
    assert_eq!(read(&forged), 2);
    world.outgrow.stop().expect("everything has ended");
}

#[test]
fn tickets_outlive_reloads_and_data_processes() {
    let mut world = World::supervised(2, "");
    let mut user = User::default();
    user.ask(&world, "POST", "/note?user=1&n=1");
    let before = user.cookie.clone().expect("a ticket");
    let config = world.config.replace("wait = \"200ms\"", "wait = \"250ms\"");
    world.outgrow.reload(&config).expect("a reload");
    world.request("GET", "/last?user=1", Some(&before));
    assert_eq!(world.tickets("refused"), 0);
    let data = world.outgrow.pids().data[0];
    world.outgrow.kill9(data).expect("it was there");
    let is_back = |outgrow: &Outgrow| {
        let is_another = outgrow.pids().data.first().is_some_and(|pid| *pid != data);
        (is_another && outgrow.is_ready()).then_some(())
    };
    world
        .outgrow
        .wait("the next data process", SOON, is_back)
        .expect("it serves");
    // The connections of the pool ended with it, and the application makes new ones.
    world.wait_reads();
    world.request("GET", "/last?user=1", Some(&before));
    assert_eq!(world.tickets("refused"), 0);
    let wrote = user.ask(&world, "POST", "/note?user=1&n=2");
    assert_eq!(wrote.text(), "2");
    assert_eq!(user.ask(&world, "GET", "/last?user=1").text(), "2");
    world.outgrow.stop().expect("everything has ended");
}

#[test]
fn who_is_no_instance_reads_from_the_primary_and_is_told() {
    const READ: &str = "SELECT count(*) FROM notes";
    let settings = "[postgres.user.reports]\nreads_your_writes = \"session\"";
    let mut world = World::supervised(1, settings);
    world
        .primary
        .query("CREATE ROLE reports LOGIN SUPERUSER")
        .expect("a role");
    let (before, served) = (world.count("reads_unplaced"), world.count("on_replicas"));
    psql(&world, "postgres", READ);
    assert_eq!(world.count("reads_unplaced"), before + 2);
    assert_eq!(world.count("on_replicas"), served);
    let metrics = world.outgrow.admin_get("/metrics").expect("metrics").text();
    assert!(metrics.contains("reason=\"unplaced\""), "{metrics}");
    // While it is there it is told who it is.
    let address = world.outgrow.address("pg").expect("it listens");
    let url = format!("postgresql://postgres@{address}/postgres");
    let session = TestChild::start(
        Command::new("psql")
            .args(["--no-psqlrc", "-Atq", &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::null()),
    )
    .expect("psql");
    let is_told = |_: &Outgrow| {
        let told = world.state()["unplaced"].as_array().cloned()?;
        let is_it = |one: &Value| {
            one["application"] == "psql" && one["reason"] == "its process is no instance"
        };
        told.iter().any(is_it).then_some(())
    };
    world
        .outgrow
        .wait("the client", SOON, is_told)
        .expect("told");
    drop(session);
    // A user of whom it is said that it serves no requests.
    let end = Instant::now() + SOON;
    let served = world.count("on_replicas");
    while world.count("on_replicas") == served {
        assert!(
            Instant::now() < end,
            "reports stay away from replicas: {}",
            world.state()
        );
        psql(&world, "reports", READ);
    }
    // Without all that users miss what they wrote: so the other tests can fail.
    let config = world
        .config
        .replace("wait = ", "reads_your_writes = \"session\"\nwait = ");
    world.outgrow.reload(&config).expect("a reload");
    let missed = |number: &usize| {
        let wrote = world.request("POST", &format!("/note?user=5&n={number}"), None);
        assert_eq!(cookie_of(&wrote), None);
        wrote.text() != number.to_string()
    };
    assert!(
        (1..=50).any(|number| missed(&number)),
        "replicas that are never behind"
    );
}

#[test]
fn instances_that_run_beside_are_found_by_their_port() {
    let port = ports::free(1).expect("a port")[0].port();
    let service = format!("endpoints = [\"127.0.0.1:{port}\"]");
    let world = World::new("", &service);
    let address = world.outgrow.address("pg").expect("it listens");
    let mut beside = Command::new("python3");
    beside
        .args(["-c", APPLICATION])
        .env("DB", address.to_string())
        .env("PORT", port.to_string());
    let _beside = TestChild::start(&mut beside).expect("python3");
    let end = Instant::now() + SOON;
    let is_up = || http::get(&world.outgrow.url("public", "/")).is_ok_and(|one| one.status == 200);
    while !is_up() {
        assert!(Instant::now() < end, "the application does not answer");
        thread::sleep(Duration::from_millis(50));
    }
    world.wait_reads();
    let before = world.count("reads_unplaced");
    let mut user = User::default();
    for number in 1..=20 {
        let wrote = user.ask(&world, "POST", &format!("/note?user=1&n={number}"));
        assert_eq!(wrote.text(), number.to_string());
        assert_eq!(
            user.ask(&world, "GET", "/last?user=1").text(),
            number.to_string()
        );
    }
    assert_eq!(world.count("reads_unplaced"), before);
}
