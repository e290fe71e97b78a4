//! Where the API server is and who we are to it: as it is written, or as every pod is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::settings::is_label;
use crate::discovery::Surroundings;
use crate::http::{Answer, Client, Problem, Question, RegistryTls, Server};

/// Where a pod finds what it may know of its cluster.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Longest token and name of a namespace that are read, in bytes.
const FILE: usize = 64 << 10;

/// What a table of the configuration says about it; what is left out is what a pod is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written<'s> {
    pub(crate) server: Option<&'s Server>,
    /// Empty: that of the pod.
    pub(crate) namespace: &'s str,
    pub(crate) token_file: Option<&'s Path>,
    pub(crate) tls: Option<&'s RegistryTls>,
}

/// An API server, and the namespace that is looked at.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) server: Server,
    pub(crate) namespace: String,
    pub(super) token_file: Option<PathBuf>,
    client: Client,
    surroundings: Surroundings,
}

impl Place {
    /// Finds out, or says what is missing.
    pub(crate) async fn find(
        written: Written<'_>,
        surroundings: Surroundings,
    ) -> Result<Self, Problem> {
        let mut tls = written.tls.cloned().unwrap_or_default();
        let mut token_file = written.token_file.map(Path::to_owned);
        let server = match written.server {
            Some(server) => server.clone(),
            None => {
                let account = |name: &str| PathBuf::from(format!("{ACCOUNT}/{name}"));
                token_file.get_or_insert_with(|| account("token"));
                tls.ca.get_or_insert_with(|| account("ca.crt"));
                server(surroundings)?
            }
        };
        let mut namespace = written.namespace.to_owned();
        if namespace.is_empty() {
            namespace = read(surroundings, format!("{ACCOUNT}/namespace").into()).await?;
        }
        if !is_label(&namespace) {
            let problem = format!("{ACCOUNT}/namespace is not the name of a namespace");
            return Err(Problem::Content(problem));
        }
        Ok(Self {
            server,
            namespace,
            token_file,
            client: Client::new(Some(&tls), surroundings),
            surroundings,
        })
    }

    /// Asks with the token as it is now, and once more when it was replaced while we asked. Each
    /// answer's head may take as long as `patience`.
    pub(crate) async fn ask(
        &self,
        question: &Question<'_>,
        patience: Duration,
    ) -> Result<Answer, Problem> {
        let token = self.token().await?;
        match self.ask_with(question, patience, token.as_deref()).await {
            Err(Problem::Status(401, text)) => {
                let newer = self.token().await?;
                if newer == token {
                    return Err(Problem::Status(401, text));
                }
                self.ask_with(question, patience, newer.as_deref()).await
            }
            answer => answer,
        }
    }

    async fn ask_with(
        &self,
        question: &Question<'_>,
        patience: Duration,
        token: Option<&str>,
    ) -> Result<Answer, Problem> {
        let token = token.map(|token| format!("Bearer {token}"));
        let fields: Vec<_> = token
            .iter()
            .map(|token| ("Authorization", token.as_str()))
            .collect();
        let question = Question {
            fields: &fields,
            ..question.clone()
        };
        let mut answer = self.client.ask(&self.server, &question, patience).await?;
        answer.must_be_good().await?;
        Ok(answer)
    }

    /// The token as it is now, if there is to be one.
    async fn token(&self) -> Result<Option<String>, Problem> {
        match &self.token_file {
            None => Ok(None),
            Some(file) => read(self.surroundings, file.clone()).await.map(Some),
        }
    }
}

/// The server that a pod is told of.
fn server(surroundings: Surroundings) -> Result<Server, Problem> {
    let variable = surroundings.variable;
    let (host, port) = (
        variable("KUBERNETES_SERVICE_HOST"),
        variable("KUBERNETES_SERVICE_PORT"),
    );
    let port = port.and_then(|port| port.parse().ok());
    match (host, port) {
        (Some(host), Some(port)) if !host.is_empty() => Ok(Server::encrypted(host, port)),
        _ => Err(Problem::Content(
            "there is no `server`, and KUBERNETES_SERVICE_HOST and _PORT are not set: outgrow does \
             not run in a pod"
                .to_owned(),
        )),
    }
}

async fn read(surroundings: Surroundings, file: PathBuf) -> Result<String, Problem> {
    let bytes = surroundings.read(file.clone(), FILE).await;
    let file = file.display();
    let bytes =
        bytes.map_err(|error| Problem::Content(format!("{file} cannot be read: {error}")))?;
    let text = std::str::from_utf8(bytes.trim_ascii()).unwrap_or_default();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::Content(format!("{file} is empty, or no text")));
    }
    Ok(text.to_owned())
}
