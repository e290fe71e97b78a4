//! etcd, version 3: all keys below a prefix, read once and then watched, over its JSON gateway.
//!
//! The gRPC interface would need protoc at build time; the gateway is in every etcd. A watch that
//! was quiet for a while is begun anew with a reading of everything: so the age of what is known is
//! known, a connection that died unnoticed costs no longer than that, and whatever a watch may have
//! lost (compaction, a restored cluster) comes right by itself.

mod base64;
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
use crate::http::{Answer, Client, Lines, Problem, Question, RegistryTls, Server, check_use};

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
    let client = Client::new(settings.tls.as_ref(), surroundings);
    let mut random = Random::from_system();
    let mut backoff = Backoff::default();
    let mut place = random.below(settings.servers.len());
    loop {
        let Some(server) = settings.servers.get(place) else {
            return;
        };
        let mut session = Session {
            client: &client,
            server,
            settings: &settings,
            reporter: &reporter,
            token: None,
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
            place = (place + 1) % settings.servers.len();
        }
        if result.is_err() || began.elapsed() < SOON {
            tokio::time::sleep(backoff.failed(&mut random)).await;
        }
    }
}

/// One reading with the watch that follows.
struct Session<'s> {
    client: &'s Client,
    server: &'s Server,
    settings: &'s EtcdSettings,
    reporter: &'s Reporter,
    token: Option<String>,
    /// Whether the server told anything that can be used.
    has_told: bool,
}

impl Session<'_> {
    /// Runs until it is time to read all anew.
    async fn run(&mut self) -> Result<(), Problem> {
        if !self.settings.user.is_empty() {
            let password = self.settings.password.expose();
            let question = messages::authenticate(&self.settings.user, password);
            let answer = self.ask("/v3/auth/authenticate", &question).await?;
            self.token = Some(messages::read_token(&answer).map_err(Problem::Content)?);
        }
        let prefix = &self.settings.prefix;
        let answer = self.ask("/v3/kv/range", &messages::range(prefix)).await?;
        let listing = messages::read_range(&answer).map_err(Problem::Content)?;
        let revision = listing.revision;
        let mut view = View::of(listing);
        self.has_told = self.reporter.answered(view.discovered());
        let question = messages::watch(prefix, revision);
        let fields = self.fields();
        let question = Question {
            target: "/v3/watch",
            fields: &fields,
            body: Some(&question),
            ..Question::default()
        };
        let mut answer = self.client.ask(self.server, &question, PATIENCE).await?;
        answer.must_be_good().await?;
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

    fn fields(&self) -> Vec<(&str, &str)> {
        let token = self.token.as_deref();
        token
            .map(|token| ("Authorization", token))
            .into_iter()
            .collect()
    }

    async fn ask(&self, target: &str, body: &[u8]) -> Result<Vec<u8>, Problem> {
        let fields = self.fields();
        let question = Question {
            target,
            fields: &fields,
            body: Some(body),
            ..Question::default()
        };
        let asked = self
            .client
            .ask_whole(self.server, &question, PATIENCE, ANSWER);
        let (_, answer) = asked.await?;
        Ok(answer)
    }
}
