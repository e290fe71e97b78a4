//! Registration in etcd: keys under one lease. A key belongs to the lease of its last put, so what
//! another process has put since is never taken away with ours.

use std::time::Duration;

use super::driver::Failure;
use super::plan::{Entries, Entry, text};
use super::settings::RegisterEtcd;
use crate::discovery::Surroundings;
use crate::etcd::cluster::{Cluster, is_lease_gone};
use crate::etcd::messages;
use crate::etcd::writing::{self, LeaseId};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keys of one owner.
pub(super) struct Writer {
    cluster: Cluster,
    /// What all keys of ours begin with.
    prefix: String,
    seconds: u64,
    patience: Duration,
    lease: Option<LeaseId>,
}

impl Writer {
    pub(super) fn new(
        settings: &RegisterEtcd,
        owner: &str,
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
            prefix: format!("{}{owner}/", settings.prefix),
            seconds: ttl.as_secs_f64().ceil() as u64,
            patience: PATIENCE.min(ttl / 3),
            lease: None,
        }
    }

    async fn ask(&mut self, target: &str, question: &[u8]) -> Result<Vec<u8>, Failure> {
        let server = self.cluster.name();
        let answer = self.cluster.ask(target, question, self.patience).await;
        answer.map_err(|problem| match is_lease_gone(&problem) {
            true => Failure::Forgotten,
            false => Failure::at(&server, &problem),
        })
    }

    fn unreadable(&self, problem: &str) -> Failure {
        Failure::Problem(format!("{}: {problem}", self.cluster.name()))
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) async fn put(&mut self, name: &str, entry: &Entry) -> Result<(), Failure> {
        let lease = match self.lease {
            Some(lease) => lease,
            None => {
                let question = writing::grant(self.seconds);
                let answer = self.ask("/v3/lease/grant", &question).await?;
                let granted = writing::read_grant(&answer);
                granted.map_err(|problem| self.unreadable(&problem))?
            }
        };
        self.lease = Some(lease);
        let question = writing::put(&self.key(name), &text(entry), lease);
        self.ask("/v3/kv/put", &question).await.map(drop)
    }

    pub(super) async fn delete(&mut self, name: &str) -> Result<(), Failure> {
        let Some(lease) = self.lease else {
            return Ok(());
        };
        let question = writing::delete_if_lease(&self.key(name), lease);
        self.ask("/v3/kv/txn", &question).await.map(drop)
    }

    pub(super) async fn keep(&mut self, known: &Entries) -> Result<(), Failure> {
        let lease = self.lease.ok_or(Failure::Forgotten)?;
        let question = writing::lease(lease);
        let answer = self.ask("/v3/lease/keepalive", &question).await?;
        let kept = writing::read_kept(&answer);
        if !kept.map_err(|problem| self.unreadable(&problem))? {
            return Err(Failure::Forgotten);
        }
        // Somebody may have removed them, and a cluster may have been restored from an older state.
        let question = writing::names(&self.prefix);
        let answer = self.ask("/v3/kv/range", &question).await?;
        let listing = messages::read_range(&answer);
        let listing = listing.map_err(|problem| self.unreadable(&problem))?;
        let is_there = |name: &String| {
            let key = self.key(name).into_bytes();
            listing.pairs.iter().any(|pair| pair.key == key)
        };
        match known.keys().all(is_there) {
            true => Ok(()),
            false => Err(Failure::Forgotten),
        }
    }

    pub(super) async fn withdraw(&mut self) -> Result<(), Failure> {
        let Some(lease) = self.lease else {
            return Ok(());
        };
        match self.ask("/v3/lease/revoke", &writing::lease(lease)).await {
            Ok(_) | Err(Failure::Forgotten) => {
                self.lease = None;
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    }

    pub(super) fn forget(&mut self) {
        self.lease = None;
    }
}
