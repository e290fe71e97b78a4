//! Where the API server is and who we are to it: as it is written, or as every pod is told.

use std::path::PathBuf;

use super::settings::{KubernetesSettings, is_label};
use crate::discovery::Surroundings;
use crate::http::{Client, Problem, Server};

/// Where a pod finds what it may know of its cluster.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Longest token and name of a namespace that are read, in bytes.
const FILE: usize = 64 << 10;

/// An API server, and the namespace that is looked at.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) server: Server,
    pub(super) namespace: String,
    pub(super) token_file: Option<PathBuf>,
    pub(super) client: Client,
    surroundings: Surroundings,
}

impl Place {
    /// Finds out, or says what is missing.
    pub(super) async fn find(
        settings: &KubernetesSettings,
        surroundings: Surroundings,
    ) -> Result<Self, Problem> {
        let mut tls = settings.tls.clone().unwrap_or_default();
        let mut token_file = settings.token_file.clone();
        let server = match &settings.server {
            Some(server) => server.clone(),
            None => {
                let account = |name: &str| PathBuf::from(format!("{ACCOUNT}/{name}"));
                token_file.get_or_insert_with(|| account("token"));
                tls.ca.get_or_insert_with(|| account("ca.crt"));
                server(surroundings)?
            }
        };
        let mut namespace = settings.namespace.clone();
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

    /// The token as it is now, if there is to be one.
    pub(super) async fn token(&self) -> Result<Option<String>, Problem> {
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
