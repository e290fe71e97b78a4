//! The harness: a house is a keeper with everything below it, driven by the
//! test. What the data processes hear comes here as events; everything is
//! waited for, with a limit.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::{Value, json};

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const PROBE: &str = env!("CARGO_BIN_EXE_fleet-probe");

pub(crate) struct House {
    pub(crate) keeper: Child,
    pub(crate) directory: PathBuf,
    control: UnixListener,
    output: mpsc::Receiver<String>,
    token: String,
}

impl House {
    pub(crate) fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// With words in front of the keeper's command, and more environment.
    pub(crate) fn start_with(before: &[&str], environment: &[(&str, &str)]) -> Self {
        let unique = format!("{}-{:?}", std::process::id(), std::thread::current().id());
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let token = format!("{unique}-{}", nanos.as_nanos()).replace(['(', ')'], "");
        let directory = std::env::temp_dir().join(format!("fleet-{token}"));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("control");
        let control = UnixListener::bind(&path).unwrap();
        let mut words: Vec<&str> = before.to_vec();
        words.extend([PROBE, "keeper"]);
        let mut keeper = Command::new(words[0])
            .args(&words[1..])
            .env("PROBE_CONTROL", &path)
            .env("PROBE_HOUSE", &token)
            .env("XDG_RUNTIME_DIR", &directory)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, output) = mpsc::channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(keeper.stdout.take().unwrap()),
            Box::new(keeper.stderr.take().unwrap()),
        ];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    eprintln!("   {line}");
                    let _ = sender.send(line);
                }
            });
        }
        Self {
            keeper,
            directory,
            control,
            output,
            token,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.keeper.id()
    }

    /// The next data process, with the `hello` that it got.
    pub(crate) fn data(&self) -> (Data, Value) {
        let mut poll = [PollFd::new(&self.control, PollFlags::IN)];
        assert_eq!(
            rustix::event::poll(&mut poll, Some(&limit())).unwrap(),
            1,
            "no data process"
        );
        let (stream, _) = self.control.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut data = Data {
            reader: BufReader::new(stream),
            pid: 0,
        };
        let hello = data.wait("hello");
        data.pid = u32::try_from(hello["data_pid"].as_u64().unwrap()).unwrap();
        (data, hello)
    }

    /// A data process that is ready.
    pub(crate) fn serving(&self) -> (Data, Value) {
        let (mut data, hello) = self.data();
        data.ready();
        (data, hello)
    }

    /// The next line of output for which `found` gives something.
    pub(crate) fn line<T>(&self, found: impl Fn(&str) -> Option<T>) -> T {
        let until = Instant::now() + LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.output.recv_timeout(left).expect("the line never came");
            if let Some(value) = found(&line) {
                return value;
            }
        }
    }

    pub(crate) fn line_with(&self, part: &str) -> String {
        self.line(|line| line.contains(part).then(|| line.to_owned()))
    }

    /// The number after `part` in the next line that has it.
    pub(crate) fn number_after(&self, part: &str) -> u32 {
        self.line(|line| {
            line.split_once(part)?
                .1
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits for the keeper's end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        wait_gone(self.pid());
        self.keeper.wait().unwrap()
    }

    /// SIGTERM and a data process that exits when it is told; the exit code.
    pub(crate) fn stop(&mut self, data: &mut Data) -> Option<i32> {
        self.signal(Signal::TERM);
        data.wait("drain");
        data.exit(0);
        self.end().code()
    }

    /// Every process that was started by this house, by its environment.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let entry = format!("PROBE_HOUSE={}", self.token);
        let mut found = Vec::new();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = process.file_name().to_string_lossy().parse() else {
                continue;
            };
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            if environment
                .split(|byte| *byte == 0)
                .any(|one| one == entry.as_bytes())
            {
                found.push(pid);
            }
        }
        found
    }

    /// Waits until no process of the house is left.
    pub(crate) fn nothing_left(&self) {
        for pid in self.processes() {
            wait_gone(pid);
        }
        assert_eq!(self.processes(), [0_u32; 0], "processes are left");
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        for pid in self.processes() {
            kill(pid, Signal::KILL);
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A data process as the test sees it.
pub(crate) struct Data {
    reader: BufReader<UnixStream>,
    pub(crate) pid: u32,
}

impl Data {
    pub(crate) fn tell(&mut self, order: &Value) {
        self.reader
            .get_mut()
            .write_all(format!("{order}\n").as_bytes())
            .unwrap();
    }

    pub(crate) fn ready(&mut self) {
        self.tell(&json!({"type": "ready", "keeper_state": 1}));
    }

    pub(crate) fn exit(&mut self, code: i32) {
        self.tell(&json!({"probe": "exit", "code": code}));
    }

    pub(crate) fn serve(&mut self) {
        self.tell(&json!({"probe": "serve"}));
    }

    /// The next event, whatever it is; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self
            .reader
            .read_line(&mut line)
            .expect("no event came in time");
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    /// The next event of this type.
    pub(crate) fn wait(&mut self, kind: &str) -> Value {
        let until = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < until, "`{kind}` never came");
            let event = self
                .next()
                .unwrap_or_else(|| panic!("ended before `{kind}`"));
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// The next state of an instance, whatever it is.
    pub(crate) fn change(&mut self) -> Report {
        Report(self.wait("instance"))
    }

    /// The next time that instance `id` is in `state`.
    pub(crate) fn instance(&mut self, id: u64, state: &str) -> Report {
        let until = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < until, "{id} was never {state}");
            let report = self.change();
            if report.0["spec"]["id"] == id && report.state() == state {
                return report;
            }
        }
    }

    /// Starts an instance by its command (a string or a list) and waits until it runs.
    pub(crate) fn start(&mut self, id: u64, command: &Value) -> Report {
        self.start_with(id, command, &[]);
        self.instance(id, "running")
    }

    pub(crate) fn start_with(&mut self, id: u64, command: &Value, more: &[(&str, Value)]) {
        let mut spec = json!({
            "id": id, "name": format!("web.{id}"), "service": "web", "slot": id,
            "command": command, "stop_grace_ms": 5_000,
        });
        for (name, value) in more {
            spec[*name] = value.clone();
        }
        self.tell(&json!({"type": "start_instance", "spec": spec}));
    }

    /// Binds and gives the address.
    pub(crate) fn bind(&mut self, address: &str, sockets: u32) -> String {
        self.tell(
            &json!({"type": "bind", "key": "public", "address": address, "sockets": sockets}),
        );
        let bound = self.wait("bound");
        assert_eq!(bound["sockets"], bound["descriptors"]);
        bound["address"].as_str().unwrap().to_owned()
    }
}

#[derive(Debug)]
pub(crate) struct Report(pub(crate) Value);

impl Report {
    pub(crate) fn state(&self) -> &str {
        self.0["state"]["state"].as_str().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.0["pid"].as_u64().expect("a pid")).unwrap()
    }

    pub(crate) fn shim(&self) -> u32 {
        u32::try_from(self.0["shim"].as_u64().expect("a shim")).unwrap()
    }

    pub(crate) fn address(&self) -> &str {
        self.0["address"].as_str().unwrap()
    }

    pub(crate) fn last_exit(&self) -> &str {
        self.0["last_exit"].as_str().unwrap_or("")
    }
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// Whether the process is there and alive.
pub(crate) fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'X']))
}

/// Waits for the end of any process.
pub(crate) fn wait_gone(pid: u32) {
    let number = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let Ok(descriptor) = rustix::process::pidfd_open(number, PidfdFlags::empty()) else {
        return;
    };
    let descriptor: OwnedFd = descriptor;
    let mut poll = [PollFd::new(&descriptor, PollFlags::IN)];
    let ended = rustix::event::poll(&mut poll, Some(&limit())).unwrap();
    assert_eq!(ended, 1, "process {pid} still lives: {}", command_line(pid));
}

pub(crate) fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

pub(crate) fn environment(pid: u32) -> BTreeMap<String, String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .split('\0')
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

pub(crate) fn executable(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

/// Connects and reads to the end.
pub(crate) fn ask(address: &str) -> String {
    use std::io::Read;
    let mut text = String::new();
    if let Some(path) = address.strip_prefix("unix:") {
        UnixStream::connect(Path::new(path))
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
    } else {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_to_string(&mut text).unwrap();
    }
    text
}

fn limit() -> Timespec {
    Timespec {
        tv_sec: LIMIT.as_secs().cast_signed(),
        tv_nsec: 0,
    }
}
