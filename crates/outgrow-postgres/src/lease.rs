//! A connection that is lent. One that is not given back is closed and forgotten, whatever happens
//! to who had it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;

use crate::client::Settings;
use crate::plan::PoolPlan;
use crate::pool::Pool;
use crate::problem::Refusal;
use crate::seen::ServerState;
use crate::sequences::Values;
use crate::server::Server;
use crate::worker::Worker;

/// How long a statement that makes a connection like new may take.
const RESET_LIMIT: Duration = Duration::from_secs(10);
/// How long a cancel request may keep a connection from being lent again.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether cancel requests are over.
const CANCEL_LOOK: Duration = Duration::from_millis(1);

/// A connection that is lent.
pub(crate) struct Lease {
    server: Option<Box<Server>>,
    pool: Arc<Pool>,
    worker: Arc<Worker>,
    /// How whoever borrowed it should be served, as of then.
    pub(crate) plan: Arc<PoolPlan>,
    /// When it was lent.
    pub(crate) since: Ticks,
}

impl Lease {
    /// Of a connection that `pool` has lent at `since` to who is to be served by `plan`.
    pub(crate) fn new(
        mut server: Box<Server>,
        pool: Arc<Pool>,
        worker: &Arc<Worker>,
        plan: Arc<PoolPlan>,
        since: Ticks,
    ) -> Self {
        if server.worker != worker.index {
            server.move_to(worker.index);
        }
        Self {
            server: Some(server),
            pool,
            worker: Arc::clone(worker),
            plan,
            since,
        }
    }

    /// One for a purpose of ours, after those who came before. To be bounded in time.
    ///
    /// # Errors
    /// What clients are told that wait for the same pool, where that is why there is none.
    pub(crate) async fn of_ours(
        pool: &Arc<Pool>,
        worker: &Arc<Worker>,
    ) -> Result<Self, Option<Refusal>> {
        let now = worker.now();
        let server = match pool.try_lend(now, None) {
            Some(server) => server,
            None => {
                let mut place = pool.enter(now);
                worker.grow(pool);
                let lent = poll_fn(|cx| Pin::new(&mut place.answer).poll(cx)).await;
                lent.map_err(|_| None)?.map_err(Some)?
            }
        };
        let (pool, plan) = (Arc::clone(pool), pool.plan());
        Ok(Self::new(server, pool, worker, plan, worker.now()))
    }

    /// The connection, and how whoever borrowed it should be served.
    pub(crate) fn parts(&mut self) -> Option<(&mut Server, &Arc<PoolPlan>)> {
        Some((self.server.as_deref_mut()?, &self.plan))
    }

    /// The connection.
    pub(crate) fn server(&mut self) -> Option<&mut Server> {
        self.server.as_deref_mut()
    }

    /// Gives back a connection that is at rest.
    pub(crate) fn give_back(self) {
        let now = self.worker.now();
        self.give_back_at(now);
    }

    /// Gives back, at `now`, a connection that is at rest; one that is not clean is made like new first.
    pub(crate) fn give_back_at(mut self, now: Ticks) {
        let Some(server) = &self.server else {
            return;
        };
        let needs_reset = server.is_tainted || self.plan.limits.resets_always;
        if server.target.is_being_cancelled() || needs_reset {
            let state = if server.target.is_being_cancelled() {
                ServerState::BeingCancelled
            } else {
                ServerState::Tested
            };
            server.entry.seen.set_state(state);
            tokio::spawn(self.give_back_later(needs_reset));
            return;
        }
        self.put_back(now);
    }

    fn put_back(&mut self, now: Ticks) {
        let Some(server) = self.server.take() else {
            return;
        };
        server.entry.seen.set_link(0);
        if let Some(server) = self.pool.give_back(server, now) {
            server.close("close_needed");
            self.worker.replace(&self.pool);
        }
    }

    /// Waits for cancel requests, which must not hit another client's query, and makes like new
    /// what is to be.
    async fn give_back_later(mut self, needs_reset: bool) {
        let Some(server) = self.server.as_deref_mut() else {
            return;
        };
        let over = async {
            while server.target.is_being_cancelled() {
                tokio::time::sleep(CANCEL_LOOK).await;
            }
        };
        if tokio::time::timeout(CANCEL_LIMIT, over).await.is_err() {
            return;
        }
        let sql = self.pool.plan().limits.reset_query.clone();
        if needs_reset && !sql.is_empty() {
            let done = tokio::time::timeout(RESET_LIMIT, server.run(sql.as_bytes())).await;
            if !matches!(done, Ok(Ok(()))) {
                return;
            }
            if sql.to_ascii_uppercase().contains("DISCARD ALL") {
                server.prepared.clear();
                server.settings = Settings::default();
                server.values = Values::default();
            }
        }
        server.is_tainted = false;
        let now = self.worker.now();
        self.put_back(now);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            drop(server);
            self.pool.forget();
            self.worker.replace(&self.pool);
        }
    }
}
