//! Clients and connections to servers as they are seen from outside: small records that their
//! owners keep up to date without locks, and that the console and the log read.

mod lane;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use outgrow_core::{Ticks, WallTime};

use lane::LaneSeen;

use crate::diagnosis::watch::Doing;
use crate::events::{Level, Topic};
use crate::origin::Origin;
use crate::problem::Refusal;
use crate::shared::Shared;

/// Where the other end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a Unix socket.
    Unix {
        /// The process there, 0 where the system does not tell.
        process: i32,
        /// The port that is in the socket's name, 0 for one without.
        port: u16,
    },
}

impl fmt::Display for Far {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix { process, port } => write!(formatter, "unix({process}):{port}"),
        }
    }
}

/// Who a client says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The database.
    pub database: Arc<str>,
    /// The user.
    pub user: Arc<str>,
    /// What it asks for as `replication`.
    pub replication: Option<String>,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ClientState {
    /// It logs in.
    Login,
    /// It has a connection, or wants none.
    Active,
    /// It waits for a connection.
    Waiting,
}

/// A client.
#[derive(Debug)]
pub struct ClientSeen {
    /// Its number; clients and servers are counted together.
    pub number: u64,
    far: Far,
    proxied: OnceLock<SocketAddr>,
    /// Our end, over TCP.
    pub near: Option<SocketAddr>,
    /// When it came.
    pub connected: WallTime,
    /// The same.
    pub since: Ticks,
    who: OnceLock<Who>,
    tls: OnceLock<String>,
    application: Mutex<Arc<str>>,
    state: AtomicU8,
    link: AtomicU64,
    requested: AtomicU64,
    prepared: AtomicU32,
    is_ordered: AtomicBool,
    /// Where it is served.
    pub(crate) lane: LaneSeen,
    /// It is offered to another process: nobody but that may speak with it meanwhile.
    is_on_its_way: AtomicBool,
    order: Mutex<(Option<Refusal>, Option<Waker>)>,
    origin: Mutex<Option<Arc<Origin>>>,
}

impl ClientSeen {
    /// Its end: where a proxy says that it is, if one does.
    pub fn far(&self) -> Far {
        self.proxied.get().map_or(self.far, |&far| Far::Tcp(far))
    }

    /// Where a proxy says that it is.
    pub(crate) fn proxied(&self) -> Option<SocketAddr> {
        self.proxied.get().copied()
    }

    /// The port in the name of its Unix socket, 0 for one without.
    pub(crate) fn port(&self) -> u16 {
        match self.far {
            Far::Tcp(_) => 0,
            Far::Unix { port, .. } => port,
        }
    }

    pub(crate) fn set_proxied(&self, far: SocketAddr) {
        let _ = self.proxied.set(far);
    }

    /// Who it is, as far as it has said.
    pub fn who(&self) -> Option<&Who> {
        self.who.get()
    }

    pub(crate) fn set_who(&self, who: Who) {
        let _ = self.who.set(who);
    }

    /// The version and cipher of its TLS.
    pub fn tls(&self) -> Option<&str> {
        self.tls.get().map(String::as_str)
    }

    pub(crate) fn set_tls(&self, tls: String) {
        let _ = self.tls.set(tls);
    }

    /// What its application calls itself.
    pub fn application(&self) -> Arc<str> {
        Arc::clone(&lock(&self.application))
    }

    pub(crate) fn set_application(&self, name: &str) {
        let mut application = lock(&self.application);
        if **application != *name {
            *application = name.into();
        }
    }

    /// Which instance it is, where that matters.
    pub(crate) fn origin(&self) -> Option<Arc<Origin>> {
        lock(&self.origin).clone()
    }

    pub(crate) fn set_origin(&self, origin: Option<Arc<Origin>>) {
        *lock(&self.origin) = origin;
    }

    /// What it does.
    pub fn state(&self) -> ClientState {
        match self.state.load(Ordering::Relaxed) {
            0 => ClientState::Login,
            1 => ClientState::Active,
            _ => ClientState::Waiting,
        }
    }

    pub(crate) fn set_state(&self, state: ClientState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// The number of the connection that it has; 0 is none.
    pub fn link(&self) -> u64 {
        self.link.load(Ordering::Relaxed)
    }

    pub(crate) fn set_link(&self, server: u64) {
        self.link.store(server, Ordering::Relaxed);
    }

    /// When it last wanted a connection.
    pub fn requested(&self) -> Ticks {
        Ticks(self.requested.load(Ordering::Relaxed))
    }

    pub(crate) fn set_requested(&self, now: Ticks) {
        self.requested.store(now.0, Ordering::Relaxed);
    }

    /// Statements that it has prepared.
    pub fn prepared(&self) -> u32 {
        self.prepared.load(Ordering::Relaxed)
    }

    pub(crate) fn set_prepared(&self, count: usize) {
        self.prepared.store(count as u32, Ordering::Relaxed);
    }

    /// Has it leave, with what it is told.
    pub(crate) fn order_away(&self, refusal: Refusal) {
        let mut order = lock(&self.order);
        order.0.get_or_insert(refusal);
        self.is_ordered.store(true, Ordering::Release);
        if let Some(waker) = &order.1 {
            waker.wake_by_ref();
        }
    }

    /// Whether it is offered to another process: then it can be sent away only when that is over.
    pub(crate) fn set_on_its_way(&self, is_on_its_way: bool) {
        self.is_on_its_way.store(is_on_its_way, Ordering::Release);
    }

    /// Lets it look whether something concerns it.
    pub(crate) fn nudge(&self) {
        if let Some(waker) = &lock(&self.order).1 {
            waker.wake_by_ref();
        }
    }

    /// Whom to wake when it is to leave.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        lock(&self.order).1 = Some(waker.clone());
    }

    /// What it is told on leaving, once it is to leave.
    #[inline]
    pub(crate) fn ordered_away(&self) -> Option<Refusal> {
        let is_ordered = self.is_ordered.load(Ordering::Acquire);
        if !is_ordered || self.is_on_its_way.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.order).0.clone()
    }
}

impl fmt::Display for ClientSeen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (database, user) = match self.who() {
            Some(who) => (&*who.database, &*who.user),
            None => ("(nodb)", "(nouser)"),
        };
        write!(
            formatter,
            "C-{:#x}: {database}/{user}@{}",
            self.number,
            self.far()
        )
    }
}

/// What a connection to a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ServerState {
    /// It is being made.
    New,
    /// Nobody has it.
    Idle,
    /// A client has it.
    Active,
    /// It is being checked or made like new.
    Tested,
    /// It waits until a cancel request has arrived.
    BeingCancelled,
}

/// A connection to a server.
#[derive(Debug)]
pub struct ServerSeen {
    /// Its number; clients and servers are counted together.
    pub number: u64,
    /// The database, as clients call it.
    pub database: Arc<str>,
    /// The user on the server.
    pub user: Arc<str>,
    /// When it was begun.
    pub connected: WallTime,
    /// The same.
    pub since: Ticks,
    /// For replication: what was asked for.
    pub replication: Option<String>,
    ends: OnceLock<(Option<SocketAddr>, Option<SocketAddr>)>,
    tls: OnceLock<String>,
    state: AtomicU8,
    link: AtomicU64,
    requested: AtomicU64,
    process: AtomicI32,
    prepared: AtomicU32,
    is_over: AtomicBool,
    application: Mutex<Arc<str>>,
    /// What it does for who has it.
    pub(crate) doing: Arc<Doing>,
}

impl ServerSeen {
    /// The far and the near end, over TCP.
    pub fn ends(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        self.ends.get().copied().unwrap_or_default()
    }

    pub(crate) fn set_ends(&self, far: Option<SocketAddr>, near: Option<SocketAddr>) {
        let _ = self.ends.set((far, near));
    }

    /// The version and cipher of its TLS.
    pub fn tls(&self) -> Option<&str> {
        self.tls.get().map(String::as_str)
    }

    pub(crate) fn set_tls(&self, tls: String) {
        let _ = self.tls.set(tls);
    }

    /// What it does.
    pub fn state(&self) -> ServerState {
        match self.state.load(Ordering::Relaxed) {
            0 => ServerState::New,
            1 => ServerState::Idle,
            2 => ServerState::Active,
            3 => ServerState::Tested,
            _ => ServerState::BeingCancelled,
        }
    }

    #[inline]
    pub(crate) fn set_state(&self, state: ServerState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// The number of the client that has it; 0 is nobody.
    pub fn link(&self) -> u64 {
        self.link.load(Ordering::Relaxed)
    }

    pub(crate) fn set_link(&self, client: u64) {
        self.link.store(client, Ordering::Relaxed);
    }

    /// When it was last lent.
    pub fn requested(&self) -> Ticks {
        Ticks(self.requested.load(Ordering::Relaxed))
    }

    pub(crate) fn set_requested(&self, now: Ticks) {
        self.requested.store(now.0, Ordering::Relaxed);
    }

    /// The server's process, 0 when it is not known.
    pub fn process(&self) -> i32 {
        self.process.load(Ordering::Relaxed)
    }

    pub(crate) fn set_process(&self, process: i32) {
        self.process.store(process, Ordering::Relaxed);
    }

    /// Statements that are prepared on it.
    pub fn prepared(&self) -> u32 {
        self.prepared.load(Ordering::Relaxed)
    }

    pub(crate) fn set_prepared(&self, count: usize) {
        self.prepared.store(count as u32, Ordering::Relaxed);
    }

    /// Whether it is to be closed as soon as nobody has it.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(crate) fn set_over(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// What it was told that its application is called.
    pub fn application(&self) -> Arc<str> {
        Arc::clone(&lock(&self.application))
    }

    pub(crate) fn set_application(&self, name: &str) {
        let mut application = lock(&self.application);
        if **application != *name {
            *application = name.into();
        }
    }
}

impl fmt::Display for ServerSeen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, .. } = self;
        let (database, user) = (&self.database, &self.user);
        write!(formatter, "S-{number:#x}: {database}/{user}@")?;
        match self.ends().0 {
            Some(address) => write!(formatter, "{address}"),
            None => formatter.write_str("unix"),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    clients: Mutex<BTreeMap<u64, Arc<ClientSeen>>>,
    servers: Mutex<BTreeMap<u64, Arc<ServerSeen>>>,
}

impl Seen {
    /// The clients, by number.
    pub(crate) fn clients(&self) -> Vec<Arc<ClientSeen>> {
        lock(&self.clients).values().cloned().collect()
    }

    /// The connections to servers, by number.
    pub(crate) fn servers(&self) -> Vec<Arc<ServerSeen>> {
        lock(&self.servers).values().cloned().collect()
    }

    /// A client.
    pub(crate) fn client(&self, number: u64) -> Option<Arc<ClientSeen>> {
        lock(&self.clients).get(&number).cloned()
    }
}

/// A client's record, for as long as it is there.
#[derive(Debug)]
pub(crate) struct ClientEntry {
    pub(crate) seen: Arc<ClientSeen>,
    shared: Arc<Shared>,
    /// Why it goes; without a reason its going is not worth a line.
    pub(crate) reason: Option<Cow<'static, str>>,
}

impl ClientEntry {
    /// A client that came.
    pub(crate) fn new(shared: &Arc<Shared>, far: Far, near: Option<SocketAddr>) -> Self {
        Self::since(shared, far, near, WallTime::now())
    }

    /// The same of one that came at this time, to another process.
    pub(crate) fn since(
        shared: &Arc<Shared>,
        far: Far,
        near: Option<SocketAddr>,
        connected: WallTime,
    ) -> Self {
        let now = shared.clock.now();
        let seen = Arc::new(ClientSeen {
            number: shared.next_number(),
            far,
            proxied: OnceLock::new(),
            near,
            connected,
            since: now,
            who: OnceLock::new(),
            tls: OnceLock::new(),
            application: Mutex::new("".into()),
            state: AtomicU8::new(ClientState::Login as u8),
            link: AtomicU64::new(0),
            requested: AtomicU64::new(now.0),
            prepared: AtomicU32::new(0),
            is_ordered: AtomicBool::new(false),
            lane: LaneSeen::default(),
            is_on_its_way: AtomicBool::new(false),
            order: Mutex::default(),
            origin: Mutex::default(),
        });
        lock(&shared.seen.clients).insert(seen.number, Arc::clone(&seen));
        Self {
            seen,
            shared: Arc::clone(shared),
            reason: None,
        }
    }

    /// Says something about the client.
    pub(crate) fn say(&self, level: Level, topic: Topic, text: impl FnOnce() -> String) {
        self.shared.say(level, topic, &*self.seen, text);
    }

    /// Takes note that it goes for this reason, which it is told after this.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        let text = refusal.message.clone();
        self.reason = Some(text.clone());
        self.say_goodbye();
        self.say(Level::Warning, Topic::Refusals, || {
            format!("pooler error: {text}")
        });
    }
}

impl ClientEntry {
    /// Says why it goes, if that is worth a line and was not said.
    fn say_goodbye(&mut self) {
        if let Some(reason) = self.reason.take() {
            let age = self.shared.clock.now().since(self.seen.since).as_secs();
            self.say(Level::Log, Topic::Disconnections, || {
                format!("closing because: {reason} (age={age}s)")
            });
        }
    }
}

impl Drop for ClientEntry {
    fn drop(&mut self) {
        lock(&self.shared.seen.clients).remove(&self.seen.number);
        self.say_goodbye();
    }
}

/// A server connection's record, for as long as it is there.
#[derive(Debug)]
pub(crate) struct ServerEntry {
    pub(crate) seen: Arc<ServerSeen>,
    shared: Arc<Shared>,
    /// Why it goes.
    pub(crate) reason: Cow<'static, str>,
}

impl ServerEntry {
    /// A connection that is about to be made.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        database: &Arc<str>,
        user: &Arc<str>,
        replication: Option<String>,
    ) -> Self {
        let now = shared.clock.now();
        let seen = Arc::new(ServerSeen {
            number: shared.next_number(),
            database: Arc::clone(database),
            user: Arc::clone(user),
            connected: WallTime::now(),
            since: now,
            replication,
            ends: OnceLock::new(),
            tls: OnceLock::new(),
            state: AtomicU8::new(ServerState::New as u8),
            link: AtomicU64::new(0),
            requested: AtomicU64::new(now.0),
            process: AtomicI32::new(0),
            prepared: AtomicU32::new(0),
            is_over: AtomicBool::new(false),
            application: Mutex::new("".into()),
            doing: Arc::default(),
        });
        lock(&shared.seen.servers).insert(seen.number, Arc::clone(&seen));
        Self {
            seen,
            shared: Arc::clone(shared),
            reason: Cow::Borrowed("server conn crashed?"),
        }
    }

    /// Says something about the connection.
    pub(crate) fn say(&self, level: Level, topic: Topic, text: impl FnOnce() -> String) {
        self.shared.say(level, topic, &*self.seen, text);
    }
}

impl Drop for ServerEntry {
    fn drop(&mut self) {
        lock(&self.shared.seen.servers).remove(&self.seen.number);
        let reason = &self.reason;
        let age = self.shared.clock.now().since(self.seen.since).as_secs();
        self.say(Level::Log, Topic::Disconnections, || {
            format!("closing because: {reason} (age={age}s)")
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
