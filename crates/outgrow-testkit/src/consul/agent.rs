//! The fake's agent: services that are registered with a check that must be told in time that all is
//! well. One whose check fails stays known and is told to nobody.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// What was registered.
#[derive(Debug, Default)]
pub(super) struct Agent {
    services: BTreeMap<String, Registered>,
}

#[derive(Debug)]
struct Registered {
    body: Value,
    ttl: Duration,
    passes_until: Instant,
    was_passing: bool,
}

impl Agent {
    /// Does what a PUT says; status and body of the answer. Nothing when it is none of the agent's.
    pub(super) fn put(&mut self, target: &str, body: &[u8]) -> Option<(&'static str, String)> {
        let path = target.split('?').next().unwrap_or_default();
        let done = Some(("200 OK", String::new()));
        if path == "/v1/agent/service/register" {
            let Some(registered) = read(body) else {
                return Some(("400 Bad Request", "Request decode failed".to_owned()));
            };
            let id = registered.body["ID"].as_str().unwrap_or_default();
            self.services.insert(id.to_owned(), registered);
            return done;
        }
        if let Some(id) = path.strip_prefix("/v1/agent/service/deregister/") {
            let id = decoded(id);
            return match self.services.remove(&id) {
                Some(_) => done,
                None => Some(("404 Not Found", format!("Unknown service ID {id:?}"))),
            };
        }
        let check = decoded(path.strip_prefix("/v1/agent/check/pass/")?);
        let id = check.strip_prefix("service:").unwrap_or_default();
        match self.services.get_mut(id) {
            Some(service) => {
                service.passes_until = Instant::now() + service.ttl;
                done
            }
            None => Some(("404 Not Found", format!("Unknown check ID {check:?}"))),
        }
    }

    /// Whether a check failed, or passes again, since it was last asked.
    pub(super) fn has_changed(&mut self) -> bool {
        let now = Instant::now();
        let mut changed = false;
        for service in self.services.values_mut() {
            let passes = service.passes_until > now;
            changed |= std::mem::replace(&mut service.was_passing, passes) != passes;
        }
        changed
    }

    /// The services whose check passes, as the health endpoint tells them.
    pub(super) fn passing(&self) -> Vec<Value> {
        let now = Instant::now();
        let passing = self.services.values().filter(|one| one.passes_until > now);
        passing
            .map(|one| {
                json!({
                    "Node": { "Node": "box", "Address": "127.0.0.1" },
                    "Service": one.body,
                    "Checks": [{ "Status": "passing" }],
                })
            })
            .collect()
    }

    /// What is registered, passing or not.
    pub(super) fn services(&self) -> Vec<Value> {
        self.services.values().map(|one| one.body.clone()).collect()
    }

    /// As an agent that lost its state.
    pub(super) fn forget(&mut self) {
        self.services.clear();
    }
}

fn read(body: &[u8]) -> Option<Registered> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body["ID"].as_str().filter(|id| !id.is_empty())?;
    body["Name"].as_str()?;
    let ttl = body["Check"]["TTL"].as_str()?.strip_suffix("ms")?;
    let ttl = Duration::from_millis(ttl.parse().ok()?);
    let is_passing = body["Check"]["Status"] == "passing";
    Some(Registered {
        body,
        ttl,
        passes_until: Instant::now() + if is_passing { ttl } else { Duration::ZERO },
        was_passing: false,
    })
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => (out, rest) = (with(out, byte), &after[2..]),
            _ => (out, rest) = (with(out, *first), after),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn with(mut bytes: Vec<u8>, byte: u8) -> Vec<u8> {
    bytes.push(byte);
    bytes
}
