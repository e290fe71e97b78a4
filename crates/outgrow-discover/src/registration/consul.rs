//! Registration in Consul: a service of the agent for each entry, with a check that fails when it is
//! not told in time that all is well.

use std::time::Duration;

use outgrow_core::settings::Address;
use serde_json::{Value, json};

use super::driver::Failure;
use super::plan::{Entries, Entry};
use super::settings::RegisterConsul;
use crate::discovery::Surroundings;
use crate::http::{Client, Problem, Question, encoded};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer, in bytes.
const ANSWER: usize = 64 * 1024;
/// Consul removes a service whose check failed for so long; it takes no less.
const REMOVED_AFTER: Duration = Duration::from_secs(60);

/// Services of one owner.
pub(super) struct Writer {
    client: Client,
    settings: RegisterConsul,
    owner: String,
    ttl: Duration,
}

impl Writer {
    pub(super) fn new(
        settings: &RegisterConsul,
        owner: &str,
        ttl: Duration,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            client: Client::new(settings.tls.as_ref(), surroundings),
            settings: settings.clone(),
            owner: owner.to_owned(),
            ttl,
        }
    }

    fn id(&self, name: &str) -> String {
        format!("{}:{name}", self.owner)
    }

    async fn ask(&self, target: &str, body: &[u8]) -> Result<(), Problem> {
        let token = self.settings.token.expose();
        let fields: &[(&str, &str)] = if token.is_empty() {
            &[]
        } else {
            &[("X-Consul-Token", token)]
        };
        let question = Question {
            target,
            fields,
            body: Some(body),
            method: Some("PUT"),
            ..Question::default()
        };
        let server = &self.settings.server;
        let patience = PATIENCE.min(self.ttl / 3);
        let asked = self.client.ask_whole(server, &question, patience, ANSWER);
        asked.await.map(drop)
    }

    fn failure(&self, problem: &Problem) -> Failure {
        Failure::at(&self.settings.server.to_string(), problem)
    }

    pub(super) async fn put(&self, name: &str, entry: &Entry) -> Result<(), Failure> {
        let body = self.service(name, entry).to_string();
        let target = "/v1/agent/service/register?replace-existing-checks=true";
        let asked = self.ask(target, body.as_bytes()).await;
        asked.map_err(|problem| self.failure(&problem))
    }

    fn service(&self, name: &str, entry: &Entry) -> Value {
        let (host, port) = match &entry.address {
            Address::Tcp { host, port } => (host.as_str(), *port),
            // The settings let none through.
            Address::Unix(_) => ("", 0),
        };
        let removed_after = REMOVED_AFTER.max(self.ttl * 3).as_secs();
        let mut service = json!({
            "ID": self.id(name),
            "Name": self.settings.service,
            "Tags": self.settings.tags,
            "Address": host,
            "Port": port,
            "Weights": { "Passing": entry.weight, "Warning": entry.weight },
            "Check": {
                "TTL": format!("{}ms", self.ttl.as_millis()),
                "DeregisterCriticalServiceAfter": format!("{removed_after}s"),
                "Status": "passing",
            },
        });
        if !entry.zone.is_empty() {
            service["Meta"] = json!({ "zone": entry.zone });
        }
        service
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), Failure> {
        let id = encoded(&self.id(name));
        let target = format!("/v1/agent/service/deregister/{id}");
        match self.ask(&target, b"").await {
            // It is gone already.
            Ok(()) | Err(Problem::Status(404, _)) => Ok(()),
            Err(problem) => Err(self.failure(&problem)),
        }
    }

    pub(super) async fn keep(&self, known: &Entries) -> Result<(), Failure> {
        for name in known.keys() {
            let id = encoded(&format!("service:{}", self.id(name)));
            let target = format!("/v1/agent/check/pass/{id}");
            match self.ask(&target, b"").await {
                Ok(()) => {}
                Err(problem) if is_unknown(&problem) => return Err(Failure::Forgotten),
                Err(problem) => return Err(self.failure(&problem)),
            }
        }
        Ok(())
    }
}

/// Whether the agent does not know the check: 404 by newer ones, 500 by older ones.
fn is_unknown(problem: &Problem) -> bool {
    match problem {
        Problem::Status(404, _) => true,
        Problem::Status(500, text) => text.contains("TTL") || text.contains("check ID"),
        _ => false,
    }
}
