//! Replicas that are behind: what the primary and they themselves say of it. They are only asked when
//! they are further behind than they may be.

use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_upstream::Endpoint;

use super::connection::{self, Patience, Unanswered, ask, millis, number, text};
use super::{APPLICATION, CONNECT, Login};
use crate::diagnosis::Finding;
use crate::diagnosis::server::replicas::{self, Behind, Limits, Own, Sender, Traffic};
use crate::diagnosis::server::session::Session;
use crate::plan::PoolPlan;
use crate::pool::Pool;
use crate::server::Server;
use crate::standing::{Lsn, Role};
use crate::wire::read;
use crate::worker::Worker;

/// Most connections to replicas that the primary tells of.
const MOST_SENDERS: usize = 64;

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// What was counted at the last look, and what was counted since then at that time.
    counted: Traffic,
    traffic: Traffic,
}

impl Looks {
    /// Takes note of what pools have counted.
    fn count(&mut self, pools: &[Arc<Pool>]) {
        let sum = |of: fn(&Pool) -> u64| pools.iter().map(|pool| of(pool)).sum();
        let now = Traffic {
            on_replicas: sum(|pool| pool.numbers.on_replicas.get()),
            kept: sum(|pool| pool.numbers.kept_from_replicas.get()),
        };
        self.traffic = Traffic {
            on_replicas: now.on_replicas.saturating_sub(self.counted.on_replicas),
            kept: now.kept.saturating_sub(self.counted.kept),
        };
        self.counted = now;
    }

    /// Looks at all replicas of a pool's service. `primary` is a connection to their primary.
    pub(super) async fn look(
        &mut self,
        worker: &Arc<Worker>,
        login: &Login,
        pools: &[Arc<Pool>],
        primary: &mut Server,
        limits: Limits,
    ) -> Result<Vec<Finding>, Unanswered> {
        self.count(pools);
        let late = late(worker, &login.0, primary, limits);
        if late.is_empty() {
            return Ok(Vec::new());
        }
        let senders = match senders(primary).await {
            Err(Unanswered::Broken) => return Err(Unanswered::Broken),
            other => other.unwrap_or_default(),
        };
        let mut found = Vec::new();
        for (endpoint, behind) in late {
            let own = own(worker, login, &endpoint).await;
            let host = endpoint
                .address()
                .socket_address()
                .map(|one| one.ip().to_string());
            let mut of_it = senders
                .iter()
                .filter(|one| Some(&one.address) == host.as_ref());
            // Two from one address cannot be told apart.
            let sender = of_it.next().filter(|_| of_it.next().is_none());
            let server = Arc::from(endpoint.label());
            found.push(replicas::finding(
                &server,
                &behind,
                limits,
                own.as_ref(),
                sender,
                self.traffic,
            ));
        }
        Ok(found)
    }
}

/// The replicas that are further behind than they may be.
fn late(
    worker: &Arc<Worker>,
    plan: &PoolPlan,
    primary: &Server,
    limits: Limits,
) -> Vec<(Arc<Endpoint>, Behind)> {
    let standings = &worker.shared.standings;
    let standing = standings.of(primary.endpoint());
    let now: Ticks = worker.now();
    let set = plan.database.service.endpoints().load();
    let replicas = set.all.iter().filter_map(|endpoint| {
        let replica = standings.of(endpoint);
        if replica.role() != Some(Role::Replica) {
            return None;
        }
        let behind = Behind {
            lag: standing.lag_of(replica.lsn(), now),
            bytes: standing.lsn().since(replica.lsn()),
            primary: standing.lsn(),
        };
        behind
            .is_over(limits)
            .then(|| (Arc::clone(endpoint), behind))
    });
    replicas.collect()
}

/// What the primary says of its connections to replicas. Its user must be a member of `pg_monitor`.
async fn senders(server: &mut Server) -> Result<Vec<Sender>, Unanswered> {
    let question = format!(
        "SELECT host(client_addr), state, \
         (extract(epoch FROM write_lag) * 1000)::bigint, \
         (extract(epoch FROM flush_lag) * 1000)::bigint, \
         (extract(epoch FROM replay_lag) * 1000)::bigint \
         FROM pg_stat_replication WHERE state IS NOT NULL LIMIT {MOST_SENDERS}"
    );
    let mut senders = Vec::new();
    ask(server, &question, |body| {
        if let Some([address, state, write, flush, replay]) = read::columns::<5>(body) {
            senders.push(Sender {
                address: text(address),
                state: text(state),
                lags: [write, flush, replay].map(millis),
            });
        }
    })
    .await?;
    Ok(senders)
}

/// What a replica says of itself; none where it cannot be asked.
async fn own(
    worker: &Arc<Worker>,
    (plan, credential): &Login,
    endpoint: &Arc<Endpoint>,
) -> Option<Own> {
    const QUESTION: &str = "SELECT pg_is_wal_replay_paused(), \
        (extract(epoch FROM current_setting('recovery_min_apply_delay')::interval) * 1000)::bigint, \
        EXISTS (SELECT FROM pg_stat_wal_receiver), pg_last_wal_receive_lsn(), \
        CASE current_setting('max_standby_streaming_delay') WHEN '-1' THEN NULL \
        ELSE (extract(epoch FROM current_setting('max_standby_streaming_delay')::interval) \
        * 1000)::bigint END; \
        SELECT pid, usename, application_name, host(client_addr), state, \
        (extract(epoch FROM clock_timestamp() - query_start) * 1000)::bigint, \
        (extract(epoch FROM clock_timestamp() - xact_start) * 1000)::bigint, left(query, 2000) \
        FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
        AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1";
    let name = Some(APPLICATION);
    let made = connection::connect(
        worker,
        plan,
        credential.clone(),
        endpoint,
        name,
        Patience::None,
    );
    let mut server = tokio::time::timeout(CONNECT, made).await.ok()?.ok()?;
    let mut own: Option<Own> = None;
    let mut longest = None;
    let take = |body: &[u8]| {
        if let Some([is_paused, delay, is_receiving, received, waits]) = read::columns::<5>(body) {
            own = Some(Own {
                is_paused: is_paused == Some(b"t"),
                delay: millis(delay).unwrap_or_default(),
                is_receiving: is_receiving == Some(b"t"),
                received: Lsn::read(&text(received)),
                waits_for_queries: waits.map(|waits| millis(Some(waits)).unwrap_or_default()),
                longest: None,
            });
        } else if let Some(columns) = read::columns::<8>(body) {
            longest = session(columns);
        }
    };
    ask(&mut server, QUESTION, take).await.ok()?;
    let mut own = own?;
    own.longest = longest;
    Some(own)
}

fn session(columns: [Option<&[u8]>; 8]) -> Option<Session> {
    let [
        process,
        user,
        application,
        address,
        state,
        statement,
        transaction,
        query,
    ] = columns;
    let statement: Option<Duration> = millis(statement);
    Some(Session {
        process: number(process)?,
        user: text(user),
        application: text(application),
        address: text(address),
        kind: "client backend".to_owned(),
        state: text(state),
        statement,
        changed: statement,
        transaction: millis(transaction),
        text: text(query),
        ..Session::default()
    })
}
