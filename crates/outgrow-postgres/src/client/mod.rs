//! A client: accepted, logged in, moved to the worker that owns its pool, served.

mod accept;
mod admin;
pub(crate) mod arrive;
mod begin;
mod cached;
mod cancel;
mod cancelling;
mod change_lane;
mod cross;
mod depart;
mod encrypt;
mod floor;
mod hear;
mod judge;
mod judge_prepared;
mod lend;
mod listen;
mod login;
mod noted;
mod overtime;
mod own_names;
mod part;
mod pinned;
mod prove;
mod proxied;
mod question;
mod relay;
mod replication;
mod route;
mod sequences;
mod serve;
mod session;
mod startup;
mod throttle;
mod times;
mod trial;
mod unnamed;
mod watch;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use outgrow_net::Timer;
use outgrow_net::stream::Detached;
use outgrow_tls::TlsStream;

pub use accept::{ListenerPlan, Slot};
pub(crate) use accept::{receive, run};
pub(crate) use arrive::NotTaken;
pub(crate) use cached::{Ttl, Writes};
pub(crate) use cancel::cancel_here;
pub(crate) use session::Settings;

use change_lane::{Kept, Member};
use listen::Listening;
use session::Session;
pub(crate) use unnamed::Mark;
use unnamed::Unnamed;
use watch::Watched;

use crate::answers::Effect;
use crate::ask::Ask;
use crate::budget::Share;
use crate::cancel::Registered;
use crate::flow::Flow;
use crate::listening::landing::Expected;
use crate::login::Credential;
use crate::plan::Times;
use crate::pool::Pool;
use crate::prepared::OfClient;
use crate::reads::Reads;
use crate::seen::ClientEntry;
use crate::sequences::{Stay, Uses};
use crate::shared::Shared;
use crate::socket::Socket;
use crate::sql::Lexing;
use crate::variables::Variables;
use crate::worker::Worker;

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Over TCP from this address.
    Tcp(std::net::IpAddr),
    /// Over a Unix socket, from a process of this user (where the system tells).
    Unix {
        /// Its user, and its number.
        user: Option<u32>,
    },
}

/// Counts a client at its worker.
#[derive(Debug)]
pub(crate) struct Open {
    shared: Arc<Shared>,
    worker: usize,
}

impl Open {
    fn new(shared: &Arc<Shared>, worker: usize) -> Self {
        shared.loads[worker].fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(shared),
            worker,
        }
    }

    fn move_to(&mut self, worker: usize) {
        self.shared.loads[self.worker].fetch_sub(1, Ordering::Relaxed);
        self.shared.loads[worker].fetch_add(1, Ordering::Relaxed);
        self.worker = worker;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.loads[self.worker].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who a client is, once it has proved it.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The database that it asked for.
    pub(crate) database: Arc<str>,
    /// The user that it is.
    pub(crate) user: Arc<str>,
    /// The minor version of the protocol that is spoken with it.
    pub(crate) minor: u16,
    /// The settings of its start, which resetting goes back to.
    pub(crate) variables: Variables,
    /// For replication: what the server is told at the start of a connection of its own.
    pub(crate) replication: Option<Vec<(String, String)>>,
    /// Whether it is for that.
    pub(crate) is_replicating: bool,
    /// What it proved with, which servers may be logged in to with.
    pub(crate) credential: Credential,
    #[expect(dead_code, reason = "held for as long as it counts")]
    pub(crate) shares: Vec<Share>,
    /// What is seen of it.
    pub(crate) entry: ClientEntry,
    pub(crate) open: Open,
}

/// A client's bytes on their way to another worker.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// Without encryption.
    Plain(Detached),
    /// With.
    Tls(Box<TlsStream>),
}

/// What is on its way to another worker.
#[derive(Debug)]
pub(crate) enum Moved {
    /// A client, to the owner of its pool.
    Client(MovedClient),
    /// A question about a user.
    Ask(Ask),
    /// A client that listens and is about to come from another process.
    Expected(Box<Expected>),
}

/// A client on its way to the worker that owns its pool, or a lane of it.
#[derive(Debug)]
pub(crate) struct MovedClient {
    pub(crate) identity: Box<Identity>,
    pub(crate) bytes: Bytes,
    /// What it sent already.
    pub(crate) input: Vec<u8>,
    pub(crate) arrival: Arrival,
}

/// Where a client comes from that a worker takes over.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// It has just logged in.
    LoggedIn,
    /// Another process has logged it in: what it brings along.
    Process(Box<arrive::Carried>),
    /// Another lane of its pool: likewise.
    Lane(Box<Kept>),
}

/// A client that is served.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Arc<Worker>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) socket: Socket,
    /// What it sends.
    pub(crate) up: Flow,
    /// What it is still to get after its connection to the server was given back.
    pub(crate) tail: Flow,
    pub(crate) variables: Variables,
    /// The statements that it has prepared.
    pub(crate) names: OfClient,
    /// What its session is besides.
    session: Session,
    /// What it has for listening, while it does.
    listening: Option<Box<Listening>>,
    /// What it wrote, and whose reads it must see besides.
    writes: floor::Writes,
    /// What is to be known of what it wants now, when a replica could not answer that.
    repeat: Option<Box<trial::Repeat>>,
    /// What it has to do with the query cache, where there is one.
    caching: Option<Box<cached::Caching>>,
    /// What is known of its database's statements, where reads go to replicas.
    reads: Option<Arc<Reads>>,
    /// How its texts are read.
    lexing: Lexing,
    /// The unnamed statement.
    unnamed_statement: Unnamed,
    /// What executing it does to the session.
    unnamed: Option<Arc<Effect>>,
    /// What it has to do with sequences.
    unnamed_uses: Uses,
    /// Whether what it says up to the next Sync is left out, as a server does after an error.
    skips: bool,
    /// Its time at the connection that it had last.
    stay: Stay,
    /// What executing its portals does, of those that do something.
    portals: Vec<(Box<[u8]>, Arc<Effect>)>,
    /// Its statements, for what they cost.
    watched: Watched,
    pub(crate) cancel: Registered,
    pub(crate) timer: Timer,
    /// Times that its user has of its own.
    times: Times,
    /// It is about to leave for another process.
    departs: bool,
    /// It is about to change to this lane.
    goes_to: Option<Arc<Pool>>,
    #[expect(dead_code, reason = "held for as long as it counts")]
    member: Member,
    pub(crate) identity: Box<Identity>,
}
