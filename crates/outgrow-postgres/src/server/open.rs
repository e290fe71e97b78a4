//! Making a connection to a server: connect, encrypt, log in, learn what it reports.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use outgrow_core::settings::Address;
use outgrow_core::{Fault, Ticks};
use outgrow_net::{Stream, Transport};
use outgrow_upstream::{Endpoint, Opening, Permit, Place};

use super::silence::Silence;
use super::{Server, encrypt, transaction};
use crate::answers::Answers;
use crate::budget::Share;
use crate::cancel::Target;
use crate::client::{Mark, Settings};
use crate::diagnosis::watch::Watch;
use crate::events::{Level, Topic};
use crate::flow::Flow;
use crate::login::scram::end_point_hash;
use crate::login::{Channel, Cleartext, ClientExchange, ClientStep, Credential, Policy};
use crate::plan::{Manner, PoolPlan};
use crate::prepared::OnServer;
use crate::problem::Refusal;
use crate::seats::Seat;
use crate::seen::ServerEntry;
use crate::sequences::Values;
use crate::socket::Socket;
use crate::standing::Standing;
use crate::variables::Welcome;
use crate::wire::frame::{self, Frame, HEADER_BYTES};
use crate::wire::{backend, read, write};
use outgrow_upstream::scram::NONCE_BYTES;

/// The largest message of a login: errors of servers may be long, nothing else is.
const MESSAGE_LIMIT: usize = 64 * 1024;

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The endpoint cannot be reached.
    Connect(Fault),
    /// The server refused, with its SQLSTATE and text.
    Refused(Refusal),
    /// What it said makes no sense, or it ended.
    Broken(&'static str),
    /// It has no TLS, or is not the one that it must be.
    Tls(String),
    /// Our side cannot prove what the server wants.
    Login(String),
}

impl Failure {
    /// What clients that wait for it are told.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal.clone(),
            Self::Connect(fault) => Refusal::new("08001", fault.cause.text()),
            Self::Broken(what) => Refusal::new("08001", *what),
            Self::Tls(why) => Refusal::new("08001", format!("TLS with the server failed: {why}")),
            Self::Login(why) => Refusal::new(
                crate::problem::PROTOCOL,
                format!(
                    "server login failed: {}",
                    why.trim_start_matches("server login failed: ")
                ),
            ),
        }
    }
}

/// What a connection is made from.
pub(crate) struct Making<'p> {
    pub(crate) entry: ServerEntry,
    pub(crate) plan: &'p PoolPlan,
    pub(crate) credential: Credential,
    pub(crate) permit: Permit,
    pub(crate) shares: Vec<Share>,
    pub(crate) seat: Option<Seat>,
    pub(crate) generation: u64,
    /// The worker that makes it.
    pub(crate) worker: usize,
    pub(crate) parameters: Vec<(String, String)>,
    /// What is known of the server.
    pub(crate) standing: Arc<Standing>,
    pub(crate) now: Ticks,
}

/// Makes a connection. To be bounded in time by the caller.
pub(crate) async fn open(mut making: Making<'_>) -> Result<(Server, Welcome), Failure> {
    // For as long as it is not told otherwise: whoever runs out of patience drops this.
    making.entry.reason = "connect failed".into();
    let outcome = log_in(&mut making).await;
    let login = match outcome {
        Ok(login) => login,
        Err(failure) => {
            tell(&mut making, &failure).await;
            return Err(failure);
        }
    };
    making.entry.reason = "server conn crashed?".into();
    making.entry.seen.set_process(login.process as i32);
    Ok(server(making, login))
}

/// Says why there is no connection.
async fn tell(making: &mut Making<'_>, failure: &Failure) {
    let is_replication = making.entry.seen.replication.is_some();
    let refusal = failure.refusal();
    making.entry.reason = match failure {
        Failure::Connect(_) if !is_known(making.permit.endpoint()).await => {
            "server DNS lookup failed".into()
        }
        Failure::Connect(_) => "connect failed".into(),
        _ if is_replication => "login failed".into(),
        _ => refusal.message.clone(),
    };
    if let Failure::Refused(refusal) = failure {
        let message = &refusal.message;
        let (level, how) = if is_replication {
            (Level::Error, "login failed")
        } else {
            (Level::Warning, "server login failed")
        };
        making
            .entry
            .say(level, Topic::Other, || format!("{how}: FATAL {message}"));
    }
    if let Failure::Tls(why) = failure {
        let say = || format!("TLS handshake error: {why}");
        making.entry.say(Level::Warning, Topic::Other, say);
    }
}

/// Whether an endpoint's name has an address.
async fn is_known(endpoint: &Endpoint) -> bool {
    match endpoint.address() {
        Address::Tcp { host, port } if endpoint.address().socket_address().is_none() => {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await;
            found.is_ok_and(|mut addresses| addresses.next().is_some())
        }
        _ => true,
    }
}

/// Connects and logs in.
async fn log_in(making: &mut Making<'_>) -> Result<Login, Failure> {
    let plan = making.plan;
    let opening = Opening {
        connect: plan.limits.connect,
        unacknowledged: plan.limits.unacknowledged,
        silence: plan.limits.unacknowledged,
    };
    let (stream, place) = outgrow_upstream::dial(making.permit.endpoint(), opening)
        .await
        .map_err(Failure::Connect)?;
    making.entry.reason = "connect timeout".into();
    note_ends(making, &stream);
    let encryption = &plan.database.encryption;
    let endpoint = making.permit.endpoint();
    let socket = encrypt::encrypt(stream, endpoint, encryption).await?;
    if let Socket::Server(stream) = &socket {
        making.entry.seen.set_tls(stream.protocol());
    }
    let mut login = Login {
        socket,
        place,
        input: Vec::new(),
        process: 0,
        secret: Vec::new(),
        welcome: Welcome::new(&plan.house.followed),
    };
    let mut first = Vec::new();
    let user = plan.server_user.as_str();
    let database = plan.server_database.as_str();
    let parameters = [("user", user), ("database", database)].into_iter();
    let more = making.parameters.iter();
    write::startup(
        &mut first,
        parameters.chain(more.map(|(name, value)| (name.as_str(), value.as_str()))),
    );
    login.send(&first).await?;
    let policy = Policy {
        channel_binding: encryption.channel_binding,
        cleartext: match plan.house.manner {
            Manner::Postgres => Cleartext::Encrypted,
            Manner::PgBouncer => Cleartext::Anywhere,
        },
        ..Policy::default()
    };
    login.run(user, making.credential.clone(), &policy).await?;
    if !plan.database.connect_query.is_empty() {
        let problem = login.query(plan.database.connect_query.as_bytes()).await?;
        if let Some(problem) = problem {
            making.entry.say(Level::Error, Topic::Other, || {
                format!("error while executing exec_on_query: {problem}")
            });
        }
    }
    Ok(login)
}

/// Takes note of both ends.
fn note_ends(making: &Making<'_>, stream: &Stream) {
    let seen = &making.entry.seen;
    let mut named = making.parameters.iter();
    let name = named.rfind(|(name, _)| name == "application_name");
    seen.set_application(name.map_or("", |(_, value)| value));
    let mut from = String::new();
    if let Stream::Tcp(stream) = stream {
        let (far, near) = (stream.peer_addr().ok(), stream.local_addr().ok());
        seen.set_ends(far, near);
        from = near
            .map(|near| format!(" (from {near})"))
            .unwrap_or_default();
    }
    making.entry.say(Level::Log, Topic::Connections, || {
        format!("new connection to server{from}")
    });
}

fn server(making: Making<'_>, login: Login) -> (Server, Welcome) {
    let endpoint = Arc::clone(making.permit.endpoint());
    let encryption = &making.plan.database.encryption;
    let is_encrypted = login.socket.is_encrypted();
    let encryption = is_encrypted.then(|| Arc::clone(encryption));
    let server = Server {
        worker: making.worker,
        watch: Watch::new(Arc::clone(&making.entry.seen.doing)),
        entry: making.entry,
        socket: login.socket,
        down: Flow::default(),
        answers: Answers::default(),
        transaction: transaction::NONE,
        variables: login.welcome.variables.clone(),
        prepared: OnServer::default(),
        values: Values::default(),
        unnamed: Mark::default(),
        standing: making.standing,
        series: Vec::new(),
        settings: Settings::default(),
        silence: Silence::new(making.plan.limits.unacknowledged),
        target: Arc::new(Target {
            endpoint,
            address: login.place.address(),
            process: login.process,
            secret: login.secret.into(),
            encryption,
        }),
        place: login.place,
        created: making.now,
        idle_since: making.now,
        generation: making.generation,
        is_fresh: true,
        is_tainted: false,
        permit: making.permit,
        shares: making.shares,
        seat: making.seat,
    };
    (server, login.welcome)
}

struct Login {
    socket: Socket,
    place: Place,
    input: Vec<u8>,
    process: u32,
    secret: Vec<u8>,
    welcome: Welcome,
}

impl Login {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = self.socket.write_all(bytes).await;
        sent.map_err(|_| Failure::Broken("the server ended the connection at the login"))
    }

    /// The next message: its tag and body.
    async fn receive(&mut self) -> Result<(u8, Vec<u8>), Failure> {
        loop {
            match frame::look(&self.input) {
                Err(_) => return Err(Failure::Broken("the server does not speak Postgres")),
                Ok(Frame::Whole(header)) => {
                    let body = self.input[HEADER_BYTES..header.whole()].to_vec();
                    self.input.drain(..header.whole());
                    return Ok((header.tag, body));
                }
                Ok(Frame::Partial(header)) if header.whole() > MESSAGE_LIMIT => {
                    return Err(Failure::Broken("the server sends too much at the login"));
                }
                Ok(_) => {}
            }
            let mut buffer = [0; 4096];
            match poll_fn(|cx| self.socket.poll_read(cx, &mut buffer)).await {
                Ok(0) => return Err(closed(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) => return Err(closed(error)),
            }
        }
    }

    async fn run(
        &mut self,
        user: &str,
        credential: Credential,
        policy: &Policy,
    ) -> Result<(), Failure> {
        let mut nonce = [0; NONCE_BYTES];
        outgrow_core::random::system_bytes(&mut nonce);
        let channel = match &self.socket {
            Socket::Server(stream) => Channel::Tls {
                end_point: stream.certificate().and_then(end_point_hash),
            },
            Socket::Plain(Stream::Unix(_)) => Channel::Local,
            Socket::Plain(Stream::Tcp(_)) | Socket::Tls(_) => Channel::Plain,
        };
        let mut exchange = ClientExchange::new(user, credential, channel, policy, nonce);
        loop {
            let (tag, body) = self.receive().await?;
            match tag {
                backend::AUTHENTICATION => {
                    let mut step = exchange.answer(&body);
                    if let ClientStep::Derive(derivation) = step {
                        let derived = tokio::task::spawn_blocking(|| derivation.run()).await;
                        let derived = derived.map_err(|_| Failure::Broken("no thread"))?;
                        step = exchange.derived(derived);
                    }
                    match step {
                        ClientStep::Send(body) => {
                            let mut out = Vec::new();
                            write::password(&mut out, &body);
                            self.send(&out).await?;
                        }
                        ClientStep::Wait => {}
                        ClientStep::Done => break,
                        ClientStep::Derive(_) => return Err(Failure::Broken("an odd login")),
                        ClientStep::Refused(refusal) => return Err(Failure::Login(refusal.text)),
                    }
                }
                backend::NEGOTIATE_PROTOCOL_VERSION | backend::NOTICE_RESPONSE => {}
                _ => return Err(Self::other(tag, &body)),
            }
        }
        self.until_ready().await
    }

    async fn until_ready(&mut self) -> Result<(), Failure> {
        loop {
            let (tag, body) = self.receive().await?;
            match tag {
                backend::PARAMETER_STATUS => {
                    if let Some((name, value)) = read::setting(&body) {
                        self.welcome.note(name, value);
                    }
                }
                backend::BACKEND_KEY_DATA => {
                    let key = read::number(&body);
                    let (process, secret) = key.ok_or(Failure::Broken("an odd key to cancel"))?;
                    self.process = process as u32;
                    self.secret = secret.to_vec();
                }
                backend::READY_FOR_QUERY => return Ok(()),
                backend::NOTICE_RESPONSE => {}
                _ => return Err(Self::other(tag, &body)),
            }
        }
    }

    /// Runs a statement; gives the error that it answers, which is of no consequence.
    async fn query(&mut self, sql: &[u8]) -> Result<Option<String>, Failure> {
        let mut out = Vec::new();
        write::query(&mut out, sql);
        self.send(&out).await?;
        let mut problem = None;
        loop {
            match self.receive().await? {
                (backend::READY_FOR_QUERY, _) => return Ok(problem),
                (backend::ERROR_RESPONSE, body) => {
                    let said = read::Problem::read(&body);
                    problem = Some(String::from_utf8_lossy(said.message).into_owned());
                }
                (backend::PARAMETER_STATUS, body) => {
                    if let Some((name, value)) = read::setting(&body) {
                        self.welcome.note(name, value);
                    }
                }
                _ => {}
            }
        }
    }

    fn other(tag: u8, body: &[u8]) -> Failure {
        if tag != backend::ERROR_RESPONSE {
            return Failure::Broken("the server does not speak Postgres");
        }
        let problem = read::Problem::read(body);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Failure::Refused(Refusal {
            code: text(problem.code).into(),
            message: text(problem.message).into(),
        })
    }
}

fn closed(error: io::Error) -> Failure {
    // What the server thinks of our certificate comes after the handshake in TLS 1.3.
    let refusal = error.get_ref().and_then(|inner| inner.downcast_ref());
    if let Some(refusal) = refusal {
        let refusal: &outgrow_tls::Refusal = refusal;
        return Failure::Tls(refusal.to_string());
    }
    Failure::Broken("the server ended the connection at the login")
}
