//! A fake Consul: the health endpoint with blocking queries, and an agent that
//! takes registrations, as Consul's documents describe them. It is no Consul,
//! and says nothing about a real one.

mod agent;

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use self::agent::Agent;

/// Longest body of a question.
const BODY: usize = 1 << 20;

/// How often it is looked whether the server is to end.
const LOOK: Duration = Duration::from_millis(20);

/// How the fake answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it should.
    #[default]
    Good,
    /// With 500.
    Failing,
    /// Blocking queries are answered at once, with an index that always grows.
    Restless,
    /// Without an index.
    NoIndex,
}

#[derive(Debug)]
struct State {
    index: u64,
    instances: Vec<SocketAddr>,
    mood: Mood,
    token: String,
    targets: Vec<String>,
    agent: Agent,
}

/// The fake; it ends when it is dropped.
#[derive(Debug)]
pub struct FakeConsul {
    address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
    ended: Arc<AtomicBool>,
}

impl FakeConsul {
    /// Starts it without instances; `token` is demanded when it is not empty.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(token: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let state = State {
            index: 10,
            instances: Vec::new(),
            mood: Mood::Good,
            token: token.to_owned(),
            targets: Vec::new(),
            agent: Agent::default(),
        };
        let fake = Self {
            address: listener.local_addr()?,
            shared: Arc::new((Mutex::new(state), Condvar::new())),
            ended: Arc::default(),
        };
        let (shared, ended) = (Arc::clone(&fake.shared), Arc::clone(&fake.ended));
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(LOOK);
                    continue;
                };
                let (shared, ended) = (Arc::clone(&shared), Arc::clone(&ended));
                // Whoever asks may have gone.
                thread::spawn(move || drop(serve(stream, &shared, &ended)));
            }
        });
        Ok(fake)
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on these are healthy.
    pub fn set(&self, instances: &[SocketAddr]) {
        self.change(|state| {
            state.instances = instances.to_vec();
            state.index += 1;
        });
    }

    /// From now on it answers so.
    pub fn set_mood(&self, mood: Mood) {
        self.change(|state| state.mood = mood);
    }

    /// As after a new start: the index begins anew.
    pub fn forget_index(&self) {
        self.change(|state| state.index = 1);
    }

    /// What is registered by its agent, passing or not.
    pub fn registered(&self) -> Vec<Value> {
        self.lock().agent.services()
    }

    /// As an agent that lost its state.
    pub fn forget_registered(&self) {
        self.change(|state| {
            state.agent.forget();
            state.index += 1;
        });
    }

    /// What was asked for so far: paths with queries.
    pub fn targets(&self) -> Vec<String> {
        self.lock().targets.clone()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.shared.1.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeConsul {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.shared.1.notify_all();
    }
}

fn serve(
    mut stream: TcpStream,
    (state, changed): &(Mutex<State>, Condvar),
    ended: &AtomicBool,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = reader.by_ref().lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let is_put = first.starts_with("PUT ");
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut token, mut length) = (String::new(), 0);
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("X-Consul-Token: ") {
            value.clone_into(&mut token);
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; BODY.min(length)];
    reader.read_exact(&mut body)?;
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.targets.push(target.clone());
    let asked = query(&target, "index=").and_then(|index| index.parse().ok());
    let wait = query(&target, "wait=").and_then(|wait| wait.trim_end_matches('s').parse().ok());
    let until = Instant::now() + Duration::from_secs(wait.unwrap_or(300));
    // An index that went back answers at once, as Consul's does.
    while state.mood == Mood::Good
        && asked == Some(state.index)
        && Instant::now() < until
        && !ended.load(Ordering::Relaxed)
    {
        if state.agent.has_changed() {
            state.index += 1;
        }
        let waited = changed.wait_timeout(state, LOOK);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    if state.mood == Mood::Restless {
        state.index += 1;
    }
    let (status, body) = if state.token != token {
        ("403 Forbidden", "Permission denied".to_owned())
    } else if state.mood == Mood::Failing {
        ("500 Internal Server Error", "No cluster leader".to_owned())
    } else if is_put {
        let done = state.agent.put(&target, &body);
        state.index += u64::from(state.agent.has_changed());
        state.index += u64::from(target.starts_with("/v1/agent/service/"));
        changed.notify_all();
        done.unwrap_or(("404 Not Found", "Invalid URL path".to_owned()))
    } else {
        let mut entries: Vec<Value> = state.instances.iter().map(entry).collect();
        entries.extend(state.agent.passing());
        ("200 OK", Value::from(entries).to_string())
    };
    let index = match state.mood {
        Mood::NoIndex => String::new(),
        _ => format!("X-Consul-Index: {}\r\n", state.index),
    };
    drop(state);
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{index}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn query<'t>(target: &'t str, name: &str) -> Option<&'t str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name))
}

fn entry(at: &SocketAddr) -> Value {
    json!({
        "Node": { "Node": "box", "Address": at.ip().to_string() },
        "Service": { "Service": "app", "Address": "", "Port": at.port(),
                     "Weights": { "Passing": 2, "Warning": 1 } },
        "Checks": [{ "Status": "passing" }],
    })
}
