//! The lease in etcd: a key that is there only while somebody holds it, under a lease of etcd's.
//!
//! The key's value is the holder's identity. A process finds the key with its own identity when
//! another one of the same box took it, or when an answer was lost; then it brings the key under
//! its own lease, so that the end of the other one's takes nothing away.

use std::time::Duration;

use super::driver::Answer;
use super::settings::LeaderEtcd;
use crate::discovery::Surroundings;
use crate::etcd::cluster::{Cluster, is_lease_gone};
use crate::etcd::messages::{self, Watched};
use crate::etcd::writing::{self, LeaseId, Verdict};
use crate::http::{Lines, Problem};

/// How often it is begun anew in one question: a lease that is gone, a key that changed meanwhile.
const TURNS: usize = 3;
/// Longest line of a watch, in bytes.
const WATCHED: usize = 1 << 20;
/// How long the head of a watch may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// From a watch that ended to the next look.
const PAUSE: Duration = Duration::from_secs(1);

/// The key.
pub(super) struct Lock {
    cluster: Cluster,
    key: String,
    identity: String,
    seconds: u64,
    lease: Option<LeaseId>,
    /// As of which revision it was another one's.
    revision: u64,
}

impl Lock {
    pub(super) fn new(
        settings: &LeaderEtcd,
        key: &str,
        identity: &str,
        ttl: Duration,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            cluster: Cluster::new(
                &settings.servers,
                settings.tls.as_ref(),
                &settings.user,
                &settings.password,
                surroundings,
            ),
            key: key.to_owned(),
            identity: identity.to_owned(),
            seconds: ttl.as_secs_f64().ceil() as u64,
            lease: None,
            revision: 0,
        }
    }

    pub(super) async fn hold(&mut self, patience: Duration) -> Result<Answer, String> {
        let server = self.cluster.name();
        let held = self.try_hold(patience).await;
        held.map_err(|problem| format!("{server}: {problem}"))
    }

    async fn try_hold(&mut self, patience: Duration) -> Result<Answer, Problem> {
        for _ in 0..TURNS {
            match self.turn(patience).await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(problem) if is_lease_gone(&problem) => self.lease = None,
                Err(problem) => return Err(problem),
            }
        }
        Err(Problem::Content(
            "the lease changes all the time".to_owned(),
        ))
    }

    /// `None` when it has to be begun anew.
    async fn turn(&mut self, patience: Duration) -> Result<Option<Answer>, Problem> {
        if let Some(lease) = self.lease {
            let question = writing::lease(lease);
            let answer = self.cluster.ask("/v3/lease/keepalive", &question, patience);
            if !writing::read_kept(&answer.await?).map_err(Problem::Content)? {
                self.lease = None;
                return Ok(None);
            }
            // That the lease lives says nothing about the key.
            let question = writing::is_ours(&self.key, &self.identity, lease);
            let verdict = self.decide(&question, patience).await?;
            return match verdict.found {
                _ if verdict.is_done => Ok(Some(Answer::Ours)),
                None => self.take(lease, patience).await,
                Some(value) => self.found(&value, lease, patience).await,
            };
        }
        let question = writing::get(&self.key);
        let answer = self.cluster.ask("/v3/kv/range", &question, patience);
        let listing = messages::read_range(&answer.await?).map_err(Problem::Content)?;
        let value = listing.pairs.first().map(|pair| pair.value.as_slice());
        if let Some(value) = value
            && value != self.identity.as_bytes()
        {
            self.revision = listing.revision;
            return Ok(Some(others(value)));
        }
        let question = writing::grant(self.seconds);
        let answer = self.cluster.ask("/v3/lease/grant", &question, patience);
        let lease = writing::read_grant(&answer.await?).map_err(Problem::Content)?;
        self.lease = Some(lease);
        match value {
            Some(value) => self.found(value, lease, patience).await,
            None => self.take(lease, patience).await,
        }
    }

    /// Nobody had it a moment ago.
    async fn take(&mut self, lease: LeaseId, limit: Duration) -> Result<Option<Answer>, Problem> {
        let question = writing::put_if_absent(&self.key, &self.identity, lease);
        let verdict = self.decide(&question, limit).await?;
        match verdict.found {
            _ if verdict.is_done => Ok(Some(Answer::Ours)),
            Some(value) if value != self.identity.as_bytes() => self.lost_to(&value, limit).await,
            _ => Ok(None),
        }
    }

    /// Somebody had it a moment ago: another process of ours, or another box.
    async fn found(
        &mut self,
        value: &[u8],
        lease: LeaseId,
        limit: Duration,
    ) -> Result<Option<Answer>, Problem> {
        if value != self.identity.as_bytes() {
            return self.lost_to(value, limit).await;
        }
        let question = writing::put_if_value(&self.key, &self.identity, lease);
        let verdict = self.decide(&question, limit).await?;
        Ok(verdict.is_done.then_some(Answer::Ours))
    }

    async fn lost_to(&mut self, value: &[u8], limit: Duration) -> Result<Option<Answer>, Problem> {
        if let Some(lease) = self.lease.take() {
            let question = writing::lease(lease);
            // It is of no use any more; its time ends it as well.
            let _ = self.cluster.ask("/v3/lease/revoke", &question, limit).await;
        }
        Ok(Some(others(value)))
    }

    async fn decide(&mut self, question: &[u8], patience: Duration) -> Result<Verdict, Problem> {
        let answer = self.cluster.ask("/v3/kv/txn", question, patience).await?;
        let verdict = writing::read_verdict(&answer).map_err(Problem::Content)?;
        self.revision = verdict.revision;
        Ok(verdict)
    }

    pub(super) async fn wait_free(&self) {
        // A watch that cannot be had, or was lost, is as good as a look after a while.
        if self.watch().await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends well when the key was removed.
    async fn watch(&self) -> Result<(), Problem> {
        let question = writing::watch_key(&self.key, self.revision);
        let mut answer = self.cluster.open("/v3/watch", &question, PATIENCE).await?;
        let mut lines = Lines::new(WATCHED);
        while let Some(piece) = answer.piece().await? {
            for line in lines.take(&piece)? {
                match messages::read_watch(&line).map_err(Problem::Content)? {
                    Watched::Nothing => {}
                    Watched::Changes(changes) if changes.iter().all(|(_, put)| put.is_some()) => {}
                    Watched::Changes(_) => return Ok(()),
                    Watched::Lost(reason) => return Err(Problem::Content(reason)),
                }
            }
        }
        Err(Problem::Malformed("the watch was closed"))
    }

    pub(super) async fn give_back(&mut self, patience: Duration) -> Result<(), String> {
        let question = writing::delete_if_value(&self.key, &self.identity);
        let given = self.decide(&question, patience).await;
        given.map_err(|problem| problem.to_string())?;
        if let Some(lease) = self.lease.take() {
            let question = writing::lease(lease);
            let _ = self
                .cluster
                .ask("/v3/lease/revoke", &question, patience)
                .await;
        }
        Ok(())
    }
}

fn others(value: &[u8]) -> Answer {
    Answer::Others(String::from_utf8_lossy(value).chars().take(256).collect())
}
