//! etcd, version 3: all keys below a prefix, read once and then watched, over its JSON gateway.
//!
//! The gRPC interface would need protoc at build time; the gateway is in every etcd. A watch that
//! was quiet for a while is begun anew with a reading of everything: so the age of what is known is
//! known, a connection that died unnoticed costs no longer than that, and whatever a watch may have
//! lost (compaction, a restored cluster) comes right by itself.

pub(crate) mod cluster;
#[cfg(test)]
mod live;
pub(crate) mod messages;
mod view;
pub(crate) mod writing;

use std::time::Duration;

use outgrow_core::Random;
use outgrow_core::settings::{Secret, TableReader};
use tokio::time::{Instant, timeout_at};

use crate::backoff::Backoff;
use crate::discovery::{Reporter, Surroundings};
use crate::http::{Answer, Lines, Problem, RegistryTls, Server, check_use};

use self::cluster::Cluster;
use self::messages::Watched;
use self::view::View;

/// Longest answer to one question, in bytes.
const ANSWER: usize = 8 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so long without a word all is read anew.
const QUIET: Duration = Duration::from_secs(20);
/// A session that takes less than this costs a pause.
const SOON: Duration = Duration::from_secs(5);
/// Changes that come within this time are told together.
const TOGETHER: Duration = Duration::from_millis(100);

outgrow_core::settings! {
    /// Where to look in etcd (version 3.4 or newer). Each key below the prefix is an endpoint; its
    /// value is an address, etcd's own form for endpoints (`{"Addr": "10.0.0.1:80"}`), or a table
    /// as in `endpoints`.
    #[check = check]
    pub struct EtcdSettings {
        /// The servers of the cluster, `http://host:port` or `https://host:port`; when one fails the next one is asked.
        pub servers: Vec<Server> = Vec::new(), required = true;
        /// What the keys begin with, for example `"/services/app/"`.
        pub prefix: String = "/services/app/".to_owned(), required = true;
        /// The user, when the cluster wants one.
        pub user: String = String::new();
        /// The user's password.
        pub password: Secret = Secret::default();
        /// How servers with `https://` are verified, and what is shown to them. The name in a
        /// client's certificate is no user to etcd over this interface: with users, write one.
        pub tls: Option<RegistryTls> = None;
    }
}

fn check(settings: &EtcdSettings, table: &mut TableReader<'_, '_>) {
    check_use(settings.tls.as_ref(), &settings.servers, table);
    cluster::check_servers(&settings.servers, table);
    if settings.prefix.is_empty() || settings.prefix.len() > 1_024 {
        let hint = "write for example prefix = \"/services/app/\"";
        table.problem("prefix", "a prefix has 1 to 1024 bytes", hint);
    }
}

/// Reads and watches until it is dropped.
pub(crate) async fn run(settings: EtcdSettings, surroundings: Surroundings, reporter: Reporter) {
    let mut cluster = Cluster::new(
        &settings.servers,
        settings.tls.as_ref(),
        &settings.user,
        &settings.password,
        surroundings,
    );
    let mut random = Random::from_system();
    let mut backoff = Backoff::default();
    loop {
        let server = cluster.name();
        let mut session = Session {
            cluster: &mut cluster,
            prefix: &settings.prefix,
            reporter: &reporter,
            has_told: false,
        };
        let began = Instant::now();
        let result = session.run().await;
        // One that ends soon after it began, again and again, is as good as a failure.
        if session.has_told && began.elapsed() >= SOON {
            backoff.succeeded();
        }
        if let Err(problem) = &result {
            reporter.failed(&format!("{server}: {problem}"));
            // A question that failed has chosen another one already.
            if cluster.name() == server {
                cluster.next_server();
            }
        }
        if result.is_err() || began.elapsed() < SOON {
            tokio::time::sleep(backoff.failed(&mut random)).await;
        }
    }
}

/// One reading with the watch that follows.
struct Session<'s> {
    cluster: &'s mut Cluster,
    prefix: &'s str,
    reporter: &'s Reporter,
    /// Whether the server told anything that can be used.
    has_told: bool,
}

impl Session<'_> {
    /// Runs until it is time to read all anew.
    async fn run(&mut self) -> Result<(), Problem> {
        let question = messages::range(self.prefix);
        let asked = self.cluster.ask("/v3/kv/range", &question, PATIENCE);
        let listing = messages::read_range(&asked.await?).map_err(Problem::Content)?;
        let revision = listing.revision;
        let mut view = View::of(listing);
        self.has_told = self.reporter.answered(view.discovered());
        let question = messages::watch(self.prefix, revision);
        let mut answer = self.cluster.open("/v3/watch", &question, PATIENCE).await?;
        self.watch(&mut answer, &mut view).await
    }

    async fn watch(&self, answer: &mut Answer, view: &mut View) -> Result<(), Problem> {
        let mut lines = Lines::new(ANSWER);
        let mut to_tell: Option<Instant> = None;
        loop {
            let until = to_tell.unwrap_or_else(|| Instant::now() + QUIET);
            let piece = timeout_at(until, answer.piece()).await;
            if to_tell.is_some_and(|at| Instant::now() >= at) {
                self.reporter.answered(view.discovered());
                to_tell = None;
            } else if piece.is_err() {
                return Ok(());
            }
            let Ok(piece) = piece else { continue };
            let Some(piece) = piece? else {
                return Err(Problem::Malformed("the watch was closed"));
            };
            for line in lines.take(&piece)? {
                match messages::read_watch(&line).map_err(Problem::Content)? {
                    Watched::Nothing => {}
                    Watched::Changes(changes) => {
                        view.change(changes);
                        to_tell.get_or_insert_with(|| Instant::now() + TOGETHER);
                    }
                    // Not a failure: the next reading has it all.
                    Watched::Lost(_) => return Ok(()),
                }
            }
        }
    }
}
