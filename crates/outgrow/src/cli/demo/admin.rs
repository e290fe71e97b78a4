//! The admin listener of the running Outgrow, asked as the command line asks it.

use std::net::SocketAddr;

use outgrow_admin::Verb;
use outgrow_admin::client;
use outgrow_core::settings::{Address, Secret};
use serde::Deserialize;

/// Where it is.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    address: Address,
}

/// `/state`, as far as the demo shows it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct State {
    pub(super) data: DataState,
    pub(super) instances: Vec<Instance>,
    services: Vec<Service>,
    routes: Vec<Route>,
}

/// The data process.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct DataState {
    pub(super) pid: u32,
    pub(super) generation: u64,
}

/// One instance.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) address: Option<String>,
    pub(super) pid: Option<u32>,
    pub(super) restarts: u32,
    pub(super) cpu_ms: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
struct Service {
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Deserialize)]
struct Endpoint {
    address: String,
    requests: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Route {
    retries: u64,
}

impl Instance {
    pub(super) fn is_ready(&self) -> bool {
        self.state == "ready"
    }
}

impl State {
    /// Instances that get requests.
    pub(super) fn ready(&self) -> usize {
        self.instances
            .iter()
            .filter(|instance| instance.is_ready())
            .count()
    }

    /// Requests that this data process has sent to an instance since that started.
    pub(super) fn requests_of(&self, instance: &Instance) -> u64 {
        let endpoints = self.services.iter().flat_map(|service| &service.endpoints);
        endpoints
            .filter(|endpoint| Some(&endpoint.address) == instance.address.as_ref())
            .map(|endpoint| endpoint.requests)
            .sum()
    }

    /// Requests that this data process sent a second time.
    pub(super) fn retries(&self) -> u64 {
        self.routes.iter().map(|route| route.retries).sum()
    }
}

impl Admin {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address: Address::tcp(address.ip().to_string(), address.port()),
        }
    }

    /// Asks for the state.
    pub(super) async fn state(&self) -> Result<State, String> {
        let body = self.ask(Verb::Get, "/state", String::new()).await?;
        serde_json::from_slice(&body).map_err(|error| format!("/state is not understood: {error}"))
    }

    /// Has something done; the error is what it said.
    pub(super) async fn act(&self, path: &'static str, body: String) -> Result<(), String> {
        self.ask(Verb::Post, path, body).await.map(|_| ())
    }

    async fn ask(&self, verb: Verb, path: &'static str, body: String) -> Result<Vec<u8>, String> {
        let address = self.address.clone();
        let asked = tokio::task::spawn_blocking(move || {
            client::request(&address, &Secret::new(""), verb, path, body.as_bytes())
        });
        match asked.await {
            Ok(Ok((200..300, body))) => Ok(body),
            Ok(Ok((_, body))) => Err(String::from_utf8_lossy(&body).trim_end().to_owned()),
            Ok(Err(problem)) => Err(problem.to_string()),
            Err(_) => Err("the demo is ending".to_owned()),
        }
    }
}
