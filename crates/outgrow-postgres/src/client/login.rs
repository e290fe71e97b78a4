//! The start of a client: encryption, what it asks for, who it is. Then it is moved to the worker
//! that owns its pool.

use std::future::poll_fn;
use std::sync::Arc;

use outgrow_net::{Stream, Transport};

use super::{Bytes, Identity, Moved, Open, Peer, accept, admin, startup};
use crate::budget::{Of, Share};
use crate::client::{Arrival, MovedClient};
use crate::console::Console;
use crate::events::{Level, Topic};
use crate::login::Credential;
use crate::newcomers::Newcomer;
use crate::pgbouncer::console::Role;
use crate::plan::{DatabasePlan, Manner, Plan};
use crate::problem::{AUTHORIZATION, CANNOT_CONNECT, NO_DATABASE, PROTOCOL, Refusal, TOO_MANY};
use crate::seen::{ClientEntry, Who};
use crate::shared::Shared;
use crate::socket::Socket;
use crate::variables::Variables;
use crate::wire::frame::{self, Frame, HEADER_BYTES};
use crate::wire::{Opening, Startup, frontend, startup as packet, write};
use crate::worker::Worker;

/// What may come before the login is over.
const INPUT_LIMIT: usize = 128 * 1024;

/// How a login ended without a client.
pub(super) enum End {
    /// It went, or was answered already.
    Gone,
    /// It is told why.
    Refused(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

pub(super) struct Login {
    pub(super) worker: Arc<Worker>,
    pub(super) socket: Socket,
    pub(super) input: Vec<u8>,
    pub(super) peer: Peer,
    pub(super) entry: ClientEntry,
}

/// What a client that has logged in is.
enum Admitted {
    /// One of a database.
    Client(Box<Draft>),
    /// One of the console.
    Console(Arc<dyn Console>, Role, Vec<Share>),
}

/// An identity, without what is taken from the login at its end.
struct Draft {
    database: Arc<str>,
    user: Arc<str>,
    minor: u16,
    replication: Option<Vec<(String, String)>>,
    variables: Variables,
    credential: Credential,
    shares: Vec<Share>,
}

/// Logs a client in.
pub(super) async fn run(
    worker: Arc<Worker>,
    stream: Stream,
    peer: Peer,
    entry: ClientEntry,
    open: Open,
    newcomer: Newcomer,
) {
    let plan = worker.shared.plan.load();
    let limit = plan.house.login;
    let mut login = Login {
        worker: Arc::clone(&worker),
        socket: Socket::Plain(stream),
        input: Vec::new(),
        peer,
        entry,
    };
    let manner = plan.house.manner;
    let ended = tokio::select! {
        ended = tokio::time::timeout(limit, login.run(&plan)) => ended,
        () = newcomer.sent_away() => {
            worker.shared.login_numbers.dropped.add_shared(1);
            let message = "the login takes long, and others wait for their turn";
            Ok(Err(Refusal::new(TOO_MANY, message).into()))
        }
    };
    // What comes now is no login any more.
    drop(newcomer);
    let end = match ended {
        Ok(Ok(Admitted::Console(console, role, _shares))) => {
            drop(plan);
            match admin::run(&mut login, console, role).await {
                Some(refusal) => refusal.into(),
                None => End::Gone,
            }
        }
        Ok(Ok(Admitted::Client(draft))) => {
            let draft = *draft;
            let identity = Identity {
                database: draft.database,
                user: draft.user,
                minor: draft.minor,
                is_replicating: draft.replication.is_some(),
                replication: draft.replication,
                variables: draft.variables,
                credential: draft.credential,
                shares: draft.shares,
                entry: login.entry,
                open,
            };
            let to = owner(&worker, &plan, &identity);
            let bytes = match login.socket {
                Socket::Plain(stream) => match stream.into_std() {
                    Ok(stream) => Bytes::Plain(stream),
                    Err(_) => return,
                },
                Socket::Tls(stream) => Bytes::Tls(stream),
                Socket::Server(_) => return,
            };
            let moved = Moved::Client(MovedClient {
                identity: Box::new(identity),
                bytes,
                input: login.input,
                arrival: Arrival::LoggedIn,
            });
            accept::hand_on(&worker, to, moved);
            return;
        }
        Ok(Err(end)) => end,
        Err(_) => Refusal::new(PROTOCOL, "client_login_timeout").into(),
    };
    if let End::Refused(refusal) = end {
        login.entry.refused(&refusal);
        tell(&mut login.socket, &refusal, manner).await;
    }
}

/// The newest version of the protocol that is spoken. PgBouncer and its peers know keys of four
/// bytes only.
fn newest_minor(manner: Manner) -> u16 {
    match manner {
        Manner::Postgres => packet::NEWEST_MINOR,
        Manner::PgBouncer => 0,
    }
}

fn owner(worker: &Worker, plan: &Plan, identity: &Identity) -> usize {
    let database = plan.database(&identity.database);
    let user = database.and_then(|database| database.user.as_deref());
    let user = user.unwrap_or(&identity.user);
    worker.shared.lane_for(&identity.database, user)
}

/// Tells a client why it is refused, as far as it listens.
pub(super) async fn tell(socket: &mut Socket, refusal: &Refusal, manner: Manner) {
    let mut out = Vec::new();
    refusal.write(manner, &mut out);
    let told = async {
        let _ = socket.write_all(&out).await;
        let _ = poll_fn(|cx| socket.poll_shutdown(cx)).await;
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), told).await;
}

/// What the server is told at the start of a connection for replication.
fn replication_parameters(
    replication: &str,
    startup: &Startup,
    variables: &Variables,
) -> Vec<(String, String)> {
    let mut parameters = vec![("replication".to_owned(), replication.to_owned())];
    let options = startup.parameters.get("options");
    parameters.extend(options.map(|options| ("options".to_owned(), options.to_owned())));
    let own = variables.iter();
    parameters.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    parameters
}

impl Login {
    async fn run(&mut self, plan: &Plan) -> Result<Admitted, End> {
        let startup = self.opening(plan).await?;
        let minor = startup.minor.min(newest_minor(plan.house.manner));
        if startup.minor > minor || startup.parameters.protocol_options().next().is_some() {
            let mut out = Vec::new();
            write::negotiate(&mut out, minor, startup.parameters.protocol_options());
            self.send(&out).await?;
        }
        let mut wanted = startup::read(&startup.parameters, &plan.house)?;
        if plan.house.adds_host {
            let name = wanted.variables.get("application_name");
            let name = name.filter(|name| !name.is_empty()).unwrap_or("app");
            let with_host = format!("{name} - {}", self.entry.seen.far());
            wanted.variables.set("application_name", &with_host);
        }
        self.note_attempt(&wanted);
        if let Some(console) = self.worker.shared.console()
            && console.database() == wanted.database
        {
            let console = Arc::clone(console);
            return self.admit(plan, &wanted, console).await;
        }
        if self.worker.shared.refuses_logins() {
            return Err(Refusal::new(CANNOT_CONNECT, "pooler is shutting down").into());
        }
        let credential = self.prove(plan, &wanted).await?;
        let Some(database) = plan.database(&wanted.database) else {
            let message = format!("no such database: {}", wanted.database);
            return Err(Refusal::new(NO_DATABASE, message).into());
        };
        if database.is_disabled {
            let message = format!("database \"{}\" is disabled", wanted.database);
            return Err(Refusal::new(CANNOT_CONNECT, message).into());
        }
        self.note_database(database, &wanted.database);
        let shares =
            self.take_shares(plan, &wanted.database, database.max_clients, &wanted.user)?;
        Ok(Admitted::Client(Box::new(Draft {
            database: wanted.database.into(),
            user: wanted.user.into(),
            minor,
            replication: wanted
                .replication
                .map(|value| replication_parameters(&value, &startup, &wanted.variables)),
            variables: wanted.variables,
            credential,
            shares,
        })))
    }

    /// Takes note of who the client says that it is.
    fn note_attempt(&mut self, wanted: &startup::Wanted) {
        self.entry.reason = Some("client unexpected eof".into());
        self.entry.seen.set_who(Who {
            database: wanted.database.as_str().into(),
            user: wanted.user.as_str().into(),
            replication: wanted.replication.clone(),
        });
        let name = wanted.variables.get("application_name");
        self.entry.seen.set_application(name.unwrap_or_default());
        let tls = self.entry.seen.tls().unwrap_or("no").to_owned();
        let replication = match wanted.replication.as_deref() {
            None => "no",
            Some("database") => "database",
            Some(_) => "yes",
        };
        let (database, user) = (&wanted.database, &wanted.user);
        self.entry.say(Level::Log, Topic::Connections, || {
            format!("login attempt: db={database} user={user} tls={tls} replication={replication}")
        });
    }

    /// Takes note that a database that is not configured is used, which is like another one.
    fn note_database(&self, plan: &DatabasePlan, name: &str) {
        let shared = &self.worker.shared;
        if plan.name.is_empty() && shared.note_made(name) {
            shared.say(Level::Log, Topic::Other, &*self.entry.seen, || {
                format!("registered new auto-database: {name}")
            });
        }
    }

    /// Lets a client in to the console.
    async fn admit(
        &mut self,
        plan: &Plan,
        wanted: &startup::Wanted,
        console: Arc<dyn Console>,
    ) -> Result<Admitted, End> {
        let is_own = match self.peer {
            Peer::Unix { user: Some(user) } => console.is_own(&wanted.user, user),
            _ => false,
        };
        if is_own {
            self.entry.say(Level::Log, Topic::Connections, || {
                "pgbouncer access from unix socket".to_owned()
            });
        } else {
            self.prove(plan, wanted).await?;
        }
        let Some(role) = console.admit(&wanted.user, is_own) else {
            return Err(Refusal::new(AUTHORIZATION, "not allowed").into());
        };
        let limits = Self::client_limits(plan, &wanted.database, 0, &wanted.user, self.peer);
        let mut shares = Vec::new();
        for (what, limit, message) in limits {
            let limit = match (&what, role) {
                // There must be a way in, whatever happens.
                (Of::Clients | Of::AddressClients(_), _) => continue,
                (_, Role::Admin) => 0,
                (Of::DatabaseClients(_), Role::Stats) => plan.house.max_console_clients,
                (_, Role::Stats) => limit,
            };
            let share = self.worker.shared.budgets.of(what).take(limit);
            shares.push(share.ok_or_else(|| Refusal::new(TOO_MANY, message))?);
        }
        Ok(Admitted::Console(console, role, shares))
    }

    /// Everything up to the startup message.
    async fn opening(&mut self, plan: &Plan) -> Result<Startup, End> {
        self.learn_peer(plan).await?;
        let mut asked_for_tls = false;
        loop {
            if !asked_for_tls && self.has_begun_tls() {
                asked_for_tls = true;
                self.go_on_with_tls(plan).await?;
            }
            let opening = match packet::look(&self.input) {
                Err(error) => {
                    return Err(Refusal::new(PROTOCOL, error.to_string()).into());
                }
                Ok(Some((opening, length))) => {
                    self.input.drain(..length);
                    opening
                }
                Ok(None) => {
                    self.receive().await?;
                    continue;
                }
            };
            match opening {
                Opening::Ssl if !asked_for_tls => {
                    asked_for_tls = true;
                    self.answer_tls(plan).await?;
                }
                Opening::Gss => self.send(b"N").await?,
                Opening::Cancel { process, secret } => {
                    let cancel = super::cancel::cancel(&self.worker.shared, process, &secret);
                    if cancel.await.is_err() {
                        self.entry.reason = Some("cancel_wait_timeout".into());
                    }
                    return Err(End::Gone);
                }
                Opening::Session(startup) => {
                    let over_tcp = matches!(self.peer, Peer::Tcp(_));
                    if plan.house.requires_tls && over_tcp && !self.socket.is_encrypted() {
                        return Err(Refusal::new(PROTOCOL, "SSL required").into());
                    }
                    return Ok(startup);
                }
                Opening::Ssl => return Err(End::Gone),
            }
        }
    }

    pub(super) async fn receive(&mut self) -> Result<(), End> {
        let mut buffer = [0; 4096];
        if self.input.len() > INPUT_LIMIT {
            return Err(Refusal::new(PROTOCOL, "invalid length of startup packet").into());
        }
        match poll_fn(|cx| self.socket.poll_read(cx, &mut buffer)).await {
            Ok(0) | Err(_) => Err(End::Gone),
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// A whole message of kind `p`.
    pub(super) async fn password(&mut self) -> Result<Vec<u8>, End> {
        loop {
            match frame::look(&self.input) {
                Ok(Frame::Whole(header)) if header.tag == frontend::PASSWORD => {
                    let body = self.input[HEADER_BYTES..header.whole()].to_vec();
                    self.input.drain(..header.whole());
                    return Ok(body);
                }
                Ok(Frame::NoHeader) => {}
                Ok(Frame::Partial(header)) if header.tag == frontend::PASSWORD => {}
                _ => {
                    let message = "expected password response";
                    return Err(Refusal::new(PROTOCOL, message).into());
                }
            }
            self.receive().await?;
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.socket.write_all(bytes).await.map_err(|_| End::Gone)
    }

    /// What limits the clients that there may be, and what one is told that is one too many.
    pub(super) fn client_limits(
        plan: &Plan,
        database: &str,
        database_limit: u32,
        user: &str,
        peer: Peer,
    ) -> impl Iterator<Item = (Of, u32, &'static str)> {
        let own = plan.users.get(user);
        let user_limit = own.map_or(plan.house.max_user_clients, |user| user.max_clients);
        let of_address = match peer {
            Peer::Tcp(address) => Some((
                Of::AddressClients(address.to_canonical()),
                plan.house.max_address_clients,
                "client connections exceeded (max_clients_per_address)",
            )),
            Peer::Unix { .. } => None,
        };
        let of_address = of_address.filter(|(_, limit, _)| *limit > 0);
        let all = [
            (
                Of::Clients,
                plan.house.max_clients,
                "no more connections allowed (max_client_conn)",
            ),
            (
                Of::DatabaseClients(database.into()),
                database_limit,
                "client connections exceeded (max_db_client_connections)",
            ),
            (
                Of::UserClients(user.into()),
                user_limit,
                "client connections exceeded (max_user_client_connections)",
            ),
        ];
        all.into_iter().chain(of_address)
    }

    fn take_shares(
        &self,
        plan: &Plan,
        database: &str,
        database_limit: u32,
        user: &str,
    ) -> Result<Vec<Share>, Refusal> {
        let wanted = Self::client_limits(plan, database, database_limit, user, self.peer);
        take_shares(&self.worker.shared, wanted)
    }
}

/// Takes one of each, or none.
pub(super) fn take_shares(
    shared: &Shared,
    wanted: impl Iterator<Item = (Of, u32, &'static str)>,
) -> Result<Vec<Share>, Refusal> {
    let mut shares = Vec::new();
    for (what, limit, message) in wanted {
        let share = shared.budgets.of(what).take(limit);
        shares.push(share.ok_or_else(|| Refusal::new(TOO_MANY, message))?);
    }
    Ok(shares)
}
