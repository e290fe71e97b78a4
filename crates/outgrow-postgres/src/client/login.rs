//! The start of a client: encryption, what it asks for, who it is. Then it is moved to the worker
//! that owns its pool.

use std::future::poll_fn;
use std::sync::Arc;

use outgrow_net::{Stream, Transport};

use super::{Bytes, Identity, Moved, Open, Peer, accept, startup};
use crate::budget::{Of, Share};
use crate::client::MovedClient;
use crate::plan::Plan;
use crate::problem::{NO_DATABASE, PROTOCOL, Refusal, TOO_MANY};
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
}

/// Logs a client in.
pub(super) async fn run(worker: Arc<Worker>, stream: Stream, peer: Peer, open: Open) {
    let plan = worker.shared.plan.load();
    let limit = plan.house.login;
    let mut login = Login {
        worker: Arc::clone(&worker),
        socket: Socket::Plain(stream),
        input: Vec::new(),
        peer,
    };
    let end = match tokio::time::timeout(limit, login.run(&plan, open)).await {
        Ok(Ok(identity)) => {
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
            });
            accept::hand_on(&worker, to, moved);
            return;
        }
        Ok(Err(end)) => end,
        Err(_) => Refusal::new(PROTOCOL, "client_login_timeout").into(),
    };
    if let End::Refused(refusal) = end {
        tell(&mut login.socket, &refusal).await;
    }
}

fn owner(worker: &Worker, plan: &Plan, identity: &Identity) -> usize {
    let database = plan.database(&identity.database);
    let user = database.and_then(|database| database.user.as_deref());
    let user = user.unwrap_or(&identity.user);
    worker.shared.owner(&identity.database, user)
}

/// Tells a client why it is refused, as far as it listens.
pub(super) async fn tell(socket: &mut Socket, refusal: &Refusal) {
    let mut out = Vec::new();
    refusal.write(&mut out);
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
    async fn run(&mut self, plan: &Plan, open: Open) -> Result<Identity, End> {
        let startup = self.opening(plan).await?;
        if startup.minor > 0 || startup.parameters.protocol_options().next().is_some() {
            let mut out = Vec::new();
            write::negotiate(&mut out, 0, startup.parameters.protocol_options());
            self.send(&out).await?;
        }
        let wanted = startup::read(&startup.parameters, &plan.house)?;
        let credential = self.prove(plan, &wanted).await?;
        let Some(database) = plan.database(&wanted.database) else {
            let message = format!("no such database: {}", wanted.database);
            return Err(Refusal::new(NO_DATABASE, message).into());
        };
        let shares =
            self.take_shares(plan, &wanted.database, database.max_clients, &wanted.user)?;
        Ok(Identity {
            database: wanted.database.into(),
            user: wanted.user.into(),
            replication: wanted
                .replication
                .map(|value| replication_parameters(&value, &startup, &wanted.variables)),
            variables: wanted.variables,
            credential,
            peer: self.peer,
            shares,
            open,
        })
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
                    crate::client::serve::cancel(&self.worker, process, &secret).await;
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

    fn take_shares(
        &self,
        plan: &Plan,
        database: &str,
        database_limit: u32,
        user: &str,
    ) -> Result<Vec<Share>, Refusal> {
        let budgets = &self.worker.shared.budgets;
        let user_limit = plan.users.get(user).map_or(0, |user| user.max_clients);
        let wanted = [
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
        let mut shares = Vec::new();
        for (what, limit, message) in wanted {
            let share = budgets.of(what).take(limit);
            shares.push(share.ok_or_else(|| Refusal::new(TOO_MANY, message))?);
        }
        Ok(shares)
    }
}
