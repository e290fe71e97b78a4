//! A client that replicates: a connection to the primary of its own, made with what it asked for at
//! its start, and closed with it.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use super::Client;
use super::relay::{End, Relay};
use crate::lease::Lease;
use crate::making;
use crate::plan::Manner;
use crate::problem::{PROTOCOL, Refusal};
use crate::seen::{ClientState, ServerState};
use crate::server::open::Failure;
use crate::settings::PoolMode;
use crate::variables::Welcome;

/// How often it is looked whether there is room.
const LOOK: Duration = Duration::from_millis(20);

impl Client {
    /// Everything. Ends with what the client is to be told, if anything.
    pub(super) async fn replicate(
        &mut self,
        parameters: Vec<(String, String)>,
    ) -> Result<(), Option<Refusal>> {
        let (mut lease, welcome) = self.own_connection(parameters).await?;
        self.variables.clone_from(&welcome.variables);
        self.greet(&welcome);
        self.pool.numbers.logins.add(1);
        self.identity.entry.seen.set_state(ClientState::Active);
        let mut plan = (*self.pool.plan()).clone();
        plan.mode = PoolMode::Session;
        let plan = Arc::new(plan);
        loop {
            self.idle().await?;
            let Some(server) = lease.server() else {
                return Err(None);
            };
            let (own, other) = (&self.identity.entry.seen, &server.entry.seen);
            own.set_link(other.number);
            other.set_link(own.number);
            other.set_state(ServerState::Active);
            server.entry.reason = "replication client was closed".into();
            self.cancel.set(Some(Arc::clone(&server.target)));
            let now = self.worker.now();
            let mut relay = Relay::new(self, server, &plan, now);
            let end = poll_fn(|cx| relay.poll(cx)).await;
            self.cancel.set(None);
            let refusal = match end {
                End::Rest | End::Done => continue,
                // Nothing of replication is asked again elsewhere.
                End::LeftAtRest | End::LeftAmid | End::Again(_) => return Err(None),
                End::ServerGone(refusal) => refusal.unwrap_or_else(|| Refusal::new(PROTOCOL, "")),
                End::Refused(refusal) => refusal,
            };
            self.tail = std::mem::take(&mut server.down);
            return Err(Some(refusal));
        }
    }

    async fn own_connection(
        &self,
        parameters: Vec<(String, String)>,
    ) -> Result<(Lease, Welcome), Option<Refusal>> {
        let limit = self.pool.plan().limits.wait;
        let room = async {
            loop {
                match self.pool.take_room() {
                    Ok(Some(evicted)) => return evicted.close("evicted"),
                    Ok(None) => return,
                    Err(_) => tokio::time::sleep(LOOK).await,
                }
            }
        };
        let limit = if limit.is_zero() {
            Duration::MAX
        } else {
            limit
        };
        if tokio::time::timeout(limit, room).await.is_err() {
            return Err(Some(Refusal::new(PROTOCOL, "query_wait_timeout")));
        }
        let opened = making::make_own(&self.worker, &self.pool, parameters).await;
        match opened {
            Ok((server, welcome)) => {
                let (plan, now) = (self.pool.plan(), self.worker.now());
                let lease = Lease::new(server, Arc::clone(&self.pool), &self.worker, plan, now);
                Ok((lease, welcome))
            }
            Err(failure) => {
                self.pool.forget();
                let manner = self.pool.plan().house.manner;
                Err(Some(match (manner, &failure) {
                    (Manner::PgBouncer, Failure::Refused(_)) => {
                        Refusal::new(PROTOCOL, "login failed")
                    }
                    _ => failure.refusal(),
                }))
            }
        }
    }
}
