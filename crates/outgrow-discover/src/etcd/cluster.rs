//! A cluster that is asked questions one after the other: one server after the other when they
//! fail, with a token where a user is written. Not here: what is asked.

use std::time::Duration;

use outgrow_core::Random;
use outgrow_core::settings::{Secret, TableReader};

use super::{ANSWER, messages};
use crate::discovery::Surroundings;
use crate::http::{Answer, Client, Problem, Question, RegistryTls, Server};

/// Most servers of a cluster.
const SERVERS: usize = 16;

/// The servers, and who asks.
#[derive(Debug)]
pub(crate) struct Cluster {
    client: Client,
    servers: Vec<Server>,
    user: String,
    password: Secret,
    place: usize,
    token: Option<String>,
}

impl Cluster {
    /// Begins at any of the servers.
    pub(crate) fn new(
        servers: &[Server],
        tls: Option<&RegistryTls>,
        user: &str,
        password: &Secret,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            client: Client::new(tls, surroundings),
            servers: servers.to_vec(),
            user: user.to_owned(),
            password: password.clone(),
            place: Random::from_system().below(servers.len()),
            token: None,
        }
    }

    /// Asks; the whole answer may take as long as `patience`. After a failure the next question
    /// goes to the next server.
    pub(crate) async fn ask(
        &mut self,
        target: &str,
        body: &[u8],
        patience: Duration,
    ) -> Result<Vec<u8>, Problem> {
        let asked = tokio::time::timeout(patience, self.try_ask(target, body, patience)).await;
        let answer = asked.unwrap_or(Err(Problem::Time));
        if let Err(problem) = &answer
            && !is_lease_gone(problem)
        {
            self.next_server();
        }
        answer
    }

    async fn try_ask(
        &mut self,
        target: &str,
        body: &[u8],
        patience: Duration,
    ) -> Result<Vec<u8>, Problem> {
        if self.token.is_some() {
            match self.exchange(target, body, patience).await {
                // Tokens run out, and a server that was started anew knows none.
                Err(Problem::Status(401, _)) => self.token = None,
                answer => return answer,
            }
        }
        if !self.user.is_empty() {
            let question = messages::authenticate(&self.user, self.password.expose());
            let answer = self.exchange("/v3/auth/authenticate", &question, patience);
            self.token = Some(messages::read_token(&answer.await?).map_err(Problem::Content)?);
        }
        self.exchange(target, body, patience).await
    }

    async fn exchange(
        &self,
        target: &str,
        body: &[u8],
        patience: Duration,
    ) -> Result<Vec<u8>, Problem> {
        let fields = self.fields();
        let question = Question {
            target,
            fields: &fields,
            body: Some(body),
            ..Question::default()
        };
        let server = self.server()?;
        let asked = self.client.ask_whole(server, &question, patience, ANSWER);
        let (_, answer) = asked.await?;
        Ok(answer)
    }

    /// Asks what is answered bit by bit, by the server that answered last.
    pub(crate) async fn open(
        &self,
        target: &str,
        body: &[u8],
        patience: Duration,
    ) -> Result<Answer, Problem> {
        let fields = self.fields();
        let question = Question {
            target,
            fields: &fields,
            body: Some(body),
            ..Question::default()
        };
        let mut answer = self.client.ask(self.server()?, &question, patience).await?;
        answer.must_be_good().await?;
        Ok(answer)
    }

    /// The server that is asked next, for people.
    pub(crate) fn name(&self) -> String {
        self.servers
            .get(self.place)
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    fn server(&self) -> Result<&Server, Problem> {
        let none = || Problem::Content("no server is written".to_owned());
        self.servers.get(self.place).ok_or_else(none)
    }

    fn fields(&self) -> Vec<(&str, &str)> {
        let token = self.token.as_deref();
        token
            .map(|token| ("Authorization", token))
            .into_iter()
            .collect()
    }

    /// Has the next question asked of another server.
    pub(crate) fn next_server(&mut self) {
        // It may have been the token.
        self.token = None;
        self.place = (self.place + 1) % self.servers.len().max(1);
    }
}

/// Whether etcd says that there is no such lease (any more): no failure of the server.
pub(crate) fn is_lease_gone(problem: &Problem) -> bool {
    matches!(problem, Problem::Status(404, text) if text.contains("lease not found"))
}

/// Tells when the servers of a table cannot be right.
pub(crate) fn check_servers(servers: &[Server], table: &mut TableReader<'_, '_>) {
    if servers.is_empty() || servers.len() > SERVERS {
        let hint = "write for example servers = [\"http://127.0.0.1:2379\"]";
        table.problem("servers", "there are 1 to 16 servers", hint);
    }
}
