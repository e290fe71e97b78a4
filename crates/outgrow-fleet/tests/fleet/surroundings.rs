//! What surrounds the keeper: whoever wants to be told how it is (sd_notify),
//! and whoever passes it sockets (socket activation). Played by the test, over
//! real sockets; a real systemd needs a machine of its own.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;

use crate::house::{House, LIMIT, ask, environment};

/// Who is told.
struct Told {
    socket: UnixDatagram,
    name: String,
}

impl Told {
    fn new() -> Self {
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let name = format!("outgrow-told-{}-{}", std::process::id(), nanos.as_nanos());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let name = format!("@{name}");
        Self { socket, name }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("it is told in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// The next one that begins so; what comes before it comes back too.
    fn wait(&self, beginning: &str) -> (String, Vec<String>) {
        let until = Instant::now() + LIMIT;
        let mut before = Vec::new();
        loop {
            assert!(
                Instant::now() < until,
                "`{beginning}` never came: {before:?}"
            );
            let text = self.next();
            if text.starts_with(beginning) {
                return (text, before);
            }
            before.push(text);
        }
    }
}

#[test]
fn whoever_has_started_it_is_told_how_it_is() {
    let told = Told::new();
    let environment_of_it = [("NOTIFY_SOCKET", told.name.as_str())];
    let mut house = House::start_with(&[], &environment_of_it);
    let (mut data, _) = house.data();
    let (status, before) = told.wait("STATUS=Starting");
    assert!(before.is_empty(), "{before:?} before {status}");
    data.ready();
    let (_, before) = told.wait("READY=1");
    assert!(before.is_empty(), "{before:?}");
    told.wait("STATUS=Serving; data process 1; 0 of 0 instances run");
    let instance = data.start(1, &json!("exec sleep 1000"));
    told.wait("STATUS=Serving; data process 1; 1 of 1 instances run");
    for pid in [data.pid, instance.shim(), instance.pid()] {
        assert!(!environment(pid).contains_key("NOTIFY_SOCKET"), "{pid}");
    }
    // A reload begins and ends; READY comes when it is over.
    house.signal(Signal::HUP);
    let number = data.wait("reload")["number"].clone();
    told.wait("RELOADING=1\nMONOTONIC_USEC=");
    told.wait("STATUS=Reloading");
    data.tell(
        &json!({"type": "reloaded", "number": number, "ok": false, "message": "no such\nkey"}),
    );
    let (_, before) = told.wait("READY=1");
    assert!(before.is_empty(), "{before:?}");
    let (status, _) = told.wait("STATUS=Serving what was in force");
    assert!(status.ends_with(": no such"), "{status}");
    // One of somebody else's ends nothing that the keeper asked for.
    house.signal(Signal::HUP);
    told.wait("RELOADING=1");
    data.tell(&json!({"type": "reloaded", "number": 0, "ok": true, "message": ""}));
    data.tell(&json!({"type": "keep", "key": "k", "value": 1}));
    data.tell(&json!({"type": "reloaded", "number": 2, "ok": true, "message": ""}));
    told.wait("READY=1");
    told.wait("STATUS=Serving; data process 1");
    // The keeper that was upgraded goes on telling, under the same pid.
    house.signal(Signal::USR2);
    let (mut new, _) = house.serving();
    data.wait("drain");
    house.line_with("the keeper is of version");
    told.wait("STATUS=Serving; data process 2, 1 before it drain");
    data.exit(0);
    told.wait("STATUS=Serving; data process 2; 1 of 1");
    assert_eq!(house.stop(&mut new), Some(0));
    told.wait("STOPPING=1");
    let (time, _) = told.wait("EXTEND_TIMEOUT_USEC=");
    let microseconds: u64 = time.split_once('=').unwrap().1.parse().unwrap();
    // The drain's 30 s, and what instances and shims may take.
    assert!(microseconds > 30_000_000, "{time}");
    house.nothing_left();
}

#[test]
fn a_death_ends_a_reload_and_a_watchdog_sees_life() {
    let told = Told::new();
    let environment_of_it = [
        ("NOTIFY_SOCKET", told.name.as_str()),
        ("WATCHDOG_USEC", "200000"),
    ];
    let mut house = House::start_with(&[], &environment_of_it);
    let (data, _) = house.serving();
    told.wait("READY=1");
    house.signal(Signal::HUP);
    told.wait("RELOADING=1");
    crate::house::kill(data.pid, Signal::KILL);
    // The next one has read the configuration as it is.
    let (mut next, _) = house.serving();
    told.wait("READY=1");
    for _ in 0..3 {
        told.wait("WATCHDOG=1");
    }
    assert!(!environment(next.pid).contains_key("WATCHDOG_USEC"));
    assert_eq!(house.stop(&mut next), Some(0));
}

/// Passes two sockets as systemd does, says where they are, and becomes what the
/// arguments say.
const PASS: &str = r"
import fcntl, os, socket, sys
high = []
for _ in range(3):
    one = socket.socket()
    one.bind(('127.0.0.1', 0))
    one.listen()
    print('passed 127.0.0.1:%d' % one.getsockname()[1], flush=True)
    high.append(fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 100))
    one.detach()
for number, one in enumerate(high):
    os.dup2(one, 3 + number, inheritable=True)
os.closerange(6, 200)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='3', LISTEN_FDNAMES='a:named:c')
os.execvp(sys.argv[1], sys.argv[1:])
";

#[test]
fn passed_sockets_are_used_by_address_and_by_name_and_stay() {
    let mut house = House::start_with(&["python3", "-c", PASS], &[]);
    let passed = || house.line(|line| line.strip_prefix("passed ").map(str::to_owned));
    let (first, second, third) = (passed(), passed(), passed());
    let (mut data, _) = house.data();
    // One socket is one, however many were asked for.
    assert_eq!(data.bind(&first, 2), first);
    let by_name = json!({"type": "bind", "key": "other", "name": "named",
        "address": "127.0.0.1:1", "sockets": 2});
    data.tell(&by_name);
    let bound = data.wait("bound");
    assert_eq!(bound["address"], second.as_str());
    assert_eq!(bound["descriptors"], 1);
    data.ready();
    let unused = house.line_with("was passed to outgrow and no listener");
    assert!(
        unused.contains(&third) && unused.contains("(c)"),
        "{unused}"
    );
    data.serve();
    assert_eq!(ask(&first), "generation 1\n");
    assert_eq!(ask(&second), "generation 1\n");
    let instance = data.start(1, &json!("exec sleep 1000"));
    for pid in [data.pid, instance.pid()] {
        let variables = environment(pid);
        assert!(!variables.keys().any(|name| name.starts_with("LISTEN_")));
    }
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", instance.pid())).unwrap();
    for descriptor in descriptors.flatten() {
        let what = std::fs::read_link(descriptor.path()).unwrap();
        assert!(
            !what.starts_with("socket:"),
            "inherited: {}",
            what.display()
        );
    }
    // Over an upgrade, and given back and wanted again after it.
    house.signal(Signal::USR2);
    let (mut new, hello) = house.serving();
    assert_eq!(hello["descriptors"], 2);
    data.wait("drain");
    data.exit(0);
    house.line_with("the keeper is of version");
    new.tell(&json!({"type": "release", "key": "other"}));
    new.tell(&by_name);
    assert_eq!(new.wait("bound")["address"], second.as_str());
    new.serve();
    assert_eq!(ask(&first), "generation 2\n");
    assert_eq!(ask(&second), "generation 2\n");
    assert_eq!(house.stop(&mut new), Some(0));
    house.nothing_left();
}

#[test]
fn what_is_no_socket_is_refused_with_what_to_do() {
    let pass = "import os, sys\n\
        os.dup2(os.open('/dev/null', os.O_RDONLY), 3, inheritable=True)\n\
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n\
        os.execvp(sys.argv[1], sys.argv[1:])";
    let mut house = House::start_with(&["python3", "-c", pass], &[]);
    house.line_with("is no socket that listens: Accept=no");
    assert_eq!(house.end().code(), Some(70));
}
