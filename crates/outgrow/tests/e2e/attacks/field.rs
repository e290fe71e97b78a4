//! An outgrow that is attacked, what stands behind it, and those who go on using it: what they feel,
//! and what it costs the data process.
//!
//! Not here: the attacks, and what each may cost (`mod.rs`).

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use outgrow_shop::shoppers::{Kind, Pace, Plan, Shoppers, Totals};
use outgrow_testkit::{authority::Authority, outgrow::Outgrow};

use super::Attack;
use crate::limits::{connections, peak_memory, resident_memory};
use crate::shop::{self, Beside};

/// Requests a second of those who mean well, all together.
pub(super) const RATE: f64 = 200.0;
/// Files that an attack may need open, on both sides of each connection.
const FILES: usize = 5_000;

/// How long an attack lasts, and how closely it is looked at.
pub(super) struct Form {
    /// How long each of both is measured: without the attack and with it.
    pub(super) time: Duration,
    /// How often; the medians count.
    pub(super) rounds: usize,
    /// How much longer than twice as long others may wait: a machine has latencies of its own.
    pub(super) more: Duration,
    /// Whether the time of a processor is judged: of the optimised binary only.
    pub(super) is_exact: bool,
}

/// What an attacker aims at.
pub(super) struct Target {
    pub(super) outgrow: Outgrow,
    authority: Authority,
    _shop: Beside,
}

/// When an attack is over, and how much of it is due.
pub(super) struct Watch<'w> {
    began: Instant,
    over: &'w AtomicBool,
}

/// What an attacker did, and what became of it.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    /// What the attack counts: frames, requests, connections.
    pub(super) sent: u64,
    /// Connections that were made.
    pub(super) connections: u64,
    /// What was said as connections ended or requests were refused, and how often.
    pub(super) told: BTreeMap<String, u64>,
    /// Bytes to outgrow.
    pub(super) bytes_out: u64,
    /// Bytes from outgrow.
    pub(super) bytes_in: u64,
}

/// What an attack came to.
#[derive(Debug)]
pub(super) struct Measured {
    /// The p99 of others without it.
    pub(super) alone: Duration,
    /// The p99 of others under it.
    pub(super) attacked: Duration,
    /// The most memory that the data process held beyond what it held before, in bytes.
    pub(super) memory: u64,
    /// What it used of one processor beyond what it used before, in percent.
    pub(super) processor: f64,
    pub(super) tally: Tally,
}

impl Tally {
    pub(super) fn tell(&mut self, what: impl Into<String>) {
        *self.told.entry(what.into()).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.connections += other.connections;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        for (what, count) in &other.told {
            *self.told.entry(what.clone()).or_default() += count;
        }
    }

    /// How often something was said that begins like this.
    pub(super) fn times(&self, beginning: &str) -> u64 {
        let told = self.told.iter();
        let told = told.filter(|(what, _)| what.starts_with(beginning));
        told.map(|(_, count)| count).sum()
    }
}

impl Watch<'_> {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// How many more are due when there are so many a second and `made` were made; sleeps where none
    /// is. None when the attack is over.
    pub(super) fn due(&self, per_second: f64, made: u64) -> Option<u64> {
        while !self.is_over() {
            let due = (self.began.elapsed().as_secs_f64() * per_second) as u64;
            if due > made {
                return Some(due - made);
            }
            thread::sleep(Duration::from_millis(1));
        }
        None
    }

    /// Goes on in turns of this length until it is over.
    pub(super) fn turns(&self, length: Duration, mut turn: impl FnMut(u32)) {
        for at in 0.. {
            if self.is_over() {
                return;
            }
            turn(at);
            thread::sleep(length);
        }
    }
}

/// An endpoint that costs little: takes every connection and whatever is said on it. A GET gets the
/// beginning of 20 MB, as much as fills what is between it and who does not read; all else no answer.
fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a mode");
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n".to_vec();
    answer.resize(512 * 1024, b'x');
    thread::spawn(move || {
        let mut held: Vec<TcpStream> = Vec::new();
        let mut bytes = vec![0; 256 * 1024];
        for turn in 0_u32.. {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true).expect("a mode");
                held.push(stream);
            }
            if turn % 10 == 0 {
                held.retain_mut(|stream| match stream.read(&mut bytes) {
                    Ok(read) => {
                        if bytes[..read].starts_with(b"GET ") {
                            // What is not taken is not missed.
                            let _taken = stream.write(&answer);
                        }
                        read > 0
                    }
                    Err(error) => error.kind() == ErrorKind::WouldBlock,
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
    });
    address
}

/// Answers each datagram with one of the same length, but not those that begin with `?`.
fn echoes() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = socket.local_addr().expect("an address");
    thread::spawn(move || {
        let mut bytes = [0; 65_535];
        while let Ok((length, source)) = socket.recv_from(&mut bytes) {
            if bytes[0] != b'?' {
                let _gone = socket.send_to(&bytes[..length], source);
            }
        }
    });
    address
}

/// The name of the certificate.
pub(super) const NAME: &str = "a.example";

impl Target {
    /// Everything that outgrow listens for, with the limits that it has unless told otherwise.
    pub(super) fn start() -> Self {
        connections(FILES);
        let shop = Beside::start().expect("a shop");
        let authority = Authority::new().expect("an authority");
        let issued = authority.issue(&[NAME]).expect("a certificate");
        let (certificate, key) = authority.files("a", &issued).expect("written");
        let http3 = if cfg!(feature = "http3") {
            "[listener.secure.http3]"
        } else {
            ""
        };
        let config = format!(
            r#"
[access]
to = "off"

[listener.public]
address = "%public%"

[listener.impatient]
address = "%impatient%"
timeouts.body_idle = "500ms"

[listener.secure]
address = "%secure%"
[listener.secure.tls]
certificates = [ {{ certificate = "{certificate}", key = "{key}" }} ]
{http3}

[listener.proxied]
address = "%proxied%"
proxy_protocol = "required"
trusted_proxies = ["192.0.2.0/24"]

[listener.mixed]
address = "%mixed%"
proxy_protocol = "optional"
trusted_proxies = ["192.0.2.0/24"]

[listener.believing]
address = "%believing%"
proxy_protocol = "required"
trusted_proxies = ["127.0.0.0/8"]

[tcp.passed]
address = "%passed%"
[tcp.passed.route.a]
server_name = "{NAME}"
service = "attacked"

[udp.datagrams]
address = "%datagrams%"
service = "echoes"

[service.shop]
endpoints = ["{shop}"]
max_connections = 128
[route.shop]
service = "shop"

[service.attacked]
endpoints = ["{endpoint}"]
[route.attacked]
path = "/attacked"
service = "attacked"

[service.echoes]
endpoints = ["{echoes}"]

[route.inflated]
path = "/inflated"
service = "attacked"
decompress = {{}}

[route.fixed]
path = "/fixed"
respond = {{ status = 200, body = "ok" }}
"#,
            certificate = certificate.display(),
            key = key.display(),
            shop = shop.address,
            endpoint = endpoint(),
            echoes = echoes(),
        );
        Self {
            outgrow: Outgrow::start(&config).expect("outgrow starts"),
            authority,
            _shop: shop,
        }
    }

    pub(super) fn address(&self, listener: &str) -> SocketAddr {
        self.outgrow.address(listener).expect("an address")
    }

    /// Whom the certificate of `secure` is from.
    pub(super) fn trusted(&self) -> &str {
        self.authority.certificate()
    }

    fn visit(&self, time: Duration) -> Totals {
        let plan = Plan {
            shoppers: 4,
            pace: Pace::PerSecond(RATE),
            mix: vec![(Kind::Product, 1)],
            duration: Some(time),
            ..Plan::new(self.address("public"))
        };
        Shoppers::start(plan).expect("shoppers").wait()
    }
}

/// The time that a process has used of processors, in seconds.
fn processor_seconds(pid: u32) -> f64 {
    /// What the kernel counts in for everybody (`USER_HZ`).
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // Behind the name: state, ppid, …; utime and stime are fields 14 and 15 of proc(5).
    let ticks = fields[11..13].iter().map(|field| field.parse::<f64>());
    ticks.map(|ticks| ticks.expect("a number")).sum::<f64>() / TICKS
}

/// Forgets the most memory that a process ever held.
fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("one's own process");
}

fn median<T: Copy + PartialOrd>(values: &[T]) -> T {
    let mut values = values.to_vec();
    values.sort_by(|one, other| one.partial_cmp(other).expect("numbers"));
    values[values.len() / 2]
}

/// Carries out an attack on an outgrow of its own: without and with it in turns.
pub(super) fn measure(attack: &Attack, form: &Form) -> (Target, Measured) {
    let target = Target::start();
    let pid = shop::data_pid(&target.outgrow);
    let p99 = |totals: &Totals, when: &str| {
        let all = totals.all();
        let name = attack.name;
        let complaints = totals.complaints(20);
        assert_eq!(
            (all.failed, all.truncated),
            (0, 0),
            "{name}, {when}: {complaints}"
        );
        assert!(all.ok > 50, "{name}, {when}: {} requests", all.ok);
        all.latency.quantile(0.99)
    };
    // What is allocated once is allocated before anything is measured.
    target.visit(Duration::from_millis(500));
    let before = resident_memory(pid);
    forget_peak(pid);
    let (mut alone, mut attacked, mut processor) = (Vec::new(), Vec::new(), Vec::new());
    let mut tally = Tally::default();
    for _ in 0..form.rounds {
        let used = || (processor_seconds(pid), Instant::now());
        let share = |from: (f64, Instant), to: (f64, Instant)| {
            (to.0 - from.0) / (to.1 - from.1).as_secs_f64() * 100.0
        };
        let began = used();
        alone.push(p99(&target.visit(form.time), "alone"));
        let between = used();
        let over = AtomicBool::new(false);
        let totals = thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                let watch = Watch {
                    began: Instant::now(),
                    over: &over,
                };
                (attack.run)(&target, &watch)
            });
            // The attack's beginning is the worst of it: measured from there.
            let totals = target.visit(form.time);
            over.store(true, Ordering::Relaxed);
            tally.add(&attacker.join().expect("the attacker is well"));
            totals
        });
        attacked.push(p99(&totals, "attacked"));
        processor.push(share(between, used()) - share(began, between));
        assert_eq!(
            shop::data_pid(&target.outgrow),
            pid,
            "{}: it died",
            attack.name
        );
    }
    let metrics = target
        .outgrow
        .admin_get("/metrics")
        .expect("metrics")
        .text();
    let panics = metrics
        .lines()
        .filter(|line| line.starts_with("outgrow_panics_total"));
    for panics in panics {
        assert!(panics.ends_with(" 0"), "{}: {panics}", attack.name);
    }
    let measured = Measured {
        alone: median(&alone),
        attacked: median(&attacked),
        memory: peak_memory(pid).saturating_sub(before),
        processor: median(&processor),
        tally,
    };
    (target, measured)
}
