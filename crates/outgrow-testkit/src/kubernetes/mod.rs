//! A fake of Kubernetes' API server: EndpointSlices, with the list and the watch
//! as its documents and its code describe them (versions, pages, bookmarks, 410,
//! selectors); Leases, one by one, with the conflicts that a real one was seen to
//! give ([`leases`]); a token, and TLS by an authority of the test. It is no API
//! server, and says nothing about a real one.

mod leases;
pub mod real;
mod serve;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::authority::Authority;

/// How often it is looked whether the server is to end.
const LOOK: Duration = Duration::from_millis(20);
/// The label by which slices are of a service.
const SERVICE: &str = "kubernetes.io/service-name";

/// How the fake answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it should.
    #[default]
    Good,
    /// With 500.
    Failing,
    /// With 403.
    Forbidden,
    /// With 404, as a server without the group does.
    Unknown,
    /// Lists are right, watches begin and then say nothing and do not end.
    /// Questions about Leases are taken and not answered.
    Dead,
    /// Lists are right, watches end at once.
    Hasty,
    /// Lists are right, watches are refused with 410.
    Gone,
    /// Lists are right, watches tell nonsense.
    Nonsense,
    /// Whenever a Lease was read, somebody else writes it.
    Restless,
    /// What is written into a Lease is answered as if it were, and is not.
    Forgetful,
}

/// A question that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The token that came with it.
    pub token: String,
}

#[derive(Debug)]
struct State {
    /// Grows with every change of anything.
    version: u64,
    /// By namespace and name.
    slices: BTreeMap<(String, String), Value>,
    /// By namespace and name.
    leases: BTreeMap<(String, String), Value>,
    history: Vec<Change>,
    /// Changes up to here are forgotten.
    compacted: u64,
    mood: Mood,
    token: String,
    asked: Vec<Asked>,
    /// Counts the orders to cut all watches.
    cuts: u64,
    /// Counts the orders to send a bookmark.
    marks: u64,
}

/// What became of a slice.
#[derive(Debug, Clone)]
struct Change {
    version: u64,
    namespace: String,
    before: Option<Value>,
    after: Option<Value>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    ended: AtomicBool,
}

/// The fake; it ends when it is dropped.
#[derive(Debug)]
pub struct FakeKubernetes {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl FakeKubernetes {
    /// Starts it without slices. Its certificate is for 127.0.0.1; `token` is
    /// demanded when it is not empty.
    ///
    /// # Errors
    /// When there is no port, or no certificate.
    pub fn start(authority: &Authority, token: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let config = tls::config(&authority.issue(&["127.0.0.1"])?)?;
        let state = State {
            version: 100,
            slices: BTreeMap::new(),
            leases: BTreeMap::new(),
            history: Vec::new(),
            compacted: 0,
            mood: Mood::Good,
            token: token.to_owned(),
            asked: Vec::new(),
            cuts: 0,
            marks: 0,
        };
        let fake = Self {
            address: listener.local_addr()?,
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Condvar::new(),
                ended: AtomicBool::new(false),
            }),
        };
        let shared = Arc::clone(&fake.shared);
        thread::spawn(move || {
            while !shared.ended.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(LOOK);
                    continue;
                };
                let (shared, config) = (Arc::clone(&shared), Arc::clone(&config));
                // Whoever asks may have gone, or not believed us.
                thread::spawn(move || {
                    drop(tls::accept(stream, config).and_then(|it| serve::serve(it, &shared)));
                });
            }
        });
        Ok(fake)
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a slice of a service, new or again: `fields` are `addressType`,
    /// `endpoints` and `ports`.
    pub fn put(&self, namespace: &str, service: &str, name: &str, mut fields: Value) {
        self.change(|state| {
            state.version += 1;
            fields["apiVersion"] = json!("discovery.k8s.io/v1");
            fields["kind"] = json!("EndpointSlice");
            fields["metadata"] = json!({
                "name": name,
                "namespace": namespace,
                "labels": { SERVICE: service },
                "resourceVersion": state.version.to_string(),
            });
            let key = (namespace.to_owned(), name.to_owned());
            let before = state.slices.insert(key, fields.clone());
            state.remember(namespace, before, Some(fields));
        });
    }

    /// Writes a slice whose endpoints are ready at these addresses; all have one port.
    pub fn put_ready(&self, namespace: &str, service: &str, name: &str, at: &[SocketAddr]) {
        self.put(namespace, service, name, ready(at));
    }

    /// Deletes a slice.
    pub fn delete(&self, namespace: &str, name: &str) {
        self.change(|state| {
            let key = (namespace.to_owned(), name.to_owned());
            let Some(mut before) = state.slices.remove(&key) else {
                return;
            };
            state.version += 1;
            // The version of a deletion is its own.
            before["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.remember(namespace, Some(before), None);
        });
    }

    /// Writes a Lease, new or again: `spec` is all of it.
    pub fn put_lease(&self, namespace: &str, name: &str, spec: Value) {
        self.change(|state| state.put_lease(namespace, name, json!({}), spec));
    }

    /// Deletes a Lease.
    pub fn delete_lease(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.change(|state| drop(state.leases.remove(&key)));
    }

    /// A Lease as it is now.
    pub fn lease(&self, namespace: &str, name: &str) -> Option<Value> {
        let key = (namespace.to_owned(), name.to_owned());
        self.shared.lock().leases.get(&key).cloned()
    }

    /// Something else changed, and all that was is forgotten: watches and pages of
    /// earlier versions get 410.
    pub fn compact(&self) {
        self.change(|state| {
            state.version += 10;
            // The history stays for watches that are under way: those lose nothing.
            state.compacted = state.version;
        });
    }

    /// Sends a bookmark to all watches that want some.
    pub fn bookmark(&self) {
        self.change(|state| state.marks += 1);
    }

    /// Cuts all watches off, in the middle of what they say.
    pub fn cut(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// From now on it answers so; watches that are under way are cut off.
    pub fn set_mood(&self, mood: Mood) {
        self.change(|state| {
            state.mood = mood;
            state.cuts += 1;
        });
    }

    /// From now on this token is demanded; watches that are under way go on.
    pub fn set_token(&self, token: &str) {
        self.change(|state| token.clone_into(&mut state.token));
    }

    /// What was asked for so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for FakeKubernetes {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, namespace: &str, before: Option<Value>, after: Option<Value>) {
        self.history.push(Change {
            version: self.version,
            namespace: namespace.to_owned(),
            before,
            after,
        });
    }
}

/// A slice whose endpoints are ready at these addresses, with the port of the first.
pub fn ready(at: &[SocketAddr]) -> Value {
    let endpoint = |at: &SocketAddr| json!({ "addresses": [at.ip().to_string()], "conditions": { "ready": true } });
    let endpoints: Vec<Value> = at.iter().map(endpoint).collect();
    let port = at.first().map_or(80, SocketAddr::port);
    json!({
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": "http", "protocol": "TCP", "port": port }],
    })
}
