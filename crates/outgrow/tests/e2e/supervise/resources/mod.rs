//! Limits of instances by the machine's real control groups (they are version 1 where these tests are
//! run; version 2 is tested in `outgrow-fleet`), the number of their workers, and what is told of
//! what the machine has left.
//!
//! These tests fail where control groups cannot be written; `cargo xtask test` says so beforehand.

mod lives;
mod refused;
mod told;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use outgrow_testkit::{folder::Folder, http, outgrow::Outgrow, processes, wait};
use serde_json::Value;

use super::config;
use crate::shop::{SOON, instances, wait_ready};

/// An application that uses what it is told to: `/burn` keeps two processes busy for ever, `/eat`
/// takes 100 MiB for ever, `/eat-child` has a child do that, `/fork` starts thirty processes.
/// Everything else answers with the environment.
const GREEDY: &str = r"
import http.server, json, os, subprocess, sys

held = []

def eat():
    block = bytearray(100 << 20)
    for at in range(0, len(block), 4096):
        block[at] = 1
    held.append(block)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = dict(os.environ, PID=str(os.getpid()))
        if self.path == '/burn':
            for _ in range(2):
                subprocess.Popen([sys.executable, '-c', 'while True: pass'])
        if self.path == '/eat':
            eat()
        if self.path == '/eat-child':
            child = os.fork()
            if child == 0:
                eat()
                os._exit(0)
            answer['STATUS'] = str(os.waitpid(child, 0)[1])
        if self.path == '/fork':
            try:
                for _ in range(30):
                    subprocess.Popen(['sleep', '1000'])
                answer['FORKED'] = 'all'
            except OSError as error:
                answer['FORKED'] = str(error)
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";

fn greedy() -> Folder {
    let folder = Folder::new("greedy").expect("a folder");
    folder.write("app.py", GREEDY).expect("written");
    folder
}

/// One instance of the greedy application, with `extra` in the service's table.
fn greedy_config(folder: &Folder, extra: &str) -> String {
    let directory = folder.path().display();
    config(&format!(
        "command = [\"python3\", \"app.py\"]\ndirectory = \"{directory}\"\ninstances = 1\n{extra}"
    ))
}

fn ask(outgrow: &Outgrow, path: &str) -> Value {
    let answer = http::get(&outgrow.url("public", path)).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().expect("JSON")
}

/// The one instance.
fn instance(outgrow: &Outgrow) -> Value {
    instances(outgrow).into_iter().next().unwrap_or_default()
}

/// Waits until the one instance's limits stand so, and all that is told of them.
fn wait_limits(outgrow: &Outgrow, standing: &str, key: &str, in_force: Value) -> Value {
    let look = |outgrow: &Outgrow| {
        let limits = instance(outgrow)["limits"].clone();
        (limits["state"] == standing && limits["in_force"][key] == in_force).then_some(limits)
    };
    let what = format!("limits are {standing}, {key} is {in_force}");
    let limits = outgrow.wait(&what, SOON, look);
    limits.unwrap_or_else(|error| panic!("{error}\n{:#}", instance(outgrow)))
}

/// The control groups of outgrow's making that a process is in: their directories.
fn groups(pid: u32) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next().expect("controllers");
        let path = parts.next().expect("a path").trim_start_matches('/');
        if path.contains("outgrow-") && !path.ends_with("/main") {
            groups.push(PathBuf::from("/sys/fs/cgroup").join(controllers).join(path));
        }
    }
    groups
}

/// Clock ticks used by a process and all under it. A hundred a second.
fn ticks(pid: u32) -> u64 {
    let mut pids: Vec<u32> = processes::under(pid).iter().map(|one| one.pid).collect();
    pids.push(pid);
    let own = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?)
    };
    pids.into_iter().filter_map(own).sum()
}

/// The share of one core that the busy processes under `pid` get, over so much of their own time
/// that several periods of the kernel's quota are in it. A busy machine makes it smaller, never
/// larger.
fn share(pid: u32) -> f64 {
    const ENOUGH: u64 = 40;
    let (begin, before) = (Instant::now(), ticks(pid));
    let limit = Duration::from_secs(60);
    let used = || Some(ticks(pid) - before).filter(|used| *used >= ENOUGH);
    let used = wait::until("processor time is used", limit, used).expect("used");
    used as f64 / 100.0 / begin.elapsed().as_secs_f64()
}

/// Stops it, and nothing of its groups is left.
fn stop_clean(outgrow: Outgrow, groups: &[PathBuf]) {
    outgrow.stop().expect("everything has ended");
    assert_gone(groups);
}

fn assert_gone(groups: &[PathBuf]) {
    for group in groups {
        let house = group.parent().expect("a group around it");
        assert!(
            !group.exists() && !house.exists(),
            "{} is left",
            group.display()
        );
    }
}

fn one_pid(outgrow: &Outgrow) -> u32 {
    wait_ready(outgrow, 1)[0]
}
