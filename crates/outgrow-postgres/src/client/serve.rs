//! A client's life after its login: greeted, then served, one lending after the other.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_net::{Timer, Transport};

use super::judge::{Judged, is_amid_message};
use super::relay::{End, Relay};
use super::route::Route;
use super::session::Session;
use super::{Client, Identity, login};
use crate::flow::{Flow, Read};
use crate::lease::Lease;
use crate::pool::Pool;
use crate::prepared::OfClient;
use crate::problem::{IDLE_SESSION, NO_DATABASE, PROTOCOL, Refusal, SHUTDOWN};
use crate::server::encrypt;
use crate::settings::PoolMode;
use crate::socket::Socket;
use crate::sql::Lexing;
use crate::variables::Welcome;
use crate::wire::write;
use crate::worker::{Drain, Worker};

/// How long a cancel request may take on its way to the server.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// Serves a client until it leaves.
pub(super) async fn run(
    worker: Arc<Worker>,
    mut identity: Box<Identity>,
    mut socket: Socket,
    input: Vec<u8>,
) {
    let plan = worker.shared.plan.load();
    let database = plan.database(&identity.database);
    let server_user = database.and_then(|database| database.user.as_deref());
    let server_user = server_user.map_or_else(|| Arc::clone(&identity.user), Arc::from);
    let Some(pool) = worker.pool(&identity.database, &server_user) else {
        let message = format!("no such database: {}", identity.database);
        login::tell(&mut socket, &Refusal::new(NO_DATABASE, message)).await;
        return;
    };
    let now = worker.now();
    worker.learn_credential(&pool, Some(&identity));
    pool.count_client(true, now);
    let mut up = Flow::default();
    if !up.preload(&input, &worker.blocks) {
        pool.count_client(false, now);
        return;
    }
    let variables = std::mem::replace(
        &mut identity.variables,
        crate::variables::Variables::new(&plan.house.followed),
    );
    let mut client = Client {
        cancel: worker.shared.cancels.add(),
        timer: Timer::new(&worker.wheel),
        pool,
        socket,
        up,
        tail: Flow::default(),
        variables,
        names: OfClient::default(),
        session: Session::default(),
        wrote: None,
        reads: None,
        lexing: Lexing::default(),
        unnamed: None,
        portals: Vec::new(),
        identity,
        worker,
    };
    drop(plan);
    let end = match client.identity.replication.take() {
        Some(parameters) => client.replicate(parameters).await,
        None => client.live().await,
    };
    if let Err(Some(refusal)) = end {
        client.finish(&refusal).await;
    }
}

impl Client {
    /// Everything. Ends with what the client is to be told, if anything.
    async fn live(&mut self) -> Result<(), Option<Refusal>> {
        let welcome = self.welcome().await?;
        self.greet(&welcome);
        drop(welcome);
        self.pool.numbers.logins.add(1);
        self.reads = self.worker.reads(&self.pool);
        loop {
            self.idle().await?;
            let replica = self.choose_replica().await;
            let lease = self.lend_from(replica.as_ref()).await?;
            self.relay(lease, replica.is_some()).await?;
        }
    }

    /// What servers of the pool report, as soon as one was reached.
    async fn welcome(&mut self) -> Result<Arc<Welcome>, Option<Refusal>> {
        loop {
            if let Some(welcome) = self.pool.welcome() {
                return Ok(welcome);
            }
            self.lend().await?.give_back();
        }
    }

    pub(super) fn greet(&mut self, welcome: &Welcome) {
        self.variables.fill(&welcome.variables);
        self.note_lexing();
        let key = self.cancel.key;
        let house = Arc::clone(&self.pool.plan().house);
        let variables = &self.variables;
        self.tail.put(|out| {
            write::authentication_ok(out);
            welcome.write(variables, out);
            write::backend_key(out, key.process, &key.secret.to_be_bytes());
            if !house.login_notice.is_empty() {
                let notice = write::Problem {
                    severity: "NOTICE",
                    code: "00000",
                    message: &house.login_notice,
                    hint: "",
                };
                write::notice(out, notice);
            }
            write::ready(out, b'I');
        });
    }

    /// Waits for the client to want something that needs a connection.
    pub(super) async fn idle(&mut self) -> Result<(), Option<Refusal>> {
        let limit = self.pool.plan().limits.client_idle;
        let deadline = if limit.is_zero() {
            Ticks::NEVER
        } else {
            self.worker.now() + limit
        };
        // A deadline also lets the wheel wake this client when everything ends.
        self.timer.set(deadline.min(Ticks(u64::MAX - 1)));
        poll_fn(|cx| {
            loop {
                if self.tail.is_pending() {
                    match self.tail.poll_write(cx, &mut self.socket) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(None)),
                        Poll::Pending => break,
                    }
                }
                match self.judge_alone() {
                    Judged::NeedsServer => return Poll::Ready(Ok(())),
                    Judged::Leaves => return Poll::Ready(Err(None)),
                    Judged::Refused(refusal) => return Poll::Ready(Err(Some(refusal))),
                    Judged::Blocked => {}
                }
                if self.tail.is_pending() {
                    continue;
                }
                match self.up.poll_read(cx, &mut self.socket, &self.worker.blocks) {
                    Poll::Ready(Ok(Read::Some)) => {}
                    Poll::Ready(Ok(Read::End) | Err(_)) => return Poll::Ready(Err(None)),
                    Poll::Ready(Ok(Read::NoMemory)) => {
                        let soon = self.worker.now() + outgrow_net::wheel::SLOT;
                        self.timer.set(soon.min(deadline));
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            if self.worker.shared.drain() == Drain::Gently && !is_amid_message(&self.up) {
                let message = "server shutting down";
                return Poll::Ready(Err(Some(Refusal::new(SHUTDOWN, message))));
            }
            let now = self.worker.now();
            if self.timer.poll(cx, now).is_ready() {
                if deadline <= now {
                    let refusal = Refusal::new(IDLE_SESSION, "client_idle_timeout");
                    return Poll::Ready(Err(Some(refusal)));
                }
                self.timer.set(deadline.min(Ticks(u64::MAX - 1)));
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// The pool of a replica for what the client wants, if it may go there.
    async fn choose_replica(&mut self) -> Option<Arc<Pool>> {
        let reads = Arc::clone(self.reads.as_ref()?);
        let plan = self.pool.plan();
        let reads_plan = plan.house.reads.as_ref()?;
        if plan.mode == PoolMode::Session || self.route(&reads) == Route::Primary {
            return None;
        }
        self.replica(reads_plan).await
    }

    /// Gets a connection to the primary.
    async fn lend(&mut self) -> Result<Lease, Option<Refusal>> {
        self.lend_from(None).await
    }

    /// Gets a connection: a free one, or the next after those who came before.
    async fn lend_from(&mut self, replica: Option<&Arc<Pool>>) -> Result<Lease, Option<Refusal>> {
        let pool = Arc::clone(replica.unwrap_or(&self.pool));
        let began = self.worker.now();
        self.pool.numbers.assignments.add(1);
        if let Some(server) = pool.try_lend(began) {
            self.pool.numbers.waits.record(0);
            return Ok(Lease::new(server, &pool, &self.worker));
        }
        let mut place = pool.enter(began);
        self.worker.grow(&pool);
        let limit = self.pool.plan().limits.wait;
        let deadline = if limit.is_zero() {
            Ticks::NEVER
        } else {
            began + limit
        };
        self.timer.set(deadline.min(Ticks(u64::MAX - 1)));
        let lent = poll_fn(|cx| {
            if let Poll::Ready(answer) = std::pin::Pin::new(&mut place.answer).poll(cx) {
                let refusal = || Refusal::new(SHUTDOWN, "server shutting down");
                return Poll::Ready(answer.unwrap_or_else(|_| Err(refusal())).map_err(Some));
            }
            // A client that goes away gives up its place. What it says meanwhile waits.
            if self.up.has_room_to_read() {
                match self.up.poll_read(cx, &mut self.socket, &self.worker.blocks) {
                    Poll::Ready(Ok(Read::End) | Err(_)) => return Poll::Ready(Err(None)),
                    Poll::Ready(Ok(Read::Some)) => cx.waker().wake_by_ref(),
                    Poll::Ready(Ok(Read::NoMemory)) | Poll::Pending => {}
                }
            }
            let now = self.worker.now();
            if self.timer.poll(cx, now).is_ready() && deadline <= now {
                let why = pool.why_failed();
                let refusal = why.unwrap_or_else(|| Refusal::new(PROTOCOL, "query_wait_timeout"));
                return Poll::Ready(Err(Some(refusal)));
            }
            Poll::Pending
        });
        let lent = lent.await;
        let server = lent?;
        let waited = self.worker.now().micros_since(began);
        self.pool.numbers.wait_micros.add(waited);
        self.pool.numbers.waits.record(waited);
        Ok(Lease::new(server, &pool, &self.worker))
    }

    /// Lets the client work with the connection until it is done with it.
    async fn relay(&mut self, mut lease: Lease, on_replica: bool) -> Result<(), Option<Refusal>> {
        let plan = self.pool.plan();
        let Some(server) = lease.server() else {
            return Err(None);
        };
        self.timer.set(Ticks::NEVER);
        self.cancel.set(Some(server.target.clone()));
        let now = self.worker.now();
        let mut relay = Relay::new(self, server, &plan, now);
        relay.on_replica = on_replica;
        relay.bring_settings();
        let end = poll_fn(|cx| relay.poll(cx)).await;
        self.cancel.set(None);
        let refusal = match end {
            End::Rest => {
                lease.give_back();
                return Ok(());
            }
            End::LeftAtRest => {
                let pins = self.session.pins();
                server.is_tainted |= plan.mode == PoolMode::Session || !pins.is_empty();
                // What no statement undoes ends with the connection.
                if pins.iter().all(|pin| pin.cleaning().is_some()) {
                    lease.give_back();
                }
                return Err(None);
            }
            End::LeftAmid => return Err(None),
            End::ServerGone(refusal) => refusal.unwrap_or_else(nothing_more),
            End::Refused(refusal) => refusal,
        };
        // What the server said last is to reach the client.
        self.tail = std::mem::take(&mut server.down);
        Err(Some(refusal))
    }

    /// Tells the client why it ends, after what it is still to get.
    async fn finish(&mut self, refusal: &Refusal) {
        if !refusal.message.is_empty() {
            self.tail.put(|out| refusal.write(out));
        }
        let told = async {
            let _ = poll_fn(|cx| self.tail.poll_write(cx, &mut self.socket)).await;
            let _ = poll_fn(|cx| self.socket.poll_shutdown(cx)).await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
    }
}

/// A refusal without words, when everything was said.
fn nothing_more() -> Refusal {
    Refusal::new(PROTOCOL, "")
}

/// Passes a cancel request on to the server that works for the client.
pub(super) async fn cancel(worker: &Arc<Worker>, process: u32, secret: &[u8]) {
    let Some(client) = worker.shared.cancels.find(process, secret) else {
        return;
    };
    let Some(target) = client.target() else {
        return;
    };
    let opening = outgrow_upstream::Opening {
        connect: CANCEL_LIMIT,
        unacknowledged: Duration::ZERO,
    };
    let send = async {
        let connection = outgrow_upstream::connect(&target.endpoint, opening, worker.now())
            .await
            .ok()?;
        let encryption = target.encryption.as_ref();
        let socket = encrypt::encrypt_again(connection.stream, &target.endpoint, encryption);
        let mut socket = socket.await.ok()?;
        let mut out = Vec::new();
        write::cancel(&mut out, target.process, &target.secret);
        socket.write_all(&out).await.ok()?;
        // The server closes when it has dealt with it.
        let mut byte = [0];
        poll_fn(|cx| socket.poll_read(cx, &mut byte)).await.ok()
    };
    let _ = tokio::time::timeout(CANCEL_LIMIT, send).await;
}
